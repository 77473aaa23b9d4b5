import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import size_of, stirred

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import DeepONet

IN, OUT, BASIS = 2, 3, 4
GRIDS = [
    Grid((7,)),
    Grid((4, 5), extent=(2.0, 3.0), boundary=(Periodic(), (Dirichlet(), Neumann()))),
    Grid((2, 3, 4), extent=0.5, boundary=Neumann()),
]
GRID = GRIDS[1]


def build(grid=GRID):
    options = {"branch": (6,), "trunk": (5,), "basis": BASIS, "activation": jnp.tanh, "key": jax.random.key(0)}
    return stirred(lambda: DeepONet(IN, OUT, grid=grid, **options))


def points_of(grid):
    return np.stack(np.meshgrid(*grid.points(), indexing="ij"), -1).reshape(-1, len(grid.shape))


def network(layers, x):
    for i, layer in enumerate(layers):
        x = (np.tanh(x) if i else x) @ np.asarray(layer.weight) + np.asarray(layer.bias)
    return x


def independent(model, x, points):
    """Channel by channel and point by point."""
    y = np.zeros((OUT, len(points)))
    coefficients = network(model.branch.layers, x.reshape(-1))
    for n, point in enumerate(points):
        features = []
        for value, length, (low, _) in zip(point, model.grid.lengths, model.grid.sides, strict=True):
            angle = 2 * np.pi * value / length
            waves = [np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
            features += waves if isinstance(low, Periodic) else [value / length]
        basis = np.tanh(network(model.trunk.layers, np.array(features)))
        for c in range(OUT):
            group = slice(c * BASIS, (c + 1) * BASIS)
            y[c, n] = coefficients[group] @ basis[group] + model.bias[c]
    return y


@pytest.mark.parametrize("grid", GRIDS, ids=["1", "2", "3"])
def test_equals_a_loop_over_channels_and_points(grid):
    with jax.enable_x64(True):
        model, rng = build(grid), np.random.default_rng(0)
        x, points = rng.standard_normal((IN, *grid.shape)), rng.uniform(size=(6, len(grid.shape)))
        y = eqx.filter_jit(model.at)(jnp.asarray(x), jnp.asarray(points))
        np.testing.assert_allclose(y, independent(model, x, points), atol=1e-13)  # float64, sums in another order
        on_grid = independent(model, x, points_of(grid)).reshape(OUT, *grid.shape)
        np.testing.assert_allclose(eqx.filter_jit(model)(jnp.asarray(x)), on_grid, atol=1e-13)


def test_outputs_span_no_more_than_the_basis():
    with jax.enable_x64(True):
        model = build()
        x = jax.random.normal(jax.random.key(1), (9, IN, *GRID.shape))
        y = jax.vmap(model)(x) - model.bias.reshape(1, OUT, 1, 1)
        for c in range(OUT):
            sizes = np.linalg.svd(y[:, c].reshape(9, -1), compute_uv=False)
            assert sizes[BASIS] < 1e-13 * sizes[0] < sizes[BASIS - 1]


def test_the_result_is_linear_in_what_the_branch_says():
    with jax.enable_x64(True):
        model, x = build(), jax.random.normal(jax.random.key(1), (IN, *GRID.shape))
        last = lambda m: (m.branch.layers[-1].weight, m.branch.layers[-1].bias)
        tripled = eqx.tree_at(last, model, [3 * leaf for leaf in last(model)])
        constant = model.bias[:, None, None]
        np.testing.assert_allclose(tripled(x) - constant, 3 * (model(x) - constant), atol=1e-13)


def test_the_result_is_periodic_along_periodic_axes_alone():
    with jax.enable_x64(True):
        model, x = build(), jax.random.normal(jax.random.key(1), (IN, *GRID.shape))
        points = jax.random.uniform(jax.random.key(2), (6, 2))
        around, across = (model.at(x, points + jnp.array([shift])) for shift in ([2.0, 0.0], [0.0, 3.0]))
        np.testing.assert_allclose(around, model.at(x, points), atol=1e-13)
        assert np.abs(across - model.at(x, points)).min() > 1e-3


def test_the_size_of_the_published_burgers_network():
    count = size_of(lambda: DeepONet(1, 1, grid=Grid((128,)), key=jax.random.key(0)))
    # Branch [128, 128, 128, 128, 128], trunk [4, 128, 128, 128], one constant.
    assert count == 4 * (128 * 128 + 128) + (4 * 128 + 128) + 2 * (128 * 128 + 128) + 1


def test_wrong_input_is_refused():
    model = build()
    with pytest.raises(ValueError, match=r"Expected 2 input channels, got 3.*in_channels=3"):
        model(jnp.zeros((3, *GRID.shape)))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 4, 5\).*Resampled"):
        model.at(jnp.zeros((IN, 4, 6)), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"points with 2 coordinates.*\(6, 3\).*one row for each point"):
        model.at(jnp.zeros((IN, *GRID.shape)), jnp.zeros((6, 3)))
