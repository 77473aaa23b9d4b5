"""A batch of solves in one loop: every sample has its own time and step size, all share the parameters."""

import dataclasses
import functools
from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import start_integrals, with_integrals
from sciml.nde._solve.solve import AbstractSolve, Aux, InitialValueProblem, Solve, ignoring_integrals


@final
class Batched(AbstractSolve):
    """Solves for a batch of initial states, every sample with its own time and step size, in one loop over the steps.

    `NeuralODE(field, Batched(Solve()))` takes `y0` of shape `(batch, size)` and returns `(time, batch, size)`. The
    steps are those of `jax.vmap` over the single solves, by the same solver and controller and from the same `dt0` (if
    it is left to the controller it is Hairer's choice here, and always 0.01 in diffrax 0.7.2). But the loop is outside
    of the batch, so that the gradient of the parameters, which belong to all samples, is summed over the batch in one
    matrix product per stage instead of being carried for each sample. Samples that have arrived wait for the slowest.
    Compare `Jointly`, where all samples share one step size.

    If times between the two ends are asked for, the stages of all attempted steps are kept and interpolated after the
    loop, `solve.max_steps` times the memory of a step: choose it not much larger than needed.

    Attributes:
        solve: Solver, adaptive controller, first step size, number of steps. Of its adjoint, which must be a
            `diffrax.RecursiveCheckpointAdjoint`, the number of checkpoints is used.
    """

    solve: Solve

    def solved(self, problem: InitialValueProblem, key: PRNGKeyArray | None) -> tuple[PyTree, Aux]:
        """As in `AbstractSolve`; the batch is the first axis of `y0`; integrals and statistics are per sample.

        Raises:
            ValueError: If the adjoint is another one, or if there is a regulariser.
            EqxRuntimeError: If the times do not increase, or a sample has not arrived after `solve.max_steps` steps.
        """
        adjoint = self.solve.adjoint
        if not isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint):
            raise ValueError(
                f"Batched differentiates by checkpoints, got {type(adjoint).__name__}. Use "
                "diffrax.RecursiveCheckpointAdjoint(), or jax.vmap of a Solve for other adjoints."
            )
        if self.solve.regulariser is not None:
            raise ValueError(
                "Batched has no regulariser. Use Jointly(solve), or jax.vmap of a Solve, for training with one."
            )
        field, args, integrands = problem.field, problem.args, problem.integrands
        ts = eqx.error_if(
            problem.ts, jnp.any(jnp.diff(problem.ts) <= 0), "The times must increase. Sort them and drop duplicates."
        )
        start = jax.vmap(lambda y: start_integrals(field, integrands, ts[0], y, args))(problem.y0)
        terms = diffrax.ODETerm(with_integrals(field, integrands))  # pyright: ignore[reportArgumentType]
        own = dataclasses.replace(self.solve, controller=ignoring_integrals(self.solve.controller))
        (ys, integrals), final = _solved(_Problem(terms, args, own, ts), start, adjoint.checkpoints)
        counts = final.accepted + final.rejected, final.accepted, final.rejected
        names = "num_steps", "num_accepted_steps", "num_rejected_steps"
        return ys, Aux(jnp.zeros((), ts.dtype), integrals, dict(zip(names, counts, strict=True)))


class _Problem(NamedTuple):
    """What the loop does not change."""

    terms: PyTree
    args: PyTree
    solve: Solve
    ts: Array


class _History(NamedTuple):
    """Attempted step k of each sample in row k.

    `reached` is the time up to which it is solved after that attempt, infinite in rows of attempts that did not happen.
    """

    before: Float[Array, "attempts batch"]
    after: Float[Array, "attempts batch"]
    reached: Float[Array, "attempts batch"]
    dense: PyTree


class _State(eqx.Module):
    """What the loop carries: the next step of each sample, and the steps so far."""

    start: Float[Array, " batch"]
    end: Float[Array, " batch"]
    y: PyTree[Array]
    solver: PyTree
    controller: PyTree
    jump: Any
    fine: Bool[Array, " batch"]
    accepted: Int[Array, " batch"]
    rejected: Int[Array, " batch"]
    attempt: Int[Array, ""]
    history: Any


def _solved(problem: _Problem, y0: PyTree, checkpoints: int | None) -> tuple[PyTree, _State]:
    """The states at the times of the problem, time first, and the last state of the loop."""
    solve, ts = problem.solve, problem.ts
    final = eqxi.while_loop(
        lambda state: jnp.any(_active(state, ts[-1])),
        functools.partial(_advance, problem),
        _start(problem, y0),
        max_steps=solve.max_steps,
        kind="checkpointed",
        checkpoints=checkpoints,
        buffers=lambda state: state.history,
    )
    y = eqx.error_if(
        final.y,
        ~jnp.all((final.start >= ts[-1]) & final.fine),
        f"Not all samples of the batch arrived within {solve.max_steps} steps, or a step size became too small. "
        "Increase max_steps, loosen the tolerances, or look for stiffness and for values that are not finite.",
    )
    first, last = (jax.tree.map(lambda a: a[None], one) for one in (y0, y))
    between = [_interpolated(solve, final.history, ts[1:-1])] if final.history is not None else []
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), first, *between, last), final


