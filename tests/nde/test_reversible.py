"""Reversible steps: their order, their gradient against that of the plain scheme, their memory."""

import itertools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sciml import nde

SIZE, BATCH, COUPLING = 3, 2, 0.97


def scheme(field, y0, ts, args, solver, steps):
    """The same scheme by diffrax's own steps, differentiated as it stands."""
    term, y, z, states = dfx.ODETerm(field), y0, y0, [y0]

    def psi(t, h, x):
        state = solver.init(term, t, t + h, x, args)
        return solver.step(term, t, t + h, x, args, state, False)[0] - x

    for t0, t1 in itertools.pairwise(ts):
        h = (t1 - t0) / steps
        for n in range(steps):
            y = COUPLING * y + (1 - COUPLING) * z + psi(t0 + n * h, h, z)
            z = z - psi(t0 + (n + 1) * h, -h, y)
        states.append(y)
    return jnp.stack(states)


def test_value_and_gradient_equal_those_of_the_plain_scheme():
    with jax.enable_x64(True):
        field = nde.MLPField(SIZE + 1, SIZE, widths=(6,), key=jax.random.key(0))
        problem = field, jnp.array([1.0, -0.5, 0.3]), jnp.array([0.0, 0.4, 1.0]), jnp.asarray(0.8)
        with_args = lambda field: lambda t, y, args: field(t, jnp.append(y, args * t))

        def loss(problem, solve):
            field, y0, ts, args = problem
            ys = solve(with_args(field), y0, ts, args)
            return jnp.sum(jnp.sin(ys) * jnp.arange(1, 4)[:, None]), ys

        reversible = lambda *problem: nde.Reversible(3, dfx.Heun(), COUPLING)(*problem)[0]
        plain = lambda *problem: scheme(*problem, dfx.Heun(), 3)
        run = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
        (_, ours), slope = run(problem, reversible)
        (_, theirs), exact = run(problem, plain)
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
        for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("solver", "order", "steps"), [(dfx.Heun(), 2, 16), (dfx.Bosh3(), 3, 8), (dfx.Tsit5(), 5, 3)])
def test_the_order_is_that_of_the_method(solver, order, steps):
    """y' = -y + sin 2t: y = (y0 + 2/5) exp(-t) + (sin 2t - 2 cos 2t) / 5."""
    exact = (1 + 0.4) * np.exp(-1) + (np.sin(2) - 2 * np.cos(2)) / 5
    with jax.enable_x64(True):
        field, ts = (lambda t, y, args: -y + jnp.sin(2 * t)), jnp.array([0.0, 1.0])
        solve = lambda n: nde.Reversible(n, solver)(field, jnp.ones(1), ts)[0][-1, 0]
        errors = [abs(solve(n) - exact) for n in (steps, 2 * steps)]
    assert np.log2(errors[0] / errors[1]) > order - 0.3


def test_memory_does_not_grow_with_the_steps():
    field = nde.MLPField(50, widths=(8,), key=jax.random.key(0))
    y0, ts = jnp.ones(50), jnp.array([0.0, 1.0])

    def bytes_of(steps):
        slope = jax.grad(lambda y: jnp.sum(nde.Reversible(steps)(field, y, ts)[0][-1]))
        return jax.jit(slope).lower(y0).compile().memory_analysis().temp_size_in_bytes

    few, many = bytes_of(4), bytes_of(400)
    assert many <= few + 4096  # a stored state for each step would add 400 * 50 * 4 bytes


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


def test_integrals_joint_batches_and_vmap():
    matrix = np.array([[-0.4, 1.1, 0.2], [-0.9, 0.1, 0.5], [0.3, -0.7, -0.6]])
    with jax.enable_x64(True):
        y0, ts = jax.random.normal(jax.random.key(1), (BATCH, SIZE)), jnp.array([0.0, 0.4, 1.0])

        def value(field, y0, solve):
            ys, aux = solve(field, y0, ts, integrands={"divergence": nde.divergence})
            return jnp.sum(ys[-1]) + jnp.sum(aux.integrals["divergence"][-1] ** 2), (ys, aux)

        run = eqx.filter_value_and_grad(value, has_aux=True)
        one, field = nde.Reversible(8, dfx.Heun()), Linear(jnp.asarray(matrix))
        (_, (ys, aux)), slope = eqx.filter_jit(run)(field, y0, nde.Jointly(one))
        (_, (mapped, _)), slopes = jax.jit(jax.vmap(lambda y: run(field, y, one)))(y0)
        np.testing.assert_allclose(ys, mapped.swapaxes(0, 1), rtol=1e-12)
        np.testing.assert_allclose(slope.matrix, slopes.matrix.sum(axis=0), rtol=1e-11)
        exact = np.stack([np.asarray(y0) @ scipy.linalg.expm(t * matrix).T for t in np.asarray(ts)])
        np.testing.assert_allclose(ys, exact, atol=3e-3)  # second order, steps of 1/16
        divergence = np.trace(matrix) * np.asarray(ts)[:, None] * np.ones((1, BATCH))
        np.testing.assert_allclose(aux.integrals["divergence"], divergence, rtol=1e-12)
        assert aux.stats["num_steps"] == 16


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"coupling in \(0, 1\], got 0.*0.999"):
        nde.Reversible(4, coupling=0.0)
    with pytest.raises(ValueError, match=r"at least one step between two times, got 0"):
        nde.Reversible(0)
