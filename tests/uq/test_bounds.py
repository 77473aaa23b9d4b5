"""Bounds of errors against dense solves: walls, gaps, dimensions, rounding, refusals; a test for each formula."""

import functools

import dense_diffusion as dense
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml import metrics, pdes, uq
from sciml.data import draw
from sciml.grid import AbstractBoundary, Dirichlet, Grid, Neumann, Periodic

D, N = Dirichlet, Neumann
GRIDS = {
    "nodes on the walls": Grid((7, 9), (1.0, 0.7), D(0.0)),
    "nodes next to the walls": Grid((6, 5), (1.0, 0.7), D(1.0)),
    "cell centres": Grid((6, 7), 1.0, D(0.5)),
    "odd gaps": Grid((5, 7), (1.3, 1.0), ((D(0.25), D(0.75)), (D(0.0), D(0.4)))),
    "mixed": Grid((6, 8), 1.0, ((D(0.5), N(0.5)), (N(0.0), D(1.0)))),
    "Neumann nodes": Grid((6, 5), 1.0, (N(0.0), D(0.0))),
    "Neumann alone": Grid((5, 7), (1.0, 2.0), N(0.5)),
    "Neumann nodes alone": Grid((5, 6), 1.0, N(0.0)),
    "periodic": Grid((6, 7), (1.0, 1.5)),
    "periodic and Dirichlet": Grid((6, 5), 1.0, (Periodic(), D(1.0))),
    "periodic and Neumann": Grid((6, 5), 1.0, (Periodic(), N(0.0))),
    "one dimension": Grid((11,), 2.0, ((D(0.0), D(0.5)),)),
    "three dimensions": Grid((4, 5, 6), (1.0, 1.2, 0.9), ((D(0.0), D(0.5)), (N(0.0), N(0.5)), Periodic())),
    "three dimensions, Dirichlet": Grid((4, 6, 5), 1.0, D(0.5)),
}
KRYLOV = [None, pytest.param(uq.Krylov(3), marks=pytest.mark.slow)]  # quick tests of its own below
SLOW_3D = pytest.param("three dimensions, Dirichlet", marks=pytest.mark.slow)
SINGULAR = {"Neumann alone", "Neumann nodes alone", "periodic", "periodic and Neumann"}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def case(name, seed=0, contrast=20.0):
    """A problem, its coefficient, its solution by a dense solve, and noise."""
    grid, rng = GRIDS[name], np.random.default_rng(seed)
    a = np.exp(rng.uniform(0, np.log(contrast), grid.shape))
    f = rng.normal(size=grid.shape)
    if name in SINGULAR:
        _, weights = dense.assembled(grid, a)
        f -= weights @ f.ravel() / weights.sum()
    return uq.Diffusion(grid, jnp.asarray(f)), a, dense.solution(grid, a, f), rng.normal(size=grid.shape)


@functools.partial(eqx.filter_jit)
def bounded(problem, x, v, krylov=None):
    return uq.bounds(problem, x, v, krylov=krylov)


def assert_between(interval, true, slack=1e-9):
    """`slack` is relative to the truth: the dense solve's own error."""
    assert interval.lower <= true * (1 + slack)
    assert true * (1 - slack) <= interval.upper


@pytest.mark.parametrize("krylov", KRYLOV, ids=["", "krylov"])
@pytest.mark.parametrize("name", GRIDS)
def test_true_errors_are_between_the_bounds(name, krylov):
    problem, a, u, noise = case(name)
    grid = problem.grid
    _, weights = dense.assembled(grid, a)
    for size in (3.0, 0.1, 1e-5):
        v = u + size * np.abs(u).max() * noise
        found = bounded(problem, a[None], v[None], krylov)
        inner = v.copy()
        inner.ravel()[~dense.unknown(grid)] = 0
        shifted = inner - weights @ inner.ravel() / weights.sum() if name in SINGULAR else inner
        energy, l2 = dense.errors(grid, a, u, shifted)[0], dense.errors(grid, a, u, v)[1]
        norms = dense.errors(grid, a, u, 0 * u)
        assert_between(found.energy, energy)
        assert_between(found.l2, l2)
        assert_between(found.relative_energy, energy / norms[0])
        assert_between(found.relative_l2, l2 / norms[1])
        assert found.energy.upper < 3 * found.energy.lower  # of a contrast of 20; Kantorovich allows 2.35
        assert found.l2.lower > 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), contrast=st.floats(1.0, 1e6), size=st.floats(1e-7, 1e3))
