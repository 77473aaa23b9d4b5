"""Muon: its matrices move as optax's do, all else by Adam; layers of all kinds, stacked layers, accumulation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close

from sciml import nn, train
from sciml.grid import Grid, Periodic
from sciml.nn import partition
from sciml.operators import FNO
from sciml.train._muon import newton_schulz

GRID = Grid((16, 16), boundary=Periodic())


def drawn(like, seed):
    """Arrays of the same shapes with random numbers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), like)


def updates(optimiser, params, count=3):
    """The updates of so many steps."""
    state, found, update = optimiser.init(params), [], jax.jit(optimiser.update)
    for seed in range(count):
        one, state = update(drawn(params, seed), state, params)
        found.append(one)
    return found


class Layers(eqx.Module):
    """Some layers of each kind; the dense ones are as optax expects matrices."""

    wide: nn.Dense
    tall: nn.Dense
    narrow: nn.Dense
    stencil: nn.Conv
    dilated: nn.DilatedConv
    up: nn.Prolongation
    back: nn.TransposedConv
    spectral: nn.SpectralConv
    axial: nn.AxialSpectralConv
    factors: nn.TuckerSpectralConv
    norm: nn.LayerNorm
    fixed: nn.Frozen
    stacked: nn.Dense


def layers():
    a, b, c, d, e, f, g, h = jax.random.split(jax.random.key(0), 8)
    return Layers(
        wide=nn.Dense(5, 12, key=a),
        tall=nn.Dense(12, 5, key=b),
        narrow=nn.Dense(12, 3, key=c),
        stencil=nn.Conv(6, 4, kernel=(3, 3), key=d),
        up=nn.Prolongation(4, 6, fine=(8, 8), boundary=Periodic(), key=e),
        spectral=nn.SpectralConv(6, 4, (4, 4), key=f),
        axial=nn.AxialSpectralConv(6, 4, (4, 4), key=g),
        dilated=nn.DilatedConv(6, 4, dilation=2, dimensions=2, key=d),
        back=nn.TransposedConv(4, 6, dimensions=2, key=e),
        factors=nn.TuckerSpectralConv(6, 4, (8, 8), rank=(5, 5, 4, 3), key=f),
        norm=nn.LayerNorm(8),
        fixed=nn.Frozen(jnp.ones((8, 8))),
        stacked=jax.vmap(lambda key: nn.Dense(5, 12, key=key))(jax.random.split(h, 3)),
    )


def is_axes(leaf):
    return isinstance(leaf, optax.contrib.MuonDimensionNumbers)


def as_optax(params):
    """The matrices of `Layers` in optax's words."""
    of = optax.contrib.MuonDimensionNumbers
    known = {
        ".wide.weight": of((0,), (1,)),
        ".tall.weight": of((0,), (1,)),
        ".stencil.weight": of((0, 1, 2), (3,)),
        ".up.weight": of((0, 1, 2), (3,)),
        ".dilated.weight": of((0, 1, 2), (3,)),
        ".back.weight": of((0, 1, 2), (3,)),
        **{f".factors.factors[{i}]": of((1,), (0, 2)) for i in range(4)},
        ".spectral.weight": of((2,), (3, 4)),
        ".axial.weights[0]": of((1,), (2, 3)),
        ".axial.weights[1]": of((1,), (2, 3)),
        ".stacked.weight": of((1,), (2,)),
    }
    return jax.tree_util.tree_map_with_path(lambda path, leaf: known.get(jax.tree_util.keystr(path)), params)


MATRICES = jax.tree.map(
    lambda axes: axes is not None, as_optax(partition(layers())[0]), is_leaf=lambda axes: axes is None or is_axes(axes)
)


def test_matrices_move_as_in_optax_and_the_rest_by_adam():
    params = partition(layers())[0]
    muon = optax.contrib.muon(-1.0, consistent_rms=0.2, muon_weight_dimension_numbers=as_optax)
    ours, theirs = (updates(optimiser, params, 1)[0] for optimiser in (train.scale_by_muon(iterations=5), muon))
    assert_trees_close(eqx.filter(ours, MATRICES), eqx.filter(theirs, MATRICES), rtol=2e-4, atol=2e-5)
    ours, adam = (updates(optimiser, params)[2] for optimiser in (train.scale_by_muon(), optax.scale_by_adam(b2=0.98)))
    assert_trees_close(eqx.filter(ours, MATRICES, inverse=True), eqx.filter(adam, MATRICES, inverse=True))


