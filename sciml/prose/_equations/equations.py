"""Equations written by a model: parsing, errors, and selection of the hypothesis that fits a trajectory best."""

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
"""`(tokens, vocabulary) -> system`, or None if the tokens are malformed."""

Residual = Callable[[System], float]
"""`system -> error of its fit`, at least 0, infinite if the system cannot be evaluated."""


def read_strictly(tokens: Sequence[str], vocabulary: Vocabulary) -> System | None:
    """The system with exactly these prefix tokens, or None if they are malformed.

    Published valid fractions come from a more lenient parser, `sciml.symbolic.system_from_tokens_as_published`.
    """
    try:
        return system_from_tokens(tokens, vocabulary.codec)
    except ValueError:
        return None


def equations(
    tokens: Int[np.ndarray | Array, "*batch length"], vocabulary: Vocabulary, read: Reading = read_strictly
) -> list[System | None]:
    """Parses token ids into systems; None for a sequence that is not an equation.

    Args:
        tokens: From `greedy` or `beam`, or `Sample.equation` without BOS. Batch axes are flattened. Tokens after the
            first EOS are ignored.
        vocabulary: The vocabulary of the ids.
        read: The parser: `(tokens, vocabulary) -> system or None`.
    """
    rows = np.asarray(tokens)
    rows = rows.reshape(-1, rows.shape[-1])
    ends = [np.flatnonzero(row == vocabulary.eos) for row in rows]
    cut = [row[: end[0]] if len(end) else row for row, end in zip(rows, ends, strict=True)]
    return [read(vocabulary.decode(row), vocabulary) for row in cut]


def equation_text(system: System | None) -> str:
    """The system in Python's notation, its numbers with six significant digits; "no equation" for None."""
    if system is None:
        return "no equation"
    digits = [float(f"{value:.6g}") for value in parameters(system)]
    return system_to_text(with_parameters(system, digits))


class EquationErrors(NamedTuple):
    """Errors of written equations, one per sample.

    Attributes:
        errors: Relative error of the values of each equation; NaN if the equation is invalid.
        valid: Whether each equation can be parsed, has as many components as the true one, and has finite values at all
            points. `residual_errors` sets a largest error as well.
    """

    errors: Float[np.ndarray, " samples"]
    valid: Bool[np.ndarray, " samples"]

    @property
    def valid_fraction(self) -> float:
        """Fraction of the equations that are valid."""
        return float(self.valid.mean())

    @property
    def mean(self) -> float:
        """Mean error of the valid equations, as in the published tables; NaN if no equation is valid."""
        return float(self.errors[self.valid].mean()) if self.valid.any() else math.nan


def equation_metrics(
    written: Sequence[System | None], truth: Sequence[System], errors: EquationErrors
) -> dict[str, float]:
    """Metrics of the written equations of a test set.

    Returns:
        `valid`: fraction of valid equations. `expression_error`: mean error of the valid equations. `structure`:
        fraction of the equations whose skeleton is that of the true equation, up to the order and the nesting of sums
        and products.
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
    """Errors of the values of equations at random states, uniform in the cube [-bound, bound]^states.

    The published code draws new points for each batch, and counts an equation with one component in place of several as
    valid.

    Args:
        written: The written systems, from `equations`.
        truth: The true systems of the same samples.
        points: Number of random states, the same for all samples.
        bound: Half the edge length of the cube around the origin.
        seed: Seed of the random states. Systems of lower dimension use the first coordinates of the same states.

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
    """Values `(points, states)`; zero in components that the system lacks, NaN if it cannot be evaluated."""
    values = np.zeros(where.shape[::-1])
    found = _evaluated(system, {f"u_{i}": where[i] for i in range(dimension)})
    values[:, :dimension] = np.nan if found is None else found.T
    limit = np.finfo(jnp.result_type(float)).max
    return np.where(np.abs(values) > limit, np.inf, values)


def _evaluated(system: System, values: dict[str, np.ndarray]) -> np.ndarray | None:
    """Values of the components, or None if a variable has no value or the system has placeholders."""
    try:
        return evaluate_system(system, values, np)
    except ValueError:
        return None


def integral_residual(
    ts: Float[np.ndarray | Array, " times"], ys: Float[np.ndarray | Array, "times states"]
) -> Residual:
    """How well a trajectory satisfies the integral form of a system: the size of u(t) - u(0) - int_0^t f(s, u(s)) ds.

    The residual is the root mean square over times and components, in standard deviations of each component. The
    unknown u(0) is estimated by removing the mean of each component. The integral, by Simpson's rule, averages out
    noise. No ODE is solved, so that every system with finite values on the data has a residual, within a millisecond.
    Source of the integral form: Schaeffer, McCalla, "Sparse model selection via integral terms", Phys. Rev. E 96, 2017.

    Args:
        ts: Increasing times.
        ys: States at these times, clean or noisy.

    Returns:
        `system -> residual`. It is infinite for a system whose values on the data are not finite, or which has another
        number of components than the states.

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
    """A hypothesis and how well it fits.

    Attributes:
        system: The equation.
        residual: Error of the fit; smaller is better.
        position: Index of the equation in the original list.
    """

    system: System
    residual: float
    position: int


def reranked(systems: Sequence[System | None], residual: Residual) -> list[Ranked]:
    """Sorts the hypotheses of one sample by their residual, the smallest first, and drops those that are None.

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
    """Fits the constants of each hypothesis to a trajectory by `sciml.symbolic.refine`, and sorts by the error.

    Constants in tokens have three digits, and those that a model writes are only guesses. The residual is the error of
    the solutions, never larger than with the given constants. `refine` compiles a program for each structure;
    `reranked` is much cheaper and can select the hypotheses to fit.

    Args:
        systems: The hypotheses, such as the first few of `reranked`.
        ts: Increasing times.
        ys: States at these times, clean or noisy.
        segments: As in `sciml.symbolic.refine`.
        spread: As in `sciml.symbolic.refine`.

    Raises:
        ValueError: As `sciml.symbolic.refine`.
    """
    fits = [refine(system, ts, ys, segments=segments, spread=spread) for system in systems]
    rows = [Ranked(fit.system, fit.after, i) for i, fit in enumerate(fits)]
    return sorted(rows, key=lambda row: row.residual)
