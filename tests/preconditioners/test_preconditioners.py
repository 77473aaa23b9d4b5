import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid
from sciml.pdes import MultiscaleDarcy, _multiscale, _nine_point, diffusion_residual
from sciml.preconditioners import (
    AdditivePreconditioner,
    SymmetricCycle,
    as_operator,
    conjugate_gradients,
    flux_conductances,
    matrix_conductances,
)
from sciml.preconditioners._coarsening import joined, split

N, M = 14, 21  # interior nodes; two levels above the coarsest: 14 x 21, 7 x 10, 3 x 5
FAMILIES = (SymmetricCycle, AdditivePreconditioner)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def medium(seed, contrast=1e3, shape=(N, M)):
    """Two materials, each node drawn by itself: islands and channels of one node."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(np.where(rng.random([n + 2 for n in shape]) < 0.5, contrast, 1.0))


def with_weights(model, seed, size):
    """All weights replaced by normal numbers of this size."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [size * jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, drawn), rest)


@eqx.filter_jit
def dense(model, a):
    """M as a matrix."""
    n, m = a.shape[0] - 2, a.shape[1] - 2
    unit = jnp.eye(n * m, dtype=a.dtype).reshape(-1, n, m)
    return jax.vmap(model(flux_conductances(a)))(unit).reshape(n * m, n * m)


def test_conductances_are_the_flux_scheme(x64):
    u = jax.random.normal(jax.random.key(0), (N, M))
    a = medium(0)
    grid = Grid((N + 2, M + 2), 1.0, Dirichlet(0.0))
    expected = diffusion_residual(a[None], jnp.pad(u, 1)[None], 0.0, grid)[0]
    assert np.allclose(flux_conductances(a).product(u), expected, rtol=1e-12, atol=1e-12 * float(abs(expected).max()))


def test_conductances_of_a_nine_point_matrix(x64):
    problem = MultiscaleDarcy(resolution=9)
    third = (np.arange(10) + 1 / 3) / 10
    frequencies = jnp.asarray([1.1, 2.9])
    lower, upper = (
        problem.permeability(frequencies, *pair) for pair in ((third + 1 / 30, third), (third, third + 1 / 30))
    )
    matrix = _nine_point.hierarchy(_multiscale._stiffness(lower, upper))[0]
    diagonals = matrix.at[0, 0].add(-1).at[2, 2].add(-1).at[0, 2].add(-2).at[2, 0].add(-2).at[1, 1].add(6)
    u = jax.random.normal(jax.random.key(0), (9, 9))
    for one in (matrix, diagonals):
        c = matrix_conductances(one)
        assert np.allclose(c.product(u), _nine_point.apply(one, u), rtol=1e-12, atol=1e-12)
        entries = jax.vmap(c.product)(jnp.eye(81).reshape(81, 9, 9)).reshape(81, 81)
        assert np.allclose(c.diagonal().ravel(), np.diag(entries), rtol=1e-13)


def test_colours_are_a_permutation():
    u = jax.random.normal(jax.random.key(0), (5, 8))
    assert np.array_equal(joined(split(u), u.shape), u)


@functools.cache
def levels(seed):
    return eqx.filter_jit(lambda model, c: model(c))(
        with_weights(SymmetricCycle(key=jax.random.key(0)), seed, 3.0), flux_conductances(medium(1, 1e6))
    )


def test_coarse_conductances_are_positive_and_prolongations_average(x64):
    """What the proof needs: no negative conductance, weights from 0 with sums up to 1, P^T the transpose."""
    for level in levels(3).levels:
        entries = jax.tree.leaves((level.own, level.prolongation))
        assert min(float(x.min()) for x in entries) >= 0
        assert max(float(x.max()) for x in level.prolongation(jnp.ones(level.coarse_shape))) < 1 + 1e-12
        coarse = jax.random.normal(jax.random.key(1), level.coarse_shape)
        r = type(level.diagonal)(*[jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(level.diagonal)])
        left = sum(jnp.vdot(x, y) for x, y in zip(r, level.prolongation(coarse), strict=True))
        right = jnp.vdot(level.prolongation.transposed(r, level.coarse_shape), coarse)
        assert abs(float(left - right)) < 1e-12 * float(sum(jnp.sum(x**2) for x in r))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [*(pytest.param(size, marks=pytest.mark.slow) for size in (0.0, 1.0)), 100.0])
def test_symmetric_positive_definite_for_random_weights(family, size, x64):
    model = family(key=jax.random.key(0))
    for seed in range(3):
        for contrast in (1.0, 1e3, 1e6):
            matrix = np.asarray(dense(with_weights(model, seed, size) if size else model, medium(seed, contrast)))
            assert abs(matrix - matrix.T).max() < 1e-12 * abs(matrix).max()  # rounding of three levels
            diagonal = np.sqrt(np.diag(matrix))  # congruent, so that rounding does not depend on the contrast
            assert np.linalg.eigvalsh((matrix + matrix.T) / 2 / np.outer(diagonal, diagonal)).min() > 0


