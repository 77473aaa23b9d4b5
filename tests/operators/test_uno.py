import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn
from scipy.special import erf

from sciml.grid import Grid
from sciml.nn import InstanceNorm
from sciml.operators import UNO, Pointwise, Stage

BATCH, IN, OUT, WIDTH = 2, 3, 4, 6


def stages(dimensions, *scales, norm=None):
    """Five stages of unequal widths; the second and fourth have a norm."""
    scales = [(scale,) * dimensions for scale in scales]
    widths, modes, norms = (7, 10, 9, 8, 5), (7, 4, 3, 4, 6), (None, norm, None, norm, None)
    return tuple(
        Stage(width, (m,) * dimensions, scale, norm)
        for width, m, scale, norm in zip(widths, modes, scales, norms, strict=True)
    )


U = (0.75, 0.4, 0.4, 0.75, 1)


def build(stages, **options):
    return UNO(IN, OUT, width=WIDTH, stages=stages, key=jax.random.key(0), **options)


def gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def dense(layer, x):
    y = np.einsum("io,i...->o...", layer.weight, x)
    return y if layer.bias is None else y + np.asarray(layer.bias).reshape((-1,) + (1,) * (x.ndim - 1))


def network(layers, x):
    for layer in layers[:-1]:
        x = gelu(dense(layer, x))
    return dense(layers[-1], x)


