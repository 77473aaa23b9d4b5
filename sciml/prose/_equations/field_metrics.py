"""Errors of predicted fields and of written residuals over a test set, in NumPy."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.polynomial import polynomial

from sciml.prose._equations.equations import EquationErrors
from sciml.symbolic import DERIVATIVES, System, evaluate

_EPSILON = 1e-7
_DEGREES, _LARGEST = {"t": 2, "x": 4}, 5.0


def relative_l2_of_fields(
    predictions: Float[np.ndarray, "samples *field"], truth: Float[np.ndarray, "samples *field"]
) -> Float[np.ndarray, " samples"]:
    """||prediction - truth|| / (||truth|| + 1e-7) of each sample, over all of its frames and points."""
    norm = lambda fields: np.sqrt(np.sum(np.square(fields.reshape(len(fields), -1), dtype=np.float64), axis=1))
    return norm(predictions - truth) / (norm(truth) + _EPSILON)


def coefficient_of_determination(
    predictions: Float[np.ndarray, "samples *field"], truth: Float[np.ndarray, "samples *field"]
) -> float:
    """Mean over the values of a field of R^2 = 1 - sum (prediction - truth)^2 / sum (truth - mean truth)^2.

    Sums and mean are over the samples. A value that is the same in all samples counts 1 if it is predicted exactly,
    otherwise 0, as in scikit-learn's `r2_score` with its uniform average.

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
    """A random polynomial and its derivatives by the names that they have in residuals, with `t` and `x`.

    The product of a polynomial of degree 2 in t and one of degree 4 in x with coefficients uniform in [-5, 5]. It
    solves no equation, so that residuals do not vanish on it.
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
    """Relative errors of residuals, sqrt(sum (written - true)^2 / (sum true^2 + 1e-6)) over the points of a field.

    Args:
        written: From `equations`; one expression each.
        truth: The true residuals, of the same samples.
        values: A field and its derivatives, from `trial_field`.
        largest: An equation with a larger error is not valid, nor is one that is not finite or has several parts.

    Raises:
        ValueError: If there are not as many written equations as true ones, or none.
    """
    if len(written) != len(truth) or not truth:
        raise ValueError(f"Expected as many written equations as true ones, got {len(written)} and {len(truth)}.")
    errors = np.array([_error(one, true, values) for one, true in zip(written, truth, strict=True)])
    valid = errors <= largest  # NaN is not
    return EquationErrors(np.where(valid, errors, math.nan), valid)


def _error(written: System | None, true: System, values: Mapping[str, np.ndarray]) -> float:
    if written is None or len(written) != 1:
        return math.nan
    exact = evaluate(true[0], values, np)
    try:
        found = evaluate(written[0], values, np)
    except ValueError:  # a placeholder, or a variable without a value
        return math.nan
    with np.errstate(all="ignore"):
        squares = np.sum(np.broadcast_to(found - exact, values["u_0"].shape) ** 2)
        return float(np.sqrt(squares / (np.sum(np.broadcast_to(exact, values["u_0"].shape) ** 2) + 1e-6)))
