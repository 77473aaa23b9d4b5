"""Errors of predicted fields and of predicted residuals over a test set, in NumPy."""

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.polynomial import polynomial

from sciml.metrics import relative_l2
from sciml.prose._equations.equations import EquationErrors
from sciml.symbolic import DERIVATIVES, AbstractExpression, System, evaluate

_DEGREES, _LARGEST = {"t": 2, "x": 4}, 5.0


def relative_l2_of_fields(
    predictions: Float[np.ndarray, "samples *field"], truth: Float[np.ndarray, "samples *field"]
) -> Float[np.ndarray, " samples"]:
    """`metrics.relative_l2` of each sample over its frames and points, with 1e-7 added to the norm of the truth."""
    return _each(predictions, truth, epsilon=1e-7)


def _each(one: np.ndarray, other: np.ndarray, **epsilons: float) -> Float[np.ndarray, " samples"]:
    """`relative_l2` of each sample in double precision."""
    with jax.enable_x64(True):
        pair = (jnp.asarray(values, jnp.float64) for values in (one, other))
        return np.asarray(jax.vmap(functools.partial(relative_l2, **epsilons))(*pair))


def coefficient_of_determination(
    predictions: Float[np.ndarray, "samples *field"], truth: Float[np.ndarray, "samples *field"]
) -> float:
    """Mean over the values of a field of R^2 = 1 - sum (prediction - truth)^2 / sum (truth - mean truth)^2.

    Sums and mean truth are over the samples. A value that is the same in all samples has the score 1 if it is predicted
    exactly, otherwise 0, as in scikit-learn's `r2_score` with `multioutput="uniform_average"`.

    Raises:
        ValueError: If there are fewer than 2 samples.
    """
    if len(truth) < 2:
        raise ValueError(f"R^2 compares samples with their mean: expected at least 2, got {len(truth)}.")
    truth = truth.reshape(len(truth), -1).astype(np.float64)
    errors = np.sum((predictions.reshape(truth.shape) - truth) ** 2, axis=0)
    spread = np.sum((truth - truth.mean(axis=0, keepdims=True)) ** 2, axis=0)
    varies = spread > 0
    ratio = np.where(varies, errors / np.where(varies, spread, 1), errors > 0)
    return float(np.mean(1 - ratio))


def trial_field(
    times: Float[np.ndarray, " times"], points: Float[np.ndarray, " points"], *, seed: int
) -> dict[str, Float[np.ndarray, "times points"]]:
    """Values of `t`, `x`, a random polynomial `u_0` and its `DERIVATIVES`, on a grid of times and points.

    The polynomial is the product of one of degree 2 in t and one of degree 4 in x, with coefficients uniform in
    [-5, 5]. It solves none of the equations, so that their residuals do not vanish.
    """
    rng = np.random.default_rng(seed)
    in_t, in_x = (rng.uniform(-_LARGEST, _LARGEST, degree + 1) for degree in _DEGREES.values())
    values = {"t": np.repeat(times[:, None], len(points), 1), "x": np.repeat(points[None], len(times), 0)}
    for name in ("u_0", *DERIVATIVES):
        one = polynomial.polyval(times, polynomial.polyder(in_t, name.count("t")))
        other = polynomial.polyval(points, polynomial.polyder(in_x, name.count("x")))
        values[name] = np.outer(one, other)
    return values


def residual_errors(
    written: Sequence[System | None],
    truth: Sequence[System],
    values: Mapping[str, Float[np.ndarray, "times points"]],
    *,
    largest: float = 100.0,
) -> EquationErrors:
    """`metrics.relative_l2` of residuals at the points of a field, with 1e-6 added to the squared norm of the truth.

    Args:
        written: The predicted residuals, from `equations`: systems of one expression.
        truth: The true residuals of the same samples.
        values: A field and its derivatives, from `trial_field`.
        largest: An equation with a larger error is invalid. So is one that has several components or whose values are
            not finite.

    Raises:
        ValueError: If the numbers of predicted and true equations differ or are 0, or if a true one has no value.
    """
    if len(written) != len(truth) or not truth:
        raise ValueError(f"Expected as many written equations as true ones, got {len(written)} and {len(truth)}.")
    found, true = (np.stack(each) for each in (_written(written, values), [_values(one[0], values) for one in truth]))
    errors = _each(found, true, epsilon_squared=1e-6)
    valid = errors <= largest  # NaN is not
    return EquationErrors(np.where(valid, errors, math.nan), valid)


def _values(residual: AbstractExpression, values: Mapping[str, np.ndarray]) -> Float[np.ndarray, "times points"]:
    """A residual at the points of a field."""
    return np.broadcast_to(np.asarray(evaluate(residual, values, np), np.float64), values["u_0"].shape)


def _written(
    written: Sequence[System | None], values: Mapping[str, np.ndarray]
) -> list[Float[np.ndarray, "times points"]]:
    """Predicted residuals at the points of a field; NaN for those with several components or without a value there."""
    none = np.full(values["u_0"].shape, math.nan)

    def one(system: System | None) -> np.ndarray:
        if system is None or len(system) != 1:
            return none
        try:
            return _values(system[0], values)
        except ValueError:  # a placeholder, or an unknown variable
            return none

    return [one(system) for system in written]
