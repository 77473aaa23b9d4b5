"""Equation discovery (SINDy) from trajectories, or from a neural network that was trained on them."""

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

_ROUNDS = 10  # largest number of rounds of term selection; three or four were needed
_LEAST_NOISE = 1e-6  # in standard deviations; the errors of the solver, at a tolerance of 1e-8, are far below


class Discovered(NamedTuple):
    """An equation found in data.

    Attributes:
        system: The right-hand side, one expression per component.
        residual: Root mean square error of the solutions of `system`, in standard deviations of each component.
        noise: Root mean square error of each component, in the unit of the component.
        errors: Standard errors of the constants of `system`, see `symbolic.Refined`.
        regression: The equation after the sparse regression, before terms and constants were fitted by its solutions.
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
    """A sparse equation du/dt = sum of library terms whose solutions agree with the data up to noise.

    1. Regression: `sparse_regression` and `stepwise_regression` choose terms from linear equations for each component,
       by default the weak form.
    2. Selection: starting from either set of terms, the solutions of the equation are fitted to the data by multiple
       shooting (`symbolic.fit_constants`). The fit linearised at its optimum predicts the error for every other set of
       library terms; `stepwise_regression` chooses a set, and its solutions are fitted. This is repeated until the
       information criterion stops decreasing. The better of the two results is kept.
    3. Refinement: all constants, including those inside of terms, are fitted (`symbolic.refine`).

    Noise in the states biases the regression, since it enters the regression matrix. The fit of solutions has no such
    bias: there the noise enters as errors of the observed states.

    Args:
        ts: Increasing times.
        ys: One or several trajectories. The noise should have about the same size relative to each component.
        library: Terms in the variables `u_0`, `u_1`, ... and the time `t`, such as `polynomials(states(2), 3)`.
        segments: Number of segments of each trajectory, see `symbolic.refine`. In `benchmarks/discovery.py` a segment
            is half a period of an oscillation long; for chaotic systems, a fifth of the time in which errors grow
            tenfold.
        equations: Makes the linear equations of the regression from the states.
        thresholds: Thresholds of `sparse_regression`; the best one is chosen.

    Raises:
        ValueError: If the data are not finite or not increasing in time, if they are fewer than the terms, if a term is
            not finite at a state, or if no equation of the regression can be solved over the segments.
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
    """A sparse equation for a vector field, such as a trained network, from its values at given states.

    `sparse_regression` approximates each component of the field by a sum of library terms. The errors of a network are
    systematic rather than random, and the information criterion may add terms to fit them; `thresholds=(0.05,)` drops
    all terms that contribute less than 5 %.

    The same function identifies the unknown part of an equation. With `mechanistic` known and `net` trained in

    >>> def hybrid(t, y, args):
    ...     return mechanistic(t, y, args) + net(t, y, args)

    as `diffrax.ODETerm(hybrid)` or `NeuralODE(hybrid)`, `read_out(net, states, library)` are the terms that
    `mechanistic` lacks; `experiments/lotka_volterra.py` is an example.

    Args:
        field: `(t, y, args) -> values`, a vector of any length.
        states: Where the field is evaluated; they should be covered by its training data, as its own solutions are.
        library: Terms in `u_0`, `u_1`, ... and `t`.
        ts: Times of the states; 0 unless given.
        args: Passed to the field.
        thresholds: Thresholds of `sparse_regression`; the best one is chosen.

    Returns:
        One expression for each entry of `values`.

    Raises:
        ValueError: If states, values or terms are not finite, or there are fewer states than terms.
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
    """Values of the terms at the states, with the terms as the last axis."""
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
    """The right-hand side of the terms with nonzero coefficients; components without any are 0."""
    rows = []
    for column in coefficients.T:
        kept = column != 0
        terms = list(itertools.compress(library, kept))
        rows.append(_sum(column[kept], terms) if terms else symbolic.Integer(0))
    return tuple(rows)


class _Every(NamedTuple):
    """A field with all library terms in all components.

    Attributes:
        field: The field.
        places: Indices of the coefficients, of shape (terms, size), in the constants of the field.
        owner: For each constant (coefficient or inside of a term), the index of its term in the flattened `places`.
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
    """Coefficients (terms, size) of the best terms of the linearised fit, without the constants inside of terms."""
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
    """Coefficients (terms, size) of the set of terms whose solutions have the lowest information criterion."""
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
    """All monomials up to `degree`, from 1 upwards in degree: `polynomials(symbolic.states(3), 2)`.

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
