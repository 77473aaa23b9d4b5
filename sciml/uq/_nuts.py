"""The No-U-Turn sampler of blackjax."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sciml.uq._chains import Chains
from sciml.uq._inverse_problem import InverseProblem, check_starts


def nuts(
    problem: InverseProblem, starts: Float[Array, "chains size"], *, warmup: int, draws: int, key: Key[Array, ""]
) -> Chains:
    """Chains of the No-U-Turn sampler (Hoffman, Gelman, 2014), with blackjax's window adaptation before each of them.

    `Chains.evaluations` counts the gradients of the energy after the warmup.

    Args:
        problem: The inverse problem, whose forward map has reverse derivatives.
        starts: First coefficients of each chain.
        warmup: Number of steps in which the step size and the diagonal mass matrix are adapted.
        draws: Number of draws after them.
        key: Source of randomness.

    Raises:
        ImportError: If blackjax is not installed.
        ValueError: If the misfit at the first coefficients is not finite.
    """
    try:
        import blackjax  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("NUTS needs blackjax: pip install 'sciml-jax[inverse]'.") from error
    check_starts(problem.misfit, starts)
    arrays, static = eqx.partition(problem, eqx.is_array)

    @jax.jit
    def sampled(arrays: InverseProblem, starts: Array, keys: Array) -> Chains:
        logdensity = lambda c: -eqx.combine(arrays, static).energy(c)
        warm: Any = blackjax.window_adaptation(blackjax.nuts, logdensity)

        def chain(pair: tuple[Array, Array]) -> Chains:
            start, key = pair
            first, rest = jax.random.split(key)
            (state, settings), _ = warm.run(first, start, warmup)
            kernel: Any = blackjax.nuts(logdensity, **settings)

            def step(state: Any, key: Array) -> tuple[Any, tuple[Array, Array, Array]]:
                state, info = kernel.step(key, state)
                return state, (state.position, info.acceptance_rate, info.num_integration_steps)

            _, (samples, acceptance, gradients) = jax.lax.scan(step, state, jax.random.split(rest, draws))
            return Chains(samples, jnp.mean(acceptance), jnp.sum(gradients))

        return jax.lax.map(chain, (starts, keys))

    return sampled(arrays, starts, jax.random.split(key, len(starts)))
