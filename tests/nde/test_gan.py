"""SDE-GANs: Lipschitz bounds that hold after clipping, and the gap that both players are trained on."""

import json

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nde import (
    AdditiveNoise,
    BrownianTree,
    CDEDiscriminator,
    GeneralNoise,
    Generator,
    MLPField,
    NeuralSDE,
    Solve,
    clip_lipschitz,
    lipswish,
    wasserstein_gap,
)
from sciml.nn import MLP
from sciml.structure import describe

CHANNELS, HIDDEN = 2, 5
TIMES = jnp.asarray([0.0, 0.5, 1.0])
EULER = Solve(dfx.Euler(), dfx.ConstantStepSize(), dt0=0.5, max_steps=4)


class Amplitudes(eqx.Module):
    values: jax.Array

    def __call__(self, t, y, args):
        return self.values


def critic(key):
    return CDEDiscriminator(CHANNELS, hidden=HIDDEN, width=7, depth=1, solve=EULER, key=key)


def generator(key):
    keys = jax.random.split(key, 4)
    model = NeuralSDE(
        eqx.nn.Linear(4, 3, key=keys[0]),
        MLPField(3, widths=(6,), activation=lipswish, key=keys[1]),
        Amplitudes(jax.random.normal(keys[2], (3, 2))),
        eqx.nn.Linear(3, CHANNELS, key=keys[3]),
        EULER,
        BrownianTree(2.0**-4),
        AdditiveNoise(GeneralNoise(2)),
    )
    return Generator(model, 4)


def test_lipswish_has_slopes_below_1():
    slopes = jax.vmap(jax.grad(lipswish))(jnp.linspace(-20.0, 20.0, 4001))
    assert -0.1 < slopes.min() < -0.09
    assert 0.99 < slopes.max() < 1


def largest_slope(function, size):
    """Largest Lipschitz constant in the maximum norm at many points: the largest absolute row sum of the Jacobian."""
    points = 3 * jax.random.normal(jax.random.key(1), (50, size))
    jacobians = jax.jit(jax.vmap(jax.jacfwd(lambda z: function(z).reshape(-1))))(points)
    return float(jnp.max(jnp.sum(jnp.abs(jacobians), axis=-1)))


def test_clipped_critics_have_lipschitz_constants_below_1(getkey):
    steep = jax.tree.map(lambda leaf: 5 * leaf if eqx.is_array(leaf) else leaf, critic(getkey()))
    clipped = clip_lipschitz(steep)
    for model, bounded in ((steep, False), (clipped, True)):
        slopes = [
            largest_slope(lambda z, field=model.cde.field: field(0.0, z, None), HIDDEN),
            largest_slope(model.cde.initial, CHANNELS + 1),
        ]
        assert [slope <= 1 + 1e-5 for slope in slopes] == [bounded] * 2
    for layer in clipped.cde.field.network.layers:
        bound = 1 / layer.weight.shape[1]
        np.testing.assert_allclose(np.max(np.abs(layer.weight)), bound, rtol=1e-6)
    np.testing.assert_array_equal(clipped.cde.initial.layers[0].bias, steep.cde.initial.layers[0].bias)


def test_dense_layers_are_clipped_by_their_number_of_inputs(getkey):
    network = jax.tree.map(lambda leaf: 10 * leaf, MLP((3, 8, 2), key=getkey()))
    for layer, inputs in zip(clip_lipschitz(network).layers, (3, 8), strict=True):
        np.testing.assert_allclose(np.max(np.abs(layer.weight)), 1 / inputs, rtol=1e-6)


def test_the_gap_is_the_difference_of_the_means(getkey):
    ys = np.random.default_rng(0).normal(size=(6, 3, CHANNELS)).astype(np.float32)
    flat = lambda ts, key: jnp.full((3, CHANNELS), jax.random.uniform(key))
    end = lambda ts, path: path[-1, 1]
    key = getkey()
    fakes = [jax.random.uniform(k) for k in jax.random.split(key, 6)]
    expected = np.mean(ys[:, -1, 1]) - np.mean(fakes)
    np.testing.assert_allclose(wasserstein_gap(flat, end, TIMES, jnp.asarray(ys), key=key), expected, rtol=1e-5)


def test_a_path_is_judged_by_its_trace_and_not_by_its_rows(getkey):
    solve = Solve(dfx.Tsit5(), dfx.PIDController(rtol=1e-6, atol=1e-6))
    model = CDEDiscriminator(CHANNELS, hidden=HIDDEN, solve=solve, key=getkey())
    ys = jnp.asarray([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]])
    judge = eqx.filter_jit(model)
    # A fourth row on the first or on the second segment.
    first = judge(jnp.insert(TIMES, 1, 0.2), jnp.insert(ys, 1, 0.6 * ys[0] + 0.4 * ys[1], axis=0))
    times, path = jnp.insert(TIMES, 2, 0.75), jnp.insert(ys, 2, 0.5 * ys[1] + 0.5 * ys[2], axis=0)
    np.testing.assert_allclose(judge(times, path), first, rtol=1e-4)  # 100 times the solver's tolerance
    assert abs(judge(times, path[::-1]) - first) > 1e-3


@pytest.mark.slow  # compiles a gradient through both players
def test_both_players_have_gradients_and_learn(getkey):
    players = (generator(getkey()), clip_lipschitz(critic(getkey())))
    ys = jnp.cumsum(jax.random.normal(getkey(), (8, 3, CHANNELS)), axis=1)
    key = getkey()

    @eqx.filter_jit
    def step(players):
        gap, gradients = eqx.filter_value_and_grad(lambda both: wasserstein_gap(*both, TIMES, ys, key=key))(players)
        return gap, gradients

    before, (down, up) = step(players)
    for leaf in jax.tree.leaves((down, up)):
        assert np.all(np.isfinite(leaf))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(up))
    move = lambda model, gradient, rate: eqx.apply_updates(model, jax.tree.map(lambda g: rate * g, gradient))
    assert step((players[0], move(players[1], up, 1e-2)))[0] > before
    assert step((move(players[0], down, -1e-2), players[1]))[0] < before
    json.dumps(describe(players[0]))
    json.dumps(describe(players[1]))
