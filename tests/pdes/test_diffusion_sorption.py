import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
from solved_flows import solve, x64  # noqa: F401

from sciml.data import draw, joined_frames
from sciml.pdes import DiffusionSorption

SMALL = DiffusionSorption(resolution=20, frames=4, interval=10.0)


def constant(problem, value):
    return np.full((1, problem.resolution), value)


def test_the_retardation_factor_is_the_published_one():
    expected = 1 + (1 - 0.29) / 0.29 * 2880 * 3.5e-4 * 0.874 * 0.3 ** (0.874 - 1)
    np.testing.assert_allclose(SMALL.retardation(jnp.asarray(0.3)), expected, rtol=1e-13)


def test_the_method_of_lines_of_scipy():
    """With ghost values beyond both walls in place of fluxes, and a rule for stiff equations."""
    problem = DiffusionSorption(resolution=40, frames=5, interval=40.0, steps=64)
    n, d = 40, 5e-4

    def rate(_, u):
        robin = (2 * d * n - 1) / (2 * d * n + 1)  # of (last + ghost) / 2 = -d (ghost - last) n
        wide = np.concatenate(([2 - u[0]], u, [robin * u[-1]]))
        factor = 1 + 0.71 / 0.29 * 2880 * 3.5e-4 * 0.874 * u**-0.126
        return d / factor * np.diff(wide, 2) * n**2

    times = 40.0 * np.arange(1, 6)
    exact = scipy.integrate.solve_ivp(rate, (0, 200), np.full(n, 0.15), "BDF", times, rtol=1e-8, atol=1e-10)
    found = solve(problem, constant(problem, 0.15))[:, 0]
    assert found[-1].max() - found[-1].min() > 0.5
    np.testing.assert_allclose(found, exact.y.T, atol=1e-5)  # measured 3e-6: steps of 0.6, second order


def test_the_order_for_linear_sorption():
    """With the exponent 1 the factor is constant and early fields are error functions."""
    errors = []
    for n in (40, 80):
        problem = DiffusionSorption(resolution=n, frames=2, interval=8.0, exponent=1.0, steps=64)
        factor = float(problem.retardation(jnp.ones(())))
        x = problem.grid.points()[0]
        exact = scipy.special.erfc(x / (2 * np.sqrt(5e-4 / factor * 16)))  # 1e-50 at the other wall
        errors.append(np.abs(solve(problem, constant(problem, 0.0))[-1, 0] - exact).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)
    assert errors[1] < 3e-3  # of a layer of eight cells


def test_the_steady_state_is_a_line():
    problem = DiffusionSorption(resolution=12, frames=2, interval=60.0, diffusivity=0.3)
    slope = 1 / (1 + 0.3)  # u = 1 - slope x, and u = 0.3 slope at x = 1
    expected = 1 - slope * problem.grid.points()[0]
    np.testing.assert_allclose(solve(problem, constant(problem, 0.2))[-1, 0], expected, atol=1e-10)


def test_what_enters_and_does_not_leave_stays():
    """The balance of dissolved and sorbed solute, from the fluxes at the frames (trapezoidal rule, interval 0.25)."""
    problem = DiffusionSorption(resolution=32, frames=400, interval=0.25, diffusivity=5e-3)
    u = solve(problem, constant(problem, 0.1))[:, 0]
    mass = (u + 0.71 / 0.29 * 2880 * 3.5e-4 * u**0.874).mean(axis=1)
    wall = 2 * 5e-3 * 32
    flux = wall * (1 - u[:, 0]) - wall / (1 + wall) * u[:, -1]
    since = 40  # frames, after the layers at the walls have formed
    passed = ((flux[1:] + flux[:-1]) / 2 * 0.25)[since:].sum()
    assert passed > 0.3
    assert mass[-1] - mass[since] == pytest.approx(passed, rel=1e-4)


def test_concentrations_stay_between_those_of_the_walls():
    for steps in (1, 16):
        found = solve(dataclasses.replace(SMALL, steps=steps), constant(SMALL, 0.0))
        assert found.min() > -1e-9
        assert found.max() < 1
        assert (np.diff(found[:, 0], axis=1) < 1e-9).all()  # falls from the source on
        assert (np.diff(found[:, 0], axis=0) > -1e-9).all()  # and rises in time


def test_the_default_resolution_and_step_suffice():
    problem = DiffusionSorption(frames=20)
    fine = dataclasses.replace(problem, resolution=3 * problem.resolution, steps=32)
    found, expected = (solve(one, constant(one, 0.1))[:, 0] for one in (problem, fine))
    error = np.linalg.norm(found - expected[:, 1::3], axis=1) / np.linalg.norm(found, axis=1)
    assert error.max() < 1e-3  # measured 6e-4 in the first frame; errors of the models to be trained are above 5e-4


def test_samples_are_trajectories():
    problem = dataclasses.replace(SMALL, diffusivity=(1e-4, 1e-3))
    pairs = draw(problem, n=40, seed=2)
    states = joined_frames(pairs)
    assert states.shape == (40, 5, 1, 20)
    assert (pairs.inputs, pairs.outputs[-1]) == (("concentration t=0",), "concentration t=40")
    assert (np.ptp(states[:, 0], axis=(1, 2)) == 0).all()
    levels = states[:, 0, 0, 0]
    assert 0 < levels.min() < 0.03
    assert 0.17 < levels.max() < 0.2  # outside with a probability of 0.85^40 = 1e-3
    assert pairs.parameter_names == ("diffusivity",)
    one = problem.at(diffusivity=float(pairs.parameters[7, 0]))
    np.testing.assert_allclose(states[7, 1:], solve(one, states[7, 0].astype(float)), atol=1e-6)  # float32
    with pytest.raises(ValueError, match="Expected a number, got the range"):
        problem.solve(jnp.zeros((1, 20)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 7}, "at least 8 cells and 1 frame, got resolution 7"),
        ({"interval": 0.0}, "positive interval, density and sorption, got interval 0.0"),
        ({"porosity": 1.0}, r"a porosity in \(0, 1\), an exponent in \(0, 1\], .* got 1\.0, 0\.874, 0\.2 and 16"),
        ({"exponent": 1.1}, r"got 0\.29, 1\.1"),
        ({"largest": 1.5}, r"got 0\.29, 0\.874, 1\.5"),
        ({"steps": 0}, r"and 0\.$"),
        ({"diffusivity": 0.0}, "a positive diffusivity, got 0.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        DiffusionSorption(**settings)


def test_bad_fields_and_precision():
    with pytest.raises(ValueError, match=r"20.*got"):
        SMALL.solve(jnp.ones((1, 16)))
    assert SMALL.solve(jnp.ones((1, 20), jnp.float32)).dtype == jnp.float32
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        SMALL.sample(jax.random.key(0))
