"""Forecast and equations of a trajectory."""

import dataclasses
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import prose, symbolic
from sciml.tasks._guess import tokens_of
from sciml.tasks._trained import Trained, trained_on

_WIDTH = 4  # hypotheses of the beam search
_SLACK = 1e-6  # of time spans, relative
# Deviation of the relative errors of written constants; chosen by benchmarks/prose_refinement.py
_TRUST = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
    """What a model says about a trajectory.

    Attributes:
        times: When the states are, in the times of the trajectory.
        states: `(times, variables)`, what the network predicts.
        system: The equations, or None if the model writes none.
        solution: `(times, variables)`, what the fitted equations predict: better than the network if they have the
            right structure, as a small misfit tells. None if they were not fitted, or cannot be solved so far.
        misfit: Root mean square distance of the fitted solution from the trajectory, in standard deviations of each
            variable; None if there is none.
    """

    times: np.ndarray
    states: np.ndarray
    system: symbolic.System | None
    solution: np.ndarray | None = None
    misfit: float | None = None


def forecast(
    run: str | pathlib.Path,
    times: np.ndarray,
    states: np.ndarray,
    *,
    equation: str | None = None,
    until: float | None = None,
    points: int | None = None,
    refine: bool = True,
) -> Forecast:
    """States behind a trajectory and its equations.

    The times are counted from the first one, since the equations of the families do not depend on time. Equations are
    the best of several likely ones by `prose.integral_residual`.

    Args:
        run: Folder of a run of experiments/prose_ode.py.
        times: Increasing times `(n,)`, at most as many as the model was given in training.
        states: `(n, variables)`, at most as many variables as the model has.
        equation: A guess in Python's notation: one right-hand side in u_0, u_1, ... per variable, with `|` between
            them. Models that were told numbers in training take its numbers for exact: write PLACEHOLDER for those
            that are not known, and all of them count as unknown.
        until: Last time of the forecast, by default as far from the first one as in training.
        points: Number of times, equally spaced from the last given one; by default as many as in training.
        refine: Whether the constants are fitted to the trajectory and the equations solved, by
            `prose.solved_forecast`.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the run is of another experiment, or if anything does not fit its model.
    """
    trained = trained_on(pathlib.Path(run))
    _check(trained, times, states)
    variables = states.shape[1]
    tokens = tokens_of(trained, equation, variables)
    query = _query(trained, times, until, points)
    padded = np.pad(states, ((0, 0), (0, trained.variables - variables)))
    arrays = times - times[0], padded, query - times[0]
    given, known, ahead = (jnp.asarray(one, jnp.float32) for one in arrays)
    writing = prose.Grammar(trained.vocabulary, variables), prose.MeanNumbers(trained.vocabulary)
    predicted, written = _apply(trained.model, given, known, ahead, tokens, *writing, trained.longest)
    found = Forecast(query, np.asarray(predicted)[:, :variables], None)
    system = None if written is None else _equation(trained, np.asarray(written), times, states)
    if system is None or not refine or len(symbolic.parameters(system)) + variables >= states.size:
        return dataclasses.replace(found, system=system)
    guess = None if tokens is None else symbolic.system_from_tokens(trained.vocabulary.decode(np.asarray(tokens)))
    return _solved(found, system, guess, times, states)


@eqx.filter_jit
def _apply(
    model: prose.Prose,
    times: jax.Array,
    states: jax.Array,
    query: jax.Array,
    tokens: jax.Array | None,
    constraint: prose.Grammar,
    numbers: prose.MeanNumbers,
    longest: int,
) -> tuple[jax.Array, jax.Array | None]:
    memory = model.encode(times, states, tokens)
    predicted = model.predict(memory, query)
    if model.symbol_decoder is None:
        return predicted, None
    found = prose.beam(model, memory, constraint, width=_WIDTH, max_tokens=longest, numbers=numbers)
    return predicted, found.tokens


def _equation(trained: Trained, written: np.ndarray, times: np.ndarray, states: np.ndarray) -> symbolic.System | None:
    """The hypothesis that fits best."""
    ranked = prose.reranked(prose.equations(written, trained.vocabulary), prose.integral_residual(times, states))
    return ranked[0].system if ranked else None


def _solved(
    found: Forecast,
    system: symbolic.System,
    guess: symbolic.System | None,
    times: np.ndarray,
    states: np.ndarray,
) -> Forecast:
    """The forecast with fitted equations and their solution."""
    spread = prose.COPIED if prose.copied(system, guess) else _TRUST
    solved = prose.solved_forecast(system, times - times[0], states, found.times - times[0], spread=spread)
    misfit = solved.fit.after if np.isfinite(solved.fit.after) else None
    return dataclasses.replace(found, system=solved.fit.system, solution=solved.states, misfit=misfit)


def _check(trained: Trained, times: np.ndarray, states: np.ndarray) -> None:
    """Refuses a trajectory that the model was not trained for."""
    count, variables = states.shape
    if variables > trained.variables:
        raise ValueError(
            f"The trajectory has {variables} variables, the model takes up to {trained.variables}. Leave some out, or "
            "train with families of as many (see --families of the experiment)."
        )
    if count < 3:
        raise ValueError(f"Expected a trajectory of at least 3 points, got {count}. Give more.")
    if count > trained.inputs:
        raise ValueError(
            f"The trajectory has {count} points, the model takes up to {trained.inputs}. Keep one of "
            f"{-(-count // trained.inputs)} points, or only the beginning."
        )
    for name, values in (("t", times), *((f"u_{i}", states[:, i]) for i in range(variables))):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"{name} of point {row} is {values[row]}, the first being 0. Leave such points out.")
    if not np.all(np.diff(times) > 0):
        row = int(np.argmin(np.diff(times) > 0))
        raise ValueError(
            f"Expected increasing times, got {times[row + 1]} behind {times[row]} at point {row + 1}. Sort the points "
            "by time, and average those of equal times."
        )
    if times[-1] - times[0] > trained.span * (1 + _SLACK):
        raise ValueError(
            f"The trajectory lasts {times[-1] - times[0]:g}, the model was trained with {trained.span:g}. Cut it, or "
            "use another unit of time."
        )


def _query(trained: Trained, times: np.ndarray, until: float | None, points: int | None) -> np.ndarray:
    """The times of the forecast."""
    last = times[0] + trained.end
    until = last if until is None else until
    if not times[-1] < until <= last + _SLACK * trained.end:
        raise ValueError(
            f"Expected a forecast until a time behind {times[-1]:g}, the last given one, and up to {last:g}, as far "
            f"as the model was trained, got {until:g}."
        )
    count = trained.predicted if points is None else points
    if count < 1:
        raise ValueError(f"Expected at least 1 point of the forecast, got {count}.")
    return times[-1] + (until - times[-1]) * np.arange(1, count + 1) / count
