import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nn import SpectralConv, _spectral, fold_vmap, matmul

BATCH, IN, OUT = 4, 3, 5  # no two equal: a swapped axis cannot pass

# modes, space: even and odd numbers of both, rectangles, grids with fewer frequencies than modes, 1 to 3 dimensions
CASES = [
    ((8,), (32,)),
    ((8,), (7,)),
    ((8, 6), (32, 20)),
    ((7, 5), (16, 11)),
    ((8, 6), (8, 6)),
    ((8, 6), (7, 5)),
    ((4, 3, 6), (8, 9, 10)),
    ((4, 6, 5), (3, 4, 10)),
    ((1, 1), (4, 6)),
]


def layer_of(modes, into=IN, out=OUT):
    layer = SpectralConv(into, out, modes, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), layer)


def field(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def multiplier_of_the_full_transform(layer, x):
    """Independent implementation: each kept frequency of the complete NumPy transform times its matrix."""
    space, axes = x.shape[1:], tuple(range(1, x.ndim))
    weight = np.asarray(layer.weight[..., 0, :] + 1j * layer.weight[..., 1, :])
    spectrum = np.fft.rfftn(x, axes=axes, norm="forward")
    product = np.zeros((weight.shape[-1], *spectrum.shape[1:]), complex)
    low = [-(m // 2) for m in layer.modes[:-1]] + [0]
    for index in np.ndindex(*weight.shape[: len(space)]):
        k = tuple(i + start for i, start in zip(index, low, strict=True))
        present = [-(n // 2) <= one <= (n - 1) // 2 for one, n in zip(k[:-1], space[:-1], strict=True)]
        if all(present) and k[-1] <= space[-1] // 2:
            product[(slice(None), *k)] = weight[index].T @ spectrum[(slice(None), *k)]
    y = np.fft.irfftn(product, s=space, axes=axes, norm="forward")
    return y + np.asarray(layer.bias).reshape((-1,) + (1,) * len(space))


@pytest.mark.parametrize("cost", [None, 0.0], ids=["chosen", "fft"])
@pytest.mark.parametrize(("modes", "space"), CASES)
def test_equals_the_multiplier_of_the_full_transform(modes, space, cost, monkeypatch):
    if cost is not None:
        monkeypatch.setattr(_spectral, "_FFT_COST", cost)
    with jax.enable_x64(True):
        layer, x = layer_of(modes), field(BATCH, IN, *space)
        expected = np.stack([multiplier_of_the_full_transform(layer, one) for one in x])
        y = eqx.filter_jit(jax.vmap(layer))(jnp.asarray(x))
        np.testing.assert_allclose(y, expected, atol=1e-12)  # rounding of O(1) numbers
        np.testing.assert_allclose(eqx.filter_jit(layer)(jnp.asarray(x[0])), expected[0], atol=1e-12)


@pytest.mark.parametrize(("modes", "space"), [((9,), (16,)), ((8, 6), (16, 20))])
def test_both_transforms_have_the_same_gradients(modes, space, monkeypatch):
    with jax.enable_x64(True):
        layer, x, c = layer_of(modes), jnp.asarray(field(IN, *space)), jnp.asarray(field(OUT, *space, seed=2))

        def gradients():
            return jax.jit(jax.grad(lambda arguments: jnp.sum(arguments[0](arguments[1]) * c)))((layer, x))

        products = gradients()
        monkeypatch.setattr(_spectral, "_FFT_COST", 0.0)
        for ours, theirs in zip(jax.tree.leaves(products), jax.tree.leaves(gradients()), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-11)


def test_the_cheaper_transform_is_chosen():
    bands = lambda space, modes: tuple(_spectral._band(n, modes, i == len(space) - 1) for i, n in enumerate(space))
    assert not _spectral._prefers_fft((64, 64), bands((64, 64), 24))
    assert not _spectral._prefers_fft((256, 256), bands((256, 256), 64))
    assert _spectral._prefers_fft((512, 512), bands((512, 512), 256))
    assert _spectral._prefers_fft((1024,), bands((1024,), 1024))


def test_commutes_with_translations():
    with jax.enable_x64(True):
        layer, x = eqx.filter_jit(layer_of((8, 6))), jnp.asarray(field(IN, 16, 11))
        shifted = layer(jnp.roll(x, (3, 2), (1, 2)))
        np.testing.assert_allclose(shifted, jnp.roll(layer(x), (3, 2), (1, 2)), atol=1e-12)


def band_limited(space):
    """A field with frequencies below 4, the same function on every grid."""
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in space), indexing="ij")
    waves = [(rng.standard_normal(IN), k, m) for k in range(-3, 4) for m in range(4)]
    return sum(c[:, None, None] * np.cos(k * x + m * y + c[0]) for c, k, m in waves)


def test_is_one_operator_at_every_resolution():
    with jax.enable_x64(True):
        layer = eqx.filter_jit(layer_of((8, 6)))
        coarse, fine = layer(jnp.asarray(band_limited((12, 10)))), layer(jnp.asarray(band_limited((36, 50))))
        np.testing.assert_allclose(fine[:, ::3, ::5], coarse, atol=1e-12)  # exact: no frequency is aliased


def test_bfloat16_stays_bfloat16():
    layer, x = SpectralConv(IN, OUT, (4, 4), key=jax.random.key(0)), jnp.asarray(field(IN, 8, 10), jnp.float32)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), layer)(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), layer(x), atol=0.1)  # 8 bits, sums of some 80 numbers


