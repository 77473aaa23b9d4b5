"""Markov chains whose target is a posterior with a standard normal prior."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from sciml.uq._inverse_problem import check_starts


class ChainState(NamedTuple):
    """Where a chain is.

    Attributes:
        position: The coefficients.
        misfit: Minus the logarithm of their likelihood.
        accepted: Number of accepted proposals.
        evaluations: Number of evaluations of the misfit.
        first: State of the kernel that makes the proposals, or None.
    """

    position: Array
    misfit: Float[Array, ""]
    accepted: Int[Array, ""]
    evaluations: Int[Array, ""]
    first: Any = None


class AbstractKernel(eqx.Module):
    """A step of a Markov chain that is reversible with respect to `exp(-misfit)` times a fixed reference measure."""

    misfit: eqx.AbstractVar[Callable[[Array], Array]]

    @abc.abstractmethod
    def start(self, position: Array) -> ChainState:
        """The state of a chain that begins at a position."""

    @abc.abstractmethod
    def step(self, state: ChainState, key: Key[Array, ""]) -> ChainState:
        """The next state."""


def _begun(misfit: Callable[[Array], Array], position: Array) -> ChainState:
    return ChainState(position, misfit(position), jnp.zeros((), int), jnp.ones((), int))


def _chosen(accepted: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), new, old)


@final
class CrankNicolson(AbstractKernel):
    """Preconditioned Crank-Nicolson steps: `v = sqrt(1 - beta^2) u + beta xi`, accepted by the misfit alone.

    The proposals leave the standard normal prior invariant, so that the acceptance does not fall with the number of
    coefficients. Cotter, Roberts, Stuart, White, MCMC Methods for Functions (2013).

    Args:
        misfit: Minus the logarithm of the likelihood. Proposals where it is NaN are rejected.
        beta: Length of a step, above 0 and up to 1; 1 draws from the prior.

    Raises:
        ValueError: If `beta` is outside of its range.
    """

    misfit: Callable[[Array], Array]
    beta: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    def __check_init__(self) -> None:
        if not 0 < self.beta <= 1:
            raise ValueError(f"Expected 0 < beta <= 1, got {self.beta}.")

    def start(self, position: Float[Array, " size"]) -> ChainState:
        """The state of a chain that begins at a position."""
        return _begun(self.misfit, position)

    def step(self, state: ChainState, key: Key[Array, ""]) -> ChainState:
        """The next state; one evaluation of the misfit."""
        noise, threshold = jax.random.split(key)
        u = state.position
        beta = self.beta.astype(u.dtype)
        v = jnp.sqrt(1 - beta**2) * u + beta * jax.random.normal(noise, u.shape, u.dtype)
        misfit = self.misfit(v)
        accepted = -jax.random.exponential(threshold, (), misfit.dtype) < state.misfit - misfit
        position, misfit = _chosen(accepted, (v, misfit), (u, state.misfit))
        return ChainState(position, misfit, state.accepted + accepted, state.evaluations + 1)


@final
class DelayedAcceptance(AbstractKernel):
    """Proposals by a cheap posterior, accepted so that the chain has the exact one: fewer exact evaluations.

    `steps` steps of the first kernel, which is reversible with respect to the cheap posterior, lead from u to v. They
    are accepted with the probability `min(1, exp(misfit(u) - misfit(v) - first.misfit(u) + first.misfit(v)))`, which
    makes the chain reversible with respect to the exact posterior however wrong the cheap one is; a wrong one costs
    acceptance alone. The exact misfit is evaluated only where v differs from u.

    One step is delayed acceptance: Christen, Fox, Markov Chain Monte Carlo Using an Approximation (2005). Several
    steps are the surrogate transition method: Liu, Monte Carlo Strategies in Scientific Computing (2001), section
    9.4.3.

    Args:
        first: The kernel of the cheap posterior.
        misfit: The exact misfit.
        steps: Number of steps of the first kernel in each step of this one.

    Raises:
        ValueError: If there is no step of the first kernel.
    """

    first: AbstractKernel
    misfit: Callable[[Array], Array]
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Expected at least 1 step of the first kernel, got {self.steps}.")

    def start(self, position: Array) -> ChainState:
        """The state of a chain that begins at a position."""
        return _begun(self.misfit, position)._replace(first=self.first.start(position))

    def step(self, state: ChainState, key: Key[Array, ""]) -> ChainState:
        """The next state; at most one evaluation of the exact misfit."""
        proposal, threshold = jax.random.split(key)
        keys, u, first = jax.random.split(proposal, self.steps), state.position, state.first
        proposed, _ = jax.lax.scan(lambda one, key: (self.first.step(one, key), None), first, keys)
        moved = jnp.any(proposed.position != u)
        misfit = jax.lax.cond(moved, lambda v: self.misfit(v), lambda _: state.misfit, proposed.position)
        gain = state.misfit - misfit - (first.misfit - proposed.misfit)
        accepted = moved & (-jax.random.exponential(threshold, (), misfit.dtype) < gain)
        position, misfit, kept = _chosen(accepted, (proposed.position, misfit, proposed), (u, state.misfit, first))
        counts = {"accepted": proposed.accepted, "evaluations": proposed.evaluations}
        evaluations = state.evaluations + moved
        return ChainState(position, misfit, state.accepted + accepted, evaluations, kept._replace(**counts))


class Chains(NamedTuple):
    """Chains of coefficients.

    Attributes:
        samples: The coefficients.
        acceptance: Share of accepted steps of each chain.
        evaluations: Number of evaluations of the exact misfit by each chain, those of `burn` included; of gradients for
            `nuts`.
    """

    samples: Float[Array, "chains draws size"]
    acceptance: Float[Array, " chains"]
    evaluations: Int[Array, " chains"]


def sample(
    kernel: AbstractKernel,
    starts: Float[Array, "chains size"],
    *,
    draws: int,
    burn: int = 0,
    thin: int = 1,
    key: Key[Array, ""],
) -> Chains:
    """Chains of a kernel, one after the other, so that a step that does not need the exact misfit does not compute it.

    Args:
        kernel: What a step is.
        starts: First coefficients of each chain.
        draws: Number of draws that each chain keeps.
        burn: Number of steps before the first of them.
        thin: Number of steps from one draw to the next.
        key: Source of randomness.

    Raises:
        ValueError: If the misfit at the first coefficients is not finite, or there are no draws.
    """
    if draws < 1 or thin < 1 or burn < 0:
        raise ValueError(f"Expected draws >= 1, thin >= 1 and burn >= 0, got {draws}, {thin} and {burn}.")
    check_starts(kernel.misfit, starts)
    return _sampled(kernel, starts, draws, burn, thin, key)


@eqx.filter_jit
def _sampled(kernel: AbstractKernel, starts: Array, draws: int, burn: int, thin: int, key: Array) -> Chains:
    def steps(state: ChainState, key: Array, count: int) -> ChainState:
        return jax.lax.scan(lambda one, key: (kernel.step(one, key), None), state, jax.random.split(key, count))[0]

    def draw(state: ChainState, key: Array) -> tuple[ChainState, Array]:
        state = steps(state, key, thin)
        return state, state.position

    def chain(pair: tuple[Array, Array]) -> Chains:
        start, key = pair
        first, rest = jax.random.split(key)
        state = steps(kernel.start(start), first, burn) if burn else kernel.start(start)
        before = state.accepted
        state, samples = jax.lax.scan(draw, state, jax.random.split(rest, draws))
        return Chains(samples, (state.accepted - before) / (draws * thin), state.evaluations)

    return jax.lax.map(chain, (starts, jax.random.split(key, len(starts))))
