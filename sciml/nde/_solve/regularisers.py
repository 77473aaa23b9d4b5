"""Regularisers for training: they make the learned differential equation cheap to solve."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._heuristics.measures import DirectionalStiffness, LocalError, Stiffness
from sciml.nde._heuristics.monitored import Accumulated, step_mean, step_sum
from sciml.nde._heuristics.sampling import AbstractSampling, PointUniform, SampledStep, TimeUniform
from sciml.nde._heuristics.step import innermost, one_step, take
from sciml.nde._solve.integrals import (
    AbstractHutchinson,
    HutchinsonFrobenius,
    Integrand,
    kinetic_energy,
    per_dimension,
    probe,
    taylor,
)


@final
class Problem(eqx.Module):
    """The solve that a regulariser is for.

    Attributes:
        integrands: The running integrals that the caller asks for.
    """

    y0: PyTree
    ts: Float[Array, " times"]
    integrands: Mapping[str, Integrand]


@final
class Steps(NamedTuple):
    """Measures and kept steps of a finished solve, and what is needed to compute one of its steps again.

    Attributes:
        measured: The accumulated values of `Plan.measures`.
        kept: The steps kept by `Plan.sampling`.
        solver: The solver, without a monitor.
        direction: 1, or -1 for a solve backwards in time.
    """

    measured: PyTree
    kept: PyTree
    terms: PyTree
    solver: dfx.AbstractSolver
    args: PyTree
    controller: dfx.AbstractStepSizeController
    direction: Float[Array, ""]


@final
class Plan(NamedTuple):
    """What a regulariser needs from one solve.

    Attributes:
        ts: The times to solve at.
        value: Computes the penalty from the steps and the integrals over the whole solve.
        measures: What `Monitored` accumulates; unset tolerances and norms of a `LocalError` are the controller's.
        sampling: Which steps `Monitored` keeps.
        integrands: What is integrated along the solution.
    """

    ts: Float[Array, " times"]
    value: Callable[[Steps, tuple[Array, ...]], Float[Array, ""]]
    measures: PyTree = None
    sampling: PyTree = None
    integrands: tuple[Integrand, ...] = ()


class AbstractRegulariser(eqx.Module):
    """Makes the learned equation cheap to solve: `Solve(regulariser=ErrorPenalty())`.

    A regularised solve returns its value as `aux.penalty`, and the loss is `task + coefficient * aux.penalty`. The
    coefficient is a number or an optax schedule of the step; choose it on validation data. A regulariser changes which
    equation is learned: it suits maps from the first to the last state, and biases an equation to be identified.

    Regularisers can be added and multiplied by a number: `ErrorPenalty() + 0.1 * StiffnessPenalty()`.
    """

    @abc.abstractmethod
    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """What this regulariser needs from the solve of `problem`."""

    def __add__(self, other: "AbstractRegulariser") -> "SumRegulariser":
        return SumRegulariser((self, other))

    def __mul__(self, factor: Float[Array, ""] | float) -> "ScaledRegulariser":
        return ScaledRegulariser(self, factor)

    def __rmul__(self, factor: Float[Array, ""] | float) -> "ScaledRegulariser":
        return ScaledRegulariser(self, factor)


@final
class ErrorPenalty(AbstractRegulariser):
    """A reduction over all accepted steps of the error estimate; by default R_E = sum_j q_j |h_j|.

    q_j is the error estimate of step j relative to the tolerance, h_j the length of the step. Pal et al., 2021,
    arXiv:2105.03918, section 3. Their code takes the mean over the steps (`reduce=step_mean`); R_E2 = sum_j q_j^2 is
    `ErrorPenalty(LocalError(power=2, dt_power=0))`. The trajectory does not change, bit for bit.

    The controller keeps q_j nearly constant, so that the value of R_E says little about the cost of a solve. Its
    gradient asks for smaller errors on the same steps. Report the number of steps or `nfe`, not R_E.

    Attributes:
        measure: The error measure; its unset tolerances and norm are the controller's.
        reduce: `step_sum`, `step_mean`, `step_max` or a function of your own.
    """

    measure: LocalError = LocalError()
    reduce: Callable[[Accumulated], Float[Array, ""]] = step_sum

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Accumulates the error of each accepted step."""
        return Plan(problem.ts, lambda steps, _: self.reduce(steps.measured), measures=self.measure)


