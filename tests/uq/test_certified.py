"""Certified predictions against solutions of dense and of the library's solvers."""

import dense_diffusion as dense
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import pdes, uq
from sciml.data import draw
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.preconditioners import SymmetricCycle

GRID = Grid((9, 11), (1.0, 1.4), ((Dirichlet(0.5), Neumann(0.0)), (Dirichlet(0.0), Dirichlet(1.0))))


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def case(grid, contrast, seed=0):
    rng = np.random.default_rng(seed)
    a, f = np.exp(rng.uniform(0, np.log(contrast), grid.shape)), rng.normal(size=grid.shape)
    _, weights = dense.assembled(grid, a)
    singular = all(isinstance(wall, Periodic) for sides in grid.sides for wall in sides)
    f = f - singular * (weights @ f.ravel() / weights.sum())
    return uq.Diffusion(grid, jnp.asarray(f)), a[None], dense.solution(grid, a, f), rng.normal(size=grid.shape)


def true_relative(problem, a, u, field):
    errors = [dense.errors(problem.grid, a[0], u, v)[1] for v in (np.asarray(field)[0], 0 * u)]
    return errors[0] / errors[1]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-10])
@pytest.mark.parametrize("grid", [GRID, Grid((8, 7))], ids=["walls", "periodic"])
def test_the_tolerance_is_kept(grid, tolerance):
    problem, a, u, noise = case(grid, 1000.0)
    prediction = jnp.asarray((u + 0.3 * np.abs(u).max() * noise)[None])
    found = eqx.filter_jit(uq.Certified(lambda x: prediction, problem, tolerance))(a)
    assert not found.accepted
    assert true_relative(problem, a, u, found.field) <= found.bound <= tolerance
    assert 1 <= found.iterations <= 120


def test_another_preconditioner_keeps_the_tolerance_in_fewer_steps():
    problem, a, u, noise = case(
        Grid((26, 19), 1.0, ((Dirichlet(0.5), Neumann(0.0)), (Dirichlet(0.0), Dirichlet(1.0)))), 1e5
    )
    prediction = jnp.asarray((u + 0.3 * np.abs(u).max() * noise)[None])
    steps = []
    for preconditioner in (None, SymmetricCycle(key=jax.random.key(0))):
        certified = uq.Certified(lambda x: prediction, problem, 1e-6, preconditioner=preconditioner)
        found = eqx.filter_jit(certified)(a)
        assert true_relative(problem, a, u, found.field) <= found.bound <= 1e-6
        steps.append(int(found.iterations))
    assert 1 <= steps[1] < steps[0] / 2


def test_a_preconditioner_that_does_not_fit_is_refused():
    problem, a, _, _ = case(Grid((8, 7)), 10.0)
    with pytest.raises(ValueError, match="a plane problem without Periodic walls"):
        uq.certify(problem, a, a, 1e-6, preconditioner=SymmetricCycle(key=jax.random.key(0)))


def test_the_number_of_steps_is_that_of_the_bound():
    """One step fewer does not keep the tolerance, which the bound of the iterate says."""
    problem, a, u, noise = case(GRID, 100.0)
    prediction = (u + 0.1 * np.abs(u).max() * noise)[None]
    certify = lambda limit: jax.jit(lambda v: uq.certify(problem, a, v, 1e-4, limit=limit))(prediction)
    found = certify(2000)
    assert jnp.isfinite(found.bound)
    fewer = certify(int(found.iterations) - 4)
    assert jnp.isnan(fewer.field).all()
    assert fewer.bound == jnp.inf
    assert fewer.iterations == found.iterations - 4


def test_good_predictions_are_returned_as_they_are():
    problem, a, u, _ = case(GRID, 10.0)
    prediction = (u * 1.001)[None].astype(np.float32)
    found = jax.jit(lambda v: uq.certify(problem, a, v, 1e-2))(prediction)
    assert found.accepted
    assert found.iterations == 0
    np.testing.assert_array_equal(np.asarray(found.field, np.float32), prediction)
    assert true_relative(problem, a, u, prediction) <= found.bound <= 1e-2


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 1e6])
def test_useless_predictions_cost_no_more_than_a_solve_from_zero(wrong):
    problem, a, u, noise = case(GRID, 10.0)
    certify = jax.jit(lambda v: uq.certify(problem, a, v, 1e-6))
    from_zero = certify(np.zeros((1, *GRID.shape)))
    found = certify((wrong * noise)[None])
    assert true_relative(problem, a, u, found.field) <= 1e-6
    assert found.iterations <= from_zero.iterations + 2


