"""The number of evaluations that is computed from the steps, against evaluations that are counted."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml import nde

SIZE = 3
name = lambda solver: type(solver).__name__


def counted(solver, dt0, *, noise=None, rough=0.0, **options):
    """A solve, and how often the vector field was evaluated in it."""
    calls = []

    def evaluate(t, y):
        calls.append(float(t))
        return (-y + np.sin(40 * t) * rough * (t > 0.5)).astype(y.dtype)

    def field(t, y, args):
        return jax.pure_callback(evaluate, jax.ShapeDtypeStruct(y.shape, y.dtype), t, y)

    terms = dfx.ODETerm(field)
    if noise is not None:
        path = dfx.VirtualBrownianTree(0.0, 1.0, 2.0**-8, (SIZE,), jax.random.key(2), dfx.SpaceTimeLevyArea)
        terms = dfx.MultiTerm(terms, dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(noise(y)), path))
    sol = dfx.diffeqsolve(
        terms, solver, 0.0, 1.0, dt0, jnp.arange(1.0, SIZE + 1), max_steps=256, adjoint=dfx.ForwardMode(), **options
    )
    jax.block_until_ready(sol.ys)
    return sol, len(calls)


ADAPTIVE = [dfx.Tsit5(), dfx.Dopri5(), dfx.Dopri8(), dfx.Bosh3(), dfx.Heun()]


@pytest.mark.parametrize(
    ("solver", "dt0"), [(solver, 0.05) for solver in ADAPTIVE] + [(dfx.Tsit5(), None)], ids=lambda item: name(item)
)
def test_count_of_adaptive_solves_with_rejected_steps(solver, dt0):
    save = dfx.SaveAt(dense=True, ts=jnp.linspace(0, 1, 11))
    sol, calls = counted(solver, dt0, rough=10.0, stepsize_controller=dfx.PIDController(1e-3, 1e-3), saveat=save)
    assert sol.stats["num_rejected_steps"] > 0
    assert nde.nfe(sol, solver) == calls
    assert nde.nfe(sol.stats, nde.Monitored(solver)) == calls


def test_a_rejected_first_step_costs_its_first_stage_again():
    sol, calls = counted(dfx.Tsit5(), 1.0, stepsize_controller=dfx.PIDController(1e-6, 1e-6))
    assert sol.stats["num_rejected_steps"] == 1
    assert calls == nde.nfe(sol, dfx.Tsit5()) + 1


@pytest.mark.parametrize("solver", [dfx.Euler(), dfx.Midpoint()], ids=name)
def test_count_of_constant_steps(solver):
    sol, calls = counted(solver, 0.1)
    assert nde.nfe(sol, solver) == calls


@pytest.mark.parametrize(
    ("solver", "noise"),
    [(dfx.SPaRK(), jnp.cos), (dfx.SRA1(), jnp.ones_like), (dfx.SlowRK(), jnp.cos)],
    ids=lambda item: name(item) if isinstance(item, dfx.AbstractSolver) else "",
)
def test_count_of_drifts(solver, noise):
    sol, calls = counted(
        solver, 0.125, noise=lambda y: noise(jax.lax.stop_gradient(y)) if noise is jnp.cos else jnp.ones(SIZE)
    )
    assert nde.nfe(sol, solver) == calls


@pytest.mark.parametrize("solver", [dfx.Kvaerno3(), dfx.HalfSolver(dfx.Euler())], ids=name)
def test_no_count_where_the_steps_do_not_tell(solver):
    sol = dfx.diffeqsolve(dfx.ODETerm(lambda t, y, args: -y), dfx.Euler(), 0.0, 1.0, 0.5, jnp.ones(SIZE))
    with pytest.raises(
        ValueError, match=f"The evaluations of {name(solver)} do not follow from the number of its steps"
    ):
        nde.nfe(sol, solver)
