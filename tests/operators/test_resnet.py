"""The dilated network against stencils with zeros between their points, and what it sees."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import DilatedConv
from sciml.operators import DilatedResNet

IN, OUT = 2, 3
MODES = {Dirichlet(): "constant", Neumann(): "mirror", Neumann(gap=0.5): "reflect", Periodic(): "wrap"}  # SciPy's names


def correlated(conv, x, boundary):
    weight, dilation = np.asarray(conv.weight), getattr(conv, "dilation", 1)
    wide = np.zeros((*(1 + 2 * dilation,) * (x.ndim - 1), *weight.shape[-2:]))
    wide[(slice(None, None, dilation),) * (x.ndim - 1)] = weight
    channels = [
        [ndimage.correlate(field, wide[..., c, o], mode=MODES[boundary]) for c, field in enumerate(x)]
        for o in range(wide.shape[-1])
    ]
    return np.sum(channels, axis=1) + np.asarray(conv.bias).reshape(-1, *(1,) * (x.ndim - 1))


@pytest.mark.parametrize("boundary", MODES, ids=str)
@pytest.mark.parametrize(("space", "dilation"), [((9,), 4), ((7, 6), 3), ((4, 5, 6), 2)])
def test_dilated_conv_equals_a_stencil_with_zeros(space, dilation, boundary, getkey):
    with jax.enable_x64(True):
        conv = DilatedConv(IN, OUT, dimensions=len(space), dilation=dilation, boundary=boundary, key=getkey())
        x = jax.random.normal(getkey(), (IN, *space))
        # rounding of sums of 54 terms of size 1
        np.testing.assert_allclose(
            eqx.filter_jit(conv)(x), correlated(conv, np.asarray(x), boundary), rtol=0, atol=1e-13
        )


def test_each_side_continues_as_its_own_boundary(getkey):
    sides = ((Neumann(), Dirichlet()), Periodic())
    conv = DilatedConv(IN, OUT, dimensions=2, dilation=2, boundary=sides, key=getkey())
    one = DilatedConv(IN, OUT, dimensions=2, dilation=2, boundary=(Neumann(), Periodic()), key=getkey())
    other = DilatedConv(IN, OUT, dimensions=2, dilation=2, boundary=(Dirichlet(), Periodic()), key=getkey())
    one, other = (eqx.tree_at(lambda c: (c.weight, c.bias), c, (conv.weight, conv.bias)) for c in (one, other))
    x = jax.random.normal(getkey(), (IN, 7, 6))
    y, low, high = (eqx.filter_jit(c)(x) for c in (conv, one, other))
    np.testing.assert_allclose(y[:, :4], low[:, :4], atol=1e-6)
    np.testing.assert_allclose(y[:, 4:], high[:, 4:], atol=1e-6)
    assert np.abs(low - high)[:, [0, 1, -1, -2]].min() > 0  # the boundary matters on both sides


def test_the_network_equals_an_independent_implementation():
    space, boundary = (7, 9), Neumann()
    with jax.enable_x64(True):
        grid = Grid(space, boundary=boundary)
        model = DilatedResNet(IN, OUT, grid=grid, width=4, dilations=((1, 2), (3,)), key=jax.random.key(0))
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        x = np.random.default_rng(0).normal(size=(IN, *space))
        u = correlated(model.encoder, x, boundary)
        for block in model.blocks:
            y = u
            for conv in block:
                y = np.maximum(correlated(conv, y, boundary), 0)
            u = u + y
        y = eqx.filter_jit(model)(jnp.asarray(x))
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, correlated(model.decoder, u, boundary), rtol=0, atol=1e-13)


def test_a_published_block_sees_22_points_in_each_direction():
    """And one more for each of the stencils in front and behind; the activation here has no zero slope."""
    n, dilations = 64, ((1, 2, 4, 8, 4, 2, 1),)
    with jax.enable_x64(True):
        model = DilatedResNet(
            1, 1, grid=Grid((n,)), width=3, dilations=dilations, activation=jax.nn.softplus, key=jax.random.key(0)
        )
        slope = eqx.filter_jit(eqx.filter_grad(lambda x: model(x)[0, n // 2]))(jnp.zeros((1, n)))[0]
    seen = np.nonzero(np.asarray(slope))[0] - n // 2
    assert (seen.min(), seen.max()) == (-24, 24)


def test_axes_that_are_too_short_are_refused(getkey):
    model = lambda boundary: DilatedResNet(
        IN, OUT, grid=Grid((5,), boundary=boundary), width=3, dilations=((8,),), key=getkey()
    )
    with pytest.raises(ValueError, match=r"dilation 8 needs a periodic axis of at least 8 points, got 5. Use smaller"):
        eqx.filter_eval_shape(model(Periodic()), jnp.ones((IN, 5)))
    with pytest.raises(ValueError, match="Mirroring 8 values at a Neumann wall needs at least 9"):
        eqx.filter_eval_shape(model(Neumann()), jnp.ones((IN, 5)))
    free = eqx.filter_eval_shape(model(Dirichlet()), jnp.ones((IN, 5)))
    assert free.shape == (OUT, 5)  # zeros continue as far as one likes
