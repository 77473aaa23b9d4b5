"""The U-Net of ConvNeXt blocks against the same network written channels first for one sample with NumPy and SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import stirred
from scipy import ndimage
from scipy.special import erf

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import ConvNeXtUNet

IN, OUT = 2, 3
MODES = {Dirichlet(): "constant", Neumann(): "mirror", Periodic(): "wrap"}  # SciPy's names


def across(a, x):
    return np.asarray(a).reshape(-1, *(1,) * (x.ndim - 1))


def matrix(dense, x):
    y = np.einsum("io,i...->o...", dense.weight, x)
    return y if dense.bias is None else y + across(dense.bias, y)


def correlated(conv, x, boundary):
    weight = np.asarray(conv.weight)
    fields = [
        [ndimage.correlate(f, weight[..., c, o], mode=MODES[boundary]) for c, f in enumerate(x)]
        for o in range(weight.shape[-1])
    ]
    return np.sum(fields, axis=1) + across(conv.bias, x)


def block(block, x, boundary):
    kernels = np.asarray(block.depthwise.weight)
    y = np.stack([ndimage.correlate(f, kernels[..., c], mode=MODES[boundary]) for c, f in enumerate(x)])
    y = y + across(block.depthwise.bias, y)
    y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-6) * across(block.norm.scale, y) + across(block.norm.shift, y)
    y = matrix(block.expand, y)
    y = matrix(block.contract, 0.5 * y * (1 + erf(y / np.sqrt(2))))
    return x + across(block.scale, y) * y


def unit(norm, x):
    return x / np.sqrt((x**2).mean(0)) * across(norm.scale, x)


def coarsened(norm, conv, x):
    """Even sizes alone."""
    x, y = unit(norm, x), 0
    for at in np.ndindex(*conv.weight.shape[:-2]):
        y = y + np.einsum("io,i...->o...", conv.weight[at], x[(slice(None), *(slice(a, None, 2) for a in at))])
    return y + across(conv.bias, y)


def refined(refinement, x, fine):
    x = unit(refinement.norm, x)
    d, channels = len(fine), refinement.bias.shape[0]
    weight = np.asarray(refinement.points.weight).reshape(x.shape[0], *(2,) * d, channels)
    y = np.zeros((channels, *fine))
    for at in np.ndindex(*(2,) * d):
        part = np.einsum("io,i...->o...", weight[(slice(None), *at)], x)
        y[(slice(None), *(slice(a, None, 2) for a in at))] = part
    return y + across(refinement.bias, y)


def network(model, x, boundary):
    u, entered = correlated(model.lift, x, boundary), []
    for blocks, (norm, conv) in zip(model.down, model.coarsen, strict=True):
        entered.append(u)
        for one in blocks:
            u = block(one, u, boundary)
        u = coarsened(norm, conv, u)
    for one in model.neck:
        u = block(one, u, boundary)
    for level, (blocks, refinement) in enumerate(zip(model.up, model.refine, strict=True)):
        if level:
            u = matrix(model.mix[level - 1], np.concatenate([u, entered[-level]]))
        for one in blocks:
            u = block(one, u, boundary)
        u = refined(refinement, u, tuple(2 * n for n in u.shape[1:]))
    return correlated(model.head, u, boundary)


@pytest.mark.parametrize(("space", "boundary", "widths"), [((16,), Neumann(), (3, 4, 5)), ((6, 8), Periodic(), (4, 3))])
def test_the_network_equals_an_independent_implementation(space, boundary, widths):
    with jax.enable_x64(True):
        grid = Grid(space, boundary=boundary)
        model = stirred(lambda: ConvNeXtUNet(IN, OUT, grid=grid, widths=widths, key=jax.random.key(0)))
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        x = np.random.default_rng(1).normal(size=(IN, *space))
        y, expected = eqx.filter_jit(model)(jnp.asarray(x)), network(model, x, boundary)
        assert y.dtype == jnp.float64
        # sums of up to 50 terms in another order in some 20 layers; epsilon 1e-12 of norms of size 1
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_blocks_begin_close_to_the_identity(getkey):
    grid = Grid((16, 12), boundary=Dirichlet())
    model = ConvNeXtUNet(IN, OUT, grid=grid, widths=(4, 6), blocks=1, key=getkey())
    without = eqx.tree_at(lambda m: (m.down, m.neck, m.up), model, (((),), (), ((),)))
    x = jax.random.normal(getkey(), (IN, *grid.shape))
    one, other = (eqx.filter_jit(m)(x) for m in (model, without))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * float(jnp.abs(other).max()))  # layer scale 1e-6


def test_odd_sizes_and_three_axes(getkey):
    for space, boundary in (((9, 11), Neumann()), ((7, 6, 8), Periodic())):
        grid = Grid(space, boundary=boundary)
        model = eqx.filter_eval_shape(
            lambda key, grid=grid: ConvNeXtUNet(IN, OUT, grid=grid, widths=(4, 6), blocks=1, key=key), getkey()
        )
        assert eqx.filter_eval_shape(model, jnp.ones((IN, *space))).shape == (OUT, *space)


def test_errors_name_the_remedy(getkey):
    with pytest.raises(ValueError, match=r"widths of at least 2 levels, got \(8,\). Use widths=\(42, 84\)"):
        ConvNeXtUNet(IN, OUT, grid=Grid((16,)), widths=(8,), key=getkey())
    model = ConvNeXtUNet(IN, OUT, grid=Grid((4,)), widths=(3, 3), blocks=1, key=getkey())
    with pytest.raises(ValueError, match=r"at least 3 points, got 2. Use fewer levels or a finer grid"):
        eqx.filter_eval_shape(model, jnp.ones((IN, 4)))
