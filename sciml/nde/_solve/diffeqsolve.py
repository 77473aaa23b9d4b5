"""diffrax.diffeqsolve with a penalty."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._heuristics.measures import AbstractMeasure, LocalError
from sciml.nde._heuristics.monitored import Monitored, samples, state_of
from sciml.nde._heuristics.step import Scalar, innermost, unset_tolerances
from sciml.nde._solve.regularisers import AbstractRegulariser, Plan, Problem, Steps, in_tolerances_of


def diffeqsolve(
    terms: PyTree,
    solver: dfx.AbstractSolver,
    t0: Scalar,
    t1: Scalar,
    dt0: Scalar | None,
    y0: PyTree,
    args: PyTree = None,
    *,
    regulariser: AbstractRegulariser | None = None,
    key: PRNGKeyArray | None = None,
    **options: Any,
) -> tuple[dfx.Solution, Float[Array, ""]]:
    """The solution of `diffrax.diffeqsolve`, unchanged bit for bit, and a penalty on the steps that it took.

    The penalty is differentiated with the accepted steps held fixed; rejected steps contribute nothing. If a solve may
    fail, pass `throw=False`: the penalty is then that of the steps up to the failure, and `sol.result` tells what
    happened. A vector field that is NaN or infinite within a rejected step does not change the penalty, but makes every
    gradient through the solve NaN, with or without a penalty; wrap such a field in `Guarded`.

    Args:
        terms: Terms of the equation, as in diffrax.
        solver: Any solver; error penalties need one with an error estimate.
        t0: Start time.
        t1: End time, before or after the start.
        dt0: First step, negative for t1 < t0; None lets an adaptive controller choose it.
        y0: Initial state.
        args: Arguments of the vector field.
        regulariser: A penalty on the steps, for example `0.1 * ErrorPenalty()`, or None. Regularisers that move the
            times or integrate along the solution need `Solve` instead.
        key: Random key for local penalties, which keep one random step.
        **options: `saveat`, `stepsize_controller`, `adjoint`, `max_steps`, `event`, `throw`, ... of diffrax.

    Returns:
        The solution with what `saveat` asked for, and the penalty; 0 without a regulariser.

    Raises:
        ValueError: If the adjoint cannot differentiate the penalty, the controller has no tolerances, the solver has no
            error estimate or no stages for the stiffness, a key is missing, or the regulariser needs `Solve`.
    """
    problem = (terms, solver, t0, t1, dt0, y0, args)
    if regulariser is None:
        sol = dfx.diffeqsolve(*problem, **options)
        return sol, jnp.zeros((), jnp.result_type(sol.t1))
    if options.get("solver_state") is not None:
        raise ValueError(
            "A solve with a penalty starts its own solver state, and solver_state was given. Continue without a "
            "penalty, or continue a solve with Monitored, whose state goes on accumulating."
        )
    ts = jnp.asarray([t0, t1], jnp.result_type(float, t0, t1))
    plan = regulariser.plan(Problem(y0, ts, {}), key)
    if plan.ts is not ts or plan.integrands:
        raise ValueError(
            "Expected a regulariser that measures the steps alone, such as ErrorPenalty(), got one that moves the "
            "times or integrates along the solution. Solve with nde.Solve(regulariser=...), which serves all of them."
        )
    sol, steps = measured_solve(problem, plan, key, options)
    return sol, plan.value(steps, ())


def measured_solve(
    problem: tuple[Any, ...], plan: Plan, key: PRNGKeyArray | None, options: dict[str, Any]
) -> tuple[dfx.Solution, Steps]:
    """The solution of `diffrax.diffeqsolve(*problem, **options)`, with the measures and kept steps of the plan."""
    terms, solver, t0, t1, dt0, y0, args = problem
    options = dict(options)
    controller = options.get("stepsize_controller", dfx.ConstantStepSize())
    is_module = lambda node: isinstance(node, eqx.Module)
    if not jax.tree.leaves((plan.measures, plan.sampling), is_leaf=is_module):
        sol, kept = dfx.diffeqsolve(*problem, **options), (plan.measures, plan.sampling)
        return sol, Steps(*kept, terms, solver, args, controller, jnp.sign(sol.t1 - sol.t0))
    is_measure = lambda node: isinstance(node, AbstractMeasure)
    complete = lambda node: in_tolerances_of(controller, node) if isinstance(node, LocalError) else node
    measures = jax.tree.map(complete, plan.measures, is_leaf=is_measure)
    monitored = Monitored(solver, measures, sampling=plan.sampling, key=key)
    adjoint = _adjoint(options.pop("adjoint", dfx.RecursiveCheckpointAdjoint()), monitored)
    saveat = options.pop("saveat", dfx.SaveAt(t1=True))
    every = eqx.tree_at(lambda s: s.solver_state, saveat, True)
    sol = dfx.diffeqsolve(terms, monitored, t0, t1, dt0, y0, args, saveat=every, adjoint=adjoint, **options)
    direction = jnp.where(sol.t0 <= sol.t1, 1, -1).astype(jnp.result_type(sol.t1))
    stepper = _in_either_mode(_with_tolerances(solver, controller), adjoint)
    state = state_of(sol)
    own = state.inner if saveat.solver_state else None
    steps = Steps(state.measures, samples(sol), terms, stepper, args, controller, direction)
    return eqx.tree_at(lambda s: s.solver_state, sol, own), steps


def _adjoint(adjoint: dfx.AbstractAdjoint, monitored: Monitored) -> dfx.AbstractAdjoint:
    """The adjoint for the monitored solve.

    Raises:
        ValueError: If the adjoint would give a wrong gradient of the penalty.
    """
    if isinstance(adjoint, dfx.ImplicitAdjoint):
        raise ValueError(
            "ImplicitAdjoint differentiates the final state alone and knows no steps, so that no penalty can be taken "
            "beside it. Use RecursiveCheckpointAdjoint, or penalise the measures of one_step at the steady state."
        )
    if not isinstance(adjoint, dfx.BacksolveAdjoint):
        return adjoint
    if monitored.measured_globally:
        raise ValueError(
            "BacksolveAdjoint solves the continuous adjoint equation, which knows no steps: the gradient of a penalty "
            "over all steps would silently be zero. Use RecursiveCheckpointAdjoint or DirectAdjoint, or a local "
            "penalty such as LocalErrorPenalty, which works with this adjoint."
        )
    # The backward solve needs no monitoring.
    return dfx.BacksolveAdjoint(**{"solver": monitored.wrapped, **adjoint.kwargs})


def _with_tolerances(solver: dfx.AbstractSolver, controller: dfx.AbstractStepSizeController) -> dfx.AbstractSolver:
    """The solver with unset tolerances of its root finder taken from the controller, as in `diffrax.diffeqsolve`."""
    names = unset_tolerances(solver)
    if not names or not isinstance(controller, dfx.AbstractAdaptiveStepSizeController):
        return solver
    root_finder = lambda s: innermost(s).root_finder  # pyright: ignore[reportAttributeAccessIssue]
    where = lambda s: [getattr(root_finder(s), name) for name in names]
    return eqx.tree_at(where, solver, [getattr(controller, name) for name in names])


def _in_either_mode(solver: dfx.AbstractSolver, adjoint: dfx.AbstractAdjoint) -> dfx.AbstractSolver:
    """The solver with a loop over stages that supports forward-mode derivatives, if the adjoint uses them."""
    inner = innermost(solver)
    forward = isinstance(adjoint, dfx.DirectAdjoint | dfx.ForwardMode)
    if not forward or not isinstance(inner, dfx.AbstractRungeKutta | dfx.AbstractSRK) or inner.scan_kind is not None:
        return solver
    scan_kind = lambda s: innermost(s).scan_kind  # pyright: ignore[reportAttributeAccessIssue]
    return eqx.tree_at(scan_kind, solver, "bounded", is_leaf=lambda leaf: leaf is None)
