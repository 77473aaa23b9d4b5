"""The configuration of a solve, and a batch as one state."""

import json

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml import nde
from sciml.structure import describe

BATCH, SIZE = 4, 3
TIGHT = nde.Solve(controller=dfx.PIDController(rtol=1e-9, atol=1e-9))
FIXED = nde.Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=0.25, max_steps=16)
INTEGRANDS = {"mean": nde.per_dimension(nde.kinetic_energy)}


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        field = nde.MLPField(SIZE, widths=(6,), key=jax.random.key(0))
        y0 = jax.random.normal(jax.random.key(1), (BATCH, SIZE))
        return field, y0, jnp.array([0.0, 0.4, 1.0])


def test_a_joint_solve_equals_one_per_sample(problem):
    field, y0, ts = problem
    with jax.enable_x64(True):

        def reduced(ys, integrals):
            return jnp.sum(ys[-1] ** 2) + jnp.sum(integrals["mean"][-1]), (ys, integrals)

        def value(field, solve):
            probes = nde.probe(y0, key=jax.random.key(2))
            if isinstance(solve, nde.Jointly):
                estimate = {"estimate": nde.per_dimension(nde.HutchinsonDivergence(probes))}
                ys, aux = solve(field, y0, ts, integrands=INTEGRANDS | estimate)
                return reduced(ys, aux.integrals)
            estimate = lambda e: {"estimate": nde.per_dimension(nde.HutchinsonDivergence(e))}

            def one(y, e):
                ys, aux = solve(field, y, ts, integrands=INTEGRANDS | estimate(e))
                return ys, aux.integrals

            return reduced(*jax.vmap(one, out_axes=1)(y0, probes))

        both = [
            eqx.filter_jit(eqx.filter_value_and_grad(value, has_aux=True))(field, solve)
            for solve in (nde.Jointly(FIXED), FIXED)
        ]
        ((_, joint), joint_slope), ((_, single), single_slope) = both
        for a, b in zip(jax.tree.leaves(joint), jax.tree.leaves(single), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)  # the same steps
        for a, b in zip(jax.tree.leaves(joint_slope), jax.tree.leaves(single_slope), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_jointly_solves_for_a_model_of_batches(problem):
    field, y0, ts = problem
    with jax.enable_x64(True):
        joint = nde.NeuralODE(field, nde.Jointly(TIGHT), augment=0)
        assert eqx.filter_eval_shape(joint, y0, ts).shape == (3, BATCH, SIZE)


def test_a_solve_is_that_of_diffrax(problem):
    field, y0, ts = problem
    with jax.enable_x64(True):
        ys, aux = jax.jit(lambda y0: TIGHT(field, y0, ts))(y0[0])
        plain = dfx.diffeqsolve(
            dfx.ODETerm(field), TIGHT.solver, 0.0, 1.0, None, y0[0],
            saveat=dfx.SaveAt(ts=ts), stepsize_controller=TIGHT.controller,
        )  # fmt: skip
        np.testing.assert_array_equal(ys[0], y0[0])
        np.testing.assert_allclose(ys, plain.ys, rtol=1e-12)
        assert aux.stats["num_steps"] == plain.stats["num_steps"]
        assert aux.penalty == 0


def test_a_solve_passes_its_penalty_on(problem):
    field, y0, ts = problem
    with jax.enable_x64(True):
        solve = nde.Solve(controller=TIGHT.controller, regulariser=nde.ErrorPenalty())
        ys, aux = jax.jit(lambda y0: solve(field, y0, ts, integrands=INTEGRANDS))(y0[0])
        plain, _ = jax.jit(lambda y0: TIGHT(field, y0, ts))(y0[0])
        np.testing.assert_allclose(ys, plain, rtol=1e-12)
        assert 0 < aux.penalty < 1  # errors in units of the tolerance, times steps of an interval of length 1


def test_integrals_are_kept_out_of_every_known_controller(problem):
    field, y0, ts = problem
    with jax.enable_x64(True):
        clipped = dfx.ClipStepSizeController(TIGHT.controller, step_ts=jnp.array([0.5]))
        constant, grid = dfx.ConstantStepSize(), dfx.StepTo(jnp.linspace(0, 1, 9))
        # A huge integral, which would shorten the steps if the norm saw it.
        fast = {"fast": lambda t, y, dy, args, field: 1e3 * jnp.cos(60 * t)}
        for controller, dt0, fixed in [(clipped, None, None), (constant, 0.1, 10), (grid, None, 8)]:
            solve = nde.Solve(controller=controller, dt0=dt0)
            ys, aux = jax.jit(lambda y0, solve=solve: solve(field, y0, ts, integrands=fast))(y0[0])
            if fixed is not None:
                assert aux.stats["num_steps"] == fixed
                continue
            plain, without = jax.jit(lambda y0, solve=solve: solve(field, y0, ts))(y0[0])
            np.testing.assert_allclose(ys, plain, rtol=1e-12)
            assert aux.stats["num_steps"] == without.stats["num_steps"]


class Unknown(dfx.AbstractStepSizeController):
    def wrap(self, direction):
        return self

    def init(self, *args):
        raise NotImplementedError

    def adapt_step_size(self, *args):
        raise NotImplementedError


def test_wrong_calls_are_refused():
    field, y0 = nde.Autonomous(jnp.negative), jnp.ones(SIZE)
    with pytest.raises(ValueError, match=r"at least two times, the first being that of the initial state, got 1"):
        TIGHT(field, y0, jnp.zeros(1))
    with pytest.raises(ValueError, match=r"PIDController.*, got Unknown, whose norm.*Solve without integrals"):
        nde.Solve(controller=Unknown())(field, y0, jnp.array([0.0, 1.0]), integrands=INTEGRANDS)


def test_models_describe_themselves(problem):
    field, _, _ = problem
    network = eqx.nn.MLP(4, "scalar", 5, 1, jnp.tanh, key=jax.random.key(0))
    encoder = nde.GRUEncoder(2, SIZE, hidden=4, units=5, key=jax.random.key(0))
    solve = nde.Solve(dfx.Dopri5(), dfx.PIDController(rtol=1e-3, atol=1e-6, norm=nde.PerSampleMax(optx.max_norm)))
    models = [
        nde.NeuralODE(field, nde.Jointly(solve), augment=1),
        nde.SecondOrderODE(nde.MLPField(4, 2, key=jax.random.key(0)), nde.Reversible(4)),
        nde.HamiltonianODE(network),
        nde.NeuralODE(nde.Autonomous(network)),
        nde.CNF(field, SIZE, trace=nde.HutchinsonTrace()),
        nde.LatentODE(encoder, field, eqx.nn.Linear(SIZE, 2, key=jax.random.key(0))),
        nde.DEQ(eqx.nn.GRUCell(2, 3, key=jax.random.key(0)), 3, optx.Newton(rtol=1e-5, atol=1e-5)),
    ]
    for model in models:
        assert type(model).__name__ in json.dumps(describe(model))
