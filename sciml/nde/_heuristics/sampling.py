"""Keeping one accepted step of a solve at random, in constant memory."""

import abc
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from sciml.nde._heuristics.step import Step

# Random words by a few operations that the compiler joins to those of a step: on CPUs each draw of jax.random is a loop
# of its own, which solves of small equations feel (docs/decisions.md).
_GOLDEN = 0x9E3779B9  # 2^32 divided by the golden ratio


@final
class SampledStep(eqx.Module):
    """One accepted step, as data: nothing can be differentiated through it.

    Attributes:
        t0: Its start.
        t1: Its end.
        y0: The state at t0.
        scale: The inverse of the probability with which it was chosen, 0 if no step was accepted. `scale` times a
            measure of the step is an unbiased estimate of the measure's sum over all accepted steps.
    """

    t0: Float[Array, "*batch"]
    t1: Float[Array, "*batch"]
    y0: PyTree
    scale: Float[Array, "*batch"]


class AbstractSampling(eqx.Module):
    """Which accepted step of a solve is kept."""

    @abc.abstractmethod
    def weight(self, step: Step) -> Float[Array, ""]:
        """The step is kept with the probability weight / (sum of the weights of all accepted steps)."""

    @abc.abstractmethod
    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """What is kept of a step: a time, a later time and the state at the first; by a random number in [0, 1)."""


@final
class TimeUniform(AbstractSampling):
    """The step in which a uniformly drawn time falls: probability |h| / (t1 - t0)."""

    def weight(self, step: Step) -> Float[Array, ""]:
        """The length of the step."""
        return step.dt

    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """The whole step."""
        return step.t0, step.t1, step.y0


@final
class StepUniform(AbstractSampling):
    """Each accepted step with the same probability: more often where the solver takes small steps."""

    def weight(self, step: Step) -> Float[Array, ""]:
        """One."""
        return jnp.ones_like(step.dt)

    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """The whole step."""
        return step.t0, step.t1, step.y0


@final
class PointUniform(AbstractSampling):
    """A uniformly drawn time, and the state there by the solver's interpolation."""

    def weight(self, step: Step) -> Float[Array, ""]:
        """The length of the step."""
        return step.dt

    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """The rest of the step after a uniformly drawn time."""
        t = step.t0 + (step.t1 - step.t0) * number
        interpolation = step.solver.interpolation_cls(t0=step.t0, t1=step.t1, **step.dense_info)
        return t, step.t1, interpolation.evaluate(t)


@final
class Reservoir(eqx.Module):
    """The kept step, its weight, and the weight of all steps so far."""

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    y0: PyTree
    weight: Float[Array, ""]
    total: Float[Array, ""]

    def after(
        self, step: Step, sampling: AbstractSampling, choice: Float[Array, ""], place: Float[Array, ""]
    ) -> "Reservoir":
        """The reservoir after one more step, which replaces the kept one with probability weight / total.

        Args:
            step: The step.
            sampling: Says its weight, and what is kept of it.
            choice: A random number in [0, 1), another one for each step.
            place: A random number in [0, 1), which may be the same for all steps: one of them is kept.
        """
        weight = sampling.weight(step)
        total = self.total + weight
        take = choice * total < weight
        new = Reservoir(*sampling.place(step, place), weight, total)
        new = jax.tree.map(lambda a, b: jnp.where(take, a, b).astype(b.dtype), new, self)
        return jax.lax.stop_gradient(eqx.tree_at(lambda r: r.total, new, total))

    def sample(self, direction: Array) -> SampledStep:
        """The kept step, with times of the caller's sign."""
        chosen = self.weight > 0
        scale = jnp.where(chosen, self.total / jnp.where(chosen, self.weight, 1), 0)
        return SampledStep(self.t0 * direction, self.t1 * direction, self.y0, scale)


def empty(t0: Float[Array, ""], y0: PyTree) -> Reservoir:
    """A reservoir before the first step."""
    zero = jnp.zeros_like(t0)
    return jax.lax.stop_gradient(Reservoir(t0, t0, y0, zero, zero))


def seeds_of(key: Key[Array, ""], count: int) -> tuple[UInt32[Array, ""], ...]:
    """Words that depend on all bits of a key, of any generator of jax.random, and on their place."""
    state = jnp.uint32(_GOLDEN)
    for word in jax.random.key_data(key).astype(jnp.uint32):
        state = _mixed(state ^ word) + jnp.uint32(_GOLDEN)
    return tuple(_mixed(state ^ jnp.uint32(place)) for place in range(count))


def numbered_word(seed: UInt32[Array, ""], number: Int[Array, ""]) -> UInt32[Array, ""]:
    """A word of the sequence that begins with a seed.

    Source: SplitMix of 32 bits; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    return _mixed(seed + jnp.uint32(_GOLDEN) * number.astype(jnp.uint32))


def uniform(word: UInt32[Array, ""], dtype: Any) -> Float[Array, ""]:
    """A number in [0, 1), one of 2^24, which float32 holds."""
    return (word >> 8).astype(dtype) * 2.0**-24


def _mixed(word: UInt32[Array, ""]) -> UInt32[Array, ""]:
    """Each bit of the result depends on each of the word: the finaliser of MurmurHash3."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