def test_bounds_hold_for_random_predictions(seed, contrast, size):
    with jax.enable_x64(True):
        problem, a, u, noise = case("odd gaps", seed, contrast)
        v = u + size * np.abs(u).max() * noise
        energy, l2 = dense.errors(problem.grid, a, u, v)
        for krylov in (None, uq.Krylov(4)):
            found = bounded(problem, a[None], v[None], krylov)
            assert_between(
                found.energy, energy, 1e-6
            )  # the dense solve at contrasts of 1e6, relative to errors of 1e-7
            assert_between(found.l2, l2, 1e-6)


def test_the_scheme_is_that_of_the_solver():
    rng = np.random.default_rng(1)
    a = np.exp(rng.normal(size=(1, 12, 12)))
    u = pdes.solve_diffusion(jnp.asarray(a[0]), jnp.full((12, 12), 2.0))
    problem = uq.Diffusion(Grid((12, 12), 1.0, D(0.0)), 2.0)
    assert bounded(problem, a, u[None]).relative_energy.upper < 1e-10  # the tolerance of the solver is 1e-12


@pytest.mark.parametrize(
    ("wall", "n", "squares"),
    [
        (D(1.0), 9, lambda n, h: (2 / h * np.sin(np.pi * np.arange(1, n + 1) / (2 * n + 2))) ** 2),
        (D(0.5), 9, lambda n, h: (2 / h * np.sin(np.pi * np.arange(1, n + 1) / (2 * n))) ** 2),
        (N(0.5), 9, lambda n, h: (2 / h * np.sin(np.pi * np.arange(n) / (2 * n))) ** 2),
        (N(0.0), 9, lambda n, h: (2 / h * np.sin(np.pi * np.arange(n) / (2 * n - 2))) ** 2),
        (Periodic(), 8, lambda n, h: np.sort((2 / h * np.sin(np.pi * np.arange(n) / n)) ** 2)),
    ],
)
def test_the_modes_are_sines_cosines_and_fourier_modes(wall, n, squares):
    """The eigenvalues of the constant-coefficient operator in closed form: the lowest one bounds the L2 error."""
    problem = uq.Diffusion(Grid((n,), 1.5, wall), 0.0)
    (axis,) = problem.system(jnp.ones((1, n))).mesh.axes
    np.testing.assert_allclose(axis.modes[0], squares(n, problem.grid.spacing[0]), atol=1e-10)


def test_a_constant_coefficient_makes_the_energy_bounds_sharp():
    """`upper_energy` and `(r, z) / |z|_A` coincide if L is a multiple of A."""
    problem, a, u, noise = case("mixed", contrast=1.0)
    v = u + noise
    found = bounded(problem, a[None], v[None])
    true = dense.errors(problem.grid, a, u, v)[0]
    np.testing.assert_allclose(found.energy.lower, true, rtol=1e-10)
    np.testing.assert_allclose(found.energy.upper, true, rtol=1e-10)


