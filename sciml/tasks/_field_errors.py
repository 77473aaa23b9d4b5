"""How operators between fields are judged and drawn."""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciml import metrics, plot, train, uq
from sciml.data import Pairs
from sciml.grid import Grid


def defined(errors: Array, prediction: Array, truth: Array) -> Array:
    """Errors of samples without NaN: 0 if the prediction is exact, infinite if it, or its error, is not finite.

    Args:
        errors: Errors (samples,).
        prediction: Predictions (samples, ...).
        truth: What is predicted; may be zero everywhere, so that a relative error of an exact prediction is 0 / 0.
    """
    same = (prediction == truth).reshape(len(errors), -1).all(axis=1)
    return jnp.where(same, 0, jnp.where(jnp.isnan(errors), jnp.inf, errors))


def or_infinite(error: Any) -> float:
    """An error as a number: infinite in place of NaN, since what was predicted is not finite."""
    return math.inf if np.isnan(error) else float(error)


def relative_errors(model: Any, pairs: Pairs) -> dict[str, float]:
    """Means over the samples of `metrics.relative_l2` and `metrics.relative_h1`; see `defined`.

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
    errors = (jax.vmap(metrics.relative_l2)(prediction, truth), jax.vmap(h1)(prediction, truth))
    l2, other = (defined(one, prediction, truth).mean() for one in errors)
    return l2, other


def certified(generator: Any) -> Callable[[Any, Pairs, float], dict[str, float]]:
    """`Experiment.certify` for the samples of a generator of `sciml.pdes`; see `uq.certify`.

    The function that is returned raises ValueError if they have no bound (`uq.problem_of`).
    """

    def certify(model: Any, pairs: Pairs, tolerance: float) -> dict[str, float]:
        problem = uq.problem_of(generator)
        if not isinstance(problem, uq.AbstractLinear):
            raise ValueError(f"Samples of {type(generator).__name__} have bounds, but no solver that corrects them.")
        predictions = train.predict(model, pairs.x)
        with jax.enable_x64(True):
            found = uq.certify_all(problem, pairs.x, predictions, tolerance)
        return {
            "accepted": float(np.mean(found.accepted)),
            "iterations": float(np.mean(found.iterations)),
            "bound": float(np.max(found.bound)),
        }

    return certify


def draw_predictions(models: Mapping[str, Any], pairs: Pairs, path: str | pathlib.Path) -> None:
    """Draws input, truth, predictions and errors: a row for each sample and each of the first four output channels."""
    predictions = {name: np.asarray(train.predict(model, pairs.x)) for name, model in models.items()}
    plot.save(
        plot.fields(pairs.x, pairs.y, predictions, channels=range(min(4, pairs.y.shape[1])), names=pairs.outputs), path
    )
