import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes import Burgers, Darcy, MultiscaleDarcy


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def order(errors):
    return np.log2(errors[0] / errors[1])


def test_the_residual_of_burgers_is_of_second_order_in_time():
    nu, k, x = 0.3, 2 * np.pi / 3, 3 * np.arange(40) / 40
    problem = Burgers(length=3.0, time=0.8, viscosity=nu)
    errors, others = [], []
    for times in (21, 41):
        decay = 0.4 * np.exp(-nu * k**2 * np.linspace(0, 0.8, times))[:, None]
        exact = 2 * nu * k * decay * np.sin(k * x) / (1 + decay * np.cos(k * x))  # Cole-Hopf
        found = problem.residual(jnp.asarray(exact)[None])
        assert found.shape == (1, times - 2, 40)
        errors.append(np.abs(found[:, times // 20 - 1 :: times // 20]).max())  # at the same times
        others.append(np.abs(problem.residual(jnp.asarray(1.1 * exact)[None])).max())
    assert order(errors) == pytest.approx(2, abs=0.05)  # the next order is 1 % at 20 intervals
    assert errors[1] < 1e-3
    assert others[1] > 0.03  # a field that is no solution


def test_the_residual_of_burgers_solutions():
    problem = Burgers(resolution=48, frames=80, time=0.4)
    u = jax.jit(problem.initial)(jax.random.key(0))
    frames = jnp.concatenate((u[None], jax.jit(problem.solve)(u)))[None]
    residual = problem.residual(frames)
    late = slice(40, None)  # the first frames have modes that decay within one interval
    rate = (frames[:, 2:] - frames[:, :-2])[:, late] / 0.01
    assert np.linalg.norm(residual[:, late]) < 1e-3 * np.linalg.norm(rate)
    assert problem.residual(frames.astype(jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize("every", [1, 2])
def test_the_residual_of_darcy_is_of_second_order(every):
    a = lambda x: 2 + jnp.sin(3 * x[0] + 2 * x[1])
    u = lambda x: jnp.sin(2 * x[0]) * jnp.exp(x[1]) + x[0] ** 3
    f = lambda x: -jnp.trace(jax.jacfwd(lambda x: a(x) * jax.grad(u)(x))(x))
    errors = []
    for n in (16, 32):
        problem = Darcy(resolution=every * n, every=every, forcing=1.7)
        nodes = jnp.asarray(np.stack(np.meshgrid(*problem.grid.points(), indexing="ij"), axis=-1))
        coefficient, field, exact = (jax.jit(jax.vmap(jax.vmap(g)))(nodes) for g in (a, u, f))
        found = jax.jit(problem.residual)(coefficient[None], field[None])
        assert found.shape == (1, n - 2, n - 2)
        errors.append(np.abs(found[0] - (exact - 1.7)[1:-1, 1:-1]).max())
    assert order(errors) == pytest.approx(2, abs=0.15)  # the points move with the grid
    assert errors[1] < 0.01 * np.abs(exact).max()


def test_the_residual_of_darcy_solutions_with_one_permeability():
    problem = Darcy(resolution=64, low=5.0, high=5.0, forcing=2.0)
    a = jnp.full((64, 64), 5.0)
    residual = problem.residual(a[None], jax.jit(problem.pressure)(a)[None])
    # Of second order in the spacing, where the splines between cells and nodes are far from their ends.
    assert np.abs(residual[0, 8:-8, 8:-8]).max() < 2.0 / 64


def test_bad_fields():
    with pytest.raises(ValueError, match="central difference in time needs at least 3 times, got 2"):
        Burgers().residual(jnp.ones((1, 2, 8)))
    residual = functools.partial(Darcy(resolution=8).residual, jnp.ones((1, 8, 8)))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 8, 8\), got \(1, 8, 9\)"):
        Darcy(resolution=8).residual(jnp.ones((1, 8, 9)), jnp.ones((1, 8, 9)))
    assert residual(jnp.ones((1, 8, 8), jnp.float32)).shape == (1, 6, 6)


def test_the_residual_of_multiscale_solutions_is_of_second_order():
    errors = []
    for n in (31, 63):
        problem = MultiscaleDarcy(resolution=n, every=1, factors=1, forcing=1.3)
        frequencies = jnp.array([1.2])
        a = problem.permeability(frequencies, *problem.grid.points())
        found = jax.jit(problem.residual)(a[None], jax.jit(problem.pressure)(frequencies)[None])
        errors.append(np.abs(found).max())
    assert order(errors) == pytest.approx(2, abs=0.15)  # the maximum moves by less than a spacing
