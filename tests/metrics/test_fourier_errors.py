"""Errors in Fourier space against waves whose errors are known, and Parseval's theorem."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import metrics
from sciml.grid import Grid

DOUBLE = 1e-10  # float64: roundings of transforms of some hundred points
SHAPES = [(9,), (12,), (8, 9), (6, 5, 4)]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def noise(shape, channels=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, channels, *shape)))


def coordinates(grid):
    return np.meshgrid(*grid.points(), indexing="ij")


def test_the_gradient_error_of_waves_is_that_of_their_wavenumbers():
    grid = Grid((12, 15), extent=(2.0, 3.0))
    x, y = coordinates(grid)
    truth = np.cos(2 * np.pi * x / 2) * np.cos(2 * np.pi * 2 * y / 3)  # wavenumbers (1, 2)
    error = 0.1 * np.cos(2 * np.pi * 3 * x / 2)  # wavenumbers (3, 0), mean square 0.1^2 / 2 against 1 / 4
    found = metrics.gradient_nrmse(jnp.asarray((truth + error)[None]), jnp.asarray(truth[None]), grid=grid)
    expected = (3 / 2) * 0.1 * math.sqrt(1 / 2) / ((1 / 2 + 2 / 3) * math.sqrt(1 / 4))
    assert float(found[0]) == pytest.approx(expected, rel=DOUBLE)
    both = metrics.h1_nrmse(jnp.asarray((truth + error)[None]), jnp.asarray(truth[None]), grid=grid)
    assert float(both[0]) == pytest.approx(expected + 0.1 * math.sqrt(2), rel=DOUBLE)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_scaled_field_has_the_scale_as_error_in_every_norm(shape):
    grid = Grid(shape, extent=tuple(1.0 + i for i in range(len(shape))))
    _, truth = noise(shape)
    for found in (
        metrics.gradient_nrmse(1.25 * truth, truth, grid=grid),
        metrics.h1_nrmse(1.25 * truth, truth, grid=grid) / 2,
        metrics.band_nrmse(1.25 * truth, truth, low=1, high=2),
    ):
        assert np.asarray(found) == pytest.approx([0.25, 0.25], rel=DOUBLE)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_band_of_all_modes_gives_nrmse(shape):
    prediction, truth = noise(shape)
    found = metrics.band_nrmse(prediction, truth, low=0, high=max(shape))
    assert np.asarray(found) == pytest.approx(np.asarray(metrics.nrmse(prediction, truth)), rel=DOUBLE)


def test_a_band_holds_the_waves_whose_largest_wavenumber_is_in_it():
    grid = Grid((16, 18), extent=2 * math.pi)
    x, y = coordinates(grid)
    truth = 1 + np.cos(3 * x) + np.cos(5 * y)
    error = 0.5 * np.cos(3 * x) * np.cos(2 * y) + 0.25 * np.sin(5 * y) + 0.125
    pair = jnp.asarray((truth + error)[None]), jnp.asarray(truth[None])
    squares = {0: (0.125**2, 1), 3: (0.25 / 4, 1 / 2), 5: (0.0625 / 2, 1 / 2)}
    for low, high, inside in [
        (0, 0, [0]),
        (1, 4, [3]),
        (0, 3, [0, 3]),
        (4, 5, [5]),
        (3, 5, [3, 5]),
        (0, 99, [0, 3, 5]),
    ]:
        over, under = (sum(squares[k][i] for k in inside) for i in (0, 1))
        found = metrics.band_nrmse(*pair, low=low, high=high)
        assert float(found[0]) == pytest.approx(math.sqrt(over / under), rel=DOUBLE)


@pytest.mark.parametrize(("low", "high"), [(-1, 2), (3, 2), (6, 9)])
def test_a_band_without_modes_is_refused(low, high):
    with pytest.raises(ValueError, match=r"Expected a band 0 <= low <= high with low up to 5, .* got low"):
        metrics.band_nrmse(jnp.ones((1, 10)), jnp.ones((1, 10)), low=low, high=high)


def test_a_gradient_error_needs_a_field_of_its_grid():
    with pytest.raises(ValueError, match="Expected a field"):
        metrics.gradient_nrmse(jnp.ones((1, 8)), jnp.ones((1, 8)), grid=Grid((9,)))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectral_bins_add_up_to_the_mean_squared_error(shape):
    prediction, truth = noise(shape)
    found = metrics.binned_spectral_mse(prediction, truth)
    assert found.shape == (3, 2)
    expected = np.mean(np.asarray(prediction - truth) ** 2, axis=tuple(range(1, truth.ndim)))
    assert np.asarray(found.sum(axis=0)) == pytest.approx(expected, rel=DOUBLE)


def test_the_spectral_bins_are_logarithmic():
    # 50 points: edges 2 pi / 50 times 1, 25^(1/3) = 2.92, 25^(2/3) = 8.55, 25; the first is 0
    x = np.arange(50) * 2 * np.pi / 50
    amplitudes = {0: 1.0, 2: 2.0, 3: 3.0, 8: 4.0, 9: 5.0, 25: 6.0}
    error = sum(a * np.cos(k * x) for k, a in amplitudes.items())
    found = metrics.binned_spectral_mse(jnp.asarray(error[None]), jnp.zeros((1, 50)))[:, 0]
    expected = [1 + 4 / 2, 9 / 2 + 16 / 2, 25 / 2 + 36]  # a cosine has half of its squared amplitude, k = 0, 25 all
    assert np.asarray(found) == pytest.approx(expected, rel=DOUBLE)
    assert metrics.binned_spectral_mse(jnp.asarray(error[None]), jnp.zeros((1, 50)), bins=5).shape == (5, 1)


def test_the_radius_counts_the_angle_per_grid_spacing():
    # (1, 0) of 40 x 10 points has the angle 2 pi / 40, (0, 1) has 2 pi / 10; edges 2 pi / 40 times 1, 3.05, 9.28, 28.3
    i, j = np.meshgrid(np.arange(40), np.arange(10), indexing="ij")
    error = np.cos(2 * np.pi * i / 40) + 2 * np.cos(2 * np.pi * j / 10) + 4 * np.cos(np.pi * (i + j))
    found = metrics.binned_spectral_mse(jnp.asarray(error[None]), jnp.zeros((1, 40, 10)))[:, 0]
    assert np.asarray(found) == pytest.approx([1 / 2, 4 / 2, 16], rel=DOUBLE)
