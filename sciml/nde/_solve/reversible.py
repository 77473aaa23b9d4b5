"""Reversible Runge-Kutta steps: exact gradients of the discrete solution, in memory independent of their number."""

from typing import Any, cast, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import start_integrals, with_integrals
from sciml.nde._solve.solve import AbstractSolve, Aux, InitialValueProblem


@final
class Reversible(AbstractSolve):
    r"""A solve with fixed, algebraically reversible steps; use it in place of `Solve`.

    With the increment :math:`\Psi_h(t, x)` of an explicit Runge-Kutta method and a second state z, with z_0 = y_0,

    .. math::
        y_{n+1} = \lambda y_n + (1 - \lambda) z_n + \Psi_h(t_n, z_n), \qquad
        z_{n+1} = z_n - \Psi_{-h}(t_{n+1}, y_{n+1}).

    Both equations can be solved for the old states. The backward pass reconstructs the states up to rounding errors and
    returns the gradient of the discrete solution with respect to the field's parameters, the initial state, `args` and
    the times. It stores the last pair of states and the states at the requested times, however many steps there are.
    The order is that of the Runge-Kutta method; one step costs two Runge-Kutta steps.

    Rounding errors grow by 1 / coupling in each step of the backward pass. On y' = -a y the scheme is stable for steps
    h < (1 - coupling) / a, to leading order; with larger steps y - z grows as fast as y decays. The scheme suits
    intervals of a few decay times 1 / a.

    Source: McCallum, Foster, "Efficient, accurate and stable gradients for neural ODEs", 2024, arXiv:2410.11648.

    Attributes:
        steps: Number of equal steps between two neighbouring times.
        solver: The explicit Runge-Kutta method.
        coupling: lambda, in (0, 1].
    """

    steps: int = eqx.field(static=True)
    solver: dfx.AbstractERK = dfx.Tsit5()
    coupling: float = eqx.field(static=True, default=0.999)

    def __check_init__(self) -> None:
        if not 0 < self.coupling <= 1:
            raise ValueError(f"Expected a coupling in (0, 1], got {self.coupling}. Values near 1, as 0.999, are usual.")
        if self.steps < 1:
            raise ValueError(f"Expected at least one step between two times, got {self.steps}.")

    def solved(self, problem: InitialValueProblem, key: PRNGKeyArray | None) -> tuple[PyTree, Aux]:
        """As in `AbstractSolve`; there are no regularisers, and the penalty is 0."""
        field, ts, args, integrands = problem.field, problem.ts, problem.args, problem.integrands
        state = start_integrals(field, integrands, ts[0], problem.y0, args)
        extended = with_integrals(field, integrands)
        start, restore = ravel_pytree(state)

        def flat(t: Any, x: Array, args: PyTree) -> Array:
            return ravel_pytree(extended(t, restore(x), args))[0].astype(x.dtype)

        # Custom derivatives need all arrays as arguments: those in the closure become arguments here.
        closed = eqx.filter_closure_convert(flat, ts[0], start, args)
        states = _solve((closed, start, ts, args), scheme=self)
        ys, integrals = jax.vmap(restore)(states)
        count = jnp.asarray(self.steps * (ts.shape[0] - 1))
        return ys, Aux(jnp.zeros((), ts.dtype), integrals, {"num_steps": count})


def _increment(scheme: Reversible, problem: PyTree, ends: tuple[Array, Array], at: Any, sign: int, x: Array) -> Array:
    """Psi over one step, forwards (sign 1) or backwards (sign -1), from step number `at` between the times `ends`."""
    field, args = problem
    tableau = cast(dfx.ButcherTableau, scheme.solver.tableau)
    t0, t1 = ends
    h = (t1 - t0) / scheme.steps
    t, h = t0 + at * h, sign * h
    used = int(np.flatnonzero(tableau.b_sol)[-1]) + 1  # in FSAL methods the last stage is for the next step only
    slopes: list[Array] = []
    for c, row in list(zip((0.0, *tableau.c), ((), *tableau.a_lower), strict=True))[:used]:
        slopes.append(field(t + float(c) * h, x + _combined(h, row, slopes, x), args))
    return _combined(h, tableau.b_sol[:used], slopes, x)


