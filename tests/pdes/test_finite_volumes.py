import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from sciml.grid import Dirichlet, Neumann, Periodic
from sciml.pdes import (
    BalanceLaw,
    Bistable,
    BurgersFlux,
    CubicFlux,
    LinearDiffusion,
    LinearFlux,
    LinearReaction,
    Logistic,
    PorousMedium,
    SineFlux,
    SquaredLogistic,
    solve_balance_law,
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def centres(n, length):
    return (np.arange(n) + 0.5) * length / n


def averages(f, n, length, points=20):
    """Averages of a function over cells, by the midpoint rule in parts of each."""
    return f(centres(n * points, length)).reshape(n, points).mean(axis=1)


def solve(u, law, **settings):
    return np.asarray(jax.jit(functools.partial(solve_balance_law, law=law, **settings))(jnp.asarray(u)))


FLUXES = [LinearFlux(-0.7), BurgersFlux(1.3), CubicFlux(-0.6), SineFlux(1.7)]


@pytest.mark.parametrize("flux", FLUXES)
def test_speeds_of_waves(flux):
    a, b = np.random.default_rng(0).uniform(-4, 4, (2, 200))
    between = np.linspace(a, b, 801)
    slopes = np.abs(jax.jit(jax.vmap(jax.vmap(jax.grad(flux))))(jnp.asarray(between))).max(axis=0)
    found = flux.speed(jnp.asarray(a), jnp.asarray(b))
    assert (found >= slopes * (1 - 1e-12)).all()  # rounding
    np.testing.assert_allclose(found, slopes, rtol=1e-4)  # a maximum between points 0.01 apart


# Left and right value, flux, and the exact solution as a function of (x - place) / t.
def burgers_shock(xi):
    return np.where(xi < 1.2 * (1.5 + 0.2) / 2, 1.5, 0.2)


def sonic_rarefaction(xi):
    return np.clip(xi / 1.2, -0.5, 1.0)


def compound_wave(xi):
    """A shock from 1 to -1/2, whose right side moves as fast as it does, and a rarefaction from there to -1."""
    return np.where(xi < 0.25, 1.0, -np.sqrt(np.clip(xi, 0.25, 1.0)))


def sine_shock(xi):
    return np.where(xi < 0.8 * (np.sin(0.3) - np.sin(1.4)) / (0.3 - 1.4), 0.3, 1.4)


RIEMANN = [
    (1.5, 0.2, BurgersFlux(1.2), burgers_shock, 0.25),
    (-0.5, 1.0, BurgersFlux(1.2), sonic_rarefaction, 0.4),
    (1.0, -1.0, CubicFlux(1.0), compound_wave, 0.5),
    (0.3, 1.4, SineFlux(0.8), sine_shock, 0.5),
]


def riemann_error(left, right, flux, exact, n, **settings):
    """Integral of the error at two times, in spacings times the jump; where the solution stays and what flows in."""
    length, place, t = 2.0, 0.77, np.array([0.3, 0.6])
    start = averages(lambda x: np.where(x < place, left, right), n, length, points=100)
    law = BalanceLaw(flux)
    found = solve(start, law, boundary=Neumann(0.5), length=length, time=0.9, frames=3, **settings)[1:]
    expected = [averages(lambda x, t=t: exact((x - place) / t), n, length) for t in t]
    assert min(left, right) - 1e-12 < found.min() <= found.max() < max(left, right) + 1e-12
    inflow = float(flux(jnp.asarray(left)) - flux(jnp.asarray(right)))
    np.testing.assert_allclose(found.mean(axis=1), start.mean() + inflow * t / length, atol=1e-12)
    return np.abs(found - expected).sum(axis=1) / abs(left - right)


@pytest.mark.parametrize(("left", "right", "flux", "exact", "tolerance"), RIEMANN)
def test_riemann_problems(left, right, flux, exact, tolerance):
    errors = riemann_error(left, right, flux, exact, 150)
    assert errors.max() < tolerance


def test_the_steepest_slopes_fail_behind_an_inflection():
    errors = [riemann_error(1.0, -1.0, CubicFlux(1.0), compound_wave, n, steepest=2.0).max() for n in (75, 150)]
    assert errors[1] > 1.7 * errors[0]  # in spacings: no convergence


def burgers_before_shocks(x, t):
    """By characteristics: `u = 0.5 + 0.3 sin(pi (x - u t))`, solved by iteration; the shock forms at 1.06."""
    u = np.full_like(x, 0.5)
    for _ in range(200):
        u = 0.5 + 0.3 * np.sin(np.pi * (x - u * t))
    return u


def test_second_order_for_smooth_waves():
    errors = []
    for n in (64, 128):
        start = averages(lambda x: burgers_before_shocks(x, 0.0), n, 2.0)
        found = solve(start, BalanceLaw(BurgersFlux(1.0)), length=2.0, time=1.0, frames=2)[1]
        errors.append(np.abs(found - averages(lambda x: burgers_before_shocks(x, 0.5), n, 2.0)).mean())
    assert 1.8 < np.log2(errors[0] / errors[1]) < 2.5  # what the limiter does at the two extrema vanishes faster
    assert errors[1] < 3e-4


def test_a_viscous_shock_wave():
    """The travelling wave of Burgers' equation, between open ends."""
    k, nu, left, right, place, errors = 1.3, 0.05, 1.2, 0.1, 1.4, []
    speed = k * (left + right) / 2
    profile = lambda s: (left + right - (left - right) * np.tanh(k * (left - right) * s / 4 / nu)) / 2
    wave = lambda x, t: profile(x - place - speed * t)
    for n in (60, 120):
        start, end = (averages(lambda x, t=t: wave(x, t), n, 3.0) for t in (0.0, 0.6))
        law = BalanceLaw(BurgersFlux(k), LinearDiffusion(nu))
        found = solve(start, law, boundary=Neumann(0.5), length=3.0, time=1.2, frames=2)[1]
        errors.append(np.abs(found - end).mean())
    assert 1.8 < np.log2(errors[0] / errors[1]) < 2.5
    assert errors[1] < 1e-3


@pytest.mark.parametrize("m", [2.0, 3.0])
def test_the_barenblatt_solution_of_a_porous_medium(m):
    beta = 1 / (m + 1)
    kappa = (m - 1) * beta / (2 * m)

    def barenblatt(t):
        return lambda x: t**-beta * np.maximum(0.1 - kappa * (x - 1) ** 2 * t ** (-2 * beta), 0) ** (1 / (m - 1))

    errors = []
    for n in (50, 100):
        start, end = (averages(barenblatt(t), n, 2.0) for t in (0.05, 0.15))
        found = solve(start, BalanceLaw(diffusion=PorousMedium(m)), length=2.0, time=0.2, frames=2)[1]
        errors.append(np.abs(found - end).mean() / end.mean())
        assert found.min() >= 0
        np.testing.assert_allclose(found.mean(), start.mean(), rtol=1e-13)
    assert errors[1] < 0.7 * errors[0]  # first order where the front is: its slope is infinite for m = 3
    assert errors[1] < 0.01


REACTIONS = [
    (LinearReaction(-0.7), lambda u: -0.7 * u),
    (Logistic(1.3), lambda u: 1.3 * u * (1 - u)),
    (SquaredLogistic(2.1), lambda u: 2.1 * u**2 * (1 - u) ** 2),
    (Bistable(1.6, 0.35), lambda u: 1.6 * u * (1 - u) * (u - 0.35)),
]


@pytest.mark.parametrize(("reaction", "rate"), REACTIONS)
def test_constant_fields_only_react(reaction, rate):
    exact = scipy.integrate.solve_ivp(lambda _, u: rate(u), (0, 2), [0.2, 0.6], "DOP853", (0, 1, 2), rtol=1e-10).y
    for start, expected in zip((0.2, 0.6), exact, strict=True):
        found = solve(np.full(5, start), BalanceLaw(reaction=reaction), length=1.0, time=3.0, frames=3)
        np.testing.assert_allclose(found, np.repeat(expected.reshape(3, 1), 5, axis=1), rtol=2e-4)  # of GROWTH^2


def test_all_terms_together_against_a_spectral_solver():
    """The signs and factors of all terms, against modes of Fourier and an adaptive solver of SciPy."""
    k, nu, r, a, length = 1.4, 0.04, 1.2, 0.3, 2.0
    m = 2 * np.pi / length * np.fft.rfftfreq(96, 1 / 96)

    def rate(_, u):
        slopes, bends = (np.fft.irfft(f * np.fft.rfft(v), 96) for f, v in ((1j * m, k * u**3 / 3), (-(m**2), nu * u)))
        return bends - slopes + r * u * (1 - u) * (u - a)

    start = lambda x: 0.6 + 0.35 * np.sin(np.pi * x) - 0.1 * np.cos(2 * np.pi * x)
    exact = scipy.integrate.solve_ivp(
        rate, (0, 0.8), start(centres(96, 2.0)), "LSODA", (0.4, 0.8), rtol=1e-9, atol=1e-9
    )
    law = BalanceLaw(CubicFlux(k), LinearDiffusion(nu), Bistable(r, a))
    errors = []
    for n in (48, 96):
        found = solve(start(centres(n, length)), law, length=length, time=1.2, frames=3)[1:]
        modes = np.fft.rfft(exact.y.T) * np.exp(1j * m * (length / n - length / 96) / 2)  # to the other centres
        expected = np.fft.irfft(modes, 96)[:, :: 96 // n]
        errors.append(np.abs(found - expected).mean())
    assert 1.8 < np.log2(errors[0] / errors[1]) < 2.5
    assert errors[1] < 1e-3


def test_rough_fields_keep_their_mean_and_their_bounds():
    u = jax.random.uniform(jax.random.key(1), (40,), minval=-1.0, maxval=4.0)
    found = solve(u, BalanceLaw(SineFlux(1.1)), length=1.0, time=2.0, frames=4)
    np.testing.assert_allclose(found.mean(axis=1), found[0].mean(), rtol=1e-13)
    assert (np.diff(found.min(axis=1)) >= -1e-13).all()
    assert (np.diff(found.max(axis=1)) <= 1e-13).all()
    assert np.ptp(found[-1]) < np.ptp(found[0]) / 2


def test_what_grows_without_bound_ends_in_nan():
    found = solve(np.full(4, 1.0), BalanceLaw(reaction=jnp.square), length=1.0, time=2.1, frames=3)
    np.testing.assert_allclose(found[1], 1 / (1 - 0.7), rtol=2e-3)
    assert np.isnan(found[2]).all()


def test_bad_slopes():
    for steepest in (0.9, 2.1):
        with pytest.raises(ValueError, match=f"1 to 2 times the differences on both sides, got steepest {steepest}"):
            solve_balance_law(jnp.ones(8), BalanceLaw(), length=1.0, time=1.0, frames=2, steepest=steepest)


def test_walls_pass_between_cells():
    for boundary in (Periodic(), Neumann()):
        with pytest.raises(ValueError, match=r"Cells end at the wall: expected a boundary with gap 0\.5, got"):
            solve_balance_law(jnp.ones(8), BalanceLaw(), boundary=boundary, length=1.0, time=1.0, frames=2)
    found = solve(np.ones(8), BalanceLaw(LinearFlux(1.0)), boundary=Dirichlet(0.5), length=1.0, time=6.0, frames=2)
    assert found[1].max() < 1e-3  # zeros have flowed in