def _start(problem: _Problem, y0: PyTree) -> _State:
    terms, args, solve, ts = problem
    solver, batch = solve.solver, jax.tree.leaves(y0)[0].shape[0]

    def first(y: PyTree) -> tuple[Array, PyTree, PyTree]:
        order = solver.error_order(terms)
        end, controller_state = solve.controller.init(terms, ts[0], ts[-1], y, solve.dt0, args, solver.func, order)
        end = jnp.minimum(end, ts[-1])
        return end, controller_state, solver.init(terms, ts[0], end, y, args)

    # Controllers keep flags that never change as Python values; here every leaf is an array of the batch.
    expand = lambda leaf: leaf if eqx.is_array(leaf) else jnp.full(batch, leaf)
    end, controller_state, solver_state = jax.tree.map(expand, eqx.filter_vmap(first)(y0))
    zero, start = jnp.zeros(batch, jnp.int32), jnp.full(batch, ts[0])
    state = _State(
        start, end, y0, solver_state, controller_state, None, jnp.ones(batch, bool), zero, zero, jnp.asarray(0), None
    )
    dense, jump = eqx.filter_eval_shape(lambda state: _attempt(problem, state)[2:4], state)
    if not isinstance(jump, bool):
        state = eqx.tree_at(lambda s: s.jump, state, jnp.zeros(batch, bool), is_leaf=lambda leaf: leaf is None)
    if ts.shape[0] > 2:
        rows = lambda one, value: jnp.full((solve.max_steps, *one.shape), value, one.dtype)
        before, after, reached = (rows(start, value) for value in (0.0, 1.0, jnp.inf))
        history = _History(before, after, reached, jax.tree.map(lambda one: rows(one, 0), dense))
        state = eqx.tree_at(lambda s: s.history, state, history, is_leaf=lambda leaf: leaf is None)
    return state


def _active(state: _State, last: Array) -> Array:
    return (state.start < last) & state.fine


def _attempt(problem: _Problem, state: _State) -> tuple:
    """One attempted step of every sample: the results of solver and controller."""
    terms, args, solve, _ = problem

    def one(start, end, y, solver_state, controller_state, jump):
        jump = False if jump is None else jump  # static, so that no first stage is computed again
        y1, error, dense, solver_state, result = solve.solver.step(terms, start, end, y, args, solver_state, jump)
        error = jax.tree.map(lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), error)  # a NaN rejects the step
        order: Any = solve.solver.error_order(terms)
        keep, start, end, jump, controller_state, more = solve.controller.adapt_step_size(
            start, end, y, y1, args, error, order, controller_state
        )
        fine = (diffrax.is_okay(result) | ~keep) & diffrax.is_okay(more)
        return y1, solver_state, dense, jump, keep, start, end, controller_state, fine

    return eqx.filter_vmap(one)(state.start, state.end, state.y, state.solver, state.controller, state.jump)


def _advance(problem: _Problem, state: _State) -> _State:
    last = problem.ts[-1]
    active = _active(state, last)
    y, solver_state, dense, jump, keep, start, end, controller_state, fine = _attempt(problem, state)
    keep = active & keep
    start = jnp.where(active, jnp.minimum(start, last), state.start)
    floor = last
    for _ in range(100):  # as in diffrax: what would leave less than 100 roundings to the end goes to the end
        floor = eqxi.prevbefore(floor)
    end = jnp.where(end > floor, jnp.where(keep, last, start + 0.5 * (last - start)), end)
    history = state.history
    if history is not None:
        row = _History(state.start, state.end, start, dense)
        history = jax.tree.map(lambda one, rows: rows.at[state.attempt].set(one), row, history)
    return _State(
        start,
        jnp.where(active, end, state.end),
        _where(keep, y, state.y),
        _where(keep, solver_state, state.solver),
        _where(active, controller_state, state.controller),
        None if state.jump is None else jnp.where(keep, jump, state.jump),
        jnp.where(active, fine, state.fine),
        state.accepted + keep,
        state.rejected + (active & ~keep),
        state.attempt + 1,
        history,
    )


def _where(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    def select(a: Any, b: Any) -> Any:
        return jnp.where(condition.reshape(condition.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(select, yes, no)


def _interpolated(solve: Solve, history: _History, ts: Array) -> PyTree:
    """States at `ts`, time first, from the stages of the first step of each sample that reaches them."""

    def of_sample(rows: _History) -> PyTree:
        def at(t: Array) -> PyTree:
            row = jax.tree.map(lambda array: array[jnp.searchsorted(rows.reached, t)], rows)
            return solve.solver.interpolation_cls(t0=row.before, t1=row.after, **row.dense).evaluate(t)

        return jax.vmap(at)(ts)

    return jax.vmap(of_sample, in_axes=1, out_axes=1)(history)
