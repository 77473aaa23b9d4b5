"""How a model's equation is solved: one configuration for all models of ordinary differential equations."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, cast, final

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._solve.diffeqsolve import diffeqsolve
from sciml.nde._solve.integrals import Field, Integrand, start_integrals, state_norm, with_integrals


@final
class Aux(eqx.Module):
    """What a solve yields besides the solution.

    Attributes:
        penalty: The penalty of `Solve.penalty`, 0 without one.
        integrals: The running integrals at the times of the solution, 0 at the first.
        stats: Numbers of steps: `num_steps`, and of an adaptive solver `num_accepted_steps`, `num_rejected_steps`.
    """

    penalty: Float[Array, ""]
    integrals: dict[str, Array]
    stats: dict[str, Any]


class AbstractSolve(eqx.Module):
    """Solves dy/dt = field(t, y, args) from y0 at `ts[0]` and returns the states at all times `ts`, y0 among them."""

    @abc.abstractmethod
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
        """The states, with time as their first axis, and what came with them.

        Args:
            field: Derivative of the state, `(t, y, args) -> dy/dt`. Parameters that it holds as an Equinox module are
                differentiated by every adjoint, those of a closure not by `diffrax.BacksolveAdjoint`.
            y0: State at `ts[0]`.
            ts: At least two times, increasing or decreasing.
            args: Passed to the field.
            integrands: Running integrals, see `with_integrals`. They do not change the steps.
            key: For a penalty that draws at random.
        """


@final
class Solve(AbstractSolve):
    """A solve by diffrax: `Solve(diffrax.Tsit5(), diffrax.PIDController(rtol=1e-7, atol=1e-7))`.

    Tolerances are numbers, and other numbers compile anew.

    Attributes:
        solver: Any solver.
        controller: Step sizes.
        adjoint: How gradients are computed; the default differentiates the steps and recomputes them from checkpoints.
        dt0: First step, all steps for `diffrax.ConstantStepSize`; None lets an adaptive controller choose.
        max_steps: An error is raised beyond.
        penalty: A penalty of `nde.diffeqsolve`, such as `ErrorPenalty()`, or None.
    """

    solver: dfx.AbstractSolver = dfx.Tsit5()
    controller: dfx.AbstractStepSizeController = dfx.PIDController(rtol=1e-5, atol=1e-5)
    adjoint: dfx.AbstractAdjoint = dfx.RecursiveCheckpointAdjoint()
    dt0: float | None = None
    max_steps: int = eqx.field(static=True, default=4096)
    penalty: Any = None

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
        """As in `AbstractSolve`.

        Raises:
            ValueError: If there are fewer than two times, or the controller has a norm that the integrals cannot be
                kept out of.
        """
        integrands = {} if integrands is None else integrands
        state = start_integrals(field, integrands, check_times(ts)[0], y0, args)
        term = dfx.ODETerm(with_integrals(field, integrands))  # pyright: ignore[reportArgumentType]
        own = dataclasses.replace(self, controller=ignoring_integrals(self.controller))
        solution, penalty = own.run(term, state, ts, args, key=key)
        (ys, integrals), stats = cast(PyTree, solution.ys), solution.stats
        counts = {name: stats[name] for name in ("num_steps", "num_accepted_steps", "num_rejected_steps")}
        return ys, Aux(penalty, integrals, counts)

    def run(
        self, terms: PyTree, y0: PyTree, ts: Float[Array, " times"], args: PyTree = None, *, key: PRNGKeyArray | None
    ) -> tuple[dfx.Solution, Float[Array, ""]]:
        """The solution of any diffrax terms at the times `ts`, with controls or noise for example, and the penalty."""
        problem = (terms, self.solver, ts[0], ts[-1], self.dt0, y0, args)
        options = {
            "saveat": dfx.SaveAt(ts=ts),
            "stepsize_controller": self.controller,
            "adjoint": self.adjoint,
            "max_steps": self.max_steps,
        }
        if self.penalty is None:
            return dfx.diffeqsolve(*problem, **options), jnp.zeros((), ts.dtype)
        return diffeqsolve(*problem, penalty=self.penalty, key=key, **options)


def check_times(ts: Float[Array, " times"]) -> Float[Array, " times"]:
    """The times, if there are two of them or more.

    Raises:
        ValueError: If there are not.
    """
    if ts.shape[0] < 2:
        raise ValueError(f"Expected at least two times, the first being that of the initial state, got {ts.shape[0]}.")
    return ts


def ignoring_integrals(controller: dfx.AbstractStepSizeController) -> dfx.AbstractStepSizeController:
    """The controller with the norm of the state alone."""
    if isinstance(controller, dfx.PIDController):
        return dataclasses.replace(controller, norm=state_norm(controller.norm))
    if isinstance(controller, dfx.ClipStepSizeController):
        return eqx.tree_at(lambda c: c.controller, controller, ignoring_integrals(controller.controller))
    if isinstance(controller, dfx.ConstantStepSize | dfx.StepTo):
        return controller
    raise ValueError(
        "Expected a diffrax PIDController, ClipStepSizeController, ConstantStepSize or StepTo, got "
        f"{type(controller).__name__}, whose norm would see the running integrals. Give Solve.run your own terms."
    )