@final
class StiffnessPenalty(AbstractRegulariser):
    """A reduction over all accepted steps of a stiffness estimate; by default the mean of S_j / stability bound.

    Pal et al., 2021, arXiv:2105.03918, section 3; their code takes the maximum (`reduce=step_max`), and the paper's
    R_S = sum_j S_j |h_j| is `StiffnessPenalty(Stiffness(divisor=1.0, dt_power=1), step_sum)`. It helps only if
    stability limits the steps, that is if |h| S / bound is near 1. The trajectory does not change, bit for bit.

    Attributes:
        measure: The stiffness of a step.
        reduce: As for `ErrorPenalty`.
    """

    measure: Stiffness | DirectionalStiffness = Stiffness()
    reduce: Callable[[Accumulated], Float[Array, ""]] = step_mean

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Accumulates the stiffness of each accepted step."""
        return Plan(problem.ts, lambda steps, _: self.reduce(steps.measured), measures=self.measure)


@final
class LocalErrorPenalty(AbstractRegulariser):
    """An unbiased estimate of R_E = sum_j q_j |h_j| from one random accepted step j, which is computed again.

    The start of the step is treated as a constant: the gradient ignores how the parameters change it and does not pass
    through the solve. The cost is one more step, with any adjoint. The value is (t1 - t0) q_j with `TimeUniform`, and
    n q_j |h_j| with `StepUniform` for n accepted steps. The idea is that of Pal et al., "Locally regularized neural
    differential equations", 2023, arXiv:2303.02262; their own form is `FreshErrorPenalty`.

    Attributes:
        measure: As for `ErrorPenalty`.
        where: How the step is sampled.
    """

    measure: LocalError = LocalError()
    where: AbstractSampling = TimeUniform()

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Keeps one step; the value is its measure divided by the probability of keeping it."""

        def value(steps: Steps, _: tuple[Array, ...]) -> Float[Array, ""]:
            kept: SampledStep = steps.kept
            step = one_step(steps.terms, steps.solver, kept.t0, kept.t1, kept.y0, steps.args)
            return in_tolerances_of(steps.controller, self.measure)(step) * kept.scale

        return Plan(problem.ts, value, sampling=self.where)


