import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from sciml.data import draw
from sciml.pdes import MultiscaleDarcy, _multiscale
from sciml.pdes._nine_point import apply, hierarchy


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def permeability(frequencies, x, y):
    a = 1.0
    for frequency in frequencies:
        a = a * (1 + 0.5 * np.cos(np.pi * frequency * (x + y))) * (1 + 0.5 * np.sin(np.pi * frequency * (y - 3 * x)))
    return a


def direct(problem, frequencies):
    """Assembles triangle by triangle from the gradients of the barycentric coordinates; a sparse factorisation."""
    n = problem.resolution + 2
    number, nodes = np.arange(n * n).reshape(n, n), np.arange(n) / (n - 1)
    points = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    corner, right, top, far = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    triangles = np.concatenate(
        [np.stack(three, axis=-1).reshape(-1, 3) for three in ((corner, right, far), (corner, far, top))]
    )
    matrix, load = scipy.sparse.lil_array((n * n, n * n)), np.zeros(n * n)
    for triangle in triangles:
        vertices = points[triangle]
        barycentric = np.linalg.inv(np.concatenate((np.ones((1, 3)), vertices.T)))  # rows: constant and gradient
        area = np.linalg.det(np.concatenate((np.ones((1, 3)), vertices.T))) / 2
        a = permeability(frequencies, *vertices.mean(axis=0))
        matrix[np.ix_(triangle, triangle)] += area * a * barycentric[:, 1:] @ barycentric[:, 1:].T
        load[triangle] += problem.forcing * area / 3
    inside = number[1:-1, 1:-1].ravel()
    u = scipy.sparse.linalg.spsolve(matrix.tocsc()[inside][:, inside], load[inside])
    return u.reshape(n - 2, n - 2)


FREQUENCIES = np.array([1.1, 2.9, 4.4, 9.0, 17.0, 45.0])


@pytest.mark.parametrize(
    "resolution", [13, 18]
)  # odd and even sizes on the coarse grids: 13, 6, 3, 1 and 18, 9, 4, 2, 1
def test_pressure_agrees_with_a_sparse_direct_solve(resolution, x64):
    problem = MultiscaleDarcy(resolution=resolution, forcing=3.0)
    ours, expected = np.asarray(jax.jit(problem.pressure)(FREQUENCIES)), direct(problem, FREQUENCIES)
    # Residual below 2e-11 in an energy norm; the goal is 1e-8.
    assert np.linalg.norm(ours - expected) < 1e-9 * np.linalg.norm(expected)


def test_order_two(x64):
    # Without an exact solution: the differences of successive meshes at common nodes fall by four.
    u = []
    for every in (1, 2, 4):
        problem = MultiscaleDarcy(resolution=7 * every - 1, factors=1)
        u.append(np.asarray(jax.jit(problem.pressure)(jnp.array([1.3])))[every - 1 :: every, every - 1 :: every])
    order = np.log2(np.linalg.norm(u[0] - u[1]) / np.linalg.norm(u[1] - u[2]))
    assert order == pytest.approx(2, abs=0.25)  # the next term is O(h^2) relative: (1.3 pi sqrt(10) / 7)^2 / 12 = 0.3
    assert np.linalg.norm(u[1] - u[2]) < 0.02 * np.linalg.norm(u[2])


def test_coarse_matrices_are_galerkin_products(x64):
    shapes = ((6, 9), (3, 4), (1, 2))

    @jax.jit
    def matrices(lower, upper):
        dense = lambda level, shape: jax.vmap(lambda unit: apply(level, unit))(
            jnp.eye(np.prod(shape)).reshape(-1, *shape)
        )
        return [dense(*pair) for pair in zip(hierarchy(_multiscale._stiffness(lower, upper)), shapes, strict=True)]

    found = [
        level.reshape(len(level), -1).T for level in matrices(*np.random.default_rng(0).uniform(0.1, 1, (2, 7, 10)))
    ]
    for shape, fine, coarse in zip(shapes, found[:-1], found[1:], strict=False):
        hats = [np.maximum(0, 1 - np.abs(np.arange(n)[:, None] - np.arange(1, n, 2)) / 2) for n in shape]
        interpolation = np.kron(*hats)
        np.testing.assert_allclose(coarse, interpolation.T @ fine @ interpolation, atol=1e-14)


@pytest.mark.parametrize(("resolution", "limit", "converges"), [(31, 25, True), (7, 3, False)])
def test_iterations(resolution, limit, converges, x64, monkeypatch):
    # Not converged is NaN. Sine transforms in place of the cycle took 140 iterations for 31 nodes, 270 for 63.
    monkeypatch.setattr(_multiscale, "_LIMIT", limit)
    u = jax.jit(MultiscaleDarcy(resolution=resolution).pressure)(FREQUENCIES)
    assert jnp.isfinite(u).all() if converges else jnp.isnan(u).all()


def test_law_and_stored_points():
    problem = MultiscaleDarcy(resolution=14, every=4, forcing=2.0)
    points = np.array([1, 5, 9, 13]) / 15
    for found in problem.grid.points():
        np.testing.assert_allclose(found, points, rtol=1e-14)
    pairs = draw(problem, n=3, seed=5)
    assert 0.25**6 < pairs.x.min() < pairs.x.max() < 2.25**6
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(5), 2)
        frequencies = np.array([1, 2, 4, 8, 16, 32]) * np.asarray(jax.random.uniform(key, (6,), float, 1, 1.5))
    np.testing.assert_allclose(pairs.x[2, 0], permeability(frequencies, points[:, None], points), rtol=1e-6)
    np.testing.assert_allclose(pairs.y[2, 0], direct(problem, frequencies)[::4, ::4], rtol=1e-6)


def test_the_published_grid():
    grid = MultiscaleDarcy().grid
    assert grid.shape == (256, 256)
    assert (grid.points()[0][0], grid.points()[1][-1]) == (1 / 1024, 1021 / 1024)


def test_float64_is_asked_for():
    with pytest.raises(ValueError, match="enable_x64"):
        MultiscaleDarcy(resolution=8).sample(jax.random.key(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 1, "every": 1}, "at least 2 interior nodes"),
        ({"every": 0}, "every 0"),
        ({"resolution": 8, "every": 8}, "every < resolution, got resolution 8"),
        ({"factors": 0}, "at least one factor"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiscaleDarcy(**settings)
