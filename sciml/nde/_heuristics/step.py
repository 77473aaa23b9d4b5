"""One numerical step of a solver, with all data that measures need."""

from typing import final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

Scalar = Float[Array, ""] | float | int


@final
class Step(eqx.Module):
    """A step from (t0, y0) to (t1, y1), accepted or not.

    Attributes:
        y_error: The solver's error estimate, shaped like `y1`; None if the solver has none.
        dense_info: Data for the solver's interpolation. For Runge-Kutta methods `dense_info["k"]` is the stages times
            the step, k_i = h f(t0 + c_i h, g_i), along a leading axis.
        solver: The solver that took the step.
        terms: The terms of the equation; within a solve, as wrapped by diffrax so that time increases.
        args: The arguments of the vector field.
        tried: The original step, if this one was made by `without_nonfinite`.
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
        """Whether all entries of the new state and of the error estimate are finite."""
        finite = jax.tree.map(jnp.isfinite, self.y1)
        if self.y_error is not None:
            finite = jax.tree.map(lambda ok, e: ok & jnp.isfinite(e), finite, self.y_error)
        return jnp.all(jnp.array([jnp.all(ok) for ok in jax.tree.leaves(finite)]))

    @property
    def unguarded(self) -> "Step":
        """The original step, finite or not. Cheaper for measures, which must pass its arrays through `inert`."""
        return self if self.tried is None else self.tried

    def inert(self, tree: PyTree) -> PyTree:
        """Arrays with the same values, whose derivatives are zero if `unguarded` is not finite.

        A measure passes the states, errors and stages of `unguarded` through this function before it computes with
        them, so that no NaN enters the gradient. A measure that evaluates the vector field must use the guarded step
        instead, because the parameters of the field do not pass through this function.
        """
        if self.tried is None:
            return tree
        ok = self.tried.finite
        return jax.tree.map(lambda x: _inert_unless(ok, x), tree)


@jax.custom_jvp
def _inert_unless(ok: Bool[Array, ""], x: Array) -> Array:
    """x, with zero derivative unless `ok`."""
    return x


@_inert_unless.defjvp
def _inert_unless_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    ok, x = primals
    return x, jnp.where(ok, tangents[1], 0)


def without_nonfinite(step: Step) -> Step:
    """The step itself, or if it is not finite, a step with y1 = y0 and zero error and stages.

    The backward pass multiplies a rejected step by zero, and 0 * NaN is NaN: everything that is computed from a step
    that may be rejected must be computed from finite numbers.
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

    It is the step that `diffrax.diffeqsolve` takes between these times, without error control. t1 < t0 is allowed,
    except for Brownian paths with Levy areas, whose signs diffrax flips in a solve backwards in time.

    Raises:
        ValueError: If the solver is implicit and its root finder has no tolerances of its own.
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
    """As `one_step`, over `interval` and from a given state of the solver."""
    if unset_tolerances(solver):
        raise ValueError(
            f"{type(innermost(solver)).__name__} takes the tolerances of its root finder from a step size controller, "
            "which a single step does not have. Give them: root_finder=diffrax.VeryChord(rtol=..., atol=..., norm=...)."
        )
    t0, t1 = interval
    y1, y_error, dense_info, _, _ = solver.step(terms, t0, t1, y0, args, solver_state, False)
    return Step(t0, t1, y0, y1, y_error, dense_info, solver, terms, args)


def _promoted(t0: Scalar, t1: Scalar, y0: PyTree) -> tuple[tuple[Array, Array], PyTree]:
    """Times as floating-point scalars of one dtype, and the state in at least that dtype, as in diffrax."""
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
    unset = dfx.with_stepsize_controller_tols(dfx.VeryChord)().rtol  # the marker object has no public name
    return [name for name in ("rtol", "atol", "norm") if getattr(inner.root_finder, name, None) is unset]