def _combined(h: Array, weights: Any, slopes: list[Array], like: Array) -> Array:
    h, total = h.astype(like.dtype), jnp.zeros_like(like)
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            total = total + float(weight) * h * slope
    return total


@eqx.filter_custom_vjp
def _solve(problem: PyTree, *, scheme: Reversible) -> Array:
    return _forward(problem, scheme)[0]


def _forward(problem: PyTree, scheme: Reversible) -> tuple[Array, tuple[Array, Array]]:
    field, start, ts, args = problem
    keep = scheme.coupling

    def interval(pair: tuple[Array, Array], ends: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        def step(n: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
            y, z = pair
            y = keep * y + (1 - keep) * z + _increment(scheme, (field, args), ends, n, 1, z)
            return y, z - _increment(scheme, (field, args), ends, n + 1, -1, y)

        pair = jax.lax.fori_loop(0, scheme.steps, step, pair)
        return pair, pair[0]

    pair, states = jax.lax.scan(interval, (start, start), (ts[:-1], ts[1:]))
    return jnp.concatenate((start[None], states)), pair


@_solve.def_fwd
def _solve_fwd(perturbed: PyTree, problem: PyTree, *, scheme: Reversible) -> tuple[Array, tuple[Array, Array]]:
    return _forward(problem, scheme)


@_solve.def_bwd
def _solve_bwd(
    pair: tuple[Array, Array], cotangent: Array | None, perturbed: PyTree, problem: PyTree, *, scheme: Reversible
) -> PyTree:
    field, start, ts, args = problem
    keep = scheme.coupling
    arrays, rest = eqx.partition((field, args), eqx.is_inexact_array)
    if cotangent is None:
        cotangent = jnp.zeros((ts.shape[0], *start.shape), start.dtype)

    def pulled(arrays: PyTree, ends: tuple[Array, Array], at: Any, sign: int, x: Array) -> tuple[Array, Any]:
        psi = lambda arrays, ends, x: _increment(scheme, eqx.combine(arrays, rest), ends, at, sign, x)
        return jax.vjp(psi, arrays, ends, x)

    def interval(carry: PyTree, row: tuple[tuple[Array, Array], Array]) -> tuple[PyTree, tuple[Array, Array]]:
        ends, arriving = row

        def undo(n: Any, carry: PyTree) -> PyTree:
            y, z, on_y, on_z, on_shared = carry
            at = scheme.steps - 1 - n
            increment, pull = pulled(arrays, ends, at + 1, -1, y)
            z = z + increment
            *first, through_y = pull(-on_z)
            on_y = on_y + through_y
            increment, pull = pulled(arrays, ends, at, 1, z)
            y = (y - (1 - keep) * z - increment) / keep
            *second, through_z = pull(on_y)
            on_z = on_z + (1 - keep) * on_y + through_z
            return y, z, keep * on_y, on_z, jax.tree.map(lambda *parts: sum(parts), on_shared, first, second)

        y, z, on_y, on_z, on_arrays = carry
        none = jax.tree.map(jnp.zeros_like, ends)
        start = (y, z, on_y + arriving, on_z, [on_arrays, none])
        y, z, on_y, on_z, (on_arrays, on_ends) = jax.lax.fori_loop(0, scheme.steps, undo, start)
        return (y, z, on_y, on_z, on_arrays), on_ends

    nothing = jnp.zeros_like(start)
    carry = (*pair, nothing, nothing, jax.tree.map(jnp.zeros_like, arrays))
    rows = ((ts[:-1], ts[1:]), cotangent[1:])
    (_, _, on_y, on_z, (on_field, on_args)), on_ends = jax.lax.scan(interval, carry, rows, reverse=True)
    on_ts = jnp.zeros_like(ts).at[:-1].add(on_ends[0]).at[1:].add(on_ends[1])
    return on_field, on_y + on_z + cotangent[0], on_ts, on_args
