"""Forecasts by fitting and solving the equations that a model has written."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciml.prose._equations.equations import equation_errors
from sciml.prose._samples.dataset import Sample
from sciml.symbolic import Placeholder, Refined, System, VectorField, refine, skeleton, walk
from sciml.systems import integrate

SEGMENTS = 16
"""Largest number of segments of a fit: fast initial transients and chaotic systems need several; more cost no more."""
_LARGEST = 100.0  # largest absolute state of a forecast, relative to the largest given one
COPIED = 1e-3
"""Relative error below which a constant counts as copied from the guess: rounding to three digits at most."""


class Solved(NamedTuple):
    """Equations with fitted constants, and their forecast.

    Attributes:
        fit: The fitted equations, their errors, and the initial conditions.
        states: The solution at the query times, or None if the equations cannot be solved up to the last query time, or
            if the solution exceeds 100 times the largest given state.
    """

    fit: Refined
    states: Float[np.ndarray, "query states"] | None


def solved_forecast(
    system: System,
    ts: Float[np.ndarray | Array, " times"],
    ys: Float[np.ndarray | Array, "times states"],
    query: Float[np.ndarray | Array, " query"],
    *,
    spread: float | None,
) -> Solved:
    """Fits the constants and the initial state of a system to a trajectory, and solves it up to the query times.

    The fit is `sciml.symbolic.refine` with up to 16 segments. Everything is in double precision. If the structure of
    the equations is right, only the noise of the data limits the accuracy of the forecast. One program is compiled for
    each structure and each number of times.

    Args:
        system: Equations without placeholders, such as those from `SampleEquations`.
        ts: Increasing times.
        ys: States at these times, clean or noisy.
        query: Increasing times after the first one of `ts`.
        spread: Standard deviation of the relative errors of the given constants, or None if it is not known; see
            `refine`.

    Raises:
        ValueError: As `refine`, or if there are no query times, or they do not increase from the first time of `ts`.
    """
    times = np.concatenate((np.asarray(ts, np.float64)[:1], np.asarray(query, np.float64)))
    if len(times) < 2 or not np.all(np.diff(times) > 0):
        raise ValueError(f"Expected increasing query times behind {times[0]:g}, the first given one, got {times[1:]}.")
    with jax.enable_x64(True):
        fit = refine(system, ts, ys, segments=min(SEGMENTS, len(ts) - 1), spread=spread)
        field = jax.tree.map(lambda array: jnp.asarray(array)[None], VectorField(fit.system))
        largest = _LARGEST * float(np.max(np.abs(ys)))
        states, good = integrate(field, fit.initial_conditions, times, largest=largest)
    return Solved(fit, states[0, 1:] if good[0] and np.isfinite(fit.after) else None)


class SolvedForecasts(NamedTuple):
    """Forecasts of several samples, by their equations where possible.

    Attributes:
        systems: The equations with fitted constants, unchanged if they were not fitted; None for a missing equation.
        states: The forecasts.
        solved: True for a solution of the equations, false for a forecast of the network.
    """

    systems: list[System | None]
    states: Float[np.ndarray, "samples later states"]
    solved: Bool[np.ndarray, " samples"]


def solved_forecasts(
    systems: Sequence[System | None],
    sample: Sample,
    forecasts: Float[np.ndarray | Array, "samples later states"],
    history: int,
    *,
    spreads: Sequence[float | None],
    structures: int = 32,
) -> SolvedForecasts:
    """`solved_forecast` of several samples, with the forecast of a network where the equations give none.

    Args:
        systems: The written equations, one entry per sample. An entry that is None or has the wrong number of
            components gives no forecast.
        sample: The samples, with a leading axis.
        forecasts: States that a network predicts at the times after the first `history` ones.
        history: Number of given times.
        spreads: As in `solved_forecast`, one for each sample.
        structures: Largest number of different structures to solve, since each takes seconds to compile. The rarest
            structures beyond that give no forecast. A model with little training writes many different structures.
    """
    fitted, states, solved = list(systems), np.array(forecasts), np.zeros(len(systems), bool)
    times, sizes = np.asarray(sample.times, np.float64), np.sum(sample.components, axis=1)
    fits = [
        None if one is None or len(one) != size else skeleton(one) for one, size in zip(systems, sizes, strict=True)
    ]
    counts = collections.Counter(one for one in fits if one is not None)
    kept = {structure for structure, _ in counts.most_common(structures)}
    for i, (system, spread) in enumerate(zip(systems, spreads, strict=True)):
        if system is None or fits[i] not in kept:
            continue
        size = sizes[i]
        given = np.asarray(sample.states[i, :history, :size], np.float64)
        found = solved_forecast(system, times[i, :history], given, times[i, history:], spread=spread)
        fitted[i] = found.fit.system
        if found.states is not None:
            states[i, :, :size], solved[i] = found.states, True
    return SolvedForecasts(fitted, states, solved)


def copied(system: System | None, guess: System | None) -> bool:
    """Whether a written system is the guess that the model was given, constants included, in any algebraic form.

    True if the error of its values against those of the guess, by `equation_errors`, is below `COPIED`; use `COPIED` as
    `spread` for such a system. False if the guess has placeholders.
    """
    if system is None or guess is None:
        return False
    if any(isinstance(node, Placeholder) for tree in guess for node in walk(tree)):
        return False
    found = equation_errors([system], [guess])
    return bool(found.valid[0]) and float(found.errors[0]) < COPIED