def test_weights_are_real_and_have_the_variance_of_neuraloperator():
    layer = SpectralConv(24, 40, (16, 16), key=jax.random.key(0))
    assert layer.weight.dtype == jnp.float32
    assert layer.weight.shape == (16, 9, 24, 2, 40)
    variance = jnp.mean(jnp.sum(layer.weight**2, axis=-2))  # of the complex number
    assert abs(float(variance) * (24 + 40) / 2 - 1) < 0.02  # 138240 numbers: standard error 0.004


@pytest.mark.parametrize("modes", [(), (4, 0), (2, 2, 2, 2)])
def test_bad_modes_are_refused(modes):
    with pytest.raises(ValueError, match="positive number of modes for each of 1 to 3 axes"):
        SpectralConv(IN, OUT, modes, key=jax.random.key(0))


@pytest.mark.parametrize("shape", [(IN + 1, 8, 8), (IN, 8), (BATCH, IN, 8, 8)])
def test_a_wrong_field_is_refused(shape):
    with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
        SpectralConv(IN, OUT, (4, 4), key=jax.random.key(0))(jnp.zeros(shape))


class TestTransformations:
    """Every order of vmap and derivatives, against a loop over samples."""

    modes, space = (6, 4), (9, 10)

    def setup_method(self):
        self.x = field(BATCH, IN, *self.space)

    def energy(self, layer, x):
        return jnp.sum(jnp.tanh(layer(x)) ** 2)

    def loop(self, function):
        function = eqx.filter_jit(function)
        return jnp.stack([function(one) for one in jnp.asarray(self.x)])

    def test_gradients_in_the_weights(self):
        with jax.enable_x64(True):
            layer, x = layer_of(self.modes), jnp.asarray(self.x)
            gradient = lambda one: jax.grad(self.energy)(layer, one).weight
            each = self.loop(gradient)
            np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(x), each, atol=1e-12)
            together = jax.jit(jax.grad(lambda layer: jnp.sum(jax.vmap(self.energy, (None, 0))(layer, x))))(layer)
            np.testing.assert_allclose(together.weight, each.sum(0), atol=1e-11)

    def test_directional_and_second_derivatives(self):
        with jax.enable_x64(True):
            layer, x = layer_of(self.modes), jnp.asarray(self.x)
            direction = jnp.asarray(field(IN, *self.space, seed=5))
            along = lambda one: jax.jvp(lambda u: self.energy(layer, u), (one,), (direction,))[1]
            slope = lambda one: jnp.vdot(jax.grad(self.energy, 1)(layer, one), direction)
            np.testing.assert_allclose(jax.jit(jax.vmap(along))(x), self.loop(slope), rtol=1e-11)
            step, product = (
                1e-4,
                lambda one: jax.jvp(jax.grad(self.energy, 1), (layer, one), (zeros(layer), direction))[1],
            )
            gradient = lambda one: jax.grad(self.energy, 1)(layer, one)
            difference = lambda one: (gradient(one + step * direction) - gradient(one - step * direction)) / (2 * step)
            np.testing.assert_allclose(
                jax.jit(jax.vmap(product))(x), self.loop(difference), atol=1e-6
            )  # step^2 times u'''

    def test_jacobian(self):
        with jax.enable_x64(True):
            layer, x = layer_of((3,)), jnp.asarray(field(IN, 5))
            np.testing.assert_allclose(jax.jit(jax.jacrev(layer))(x), jax.jit(jax.jacfwd(layer))(x), atol=1e-13)

    def test_ensembles_and_nested_batches(self):
        with jax.enable_x64(True):
            x = jnp.asarray(self.x)
            make = eqx.filter_jit(eqx.filter_vmap(lambda key: SpectralConv(IN, OUT, self.modes, key=key)))
            layers = make(jax.random.split(jax.random.key(1), 2))
            first = jax.tree.map(lambda leaf: leaf[0], layers)
            both = jax.jit(jax.vmap(jax.vmap(lambda layer, one: layer(one), (None, 0)), (0, None)))(layers, x)
            np.testing.assert_allclose(both[0], self.loop(first), atol=1e-12)
            nested = eqx.filter_jit(jax.vmap(jax.vmap(first)))(x.reshape(2, 2, *x.shape[1:]))
            np.testing.assert_allclose(nested.reshape(both[0].shape), both[0], atol=1e-12)
            last = eqx.filter_jit(jax.vmap(first, in_axes=-1, out_axes=1))(jnp.moveaxis(x, 0, -1))
            np.testing.assert_allclose(jnp.moveaxis(last, 1, 0), both[0], atol=1e-12)

    def test_export_with_a_symbolic_batch(self):
        layer = SpectralConv(IN, OUT, self.modes, key=jax.random.key(0))
        (batch,) = jax.export.symbolic_shape("batch")
        spec = jax.ShapeDtypeStruct((batch, IN, *self.space), jnp.float32)
        exported = jax.export.export(jax.jit(lambda x: jax.vmap(layer)(x)))(spec)
        x = jnp.asarray(self.x, jnp.float32)
        np.testing.assert_allclose(exported.call(x), eqx.filter_jit(jax.vmap(layer))(x), atol=1e-5)


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def test_fold_vmap_shows_the_function_the_whole_batch():
    shapes = []

    def function(weight, x):
        shapes.append(x.shape)
        return weight * x

    one = lambda x: fold_vmap(function, jnp.float32(2), x)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(one))(jnp.ones((2, 3, 5))), 2 * np.ones((2, 3, 5)))
    assert shapes[-1] == (6, 5)


