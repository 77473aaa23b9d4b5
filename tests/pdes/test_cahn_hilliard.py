import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from sciml.pdes import InitialSines, solve_cahn_hilliard
from sciml.pdes._cahn_hilliard import STABLE, chebyshev_step


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def solve(u, thickness, **settings):
    return np.asarray(jax.jit(functools.partial(solve_cahn_hilliard, **settings))(jnp.asarray(u), thickness))


@pytest.mark.parametrize(("constant", "thickness"), [(0.4, 0.02), (0.05, 0.4), (-0.05, 0.07)])
def test_small_waves_on_a_constant(constant, thickness):
    """They grow at the rate `-6 u k^2 - thickness^2 k^4`: by the first term, by the second, and by both."""
    length, k, errors = 3.0, 4 * np.pi / 3.0, []
    growth = -6 * constant * k**2 - thickness**2 * k**4
    time = 0.5 / abs(growth)
    for n in (36, 72):
        wave = np.cos(k * (np.arange(n) + 0.5) * length / n)
        found = solve(constant + 1e-7 * wave, thickness, length=length, time=2 * time, frames=2, steps=32)[1]
        errors.append(abs(np.log((found - constant) @ wave / (1e-7 * wave @ wave)) - growth * time))
    # Differences of second order: by (k h)^2 / 12 and (k h)^2 / 6 of the terms, 0.01 and 0.02 for n = 36.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] < 5e-3 * (6 * abs(constant) * k**2 + thickness**2 * k**4) * time


def test_against_a_spectral_solver():
    thickness, length, n = 0.05, 2.0, 48
    k = 2 * np.pi / length * np.fft.rfftfreq(n, 1 / n)

    def rate(_, u):
        return np.fft.irfft(-3 * k**2 * np.fft.rfft(u**2) - thickness**2 * k**4 * np.fft.rfft(u), n)

    start = lambda x: 0.5 + 0.3 * np.sin(np.pi * x) + 0.15 * np.cos(2 * np.pi * x)
    x = (np.arange(n) + 0.5) * length / n
    exact = scipy.integrate.solve_ivp(rate, (0, 0.02), start(x), "BDF", (0.01, 0.02), rtol=1e-8, atol=1e-10).y.T
    errors = []
    for factor in (1, 2):
        fine = start((np.arange(n * factor) + 0.5) * length / (n * factor))
        found = solve(fine, thickness, length=length, time=0.03, frames=3)[1:]
        modes = np.fft.rfft(found)[:, : n // 2 + 1] / factor
        shift = np.exp(1j * k * (1 - 1 / factor) * length / n / 2)  # to the centres of the coarse cells
        errors.append(np.abs(np.fft.irfft(modes * shift, n) - exact).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)
    assert errors[1] < 1e-3


def test_starts_in_the_unit_interval_become_flat():
    starts = jax.jit(jax.vmap(lambda key: InitialSines(windowed=1.0)(key, 64)))(jax.random.split(jax.random.key(1), 6))
    found = np.asarray(
        jax.jit(jax.vmap(lambda u: solve_cahn_hilliard(u, 0.02, length=2.0, time=0.5, frames=4)))(starts)
    )
    np.testing.assert_allclose(found.mean(axis=2), np.repeat(starts.mean(axis=1).reshape(6, 1), 4, axis=1), rtol=1e-11)
    assert found.min() > -0.02
    assert (np.diff(found.std(axis=2), axis=1) < 0).all()
    assert np.median(np.ptp(found[:, -1], axis=1)) < 0.01


def test_what_grows_without_bound_ends_in_nan():
    u = -5.0 + np.cos(np.pi * np.arange(16) / 8)
    found = solve(u, 0.01, length=1.0, time=2.0, frames=4)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[-1]).all()


def test_chebyshev_steps_are_of_second_order():
    """For `u' = -u^2` and a pendulum, both in one vector."""
    rate = lambda u: jnp.stack((-(u[0] ** 2), u[2], -jnp.sin(u[1])))
    start = jnp.array([1.0, 0.7, 0.2])
    exact = scipy.integrate.solve_ivp(lambda _, u: rate(u), (0, 1), start, "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    step = jax.jit(functools.partial(chebyshev_step, rate))
    errors = []
    for steps in (10, 20):
        u = start
        for _ in range(steps):
            u = step(u, jnp.asarray(1 / steps))
        errors.append(np.abs(u - exact))
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), 2, atol=0.2)  # the next power of dt
    assert exact[0] == pytest.approx(1 / 2)


def test_chebyshev_steps_damp_all_eigenvalues_up_to_their_bound():
    rates = -jnp.linspace(0.5, STABLE, 300)
    factors = jax.jit(functools.partial(chebyshev_step, lambda u: rates * u))(jnp.ones(300), jnp.asarray(1.0))
    assert np.abs(factors).max() < 0.97
    np.testing.assert_allclose(factors[:1], np.exp(-0.5), rtol=0.02)