def test_a_batch_is_a_loop():
    problem, a, u, noise = case(GRID, 30.0)
    scales = np.array([0.0, 1e-3, 1.0])
    predictions = (u + scales[:, None, None] * np.abs(u).max() * noise)[:, None]
    one = jax.jit(lambda v: uq.certify(problem, a, v, 1e-3))
    many = jax.jit(jax.vmap(lambda v: uq.certify(problem, a, v, 1e-3)))(predictions)
    assert list(many.accepted) == [True, False, False]
    for i, prediction in enumerate(predictions):
        alone = one(prediction)
        assert alone.iterations == many.iterations[i]
        np.testing.assert_allclose(alone.field, many.field[i], rtol=1e-10)
        np.testing.assert_allclose(alone.bound, many.bound[i], rtol=1e-8)
    assert 0 < many.iterations[1] < many.iterations[2]


def test_samples_of_darcy_are_corrected_to_what_the_generator_computes():
    darcy = pdes.Darcy(resolution=24, low=2.0)
    x = jnp.asarray(draw(darcy, n=1, seed=2).x[0], float)
    u = darcy.pressure(x[0])
    found = eqx.filter_jit(uq.Certified(jnp.zeros_like, uq.problem_of(darcy), 1e-8))(x)
    assert jnp.linalg.norm(found.field[0] - u) <= found.bound * jnp.linalg.norm(u)
    assert found.bound <= 1e-8


def test_what_cannot_be_kept_is_refused():
    problem, a, *_ = case(GRID, 10.0)
    with pytest.raises(ValueError, match=r"Expected a tolerance of at least \d.*the level of rounding.*got 1e-16"):
        uq.Certified(lambda x: x, problem, 1e-16)
    with pytest.raises(ValueError, match=r"Expected a tolerance of at least.*got -1"):
        uq.certify(problem, a, a, -1.0)
    with pytest.raises(ValueError, match="Expected a field"):
        uq.certify(problem, a, a[:, :-1], 1e-2)
    with jax.enable_x64(False), pytest.raises(ValueError, match="Bounds are computed in float64"):
        uq.certify(problem, a, a, 1e-2)
    with pytest.raises(Exception, match="positive at all faces"):
        jax.block_until_ready(jax.jit(lambda a: uq.certify(problem, a, a, 1e-2).field)(-a))
    assert not isinstance(uq.Semilinear(GRID, lambda u: u), uq.AbstractLinear)
    assert not isinstance(uq.ImplicitHeat(GRID, 0.1), uq.AbstractLinear)


def test_training_on_the_dual_norm_needs_no_solutions():
    """`dual_norm` is the squared energy error where the coefficient is constant; its gradient is `2 (A v - f)` then."""
    problem, a, u, noise = case(GRID, 1.0)
    v = np.where(dense.unknown(GRID).reshape(GRID.shape), u + noise, 0)
    squared = uq.dual_norm(problem)
    energy = dense.errors(GRID, a[0], u, v)[0]
    np.testing.assert_allclose(squared(jnp.asarray(a), jnp.asarray(v[None])), energy**2, rtol=1e-9)
    gradient = jax.grad(squared, argnums=1)(jnp.asarray(a), jnp.asarray(v[None]))[0]
    stiffness, weights = dense.assembled(GRID, a[0])
    expected = 2 * np.prod(GRID.spacing) * (stiffness @ v.ravel() - weights * np.asarray(problem.forcing).ravel())
    inside = dense.unknown(GRID)
    np.testing.assert_allclose(np.asarray(gradient).ravel()[inside], expected[inside], rtol=1e-6, atol=1e-8)
