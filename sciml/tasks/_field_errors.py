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
from sciml.rollout import rollout_batch


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
    """Draws input, truth, predictions and errors: a row for each sample and each of the first four output channels."""
    predictions = {name: np.asarray(train.predict(model, pairs.x)) for name, model in models.items()}
    plot.save(
        plot.fields(pairs.x, pairs.y, predictions, channels=range(min(4, pairs.y.shape[1])), names=pairs.outputs), path
    )


def rollout_errors(model: Any, windows: Windows) -> dict[str, float]:
    """Relative L2 errors of rollouts over the output frames of windows, means over the samples.

    Returns:
        `relative_l2` of all frames in one norm, `each_frame`, the mean of the frames' errors, and `first_frame`.
    """
    x, y = windows[np.arange(len(windows))]
    prediction = rollout_batch(functools.partial(train.predict, model), x, windows.horizon)
    frames = (len(y), windows.horizon, -1)
    error, size = (np.linalg.norm(a.reshape(frames), axis=2) for a in (prediction - y, y))
    whole = np.linalg.norm(error, axis=1) / np.linalg.norm(size, axis=1)
    each = np.mean(error / size, axis=0)
    return {"relative_l2": float(np.mean(whole)), "each_frame": float(np.mean(each)), "first_frame": float(each[0])}
