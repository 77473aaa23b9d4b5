"""The optimiser of the published PROSE-ODE."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


def inverse_square_root(*, peak: float = 1e-4, warmup: int = 20_000, start: float = 1e-7) -> optax.Schedule:
    """From `start` to `peak` in a straight line over `warmup` updates, then peak * sqrt(warmup / k) after k updates.

    The defaults are those of the published code; the paper warms up for a tenth of its 160,000 updates.
    """

    def rate(count: Any) -> Any:
        count = jnp.asarray(count, float)  # integers divided are float32, whatever the parameters are
        line = start + (peak - start) * count / warmup
        return jnp.where(count < warmup, line, peak * jnp.sqrt(warmup / jnp.maximum(count, 1)))

    return rate


class _Moments(NamedTuple):
    steps: Int[Array, ""]
    mean: PyTree
    square: PyTree


def _published_adam(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam whose epsilon is added to the root of the second moment before its bias is corrected, not behind."""

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _Moments(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        steps = state.steps + 1
        mean = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mean, updates)
        square = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.square, updates)
        # 1 - b^k by its power is off by 3e-5 in float32 for b = 0.999, k = 1.
        power = lambda beta: -jnp.expm1(jnp.asarray(steps, float) * math.log(beta))
        factor = jnp.sqrt(power(beta2)) / power(beta1)
        step = jax.tree.map(lambda m, v: factor.astype(m.dtype) * m / (jnp.sqrt(v) + epsilon), mean, square)
        return step, _Moments(steps, mean, square)

    return optax.GradientTransformation(init, update)


def published_adam(
    schedule: optax.Schedule, *, decay: float = 1e-4, clip: float = 1.0, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """The optimiser of the published PROSE-ODE: clipped gradient, Adam, decay of all parameters.

    Adam's step is rate * sqrt(1 - b2^k) / (1 - b1^k) * m / (sqrt(v) + epsilon) with b1 = 0.9, b2 = 0.999; `optax.adam`
    adds epsilon to the corrected root instead. Decay is decoupled and multiplied by the rate, as in `optax.adamw`.

    Args:
        schedule: The rate, such as `inverse_square_root()`.
        decay: Of the weights, per unit of the rate.
        clip: Largest norm of the gradient.
        epsilon: As above.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        _published_adam(0.9, 0.999, epsilon),
        optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(schedule),
    )