def test_the_bounds_are_closer_than_those_by_the_extreme_coefficients():
    """`|a^(-1/2) q|` against `|q| / sqrt(a_min)`, and `|q|^2 / |a^(1/2) q|` against `|q| / sqrt(a_max)`."""
    problem, a, u, noise = case("cell centres", contrast=100.0)
    found = bounded(problem, a[None], (u + noise)[None])
    system = problem.system(jnp.asarray(a[None]))
    unit = problem.system(jnp.ones((1, *a.shape)))
    r = system.forcing - system.apply(jnp.asarray(u + noise))
    dual = jnp.sqrt(unit.mesh.inner_product(r, unit.precondition(r)))
    faces = np.concatenate([face.ravel() for face in system.faces])
    assert dual / np.sqrt(faces.max()) < found.energy.lower < found.energy.upper < dual / np.sqrt(faces.min())
    kantorovich = (np.sqrt(faces.max() / faces.min()) + np.sqrt(faces.min() / faces.max())) / 2
    assert found.energy.upper / found.energy.lower <= kantorovich


def test_steps_of_conjugate_gradients_close_the_bounds():
    """Hestenes and Stiefel's sum below, Gauss-Radau above: both converge to the error of the prediction itself."""
    problem, a, u, noise = case("mixed", contrast=50.0)
    v = u + 0.1 * noise
    widths = []
    for steps in (1, 4, 16):
        found = bounded(problem, a[None], v[None], uq.Krylov(steps))
        assert_between(found.energy, dense.errors(problem.grid, a, u, v)[0])
        widths.append(float(found.energy.upper / found.energy.lower - 1))
    assert widths[0] > 3 * widths[1] > 9 * widths[2]
    assert widths[2] < 1e-3
    assert found.l2.upper / found.l2.lower < 1.2


def test_the_gauss_radau_rule_bounds_the_error_of_each_iterate():
    from sciml.uq._enclosure import krylov_steps, residual

    problem, a, u, noise = case("odd gaps", contrast=50.0)
    system = problem.system(jnp.asarray(a[None]))
    v = problem.unknowns(jnp.asarray((u + noise)[None]))
    r, _ = residual(system, v)
    for steps in (1, 3, 8):
        w, radau = jax.jit(krylov_steps, static_argnums=3)(system, v, r, steps)
        true = dense.errors(problem.grid, a, u, np.asarray(problem.field(w)[0]))[0]
        after = system.forcing - system.apply(w)
        plain = jnp.sqrt(system.mesh.inner_product(after, system.precondition(after)) / (system.least / system.scale))
        assert true <= radau <= plain * (1 + 1e-5)  # a node at the lower bound is never worse than that bound alone


def test_a_solution_has_a_bound_at_the_level_of_rounding():
    problem, a, u, _ = case("three dimensions")
    found = bounded(problem, a[None], u[None])
    assert 0 < found.relative_l2.upper < 1e-10
    assert found.energy.lower <= dense.errors(problem.grid, a, u, u + 1e-16)[0] + 1e-12


def test_rounding_is_part_of_the_bounds():
    """The residual in float64 against one in extended precision, for a field so rough that rounding dominates it."""
    from sciml.uq._enclosure import residual

    problem, a, u, noise = case("nodes on the walls", contrast=1e6)
    system = problem.system(jnp.asarray(a[None]))
    v = np.asarray(u + 1e8 * noise)
    v.ravel()[~dense.unknown(problem.grid)] = 0
    found, slack = residual(system, problem.unknowns(jnp.asarray(v[None])))
    long = dense_long(problem.grid, a) @ v.ravel().astype(np.longdouble)
    exact = (np.asarray(problem.forcing).ravel() - long)[dense.unknown(problem.grid)]
    error = np.linalg.norm((np.asarray(found).ravel() - exact).astype(float)) * np.sqrt(system.mesh.volume)
    assert error <= slack <= 1e3 * error


def dense_long(grid, a):
    """The matrix at Dirichlet nodes in extended precision, with the package's coefficients at the faces."""
    size = a.size
    matrix, index = np.zeros((size, size), np.longdouble), np.arange(size).reshape(grid.shape)
    for axis, h in enumerate(grid.spacing):
        first, second = (np.moveaxis(index, axis, 0)[part].ravel() for part in (slice(None, -1), slice(1, None)))
        scale = np.longdouble(np.longdouble(1) / np.longdouble(h)) ** 2
        means = ((a.ravel()[first] + a.ravel()[second]) / 2).astype(np.longdouble) * scale
        for i, j, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            np.add.at(matrix, (i, j), sign * means)
    return matrix


