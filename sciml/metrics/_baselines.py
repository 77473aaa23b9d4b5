"""Predictions that need no model: a forecast that is no better than these has learned nothing."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.metrics._steps import Trajectories


def persistence(frames: Float[Array | np.ndarray, "time channels *space"], n: int) -> Float[Array, "n channels *space"]:
    """The last given frame `n` times. `jax.vmap` makes predictions for several samples.

    Raises:
        ValueError: If no frame is given, or `n` is not positive.
    """
    _check(frames, n)
    return jnp.broadcast_to(jnp.asarray(frames[-1]), (n, *frames.shape[1:]))


def mean_predictor(
    frames: Float[Array | np.ndarray, "time channels *space"],
    n: int,
    *,
    mean: Float[Array | np.ndarray, " channels"],
) -> Float[Array, "n channels *space"]:
    """The mean of each channel, at all points of `n` frames; of the given frames it takes the shape alone.

    Args:
        frames: The frames that a model would see.
        n: Number of predicted frames.
        mean: Means over the training frames, see `channel_means`.

    Raises:
        ValueError: If no frame is given, or `n` is not positive.
    """
    _check(frames, n)
    values = jnp.asarray(mean, frames.dtype).reshape(-1, *(1,) * (frames.ndim - 2))
    return jnp.broadcast_to(values, (n, *frames.shape[1:]))


def channel_means(trajectories: Trajectories) -> Float[np.ndarray, " channels"]:
    """Mean of each channel over samples, time and space, in float64."""
    axes = (0, 1, *range(3, trajectories.ndim))
    return np.asarray(trajectories).mean(axis=axes, dtype=np.float64)


def _check(frames: Array | np.ndarray, n: int) -> None:
    if len(frames) == 0 or n < 1:
        raise ValueError(f"Expected at least one given and one predicted frame, got {len(frames)} and n {n}.")
