import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import size_of, stirred
from scipy.special import expit

from sciml.grid import Grid, Neumann
from sciml.operators import GalerkinTransformer, SpectralHead

BATCH, IN, OUT, WIDTH, HEADS = 2, 3, 4, 6, 2


def build(modes, *, grid=None):
    head = SpectralHead(modes, width=5, depth=1)
    options = {"head": head, "width": WIDTH, "depth": 2, "heads": HEADS, "grid": grid, "key": jax.random.key(0)}
    return stirred(lambda: GalerkinTransformer(IN, OUT, **options))


def dense(layer, x):
    return x @ np.asarray(layer.weight) + (0 if layer.bias is None else np.asarray(layer.bias))


def norm(layer, x):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-7)
    return y * np.asarray(layer.scale) + np.asarray(layer.shift)


def independent_attention(layer, v, places):
    """Head by head and point by point, for one sample (n, width)."""
    size, n, heads = WIDTH // HEADS, len(v), []
    query, key, value = np.split(dense(layer.maps, v), 3, axis=1)
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        one = jax.tree.map(lambda leaf, h=h: leaf[h, 0], (layer.key_norm, layer.value_norm))
        q, k, w = query[:, part], norm(one[0], key[:, part]), norm(one[1], value[:, part])
        q, k, w = (np.concatenate([places, x], axis=1) for x in (q, k, w))
        heads.append([sum(q[i] @ k[j] * w[j] for j in range(n)) / n for i in range(n)])
    return dense(layer.out, np.concatenate(heads, axis=1))


def independent(model, x, places):
    """One sample (in, *space)."""
    space = x.shape[1:]
    v = dense(model.lifting, np.concatenate([x.reshape(IN, -1).T, places], axis=1))
    for layer in model.layers:
        v = v + independent_attention(layer.attention, v, places)
        first, second = layer.network.layers
        v = v + dense(second, np.maximum(dense(first, v), 0))
    v = dense(model.narrowing, np.concatenate([v, places], axis=1))
    for layer in model.spectral:
        field = eqx.filter_jit(layer.convolution)(jnp.asarray(v.T.reshape(-1, *space)))
        v = np.asarray(field).reshape(len(field), -1).T + dense(layer.skip, v)
        v = v * expit(v)
    first, second = model.projection.layers
    hidden = dense(first, v)
    return dense(second, hidden * expit(hidden)).T.reshape(OUT, *space)


@pytest.mark.parametrize(("modes", "space"), [((4,), (9,)), ((4, 3), (5, 6)), ((2, 3, 2), (2, 3, 4))])
def test_equals_a_loop_over_heads_and_points(modes, space):
    with jax.enable_x64(True):
        model = build(modes, grid=Grid(space, extent=2.0))
        x = np.random.default_rng(0).standard_normal((BATCH, IN, *space))
        places = np.stack(np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij"), -1)
        places = places.reshape(-1, len(space))
        expected = np.stack([independent(model, one, places) for one in x])
        y = eqx.filter_jit(jax.vmap(model))(jnp.asarray(x))
        np.testing.assert_allclose(y, expected, atol=1e-12 * np.abs(expected).max())  # float64, sums in another order


def test_attention_commutes_with_permutations_of_the_points():
    with jax.enable_x64(True):
        layer = build((4,)).layers[0]
        v = jax.random.normal(jax.random.key(2), (BATCH, 5, WIDTH))
        order = np.array([3, 0, 4, 1, 2])
        np.testing.assert_allclose(layer(v[:, order], None), layer(v, None)[:, order], atol=1e-12)


def test_the_operator_without_coordinates_commutes_with_shifts():
    with jax.enable_x64(True):
        model = eqx.filter_jit(build((4, 4)))
        x = jax.random.normal(jax.random.key(2), (IN, 8, 10))
        y = model(x)
        np.testing.assert_allclose(model(jnp.roll(x, (3, 4), (1, 2))), jnp.roll(y, (3, 4), (1, 2)), atol=1e-11)


@pytest.mark.parametrize(("gap", "order"), [(0.5, 2), (0.0, 1)], ids=["cell centres", "wall nodes"])
def test_attention_is_a_quadrature(gap, order):
    with jax.enable_x64(True):
        grid = Grid((3,), boundary=Neumann(gap))
        layer = build((4,), grid=grid).layers[0].attention

        def in_the_middle(n):  # a point of every grid of odd size
            places = grid.with_shape((n,)).points()[0][:, None]
            v = jnp.asarray(np.sin((places + 0.3) * np.arange(1.0, WIDTH + 1)))
            return np.asarray(layer(v[None], places)[0, n // 2])

        limit, sizes = in_the_middle(20001), (81, 243)
        errors = [np.abs(in_the_middle(n) - limit).max() for n in sizes]
        assert np.log(errors[0] / errors[1]) / np.log(sizes[1] / sizes[0]) == pytest.approx(order, abs=0.1)


def test_the_size_of_the_published_transformer():
    options = {"head": SpectralHead((24, 22)), "grid": Grid((4, 4)), "key": jax.random.key(0)}
    count = size_of(lambda: GalerkinTransformer(1, 1, **options))
    # Published: 2.22 million, as the official code counts for width 128, 6 layers, 4 heads, 32 spectral channels. It
    # has four and one convolutions of 3 x 3 points without constants in place of the lifting.
    around = 9 * (1 * 128 + 128 * 42 + 42 * 42 + 42 * 44) + 9 * 128 * 128
    assert count - (3 * 128 + 128) + around == 2_220_829


def test_wrong_input_is_refused():
    for shape in [(IN + 1, 8, 8), (IN, 8), (BATCH, IN, 8, 8)]:
        with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
            build((4, 4), grid=Grid((8, 8)))(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"is for 2 axes, the grid has 1.*one number of modes for each axis"):
        build((4, 4), grid=Grid((8,)))
    with pytest.raises(ValueError, match=r"5 heads do not divide the width 128"):
        size_of(lambda: GalerkinTransformer(1, 1, head=SpectralHead((4,)), heads=5, key=jax.random.key(0)))
