"""Predictions that keep a tolerance: accepted where a bound says so, corrected by conjugate gradients elsewhere."""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from sciml import pdes
from sciml.grid import Periodic
from sciml.preconditioners import Conductances
from sciml.uq._enclosure import Interval, System, enclose, residual, upper_energy
from sciml.uq._mesh import Mesh
from sciml.uq._problems import AbstractLinear, checked_double, relative, without_mean

_SHARE = 0.8  # of the tolerance, which the recursive residual must meet: the bound is computed afresh afterwards
_RESTARTS, _ESTIMATES = 3, 10  # of iterations that stop by the bound, or by an estimate of the error

Preconditioner = Callable[[Conductances], Callable[[Array], Array]]


class Certificate(eqx.Module):
    """A field with a bound of its error.

    Attributes:
        field: The prediction if it was accepted, else the corrected field; NaN if the tolerance was not met.
        bound: Upper bound of its relative L2 error against the discrete solution; infinite if it was not met.
        iterations: Number of steps of conjugate gradients that were spent.
        accepted: Whether the prediction itself was within the tolerance.
    """

    field: Float[Array | np.ndarray, "*field"]
    bound: Float[Array | np.ndarray, "*batch"]
    iterations: Int[Array | np.ndarray, "*batch"]
    accepted: Bool[Array | np.ndarray, "*batch"]


def least_tolerance(mesh: Mesh) -> float:
    """The relative error that float64 can certify on a mesh, for coefficients of moderate contrast."""
    dimensions = len(mesh.shape)
    gain = math.sqrt(sum(mesh.steepness) / mesh.lowest)
    return 10 * (2 * dimensions + 8) * float(np.finfo(np.float64).eps) * gain


def _check_tolerance(problem: AbstractLinear, tolerance: float) -> None:
    least = least_tolerance(problem.mesh())
    if not tolerance >= least:
        raise ValueError(
            f"Expected a tolerance of at least {least:.1e}, the level of rounding of float64 on "
            f"{' x '.join(map(str, problem.mesh().shape))} unknowns, got {tolerance}. Use a larger tolerance."
        )


def certify(
    problem: AbstractLinear,
    x: Float[Array | np.ndarray, "1 *points"],
    prediction: Float[Array | np.ndarray, "1 *space"],
    tolerance: float,
    *,
    limit: int = 2000,
    preconditioner: Preconditioner | None = None,
) -> Certificate:
    """A field within a tolerance: the prediction if its bound keeps it, else what conjugate gradients make of it.

    They start from the multiple of the prediction that has the smallest energy error, which is never worse than
    starting from zero, are preconditioned by the fast solver, and stop as soon as the bound of `bounds` keeps the
    tolerance. With another preconditioner M they stop by the estimate `r^T M r` of the squared energy error, and go on
    if the bound misses the tolerance. The bound of the result is computed afresh, from a residual that is not
    recursive, and does not depend on M.

    Args:
        problem: The equations.
        x: The input of the network, in physical units.
        prediction: The output of the network, in physical units. If it is not finite, the start is zero.
        tolerance: Largest relative L2 error against the discrete solution.
        limit: Largest number of steps.
        preconditioner: Such as `preconditioners.SymmetricCycle`, for plane problems with a wall that holds a value;
            quicker on large grids and at large contrasts. None for the fast solver.

    Raises:
        ValueError: If the tolerance is below the level of rounding, a field does not live on the grid of the problem,
            float64 is switched off, or the preconditioner does not fit the problem.
        An error of Equinox at run time: If a coefficient is not positive, or the problem has no solution.
    """
    x, prediction = checked_double(x, prediction)
    _check_tolerance(problem, tolerance)
    first = problem.enclose(x, prediction).relative_l2.upper
    accepted = first <= tolerance
    system = problem.system(x)
    v, _ = without_mean(system, problem.unknowns(prediction))
    v = _best_multiple(system, jnp.where(jnp.all(jnp.isfinite(v)), v, 0))
    w, iterations = _corrected(problem, system, v, tolerance, jnp.where(accepted, 0, limit), preconditioner)
    after = _bound(problem, w, enclose(system, w).rest[1])
    met = after <= tolerance
    field = jnp.where(accepted, prediction, jnp.where(met, problem.field(w), jnp.nan))
    return Certificate(field, jnp.where(accepted, first, jnp.where(met, after, jnp.inf)), iterations, accepted)


