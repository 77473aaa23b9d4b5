"""A solver that also measures its accepted steps, and the number of function evaluations of a solve."""

from collections.abc import Callable, Mapping
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32

from sciml.nde._heuristics.measures import AbstractMeasure
from sciml.nde._heuristics.sampling import AbstractSampling, Reservoir, empty, numbered_word, seeds_of, uniform
from sciml.nde._heuristics.step import Step, innermost, without_nonfinite


@final
class Accumulated(eqx.Module):
    """Running statistics of a measure over the accepted steps of a solve.

    Attributes:
        total: Sum of the measure over the accepted steps.
        largest: Maximum of the measure over the accepted steps.
        count: Number of accepted steps.
    """

    total: Float[Array, "*batch"]
    largest: Float[Array, "*batch"]
    count: Int[Array, "*batch"]

    def after(self, value: Float[Array, ""]) -> "Accumulated":
        """The statistics after one more step with this value."""
        value = value.astype(self.total.dtype)
        largest = jnp.where(self.count == 0, value, jnp.maximum(self.largest, value))
        return Accumulated(self.total + value, largest, self.count + 1)


def step_sum(measure: Accumulated) -> Float[Array, "*batch"]:
    """The sum over the accepted steps, 0 if there are none."""
    return measure.total


def step_mean(measure: Accumulated) -> Float[Array, "*batch"]:
    """The mean over the accepted steps, 0 if there are none."""
    return measure.total / jnp.maximum(measure.count, 1).astype(measure.total.dtype)


def step_max(measure: Accumulated) -> Float[Array, "*batch"]:
    """The maximum over the accepted steps, 0 if there are none."""
    return measure.largest


@final
class MonitorState(eqx.Module):
    """State of `Monitored`: state of the wrapped solver, measures, kept steps and the number of accepted steps."""

    inner: PyTree
    measures: PyTree
    kept: PyTree
    count: Int[Array, ""]


