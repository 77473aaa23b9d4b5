"""The solve configuration of all models: solver, step size controller, adjoint and regulariser."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._heuristics.measures import DirectionalStiffness, LocalError, Stiffness
from sciml.nde._solve.diffeqsolve import measured_solve
from sciml.nde._solve.integrals import (
    Field,
    Integrand,
    JointField,
    mapped,
    start_integrals,
    state_norm,
    with_integrals,
)
from sciml.nde._solve.regularisers import AbstractRegulariser, Plan, Problem


@final
class Aux(eqx.Module):
    """What a solve returns in addition to the states.

    Attributes:
        penalty: Value of `Solve.regulariser`, to be added to the loss with a coefficient; 0 without a regulariser.
        integrals: Values of the running integrals at the times of the solution; 0 at the first time.
        stats: Step counts: `num_steps`, and (not from `Reversible`) `num_accepted_steps` and `num_rejected_steps`.
    """

    penalty: Float[Array, ""]
    integrals: dict[str, Array]
    stats: dict[str, Any]


@final
class InitialValueProblem(eqx.Module):
    """dy/dt = field(t, y, args) from y0 at `ts[0]`, with running integrals along the solution."""

    field: Field
    y0: PyTree
    ts: Float[Array, " times"]
    args: PyTree
    integrands: dict[str, Integrand]


class AbstractSolve(eqx.Module):
    """Solves dy/dt = field(t, y, args) from y0 at `ts[0]` and returns the states at all times `ts`, including y0."""

    def __call__(
        self,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[PyTree, Aux]:
        """The states, with time as their first axis, and an `Aux` with penalty, integrals and statistics.

        Args:
            field: Derivative of the state, `(t, y, args) -> dy/dt`. Every adjoint differentiates the parameters of an
                Equinox module; `diffrax.BacksolveAdjoint` does not differentiate those captured in a closure.
            y0: State at `ts[0]`.
            ts: At least two times, increasing or decreasing.
            args: Passed to the field.
            integrands: Running integrals, see `with_integrals`. They do not change the steps.
            key: Random key for a regulariser that needs one.

        Raises:
            ValueError: If there are fewer than two times, and in the cases of `solved`.
        """
        problem = InitialValueProblem(field, y0, _at_least_two(ts), args, dict(integrands or {}))
        return self.solved(problem, key)

    @abc.abstractmethod
    def solved(self, problem: InitialValueProblem, key: PRNGKeyArray | None) -> tuple[PyTree, Aux]:
        """Solves a problem that has at least two times; the results are those of `__call__`."""


@final
class Solve(AbstractSolve):
    """A solve by diffrax: `Solve(diffrax.Tsit5(), diffrax.PIDController(rtol=1e-7, atol=1e-7))`.

    Tolerances are Python numbers: new values trigger a new compilation.

    A regulariser acts in training only. Methods of models that return an `Aux` apply it and return its value as
    `aux.penalty`; methods that return values alone are for prediction and never apply it. For predictions that need an
    `Aux`, `regularised(model, None)` removes it.

    Attributes:
        solver: Any diffrax solver.
        controller: Step size controller.
        adjoint: How gradients are computed; the default differentiates the steps and recomputes them from checkpoints,
            of which it keeps at most 64 unless it is given another number.
        dt0: First step size, which `diffrax.ConstantStepSize` keeps; None lets an adaptive controller choose it.
        max_steps: Largest number of steps; an error is raised if the solve needs more.
        regulariser: Makes the learned equation cheap to solve: `ErrorPenalty()`, `StiffnessPenalty()`,
            `LocalErrorPenalty()`, `FreshErrorPenalty()`, `Steer(0.5)`, `TayNODE(2)`, `RNODE()`, sums and multiples of
            these, or None.
    """

    solver: dfx.AbstractSolver = dfx.Tsit5()
    controller: dfx.AbstractStepSizeController = dfx.PIDController(rtol=1e-5, atol=1e-5)
    adjoint: dfx.AbstractAdjoint = dfx.RecursiveCheckpointAdjoint()
    dt0: float | None = None
    max_steps: int = eqx.field(static=True, default=4096)
    regulariser: AbstractRegulariser | None = None

    def solved(self, problem: InitialValueProblem, key: PRNGKeyArray | None) -> tuple[PyTree, Aux]:
        """As in `AbstractSolve`; raises the errors of `run`."""
        term = dfx.ODETerm(problem.field)  # pyright: ignore[reportArgumentType]
        return self.run(term, problem.y0, problem.ts, problem.args, integrands=problem.integrands, key=key)

    def run(
        self,
        terms: dfx.AbstractTerm | Callable[[Array], dfx.AbstractTerm],
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[PyTree, Aux]:
        """Solves for any diffrax terms, for example with controls or noise; the results are those of `__call__`.

        Args:
            terms: The terms, or a function from the times of the solve to the terms (STEER moves the times).
            y0: State at `ts[0]`.
            ts: At least two times.
            args: Passed to the terms.
            integrands: Running integrals along a `diffrax.ODETerm`, the only term or the first of a `MultiTerm`.
            key: Random key for a regulariser that needs one.

        Raises:
            ValueError: If there are integrals and the first term is no `diffrax.ODETerm`, or the norm of the controller
                cannot exclude the integrals; if the regulariser needs a key and there is none, or the adjoint cannot
                differentiate it.
        """
        own = dict(integrands or {})
        plan = Plan(_at_least_two(ts), lambda steps, integrals: jnp.zeros((), ts.dtype))
        if self.regulariser is not None:
            plan = self.regulariser.plan(Problem(y0, plan.ts, own), key)
        ts = plan.ts
        if not isinstance(terms, dfx.AbstractTerm):
            terms = terms(ts)
        names = [f"regulariser {number}" for number in range(len(plan.integrands))]
        single = isinstance(terms, dfx.ODETerm) and isinstance(terms.vector_field, JointField)
        added = map(mapped, plan.integrands) if single else plan.integrands
        every = own | dict(zip(names, added, strict=True))
        state, controller = y0, self.controller
        if names:
            plan = plan._replace(measures=_without(names, plan.measures))
        if every:
            terms, state = _beside_integrals(terms, every, ts[0], y0, args)
            controller = ignoring_integrals(controller)
        adjoint = _with_few_checkpoints(self.adjoint, self.max_steps)
        options = {"stepsize_controller": controller, "adjoint": adjoint, "max_steps": self.max_steps}
        equation = (terms, self.solver, ts[0], ts[-1], self.dt0, state, args)
        solution, steps = measured_solve(equation, plan, key, {"saveat": dfx.SaveAt(ts=ts), **options})
        ys, integrals = cast(PyTree, solution.ys) if every else (solution.ys, {})
        penalty = plan.value(steps, tuple(integrals[name][-1] for name in names))
        counts = {name: solution.stats[name] for name in ("num_steps", "num_accepted_steps", "num_rejected_steps")}
        return ys, Aux(penalty, {name: integrals[name] for name in own}, counts)


_CHECKPOINTS = 64
"""Up to 2,080 steps, with 64 checkpoints no step is computed more than twice again.

