"""Written equations: reading them, their errors, and which of several fits a trajectory."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.integrate import cumulative_simpson

from sciml.prose._equations.metrics import expression_error
from sciml.symbolic import (
    System,
    Vocabulary,
    check_trajectories,
    equivalent,
    evaluate_system,
    parameters,
    refine,
    skeleton,
    system_from_tokens,
    system_to_text,
    with_parameters,
)

Reading = Callable[[Sequence[str], Vocabulary], System | None]
"""Tokens and their vocabulary to the system that they stand for, or None."""

Residual = Callable[[System], float]
"""How badly a system fits data: not negative, infinite for one that has no values."""


def read_strictly(tokens: Sequence[str], vocabulary: Vocabulary) -> System | None:
    """The system that is written exactly so, or None.

    `sciml.symbolic.system_from_tokens_as_published` is the more lenient reading behind published valid fractions.
    """
    try:
        return system_from_tokens(tokens, vocabulary.codec)
    except ValueError:
        return None


def equations(
    tokens: Int[np.ndarray | Array, "*batch length"], vocabulary: Vocabulary, read: Reading = read_strictly
) -> list[System | None]:
    """The systems of rows of ids, None where there is none.

    Args:
        tokens: From `greedy` or `beam`, or `Sample.equation` without its first column; of any batch, whose rows are
            returned one after the other. What follows the token that ends equations is not read.
        vocabulary: Of the ids.
        read: How they are read.
    """
    rows = np.asarray(tokens)
    rows = rows.reshape(-1, rows.shape[-1])
    ends = [np.flatnonzero(row == vocabulary.eos) for row in rows]
    cut = [row[: end[0]] if len(end) else row for row, end in zip(rows, ends, strict=True)]
    return [read(vocabulary.decode(row), vocabulary) for row in cut]


def equation_text(system: System | None) -> str:
    """A written system in Python's notation, with six significant digits of its numbers, or that there is none."""
    if system is None:
        return "no equation"
    digits = [float(f"{value:.6g}") for value in parameters(system)]
    return system_to_text(with_parameters(system, digits))


class EquationErrors(NamedTuple):
    """Errors of written equations.

    Attributes:
        errors: By `expression_error`; NaN where the equation is not valid.
        valid: Which are: they can be read, have as many components as the true ones, and are finite at all points.
    """

    errors: Float[np.ndarray, " samples"]
    valid: Bool[np.ndarray, " samples"]

    @property
    def valid_fraction(self) -> float:
        """Part of the equations that is valid."""
        return float(self.valid.mean())

    @property
    def mean(self) -> float:
        """Mean error of the valid ones, the number of published tables; NaN if there is none."""
        return float(self.errors[self.valid].mean()) if self.valid.any() else math.nan


def equation_metrics(
    written: Sequence[System | None], truth: Sequence[System], errors: EquationErrors
) -> dict[str, float]:
    """`valid`, the part of valid equations, `expression_error`, their mean error, and `structure`.

    The latter is the part of the equations whose structure is that of the true ones, whatever their numbers are, up to
    the order and the nesting of sums and products.
    """
    same = [_same_structure(one, true) for one, true in zip(written, truth, strict=True)]
    return {"valid": errors.valid_fraction, "expression_error": errors.mean, "structure": float(np.mean(same))}


def _same_structure(one: System | None, true: System) -> bool:
    if one is None or len(one) != len(true):
        return False
    return all(map(equivalent, skeleton(one), skeleton(true)))


_errors = jax.jit(jax.vmap(expression_error))


def equation_errors(
    written: Sequence[System | None], truth: Sequence[System], *, points: int = 50, bound: float = 5.0, seed: int = 0
) -> EquationErrors:
    """Errors of the values of equations at points that are uniform in a cube.

    The source draws new points for each batch, and counts one component in place of several as a valid answer.

    Args:
        written: From `equations`.
        truth: The true systems, of the same samples.
        points: Number of points, the same for all samples.
        bound: Half the edge of the cube around the origin, in all states.
        seed: Of the points; systems of other dimensions see the same coordinates.

    Raises:
        ValueError: If there are not as many written systems as true ones, or none.
    """
    if len(written) != len(truth) or not truth:
        raise ValueError(f"Expected as many written systems as true ones, got {len(written)} and {len(truth)}.")
    states = max(map(len, truth))
    where = np.random.default_rng(seed).uniform(-bound, bound, (states, points))
    values = np.full((2, len(truth), points, states), np.nan, jnp.result_type(float))
    for i, (system, true) in enumerate(zip(written, truth, strict=True)):
        values[1, i] = _values(true, where, len(true))
        if system is not None and len(system) == len(true):
            values[0, i] = _values(system, where, len(true))
    errors, valid = map(np.asarray, _errors(*map(jnp.asarray, values)))
    return EquationErrors(np.where(valid, errors, np.nan), valid)


