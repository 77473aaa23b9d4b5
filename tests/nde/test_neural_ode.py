"""Neural ODEs, of first and second order and with an energy, against exact motions."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sciml import nde

BATCH, SIZE, EXTRA = 4, 3, 2
TIGHT = nde.Solve(controller=dfx.PIDController(rtol=1e-9, atol=1e-9))


def joint(model):
    return eqx.tree_at(lambda model: model.solve, model, nde.Jointly(model.solve))


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


def test_augmented_states_start_at_zero_and_are_dropped():
    rng = np.random.default_rng(0)
    matrix, y0 = rng.normal(size=(SIZE + EXTRA, SIZE + EXTRA)), rng.normal(size=SIZE)
    ts = np.array([0.0, 0.3, 1.0])
    with jax.enable_x64(True):
        model = nde.NeuralODE(Linear(jnp.asarray(matrix)), TIGHT, augment=EXTRA)
        ys = eqx.filter_jit(model)(jnp.asarray(y0), jnp.asarray(ts))
    exact = [(scipy.linalg.expm(t * matrix) @ np.append(y0, np.zeros(EXTRA)))[:SIZE] for t in ts]
    np.testing.assert_allclose(ys, exact, rtol=1e-7, atol=1e-8)  # tolerance 1e-9 per step


def test_vmap_equals_a_loop_and_a_joint_batch_augments_too():
    with jax.enable_x64(True):
        fixed = nde.Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=-0.25, max_steps=16)
        model = nde.NeuralODE(nde.MLPField(SIZE + EXTRA, widths=(6,), key=jax.random.key(0)), fixed, augment=EXTRA)
        y0, ts = jax.random.normal(jax.random.key(1), (BATCH, SIZE)), jnp.array([1.0, 0.4, 0.0])  # backwards
        run = eqx.filter_jit(model)
        loop = np.stack([run(y, ts) for y in y0])
        np.testing.assert_allclose(jax.jit(jax.vmap(model, (0, None)))(y0, ts), loop, rtol=1e-12)
        np.testing.assert_allclose(eqx.filter_jit(joint(model))(y0, ts).swapaxes(0, 1), loop, rtol=1e-12)


def test_only_arrays_are_augmented():
    model = nde.NeuralODE(nde.Autonomous(jnp.negative), augment=2)
    with pytest.raises(ValueError, match=r"append 2 zeros to, got a dict.*augment=0"):
        model({"a": jnp.ones(2)}, jnp.array([0.0, 1.0]))


def test_a_field_sees_the_time_in_every_layer():
    with jax.enable_x64(True):
        field = nde.MLPField(SIZE, 2, widths=(5, 4), activation=jnp.sin, last=jnp.tanh, key=jax.random.key(0))
        y = hidden = np.random.default_rng(0).normal(size=SIZE)
        for layer, activation in zip(field.layers, [np.sin, np.sin, np.tanh], strict=True):
            hidden = activation(layer.weight @ np.append(hidden, 0.7) + layer.bias)
        np.testing.assert_allclose(field(0.7, jnp.asarray(y), None), hidden, rtol=1e-13)


def test_second_order_equals_the_damped_oscillator():
    """x'' = -w^2 x - 2 c x' per entry, underdamped."""
    w, c, x0, v0 = 2.0, 0.3, np.array([1.0, -0.5, 0.2]), np.array([0.4, 0.0, -1.0])
    ts = np.array([0.0, 0.9, 2.0])
    with jax.enable_x64(True):

        def acceleration(t, y, args):
            x, v = jnp.split(y, 2)
            return -(w**2) * x - 2 * c * v

        model = nde.SecondOrderODE(acceleration, TIGHT)
        integrands = {"divergence": nde.divergence}
        run = jax.jit(lambda *problem: model.solution(*problem, integrands=integrands))
        (xs, vs), aux = run(jnp.asarray(x0), jnp.asarray(v0), jnp.asarray(ts))
        together = eqx.filter_jit(joint(model))(jnp.asarray([x0, v0]), jnp.asarray([v0, x0]), jnp.asarray(ts))
    f, t = np.sqrt(w**2 - c**2), ts[:, None]
    a, b = x0, (v0 + c * x0) / f
    exact = np.exp(-c * t) * (a * np.cos(f * t) + b * np.sin(f * t))
    slope = np.exp(-c * t) * ((f * b - c * a) * np.cos(f * t) - (f * a + c * b) * np.sin(f * t))
    np.testing.assert_allclose(xs, exact, atol=1e-7)
    np.testing.assert_allclose(vs, slope, atol=1e-7)
    np.testing.assert_allclose(together[0][:, 0], exact, atol=1e-7)
    np.testing.assert_allclose(aux.integrals["divergence"], -2 * c * 3 * ts, rtol=1e-7, atol=1e-12)


def test_hamiltonian_equals_the_harmonic_oscillator():
    """H = (w^2 q^2 + p^2) / 2: q = q0 cos w t + p0 / w sin w t, p = p0 cos w t - w q0 sin w t."""
    w, q0, p0 = 1.7, np.array([1.0, -0.3]), np.array([0.2, 0.8])
    ts = np.array([0.0, 1.1, 3.0])
    with jax.enable_x64(True):
        model = nde.HamiltonianODE(lambda y: 0.5 * jnp.sum((w * y[:2]) ** 2 + y[2:] ** 2), TIGHT)
        ys = model(jnp.asarray(np.append(q0, p0)), jnp.asarray(ts))
    t = ts[:, None]
    np.testing.assert_allclose(ys[:, :2], q0 * np.cos(w * t) + p0 / w * np.sin(w * t), atol=1e-7)
    np.testing.assert_allclose(ys[:, 2:], p0 * np.cos(w * t) - w * q0 * np.sin(w * t), atol=1e-7)


def test_the_energy_of_a_network_is_conserved():
    with jax.enable_x64(True):
        integrands = {"divergence": nde.divergence}
        energy = eqx.nn.MLP(4, "scalar", 8, 2, jnp.tanh, key=jax.random.key(0))
        model = nde.HamiltonianODE(energy, TIGHT)
        y0 = jnp.array([1.0, -0.3, 0.2, 0.8])
        run = jax.jit(lambda y0: model.solution(y0, jnp.array([0.0, 4.0, 10.0]), integrands=integrands))
        ys, aux = run(y0)
        values = jax.jit(jax.vmap(energy))(ys)
        np.testing.assert_allclose(values, values[0], atol=1e-8)  # tolerance 1e-9 per step
        np.testing.assert_allclose(aux.integrals["divergence"], 0, atol=1e-12)  # Liouville's theorem
        assert np.abs(ys[-1] - y0).max() > 0.1


def test_odd_states_have_no_energy():
    with pytest.raises(ValueError, match=r"as many positions as momenta.*got 3"):
        nde.HamiltonianODE(jnp.sum)(jnp.ones(3), jnp.array([0.0, 1.0]))
