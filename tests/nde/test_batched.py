"""Batched solves against `vmap` of single ones: the same steps, states and gradients."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import nde
from sciml.nde._solve import batched as _batched

BATCH, SIZE, TIMES = 5, 3, 7
SOLVERS = [diffrax.Tsit5(), diffrax.Dopri8()]
PLAIN = diffrax.PIDController(rtol=1e-6, atol=1e-7)
JUMPS = diffrax.ClipStepSizeController(PLAIN, step_ts=jnp.array([0.3]), jump_ts=jnp.array([0.6]))


class Field(eqx.Module):
    """A rotation whose speed depends on the radius, so that the samples need unequal steps."""

    weight: jax.Array

    def __call__(self, t, y, args=None):
        turn = self.weight - self.weight.T
        return turn @ y * (1 + jnp.sum(y**2)) + 0.1 * jnp.sin(3 * t)


def problem():
    rng = np.random.default_rng(3)
    y0 = rng.standard_normal((BATCH, SIZE)) * np.linspace(0.1, 0.8, BATCH)[:, None]
    return Field(jnp.asarray(rng.standard_normal((SIZE, SIZE)))), jnp.asarray(y0), jnp.linspace(0.0, 1.0, TIMES)


def config(solver=None, **options):
    options = {"max_steps": 128, "dt0": 0.5, "controller": PLAIN, **options}
    return nde.Solve(diffrax.Tsit5() if solver is None else solver, **options)


@pytest.mark.parametrize(
    ("solver", "controller"),
    [*((solver, PLAIN) for solver in SOLVERS), (diffrax.Tsit5(), JUMPS)],
    ids=lambda part: type(part).__name__,
)
def test_states_and_steps_are_those_of_vmap(solver, controller):
    with jax.enable_x64(True):
        field, y0, ts = problem()
        solve = config(solver, controller=controller)
        ys, aux = eqx.filter_jit(nde.Batched(solve))(field, y0, ts)
        expected, single = jax.jit(jax.vmap(lambda y: solve(field, y, ts), out_axes=(1, 0)))(y0)
        for name in ("num_steps", "num_accepted_steps", "num_rejected_steps"):
            np.testing.assert_array_equal(aux.stats[name], single.stats[name])
        assert len(set(np.asarray(aux.stats["num_steps"]))) > 1  # or the test would not see mixed-up samples
        assert np.sum(np.asarray(aux.stats["num_rejected_steps"]) > 0) > 1
        np.testing.assert_allclose(ys, expected, rtol=1e-12)  # rounding of the batched matrix products


def test_gradients_and_integrals_are_those_of_vmap():
    with jax.enable_x64(True):
        field, y0, ts = problem()
        solve = config()
        integrands = {"energy": nde.kinetic_energy}

        def loss(batched):
            def of(field, y0):
                if batched:
                    ys, aux = nde.Batched(solve)(field, y0, ts, integrands=integrands)
                    energy = aux.integrals["energy"][-1]
                else:
                    single = lambda y: solve(field, y, ts, integrands=integrands)
                    ys, aux = jax.vmap(single, out_axes=(1, 0))(y0)
                    energy = aux.integrals["energy"][:, -1]
                return jnp.sum(jnp.sin(ys)) + jnp.sum(energy**2)

            return eqx.filter_jit(jax.value_and_grad(of, argnums=(0, 1)))

        (value, (weight, start)), (value2, (weight2, start2)) = loss(True)(field, y0), loss(False)(field, y0)
        np.testing.assert_allclose(value, value2, rtol=1e-12)
        np.testing.assert_allclose(weight.weight, weight2.weight, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(start, start2, rtol=1e-9, atol=1e-9)


def test_the_first_step_is_chosen_for_each_sample():
    """By Hairer's rule, which the controller knows; a faster sample starts with a shorter step."""
    with jax.enable_x64(True):
        rates = jnp.array([1.0, 4.0])
        field = lambda t, y, args: y[1] * y * jnp.array([1.0, 0.0])
        y0 = jnp.stack((jnp.ones(2), rates), axis=1)
        solve = config(dt0=None, controller=diffrax.PIDController(rtol=1e-6, atol=0.0))
        problem = _batched._Problem(diffrax.ODETerm(field), None, solve, jnp.array([0.0, 1.0]))
        first = _batched._start(problem, y0).end
        one = diffrax.PIDController(rtol=1e-6, atol=0.0).init(
            diffrax.ODETerm(field), 0.0, 1.0, y0[0], None, None, diffrax.Tsit5().func, diffrax.Tsit5().error_order(None)
        )[0]
        np.testing.assert_allclose(first[0], one, rtol=1e-12)
        assert first[1] < first[0]


def test_the_two_ends_alone_keep_no_history():
    with jax.enable_x64(True):
        field, y0, ts = problem()
        ends = eqx.filter_jit(nde.Batched(config()))(field, y0, ts[jnp.array([0, -1])])[0]
        all_times = eqx.filter_jit(nde.Batched(config()))(field, y0, ts)[0]
        np.testing.assert_array_equal(ends[0], y0)
        np.testing.assert_allclose(ends[1], all_times[-1], rtol=1e-12)


@pytest.mark.slow  # plans the memory of two large gradients; the test of gradients above checks their values
def test_the_gradient_of_shared_weights_is_not_carried_per_sample():
    """The planned memory of the gradient: less than two thirds of vmap's where weights are larger than states."""
    batch, size, hidden = 64, 32, 128
    rng = np.random.default_rng(0)
    shapes = (size, hidden), (hidden, size)
    weights = tuple(jnp.asarray(rng.standard_normal(shape) / 16, jnp.float32) for shape in shapes)
    field = lambda t, y, args: jnp.tanh(y @ args[0]) @ args[1]
    y0, ts = jnp.ones((batch, size)), jnp.array([0.0, 1.0])
    solve = config()

    def memory(of):
        loss = lambda weights: jnp.sum(of(weights) ** 2)
        return jax.jit(jax.grad(loss)).lower(weights).compile().memory_analysis().temp_size_in_bytes

    ours = memory(lambda weights: nde.Batched(solve)(field, y0, ts, weights)[0])
    vmap = memory(lambda weights: jax.vmap(lambda y: solve(field, y, ts, weights)[0], out_axes=1)(y0))
    assert 3 * ours < 2 * vmap


def test_what_cannot_be_done_is_refused():
    field, y0, ts = problem()
    with pytest.raises(ValueError, match=r"differentiates by checkpoints, got DirectAdjoint\. Use"):
        nde.Batched(config(adjoint=diffrax.DirectAdjoint()))(field, y0, ts)
    with pytest.raises(ValueError, match=r"at least two times"):
        nde.Batched(config())(field, y0, ts[:1])
    with pytest.raises(ValueError, match=r"Batched has no regulariser\. Use Jointly"):
        nde.Batched(config(regulariser=nde.ErrorPenalty()))(field, y0, ts)
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"The times must increase"):
        nde.Batched(config())(field, y0, ts[::-1])
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"arrived within 3 steps"):
        nde.Batched(config(max_steps=3))(field, y0, ts)


def test_a_field_that_is_not_finite_ends_with_an_error():
    y0, ts = jnp.ones((BATCH, SIZE)), jnp.array([0.0, 1.0])
    field = lambda t, y, args: jnp.where(t > 0.5, jnp.nan, 1.0) * y
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"values that are not finite"):
        nde.Batched(config())(field, y0, ts)