def test_the_size_of_the_solution_is_bounded_whatever_the_prediction():
    """`(f, w)^2 / (|w|_A^2 |f|)`: without it the relative bound of a bad prediction would be infinite."""
    from sciml.uq._enclosure import least_size

    problem, a, u, noise = case("cell centres")
    system = problem.system(jnp.asarray(a[None]))
    true = dense.errors(problem.grid, a, u, 0 * u)[1]
    for w in (u, noise, u + noise, 0 * u):
        assert least_size(system, jnp.asarray(w)) <= true
    assert least_size(system, jnp.asarray(u)) > 0.05 * true  # cosine of the angle between a random forcing and u
    found = bounded(problem, a[None], 10 * np.abs(u).max() * noise[None])
    assert found.relative_l2.upper < 1e5


def test_a_batch_is_a_loop():
    grid = GRIDS["cell centres"]
    rng = np.random.default_rng(3)
    a, v = np.exp(rng.normal(size=(4, 1, *grid.shape))), rng.normal(size=(4, 1, *grid.shape))
    problem = uq.Diffusion(grid)
    many = jax.jit(jax.vmap(lambda a, v: uq.bounds(problem, a, v, krylov=uq.Krylov(2))))(a, v)
    for i in range(4):
        one = bounded(problem, a[i], v[i], uq.Krylov(2))
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-9), many, one)


def test_float32_predictions_are_bounded_in_float64():
    problem, a, u, noise = case("cell centres")
    v = (u + 0.1 * noise).astype(np.float32)
    found = bounded(problem, a[None], v[None])
    assert found.l2.upper.dtype == jnp.float64
    assert_between(found.l2, dense.errors(problem.grid, a, u, v.astype(float))[1])


SPLINES = pdes.Darcy(resolution=20, low=1.0, high=30.0)


@pytest.mark.parametrize("krylov", KRYLOV, ids=["", "krylov"])
def test_stored_samples_of_darcy_are_within_their_bounds(krylov):
    x, y = (np.asarray(part) for part in (lambda pairs: (pairs.x, pairs.y))(draw(SPLINES, n=4, seed=1)))
    problem = uq.problem_of(SPLINES)
    u = jax.jit(jax.vmap(SPLINES.pressure))(jnp.asarray(x[:, 0], float))
    rng = np.random.default_rng(0)
    smooth = np.asarray(
        jnp.stack([pdes.neumann_field(jax.random.key(i), (20, 20), alpha=3.0, tau=3.0) for i in range(4)])
    )
    for v in (0 * y, y, y * 1.1, y + 1e-3 * rng.normal(size=y.shape), y + 1e-3 * smooth[:, None]):
        found = jax.jit(jax.vmap(lambda x, v: uq.bounds(problem, x, v, krylov=krylov)))(x, v)
        for i in range(4):
            true = np.sqrt(np.mean((np.asarray(u[i]) - v[i, 0]) ** 2))
            assert found.l2.lower[i] <= true <= found.l2.upper[i]
            assert metrics.relative_l2(jnp.asarray(v[i], float), u[i][None]) <= found.relative_l2.upper[i]
    corrected = jax.jit(lambda x, v: uq.bounds(problem, x, v))(x[0], y[0])
    assert corrected.relative_l2.upper < 1e-4  # the pressure is stored in float32, whose rounding is rough


def test_other_data_of_darcy_do_not_determine_their_problem():
    with pytest.raises(ValueError, match=r"store every cell, got every 2.*every=1, or bound the error.*uq.Diffusion"):
        uq.problem_of(pdes.Darcy(resolution=20, every=2))


