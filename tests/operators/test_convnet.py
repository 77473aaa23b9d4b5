"""The stack of convolutions and the residual networks with activations first and with means, against SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import stirred
from scipy import ndimage

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import FieldNorm
from sciml.operators import ConvNet, GlobalResNet, ModernResNet

IN, OUT = 2, 3
CASES = [((9,), Neumann(), "mirror"), ((7, 6), Periodic(), "wrap"), ((4, 5, 6), Dirichlet(), "constant")]
TOLERANCE = {"rtol": 0, "atol": 1e-11}  # sums of up to 108 terms of size 1 in a few layers


def correlated(conv, x, mode):
    weight = np.asarray(conv.weight)
    fields = [
        [ndimage.correlate(f, weight[..., c, o], mode=mode) for c, f in enumerate(x)] for o in range(weight.shape[-1])
    ]
    return np.sum(fields, axis=1) + np.asarray(conv.bias).reshape(-1, *(1,) * (x.ndim - 1))


def normalised(norm, x):
    gain, shift = (np.asarray(a).reshape(-1, *(1,) * (x.ndim - 1)) for a in (norm.gain, norm.shift))
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain + shift


@pytest.mark.parametrize(("space", "boundary", "mode"), CASES)
def test_convnet_is_a_stack_of_stencils(space, boundary, mode):
    with jax.enable_x64(True):
        grid, key = Grid(space, boundary=boundary), jax.random.key(0)
        model = stirred(lambda: ConvNet(IN, OUT, grid=grid, width=4, depth=2, key=key))
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        x = u = np.random.default_rng(1).normal(size=(IN, *space))
        for layer in model.layers[:-1]:
            u = np.maximum(correlated(layer, u, mode), 0)
        np.testing.assert_allclose(
            eqx.filter_jit(model)(jnp.asarray(x)), correlated(model.layers[-1], u, mode), **TOLERANCE
        )


@pytest.mark.parametrize("norm", [None, FieldNorm])
def test_modern_resnet_equals_an_independent_implementation(norm):
    space, boundary, mode = CASES[0]
    with jax.enable_x64(True):
        grid, key = Grid(space, boundary=boundary), jax.random.key(0)
        make = lambda: ModernResNet(IN, OUT, grid=grid, width=4, blocks=2, norm=norm, activation=jax.nn.relu, key=key)
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), stirred(make))
        x = np.random.default_rng(1).normal(size=(IN, *space))
        u = correlated(model.lift, x, mode)
        for block in model.blocks:
            y = u
            for i, conv in enumerate(block.convs):
                y = correlated(conv, np.maximum(y if norm is None else normalised(block.norms[i], y), 0), mode)
            u = u + y
        np.testing.assert_allclose(eqx.filter_jit(model)(jnp.asarray(x)), correlated(model.head, u, mode), **TOLERANCE)


def pointwise(dense, x):
    """A matrix of the channels, and a constant per channel if there is one."""
    y = np.einsum("io,i...->o...", np.asarray(dense.weight), x)
    return y if dense.bias is None else y + np.asarray(dense.bias).reshape(-1, *(1,) * (x.ndim - 1))


@pytest.mark.parametrize(("space", "boundary", "mode"), CASES)
def test_global_resnet_equals_an_independent_implementation(space, boundary, mode):
    with jax.enable_x64(True):
        grid, key = Grid(space, boundary=boundary), jax.random.key(0)
        options = {"width": 4, "blocks": 2, "kernel": 3, "activation": jax.nn.relu}
        model = stirred(lambda: GlobalResNet(IN, OUT, grid=grid, **options, key=key))
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        x = np.random.default_rng(1).normal(size=(IN, *space))
        u = correlated(model.lift, x, mode)
        for block in model.blocks:
            mean = u.mean(tuple(range(1, u.ndim)), keepdims=True)
            y = correlated(block.stencil, u, mode) + pointwise(block.context, mean)
            u = u + pointwise(block.mixing, np.maximum(y, 0))
        np.testing.assert_allclose(eqx.filter_jit(model)(jnp.asarray(x)), correlated(model.head, u, mode), **TOLERANCE)


def test_global_resnet_sees_all_points_and_its_stencils_see_few(getkey):
    """Without the matrices of the means 4 stencils of 5 points see 8 points in each direction."""
    n = 32
    with jax.enable_x64(True):
        make = lambda key: GlobalResNet(1, 1, grid=Grid((n,)), width=3, blocks=2, kernel=5, key=key)
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), make(getkey()))
        contexts = lambda model: [block.context.weight for block in model.blocks]
        local = eqx.tree_at(contexts, model, [jnp.zeros_like(weight) for weight in contexts(model)])
        slope = eqx.filter_jit(eqx.filter_grad(lambda x, model: model(x)[0, n // 2]))
        x = jax.random.normal(getkey(), (1, n))
        assert np.all(np.asarray(slope(x, model)) != 0)
        seen = np.nonzero(np.asarray(slope(x, local))[0])[0] - n // 2
    assert (seen.min(), seen.max()) == (-8, 8)


def test_the_stack_sees_one_point_more_than_it_has_hidden_layers():
    n, depth = 32, 4
    model = ConvNet(
        1, 1, grid=Grid((n,)), width=3, depth=depth, activation=jax.nn.softplus, key=jax.random.key(0)
    )  # no zero slope
    slope = eqx.filter_jit(eqx.filter_grad(lambda x: model(x)[0, n // 2]))(jnp.zeros((1, n)))[0]
    seen = np.nonzero(np.asarray(slope))[0] - n // 2
    assert (seen.min(), seen.max()) == (-depth - 1, depth + 1)


def test_a_stack_without_hidden_layers_is_one_stencil(getkey):
    model = ConvNet(IN, OUT, grid=Grid((8,)), depth=0, key=getkey())
    assert [layer.weight.shape for layer in model.layers] == [(3, IN, OUT)]
