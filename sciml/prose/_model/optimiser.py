"""Optimisers and learning rate schedules of the published PROSE models."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


def ode_optimiser(peak: float, *, steps: int) -> optax.GradientTransformation:
    """The optimiser of PROSE-ODE: `published_adam` with gradients clipped to norm 1 and weight decay 1e-4.

    The learning rate warms up linearly over an eighth of the steps, at most 20,000, and then decays as an inverse
    square root.

    Args:
        peak: Peak learning rate, 1e-4 in the source.
        steps: Number of optimiser steps.
    """
    return published_adam(inverse_square_root(peak=peak, warmup=max(1, min(20_000, steps // 8))))


def pde_optimiser(peak: float, *, steps: int) -> optax.GradientTransformation:
    """The optimiser of PROSE-PDE: AdamW with gradients clipped to norm 1 and weight decay 1e-4.

    The learning rate warms up linearly over a tenth of the steps and then follows a cosine decay to 0.

    Args:
        peak: Peak learning rate, 1e-4 in the source.
        steps: Number of optimiser steps.
    """
    lr = optax.warmup_cosine_decay_schedule(0.0, peak, max(1, steps // 10), steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lr, eps=1e-6, weight_decay=1e-4))


def fd_optimiser(peak: float, *, steps: int) -> optax.GradientTransformation:
    """The optimiser of PROSE-FD: AdamW with gradients clipped to norm 1, weight decay 1e-4 and `warm_stable_decay`.

    Args:
        peak: Peak learning rate, 1e-4 in the source.
        steps: Number of optimiser steps.
    """
    adamw = optax.inject_hyperparams(optax.adamw)(warm_stable_decay(peak, steps), b2=0.95, eps=1e-6, weight_decay=1e-4)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def warm_stable_decay(peak: float, steps: int) -> optax.Schedule:
    """Linear warm-up to `peak` in the first tenth of the steps, constant, linear decay to 0 in the last fifth."""
    rise, fall = max(1, steps // 10), max(1, steps // 5)
    parts = (
        optax.linear_schedule(peak / rise, peak, rise - 1),
        optax.constant_schedule(peak),
        optax.linear_schedule(peak, 0.0, fall),
    )
    return optax.join_schedules(parts, (rise - 1, steps - fall))


def inverse_square_root(*, peak: float = 1e-4, warmup: int = 20_000, start: float = 1e-7) -> optax.Schedule:
    """Linear warm-up from `start` to `peak` over `warmup` updates, then lr = peak * sqrt(warmup / k) after k updates.

    The defaults are those of the published code. The paper warms up for a tenth of its 160,000 updates.
    """

    def lr(count: Any) -> Any:
        count = jnp.asarray(count, float)  # a quotient of int32 would be float32 even with float64 parameters
        line = start + (peak - start) * count / warmup
        return jnp.where(count < warmup, line, peak * jnp.sqrt(warmup / jnp.maximum(count, 1)))

    return lr


class _Moments(NamedTuple):
    steps: Int[Array, ""]
    mean: PyTree
    square: PyTree


def _published_adam(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam that adds epsilon to the root of the second moment before the bias correction, not after it."""

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _Moments(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        steps = state.steps + 1
        mean = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mean, updates)
        square = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.square, updates)
        # In float32, 1 - b**k has a relative error of 3e-5 for b = 0.999, k = 1; expm1 avoids it.
        power = lambda beta: -jnp.expm1(jnp.asarray(steps, float) * math.log(beta))
        factor = jnp.sqrt(power(beta2)) / power(beta1)
        step = jax.tree.map(lambda m, v: factor.astype(m.dtype) * m / (jnp.sqrt(v) + epsilon), mean, square)
        return step, _Moments(steps, mean, square)

    return optax.GradientTransformation(init, update)


def published_adam(
    schedule: optax.Schedule, *, decay: float = 1e-4, clip: float = 1.0, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """Adam as in the published PROSE-ODE code, with clipped gradients and weight decay of all parameters.

    Update k of Adam is lr * sqrt(1 - b2^k) / (1 - b1^k) * m / (sqrt(v) + epsilon) with b1 = 0.9, b2 = 0.999;
    `optax.adam` adds epsilon after the bias correction of v instead. Weight decay is decoupled and multiplied by lr, as
    in `optax.adamw`.

    Args:
        schedule: Learning rate schedule, such as `inverse_square_root()`.
        decay: Coefficient of the weight decay.
        clip: Largest global norm of the gradient; larger gradients are scaled down to it.
        epsilon: Added to sqrt(v), see above.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        _published_adam(0.9, 0.999, epsilon),
        optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(schedule),
    )