@final
class Monitored(dfx.AbstractWrappedSolver):
    """A solver that takes the same steps as the one it wraps, bit for bit, and measures them.

    Sum and maximum of each measure are part of the solver state, so that memory does not grow with the number of steps.
    diffrax discards the state of a rejected step, so that only accepted steps count. Gradients are those of the
    discrete solution with the sequence of steps held fixed, because diffrax does not differentiate step lengths.

    Solve with `diffrax.SaveAt(..., solver_state=True)` and read the results by `measured` and `sampled_step`. With
    `BacksolveAdjoint`, diffrax silently drops the gradient of the solver state, so `sciml.nde.diffeqsolve` refuses it.

    Attributes:
        wrapped: The solver that takes the steps; may itself be a wrapper, such as `diffrax.HalfSolver`.
        measures: A pytree of `AbstractMeasure`, or None.
        sampling: A pytree of `AbstractSampling`, or None; each keeps one accepted step.
        seeds: Two random words for each sampling, since a typed key in a solver breaks diffrax's error handling.
    """

    wrapped: dfx.AbstractSolver
    measures: PyTree
    sampling: PyTree
    seeds: tuple[UInt32[Array, ""], ...]

    def __init__(
        self,
        solver: dfx.AbstractSolver,
        measures: PyTree = None,
        *,
        sampling: PyTree = None,
        key: Key[Array, ""] | None = None,
    ):
        """Wraps `solver`.

        Args:
            solver: Any solver of diffrax.
            measures: One or several `AbstractMeasure`, as a pytree.
            sampling: One or several `AbstractSampling`, as a pytree; they need `key`.
            key: Random key that decides which steps are kept.

        Raises:
            ValueError: If a leaf is no measure or no sampling, or a sampling is given without a key.
        """
        _all_are(AbstractMeasure, measures, "measures", "LocalError(rtol=..., atol=...)")
        _all_are(AbstractSampling, sampling, "sampling", "TimeUniform()")
        samplings = len(jax.tree.leaves(sampling, is_leaf=_is_sampling))
        if key is None and samplings:
            raise ValueError("Keeping a step at random needs a key, got None. Pass key=jax.random.key(...).")
        self.wrapped = solver
        self.measures = measures
        self.sampling = sampling
        self.seeds = () if key is None else seeds_of(key, 2 * samplings)

    @property
    def measured_globally(self) -> bool:
        """Whether there is a measure to accumulate."""
        return bool(jax.tree.leaves(self.measures, is_leaf=_is_measure))

    @property
    def solver(self) -> dfx.AbstractSolver:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The innermost solver, since diffrax checks its type and looks through one wrapper only."""
        return innermost(self.wrapped)

    @property
    def term_structure(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The wrapped solver's."""
        return self.wrapped.term_structure

    @property
    def interpolation_cls(self) -> Callable[..., Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The wrapped solver's."""
        return self.wrapped.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The wrapped solver's."""
        return self.wrapped.term_compatible_contr_kwargs

    @property
    def scan_kind(self) -> Any:
        """The innermost solver's; diffrax sets it for adjoints in forward mode."""
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def root_finder(self) -> Any:
        """The innermost solver's; diffrax sets its tolerances."""
        return self.solver.root_finder  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def root_find_max_steps(self) -> Any:
        """The innermost solver's."""
        return self.solver.root_find_max_steps  # pyright: ignore[reportAttributeAccessIssue]

    def order(self, terms: PyTree) -> Any:
        """The wrapped solver's."""
        return self.wrapped.order(terms)

    def strong_order(self, terms: PyTree) -> Any:
        """The wrapped solver's."""
        return self.wrapped.strong_order(terms)

    def error_order(self, terms: PyTree) -> Any:
        """The wrapped solver's."""
        return self.wrapped.error_order(terms)

    def func(self, terms: PyTree, t0: Any, y0: PyTree, args: PyTree) -> PyTree:
        """The wrapped solver's."""
        return self.wrapped.func(terms, t0, y0, args)

    def init(self, terms: PyTree, t0: Any, t1: Any, y0: PyTree, args: PyTree) -> MonitorState:
        """The initial state of the wrapped solver, with empty measures."""
        zero = jnp.zeros((), jnp.finfo(jnp.result_type(*jax.tree.leaves(y0))).dtype)
        none = jnp.zeros((), jnp.int32)
        return MonitorState(
            self.wrapped.init(terms, t0, t1, y0, args),
            jax.tree.map(lambda _: Accumulated(zero, zero, none), self.measures, is_leaf=_is_measure),
            jax.tree.map(lambda _: empty(t0, y0), self.sampling, is_leaf=_is_sampling),
            none,
        )

    def step(
        self, terms: PyTree, t0: Any, t1: Any, y0: PyTree, args: PyTree, solver_state: MonitorState, made_jump: Any
    ) -> tuple[PyTree, PyTree, Any, MonitorState, Any]:
        """The step of the wrapped solver, and the state with the measures of this step."""
        y1, y_error, dense_info, inner, result = self.wrapped.step(
            terms, t0, t1, y0, args, solver_state.inner, made_jump
        )
        step = Step(t0, t1, y0, y1, y_error, dense_info, self.wrapped, terms, args)
        safe, finite = without_nonfinite(step), step.finite

        def measure(measure: AbstractMeasure, before: Accumulated) -> Accumulated:
            value = measure(safe)
            return before.after(jnp.where(finite, value, jnp.full_like(value, jnp.nan)))

        def keep(sampling: AbstractSampling, before: Reservoir) -> Reservoir:
            choice = numbered_word(next(seeds), solver_state.count)
            return before.after(safe, sampling, uniform(choice, safe.dt.dtype), uniform(next(seeds), safe.dt.dtype))

        seeds = iter(self.seeds)
        state = MonitorState(
            inner,
            jax.tree.map(measure, self.measures, solver_state.measures, is_leaf=_is_measure),
            jax.tree.map(keep, self.sampling, solver_state.kept, is_leaf=_is_sampling),
            solver_state.count + 1,
        )
        return y1, y_error, dense_info, state, result


def measured(sol: dfx.Solution, reduce: Callable[[Accumulated], Float[Array, "*batch"]] = step_sum) -> PyTree:
    """The reduced measures of a solve with `Monitored`, as a pytree like `measures`.

    Args:
        sol: From `diffrax.diffeqsolve(..., saveat=diffrax.SaveAt(..., solver_state=True))`.
        reduce: `step_sum`, `step_mean`, `step_max` or a function of your own.

    Raises:
        ValueError: If the solution holds no state of `Monitored`.
    """
    is_accumulated = lambda node: isinstance(node, Accumulated)
    return jax.tree.map(reduce, state_of(sol).measures, is_leaf=is_accumulated)


def sampled_step(sol: dfx.Solution) -> PyTree:
    """The `SampledStep` that each sampling of `Monitored` kept, as a pytree like `sampling`.

    Raises:
        ValueError: If the solution holds no state of `Monitored`, or nothing was sampled.
    """
    if not jax.tree.leaves(state_of(sol).kept):
        raise ValueError("No step was kept. Solve with Monitored(solver, sampling=TimeUniform(), key=...).")
    return samples(sol)


def samples(sol: dfx.Solution) -> PyTree:
    """As `sampled_step`, without an error if there is no sampling."""
    direction = jnp.where(jnp.asarray(sol.t0) <= jnp.asarray(sol.t1), 1, -1)
    sample = lambda reservoir: reservoir.sample(direction.astype(reservoir.t0.dtype))
    return jax.tree.map(sample, state_of(sol).kept, is_leaf=lambda node: isinstance(node, Reservoir))


def state_of(sol: dfx.Solution) -> MonitorState:
    """The state of `Monitored` at the end of a solve."""
    if not isinstance(sol.solver_state, MonitorState):
        raise ValueError(
            f"Expected the solver state of a solve with Monitored, got {type(sol.solver_state).__name__}. Solve with "
            "Monitored(solver, ...) and saveat=diffrax.SaveAt(..., solver_state=True)."
        )
    return sol.solver_state


def _is_measure(node: Any) -> bool:
    return isinstance(node, AbstractMeasure)


def _is_sampling(node: Any) -> bool:
    return isinstance(node, AbstractSampling)


def _all_are(kind: type, tree: PyTree, name: str, example: str) -> None:
    for leaf in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, eqx.Module)):
        if not isinstance(leaf, kind):
            raise ValueError(f"Expected {kind.__name__} in {name}, such as {example}, got {type(leaf).__name__}.")


