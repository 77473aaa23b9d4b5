"""Equations read from trajectories, or from a network that was trained on them."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import symbolic
from sciml.nde._discovery.regression import (
    THRESHOLDS,
    WEAK_FORM,
    AbstractEquations,
    information,
    sparse_regression,
    stepwise_regression,
)

_ROUNDS = 10  # of the selection of terms; three or four were needed
_LEAST_NOISE = 1e-6  # in standard deviations: what the solver's tolerance of 1e-8 leaves far below


class Discovered(NamedTuple):
    """An equation found in data.

    Attributes:
        system: One expression per component.
        residual: Root mean square error of its solutions in standard deviations of each component.
        noise: Root mean square error of each component in its own unit.
        errors: Standard errors of the constants of `system`, see `symbolic.Refined`.
        regression: The equation before its terms and constants were judged by its solutions.
    """

    system: symbolic.System
    residual: float
    noise: Float[np.ndarray, " size"]
    errors: Float[np.ndarray, " constants"]
    regression: symbolic.System


def discover(
    ts: Float[Array | np.ndarray, " times"],
    ys: Float[Array | np.ndarray, "*axes size"],
    library: Sequence[symbolic.AbstractExpression],
    *,
    segments: int,
    equations: AbstractEquations = WEAK_FORM,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Discovered:
    """A sparse equation du/dt = sum of terms of the library whose solutions are the data up to noise.

    1. `sparse_regression` and `stepwise_regression` on the equations of each component, by default the weak form.
    2. With the terms of either, solutions by multiple shooting are fitted to the data
       (`symbolic.fit_constants`). The problem linearised there tells for every set of terms of the library, in the
       present equation or not, how well it would do; `stepwise_regression` chooses one, and the solutions are fitted
       again, until the information criterion does not fall any more. The better end of the two is taken.
    3. All constants, those inside of terms too, are refined (`symbolic.refine`).

    Solutions see the noise as it is, on the states; the regression sees it on its matrix and is biased by it.

    Args:
        ts: Increasing times.
        ys: One trajectory or several, with noise of about one size relative to each component.
        library: Terms in the variables `u_0`, `u_1`, ... and the time `t`, such as `polynomials(states(2), 3)`.
        segments: Number of pieces of each trajectory, see `symbolic.refine`. Those of `benchmarks/discovery.py` are
            half a period of an oscillation long, and a fifth of the time in which errors of a chaotic one grow tenfold.
        equations: From states to linear equations.
        thresholds: Of the regression; the best is chosen.

    Raises:
        ValueError: If the data are not finite or not increasing in time, if they are fewer than the terms, if a term is
            not finite at a state, or if no equation of the regression can be solved over the pieces.
    """
    times, states = symbolic.check_trajectories(ts, ys)
    size = states.shape[-1]
    columns = _columns(library, np.broadcast_to(times, states.shape[:2]), states)
    matrix, targets = equations(times, states, columns)
    regression = np.stack([sparse_regression(matrix, target, thresholds) for target in targets.T], axis=1)
    chosen = np.stack([stepwise_regression(matrix, target) for target in targets.T], axis=1)
    pieces = symbolic.cut(times, states, segments)
    coefficients = _selected(_with_every_term(library, size), (regression, chosen), pieces)
    refined = symbolic.refine(_system(library, coefficients), times, states, segments=segments)
    return Discovered(refined.system, refined.after, refined.noise, refined.errors, _system(library, regression))


def read_out(
    field: Callable[[Any, Any, Any], Array],
    states: Float[Array | np.ndarray, "samples size"],
    library: Sequence[symbolic.AbstractExpression],
    *,
    ts: Float[Array | np.ndarray, " samples"] | None = None,
    args: Any = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> symbolic.System:
    """A sparse equation with the values of a field, such as a trained network, at given states.

    Each component of the field becomes a sum of terms of the library by `sparse_regression`. The errors of a
    network are not noise, and the information criterion takes what is systematic in them for terms:
    `thresholds=(0.05,)` leaves out all terms that contribute less than 5 %.

    The unknown part of an equation is read out in the same way. With `mechanistic` known and `net` trained in

    >>> def hybrid(t, y, args):
    ...     return mechanistic(t, y, args) + net(t, y, args)

    as `diffrax.ODETerm(hybrid)` or `NeuralODE(hybrid)`, `read_out(net, states, library)` are the terms that
    `mechanistic` lacks; `experiments/lotka_volterra.py` is an example.

    Args:
        field: `(t, y, args) -> values`, as many as it likes.
        states: Where it is evaluated: states that it was trained on, such as its own solutions.
        library: Terms in `u_0`, `u_1`, ... and `t`.
        ts: Times of the states, 0 unless given.
        args: Passed to the field.
        thresholds: The best is chosen.

    Raises:
        ValueError: If states or values are not finite, or there are fewer states than terms.
    """
    points = jnp.asarray(states, float)
    times = jnp.zeros(points.shape[0], points.dtype) if ts is None else jnp.asarray(ts, points.dtype)
    values = np.asarray(eqx.filter_jit(jax.vmap(lambda t, y: field(t, y, args)))(times, points), np.float64)
    if not (np.all(np.isfinite(values)) and np.all(np.isfinite(points))):
        raise ValueError("Expected finite states and finite values of the field there. Leave the others out.")
    columns = _columns(library, np.asarray(times, np.float64), np.asarray(points, np.float64))
    coefficients = [sparse_regression(columns, target, thresholds) for target in values.T]
    return _system(library, np.stack(coefficients, axis=1))


def _columns(library: Sequence[symbolic.AbstractExpression], times: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Values of the terms on a new last axis."""
    if states[..., 0].size < len(library):
        raise ValueError(
            f"{len(library)} terms cannot be told apart by {states[..., 0].size} states. Use more data or fewer terms."
        )
    names = [variable.name for variable in symbolic.states(states.shape[-1])]
    values = {"t": times} | {name: states[..., i] for i, name in enumerate(names)}
    columns = np.moveaxis(symbolic.evaluate_system(library, values, np), 0, -1)
    for term, column in zip(library, np.moveaxis(columns, -1, 0), strict=True):
        if not np.all(np.isfinite(column)):
            raise ValueError(f"The term {symbolic.to_text(term)} is not finite at all states. Leave it out.")
    return columns