@pytest.mark.parametrize(
    ("generator", "reason"),
    [
        (pdes.Helmholtz(), "Helmholtz have no rigorous bound: its operator is indefinite"),
        (
            pdes.MultiscaleDarcy(resolution=15),
            "MultiscaleDarcy have no rigorous bound: its finite elements.*uq.Diffusion",
        ),
        (pdes.Burgers(), "Burgers have no rigorous bound: its solver is not one of the schemes"),
    ],
)
def test_problems_without_a_bound_say_why(generator, reason):
    with pytest.raises(ValueError, match=reason):
        uq.problem_of(generator)
    assert not issubclass(type(generator), uq.AbstractBounded)


def newton(grid, a, f, reaction, slope):
    """The solution of the semilinear problem by dense Newton steps."""
    stiffness, weights = dense.assembled(grid, a)
    u = np.zeros(f.size)
    for _ in range(50):
        residual = stiffness @ u + weights * (reaction(u) - f.ravel())
        u = u - np.linalg.solve(stiffness + np.diag(weights * slope(u)), residual)
    return u.reshape(grid.shape)


@pytest.mark.parametrize("krylov", KRYLOV, ids=["", "krylov"])
@pytest.mark.parametrize("name", ["cell centres", "mixed", SLOW_3D])
def test_monotone_reactions_keep_the_bounds(name, krylov):
    grid, rng = GRIDS[name], np.random.default_rng(5)
    a, f = np.exp(rng.normal(size=grid.shape)), 50 * rng.normal(size=grid.shape)
    u = newton(grid, a, f, lambda u: u**3, lambda u: 3 * u**2)
    for size in (1.0, 1e-3):
        v = u + size * rng.normal(size=grid.shape) * np.abs(u).max()
        lipschitz = float(3 * max(np.abs(u).max(), np.abs(v).max()) ** 2)
        found = bounded(uq.Semilinear(grid, lambda u: u**3, jnp.asarray(f), lipschitz), a[None], v[None], krylov)
        energy, l2 = dense.errors(grid, a, u, v)
        assert_between(found.energy, energy)
        assert_between(found.l2, l2)
        assert found.energy.lower > 0
        free = bounded(uq.Semilinear(grid, lambda u: u**3, jnp.asarray(f)), a[None], v[None], krylov)
        assert free.energy.lower == 0
        assert free.energy.upper == found.energy.upper


@pytest.mark.parametrize("krylov", KRYLOV, ids=["", "krylov"])
@pytest.mark.parametrize("name", ["cell centres", "nodes on the walls", "periodic", "Neumann nodes alone"])
def test_errors_of_implicit_steps_add_up(name, krylov):
    grid, rng, dt, steps = GRIDS[name], np.random.default_rng(6), 3e-3, 4
    a, f, start = np.exp(rng.normal(size=grid.shape)), rng.normal(size=grid.shape), rng.normal(size=grid.shape)
    start.ravel()[~dense.unknown(grid)] = 0
    true = [start]
    for _ in range(steps):
        true.append(dense.solution(grid, a * dt, true[-1] + dt * f, mass=1.0))
    true = np.stack(true[1:])
    v = true + 1e-2 * rng.normal(size=true.shape) * np.abs(true).max((1, 2), keepdims=True)
    found = bounded(uq.ImplicitHeat(grid, dt, jnp.asarray(f)), np.stack((start, a)), v, krylov)
    for k in range(steps):
        energy, l2 = dense.errors(grid, a * dt, true[k], v[k], mass=1.0)
        assert found.energy.lower[k] <= energy <= found.energy.upper[k]
        assert found.l2.lower[k] <= l2 <= found.l2.upper[k]
        assert found.relative_l2.lower[k] <= l2 / dense.errors(grid, a * dt, true[k], 0 * v[k])[1]
    assert found.l2.lower[0] > 0
    assert np.all(found.l2.upper[1:] < found.l2.upper[:-1] + found.l2.upper[0] * 3)
    alone = bounded(uq.ImplicitHeat(grid, dt, jnp.asarray(f)), start[None], v, krylov)  # coefficient 1
    again = bounded(uq.ImplicitHeat(grid, dt, jnp.asarray(f)), np.stack((start, 0 * a + 1)), v, krylov)
    np.testing.assert_allclose(alone.l2.upper, again.l2.upper, rtol=1e-13)


