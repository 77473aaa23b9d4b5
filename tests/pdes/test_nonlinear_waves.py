import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import pdes


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_a_breather_of_sine_gordon():
    c, w, length, n, frames = 1.7, 0.6, 40.0, 160, 4
    x = (np.arange(n) + 0.5) * length / n - length / 2
    t = np.arange(frames).reshape(-1, 1) * 1.5
    width = np.sqrt(1 - w**2)
    exact = 4 * np.arctan(width / w * np.cos(w * np.sqrt(c) * t) / np.cosh(width * np.sqrt(c) * x))

    def error(steps):
        solve = functools.partial(pdes.solve_sine_gordon, length=length, time=6.0, frames=frames, steps=steps)
        return np.abs(jax.jit(solve)(jnp.asarray(exact[0]), c) - exact).max()

    errors = [error(15), error(30)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)  # the next power of dt is dt^4
    assert errors[1] < 1e-3  # of dt^2 = 2.5e-3; 4 * 8 / 3 exp(-0.8 * 1.3 * 20) = 1e-8 at the ends


def test_sine_gordon_is_stable_for_steps_beyond_a_spacing():
    u = 3 * jax.random.normal(jax.random.key(0), (64,))
    solve = functools.partial(pdes.solve_sine_gordon, length=2.0, time=40.0, frames=20, steps=4)  # 16 spacings per step
    found = np.asarray(jax.jit(solve)(u, 1.0))
    assert np.abs(found[1:]).max() < 3 * np.abs(u).max()


def soliton(x, t, speed, dispersion, length):
    place = (x - length / 2 - speed * t + length / 2) % length - length / 2
    return 3 * speed / np.cosh(np.sqrt(speed / dispersion) / 2 * place) ** 2


def test_a_soliton_of_kdv():
    speed, dispersion, length, n, frames = 0.9, 0.4, 24.0, 96, 3
    x = (np.arange(n) + 0.5) * length / n
    t = np.arange(frames).reshape(-1, 1) * 0.8
    exact = soliton(x, t, speed, dispersion, length)

    def error(steps):
        solve = functools.partial(pdes.solve_kdv, length=length, time=2.4, frames=frames, steps=steps)
        return np.abs(jax.jit(solve)(jnp.asarray(exact[0]), dispersion) - exact).max()

    errors = [error(20), error(40)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)  # the next power of dt is dt^5
    assert errors[1] < 1e-5  # measured 5e-6, that is 30 dt^4


def test_kdv_agrees_with_exponential_time_differencing():
    problem = pdes.KdV(resolution=48, frames=3, time=0.3, step=1e-3, amplitude=20.0, dispersion=0.0011)
    u = jax.jit(problem.initial)(jax.random.key(3))
    solve = functools.partial(pdes.solve_kdv, length=problem.length, time=0.4, frames=4, steps=200)
    found = jax.jit(solve)(u, 0.0011)
    assert np.abs(found[3] - found[0]).max() > 0.2
    np.testing.assert_allclose(found[1:], jax.jit(problem.solve)(u), atol=1e-8)  # two rules of order 4
