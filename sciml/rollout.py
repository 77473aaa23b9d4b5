"""Autoregression: the repeated application of a step to its own output."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def rollout(
    step: Callable[[Float[Array, "channels *space"]], Float[Array, "channels *space"]],
    u0: Float[Array | np.ndarray, "channels *space"],
    n: int,
) -> Float[Array, "n channels *space"]:
    """The states `step(u0)`, `step(step(u0))`, ... after 1 to `n` applications; `u0` is not among them.

    One `lax.scan`: it compiles once whatever `n` is and can be differentiated.

    Args:
        step: From a field to a field of the same shape and type, such as an operator trained for one step.
        u0: Initial state.
        n: Number of applications.

    Raises:
        ValueError: If `n` is not positive, or `step` changes the shape or the type of its argument.
    """
    _positive(n)
    u0 = jnp.asarray(u0)
    after = jax.eval_shape(step, u0)
    if (after.shape, after.dtype) != (u0.shape, u0.dtype):
        raise ValueError(
            f"A step must return what it gets, {u0.dtype} of shape {u0.shape}, got {after.dtype} of shape "
            f"{after.shape}. For a step that sees several frames use rollout_windows."
        )

    def advance(u: Array, _: None) -> tuple[Array, Array]:
        u = step(u)
        return u, u

    return jax.lax.scan(advance, u0, None, length=n)[1]


def rollout_windows(
    step: Callable[[Float[Array, "in *space"]], Float[Array, "out *space"]],
    frames: Float[Array | np.ndarray, "time channels *space"],
    n: int,
) -> Float[Array, "predicted channels *space"]:
    """The frames that `n` applications of a step to the latest frames predict; the given ones are not among them.

    The step sees `time` frames as `time * channels` channels, the earliest first, and returns one frame or several in
    the same order, as for a model trained on `sciml.data.Windows`. The returned frames are appended, and as many of the
    oldest are dropped.

    Args:
        step: From `(time * channels, *space)` to `(k * channels, *space)` for some `k`.
        frames: The first window.
        n: Number of applications; `n k` frames are predicted.

    Raises:
        ValueError: If `n` is not positive, or `step` returns another space, another type or no whole number of frames.
    """
    _positive(n)
    frames = jnp.asarray(frames)
    time, channels, *space = frames.shape
    after = jax.eval_shape(step, frames.reshape(-1, *space))
    if after.shape[1:] != tuple(space) or after.shape[0] % channels or after.dtype != frames.dtype:
        raise ValueError(
            f"A step must return whole frames, {frames.dtype} of shape (k * {channels}, "
            f"{', '.join(map(str, space))}), got {after.dtype} of shape {after.shape}."
        )

    def advance(window: Array, _: None) -> tuple[Array, Array]:
        new = step(window.reshape(-1, *space)).reshape(-1, *frames.shape[1:])
        return jnp.concatenate((window, new))[-time:], new

    return jax.lax.scan(advance, frames, None, length=n)[1].reshape(-1, *frames.shape[1:])


def _positive(n: int) -> None:
    if n < 1:
        raise ValueError(f"Expected at least one application of the step, got n {n}.")
