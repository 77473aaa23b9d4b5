"""Penalties on solver heuristics: what makes a learned differential equation cheap to solve."""

import abc
from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from sciml.nde._heuristics.measures import DirectionalStiffness, LocalError, Stiffness
from sciml.nde._heuristics.monitored import Accumulated, step_mean, step_sum
from sciml.nde._heuristics.sampling import AbstractSampling, PointUniform, SampledStep, TimeUniform
from sciml.nde._heuristics.step import innermost, one_step, take


@final
class Problem(eqx.Module):
    """What a penalty needs to take a step of a solve again.

    Attributes:
        solver: The solver, without a monitor.
        direction: 1, or -1 for a solve backwards in time.
    """

    terms: PyTree
    solver: dfx.AbstractSolver
    args: PyTree
    controller: dfx.AbstractStepSizeController
    direction: Float[Array, ""]


class AbstractPenalty(eqx.Module):
    """A scalar of one solve, for `sciml.nde.diffeqsolve`. Penalties can be added and multiplied by a number.

    Those with `measures` are global: they are differentiated through the whole solve. Those with `sampling` are local:
    they take one step of the solve again, whose start is data, at the cost of one step and with any adjoint.
    """

    @abc.abstractmethod
    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """What `Monitored` has to accumulate."""

    @abc.abstractmethod
    def sampling(self) -> PyTree:
        """Which steps `Monitored` has to keep."""

    @abc.abstractmethod
    def value(self, measured: PyTree, kept: PyTree, problem: Problem) -> Float[Array, ""]:
        """The penalty, of what was accumulated and kept."""

    def __add__(self, other: "AbstractPenalty") -> "SumPenalty":
        return SumPenalty((self, other))

    def __mul__(self, factor: Float[Array, ""] | float) -> "ScaledPenalty":
        return ScaledPenalty(self, factor)

    def __rmul__(self, factor: Float[Array, ""] | float) -> "ScaledPenalty":
        return ScaledPenalty(self, factor)


@final
class ErrorPenalty(AbstractPenalty):
    """A reduction over all accepted steps of the error estimate; by default R_E = sum_j q_j |h_j|.

    Pal et al., 2021, arXiv:2105.03918, section 3. Their code takes the mean over the steps (`reduce=step_mean`);
    R_E2 = sum_j q_j^2 is `ErrorPenalty(LocalError(power=2, dt_power=0))`.

    The controller holds q_j near a constant, so that R_E hardly says how hard a problem is: its gradient does, which
    asks for smaller errors on the same steps. Report the steps or `nfe`, not R_E. A penalty biases the dynamics, which
    is harmless for a map between end points and is not for a system that is to be identified.
    """

    measure: LocalError = LocalError()
    reduce: Callable[[Accumulated], Float[Array, ""]] = step_sum

    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """The error, in the controller's tolerances unless it has its own."""
        return in_tolerances_of(controller, self.measure)

    def sampling(self) -> PyTree:
        """None."""
        return None

    def value(self, measured: PyTree, kept: PyTree, problem: Problem) -> Float[Array, ""]:
        """The reduction."""
        return self.reduce(measured)


@final
class StiffnessPenalty(AbstractPenalty):
    """A reduction over all accepted steps of a stiffness estimate; by default the mean of S_j / stability bound.

    Pal et al., 2021, arXiv:2105.03918, section 3; their code takes the maximum (`reduce=step_max`), and the paper's
    R_S = sum_j S_j |h_j| is `StiffnessPenalty(Stiffness(divisor=1.0, dt_power=1), step_sum)`. It can pay only where
    stability limits the steps, |h| S / bound near 1.
    """

    measure: Stiffness | DirectionalStiffness = Stiffness()
    reduce: Callable[[Accumulated], Float[Array, ""]] = step_mean

    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """The stiffness."""
        return self.measure

    def sampling(self) -> PyTree:
        """None."""
        return None

    def value(self, measured: PyTree, kept: PyTree, problem: Problem) -> Float[Array, ""]:
        """The reduction."""
        return self.reduce(measured)


@final
class LocalErrorPenalty(AbstractPenalty):
    """An unbiased estimate of R_E = sum_j q_j |h_j| from one accepted step, taken again with its own length.

    Its start is data, so that the gradient lacks how the parameters move z_j, and does not pass through the solve.
    With `TimeUniform` it is (t1 - t0) q_j, with `StepUniform` n q_j |h_j|. In the spirit of Pal et al., "Locally
    regularized neural differential equations", 2023, arXiv:2303.02262, whose own form is `FreshErrorPenalty`.
    """

    measure: LocalError = LocalError()
    where: AbstractSampling = TimeUniform()

    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """None."""
        return None

    def sampling(self) -> PyTree:
        """One step."""
        return self.where

    def value(self, measured: PyTree, kept: SampledStep, problem: Problem) -> Float[Array, ""]:
        """The measure of the kept step over the probability with which it was kept."""
        step = one_step(problem.terms, problem.solver, kept.t0, kept.t1, kept.y0, problem.args)
        return in_tolerances_of(problem.controller, self.measure)(step) * kept.scale