def _values(system: System, where: np.ndarray, dimension: int) -> np.ndarray:
    """`(points, states)`, zero in states that the system does not have, all NaN if it has no values."""
    values = np.zeros(where.shape[::-1])
    found = _evaluated(system, {f"u_{i}": where[i] for i in range(dimension)})
    values[:, :dimension] = np.nan if found is None else found.T
    limit = np.finfo(jnp.result_type(float)).max
    return np.where(np.abs(values) > limit, np.inf, values)


def _evaluated(system: System, values: dict[str, np.ndarray]) -> np.ndarray | None:
    """Values of the components, or None if a variable has no value or a number is not known."""
    try:
        return evaluate_system(system, values, np)
    except ValueError:
        return None


def integral_residual(
    ts: Float[np.ndarray | Array, " times"], ys: Float[np.ndarray | Array, "times states"]
) -> Residual:
    """How far a trajectory is from its own integral under a system, u(t) - u(0) - int_0^t f(s, u(s)) ds.

    The root mean square over times and components, each with its mean removed, which estimates u(0), and divided by the
    standard deviation of the state. The integral, by Simpson's rule, averages noise out; nothing is solved, so that
    every system whose values are finite on the data has a residual, within a millisecond. It is the integral form of
    the equations (Schaeffer, McCalla, "Sparse model selection via integral terms", Phys. Rev. E 96, 2017).

    Args:
        ts: Increasing times.
        ys: States, noisy or not, in as many components as systems have.

    Returns:
        `system -> residual`, infinite for a system that is not finite there or has other components.

    Raises:
        ValueError: If the times do not increase, or a number is not finite.
    """
    times, (states,) = check_trajectories(ts, ys)
    values = {"t": times} | {f"u_{i}": column for i, column in enumerate(states.T)}
    deviation = states.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)

    def residual(system: System) -> float:
        slopes = _evaluated(system, values) if len(system) == states.shape[1] else None
        if slopes is None or not np.isfinite(slopes).all():
            return math.inf
        with np.errstate(all="ignore"):
            gap = (states - cumulative_simpson(slopes, x=times, axis=1, initial=0).T) / scale
            found = float(np.sqrt(np.mean((gap - gap.mean(axis=0)) ** 2)))
        return found if math.isfinite(found) else math.inf

    return residual


class Ranked(NamedTuple):
    """One of several equations.

    Attributes:
        system: The equation.
        residual: How badly it fits.
        position: Where it was among the hypotheses.
    """

    system: System
    residual: float
    position: int


def reranked(systems: Sequence[System | None], residual: Residual) -> list[Ranked]:
    """Hypotheses of one sample by their residual, the smallest first; those that cannot be read are left out.

    Equal residuals keep their order, so that the likeliest of equivalent equations comes first.
    """
    rows = [Ranked(system, residual(system), i) for i, system in enumerate(systems) if system is not None]
    return sorted(rows, key=lambda row: row.residual)


def refined(
    systems: Sequence[System],
    ts: Float[np.ndarray | Array, " times"],
    ys: Float[np.ndarray | Array, "times states"],
    *,
    segments: int = 1,
    spread: float | None = None,
) -> list[Ranked]:
    """Some hypotheses with the constants that fit a trajectory best, the best one first.

    Constants of tokens have three digits, and those that a model writes are guesses. The residual is that of the
    solutions, never larger than with the given constants: `sciml.symbolic.refine`, which compiles a program for each
    structure. `reranked` costs next to nothing and finds out which hypotheses are worth it.

    Args:
        systems: Such as the first ones of `reranked`.
        ts: Increasing times.
        ys: States, noisy or not.
        segments: As in `sciml.symbolic.refine`.
        spread: As in `sciml.symbolic.refine`.

    Raises:
        ValueError: As `sciml.symbolic.refine`.
    """
    fits = [refine(system, ts, ys, segments=segments, spread=spread) for system in systems]
    rows = [Ranked(fit.system, fit.after, i) for i, fit in enumerate(fits)]
    return sorted(rows, key=lambda row: row.residual)
