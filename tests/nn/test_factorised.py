import string

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn

from sciml.nn import AxialSpectralConv, InstanceNorm, SpectralConv, TuckerSpectralConv, _spectral, fourier_resample

BATCH, IN, OUT = 2, 3, 5
KEY = jax.random.key(0)


def field(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def as_complex(pair):
    return np.asarray(pair[0] + 1j * pair[1])


def pair(z):
    return jnp.stack([jnp.asarray(z.real), jnp.asarray(z.imag)])


def higher_order_svd(weight):
    """Core and factors of a complex tensor: left singular vectors of each unfolding."""
    factors = [
        np.linalg.svd(np.moveaxis(weight, axis, 0).reshape(n, -1), full_matrices=False)[0]
        for axis, n in enumerate(weight.shape)
    ]
    core = weight
    for u in factors:
        core = np.tensordot(core, u.conj(), axes=(0, 0))
    return core, factors


def factorised(dense):
    """The Tucker layer of full rank that equals a dense one."""
    core, factors = higher_order_svd(np.asarray(dense.weight[..., 0, :] + 1j * dense.weight[..., 1, :]))
    into, _, out = dense.weight.shape[-3:]
    make = lambda: TuckerSpectralConv(into, out, dense.modes, rank=core.shape, key=KEY)
    layer = eqx.filter_eval_shape(make)
    parts = lambda layer: (layer.core, layer.factors, layer.bias)
    return eqx.tree_at(parts, layer, (pair(core), tuple(map(pair, factors)), dense.bias))


@pytest.mark.parametrize(("modes", "space"), [((4,), (9,)), ((6, 5), (8, 4)), ((4, 3, 2), (6, 5, 7))])
def test_higher_order_svd_of_a_dense_weight_gives_its_output(modes, space):
    with jax.enable_x64(True):
        dense = drawn(lambda: SpectralConv(IN, OUT, modes, key=KEY))
        layer = factorised(dense)
        np.testing.assert_allclose(eqx.filter_jit(layer.dense)(), dense.weight, atol=1e-13)
        x = jnp.asarray(field(BATCH, IN, *space))
        y, expected = (eqx.filter_jit(jax.vmap(one))(x) for one in (layer, dense))
        np.testing.assert_allclose(y, expected, atol=1e-12)  # rounding of O(1) numbers


def test_the_dense_weight_of_low_ranks_is_the_sum_over_products():
    with jax.enable_x64(True):
        layer = drawn(lambda: TuckerSpectralConv(IN, OUT, (6, 4), rank=(4, 3, 2, 3), key=KEY))
        ranks, axes = string.ascii_lowercase[:4], string.ascii_uppercase[:4]
        terms = ",".join(axis + rank for axis, rank in zip(axes, ranks, strict=True))
        w = np.einsum(f"{ranks},{terms}->{axes}", as_complex(layer.core), *map(as_complex, layer.factors))
        assert w.shape == (6, 3, IN, OUT)
        np.testing.assert_allclose(eqx.filter_jit(layer.dense)(), np.stack([w.real, w.imag], -2), atol=1e-14)


def test_a_fraction_of_the_parameters_is_a_fraction_of_each_axis():
    layer = eqx.filter_eval_shape(lambda: TuckerSpectralConv(32, 48, (24, 22), rank=0.1, key=KEY))
    numbers = layer.core.size + sum(factor.size for factor in layer.factors)
    assert abs(numbers / (2 * 24 * 12 * 32 * 48) - 0.1) < 0.01  # ranks are rounded: half of 1 in 6 on the last axis
    shares = np.array(layer.core.shape[1:]) / np.array([24, 12, 32, 48])
    assert np.ptp(shares) < 1 / 12
    least = eqx.filter_eval_shape(lambda: TuckerSpectralConv(2, 3, (2, 2), rank=1e-6, key=KEY))
    assert least.core.shape == (2, 1, 1, 1, 1)


def test_the_factors_multiply_to_the_variance_of_a_dense_weight():
    make = lambda key: TuckerSpectralConv(6, 10, (8,), rank=0.5, key=key).dense()
    weights = jax.jit(jax.vmap(make))(jax.random.split(KEY, 1000))
    variance = jnp.mean(jnp.sum(weights**2, axis=-2))
    assert abs(float(variance) * (6 + 10) / 2 - 1) < 0.1  # each draw varies by about 0.4, so the mean by 0.02


@pytest.mark.parametrize("rank", [0.0, 1.5, (1, 1, 1), (7, 1, 1, 1), (1, 1, 0, 1)])
def test_bad_ranks_are_refused(rank):
    message = "rank for each axis.*Give a number" if isinstance(rank, tuple) else r"fraction.*\(0, 1\].*Give a tuple"
    with pytest.raises(ValueError, match=message):
        TuckerSpectralConv(IN, OUT, (6, 4), rank=rank, key=KEY)


def multipliers_along_each_axis(layer, x):
    """Independent implementation by NumPy's one-dimensional transforms."""
    y = 0.0
    for axis, weight in enumerate(layer.weights, 1):
        w = np.asarray(weight[..., 0, :] + 1j * weight[..., 1, :])
        spectrum = np.moveaxis(np.fft.rfft(x, axis=axis), axis, -1)  # in, other axes, frequency
        kept = min(w.shape[0], spectrum.shape[-1])
        product = np.einsum("kio,i...k->o...k", w[:kept], spectrum[..., :kept])
        y = y + np.moveaxis(np.fft.irfft(product, n=x.shape[axis], axis=-1), -1, axis)
    return y


@pytest.mark.parametrize(("modes", "space"), [((4,), (9,)), ((6, 9), (11, 6)), ((4, 3, 2), (6, 5, 7))])
def test_axial_multipliers_equal_one_transform_for_each_axis(modes, space):
    with jax.enable_x64(True):
        layer, x = drawn(lambda: AxialSpectralConv(IN, OUT, modes, key=KEY)), field(BATCH, IN, *space)
        y = eqx.filter_jit(jax.vmap(layer))(jnp.asarray(x))
        expected = np.stack([multipliers_along_each_axis(layer, one) for one in x])
        np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize("make", [AxialSpectralConv, lambda *a, key: TuckerSpectralConv(*a, rank=0.5, key=key)])
def test_wrong_modes_and_fields_are_refused(make):
    with pytest.raises(ValueError, match="positive number of modes for each of 1 to 3 axes"):
        make(IN, OUT, (4, 0), key=KEY)
    for shape in [(IN + 1, 8, 8), (IN, 8), (BATCH, IN, 8, 8)]:
        with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
            eqx.filter_eval_shape(lambda: make(IN, OUT, (4, 4), key=KEY))(jnp.zeros(shape))


def band_limited(space, lead):
    """Functions with frequencies up to 2, the same on every grid, axes (*space, *lead)."""
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in space), indexing="ij")
    waves = [(rng.standard_normal(lead), k, m) for k in range(-2, 3) for m in range(3)]
    return jnp.asarray(sum(c * np.cos(k * x + m * y + k - m)[..., None, None] for c, k, m in waves))