def _best_multiple(system: System, v: Array) -> Array:
    squared = system.energy(v) ** 2
    factor = system.mesh.inner_product(system.forcing, v) / jnp.where(squared > 0, squared, 1)
    return jnp.where(squared > 0, factor, 0) * v


def _bound(problem: AbstractLinear, w: Array, error: Array) -> Array:
    """The relative bound of the field of `w` from a bound of `|u - w|`."""
    far, size = problem.gains()[1] * error, problem.norm(problem.field(w))
    return relative(Interval(jnp.zeros_like(far), far), Interval(size - far, size + far)).upper


def _conductances(system: System) -> Conductances:
    """The matrix of `Mesh.weighted(system.apply(v))`.

    Raises:
        ValueError: If the problem is not plane, or periodic, or no wall holds a value.
    """
    mesh = system.mesh
    if len(mesh.shape) != 2 or any(axis.periodic for axis in mesh.axes) or mesh.singular:
        raise ValueError(
            f"A preconditioner for conductances needs a plane problem without {Periodic.__name__} walls and with a "
            f"Dirichlet one, got {mesh.grid}. Leave it out: the fast solver knows all walls."
        )
    scaled = []
    for i, (a, axis) in enumerate(zip(system.faces, mesh.axes, strict=True)):
        squares = jnp.asarray(np.expand_dims(axis.scales**2, 1 - i), a.dtype)
        scaled.append(mesh.weighted(a * squares, i))
    x, y = scaled
    wall = mesh.weighted(jnp.full(mesh.shape, system.mass, x.dtype))
    wall = wall.at[0].add(x[0]).at[-1].add(x[-1]).at[:, 0].add(y[:, 0]).at[:, -1].add(y[:, -1])
    return Conductances(x[1:].at[-1].set(0), y[:, 1:].at[:, -1].set(0), None, None, wall)


def _corrected(
    problem: AbstractLinear,
    system: System,
    v: Array,
    tolerance: float,
    limit: Array,
    preconditioner: Preconditioner | None,
) -> tuple[Array, Int[Array, ""]]:
    """The iterate whose bound keeps the tolerance, and the number of steps; restarted if that was missed."""
    mesh = system.mesh
    sizes = mesh.weighted(jnp.ones_like(v))
    apply = lambda p: mesh.weighted(system.apply(p))
    if preconditioner is None:
        precondition = lambda g: system.precondition(g / sizes)
        energy, restarts = lambda state: upper_energy(system, state.r / sizes, state.z, 0.0), _RESTARTS
    else:
        precondition = preconditioner(_conductances(system))
        energy, restarts = lambda state: jnp.sqrt(state.rho * mesh.volume), _ESTIMATES

    def again(carry: tuple) -> tuple:
        u, done, rounds, _, share = carry
        start = pdes.cg_start(u, mesh.weighted(residual(system, u)[0]), precondition)
        error = lambda state: _bound(problem, state.u, energy(state) / jnp.sqrt(system.coercivity))
        proceed = lambda state: ~(error(state) <= share * tolerance) & (done + state.iterations < limit)
        end = jax.lax.while_loop(proceed, lambda state: pdes.cg_step(state, apply, precondition), start)
        bound = _bound(problem, end.u, enclose(system, end.u).rest[1])
        share = _SHARE * share * jnp.clip(tolerance / bound, 1e-3, 1)
        return end.u, done + end.iterations, rounds + 1, bound <= tolerance, share

    unmet = lambda carry: ~carry[3] & (carry[2] < restarts) & (carry[1] < limit)
    zero = jnp.zeros((), int)
    start = (v, zero, zero, jnp.zeros((), bool), jnp.asarray(_SHARE, v.dtype))
    u, iterations, *_ = jax.lax.while_loop(unmet, again, start)
    return u, iterations