Their memory is that of the largest number of steps and is written whether they are taken or not: with the 90 of diffrax
for 4,096 steps, gradients of short solves of large batches take longer."""


def _with_few_checkpoints(adjoint: dfx.AbstractAdjoint, max_steps: int) -> dfx.AbstractAdjoint:
    """The adjoint with a number of checkpoints, if it has none and the steps are many."""
    if not isinstance(adjoint, dfx.RecursiveCheckpointAdjoint) or adjoint.checkpoints is not None:
        return adjoint
    many = max_steps >= _CHECKPOINTS * (_CHECKPOINTS + 1) // 2
    return dfx.RecursiveCheckpointAdjoint(checkpoints=_CHECKPOINTS) if many else adjoint


def regularised(model: Any, regulariser: AbstractRegulariser | None) -> Any:
    """A copy of the model in which every `Solve` has this regulariser, or none for None.

    `loss = task(regularised(model, R)) + coefficient * aux.penalty` trains a model defined without a regulariser.

    Raises:
        ValueError: If the model has no `Solve` that could have a regulariser.
    """
    is_solve = lambda node: isinstance(node, Solve)
    if regulariser is not None and not any(map(is_solve, jax.tree.leaves(model, is_leaf=is_solve))):
        raise ValueError(
            f"Expected a model with a Solve, got a {type(model).__name__} without one: Reversible has no regulariser. "
            "Solve with Solve(...), or Jointly(Solve(...)) for a batch."
        )
    change = lambda node: dataclasses.replace(node, regulariser=regulariser) if is_solve(node) else node
    return jax.tree.map(change, model, is_leaf=is_solve)


@final
class Jointly(AbstractSolve):
    """Solves a batch of initial states as one joint state: one solve, in which the field is mapped over the batch.

    `NeuralODE(field, Jointly(Solve()))` takes `y0` of shape `(batch, size)` and returns `(time, batch, size)`; all
    samples share the steps. `jax.vmap(NeuralODE(field, Solve()), (0, None))` returns `(batch, time, size)`; each sample
    has its own steps. The joint solve has the cheaper gradient in the field's parameters, because the backward pass
    carries it once for the batch and not once per sample. The controller's default norm averages over the batch, so
    that a hard sample may exceed the tolerance: use `diffrax.PIDController(..., norm=PerSampleMax())` where that
    matters.

    Integrals and log densities have one value per sample. A Hutchinson probe has the shape of the batch. Times and
    `args` are shared. Penalty and statistics are those of the joint solve.

    Attributes:
        solve: Solves the joint equation; its regulariser applies to the whole batch.
    """

    solve: AbstractSolve

    def solved(self, problem: InitialValueProblem, key: PRNGKeyArray | None) -> tuple[PyTree, Aux]:
        """As in `AbstractSolve`; the leading axis of every leaf of `y0` is the batch."""
        integrands = {name: mapped(integrand) for name, integrand in problem.integrands.items()}
        joint = dataclasses.replace(problem, field=JointField(problem.field), integrands=integrands)
        return self.solve.solved(joint, key)


def ignoring_integrals(controller: dfx.AbstractStepSizeController) -> dfx.AbstractStepSizeController:
    """The controller with a norm that ignores the running integrals, so that they do not change the steps.

    Raises:
        ValueError: If the controller is not a PIDController, ClipStepSizeController, ConstantStepSize or StepTo.
    """
    if isinstance(controller, dfx.PIDController):
        return dataclasses.replace(controller, norm=state_norm(controller.norm))
    if isinstance(controller, dfx.ClipStepSizeController):
        return eqx.tree_at(lambda c: c.controller, controller, ignoring_integrals(controller.controller))
    if isinstance(controller, dfx.ConstantStepSize | dfx.StepTo):
        return controller
    raise ValueError(
        "Expected a diffrax PIDController, ClipStepSizeController, ConstantStepSize or StepTo, got "
        f"{type(controller).__name__}, whose norm would see the running integrals. Solve without integrals."
    )


def _at_least_two(ts: Float[Array, " times"]) -> Float[Array, " times"]:
    if ts.shape[0] < 2:
        raise ValueError(f"Expected at least two times, the first being that of the initial state, got {ts.shape[0]}.")
    return ts


@final
class _NormWithout(eqx.Module):
    """A norm that ignores the running integrals with the given names."""

    norm: Callable[[PyTree], Any]
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: PyTree) -> Any:
        y, integrals = state
        return self.norm((y, {name: one for name, one in integrals.items() if name not in self.names}))


def _without(names: list[str], measures: PyTree) -> PyTree:
    """Measures that ignore the integrals of regularisers: a sum of regularisers has the sum of their values."""
    is_measure = lambda node: isinstance(node, LocalError | Stiffness | DirectionalStiffness)
    blind = lambda m: dataclasses.replace(m, norm=_NormWithout(m.norm, tuple(names))) if is_measure(m) and m.norm else m
    return jax.tree.map(blind, measures, is_leaf=is_measure)


@final
class _NoiseBesideIntegrals(dfx.AbstractTerm):
    """The noise term of a state extended by running integrals; the integrals receive no noise."""

    term: dfx.AbstractTerm
    integrals: dict[str, Array]

    def vf(self, t: Any, y: PyTree, args: PyTree) -> Any:
        return self.term.vf(t, y[0], args)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return self.term.contr(t0, t1, **kwargs)

    def prod(self, vf: Any, control: Any) -> PyTree:
        return self.term.prod(vf, control), self.integrals


def _beside_integrals(
    terms: dfx.AbstractTerm, integrands: dict[str, Integrand], t0: Array, y0: PyTree, args: PyTree
) -> tuple[dfx.AbstractTerm, PyTree]:
    """Terms and initial state of the equation whose state is extended by running integrals."""
    drift, *noises = terms.terms if isinstance(terms, dfx.MultiTerm) else (terms,)
    if not isinstance(drift, dfx.ODETerm):
        raise ValueError(
            f"Running integrals, which TayNODE and RNODE need, are taken along a diffrax.ODETerm, got a "
            f"{type(drift).__name__}: a path with corners has no derivative there. Use a smooth path such as "
            "nde.hermite_control, or a regulariser that measures the steps, such as ErrorPenalty()."
        )
    field = drift.vector_field
    state = start_integrals(field, integrands, t0, y0, args)
    extended = dfx.ODETerm(with_integrals(field, integrands))  # pyright: ignore[reportArgumentType]
    if not noises:
        return extended, state
    return dfx.MultiTerm(extended, *(_NoiseBesideIntegrals(noise, state[1]) for noise in noises)), state
