"""Estimates against the exact posterior of a linear problem, Darcy flow with its solver, and refused problems."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import uq
from sciml.grid import Dirichlet, Grid
from sciml.pdes import LogNormalDarcy, solve_diffusion

POINTS = np.array([[0.2, 0.3], [0.55, 0.8], [0.9, 0.1], [1.0, 0.0], [0.5, 0.5]])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def linear(seed=0):
    rng = np.random.default_rng(seed)
    slopes, noise = rng.normal(size=(7, 3)), rng.uniform(0.3, 1, 7)
    observed = rng.normal(size=7)
    problem = uq.InverseProblem(lambda c: jnp.asarray(slopes) @ c, observed, noise, size=3)
    scaled = slopes / noise[:, None]
    covariance = np.linalg.inv(np.eye(3) + scaled.T @ scaled)
    return problem, covariance @ scaled.T @ (observed / noise), covariance


def test_the_laplace_approximation_of_a_linear_problem_is_its_posterior():
    problem, mean, covariance = linear()
    found = uq.maximum_a_posteriori(problem, jnp.ones(3), tolerance=1e-10)
    assert found.converged
    np.testing.assert_allclose(found.coefficients, mean, atol=1e-7)  # a step of the search below 1e-10, squared energy
    assert found.energy == pytest.approx(float(problem.energy(jnp.asarray(mean))), rel=1e-12)
    approximation = uq.laplace(problem, found.coefficients)
    np.testing.assert_allclose(approximation.covariance, covariance, rtol=1e-10)
    np.testing.assert_allclose(approximation.deviations, np.sqrt(np.diag(covariance)), rtol=1e-10)
    draws = approximation.draws(20_000, key=jax.random.key(0))
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=4 * np.sqrt(2 / 20_000) * covariance.max())


@pytest.mark.parametrize("steps", [1, 4])
def test_an_ensemble_ends_at_the_posterior_of_a_linear_problem(steps):
    problem, mean, covariance = linear()
    members = 20_000
    ensemble = uq.ensemble_kalman_inversion(problem, members=members, steps=steps, key=jax.random.key(1))
    # Errors fall with the root of the members; their gain and their draws both err, in each step
    error = 6 * np.sqrt(steps / members)
    np.testing.assert_allclose(ensemble.mean(0), mean, atol=error)
    np.testing.assert_allclose(np.cov(ensemble.T), covariance, atol=error)


def test_steps_of_length_one_end_at_the_best_fit():
    problem, _, _ = linear()
    ensemble = uq.ensemble_kalman_inversion(problem, members=200, steps=100, length=1.0, key=jax.random.key(2))
    slopes = jax.jacfwd(problem.whitened)(jnp.zeros(3))
    best = jnp.linalg.lstsq(slopes, -problem.whitened(jnp.zeros(3)))[0]
    np.testing.assert_allclose(ensemble.mean(0), best, atol=0.05)  # 100 steps weigh the data 100 times the prior
    assert (ensemble.std(0) < 0.1).all()


def test_observations_of_a_bilinear_field_are_exact():
    grid = Grid((6, 9), 1.0, Dirichlet(0.0))
    x, y = np.meshgrid(*grid.points(), indexing="ij")
    values = lambda x, y: np.stack((1 + 2 * x - y + 3 * x * y, x - 2 * y))
    found = uq.PointObservations(grid, POINTS)(jnp.asarray(values(x, y)))
    np.testing.assert_allclose(found, values(*POINTS.T).reshape(-1), atol=1e-14)


class Observed(eqx.Module):
    darcy: LogNormalDarcy = eqx.field(static=True)
    observe: uq.PointObservations

    def __call__(self, c):
        return self.observe(self.darcy.pressure(self.darcy.log_permeability(c))[None])


def test_the_search_finds_the_minimum_through_the_solver():
    darcy = LogNormalDarcy(resolution=11, terms=4)
    forward = Observed(darcy, uq.PointObservations(darcy.grid, POINTS))
    truth = jnp.array([1.0, -0.5, 0.3, 0.8])
    observed = forward(truth)
    problem = uq.InverseProblem(forward, observed, 1e-4, size=4)
    found = uq.maximum_a_posteriori(problem, jnp.zeros(4), tolerance=1e-9)
    assert found.converged
    assert float(found.energy) < float(problem.energy(truth))
    slope = jax.grad(problem.energy)(found.coefficients)
    # Newton's step of the Laplace approximation is what is left to go, in units of the deviations
    left = jnp.linalg.cholesky(uq.laplace(problem, found.coefficients).covariance).T @ slope
    assert float(jnp.abs(left).max()) < 1e-2


def test_refused_problems():
    forward, values = lambda c: c, np.array([0.1, 0.2])
    with pytest.raises(ValueError, match="at least 1 observation, got none"):
        uq.InverseProblem(forward, np.zeros(0), 0.1, size=2)
    with pytest.raises(ValueError, match="finite observations"):
        uq.InverseProblem(forward, np.array([0.1, np.nan]), 0.1, size=2)
    for noise in (0.0, np.array([0.1, -0.1]), np.nan):
        with pytest.raises(ValueError, match="noise with a positive standard deviation, got"):
            uq.InverseProblem(forward, values, noise, size=2)
    with pytest.raises(ValueError, match=r"forward map to \(2,\) values, one per observation, got \(3,\)"):
        uq.InverseProblem(forward, values, 0.1, size=3).misfit(jnp.zeros(3))
    grid = Grid((6, 9), 1.0, Dirichlet(0.0))
    with pytest.raises(ValueError, match=r"inside of the grid, 0 to 1 along axis 1, got \[0.2 1.3\]"):
        uq.PointObservations(grid, np.array([[0.1, 0.2], [0.2, 1.3]]))
    with pytest.raises(ValueError, match=r"at least 1 observation and points \(observations, 2\), got \(0, 2\)"):
        uq.PointObservations(grid, np.zeros((0, 2)))
    with pytest.raises(ValueError, match="members >= 2, steps >= 1 and length > 0, got 1, 1 and None"):
        uq.ensemble_kalman_inversion(linear()[0], members=1, steps=1, key=jax.random.key(0))


def test_a_coefficient_that_is_not_positive_is_named():
    ramp = jnp.linspace(0.0, 2.0, 99).reshape(9, 11)
    forward = lambda c: solve_diffusion(c[0] + ramp, jnp.ones((9, 11)))[2, 2:4]  # a link that is no exp
    problem = uq.InverseProblem(forward, np.array([0.1, 0.1]), 0.1, size=1)
    with pytest.raises(ValueError, match="where a permeability is not positive"):
        uq.maximum_a_posteriori(problem, -jnp.ones(1))
    assert np.isfinite(uq.maximum_a_posteriori(problem, jnp.ones(1)).energy)
