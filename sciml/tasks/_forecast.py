"""Forecast and equations of a trajectory."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import prose, symbolic
from sciml.tasks._guess import Trained, tokens_of

_WIDTH = 4  # hypotheses of the beam search
_SLACK = 1e-6  # of time spans, relative
# Deviation of the relative errors of written constants; chosen by benchmarks/prose_refinement.py
_TRUST = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
    """The forecast of a trajectory, and its equations.

    Attributes:
        times: Times of the forecast, on the clock of the trajectory.
        states: `(times, variables)`, the forecast of the network.
        system: The equations, or None if the model writes none.
        solution: `(times, variables)`, the solution of the fitted equations. It is better than the network if the
            structure is right, which a small misfit indicates. None if the equations were not fitted, or cannot be
            solved until the last time.
        misfit: Root mean square distance of the fitted solution from the trajectory, in standard deviations of each
            variable; None if there is none.
        posterior: How well the trajectory determines the constants, if the equations were solved; it takes their
            structure for right.
        band: The solution with intervals at the level of the options, from `posterior`.
    """

    times: np.ndarray
    states: np.ndarray
    system: symbolic.System | None
    solution: np.ndarray | None = None
    misfit: float | None = None
    posterior: symbolic.Posterior | None = None
    band: symbolic.Band | None = None


@dataclasses.dataclass(frozen=True)
class ForecastOptions:
    """Options of a forecast."""

    equation: str | None = None
    """A guess in Python's notation: one right-hand side in u_0, u_1, ... per variable, with | between them, such as
    "10.0 * u_1 - 10.0 * u_0 | u_0 | -u_2". Models that were trained with known equations take its numbers for exact.
    Write PLACEHOLDER for a number that is not known; all numbers then count as unknown."""
    until: float | None = None
    """Last time of the forecast; by default as far from the first given time as in training."""
    points: int | None = None
    """Number of times of the forecast, equally spaced after the last given one; by default as many as in training."""
    refine: bool = True
    """Whether the constants of the equations are fitted to the trajectory, and the equations solved."""
    level: float = 0.9
    """Probability of the intervals of the fitted constants and of their solution. They take the structure of the
    equations for right, and the noise of the trajectory for independent and normal."""


def forecast(trained: Trained, times: np.ndarray, states: np.ndarray, options: ForecastOptions) -> Forecast:
    """States after a trajectory, and its equations: see `ProseODE.forecast`."""
    _check(trained, times, states)
    if not 0 < options.level < 1:
        raise ValueError(f"Expected a level between 0 and 1, such as 0.9, got {options.level:g}.")
    variables = states.shape[1]
    tokens = tokens_of(trained, options.equation, variables)
    query = _query(trained, times, options.until, options.points)
    padded = np.pad(states, ((0, 0), (0, trained.variables - variables)))
    arrays = times - times[0], padded, query - times[0]
    given, known, ahead = (jnp.asarray(one, jnp.float32) for one in arrays)
    writing = prose.Grammar(trained.vocabulary, variables), prose.MeanNumbers(trained.vocabulary)
    predicted, written = _apply(trained.model, given, known, ahead, tokens, *writing, trained.max_tokens)
    found = Forecast(query, np.asarray(predicted)[:, :variables], None)
    system = None if written is None else _equation(trained, np.asarray(written), times, states)
    if system is None or not options.refine or len(symbolic.parameters(system)) + variables >= states.size:
        return dataclasses.replace(found, system=system)
    guess = None if tokens is None else symbolic.system_from_tokens(trained.vocabulary.decode(np.asarray(tokens)))
    spread = _spread(system, guess)
    return _with_intervals(_solved(found, system, spread, times, states), system, spread, times, states, options.level)


@eqx.filter_jit
def _apply(
    model: prose.Prose,
    times: jax.Array,
    states: jax.Array,
    query: jax.Array,
    tokens: jax.Array | None,
    constraint: prose.Grammar,
    numbers: prose.MeanNumbers,
    max_tokens: int,
) -> tuple[jax.Array, jax.Array | None]:
    memory = model.encode(times, states, tokens)
    predicted = model.predict(memory, query)
    if model.symbol_decoder is None:
        return predicted, None
    found = prose.beam(model, memory, constraint, width=_WIDTH, max_tokens=max_tokens, numbers=numbers)
    return predicted, found.tokens


def _equation(trained: Trained, written: np.ndarray, times: np.ndarray, states: np.ndarray) -> symbolic.System | None:
    """The hypothesis that fits best."""
    ranked = prose.reranked(prose.equations(written, trained.vocabulary), prose.integral_residual(times, states))
    return ranked[0].system if ranked else None


def _spread(system: symbolic.System, guess: symbolic.System | None) -> float:
    """Deviation of the relative errors of written constants: those that were copied from the guess are kept."""
    return prose.COPIED if prose.copied(system, guess) else _TRUST


def _solved(found: Forecast, system: symbolic.System, spread: float, times: np.ndarray, states: np.ndarray) -> Forecast:
    """The forecast with fitted equations and their solution."""
    solved = prose.solved_forecast(system, times - times[0], states, found.times - times[0], spread=spread)
    misfit = solved.fit.after if np.isfinite(solved.fit.after) else None
    return dataclasses.replace(found, system=solved.fit.system, solution=solved.states, misfit=misfit)


def _with_intervals(
    found: Forecast, system: symbolic.System, spread: float, times: np.ndarray, states: np.ndarray, level: float
) -> Forecast:
    """The forecast with the posterior of the constants, given those that were written, if it can be had."""
    if found.solution is None:
        return found
    with jax.enable_x64(True):
        try:
            known = symbolic.posterior(
                system, times - times[0], states, segments=min(prose.SEGMENTS, len(times) - 1), spread=spread
            )
            band = symbolic.linearised_band(known, found.times - times[0], level=level)
        except ValueError:  # too few data for an estimate of the noise, or a solution that ends
            return found
    return dataclasses.replace(found, posterior=known, band=band)


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
    if count > trained.history:
        raise ValueError(
            f"The trajectory has {count} points, the model takes up to {trained.history}. Keep one of "
            f"{-(-count // trained.history)} points, or only the beginning."
        )
    for name, values in (("t", times), *((f"u_{i}", states[:, i]) for i in range(variables))):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"{name} of point {row} is {values[row]}, the first being 0. Leave such points out.")
    if not np.all(np.diff(times) > 0):
        row = int(np.argmin(np.diff(times) > 0))
        raise ValueError(
            f"Expected increasing times, got {times[row + 1]} after {times[row]} at point {row + 1}. Sort the points "
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
            f"Expected a forecast until a time after {times[-1]:g}, the last given one, and up to {last:g}, as far "
            f"as the model was trained, got {until:g}."
        )
    count = trained.horizon if points is None else points
    if count < 1:
        raise ValueError(f"Expected at least 1 point of the forecast, got {count}.")
    return times[-1] + (until - times[-1]) * np.arange(1, count + 1) / count