@eqx.filter_jit
def solved(model, a, b):
    c = flux_conductances(a)
    return conjugate_gradients(c, b, model(c), 1e-8, 2000)


@pytest.mark.parametrize("family", [SymmetricCycle, pytest.param(AdditivePreconditioner, marks=pytest.mark.slow)])
def test_conjugate_gradients_converge_with_random_weights(family, x64):
    b = jax.random.normal(jax.random.key(1), (N, M))
    for seed in range(3):
        model = with_weights(family(key=jax.random.key(0)), seed, 1.0)
        u, k, residual = solved(model, medium(seed), b)
        assert residual < 2e-8
        assert 1 < k < 2000
        expected = jnp.linalg.norm(b - flux_conductances(medium(seed)).product(u)) / jnp.linalg.norm(b)
        assert abs(residual - expected) < 1e-12


def test_a_right_side_of_zero_needs_no_iteration(x64):
    u, k, residual = solved(SymmetricCycle(key=jax.random.key(0)), medium(0), jnp.zeros((N, M)))
    assert (float(abs(u).max()), int(k), float(residual)) == (0, 0, 0)


def test_the_untrained_cycle_does_not_feel_the_contrast_much(x64):
    b = jax.random.normal(jax.random.key(1), (N, M))
    cycle = SymmetricCycle(key=jax.random.key(0))
    few, many = (int(solved(cycle, medium(0, contrast), b)[1]) for contrast in (1.0, 1e6))
    jacobi = conjugate_gradients(c := flux_conductances(medium(0, 1e6)), b, lambda r: r / c.diagonal(), 1e-8, 2000)[1]
    assert few < 15
    assert many < jacobi / 2


@pytest.mark.parametrize("shape", [(9, 8), *(pytest.param(one, marks=pytest.mark.slow) for one in ((8, 8), (11, 30)))])
def test_one_set_of_weights_serves_all_sizes_in_single_precision(shape):
    cycle = with_weights(SymmetricCycle(key=jax.random.key(0)), 0, 0.3)
    a = medium(0, 100.0, shape).astype(jnp.float32)
    matrix = dense(cycle, a)
    assert matrix.dtype == jnp.float32
    assert abs(matrix - matrix.T).max() < 1e-5 * abs(matrix).max()
    assert np.linalg.eigvalsh(np.asarray(matrix + matrix.T, np.float64)).min() > 0


@pytest.mark.slow  # compiles a gradient of all levels
def test_vmap_is_a_loop_and_gradients_are_finite(x64):
    cycle = with_weights(SymmetricCycle(width=3, key=jax.random.key(0)), 0, 0.3)
    media = jnp.stack([medium(0, 1e6), medium(1, 4.0)])
    f = jax.random.normal(jax.random.key(1), (2, N, M))
    one = lambda cycle, a, f: cycle(flux_conductances(a))(f)
    together = eqx.filter_jit(jax.vmap(functools.partial(one, cycle)))(media, f)
    alone = eqx.filter_jit(one)
    assert np.allclose(together, jnp.stack([alone(cycle, a, b) for a, b in zip(media, f, strict=True)]), rtol=1e-10)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda cycle: jnp.sum(one(cycle, media[0], f[0]) ** 2)))(cycle)
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert all(np.any(np.asarray(leaf)) for leaf in leaves)


def test_lineax_uses_the_preconditioner(x64):
    a, b = medium(0, 1e4), jax.random.normal(jax.random.key(1), (N, M))
    c = flux_conductances(a)
    precondition = eqx.filter_jit(SymmetricCycle(key=jax.random.key(0)))(c)

    def steps(options):
        solver = lx.CG(rtol=1e-9, atol=1e-9, max_steps=2000)
        found = eqx.filter_jit(lx.linear_solve)(as_operator(c.product, b), b, solver, options=options)
        assert jnp.linalg.norm(b - c.product(found.value)) < 1e-7 * jnp.linalg.norm(
            b
        )  # entries are below 1e-9 (1 + |b|)
        return int(found.stats["num_steps"])

    assert steps({"preconditioner": as_operator(precondition, b)}) < steps({}) / 4


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"at least 3 nodes along each axis, got \(2, 5\)"):
        flux_conductances(jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"Expected a matrix \(3, 3, n, m\) .* got \(3, 2, 4, 4\)"):
        matrix_conductances(jnp.ones((3, 2, 4, 4)))
    long = flux_conductances(jnp.ones((3, 3000)))
    with pytest.raises(ValueError, match="2998 unknowns"):
        SymmetricCycle(key=jax.random.key(0))(long)