@final
class FreshErrorPenalty(AbstractRegulariser):
    """q |h| of one new step from a random time, as published: Pal et al., 2023, arXiv:2303.02262, section 3.

    The new step starts at a uniformly drawn time with the interpolated state (`PointUniform`, "unbiased"), or at the
    start of a random accepted step (`StepUniform`, "biased"). h is the automatic initial step of Hairer, Norsett and
    Wanner, "Solving Ordinary Differential Equations I", section II.4, and ends with the accepted step at the latest.
    Time, state, h and the first stage of FSAL methods are treated as constants: the gradient passes through the other
    stages only. Neither form estimates R_E: h is short, so that q |h| is of the order of 1e-7 at tight tolerances and
    the coefficient has to be large.

    Attributes:
        measure: As for `ErrorPenalty`.
        where: How the time is sampled.
    """

    measure: LocalError = LocalError()
    where: AbstractSampling = PointUniform()

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Keeps one time; the value is the measure of a new step from there.

        Computing the value raises a ValueError if the equation is no ODE: the initial step is defined for ODEs only.
        """
        return Plan(problem.ts, self._value, sampling=self.where)

    def _value(self, steps: Steps, _: tuple[Array, ...]) -> Float[Array, ""]:
        terms, solver, args, kept = steps.terms, steps.solver, steps.args, steps.kept
        if not isinstance(terms, dfx.ODETerm):
            raise ValueError(
                f"FreshErrorPenalty takes Hairer's initial step, which is defined for a diffrax.ODETerm, got "
                f"{type(terms).__name__}. Use LocalErrorPenalty, which takes an accepted step again."
            )
        measure = in_tolerances_of(steps.controller, self.measure)
        t0, y0 = kept.t0, kept.y0
        t1 = jax.lax.stop_gradient(t0 + steps.direction * _initial_step(kept, measure, steps))
        state = solver.init(terms, t0, t1, y0, args)
        if state is not None and isinstance(innermost(solver), dfx.AbstractRungeKutta):  # FSAL: (first step?, stage)
            state = (jnp.array(False), jax.lax.stop_gradient(solver.func(terms, t0, y0, args)))
        return measure(take(terms, solver, (t0, t1), y0, args, state))


@final
class Steer(AbstractRegulariser):
    """STEER: random times in training, so that the field is not tuned to a single end time; the penalty is 0.

    With two times, the end time t1 is drawn uniformly from (t1 - reach, t1 + reach). With more, each time except the
    first is shifted by up to half of the smaller neighbouring gap. The states are returned at the drawn times.

    Source: Ghosh, Behl, Dupont, Torr, Namboodiri, "STEER: simple temporal regularization for neural ODEs", 2020,
    arXiv:2006.10711, with reach 0.5 on [0, 1].

    Attributes:
        reach: Largest shift of the end time; smaller than the length of the interval.
    """

    reach: float = 0.5

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Moves the times.

        Raises:
            ValueError: If there is no key.
        """
        key, ts = _needed(key, "STEER draws random times"), problem.ts
        moved = steer_times(key, ts) if ts.shape[0] > 2 else ts.at[-1].set(steer(key, ts[-1], self.reach))
        return Plan(moved, lambda steps, _: jnp.zeros((), ts.dtype))


@final
class TayNODE(AbstractRegulariser):
    r"""The integral of :math:`|d^K y / dt^K|^2` along the solution, divided by the dimension; mean over a batch.

    For an SDE, the derivative is taken along the drift. Source: Kelly et al. 2020, arXiv:2007.04504; see `taylor`.

    Attributes:
        order: K.
    """

    order: int = eqx.field(static=True, default=2)

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Integrates the square of the derivative."""
        return Plan(problem.ts, _mean_integrals, integrands=(per_dimension(taylor(self.order)),))


@final
class RNODE(AbstractRegulariser):
    """The integral of |f|^2 + |e^T df/dy|^2 with a random probe e, divided by the dimension; mean over a batch.

    If the solve already has an integral with a Hutchinson probe, as in a `CNF` with `HutchinsonTrace`, that probe is
    used, so that the norm of the Jacobian costs nothing in addition to the divergence.

    Source: Finlay, Jacobsen, Nurbekyan, Oberman, "How to train your neural ODE", 2020, arXiv:2002.02798, equation (9),
    with equal coefficients as there.
    """

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Integrates both squares.

        Raises:
            ValueError: If a probe has to be drawn and there is no key.
        """
        is_estimate = lambda node: isinstance(node, AbstractHutchinson)
        nodes = jax.tree.leaves(dict(problem.integrands), is_leaf=is_estimate)
        probes = [node.probe for node in nodes if isinstance(node, AbstractHutchinson)]
        vector = probes[0] if probes else probe(problem.y0, key=_needed(key, "RNODE draws a random probe"))
        integrands = per_dimension(kinetic_energy), per_dimension(HutchinsonFrobenius(vector))
        return Plan(problem.ts, _mean_integrals, integrands=integrands)


