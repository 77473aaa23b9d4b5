"""Operators whose layers are computed again in the backward pass are the same operators, and keep less for it."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import OPERATORS, stirred

from sciml import structure, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import Dense, Rematerialised, apply_layer, bare, partition
from sciml.operators import (
    FNO,
    Conditioned,
    InPrecision,
    MgNO,
    NextFrames,
    Residual,
    Transferred,
    as_channels,
    per_channel,
    rematerialised,
)

BATCH, IN, OUT = 3, 2, 5
GRID = Grid((16, 12), extent=(1.0, 2.0), boundary=((Dirichlet(), Neumann()), Periodic()))
WITHOUT = ("deeponet", "flax", "normalised")  # the last one holds a Flax network
NAMES = [name for name in OPERATORS if name not in (*WITHOUT, "rematerialised")]
QUICK = ("mgno", "fno", "ffno", "unet", "dilated resnet")
some_operators = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)


def make(name):
    return OPERATORS[name].make(IN, OUT, GRID, jax.random.key(0))


def of_batch(trainable, rest, x):
    return jnp.sum(jax.vmap(eqx.combine(trainable, rest))(x) ** 2)


def kept(operator, x):
    """Bytes that a gradient keeps from the forward pass, besides parameters and input."""
    trainable, rest = partition(operator)
    pullback = jax.eval_shape(lambda trainable, x: jax.vjp(lambda t: of_batch(t, rest, x), trainable)[1], trainable, x)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pullback))


@some_operators
def test_value_and_gradients_are_those_of_the_operator(name, getkey):
    plain = make(name)
    again = rematerialised(plain)
    x = jax.random.normal(getkey(), (BATCH, IN, *GRID.shape))
    found = []
    for operator in (plain, again):
        trainable, rest = partition(operator)
        found.append(jax.jit(jax.value_and_grad(lambda t, x, r=rest: of_batch(t, r, x), argnums=(0, 1)))(trainable, x))
    (value, slopes), (expected, others) = found[::-1]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(others))
    for own, other in zip(jax.tree.leaves(slopes), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-5 * scale)  # float32, sums in another order


@some_operators
def test_a_gradient_keeps_less(name):
    plain = stirred(lambda: make(name))
    x = jax.ShapeDtypeStruct((BATCH, IN, *GRID.shape), jnp.float32)
    again = rematerialised(plain)
    assert kept(again, x) < kept(plain, x)
    assert train.parameters(again) == train.parameters(plain)


@pytest.mark.parametrize("make", [
    lambda depth: FNO(1, 1, modes=(6, 6), width=8, depth=depth, key=jax.random.key(0)),
    lambda depth: MgNO(1, 1, grid=Grid((16, 16)), width=8, depth=depth, levels=3, key=jax.random.key(0)),
])  # fmt: skip
def test_each_layer_keeps_one_field(make):
    """What a layer more adds is its input, besides its parameters, of which some are kept in two forms."""
    x = jax.ShapeDtypeStruct((BATCH, 1, 16, 16), jnp.float32)
    two, three = (stirred(lambda depth=depth: rematerialised(make(depth))) for depth in (2, 3))
    weights, field = 4 * (train.parameters(three) - train.parameters(two)), 4 * BATCH * 8 * 16 * 16
    assert field <= kept(three, x) - kept(two, x) <= field + 2 * weights


def test_the_gradients_of_a_layer_are_computed_before_those_in_front_of_it():
    """Barriers hold the gradients of input and parameters together, so that no layer's values live until the end."""
    layer = Rematerialised(Dense(4, 4, key=jax.random.key(0)))
    slopes = jax.make_jaxpr(jax.grad(lambda layer, x: jnp.sum(jnp.tanh(layer(x))), argnums=(0, 1)))(
        layer, jnp.ones((3, 4))
    )
    last = [one for one in slopes.jaxpr.eqns if one.primitive.name == "optimization_barrier"][-1]
    assert sorted(out.aval.shape for out in last.outvars) == [(3, 4), (4,), (4, 4)]
    assert set(slopes.jaxpr.outvars) <= set(last.outvars)


@pytest.mark.parametrize("name", WITHOUT)
def test_an_operator_without_layers_that_repeat_is_refused(name):
    with pytest.raises(ValueError, match=r"Expected an operator with layers that repeat, got .*nn\.Rematerialised"):
        rematerialised(stirred(lambda: make(name)))


def test_operators_inside_of_others_are_found(getkey):
    mgno = lambda into, out, *, grid, key: MgNO(into, out, grid=grid, width=3, depth=2, levels=2, key=key)
    make = lambda: mgno(1, 1, grid=Grid((8, 8)), key=jax.random.key(0))
    layers = lambda operator: [type(layer) for layer in operator.layers]
    assert (
        layers(rematerialised(Residual(InPrecision(stirred(make), jnp.bfloat16))).operator.operator)
        == [Rematerialised] * 2
    )
    frames = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    statistics = per_channel(frames)
    conditioned = Conditioned(
        as_channels(mgno, 1, 1, numbers=0, grid=Grid((8, 8)), key=getkey()), statistics, NextFrames(statistics)
    )
    assert layers(rematerialised(conditioned).operator.operator) == [Rematerialised] * 2


def test_twice_is_once_and_a_description_holds_it():
    plain = stirred(lambda: make("mgno"))
    once = rematerialised(plain)
    assert rematerialised(once) is once
    assert isinstance(bare(once.layers[0]), type(plain.layers[0]))
    found = structure.rebuild(json.loads(json.dumps(structure.describe(once))))
    assert jax.tree.structure(found) == jax.tree.structure(once)


def test_a_transferred_operator_may_be_rematerialised(getkey):
    mgno = MgNO(IN, OUT, grid=Grid((8, 8)), width=3, depth=1, levels=2, key=getkey())
    x = jax.random.normal(getkey(), (IN, 16, 16))
    plain = Transferred(mgno, Grid((16, 16)))
    expected, found = (eqx.filter_jit(one)(x) for one in (plain, rematerialised(plain)))
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_layers_and_groups_of_layers_of_your_own(getkey):
    layers = tuple(Dense(4, 4, key=getkey()) for _ in range(2))
    through = lambda layers, x, power: layers[1](jnp.tanh(layers[0](x)) ** power)
    x = jax.random.normal(getkey(), (7, 4))
    group = Rematerialised(layers)
    value = lambda layers, x: jnp.sum(apply_layer(through, layers, x, 3) ** 2)
    expected, found = (jax.grad(value, argnums=(0, 1))(one, x) for one in (layers, group))
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5)
    np.testing.assert_array_equal(Rematerialised(layers[0])(x), layers[0](x))
