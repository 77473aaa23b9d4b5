import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.constants
import scipy.linalg

from sciml.pdes import BOLTZMANN, solve_fokker_planck, stokes_einstein

LENGTH, DIFFUSIVITY = 2.0, 0.7


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def centres(n):
    return (np.arange(n) + 0.5) * LENGTH / n


def potential(x):
    return 1.2 * np.cos(np.pi * x) + 0.8 * np.sin(2 * np.pi * x)


def solve(u, v, **settings):
    return np.asarray(
        jax.jit(functools.partial(solve_fokker_planck, **settings))(jnp.asarray(u), jnp.asarray(v), DIFFUSIVITY)
    )


def spectral(n, u, time):
    """The solution by modes of Fourier, with a matrix exponential of SciPy."""
    m = 2j * np.pi / LENGTH * np.fft.fftfreq(n, 1 / n)
    slope = np.fft.ifft(m.reshape(n, 1) * np.fft.fft(np.eye(n), axis=0), axis=0).real
    x = centres(n)
    climb = -1.2 * np.pi * np.sin(np.pi * x) + 1.6 * np.pi * np.cos(2 * np.pi * x)
    return scipy.linalg.expm(time * DIFFUSIVITY * slope @ (slope + np.diag(climb))) @ u


def test_second_order_against_a_spectral_solver():
    start = lambda x: np.exp(np.sin(np.pi * x))
    settings = {"length": LENGTH, "time": 0.3, "frames": 3}
    exact = np.stack([spectral(63, start(centres(63)), t) for t in (0.1, 0.2)])
    errors = []
    for n in (21, 63):  # every third centre of the one is a centre of the other
        found = solve(start(centres(n)), potential(centres(n)), **settings)[1:]
        expected = exact if n == 63 else exact[:, 1::3]
        errors.append(np.abs(found - expected).max())
    assert np.log(errors[0] / errors[1]) / np.log(3) == pytest.approx(2, abs=0.15)
    assert errors[1] < 0.01


def test_densities_go_to_that_of_gibbs():
    n = 40
    v = potential(centres(n))
    start = np.zeros(n)
    start[7] = 1.0
    found = solve(start, v, length=LENGTH, time=24.0, frames=6)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-13)
    np.testing.assert_allclose(
        found[-1], np.exp(-v) / np.exp(-v).sum(), rtol=1e-9
    )  # exp(-0.7 pi^2 20 / e^(2 * 2)) left
    early = solve(start, v, length=LENGTH, time=2e-4, frames=2)[1]
    assert early.min() >= 0
    assert early[7] > 0.9


def test_frames_follow_each_other():
    """Twice the frames up to the same time are the same solution at twice the times."""
    n = 12
    start, v = np.random.default_rng(0).uniform(0, 1, n), potential(centres(n))
    few, many = (solve(start, v, length=LENGTH, time=0.8, frames=frames) for frames in (4, 8))
    np.testing.assert_allclose(many[::2], few, rtol=1e-13)


def test_the_diffusivity_of_a_sphere():
    # 0.1 um in water at 300 K: 2.2 um^2 / s by k_B T / (6 pi 1e-3 1e-7), computed by hand.
    assert stokes_einstein(300.0, 1e-3, 1e-7) == pytest.approx(2.1973e-12, rel=1e-4)
    assert scipy.constants.k == BOLTZMANN
