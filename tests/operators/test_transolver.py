import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import size_of, stirred
from scipy.special import erf

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import Slicing, Transolver

BATCH, IN, OUT, WIDTH, HEADS, SLICES = 2, 3, 4, 6, 2, 5
POINTWISE = Slicing(heads=HEADS, slices=SLICES, kernel=1, hidden=2)


def build(grid, *, slicing=POINTWISE, references=0, depth=2):
    options = {"slicing": slicing, "references": references, "key": jax.random.key(0)}
    model = stirred(lambda: Transolver(IN, OUT, grid=grid, width=WIDTH, depth=depth, **options))
    temperatures = lambda m: [block.attention.temperature for block in m.blocks]
    return eqx.tree_at(temperatures, model, [jnp.linspace(0.05, 0.8, HEADS) for _ in model.blocks])


def dense(layer, x):
    return x @ np.asarray(layer.weight) + (0 if layer.bias is None else np.asarray(layer.bias))


def norm(layer, x):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y * np.asarray(layer.scale) + np.asarray(layer.shift)


def network(net, x):
    first, second = net.layers
    hidden = dense(first, x)
    return dense(second, 0.5 * hidden * (1 + erf(hidden / np.sqrt(2))))


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def independent_attention(layer, x):
    """Head by head, point by point, slice by slice, for one sample (*space, width)."""
    rows = np.asarray(eqx.filter_jit(layer.features.channels_last)(jnp.asarray(x)[None]))[0].reshape(-1, 2 * WIDTH)
    size, n = WIDTH // HEADS, len(rows)
    joined = np.zeros((n, WIDTH))
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        f, g = rows[:, :WIDTH][:, part], rows[:, WIDTH:][:, part]
        temperature = max(float(layer.temperature[h]), 0.1)
        weights = [softmax(dense(layer.assignment, g[i]) / temperature) for i in range(n)]
        tokens = [
            sum(weights[i][m] * f[i] for i in range(n)) / (sum(weights[i][m] for i in range(n)) + 1e-9 * n)
            for m in range(SLICES)
        ]
        query, key, value = np.split(dense(layer.maps, np.stack(tokens)), 3, axis=1)
        results = [softmax(key @ query[m] / np.sqrt(size)) @ value for m in range(SLICES)]
        for i in range(n):
            joined[i, part] = sum(weights[i][m] * results[m] for m in range(SLICES))
    return dense(layer.out, joined).reshape(x.shape)


def independent(model, x, places):
    """One sample (in, *space) with features (*space, extra) of its points."""
    v = network(model.lifting, np.concatenate([np.moveaxis(x, 0, -1), places], axis=-1))
    for block in model.blocks:
        v = v + independent_attention(block.attention, norm(block.norms[0], v))
        v = v + network(block.network, norm(block.norms[1], v))
    return np.moveaxis(dense(model.head, norm(model.norm, v)), -1, 0)


def distances(places, references):
    features = []
    for index in np.ndindex(*(references,) * places.shape[-1]):
        features.append(np.linalg.norm(places - np.array(index) / (references - 1), axis=-1))
    return np.stack(features, axis=-1)