@final
class FreshErrorPenalty(AbstractPenalty):
    """q |h| of a fresh step from a random time, as published: Pal et al., 2023, arXiv:2303.02262, section 3.

    The time is uniform and the state there interpolated (`PointUniform`, "unbiased"), or it is the start of an
    accepted step (`StepUniform`, "biased"). h is the automatic initial step of Hairer, Norsett and Wanner, "Solving
    Ordinary Differential Equations I", section II.4, cut at the end of the accepted step. Time, state, h and the
    first stage of FSAL methods are data: the gradient passes through the other stages alone. Neither form estimates
    R_E: h is short, q |h| is of the order of 1e-7 at tight tolerances, and the coefficient accordingly large.
    """

    measure: LocalError = LocalError()
    where: AbstractSampling = PointUniform()

    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """None."""
        return None

    def sampling(self) -> PyTree:
        """One time."""
        return self.where

    def value(self, measured: PyTree, kept: SampledStep, problem: Problem) -> Float[Array, ""]:
        """The measure of the fresh step.

        Raises:
            ValueError: If the equation is not an ODE, for which alone the initial step is defined.
        """
        terms, solver, args = problem.terms, problem.solver, problem.args
        if not isinstance(terms, dfx.ODETerm):
            raise ValueError(
                f"FreshErrorPenalty takes Hairer's initial step, which is defined for a diffrax.ODETerm, got "
                f"{type(terms).__name__}. Use LocalErrorPenalty, which takes an accepted step again."
            )
        measure = in_tolerances_of(problem.controller, self.measure)
        t0, y0 = kept.t0, kept.y0
        t1 = jax.lax.stop_gradient(t0 + problem.direction * _initial_step(kept, measure, problem))
        state = solver.init(terms, t0, t1, y0, args)
        if state is not None and isinstance(innermost(solver), dfx.AbstractRungeKutta):  # FSAL: (first step?, stage)
            state = (jnp.array(False), jax.lax.stop_gradient(solver.func(terms, t0, y0, args)))
        return measure(take(terms, solver, (t0, t1), y0, args, state))


@final
class SumPenalty(AbstractPenalty):
    """The sum of penalties."""

    parts: tuple[AbstractPenalty, ...]

    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """Those of all parts."""
        return tuple(part.measures(controller) for part in self.parts)

    def sampling(self) -> PyTree:
        """Those of all parts."""
        return tuple(part.sampling() for part in self.parts)

    def value(self, measured: PyTree, kept: PyTree, problem: Problem) -> Float[Array, ""]:
        """The sum."""
        values = [part.value(m, k, problem) for part, m, k in zip(self.parts, measured, kept, strict=True)]
        return sum(values[1:], start=values[0])


@final
class ScaledPenalty(AbstractPenalty):
    """A penalty times a number, which may be traced: a coefficient from a schedule."""

    penalty: AbstractPenalty
    factor: Float[Array, ""] | float

    def measures(self, controller: dfx.AbstractStepSizeController) -> PyTree:
        """The penalty's."""
        return self.penalty.measures(controller)

    def sampling(self) -> PyTree:
        """The penalty's."""
        return self.penalty.sampling()

    def value(self, measured: PyTree, kept: PyTree, problem: Problem) -> Float[Array, ""]:
        """The product."""
        return self.factor * self.penalty.value(measured, kept, problem)


def in_tolerances_of(controller: dfx.AbstractStepSizeController, measure: LocalError) -> LocalError:
    """`measure` with the tolerances and the norm that it leaves open read off the controller.

    Raises:
        ValueError: If the controller has none.
    """
    adaptive = isinstance(controller, dfx.AbstractAdaptiveStepSizeController)
    if not adaptive and (measure.rtol is None or measure.atol is None):
        raise ValueError(
            f"An error in units of the tolerance needs tolerances, and {type(controller).__name__} has none. Solve "
            "with a diffrax.PIDController, or give them: ErrorPenalty(LocalError(rtol=0.0, atol=1.0)) is the plain "
            "norm of the error estimate."
        )
    names = [name for name in ("rtol", "atol", "norm") if adaptive and getattr(measure, name) is None]
    if not names:
        return measure
    where = lambda m: [getattr(m, name) for name in names]
    return eqx.tree_at(where, measure, [getattr(controller, n) for n in names], is_leaf=lambda leaf: leaf is None)


def _initial_step(kept: SampledStep, measure: LocalError, problem: Problem) -> Float[Array, ""]:
    """Length of Hairer's initial step at (kept.t0, kept.y0), in the direction of the solve, at most to kept.t1."""
    terms, solver, direction = problem.terms, problem.solver, problem.direction
    field = lambda t, y, args: jax.tree.map(lambda f: direction * f, terms.vf(direction * t, y, args))
    rtol: Any = measure.rtol
    atol: Any = measure.atol
    controller = dfx.PIDController(rtol, atol, norm=measure.norm or optx.rms_norm)
    t0, end = direction * kept.t0, direction * kept.t1
    t1, _ = controller.init(
        dfx.ODETerm(field), t0, end, kept.y0, None, problem.args, solver.func, solver.error_order(terms)
    )
    return jnp.minimum(t1, end) - t0
