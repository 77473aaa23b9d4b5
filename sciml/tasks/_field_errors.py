"""How operators between fields are judged, in training and afterwards, and drawn."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciml import losses, metrics, plot, train, uq
from sciml.data import Pairs
from sciml.grid import Grid


def mean_of_l2_and_h1(grid: Grid) -> losses.Loss:
    """The mean of the relative L2 and the relative H1 error, the loss that had the lowest errors in both norms."""
    return losses.supervised(lambda p, t: 0.5 * (metrics.relative_l2(p, t) + metrics.relative_h1(p, t, grid=grid)))


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


@dataclasses.dataclass(frozen=True)
class Guarantee:
    """Predictions that keep a tolerance, of the samples of a generator of `sciml.pdes`; see `uq.certify`.

    Called with a model, pairs and a tolerance it is an `Experiment.certify`.

    Attributes:
        generator: Such as `pdes.Darcy`.
    """

    generator: Any

    def __call__(self, model: Any, pairs: Pairs, tolerance: float) -> dict[str, float]:
        """Fraction of accepted predictions, mean number of iterations, largest bound; raises as `correct`."""
        found = self.correct(pairs.x, train.predict(model, pairs.x), tolerance)
        return {
            "accepted": float(np.mean(found.accepted)),
            "iterations": float(np.mean(found.iterations)),
            "bound": float(np.max(found.bound)),
        }

    def correct(self, x: Array | np.ndarray, predictions: Array | np.ndarray, tolerance: float) -> uq.Certificate:
        """The predictions `(samples, 1, *space)` for the inputs `x`, corrected where their bounds ask for it.

        Raises:
            ValueError: If the samples have no bound (`uq.problem_of`), or the tolerance is below the level of rounding.
        """
        problem, name = uq.problem_of(self.generator), type(self.generator).__name__
        if not isinstance(problem, uq.AbstractLinear):
            raise ValueError(f"Samples of {name} have bounds, but no solver that corrects them.")
        with jax.enable_x64(True):
            return uq.certify_all(problem, x, predictions, tolerance)


def draw_predictions(models: Mapping[str, Any], pairs: Pairs, path: str | pathlib.Path) -> None:
    """Draws input, truth, predictions and errors: a row for each sample and each of the first four output channels."""
    predictions = {name: np.asarray(train.predict(model, pairs.x)) for name, model in models.items()}
    plot.save(
        plot.fields(pairs.x, pairs.y, predictions, channels=range(min(4, pairs.y.shape[1])), names=pairs.outputs), path
    )


def draw_first(test: Any) -> Callable[[Mapping[str, Any], pathlib.Path], None]:
    """`Experiment.figures` that draws the first three test samples; `test` as `Experiment.test`."""

    def figures(models: Mapping[str, Any], folder: pathlib.Path) -> None:
        source: Any = test
        known: Any = source(None) if callable(source) else source
        draw_predictions(models, known.take(slice(0, 3)), folder / "predictions.png")

    return figures
