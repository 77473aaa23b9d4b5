"""How operators between fields are judged and drawn."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciml import metrics, plot, train
from sciml.data import Pairs, Windows
from sciml.grid import Grid


def relative_errors(model: Any, pairs: Pairs) -> dict[str, float]:
    """Means over the samples of `metrics.relative_l2` and `metrics.relative_h1`.

    Raises:
        ValueError: If the pairs have no grid, which the H1 error needs.
    """
    if pairs.grid is None:
        raise ValueError("The relative H1 error needs the grid of the data. Give it: data.Pairs(x, y, grid=grid).")
    l2, h1 = _mean_errors(train.predict(model, pairs.x), jnp.asarray(pairs.y), pairs.grid)
    return {"relative_l2": float(l2), "relative_h1": float(h1)}


@functools.partial(jax.jit, static_argnames="grid")  # for each evaluation of a training run
def _mean_errors(prediction: Array, truth: Array, grid: Grid) -> tuple[Array, Array]:
    h1 = functools.partial(metrics.relative_h1, grid=grid)
    return jnp.mean(jax.vmap(metrics.relative_l2)(prediction, truth)), jnp.mean(jax.vmap(h1)(prediction, truth))


def draw_predictions(models: Mapping[str, Any], pairs: Pairs, path: str | pathlib.Path) -> None:
    """Draws the first channels of input, truth, predictions and errors in one or two dimensions, a row per sample."""
    predictions = {name: np.asarray(train.predict(model, pairs.x))[:, 0] for name, model in models.items()}
    draw = plot.profiles if pairs.x.ndim == 3 else plot.predictions
    plot.save(draw(pairs.x[:, 0], pairs.y[:, 0], predictions), path)


def rollout(model: Any, x: np.ndarray, frames: int) -> np.ndarray:
    """Frames that a model predicts from windows of earlier ones by being applied to its own output, many at once.

    Unlike `sciml.rollout` it does not differentiate or compile the loop, which would make convolutions slow on CPUs.

    Args:
        model: From `(inputs * channels, *space)` to the next frame `(channels, *space)`.
        x: Windows `(samples, inputs * channels, *space)`, the latest frame last.
        frames: Number of frames to predict.

    Returns:
        `(samples, frames * channels, *space)`.
    """
    found = []
    for _ in range(frames):
        found.append(np.asarray(train.predict(model, x)))
        x = np.concatenate((x, found[-1]), axis=1)[:, found[-1].shape[1] :]
    return np.concatenate(found, axis=1)


def rollout_errors(model: Any, windows: Windows) -> dict[str, float]:
    """Relative L2 errors of rollouts over the output frames of windows, means over the samples.

    Returns:
        `relative_l2` of all frames in one norm, `each_frame`, the mean of the frames' errors, and `first_frame`.
    """
    x, y = windows[np.arange(len(windows))]
    prediction = rollout(model, x, windows.outputs)
    frames = (len(y), windows.outputs, -1)
    error, size = (np.linalg.norm(a.reshape(frames), axis=2) for a in (prediction - y, y))
    whole = np.linalg.norm(error, axis=1) / np.linalg.norm(size, axis=1)
    each = np.mean(error / size, axis=0)
    return {"relative_l2": float(np.mean(whole)), "each_frame": float(np.mean(each)), "first_frame": float(each[0])}
