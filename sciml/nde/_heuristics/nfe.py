"""The number of evaluations of the vector field."""

from collections.abc import Mapping
from typing import Any

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from sciml.nde._heuristics.monitored import Monitored


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