def test_later_momentum_is_a_sum_that_looks_ahead():
    params = partition(nn.Dense(5, 7, bias=False, key=jax.random.key(0)))[0]
    first, second = (drawn(params, seed).weight for seed in range(2))
    found = updates(train.scale_by_muon(momentum=0.9), params, 2)[1].weight
    expected = newton_schulz((second + 0.9 * (second + 0.9 * first))[None], 4)[0]
    np.testing.assert_allclose(found, 0.2 * 7**0.5 * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 16), (2, 4, 40)])
def test_singular_values_come_near_one(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = np.linalg.svd(np.asarray(newton_schulz(jnp.asarray(x), 5)), compute_uv=False)
    assert 0.6 < values.min() <= values.max() < 1.3


def test_newton_schulz_is_the_polynomial_of_the_matrix():
    x = np.random.default_rng(0).normal(size=(2, 6, 9))
    x *= np.logspace(0, -3, 6)[:, None]
    expected = x / np.linalg.norm(x, axis=(1, 2), keepdims=True)
    for _ in range(5):
        gram = expected @ expected.mT
        expected = 3.4445 * expected - 4.7750 * gram @ expected + 2.0315 * gram @ gram @ expected
    np.testing.assert_allclose(newton_schulz(jnp.asarray(x, jnp.float32), 5), expected, atol=1e-5)


def test_a_gradient_of_zeros_moves_nothing():
    params = partition(layers())[0]
    optimiser = train.scale_by_muon()
    found, _ = jax.jit(optimiser.update)(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(found))


def test_the_rate_rises_and_falls_along_lines():
    params = {"bias": jnp.zeros(3)}
    optimiser = train.muon(1.0, steps=10, warmup=0.2, weight_decay=0.0, clip=1e9)
    state, sizes = optimiser.init(params), []
    for _ in range(10):
        update, state = optimiser.update({"bias": jnp.ones(3)}, state, params)
        sizes.append(-float(update["bias"][0]))
    np.testing.assert_allclose(sizes, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125], atol=1e-4)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match=r"between 0 and 1 for the warmup, got 1\.5"):
        train.muon(1e-3, steps=10, warmup=1.5)
    optimiser = train.scale_by_muon()
    params = {"a": jnp.ones(3)}
    with pytest.raises(ValueError, match="pass them to `update`"):
        optimiser.update(params, optimiser.init(params))


def loss(model, batch, keys):
    x, y = batch
    return jnp.mean((jax.vmap(model)(x) - y) ** 2), {}


def trained(optimiser, batches):
    state = train.init(FNO(1, 1, modes=(4, 4), width=8, depth=1, key=jax.random.key(0)), optimiser)
    step = train.make_step(loss, optimiser)
    for one in batches:
        state, _ = step(state, None, jax.tree.map(lambda leaf: leaf[None], one))
    return state


def some_batches(count, size=4):
    rng = np.random.default_rng(0)
    draw = lambda: rng.normal(size=(size, 1, *GRID.shape)).astype(np.float32)
    return [(draw(), draw()) for _ in range(count)]


def test_accumulated_halves_are_the_whole_batch():
    optimiser = lambda: train.muon(1e-2, steps=4)
    whole = some_batches(2)
    halves = [
        jax.tree.map(lambda leaf, half=half: leaf[half], one) for one in whole for half in (slice(2), slice(2, 4))
    ]
    a = trained(optimiser(), whole)
    b = trained(optax.MultiSteps(optimiser(), 2), halves)
    # The mean of halves rounds differently, and the iterations stretch small singular values up to 3.4445^4 times.
    assert_trees_close(partition(a.model)[0], partition(b.model)[0], rtol=1e-3, atol=1e-5)
