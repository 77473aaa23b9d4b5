"""One numerical step of a solver, with all that a measure may look at."""

from typing import final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

Scalar = Float[Array, ""] | float | int


@final
class Step(eqx.Module):
    """A step from (t0, y0) to (t1, y1), taken or only tried.

    Attributes:
        y_error: The solver's error estimate, shaped like `y1`; None if the solver has none.
        dense_info: What the solver hands to its interpolation. For Runge-Kutta methods `dense_info["k"]` are the stages
            times the step, k_i = h f(t0 + c_i h, g_i), along a leading axis.
        solver: The solver that took the step.
        terms: The terms that it was given; within a solve diffrax has wrapped them so that time increases.
        args: The arguments of the vector field.
        tried: If `without_nonfinite` made this step, the one it was made of.
    """

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    y0: PyTree
    y1: PyTree
    y_error: PyTree
    dense_info: dict[str, PyTree]
    solver: dfx.AbstractSolver
    terms: PyTree
    args: PyTree
    tried: "Step | None" = None

    @property
    def dt(self) -> Float[Array, ""]:
        """The length |t1 - t0| of the step."""
        return jnp.abs(self.t1 - self.t0)

    @property
    def finite(self) -> Bool[Array, ""]:
        """Whether neither the new state nor the error estimate holds a NaN or an infinity."""
        finite = jax.tree.map(jnp.isfinite, self.y1)
        if self.y_error is not None:
            finite = jax.tree.map(lambda ok, e: ok & jnp.isfinite(e), finite, self.y_error)
        return jnp.all(jnp.array([jnp.all(ok) for ok in jax.tree.leaves(finite)]))

    @property
    def unguarded(self) -> "Step":
        """The step as the solver took it, finite or not: less work for a measure, which differentiates it `inert`."""
        return self if self.tried is None else self.tried

    def inert(self, tree: PyTree) -> PyTree:
        """Arrays with the same values, through which nothing is differentiated if `unguarded` is not finite.

        A measure passes the states, errors and stages through it with which it goes on to compute, so that no nan comes
        back; one that evaluates the vector field, whose parameters are not among them, uses the guarded step instead.
        """
        if self.tried is None:
            return tree
        ok = self.tried.finite
        return jax.tree.map(lambda x: _inert_unless(ok, x), tree)


@jax.custom_jvp
def _inert_unless(ok: Bool[Array, ""], x: Array) -> Array:
    """x, whose derivative is zero unless `ok`."""
    return x


@_inert_unless.defjvp
def _inert_unless_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    ok, x = primals
    return x, jnp.where(ok, tangents[1], 0)


def without_nonfinite(step: Step) -> Step:
    """`step`, with y1 = y0 and zeros for error and stages if the step is not finite.

    A rejected step is multiplied by zero on the way back, and 0 * nan is nan: what is computed from a step that may be
    rejected must be computed from finite numbers.
    """
    ok = step.finite
    either = lambda new, old: jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    new = (
        either(step.y1, step.y0),
        either(step.y_error, zeros(step.y_error)),
        either(step.dense_info, zeros(step.dense_info)),
        step,
    )
    where = lambda s: (s.y1, s.y_error, s.dense_info, s.tried)
    return eqx.tree_at(where, step, new, is_leaf=lambda leaf: leaf is None)


def one_step(
    terms: PyTree, solver: dfx.AbstractSolver, t0: Scalar, t1: Scalar, y0: PyTree, args: PyTree = None
) -> Step:
    """The single step of `solver` from (t0, y0) to t1, differentiable in `terms`, `y0` and `args`.

    It is the step that `diffrax.diffeqsolve` takes between these times, without error control. t1 < t0 is allowed; a
    Brownian path with Levy areas is the exception, whose signs diffrax turns around in a solve backwards in time.

    Raises:
        ValueError: If the solver is implicit and waits for the tolerances of a step size controller.
    """
    (t0, t1), y0 = _promoted(t0, t1, y0)
    return take(terms, solver, (t0, t1), y0, args, solver.init(terms, t0, t1, y0, args))


def take(
    terms: PyTree,
    solver: dfx.AbstractSolver,
    interval: tuple[Float[Array, ""], Float[Array, ""]],
    y0: PyTree,
    args: PyTree,
    solver_state: PyTree,
) -> Step:
    """The step over `interval` from a given state of the solver."""
    if unset_tolerances(solver):
        raise ValueError(
            f"{type(innermost(solver)).__name__} takes the tolerances of its root finder from a step size controller, "
            "which a single step does not have. Give them: root_finder=diffrax.VeryChord(rtol=..., atol=..., norm=...)."
        )
    t0, t1 = interval
    y1, y_error, dense_info, _, _ = solver.step(terms, t0, t1, y0, args, solver_state, False)
    return Step(t0, t1, y0, y1, y_error, dense_info, solver, terms, args)


def _promoted(t0: Scalar, t1: Scalar, y0: PyTree) -> tuple[tuple[Array, Array], PyTree]:
    """Times as floating-point scalars of one type, and a state of at least that type, as in `diffrax.diffeqsolve`."""
    given = jnp.result_type(t0, t1)
    time = given if jnp.issubdtype(given, jnp.floating) else jnp.result_type(float)
    y0 = jax.tree.map(lambda y: jnp.asarray(y, jnp.result_type(y, time)), y0)
    return (jnp.asarray(t0, time), jnp.asarray(t1, time)), y0


def innermost(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """The solver inside of all wrappers such as `diffrax.HalfSolver`."""
    while isinstance(solver, dfx.AbstractWrappedSolver):
        solver = solver.solver
    return solver


def unset_tolerances(solver: dfx.AbstractSolver) -> list[str]:
    """Which of rtol, atol and norm an implicit solver leaves to the step size controller."""
    inner = innermost(solver)
    if not isinstance(inner, dfx.AbstractImplicitSolver):
        return []
    unset = dfx.with_stepsize_controller_tols(dfx.VeryChord)().rtol  # the mark itself has no public name
    return [name for name in ("rtol", "atol", "norm") if getattr(inner.root_finder, name, None) is unset]
