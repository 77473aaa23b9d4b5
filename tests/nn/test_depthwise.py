"""The depthwise convolution against SciPy, and its gradients against those that JAX derives."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import ndimage

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import DepthwiseConv
from sciml.nn._depthwise import depthwise
from sciml.nn._stencils import Stencil

BATCH, CHANNELS = 2, 3
MODES = {Dirichlet(): "constant", Neumann(): "mirror", Neumann(gap=0.5): "reflect", Periodic(): "wrap"}  # SciPy's names
TOLERANCE = {"rtol": 0, "atol": 2e-12}  # rounding of sums of some hundred terms of size 1


@pytest.mark.parametrize("boundary", MODES, ids=str)
@pytest.mark.parametrize(("space", "kernel"), [((9,), (7,)), ((7, 6), (7, 3)), ((4, 5, 6), (3, 5, 7))])
def test_each_channel_is_correlated_with_its_own_kernel(space, kernel, boundary, getkey):
    with jax.enable_x64(True):
        conv = DepthwiseConv(CHANNELS, kernel=kernel, boundary=boundary, key=getkey())
        x = jax.random.normal(getkey(), (CHANNELS, *space))
        weight = np.asarray(conv.weight)
        expected = np.stack(
            [
                ndimage.correlate(np.asarray(field), weight[..., c], mode=MODES[boundary]) + float(conv.bias[c])
                for c, field in enumerate(x)
            ]
        )
        np.testing.assert_allclose(eqx.filter_jit(conv)(x), expected, **TOLERANCE)


def plain(stencil, x, w):
    axes = "DHW"[-len(stencil.kernel) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    one = (1,) * len(axes)
    return lax.conv_general_dilated(x, w[..., None, :], one, stencil.padding, None, None, layout, CHANNELS)


STENCILS = [
    Stencil((5,), (1,), (2,), (9,), (9,)),
    Stencil((7, 3), (1, 1), (3, 0), (8, 8), (8, 6)),
    Stencil((3, 5, 7), (1, 1, 1), (1, 2, 0), (4, 5, 10), (4, 5, 4)),  # 105 points: row by row
]


@pytest.mark.parametrize("stencil", STENCILS, ids=lambda s: str(s.kernel))
def test_values_and_gradients_of_first_and_second_order(stencil, getkey):
    with jax.enable_x64(True):
        draw = lambda *shape: jax.random.normal(getkey(), shape)
        x, dx = draw(BATCH, *stencil.fine, CHANNELS), draw(BATCH, *stencil.fine, CHANNELS)
        w, dw = draw(*stencil.kernel, CHANNELS), draw(*stencil.kernel, CHANNELS)
        y = draw(BATCH, *stencil.coarse, CHANNELS)

        def everything(f):
            gradients = lambda x, w: jax.vjp(f, x, w)[1](y)
            return f(x, w), gradients(x, w), jax.jvp(gradients, (x, w), (dx, dw))[1]

        ours = jax.jit(lambda: everything(lambda x, w: depthwise.forward(x, w, stencil)))()
        theirs = jax.jit(lambda: everything(functools.partial(plain, stencil)))()
        jax.tree.map(functools.partial(np.testing.assert_allclose, **TOLERANCE), ours, theirs)


@pytest.mark.parametrize("stencil", STENCILS[:2], ids=lambda s: str(s.kernel))
def test_other_backends_compute_the_same(stencil, getkey):
    """Their forms, compiled here because nothing else is at hand."""
    from sciml.nn import _depthwise

    with jax.enable_x64(True):
        x = jax.random.normal(getkey(), (BATCH, *stencil.fine, CHANNELS))
        w = jax.random.normal(getkey(), (*stencil.kernel, CHANNELS))
        y = jax.random.normal(getkey(), (BATCH, *stencil.coarse, CHANNELS))
        for name, operands in (("forward", (x, w)), ("input_gradient", (y, w)), ("weight_gradient", (x, y))):
            forms = (getattr(_depthwise, prefix + name) for prefix in ("_", "_cpu_"))
            one, other = (jax.jit(form, static_argnums=2)(*operands, stencil) for form in forms)
            np.testing.assert_allclose(one, other, err_msg=name, **TOLERANCE)


def test_errors_name_the_remedy(getkey):
    with pytest.raises(ValueError, match=r"odd size along each axis, got the kernel \(7, 4\). Use 7"):
        DepthwiseConv(CHANNELS, kernel=(7, 4), key=getkey())
    conv = DepthwiseConv(CHANNELS, kernel=(7,), key=getkey())
    with pytest.raises(ValueError, match=r"kernel of 7 points needs a periodic axis of at least 3 points, got 2. Use"):
        eqx.filter_eval_shape(conv, jnp.ones((CHANNELS, 2)))
    with pytest.raises(ValueError, match="Expected 3 channels on a grid of 1 dimensions, got 4 channels"):
        eqx.filter_eval_shape(conv, jnp.ones((CHANNELS + 1, 9)))
    walls = DepthwiseConv(CHANNELS, kernel=(7,), boundary=Grid((3,), boundary=Neumann()).sides, key=getkey())
    with pytest.raises(ValueError, match="Mirroring 3 values at a Neumann wall needs at least 4"):
        eqx.filter_eval_shape(walls, jnp.ones((CHANNELS, 3)))