@pytest.mark.parametrize(
    ("space", "kernel", "references"), [((7,), 3, 4), ((4, 5), 3, 2), ((4, 5), 1, 0), ((2, 3, 4), 1, 0)]
)
def test_equals_a_loop_over_heads_points_and_slices(space, kernel, references):
    with jax.enable_x64(True):
        slicing = Slicing(heads=HEADS, slices=SLICES, kernel=kernel, hidden=2)
        model = build(Grid(space, extent=2.0), slicing=slicing, references=references)
        x = np.random.default_rng(0).standard_normal((BATCH, IN, *space))
        places = np.stack(np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij"), -1)
        places = distances(places, references) if references else places
        expected = np.stack([independent(model, one, places) for one in x])
        y = eqx.filter_jit(jax.vmap(model))(jnp.asarray(x))
        np.testing.assert_allclose(y, expected, atol=1e-12 * np.abs(expected).max())  # float64, sums in another order


def physics_attention(**changes):
    return build(Grid((4,)), **changes).blocks[0].attention


def test_attention_commutes_with_permutations_and_counts_shares_of_points():
    with jax.enable_x64(True):
        layer, x = eqx.filter_jit(physics_attention()), jax.random.normal(jax.random.key(2), (BATCH, 6, WIDTH))
        y, order = layer(x), np.array([3, 0, 4, 1, 5, 2])
        np.testing.assert_allclose(layer(x[:, order]), y[:, order], atol=1e-12)
        np.testing.assert_allclose(layer(jnp.repeat(x, 3, axis=1)), jnp.repeat(y, 3, axis=1), atol=1e-12)


def test_a_single_slice_sees_the_mean():
    with jax.enable_x64(True):
        layer = physics_attention(slicing=Slicing(heads=HEADS, slices=1, kernel=1))
        x = jax.random.normal(jax.random.key(2), (BATCH, 6, WIDTH))
        f = np.asarray(layer.features.channels_last(x))[..., :WIDTH].mean(1)
        size = WIDTH // HEADS
        values = [dense(layer.maps, f[:, h * size : (h + 1) * size])[:, 2 * size :] for h in range(HEADS)]
        expected = dense(layer.out, np.concatenate(values, axis=1))[:, None]
        np.testing.assert_allclose(layer(x), np.broadcast_to(expected, x.shape), atol=1e-8)  # 1e-9 beside the share 1


def test_temperatures_stay_in_their_range():
    with jax.enable_x64(True):
        layer, x = physics_attention(), jax.random.normal(jax.random.key(2), (BATCH, 6, WIDTH))
        apply = eqx.filter_jit(lambda layer: layer(x))
        at = lambda value: apply(eqx.tree_at(lambda a: a.temperature, layer, np.full(HEADS, value)))
        np.testing.assert_array_equal(at(0.01), at(0.1))
        np.testing.assert_array_equal(at(50.0), at(5.0))
        assert np.abs(at(0.1) - at(5.0)).max() > 0.01


def test_other_resolutions_converge():
    with jax.enable_x64(True):
        walls = Neumann(0.5)  # cell centres: the midpoint rule
        model = eqx.filter_jit(build(Grid((3,), boundary=walls), depth=1))

        def in_the_middle(n):  # a point of every grid of odd size
            places = (np.arange(n) + 0.5) / n
            return np.asarray(model(jnp.asarray(np.sin(np.outer(np.arange(1, IN + 1), places))))[:, n // 2])

        limit, sizes = in_the_middle(19683), (243, 729)
        errors = [np.abs(in_the_middle(n) - limit).max() for n in sizes]
        assert np.log(errors[0] / errors[1]) / np.log(sizes[1] / sizes[0]) == pytest.approx(2, abs=0.1)


def test_stencils_continue_as_the_boundary_says():
    with jax.enable_x64(True):
        slicing = Slicing(heads=HEADS, slices=SLICES)
        ring, walls = (
            build(Grid((5, 6), boundary=(one, Periodic())), slicing=slicing, depth=1).blocks[0].attention
            for one in (Periodic(), Dirichlet())
        )
        x = jax.random.normal(jax.random.key(2), (1, 5, 6, WIDTH))
        apply = eqx.filter_jit(lambda layer, x: layer(x))
        rolled = lambda layer: jnp.roll(apply(layer, jnp.roll(x, 2, 1)), -2, 1)
        np.testing.assert_allclose(rolled(ring), apply(ring, x), atol=1e-12)
        assert np.abs(rolled(walls) - apply(walls, x)).max() > 0.01


def test_the_size_of_the_published_darcy_network():
    count = size_of(lambda: Transolver(1, 1, grid=Grid((4, 4)), key=jax.random.key(0)))
    lifting = (65 * 256 + 256) + (256 * 128 + 128)
    attention = 2 * (9 * 128 * 128 + 128) + (16 * 64 + 64) + 3 * 16 * 16 + 8 + (128 * 128 + 128)
    network = 2 * (128 * 128 + 128)
    # The official code has 128 more, which stand for a missing input.
    assert count == lifting + 8 * (attention + network + 4 * 128) + 2 * 128 + (128 + 1)


def test_wrong_input_is_refused():
    grid = Grid((8, 6))
    pinned = build(grid, slicing=Slicing(heads=HEADS, slices=SLICES))
    for shape in [(IN + 1, 8, 6), (IN, 8), (BATCH, IN, 8, 6)]:
        with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
            pinned(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 8, 6\).*Resampled"):
        pinned(jnp.zeros((IN, 8, 8)))
    assert build(grid)(jnp.zeros((IN, 8, 8))).shape == (OUT, 8, 8)
    with pytest.raises(ValueError, match=r"4 heads do not divide the width 6"):
        build(grid, slicing=Slicing(heads=4))
