"""U-Nets against the same networks written channels first for one sample with NumPy and SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import TransposedConv
from sciml.operators import CNO, DilatedResNet, ResidualUNet, UNet

IN, OUT = 2, 3
# (NumPy's name, SciPy's name) of the same continuation
MODES = {Dirichlet(): ("constant", "constant"), Neumann(): ("reflect", "mirror"), Periodic(): ("wrap", "wrap")}
apply = eqx.filter_jit(lambda model, x: jax.vmap(model)(x))


def randomised(make):
    """The model that `make` builds, in double precision and all random, so that gains and shifts matter."""
    rng = np.random.default_rng(0)
    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5)
    return jax.tree.map(lambda leaf: draw(leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, shapes)


def correlated(conv, x, boundary):
    weight, mode = np.asarray(conv.weight), MODES[boundary][1]
    channels = [
        [ndimage.correlate(field, weight[..., c, o], mode=mode) for c, field in enumerate(x)]
        for o in range(weight.shape[-1])
    ]
    y = np.sum(channels, axis=1)
    y = y[(slice(None), *(slice(None, None, conv.stride),) * (x.ndim - 1))]
    return y if conv.bias is None else y + np.asarray(conv.bias).reshape(-1, *(1,) * (x.ndim - 1))


def normalised(norm, x):
    across = (-1, *(1,) * (x.ndim - 1))
    gain, shift = (np.asarray(a).reshape(across) for a in (norm.gain, norm.shift))
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain + shift


def pooled(x):
    for axis in range(1, x.ndim):
        x = np.maximum.reduceat(x, np.arange(0, x.shape[axis], 2), axis)
    return x


def interpolated(x, fine, boundary):
    for axis, n in enumerate(fine, start=1):
        width = [(0, 0)] * x.ndim
        width[axis] = (1, 1)
        padded, centres = np.pad(x, width, mode=MODES[boundary][0]), 2 * np.arange(-1, x.shape[axis] + 1) + 0.5
        x = np.apply_along_axis(lambda line, n=n, centres=centres: np.interp(np.arange(n), centres, line), axis, padded)
    return x


def transposed(conv, x, fine, boundary):
    padded = np.pad(x, [(0, 0)] + [(1, 1)] * len(fine), mode=MODES[boundary][0])
    y = np.zeros((conv.weight.shape[-2], *fine)) + np.asarray(conv.bias).reshape(-1, *(1,) * len(fine))
    for node in np.ndindex(*padded.shape[1:]):
        for at in np.ndindex(*(4,) * len(fine)):
            to = tuple(2 * (i - 1) + a - 1 for i, a in zip(node, at, strict=True))
            if all(0 <= t < n for t, n in zip(to, fine, strict=True)):
                y[(slice(None), *to)] += np.asarray(conv.weight)[at] @ padded[(slice(None), *node)]
    return y


def unet(model, x, boundary):
    def stage(stage, x):
        for conv, norm in zip(stage.convs, stage.norms, strict=True):
            x = np.maximum(normalised(norm, correlated(conv, x, boundary)), 0)
        return x

    fields = [stage(model.encoder[0], x)]
    for part in model.encoder[1:]:
        fields.append(stage(part, pooled(fields[-1])))
    x = fields.pop()
    for part in model.decoder:
        skip = fields.pop()
        x = stage(part, np.concatenate([skip, interpolated(x, skip.shape[1:], boundary)]))
    return correlated(model.head, x, boundary)


@pytest.mark.parametrize(
    ("space", "boundary", "widths"),
    [((7, 10), Dirichlet(), (3, 4, 5, 5)), ((9,), Neumann(), (4, 3, 6)), ((4, 5, 6), Periodic(), (3, 2))],
)
def test_unet_equals_an_independent_implementation(space, boundary, widths):
    with jax.enable_x64(True):
        model = randomised(lambda key: UNet(IN, OUT, grid=Grid(space, boundary=boundary), widths=widths, key=key))
        x = np.random.default_rng(1).normal(size=(2, IN, *space))
        y = apply(model, jnp.asarray(x))
        assert y.dtype == jnp.float64
        expected = np.stack([unet(model, one, boundary) for one in x])
        # sums of up to 90 terms in another order, in 7 to 14 layers
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def residual_unet(model, x, boundary):
    gelu = lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))

    def block(block, x):
        y = x
        for conv, norm in zip(block.convs, block.norms, strict=True):
            y = correlated(conv, gelu(normalised(norm, y)), boundary)
        return y + (x if block.shortcut is None else correlated(block.shortcut, x, boundary))

    results = [correlated(model.lift, x, boundary)]
    for layer in model.down:
        known = hasattr(layer, "stride")
        results.append(correlated(layer, results[-1], boundary) if known else block(layer, results[-1]))
    x = block(model.middle[1], block(model.middle[0], results[-1]))
    for layer in model.up:
        if hasattr(layer, "weight"):
            x = transposed(layer, x, results[-1].shape[1:], boundary)
        else:
            x = block(layer, np.concatenate([x, results.pop()]))
    assert not results  # each result of the way down is a skip connection
    return correlated(model.head, gelu(normalised(model.norm, x)), boundary)


@pytest.mark.parametrize(("space", "boundary"), [((7, 6), Dirichlet()), ((9,), Periodic())])
def test_residual_unet_equals_an_independent_implementation(space, boundary):
    with jax.enable_x64(True):
        grid = Grid(space, boundary=boundary)
        model = randomised(lambda key: ResidualUNet(IN, OUT, grid=grid, widths=(3, 4), blocks=1, key=key))
        x = np.random.default_rng(1).normal(size=(1, IN, *space))
        expected = residual_unet(model, x[0], boundary)
        np.testing.assert_allclose(
            apply(model, jnp.asarray(x))[0], expected, rtol=0, atol=1e-11 * np.abs(expected).max()
        )


def test_the_amplitude_of_the_input_is_invisible_to_the_classic_unet(getkey):
    """What its docstring warns of: stencils without bias, then a normalisation."""
    grid = Grid((16,), boundary=Dirichlet())
    x = jax.random.normal(getkey(), (IN, 16))
    both = jnp.stack([x, 10 * x])
    y = apply(UNet(IN, OUT, grid=grid, widths=(4,), key=getkey()), both)
    # The first variance is about 1/3 (uniform weights), so that its epsilon of 1e-5 changes the result by about 1e-5.
    np.testing.assert_allclose(y[1], y[0], rtol=0, atol=2e-4 * float(jnp.abs(y).max()))
    with_constant = jnp.concatenate([both, jnp.ones((2, 1, 16))], 1)
    z = apply(UNet(IN + 1, OUT, grid=grid, widths=(4,), key=getkey()), with_constant)
    assert jnp.abs(z[1] - z[0]).max() > 0.05 * jnp.abs(z).max()  # a constant channel shows it


GRID = Grid((8, 12))
BATCHED = {
    "unet": lambda key: UNet(IN, OUT, grid=GRID, widths=(4, 6), key=key),
    "residual unet": lambda key: ResidualUNet(IN, OUT, grid=GRID, widths=(4, 6), blocks=1, key=key),
    "dilated resnet": lambda key: DilatedResNet(IN, OUT, grid=GRID, width=4, dilations=((1, 2),), key=key),
    "cno": lambda key: CNO(IN, OUT, grid=GRID, width=4, levels=1, blocks=(1, 1), key=key),
}


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_reaches_one_convolution_per_layer(name, getkey):
    model = eqx.filter_eval_shape(BATCHED[name], getkey())
    arrays, rest = eqx.partition(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    batched = lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x)
    equations = jax.make_jaxpr(batched)(arrays, jax.ShapeDtypeStruct((7, IN, 8, 12), jnp.float32)).eqns
    whole = [e for e in equations if e.primitive.name in ("correlation", "conv_general_dilated", "fold_vmap")]
    kernels = [leaf for leaf in jax.tree.leaves(model) if leaf.ndim == 4 and leaf.shape[:2] == (3, 3)]
    assert len(whole) == (1 if name == "cno" else len(kernels))
    assert all(e.invars[0].aval.shape[0] == 7 for e in whole)


@pytest.mark.parametrize("name", BATCHED)
def test_double_precision_of_the_input_is_kept(name, getkey):
    model = eqx.filter_eval_shape(BATCHED[name], getkey())  # in single precision
    with jax.enable_x64(True):
        y = eqx.filter_eval_shape(lambda model, x: model(x), model, jax.ShapeDtypeStruct((IN, 8, 12), jnp.float64))
    assert (y.shape, y.dtype) == ((OUT, 8, 12), jnp.float64)


def test_errors_name_the_remedy(getkey):
    for make in (UNet, ResidualUNet):
        with pytest.raises(ValueError, match=r"width of at least one level, got none. Use widths="):
            make(IN, OUT, grid=GRID, widths=(), key=getkey())
    model = UNet(IN, OUT, grid=Grid((3,), boundary=Neumann()), widths=(3, 3, 3), key=getkey())
    with pytest.raises(ValueError, match="Use fewer levels or a finer grid"):
        eqx.filter_eval_shape(model, jnp.ones((IN, 3)))
    conv = eqx.filter_eval_shape(lambda key: TransposedConv(IN, OUT, dimensions=1, key=key), getkey())
    with pytest.raises(ValueError, match=r"fine grid \(9,\) has \(5,\) coarse points, got a field on \(4,\). Ask for"):
        conv.channels_last(jnp.ones((1, 4, IN)), (9,))
