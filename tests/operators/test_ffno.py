import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn

from sciml.grid import Grid
from sciml.operators import FFNO, Pointwise

BATCH, IN, OUT, WIDTH = 2, 3, 4, 6


def build(modes, *, kernels=(0, 1, 0), **options):
    return FFNO(IN, OUT, modes=modes, width=WIDTH, kernels=kernels, key=jax.random.key(0), **options)


def dense(layer, x):
    return np.einsum("io,i...->o...", layer.weight, x) + np.asarray(layer.bias).reshape((-1,) + (1,) * (x.ndim - 1))


def along_each_axis(weights, x):
    y = 0.0
    for axis, weight in enumerate(weights, 1):
        w = np.asarray(weight[..., 0, :] + 1j * weight[..., 1, :])
        spectrum = np.moveaxis(np.fft.rfft(x, axis=axis), axis, -1)
        kept = min(w.shape[0], spectrum.shape[-1])
        product = np.einsum("kio,i...k->o...k", w[:kept], spectrum[..., :kept])
        y = y + np.moveaxis(np.fft.irfft(product, n=x.shape[axis], axis=-1), -1, axis)
    return y


def independent(model, x, coordinates):
    """The architecture written channels first for one sample with NumPy."""
    v = dense(model.lifting[0], np.concatenate([x, coordinates]))
    for kernel, (inner, outer) in zip(model.kernels, model.mixing, strict=True):
        w = dense(outer, np.maximum(dense(inner, along_each_axis(model.spectral[kernel].weights, v)), 0))
        v = v + w
    return dense(model.projection[0], w)


@pytest.mark.parametrize(("modes", "space"), [((5,), (12,)), ((4, 8), (9, 6)), ((2, 4, 3), (5, 6, 7))])
def test_equals_an_independent_implementation(modes, space):
    with jax.enable_x64(True):
        model = drawn(lambda: build(modes, grid=Grid(space, extent=2.0)))
        x = np.random.default_rng(0).standard_normal((BATCH, IN, *space))
        coordinates = np.stack(np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij"))
        y = eqx.filter_jit(jax.vmap(model))(jnp.asarray(x))
        np.testing.assert_allclose(y, np.stack([independent(model, one, coordinates) for one in x]), atol=1e-12)


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(model))


def test_layers_with_one_kernel_share_its_parameters():
    kernel = (5 + 3) * WIDTH * WIDTH * 2
    own, shared = build((8, 4), kernels=(0, 1, 2, 3)), build((8, 4), kernels=(0,) * 4)
    assert parameters(own) - parameters(shared) == 3 * kernel
    assert parameters(own.spectral) == 4 * kernel


def smooth(space):
    x, y = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in space), indexing="ij")
    return jnp.asarray(np.stack([np.sin(x), np.cos(y + x), np.cos(2 * y)]))


def test_the_linear_network_is_exact_at_other_resolutions():
    with jax.enable_x64(True):
        linear = Pointwise(lifting=0, mixing=2, projection=0, activation=lambda y: 2.0 * y)
        model = eqx.filter_jit(drawn(lambda: build((6, 6), pointwise=linear)))
        coarse, fine = model(smooth((10, 9))), model(smooth((30, 36)))
        np.testing.assert_allclose(fine[:, ::3, ::4], coarse, atol=1e-11)  # band limited, so nothing is aliased


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
        build((4, 4))(jnp.zeros((IN, 8)))
    with pytest.raises(ValueError, match=r"is for 2 axes, the grid has 1.*one number of modes for each axis"):
        build((4, 4), grid=Grid((8,)))
    for kernels in [(), (0, 2), (1,), (-1, 0)]:
        with pytest.raises(ValueError, match=r"numbered from 0 without a gap.*for a shared one"):
            build((4, 4), kernels=kernels)
