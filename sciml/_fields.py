"""How operators between fields are judged and drawn in experiments."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml import metrics, plot, train
from sciml.data import Pairs


def relative_errors(model: Any, pairs: Pairs) -> dict[str, float]:
    """Means over the samples of `metrics.relative_l2` and `metrics.relative_h1`: `Experiment.evaluate` of operators.

    Raises:
        ValueError: If the pairs have no grid, which the H1 error needs.
    """
    if pairs.grid is None:
        raise ValueError("The relative H1 error needs the grid of the data. Give it: data.Pairs(x, y, grid=grid).")
    prediction, truth = train.predict(model, pairs.x), jnp.asarray(pairs.y)
    h1 = functools.partial(metrics.relative_h1, grid=pairs.grid)
    return {
        "relative_l2": float(jnp.mean(jax.vmap(metrics.relative_l2)(prediction, truth))),
        "relative_h1": float(jnp.mean(jax.vmap(h1)(prediction, truth))),
    }


def draw_predictions(models: Mapping[str, Any], pairs: Pairs, path: str | pathlib.Path) -> None:
    """Draws the first channels of input, truth, predictions and errors of two-dimensional fields, a row per sample."""
    predictions = {name: np.asarray(train.predict(model, pairs.x))[:, 0] for name, model in models.items()}
    plot.save(plot.predictions(pairs.x[:, 0], pairs.y[:, 0], predictions), path)
