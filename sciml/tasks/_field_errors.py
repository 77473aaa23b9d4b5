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
from sciml.data import Pairs
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
    """Draws input, truth, predictions and errors: a row for each sample and each of the first four output channels."""
    predictions = {name: np.asarray(train.predict(model, pairs.x)) for name, model in models.items()}
    plot.save(
        plot.fields(pairs.x, pairs.y, predictions, channels=range(min(4, pairs.y.shape[1])), names=pairs.outputs), path
    )