@pytest.mark.parametrize("rows", [37, 16 * 256])  # the second takes the CPU's form of a weight gradient
@pytest.mark.parametrize("batch", [(), (2,)])
def test_matmul_is_closed_under_differentiation(rows, batch):
    with jax.enable_x64(True):
        a, b = jnp.asarray(field(*batch, rows, 5)), jnp.asarray(field(*batch, 5, 3))
        c, d = jnp.asarray(field(*batch, rows, 3, seed=2)), jnp.asarray(field(*batch, 5, 3, seed=4))

        def derivatives(product):
            value = lambda a, b: jnp.sum(jnp.sin(product(a, b)) * c)
            gradient = jax.grad(value, (0, 1))
            second = jax.grad(lambda a, b: jnp.sum(gradient(a, b)[1] * d) + jnp.sum(gradient(a, b)[0] ** 2), (0, 1))
            return gradient(a, b), second(a, b)

        ours, theirs = (jax.jit(lambda f=f: derivatives(f))() for f in (matmul, lambda a, b: a @ b))
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)  # sums of 4096 rounded numbers


def test_a_gain_scales_the_weights_and_leaves_the_bias():
    plain, small = (SpectralConv(2, 3, (4, 4), gain=gain, key=jax.random.key(0)) for gain in (1.0, 0.1))
    np.testing.assert_allclose(small.weight, 0.1 * plain.weight, rtol=1e-6)
    np.testing.assert_array_equal(small.bias, plain.bias)