def between_grids(x, space, multiply):
    """The full transform, `multiply(k, coefficient)` of the frequencies that both grids resolve, and the series."""
    spectrum = np.fft.fftn(x, axes=range(1, x.ndim), norm="forward")
    y = 0.0
    points = np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij")
    ranges = []
    for n, size in zip(x.shape[1:], space, strict=True):
        top = (min(n, size) - 1) // 2
        ranges.append(range(-(n // 2), (n - 1) // 2 + 1) if n == size else range(-top, top + 1))
    for index in np.ndindex(*map(len, ranges)):
        k = tuple(r[i] for r, i in zip(ranges, index, strict=True))
        wave = np.exp(2j * np.pi * sum(f * p for f, p in zip(k, points, strict=True)))
        y = y + np.multiply.outer(multiply(k, spectrum[(slice(None), *k)]), wave).real
    return y


def multiplier(layer):
    """A real field's coefficients at k and -k are conjugate: each stored one stands for both."""
    weight = np.asarray(layer.weight[..., 0, :] + 1j * layer.weight[..., 1, :])

    def multiply(k, coefficient):
        own = (*(f + m // 2 for f, m in zip(k[:-1], layer.modes[:-1], strict=True)), k[-1])
        kept = all(0 <= i < n for i, n in zip(own, weight.shape, strict=False))
        twice = 1.0 if k[-1] == 0 else 2.0
        return twice * weight[own].T @ coefficient if kept else np.zeros(weight.shape[-1], complex)

    return multiply


def block(layer, x, space):
    y = between_grids(x, space, multiplier(layer.spectral))
    y = y + np.asarray(layer.spectral.bias).reshape((-1,) + (1,) * (x.ndim - 1))
    y = y + between_grids(dense(layer.skip, x), space, lambda k, coefficient: coefficient)
    if layer.norm is not None:
        axes = tuple(range(1, y.ndim))
        gain, shift = (np.asarray(a).reshape((-1,) + (1,) * len(axes)) for a in (layer.norm.gain, layer.norm.shift))
        y = gain * (y - y.mean(axes, keepdims=True)) / np.sqrt(y.var(axes, keepdims=True) + 1e-5) + shift
    return gelu(y)


def independent(model, x, coordinates, sizes):
    """The five stages written out, channels first, for one sample with NumPy."""
    lifted = gelu(network(model.lifting, np.concatenate([x, coordinates])))
    first = block(model.blocks[0], lifted, sizes[0])
    second = block(model.blocks[1], first, sizes[1])
    third = block(model.blocks[2], second, sizes[1])
    fourth = np.concatenate([block(model.blocks[3], third, sizes[0]), first])
    fifth = np.concatenate([block(model.blocks[4], fourth, x.shape[1:]), lifted])
    return network(model.projection, fifth)


CASES = [((13,), [(10,), (5,)]), ((9, 11), [(7, 8), (4, 4)])]  # three quarters and two fifths, rounded


@pytest.mark.parametrize(("space", "sizes"), CASES)
def test_equals_an_independent_implementation(space, sizes):
    with jax.enable_x64(True):
        model = drawn(lambda: build(stages(len(space), *U, norm=InstanceNorm), grid=Grid(space, extent=2.0)))
        x = np.random.default_rng(0).standard_normal((BATCH, IN, *space))
        coordinates = np.stack(np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij"))
        y = eqx.filter_jit(jax.vmap(model))(jnp.asarray(x))
        expected = np.stack([independent(model, one, coordinates, sizes) for one in x])
        np.testing.assert_allclose(y, expected, atol=1e-11)  # the norm divides rounding by small deviations


def smooth(space):
    x, y = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in space), indexing="ij")
    return jnp.asarray(np.stack([np.sin(x), np.cos(y + x), np.cos(2 * y)]))


def test_the_linear_network_is_exact_at_other_resolutions():
    with jax.enable_x64(True):
        linear = Pointwise(lifting=0.5, mixing=0, projection=1, activation=lambda y: 2.0 * y)
        model = eqx.filter_jit(drawn(lambda: build(stages(2, 0.5, 0.5, 0.5, 0.5, 1), pointwise=linear)))
        coarse, fine = model(smooth((12, 14))), model(smooth((36, 28)))
        scale = float(jnp.abs(coarse).max())
        np.testing.assert_allclose(fine[:, ::3, ::2], coarse, atol=1e-12 * scale)  # nothing is aliased


def test_three_dimensions_and_an_axis_that_keeps_its_size():
    half, whole = (0.5, 0.5, 1), (1, 1, 1)
    three = (Stage(7, (3, 2, 4), half), Stage(5, (2, 2, 2), half), Stage(8, (3, 2, 4), whole))
    model = build(three)
    x = jax.random.normal(jax.random.key(1), (IN, 6, 7, 5))
    y = eqx.filter_jit(model)(x)
    assert y.shape == (OUT, 6, 7, 5)
    moved = eqx.filter_jit(model)(jnp.roll(x, 1, 3))  # the axis that keeps its size commutes with every shift
    np.testing.assert_allclose(moved, jnp.roll(y, 1, 3), atol=1e-5 * float(jnp.abs(y).max()))


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
        build(stages(2, *U))(jnp.zeros((IN, 8)))
    with pytest.raises(ValueError, match=r"is for 2 axes, the grid has 1.*one number of modes for each axis"):
        build(stages(2, *U), grid=Grid((8,)))
    for wrong in [(), stages(2, *U)[:1], stages(2, *U)[:4]]:
        with pytest.raises(ValueError, match=r"odd number of stages, at least 3.*as many that expand as contract"):
            build(wrong)
    with pytest.raises(ValueError, match=r"Stage 4 has scale=\(0.5, 0.5\), expected that of stage 1.*the same scale"):
        build(stages(2, 0.75, 0.4, 0.4, 0.5, 1))
    with pytest.raises(ValueError, match=r"Stage 5 has scale=\(0.75, 0.75\), expected that of stage 0"):
        build(stages(2, 0.75, 0.4, 0.4, 0.75, 0.75))
    for wrong in [stages(1, *U)[0], Stage(4, (2, 2), (0.5, 0)), Stage(4, (2, 2), (0.5,))]:
        with pytest.raises(ValueError, match=r"Stage 2 has modes=.*expected 2 positive numbers.*one for each axis"):
            build((stages(2, *U)[0], wrong, *stages(2, *U)[2:]))
    with pytest.raises(ValueError, match=r"no mixing networks, got mixing=0.5.*Leave them out"):
        build(stages(2, *U), pointwise=Pointwise())
