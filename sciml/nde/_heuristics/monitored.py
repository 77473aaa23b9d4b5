"""A solver that also measures its accepted steps, and the number of evaluations of a solve."""

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
    """A measure over the accepted steps of a solve.

    Attributes:
        total: Its sum.
        largest: Its largest value.
        count: The number of steps.
    """

    total: Float[Array, "*batch"]
    largest: Float[Array, "*batch"]
    count: Int[Array, "*batch"]

    def after(self, value: Float[Array, ""]) -> "Accumulated":
        """With one more step."""
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
    """State of `Monitored`: the wrapped solver's own, the measures, the kept steps, the number of accepted steps."""

    inner: PyTree
    measures: PyTree
    kept: PyTree
    count: Int[Array, ""]


@final
class Monitored(dfx.AbstractWrappedSolver):
    """A solver that takes the same steps as the one it wraps, bit for bit, and measures them.

    The measures are summed and maximised in the solver's state, in memory that does not grow with the number of steps,
    and diffrax undoes the state of a rejected step: they run over the accepted steps alone. Their gradient is that of
    the discrete solution at a fixed sequence of steps, because diffrax differentiates no step length.

    Solve with `diffrax.SaveAt(..., solver_state=True)` and read the result by `measured` and `sampled_step`. With
    `BacksolveAdjoint` diffrax drops the gradient of a solver's state silently; `sciml.nde.diffeqsolve` refuses it.

    Attributes:
        wrapped: The solver that takes the steps; may itself be a wrapper, such as `diffrax.HalfSolver`.
        measures: A measure, a pytree of them, or None.
        sampling: A sampling, a pytree of them, or None; each keeps one accepted step.
        seeds: Two random words of each sampling; a typed key in a solver breaks diffrax's error handling.
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
            key: Decides which steps are kept.

        Raises:
            ValueError: If something else than a measure or a sampling is given, or a sampling without a key.
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
        """The innermost solver: diffrax asks for its kind, and looks through one wrapper only."""
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
        """The wrapped solver's state, and nothing measured yet."""
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
        """The wrapped solver's step."""
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
    """The measures of a solve with `Monitored`, in the structure they were given in.

    Args:
        sol: From `diffrax.diffeqsolve(..., saveat=diffrax.SaveAt(..., solver_state=True))`.
        reduce: `step_sum`, `step_mean`, `step_max` or a function of your own.

    Raises:
        ValueError: If the solution holds no state of `Monitored`.
    """
    is_accumulated = lambda node: isinstance(node, Accumulated)
    return jax.tree.map(reduce, state_of(sol).measures, is_leaf=is_accumulated)


def sampled_step(sol: dfx.Solution) -> PyTree:
    """The `SampledStep` that each sampling of `Monitored` kept, in the structure they were given in.

    Raises:
        ValueError: If the solution holds no state of `Monitored`, or nothing was sampled.
    """
    if not jax.tree.leaves(state_of(sol).kept):
        raise ValueError("No step was kept. Solve with Monitored(solver, sampling=TimeUniform(), key=...).")
    return samples(sol)


def samples(sol: dfx.Solution) -> PyTree:
    """As `sampled_step`, of as many samplings as there are."""
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
    """How often a solve evaluated the vector field (for SDEs the drift), from the numbers of its steps.

    s evaluations per step, accepted or rejected, for an explicit Runge-Kutta method of s stages; s - 1 per step and one
    for the first, if the first stage is the last of the step before (Tsit5: 6 n + 1). Two that diffrax's statistics do
    not show are not counted, both of such methods: the first stage is evaluated again after a rejected first step, and
    after each jump of `ClipStepSizeController(jump_ts=...)`. What saving costs is nothing, what a gradient costs is not
    counted. Of a batch under `jax.vmap` it is the number that each sample would need alone.

    Args:
        sol: The solution, or its `stats`.
        solver: The solver it was computed with, `Monitored` or not.

    Raises:
        ValueError: If the number does not follow from the steps, as for implicit solvers, which iterate.
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
