"""Forecasts by the equations that a model has written."""

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

_SEGMENTS = 16  # fast beginnings and chaotic systems need some, and more cost no more
_LARGEST = 100.0  # of a forecast, against the largest given state
COPIED = 1e-3
"""Relative deviation of numbers that were copied from exact ones: next to nothing, of three digits at most the last."""


class Solved(NamedTuple):
    """Equations with fitted constants, and what they predict.

    Attributes:
        fit: The equations, how well they fit, and the states they start from.
        states: `(query, states)`, or None if the equations cannot be solved until the last time or leave the region of
            the data.
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
    """Fits constants and first state of equations to a trajectory, and solves them until the query times.

    The constants by `sciml.symbolic.refine` with up to 16 segments, all in double precision. What a network predicts
    is off by what it has not learned; a solution only by what noise leaves open, if the structure is right. One
    program is compiled for each structure and each number of times.

    Args:
        system: Equations without placeholders, such as `SampleEquations` writes.
        ts: Increasing times.
        ys: States, noisy or not.
        query: Increasing times behind the first one of `ts`.
        spread: As for `refine`: the deviation of the relative errors of the constants, None if nothing is known.

    Raises:
        ValueError: As `refine`; if the query times are no such times.
    """
    times = np.concatenate((np.asarray(ts, np.float64)[:1], np.asarray(query, np.float64)))
    if len(times) < 2 or not np.all(np.diff(times) > 0):
        raise ValueError(f"Expected increasing query times behind {times[0]:g}, the first given one, got {times[1:]}.")
    with jax.enable_x64(True):
        fit = refine(system, ts, ys, segments=min(_SEGMENTS, len(ts) - 1), spread=spread)
        field = jax.tree.map(lambda array: jnp.asarray(array)[None], VectorField(fit.system))
        largest = _LARGEST * float(np.max(np.abs(ys)))
        states, good = integrate(field, fit.initial_conditions, times, largest=largest)
    return Solved(fit, states[0, 1:] if good[0] and np.isfinite(fit.after) else None)


class SolvedForecasts(NamedTuple):
    """Forecasts of several samples by their equations.

    Attributes:
        systems: The equations with fitted constants, None where there is none.
        states: `(samples, later, states)`.
        solved: Which of them are solutions; the others are those of the network.
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
    """`solved_forecast` of several samples; where it says nothing, the forecasts of a network remain.

    Args:
        systems: One for each sample; None, or one of another number of components, says nothing.
        sample: The samples, with a leading axis.
        forecasts: States that a network predicts at the times behind the given ones.
        history: Number of given times.
        spreads: As for `solved_forecast`, one for each sample.
        structures: Largest number of different structures, each of which takes seconds to compile. Of more, such as a
            model writes that has hardly been trained, the rarest say nothing.
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
    """Whether equations are a guess with all of its numbers, in any form: `COPIED` is then their spread.

    By their values, which differ by no more than that in the sense of `equation_errors`.
    """
    if system is None or guess is None:
        return False
    if any(isinstance(node, Placeholder) for tree in guess for node in walk(tree)):
        return False
    found = equation_errors([system], [guess])
    return bool(found.valid[0]) and float(found.errors[0]) < COPIED
