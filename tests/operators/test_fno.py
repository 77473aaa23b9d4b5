import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import FNO, UNO, Padded, Pointwise, Stage

BATCH, IN, OUT, WIDTH = 2, 3, 4, 6


def build(modes, *, grid=None, seed=0, **options):
    return FNO(IN, OUT, modes=modes, width=WIDTH, grid=grid, key=jax.random.key(seed), **options)


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def double(model):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, model)


def test_the_size_of_neuraloperators_gallery_example():
    model = FNO(1, 1, modes=(8, 8), width=24, grid=Grid((16, 16)), key=jax.random.key(0))
    assert parameters(model) == 191_881  # its own count, of n_modes=(8, 8), hidden_channels=24


def test_the_size_of_the_first_fno():
    pointwise = Pointwise(lifting=0, mixing=0, projection=4)
    model = FNO(1, 1, modes=(24, 22), width=32, pointwise=pointwise, grid=Grid((4, 4)), key=jax.random.key(0))
    spectral = 4 * (24 * 12 * 32 * 32 * 2 + 32)
    assert parameters(model) == (3 * 32 + 32) + spectral + 4 * 32 * 32 + (32 * 128 + 128) + (128 + 1)


def dense(layer, x):
    y = np.einsum("io,i...->o...", layer.weight, x)
    return y if layer.bias is None else y + np.asarray(layer.bias).reshape((-1,) + (1,) * (x.ndim - 1))


def gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def network(layers, x):
    for layer in layers[:-1]:
        x = gelu(dense(layer, x))
    return dense(layers[-1], x)


def independent(model, x, coordinates):
    """The architecture written channels first for one sample with NumPy."""
    v = network(model.lifting, np.concatenate([x, coordinates]))
    for i, block in enumerate(model.blocks):
        final = gelu if i < len(model.blocks) - 1 else (lambda y: y)
        w = final(np.asarray(eqx.filter_jit(block.spectral)(jnp.asarray(v))) + dense(block.skip, v))
        if block.gate is not None:
            gate = np.asarray(block.gate).reshape((-1,) + (1,) * (v.ndim - 1))
            w = final(network(block.mixing, w) + gate * v)
        v = w
    return network(model.projection, v)


POINTWISE = [Pointwise(), Pointwise(lifting=0, mixing=0, projection=4), Pointwise(projection=0)]


@pytest.mark.parametrize("pointwise", POINTWISE, ids=["default", "first", "linear projection"])
@pytest.mark.parametrize(("modes", "space"), [((5,), (12,)), ((4, 6), (9, 12)), ((2, 4, 3), (5, 6, 7))])
def test_equals_an_independent_implementation(modes, space, pointwise):
    with jax.enable_x64(True):
        model = double(build(modes, grid=Grid(space, extent=2.0), depth=2, pointwise=pointwise))
        gates = lambda model: [block.gate for block in model.blocks if block.gate is not None]
        model = eqx.tree_at(gates, model, [jnp.linspace(-1, 2, WIDTH) for _ in gates(model)])
        x = np.random.default_rng(0).standard_normal((BATCH, IN, *space))
        coordinates = np.stack(np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij"))
        y = eqx.filter_jit(jax.vmap(model))(jnp.asarray(x))
        expected = np.stack([independent(model, one, coordinates) for one in x])
        np.testing.assert_allclose(y, expected, atol=1e-12)


def smooth(space):
    x, y = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in space), indexing="ij")
    return np.stack([np.sin(x), np.cos(y + x), np.cos(2 * y)])


def test_the_linear_network_is_exact_at_other_resolutions():
    with jax.enable_x64(True):
        linear = Pointwise(activation=lambda y: 2.0 * y)
        model = eqx.filter_jit(double(build((6, 6), pointwise=linear)))
        coarse, fine = model(jnp.asarray(smooth((10, 8)))), model(jnp.asarray(smooth((30, 40))))
        np.testing.assert_allclose(fine[:, ::3, ::5], coarse, atol=1e-11)  # band limited, so nothing is aliased