def test_a_mean_of_the_prediction_is_an_error_where_the_solution_has_none():
    problem, a, u, _ = case("periodic")
    found = bounded(problem, a[None], (u + 0.5)[None])
    np.testing.assert_allclose(found.l2.upper, 0.5 * np.sqrt(1.5), rtol=1e-6)  # the constant over a box of 1 x 1.5
    np.testing.assert_allclose(found.l2.lower, 0.5 * np.sqrt(1.5), rtol=1e-6)
    assert found.energy.upper < 1e-10


@pytest.mark.parametrize("name", sorted(SINGULAR))
def test_incompatible_forcings_are_refused(name):
    with pytest.raises(Exception, match="Expected a forcing of mean 0: no wall of the grid holds a value"):
        jax.block_until_ready(
            bounded(uq.Diffusion(GRIDS[name]), np.ones((1, *GRIDS[name].shape)), np.ones((1, *GRIDS[name].shape)))
        )


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan])
def test_coefficients_that_are_not_positive_are_refused(wrong):
    grid = GRIDS["cell centres"]
    a = np.ones((1, *grid.shape))
    a[0, 2:4, 2:4] = wrong
    with pytest.raises(Exception, match="Expected a coefficient that is positive at all faces"):
        jax.block_until_ready(bounded(uq.Diffusion(grid), a, a))


def test_decreasing_reactions_are_refused():
    grid = GRIDS["cell centres"]
    ones = np.ones((1, *grid.shape))
    with pytest.raises(Exception, match="Expected a reaction that does not decrease"):
        jax.block_until_ready(bounded(uq.Semilinear(grid, lambda u: u - u**3), ones, ones))


class Robin(AbstractBoundary):
    gap: float = 0.5

    def beyond(self, x, width):
        return x[:width]

    def __hash__(self):
        return 1


def test_what_has_no_bound_is_refused():
    problem, fields = uq.Diffusion(GRIDS["cell centres"]), np.ones((1, 6, 7))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 6, 7\), got \(1, 6, 8\)"):
        uq.bounds(problem, fields, np.ones((1, 6, 8)))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 6, 7\), got \(1, 5, 7\)"):
        uq.bounds(problem, np.ones((1, 5, 7)), fields)
    with pytest.raises(ValueError, match=r"Expected walls Periodic, Dirichlet or Neumann, got.*Robin"):
        uq.bounds(uq.Diffusion(Grid((6, 7), 1.0, Robin())), fields, fields)
    with pytest.raises(ValueError, match="Expected an unknown along each axis, got"):
        uq.bounds(uq.Diffusion(Grid((2, 7), 1.0, D(0.0))), np.ones((1, 2, 7)), np.ones((1, 2, 7)))
    with pytest.raises(ValueError, match="Expected a grid with a Dirichlet wall"):
        uq.Semilinear(GRIDS["periodic"], lambda u: u)
    with pytest.raises(ValueError, match=r"Expected a step dt > 0, got 0\.0"):
        uq.ImplicitHeat(GRIDS["periodic"], 0.0)
    with pytest.raises(ValueError, match="at most the coefficient, got 3 channels"):
        uq.bounds(uq.ImplicitHeat(GRIDS["cell centres"], 0.1), np.ones((3, 6, 7)), fields)
    with pytest.raises(ValueError, match="Expected 1 or more steps of conjugate gradients, got 0"):
        uq.Krylov(0)
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"Bounds are computed in float64.*enable_x64\(True\)"):
        uq.bounds(problem, fields, fields)