@pytest.mark.parametrize("cost", [None, 0.0], ids=["products", "fft"])
@pytest.mark.parametrize("space", [(6, 7), (20, 5), (8, 12)])
def test_between_grids_a_multiplier_is_the_same_operator(space, cost, monkeypatch):
    if cost is not None:
        monkeypatch.setattr(_spectral, "_FFT_COST", cost)
    with jax.enable_x64(True):
        layer = drawn(lambda: SpectralConv(IN, OUT, (12, 12), key=KEY))
        multiply = eqx.filter_jit(layer.multiply)
        y = multiply(band_limited((8, 9), (BATCH, IN)), space)
        expected = multiply(band_limited(space, (BATCH, IN)), space)
        np.testing.assert_allclose(y, expected, atol=1e-12)  # exact: no frequency is aliased


def test_trigonometric_interpolation_is_exact_and_low_pass():
    with jax.enable_x64(True):
        for space in [(6, 5), (8, 20), (17, 9)]:
            y = fourier_resample(band_limited((8, 9), (BATCH, IN)), space)
            np.testing.assert_allclose(y, band_limited(space, (BATCH, IN)), atol=1e-13)
        highest = jnp.asarray(np.cos(np.pi * np.arange(8)))[:, None, None]  # its phase is not known
        np.testing.assert_allclose(fourier_resample(highest, (16,)), np.zeros((16, 1, 1)), atol=1e-13)
        np.testing.assert_array_equal(fourier_resample(highest, (8,)), highest)


def test_instance_norm_sets_mean_and_variance_of_each_channel():
    with jax.enable_x64(True):
        layer = InstanceNorm(IN)
        x = 3 * field(IN, 5, 7) + np.arange(IN)[:, None, None]
        y = eqx.filter_jit(layer)(jnp.asarray(x))
        np.testing.assert_allclose(y.mean((1, 2)), np.zeros(IN), atol=1e-14)
        np.testing.assert_allclose(y.var((1, 2)), x.var((1, 2)) / (x.var((1, 2)) + 1e-5), rtol=1e-12)
        other = eqx.tree_at(lambda n: (n.gain, n.shift), layer, (jnp.arange(3.0), jnp.array([1.0, -1.0, 5.0])))
        expected = y * np.arange(3.0)[:, None, None] + np.array([1.0, -1.0, 5.0])[:, None, None]
        np.testing.assert_allclose(other(jnp.asarray(x)), expected, atol=1e-14)
