"""Metrics against exact norms and convergence orders."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import metrics
from sciml.grid import Dirichlet, Grid, Neumann, Periodic

BOUNDARIES = [Periodic(), Dirichlet(), Neumann()]


def waves(grid):
    x, y = np.meshgrid(*grid.points(), indexing="ij")
    truth = np.sin(2 * np.pi * x / 2) * np.cos(2 * np.pi * y / 3)
    error = np.cos(2 * np.pi * 2 * x / 2) * np.sin(2 * np.pi * y / 3)
    return jnp.asarray(truth[None]), jnp.asarray(error[None])


# ||u||^2 is the same for both waves; ||grad u||^2 / ||u||^2 = (2 pi)^2 (kx^2 / 4 + ky^2 / 9)
EXACT_H1 = 0.1 * np.sqrt((1 + (2 * np.pi) ** 2 * (4 / 4 + 1 / 9)) / (1 + (2 * np.pi) ** 2 * (1 / 4 + 1 / 9)))


def test_relative_l2_of_a_scaled_field_is_the_scale():
    u = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 4)), jnp.float32)
    assert metrics.relative_l2(1.25 * u, u) == pytest.approx(0.25, rel=1e-6)


def test_spectral_h1_is_exact_for_waves():
    with jax.enable_x64(True):
        for shape in [(12, 9), (7, 16)]:
            grid = Grid(shape, extent=(2.0, 3.0))
            truth, error = waves(grid)
            got = metrics.relative_h1_spectral(truth + 0.1 * error, truth, grid=grid)
            assert got == pytest.approx(EXACT_H1, rel=1e-12)


def test_cutoff_leaves_the_l2_weight_to_high_modes():
    with jax.enable_x64(True):
        grid = Grid((12, 9), extent=(2.0, 3.0))
        truth, error = waves(grid)
        got = metrics.relative_h1_spectral(truth + 0.1 * error, truth, grid=grid, cutoff=2)
        # the error's kx = 2 counts as zero
        w = (2 * np.pi) ** 2
        assert got == pytest.approx(0.1 * np.sqrt((1 + w / 9) / (1 + w * (1 / 4 + 1 / 9))), rel=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_differences_converge_with_order_two(boundary):
    with jax.enable_x64(True):
        errors = []
        for n in (32, 64):
            grid = Grid((n, n + 3), extent=(2.0, 3.0), boundary=boundary)
            x, y = np.meshgrid(*grid.points(), indexing="ij")
            u = jnp.asarray((np.sin(np.pi * x) * np.cos(2 * np.pi * y / 3))[None])
            dx, dy = metrics.differences(u, grid)
            exact_dx = np.pi * np.cos(np.pi * x) * np.cos(2 * np.pi * y / 3)
            exact_dy = -2 * np.pi / 3 * np.sin(np.pi * x) * np.sin(2 * np.pi * y / 3)
            errors.append([np.abs(dx[0] - exact_dx).max(), np.abs(dy[0] - exact_dy).max()])
        order = np.log2(np.divide(*errors))
        assert np.all(order > 1.8), order


def test_finite_difference_h1_converges_to_the_exact_norm():
    with jax.enable_x64(True):
        grid = Grid((128, 192), extent=(2.0, 3.0))
        truth, error = waves(grid)
        got = metrics.relative_h1(truth + 0.1 * error, truth, grid=grid)
        assert got == pytest.approx(EXACT_H1, rel=5e-3)  # (k h)^2 / 6 for the steepest wave, 2 periods on 128 points


@pytest.mark.parametrize("name", ["relative_l2", "relative_h1", "relative_h1_spectral", "rmse"])
def test_an_exact_prediction_has_error_and_gradient_zero(name):
    grid = Grid((6, 5))
    metric = getattr(metrics, name)
    metric = functools.partial(metric, grid=grid) if "h1" in name else metric
    u = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5)), jnp.float32)
    value, gradient = jax.value_and_grad(metric)(u, u)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", ["relative_l2", "relative_h1", "relative_h1_spectral", "rmse"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_has_no_finite_error(name, bad):
    metric = getattr(metrics, name)
    metric = functools.partial(metric, grid=Grid((6, 5))) if "h1" in name else metric
    truth = jnp.ones((2, 6, 5))
    assert not np.isfinite(metric(truth.at[1, 2, 3].set(bad), truth))


def test_a_field_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="Expected a field"):
        metrics.relative_h1(jnp.ones((1, 4, 4)), jnp.ones((1, 4, 4)), grid=Grid((5, 4)))
    with pytest.raises(ValueError, match="needs 3 points along axis 1, got 2"):
        metrics.differences(jnp.ones((1, 4, 2)), Grid((4, 2), boundary=Dirichlet()))


@pytest.mark.reference
def test_losses_equal_the_published_codes(reference):
    arrays = np.load(reference / "mgno" / "losses_and_schedules.npz")
    with jax.enable_x64(True):
        for suffix, name in (("", "hs_sum_res24_trunc20"), ("51", "hs_sum_res51_trunc20")):
            x, y = (jnp.asarray(arrays[axis + suffix])[:, None] for axis in "xy")
            waves = Grid(x.shape[2:], extent=2 * math.pi)  # integer wavenumbers
            h1 = functools.partial(metrics.relative_h1_spectral, grid=waves, cutoff=20)
            # published and exact value differ by 3e-9, as if its weights were rounded to single precision
            assert float(jax.vmap(h1)(x, y).sum()) == pytest.approx(float(arrays[name]), rel=1e-8)
        x, y = (jnp.asarray(arrays[axis])[:, None] for axis in "xy")
        found = jax.vmap(metrics.relative_l2)(x, y).sum()
        assert float(found) == pytest.approx(float(arrays["lp_rel_sum"]), rel=1e-12)


def test_absolute_h1_equals_the_published_helmholtz_losses(reference):
    arrays = np.load(reference / "mgno" / "losses_and_schedules.npz")
    with jax.enable_x64(True):
        x, y = (jnp.asarray(arrays[name], jnp.float64)[:, None] for name in ("x51", "y51"))
        error = lambda weight: jax.vmap(functools.partial(metrics.absolute_h1, spacing=1 / 51, weight=weight))
        assert float(jnp.mean(error(10.0)(x, y))) == pytest.approx(float(arrays["hsd_abs_mean_51"]), rel=1e-12)
        relative = jnp.sum(error(1.0)(x, y) / error(1.0)(0 * y, y))
        assert float(relative) == pytest.approx(float(arrays["hsd2_rel_sum_51"]), rel=1e-12)


def test_absolute_h1_is_exact_for_a_linear_error():
    n, m, slope = 5, 7, np.array([2.0, -3.0])
    x, y = np.meshgrid(np.arange(n) / 4, np.arange(m) / 4, indexing="ij")
    error = slope[0] * x + slope[1] * y
    found = metrics.absolute_h1(jnp.asarray(error)[None], jnp.zeros((1, n, m)), spacing=0.25, weight=5.0)
    assert float(found) == pytest.approx(np.sqrt(5 * np.sum(error**2) + n * m * np.sum(slope**2)), rel=1e-6)  # float32