@final
class SumRegulariser(AbstractRegulariser):
    """A sum of regularisers, the result of `+`."""

    parts: tuple[AbstractRegulariser, ...]

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """Combines the plans of all parts; each part gets the times as moved by the parts before it."""
        plans: list[Plan] = []
        for number, part in enumerate(self.parts):
            own = None if key is None else jax.random.fold_in(key, number)
            plans.append(part.plan(problem, own))
            problem = dataclasses.replace(problem, ts=plans[-1].ts)

        def value(steps: Steps, integrals: tuple[Array, ...]) -> Float[Array, ""]:
            values, rest = [], integrals
            for plan, measured, kept in zip(plans, steps.measured, steps.kept, strict=True):
                count = len(plan.integrands)
                values.append(plan.value(steps._replace(measured=measured, kept=kept), rest[:count]))
                rest = rest[count:]
            return sum(values[1:], start=values[0])

        measures, samplings = tuple(plan.measures for plan in plans), tuple(plan.sampling for plan in plans)
        integrands = tuple(integrand for plan in plans for integrand in plan.integrands)
        return Plan(problem.ts, value, measures, samplings, integrands)


@final
class ScaledRegulariser(AbstractRegulariser):
    """A regulariser times a number, the result of `*`; the number may be traced, such as the value of a schedule."""

    regulariser: AbstractRegulariser
    factor: Float[Array, ""] | float

    def plan(self, problem: Problem, key: PRNGKeyArray | None) -> Plan:
        """The plan of the regulariser, with its value multiplied by the factor."""
        plan = self.regulariser.plan(problem, key)
        return plan._replace(value=lambda steps, integrals: self.factor * plan.value(steps, integrals))


def steer(key: PRNGKeyArray, t1: Any, b: float) -> Float[Array, ""]:
    """An end time drawn uniformly from (t1 - b, t1 + b)."""
    t1 = jnp.asarray(t1, jnp.result_type(float, t1))
    return t1 + b * jax.random.uniform(key, (), t1.dtype, -1, 1)


def steer_times(key: PRNGKeyArray, ts: Float[Array, " times"]) -> Float[Array, " times"]:
    """Times drawn uniformly around `ts`, by up to half of the smaller neighbouring gap; the first one stays.

    Ghosh et al. 2020 use half of the gap before each time, which may change the order of the times if the gaps are
    unequal; for equal gaps both rules agree. The last time has one gap only.
    """
    gaps = jnp.diff(ts)
    reach = jnp.minimum(jnp.abs(gaps), jnp.abs(jnp.append(gaps[1:], gaps[-1]))) / 2
    return ts.at[1:].add(reach * jax.random.uniform(key, gaps.shape, ts.dtype, -1, 1))


def _mean_integrals(steps: Steps, integrals: tuple[Array, ...]) -> Float[Array, ""]:
    return jnp.mean(sum(integrals[1:], start=integrals[0]))


def _needed(key: PRNGKeyArray | None, why: str) -> PRNGKeyArray:
    if key is None:
        raise ValueError(f"{why}: give key=... in training, and predict with nde.regularised(model, None).")
    return key


def in_tolerances_of(controller: dfx.AbstractStepSizeController, measure: LocalError) -> LocalError:
    """`measure` with unset tolerances and an unset norm taken from the controller.

    Raises:
        ValueError: If a tolerance is unset and the controller has none.
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


def _initial_step(kept: SampledStep, measure: LocalError, steps: Steps) -> Float[Array, ""]:
    """Length of Hairer's initial step at (kept.t0, kept.y0), in the direction of the solve, at most to kept.t1."""
    terms, solver, direction = steps.terms, steps.solver, steps.direction
    field = lambda t, y, args: jax.tree.map(lambda f: direction * f, terms.vf(direction * t, y, args))
    rtol: Any = measure.rtol
    atol: Any = measure.atol
    controller = dfx.PIDController(rtol, atol, norm=measure.norm or optx.rms_norm)
    t0, end = direction * kept.t0, direction * kept.t1
    t1, _ = controller.init(
        dfx.ODETerm(field), t0, end, kept.y0, None, steps.args, solver.func, solver.error_order(terms)
    )
    return jnp.minimum(t1, end) - t0