def certify_all(
    problem: AbstractLinear,
    x: Float[Array | np.ndarray, "samples 1 *points"],
    predictions: Float[Array | np.ndarray, "samples 1 *space"],
    tolerance: float,
    *,
    size: int = 16,
    preconditioner: Preconditioner | None = None,
) -> Certificate:
    """`certify` for many samples: all are judged, in batches, and those alone that are not accepted are corrected.

    Args:
        problem: The equations.
        x: Inputs.
        predictions: Outputs.
        tolerance: As for `certify`.
        size: Number of samples in a batch. Within a batch all samples take the steps of the slowest.
        preconditioner: As for `certify`.

    Returns:
        NumPy arrays with a leading axis of samples.

    Raises as `certify`.
    """
    _check_tolerance(problem, tolerance)
    bound = _in_batches(functools.partial(_judged, problem), (x, predictions), size)
    accepted = bound <= tolerance
    found = Certificate(np.array(predictions, np.float64), bound, np.zeros(len(bound), np.int64), accepted)
    (open_,) = np.nonzero(~accepted)
    if not len(open_):
        return found
    correct = functools.partial(_certified, problem, tolerance, preconditioner)
    closed = _in_batches(correct, (np.asarray(x)[open_], np.asarray(predictions)[open_]), size)

    def filled(all_: np.ndarray, some: np.ndarray) -> np.ndarray:
        all_ = all_.copy()
        all_[open_] = some
        return all_

    return jax.tree.map(filled, found, closed)


@eqx.filter_jit
def _judged(problem: AbstractLinear, x: Array, predictions: Array) -> Array:
    return jax.vmap(lambda x, v: problem.enclose(*checked_double(x, v)).relative_l2.upper)(x, predictions)


@eqx.filter_jit
def _certified(
    problem: AbstractLinear, tolerance: float, preconditioner: Preconditioner | None, x: Array, predictions: Array
) -> Certificate:
    return jax.vmap(lambda x, v: certify(problem, x, v, tolerance, preconditioner=preconditioner))(x, predictions)


def _in_batches(function: Callable[..., PyTree], inputs: tuple[Any, ...], size: int) -> PyTree:
    """The outputs as NumPy arrays; the last batch is filled up, so that there is one compilation."""
    count = len(inputs[0])
    parts = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(jax.tree.map(np.asarray, function(*(np.asarray(one)[rows] for one in inputs))))
    return jax.tree.map(lambda *found: np.concatenate(found)[:count], *parts)


class Certified(eqx.Module):
    """An operator whose outputs keep a tolerance: `Certified(operator, problem, 1e-2)(x)` is a `Certificate`.

    The operator predicts; a prediction whose bound keeps the tolerance is returned as it is, another one is corrected,
    see `certify`. Only problems `AbstractLinear` have such a guarantee. `jax.vmap` gives batches, in which all samples
    wait for the slowest.

    Args:
        operator: From an input to a prediction, both in physical units.
        problem: The equations that the outputs solve, for `pdes.Darcy` from `problem_of`.
        tolerance: Largest relative L2 error against the discrete solution.
        limit: Largest number of steps of conjugate gradients.
        preconditioner: Of these, as for `certify`.

    Raises:
        ValueError: If the tolerance is below the level of rounding, or the problem has no such bound.
    """

    operator: Callable[[Array], Array]
    problem: AbstractLinear
    tolerance: float = eqx.field(static=True)
    limit: int = eqx.field(static=True, default=2000)
    preconditioner: Preconditioner | None = None

    def __check_init__(self) -> None:
        _check_tolerance(self.problem, self.tolerance)

    def __call__(self, x: Float[Array | np.ndarray, "1 *space"]) -> Certificate:
        """The field for an input, with its bound and what it cost.

        Raises as `certify`.
        """
        prediction, more = self.operator(jnp.asarray(x)), {"limit": self.limit, "preconditioner": self.preconditioner}
        return certify(self.problem, x, prediction, self.tolerance, **more)
