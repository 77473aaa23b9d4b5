"""The posterior of constants: exact for linear problems, and intervals that contain the truth as often as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sciml import symbolic
from sciml.symbolic import Integer, linearised_band, posterior, sampled_band, states

u, v = states(2)
LOTKA_VOLTERRA = (0.55 * u + -0.028 * (u * v), -0.8 * v + 0.026 * (u * v))
TS = np.linspace(0, 2, 13)
NOISE = 0.05


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def line(rng, noise=NOISE):
    """A line through 1 with the slope 0.7, with noise: du/dt = 0.7."""
    return (1 + 0.7 * TS + noise * rng.normal(size=TS.shape))[:, None]


def band_of_90_percent(count):
    """The shares that 999 of 1000 exact methods have in so many independent trials."""
    return scipy.stats.binom.ppf([0.0005, 0.9995], count, 0.9) / count


SLOPE = (Integer(0) * states(1)[0] + 0.5,)


@pytest.mark.parametrize("given", [NOISE, None])
def test_linear_regression_is_exact(given):
    ys = line(np.random.default_rng(0))
    found = posterior(SLOPE, TS, ys, noise=given)
    design = np.stack((TS, np.ones_like(TS)), 1)
    best, squares, *_ = np.linalg.lstsq(design, ys[:, 0])
    level = NOISE if given else np.sqrt(squares[0] / (len(TS) - 2))
    covariance = level**2 * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose([*found.constants, *found.initial_condition], best, rtol=1e-5)
    np.testing.assert_allclose(found.noise, level, rtol=1e-4)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-3)
    later = np.array([2.5, 4.0])
    ahead = np.stack((later, np.ones_like(later)), 1)
    half = scipy.stats.t.ppf(0.95, len(TS) - 2 if given is None else np.inf)
    deviation = np.sqrt(np.einsum("ti,ij,tj->t", ahead, covariance, ahead))
    band = linearised_band(found, later)
    np.testing.assert_allclose(band.high[:, 0], ahead @ best + half * deviation, rtol=1e-4)
    observed = half * np.hypot(deviation, level)
    np.testing.assert_allclose(band.observed_low[:, 0], ahead @ best - observed, rtol=1e-4)
    drawn = sampled_band(found, later, draws=4000)
    # Quantiles at 5 % of 4000 draws err by 0.035 deviations of a normal distribution; three times that
    for name, width in (
        ("low", deviation),
        ("high", deviation),
        ("observed_low", observed),
        ("observed_high", observed),
    ):
        np.testing.assert_allclose(getattr(drawn, name)[:, 0], getattr(band, name)[:, 0], atol=0.11 * width.max())
    np.testing.assert_allclose(drawn.states, band.states, rtol=1e-6)


def test_a_spread_is_a_prior():
    ys = line(np.random.default_rng(1))
    found = posterior(SLOPE, TS, ys, noise=NOISE, spread=0.1)
    design = np.stack((TS, np.ones_like(TS)), 1) / NOISE
    precision = design.T @ design + np.diag([1 / (0.1 * 0.5) ** 2, 0])
    mean = np.linalg.solve(precision, design.T @ ys[:, 0] / NOISE + np.array([0.5 / (0.1 * 0.5) ** 2, 0]))
    np.testing.assert_allclose([*found.constants, *found.initial_condition], mean, rtol=1e-5)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(precision), rtol=1e-6)


def test_intervals_of_a_line_contain_the_truth_as_often_as_they_say():
    rng, count = np.random.default_rng(2), 150
    constants, forecasts, observations = [], [], []
    for _ in range(count):
        found = posterior(SLOPE, TS, line(rng))
        low, high = found.interval(0.9)
        band, new = linearised_band(found, np.array([3.0])), 3.1 + NOISE * rng.normal()
        constants.append(low[0] <= 0.7 <= high[0])
        forecasts.append(band.low[0, 0] <= 3.1 <= band.high[0, 0])
        observations.append(band.observed_low[0, 0] <= new <= band.observed_high[0, 0])
    low, high = band_of_90_percent(count)
    for inside in (constants, forecasts, observations):
        assert low <= np.mean(inside) <= high


@pytest.mark.slow  # the same of a nonlinear system
def test_intervals_of_populations_contain_the_truth_as_often_as_they_say():
    times, rng, count = np.linspace(0, 20, 41), np.random.default_rng(3), 200
    true, deviations = symbolic.parameters(LOTKA_VOLTERRA), np.array([1.5, 1.0])
    given = posterior(LOTKA_VOLTERRA, times[:5], np.ones((5, 2)), noise=1.0)._replace(
        system=LOTKA_VOLTERRA, initial_condition=np.array([30.0, 4.0])
    )
    path = linearised_band(given, times).states
    inside = []
    for _ in range(count):
        ys = path[:31] + deviations * rng.normal(size=(31, 2))
        found = posterior(LOTKA_VOLTERRA, times[:31], ys, segments=3)
        low, high = found.interval(0.9)
        band = linearised_band(found, times[[35, 40]])
        later = path[[35, 40]]
        inside.append([*((low <= true) & (true <= high)), *((band.low <= later) & (later <= band.high)).reshape(-1)])
    low, high = band_of_90_percent(count)
    shares = np.mean(inside, 0)
    assert ((low <= shares) & (shares <= high)).all(), shares


def test_a_constant_that_data_do_not_determine_has_a_wide_interval():
    one = states(1)[0]
    found = posterior((0.3 + (0.4 + Integer(0) * one),), TS, line(np.random.default_rng(4)), noise=NOISE)
    assert (found.deviations > 1e3).all()  # their sum alone is determined
    band = linearised_band(found, np.array([2.0]))
    assert np.isfinite(band.states).all()


def test_refused_questions():
    ys = line(np.random.default_rng(5))
    found = posterior(SLOPE, TS, ys)
    with pytest.raises(ValueError, match=r"one trajectory \(times, size\), got \(1, 13, 1\)"):
        posterior(SLOPE, TS, ys[None])
    with pytest.raises(ValueError, match="noise with a positive standard deviation, got 0"):
        posterior(SLOPE, TS, ys, noise=0.0)
    with pytest.raises(ValueError, match="more data than unknowns, got 2 numbers for 2"):
        posterior(SLOPE, TS[:2], ys[:2])
    with pytest.raises(ValueError, match=r"a level between 0 and 1, such as 0\.9, got 90"):
        linearised_band(found, np.array([3.0]), level=90.0)
    for band in (linearised_band, sampled_band):
        with pytest.raises(ValueError, match="times that increase from 0, the first one of the data"):
            band(found, np.array([-1.0]))
    explosive = (1.0 * symbolic.exp(9.0 * states(1)[0]),)
    with pytest.raises(ValueError, match="a system that can be solved over all times"):
        posterior(explosive, TS, ys)
    assert isinstance(jnp.asarray(found.covariance), jax.Array)
