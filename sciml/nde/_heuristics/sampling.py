"""Random sampling of one accepted step of a solve, in constant memory."""

import abc
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from sciml.nde._heuristics.step import Step

# Random numbers by a few operations that the compiler fuses with those of a step: on CPUs each call of jax.random is a
# separate loop, which slows down solves of small equations (docs/decisions.md).
_GOLDEN = 0x9E3779B9  # 2^32 divided by the golden ratio


@final
class SampledStep(eqx.Module):
    """One accepted step as constants: no gradient passes through it.

    Attributes:
        t0: Start time of the step.
        t1: End time of the step.
        y0: The state at t0.
        scale: The inverse of the probability of choosing this step; 0 if no step was accepted. `scale` times a measure
            of the step is an unbiased estimate of the sum of the measure over all accepted steps.
    """

    t0: Float[Array, "*batch"]
    t1: Float[Array, "*batch"]
    y0: PyTree
    scale: Float[Array, "*batch"]


class AbstractSampling(eqx.Module):
    """How one accepted step of a solve is chosen at random, and what is kept of it."""

    @abc.abstractmethod
    def weight(self, step: Step) -> Float[Array, ""]:
        """The step is kept with the probability weight / (sum of the weights of all accepted steps)."""

    @abc.abstractmethod
    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """What is kept of a step: a time, a later time and the state at the former. `number` is uniform in [0, 1)."""


@final
class TimeUniform(AbstractSampling):
    """The step that contains a uniformly drawn time: probability |h| / (t1 - t0)."""

    def weight(self, step: Step) -> Float[Array, ""]:
        """The length of the step."""
        return step.dt

    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """The whole step."""
        return step.t0, step.t1, step.y0


@final
class StepUniform(AbstractSampling):
    """Every accepted step with the same probability: times at which the solver takes small steps are more likely."""

    def weight(self, step: Step) -> Float[Array, ""]:
        """One."""
        return jnp.ones_like(step.dt)

    def place(self, step: Step, number: Float[Array, ""]) -> tuple[Array, Array, PyTree]:
        """The whole step."""
        return step.t0, step.t1, step.y0


@final
class PointUniform(AbstractSampling):
    """A uniformly drawn time, and the state at this time by the solver's interpolation."""

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
    """Reservoir sampling: the kept step, its weight, and the total weight of all steps so far."""

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
            sampling: Determines the weight of the step and what is kept of it.
            choice: A random number in [0, 1), a new one for each step.
            place: A random number in [0, 1), which may be the same for all steps, since only one step is kept.
        """
        weight = sampling.weight(step)
        total = self.total + weight
        take = choice * total < weight
        new = Reservoir(*sampling.place(step, place), weight, total)
        new = jax.tree.map(lambda a, b: jnp.where(take, a, b).astype(b.dtype), new, self)
        return jax.lax.stop_gradient(eqx.tree_at(lambda r: r.total, new, total))

    def sample(self, direction: Array) -> SampledStep:
        """The kept step, with times multiplied by `direction` (-1 for a solve backwards in time)."""
        chosen = self.weight > 0
        scale = jnp.where(chosen, self.total / jnp.where(chosen, self.weight, 1), 0)
        return SampledStep(self.t0 * direction, self.t1 * direction, self.y0, scale)


def empty(t0: Float[Array, ""], y0: PyTree) -> Reservoir:
    """A reservoir before the first step."""
    zero = jnp.zeros_like(t0)
    return jax.lax.stop_gradient(Reservoir(t0, t0, y0, zero, zero))


def seeds_of(key: Key[Array, ""], count: int) -> tuple[UInt32[Array, ""], ...]:
    """`count` different 32-bit words that depend on all bits of a key of any generator of jax.random."""
    state = jnp.uint32(_GOLDEN)
    for word in jax.random.key_data(key).astype(jnp.uint32):
        state = _mixed(state ^ word) + jnp.uint32(_GOLDEN)
    return tuple(_mixed(state ^ jnp.uint32(place)) for place in range(count))


def numbered_word(seed: UInt32[Array, ""], number: Int[Array, ""]) -> UInt32[Array, ""]:
    """The random 32-bit word with this number in the sequence of a seed.

    Source: SplitMix with 32 bits; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    return _mixed(seed + jnp.uint32(_GOLDEN) * number.astype(jnp.uint32))


def uniform(word: UInt32[Array, ""], dtype: Any) -> Float[Array, ""]:
    """A number in [0, 1), a multiple of 2^-24, which float32 represents exactly."""
    return (word >> 8).astype(dtype) * 2.0**-24


def _mixed(word: UInt32[Array, ""]) -> UInt32[Array, ""]:
    """The finaliser of MurmurHash3: each bit of the result depends on each bit of the word."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