def nfe(sol: dfx.Solution | Mapping[str, Any], solver: dfx.AbstractSolver) -> Int[Array, "*batch"]:
    """Number of function evaluations (NFE) of a solve: of the vector field, for SDEs of the drift.

    It is computed from the number of steps n, accepted and rejected: s n for an explicit Runge-Kutta method of s
    stages, and (s - 1) n + 1 for FSAL methods, whose first stage is the last of the previous step (Tsit5: 6 n + 1). Not
    counted, because diffrax's statistics do not show them: the additional first stages of FSAL methods after a rejected
    first step and after each jump of `ClipStepSizeController(jump_ts=...)`. Evaluations of the backward pass are not
    counted; saving needs none. For a batch under `jax.vmap`, it is the number that each sample would need alone.

    Args:
        sol: The solution, or its `stats`.
        solver: The solver of this solve, `Monitored` or not.

    Raises:
        ValueError: If the number does not follow from the number of steps, as for implicit solvers, which iterate.
    """
    while isinstance(solver, Monitored):
        solver = solver.wrapped
    stats = sol.stats if isinstance(sol, dfx.Solution) else sol
    steps = jnp.asarray(stats["num_steps"])
    tableau = getattr(solver, "tableau", None)
    if type(solver) is dfx.Euler:
        return steps
    if isinstance(solver, dfx.AbstractERK) and isinstance(tableau, dfx.ButcherTableau):
        return steps * (tableau.num_stages - 1) + 1 if tableau.fsal else steps * tableau.num_stages
    if isinstance(tableau, dfx.StochasticButcherTableau):
        ignored = 0 if tableau.ignore_stage_f is None else int(np.sum(tableau.ignore_stage_f))
        return steps * (len(tableau.b_sol) - ignored)
    raise ValueError(
        f"The evaluations of {type(solver).__name__} do not follow from the number of its steps. They do for explicit "
        "Runge-Kutta methods, Euler and stochastic Runge-Kutta methods; report sol.stats['num_steps'] for others."
    )