def _term(coefficient: float, term: symbolic.AbstractExpression) -> symbolic.AbstractExpression:
    number = symbolic.Real(float(coefficient))
    return number if term == symbolic.Integer(1) else number * term


def _sum(coefficients: np.ndarray, library: Sequence[symbolic.AbstractExpression]) -> symbolic.AbstractExpression:
    parts = [_term(c, term) for c, term in zip(coefficients, library, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _system(library: Sequence[symbolic.AbstractExpression], coefficients: np.ndarray) -> symbolic.System:
    """The terms whose coefficients are not zero; 0 if there are none."""
    rows = []
    for column in coefficients.T:
        kept = column != 0
        terms = list(itertools.compress(library, kept))
        rows.append(_sum(column[kept], terms) if terms else symbolic.Integer(0))
    return tuple(rows)


class _Every(NamedTuple):
    """A field with all terms in all components.

    Attributes:
        field: The field.
        places: Where the coefficients (terms, size) are in its constants.
        owner: For each constant, in or before a term, the number of the coefficient in the flattened `places`.
    """

    field: symbolic.VectorField
    places: np.ndarray
    owner: np.ndarray


def _with_every_term(library: Sequence[symbolic.AbstractExpression], size: int) -> _Every:
    each = np.array([1 + len(symbolic.parameters((term,))) for term in library])
    places = (np.cumsum(each) - each)[:, None] + each.sum() * np.arange(size)
    owner = np.concatenate([np.repeat(np.arange(len(library)), each) * size + i for i in range(size)])
    return _Every(symbolic.VectorField([_sum(np.zeros(len(library)), library)] * size), places, owner)


def _proposed(now: symbolic.FittedConstants, every: _Every) -> np.ndarray:
    """Coefficients (terms, size) of the best terms in the linearised problem, constants inside of terms eliminated."""
    places = every.places.reshape(-1)
    present = now.constants[places]
    inside = np.setdiff1d(np.arange(len(now.constants)), places)
    inside = inside[(present != 0)[every.owner[inside]]]
    jacobian = now.jacobian[:, places]
    rows = np.concatenate((jacobian, (jacobian @ present - now.residual)[:, None]), axis=1)
    basis = np.linalg.qr(now.jacobian[:, inside])[0]
    rows = rows - basis @ (basis.T @ rows)
    found = stepwise_regression(rows[:, :-1], rows[:, -1], present != 0, count=now.count, floor=_LEAST_NOISE)
    return found.reshape(every.places.shape)


def _selected(every: _Every, starts: Sequence[np.ndarray], pieces: symbolic.Pieces) -> np.ndarray:
    """Coefficients with the terms whose solutions have the lowest information criterion."""
    places = every.places

    def fitted(
        coefficients: np.ndarray, pieces: symbolic.Pieces, earlier: symbolic.FittedConstants | None = None
    ) -> symbolic.FittedConstants:
        constants = np.array(every.field.constants if earlier is None else earlier.constants, np.float64)
        constants[places] = coefficients
        field = eqx.tree_at(lambda one: one.constants, every.field, jnp.asarray(constants, float))
        free = (coefficients.reshape(-1) != 0)[every.owner]
        return symbolic.fit_constants(
            field, pieces, free=free, initial_states=None if earlier is None else earlier.initial_states
        )

    def criterion(one: symbolic.FittedConstants) -> float:
        return information(one.squares, one.count, int(np.count_nonzero(one.constants[places])), _LEAST_NOISE)

    def descended(now: symbolic.FittedConstants, pieces: symbolic.Pieces) -> symbolic.FittedConstants:
        for _ in range(_ROUNDS):
            proposal = _proposed(now, every)
            if np.array_equal(proposal != 0, now.constants[places] != 0):
                break
            new = fitted(proposal, pieces, now)
            if not criterion(new) < criterion(now):
                break
            now = new
        return now

    different = {(start != 0).tobytes(): start for start in starts}
    found = [one for one in (fitted(start, pieces) for start in different.values()) if np.isfinite(one.squares)]
    if not found:
        raise ValueError(
            "No equation of the regression could be solved over the pieces. Use more segments, or fewer terms."
        )
    best = min(found, key=criterion)
    deviation = np.asarray(pieces.scale, np.float64)
    relative = np.maximum(best.noise / deviation, _LEAST_NOISE)
    scale = deviation * relative / np.sqrt(np.mean(relative**2))
    pieces = dataclasses.replace(pieces, scale=jnp.asarray(scale, float))
    ends = [descended(fitted(one.constants[places], pieces, one), pieces) for one in found]
    return min(ends, key=criterion).constants[places]


def polynomials(variables: Sequence[symbolic.AbstractExpression], degree: int) -> symbolic.System:
    """1 and all products of up to `degree` variables, the lower degrees first: `polynomials(symbolic.states(3), 2)`.

    Raises:
        ValueError: If the degree is negative.
    """
    if degree < 0:
        raise ValueError(f"Expected a degree of 0 or more, got {degree}.")
    terms = [symbolic.as_expression(1)]
    for order in range(1, degree + 1):
        terms += [_monomial(factors) for factors in itertools.combinations_with_replacement(variables, order)]
    return tuple(terms)


def _monomial(factors: Sequence[symbolic.AbstractExpression]) -> symbolic.AbstractExpression:
    powers = [(base, len(list(same))) for base, same in itertools.groupby(factors)]
    return symbolic.product(*(base if exponent == 1 else base**exponent for base, exponent in powers))


def sines(variables: Sequence[symbolic.AbstractExpression]) -> symbolic.System:
    """Sine and cosine of each variable."""
    return tuple(function(variable) for variable in variables for function in (symbolic.sin, symbolic.cos))