def test_other_resolutions_converge():
    with jax.enable_x64(True):
        model = eqx.filter_jit(double(build((6, 6), depth=2)))
        at = lambda n: model(jnp.asarray(smooth((n, n))))[:, :: n // 16, :: n // 16]
        finest = at(128)
        errors = [float(jnp.abs(at(n) - finest).max()) for n in (16, 32)]
        assert errors[1] < 1e-3 * float(jnp.abs(finest).max())
        assert errors[1] <= errors[0]  # an activation's spectrum decays exponentially


def test_coordinates_are_those_of_the_boundary_at_every_size():
    grid = Grid((4, 6), extent=(1.0, 3.0), boundary=(Dirichlet(), Dirichlet()))
    model = build((2, 2), grid=grid, depth=1)
    linear = eqx.tree_at(lambda m: m.lifting[0].weight, model, model.lifting[0].weight.at[IN:].set(0.0))
    x = jnp.ones((IN, 5, 7))
    y, without = (eqx.filter_jit(m)(x) for m in (model, linear))
    assert not np.allclose(y, without)  # they are used
    assert np.ptp(without[0]) < 1e-5  # and nothing else depends on the place
    coordinates = jnp.stack(jnp.meshgrid((jnp.arange(5) + 1) / 6, (jnp.arange(7) + 1) / 8, indexing="ij"))
    plain = FNO(IN + 2, OUT, modes=(2, 2), width=WIDTH, depth=1, key=jax.random.key(0))
    arrays = lambda m: (m.lifting, m.blocks, m.projection)
    plain = eqx.tree_at(arrays, plain, arrays(model))
    np.testing.assert_allclose(eqx.filter_jit(plain)(jnp.concatenate([x, coordinates])), y, atol=1e-5)


def test_wrong_input_is_refused():
    for shape in [(IN + 1, 8, 8), (IN, 8), (BATCH, IN, 8, 8)]:
        with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
            build((4, 4), grid=Grid((8, 8)))(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"is for 2 axes, the grid has 1.*one number of modes for each axis"):
        build((4, 4), grid=Grid((8,)))


def test_padding_is_between_lifting_and_projection_on_axes_with_walls():
    """Equal to the layers called on the larger grid by hand; the coordinates are those of the domain."""
    grid = Grid((8, 10), extent=(1.0, 2.0), boundary=(Neumann(), Periodic()))
    with jax.enable_x64(True):
        model = double(build((6, 6), grid=grid))
        x = jax.random.normal(jax.random.key(1), (IN, *grid.shape))
        points = np.stack(
            np.meshgrid(*(p / length for p, length in zip(grid.points(), (1, 2), strict=True)), indexing="ij")
        )
        lifted = network(model.lifting, np.concatenate([x, points]))
        padded = np.pad(lifted, ((0, 0), (0, 2), (0, 0)))  # a quarter of 8 points; none on the periodic axis
        body = eqx.filter_jit(lambda v: model.body(jnp.moveaxis(v, 0, -1)[..., None, :]))(padded)
        expected = network(model.projection, np.moveaxis(np.asarray(body)[:8, :, 0], -1, 0))
        y = eqx.filter_jit(Padded(model, grid, 0.25))(x)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * np.abs(expected).max())  # rounding


def test_padding_leaves_periodic_networks_alone_and_serves_every_fourier_network(getkey):
    model, x = build((6,)), jax.random.normal(getkey(), (IN, 12))
    same = eqx.filter_jit(Padded(model, Grid((12,)), 0.5))(x)
    np.testing.assert_array_equal(same, eqx.filter_jit(model)(x))
    walls = Grid((12,), boundary=Dirichlet())
    assert np.abs(eqx.filter_jit(Padded(model, walls, 0.5))(x) - same).max() > 0
    stages = tuple(Stage(4, (6,), (scale,)) for scale in (0.5, 0.25, 1))
    uno = eqx.filter_eval_shape(lambda key: Padded(UNO(IN, OUT, width=4, stages=stages, key=key), walls, 0.5), getkey())
    assert eqx.filter_eval_shape(uno, x).shape == (OUT, 12)


def test_padding_refuses_what_does_not_fit(getkey):
    with pytest.raises(ValueError, match=r"fraction of at least 0, got -0.1. Use 0.1 for 10 % more"):
        Padded(build((6,)), Grid((8,)), -0.1)
    with pytest.raises(ValueError, match=r"is for 1 axes, the grid has 2"):
        Padded(build((6,)), Grid((8, 8)), 0.1)
    with pytest.raises(ValueError, match="Expected a field"):
        Padded(build((6,)), Grid((8,)), 0.1)(jnp.ones((IN + 1, 8)))
