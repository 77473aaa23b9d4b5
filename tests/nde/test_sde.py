"""Neural SDEs: moments of known processes, strong order along the same Brownian path, and what each noise means."""

import json

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nde import (
    AdditiveNoise,
    BrownianGrid,
    BrownianTree,
    DiagonalNoise,
    GeneralNoise,
    IndependentIncrements,
    MLPField,
    NeuralSDE,
    Solve,
    moment_matching,
)
from sciml.structure import describe

REVERSE, DIAGONAL = dfx.RecursiveCheckpointAdjoint(), DiagonalNoise()


class Linear(eqx.Module):
    """`(t, y, args) -> rate * y`."""

    rate: jax.Array

    def __call__(self, t, y, args):
        return self.rate * y


class Constant(eqx.Module):
    """A diffusion that cannot see the state."""

    value: jax.Array

    def __call__(self, t, y, args):
        assert y is None
        return self.value


class Columns(eqx.Module):
    """`(t, y, args) -> [a y, b y]`, which commute: y_i(t) = y_i(0) exp(a_i W_1 + b_i W_2)."""

    rates: jax.Array

    def __call__(self, t, y, args):
        return self.rates * y[:, None]


def zero(t, y, args):
    return jnp.zeros_like(y)


def ones(t, y, args):
    return jnp.ones_like(y)


def fixed(solver, dt0, adjoint=REVERSE):
    return Solve(solver, dfx.ConstantStepSize(), adjoint, dt0=dt0)


def sde(drift, diffusion, solve, brownian, noise=DIAGONAL):
    return NeuralSDE(eqx.nn.Identity(), drift, diffusion, eqx.nn.Identity(), solve, brownian, noise)


@eqx.filter_jit
def run(model, start, ts, keys):
    return jax.vmap(lambda key: model(start, ts, key=key))(keys)


def paths(model, start, ts, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(run(model, jnp.asarray(start), jnp.asarray(ts), keys))


def assert_moments(values, mean, variance, errors=4):
    """Within that many standard errors: of the mean, and of the variance by the values' own fourth moment."""
    count = len(values)
    centred = (values - values.mean(0)) ** 2
    assert np.all(np.abs(values.mean(0) - mean) < errors * values.std(0) / np.sqrt(count))
    assert np.all(np.abs(centred.mean(0) - variance) < errors * centred.std(0) / np.sqrt(count))


def test_ornstein_uhlenbeck_moments():
    rate, sigma, start = np.array([1.0, 3.0]), np.array([0.5, 0.8]), np.array([2.0, -1.0])
    model = sde(
        Linear(jnp.asarray(-rate)),
        Constant(jnp.asarray(sigma)),
        fixed(dfx.ShARK(), 0.1, dfx.ForwardMode()),
        IndependentIncrements(),
        AdditiveNoise(DiagonalNoise()),
    )
    ts = np.array([0.0, 0.5, 2.0])
    values = paths(model, start, ts, 4000)[:, 1:]
    decay = np.exp(-rate * ts[1:, None])
    assert_moments(values, start * decay, sigma**2 / (2 * rate) * (1 - decay**2))


@pytest.mark.parametrize(("solver", "correction"), [(dfx.ItoMilstein(), 0.0), (dfx.Heun(), 0.5)])
def test_the_solver_decides_between_ito_and_stratonovich(solver, correction):
    drift, sigma = 0.3, 0.6
    model = sde(
        Linear(jnp.asarray([drift])),
        Linear(jnp.asarray([sigma])),
        fixed(solver, 0.02, dfx.ForwardMode()),
        IndependentIncrements(),
    )
    values = paths(model, [1.0], [0.0, 1.0], 4000)[:, 1]
    mean = np.exp(drift + correction * sigma**2)
    assert_moments(values, mean, mean**2 * (np.exp(sigma**2) - 1))


@pytest.mark.parametrize(
    "brownian", [BrownianTree(2.0**-9, dfx.BrownianIncrement), pytest.param(BrownianGrid(128), marks=pytest.mark.slow)]
)
def test_strong_order_1_along_the_same_path(brownian):
    drift, sigma, count = 0.5, 0.7, 200
    motion = paths(sde(zero, ones, fixed(dfx.Euler(), 0.25), brownian), [0.0], [0.0, 1.0], count)[:, 1]
    exact = np.exp(drift - sigma**2 / 2 + sigma * motion)
    errors = []
    for dt0 in (1 / 16, 1 / 128):
        model = sde(Linear(jnp.asarray([drift])), Linear(jnp.asarray([sigma])), fixed(dfx.ItoMilstein(), dt0), brownian)
        errors.append(np.mean(np.abs(paths(model, [1.0], [0.0, 1.0], count)[:, 1] - exact)))
    assert abs(np.log2(errors[0] / errors[1]) / 3 - 1) < 0.2


ADAPTIVE = dfx.PIDController(rtol=1e-3, atol=1e-3, dtmin=2.0**-10, force_dtmin=True, pcoeff=0.1, icoeff=0.3)


def test_adaptive_steps_follow_the_path():
    rates = np.array([[0.5, -0.3], [0.2, 0.4], [-0.6, 0.1]])
    tree, solve, ts = BrownianTree(2.0**-12), Solve(dfx.SPaRK(), ADAPTIVE, dt0=0.05), [0.0, 1.0]
    motion = paths(sde(zero, ones, fixed(dfx.Euler(), 0.25), tree), np.zeros(2), ts, 8)[:, 1]
    model = sde(zero, Columns(jnp.asarray(rates)), solve, tree, GeneralNoise(2))
    values = paths(model, np.array([1.0, 2.0, -1.0]), ts, 8)[:, 1]
    exact = np.array([1.0, 2.0, -1.0]) * np.exp(motion @ rates.T)
    # Some twenty steps, each within 1e-3 (1 + |y|) of the path through its start.
    assert np.max(np.abs(values - exact) / (1 + np.abs(exact))) < 0.02


def test_the_statistics_of_a_network_and_its_description(getkey):
    size, motions = 3, 2
    model = NeuralSDE(
        eqx.nn.Linear(4, size, key=getkey()),
        MLPField(size, widths=(5,), key=getkey()),
        Constant(jnp.ones((size, motions)) / 2),
        eqx.nn.Linear(size, 2, key=getkey()),
        Solve(dfx.SRA1(), ADAPTIVE, dt0=0.1),
        BrownianTree(1e-3),
        AdditiveNoise(GeneralNoise(motions)),
    )
    ts = jnp.asarray([0.0, 0.5, 0.6, 1.0])
    starts, keys = jax.random.normal(getkey(), (3, 4)), jax.random.split(getkey(), 3)
    one = eqx.filter_jit(lambda model, start, key: model(start, ts, key=key))
    batch = jax.jit(jax.vmap(lambda start, key: one(model, start, key)))(starts, keys)
    assert batch.shape == (3, 4, 2)
    for row, start, key in zip(batch, starts, keys, strict=True):
        np.testing.assert_allclose(row, one(model, start, key), atol=1e-5)  # rounding of float32
    json.dumps(describe(model))


def test_independent_increments_refuse_reverse_mode():
    model = sde(zero, ones, fixed(dfx.Euler(), 0.1), IndependentIncrements())
    with pytest.raises(ValueError, match="UnsafeBrownianPath"):
        model(jnp.ones(1), jnp.asarray([0.0, 1.0]), key=jax.random.key(0))


def test_a_grid_has_the_moments_of_brownian_motion():
    """At its own times, whose increments are independent, and half way between them, where the path is the mean."""
    values = paths(sde(zero, ones, fixed(dfx.Euler(), 0.25), BrownianGrid(4)), [0.0], [0.0, 0.25, 0.375, 1.0], 4000)
    early, between, end = values[:, 1:, 0].T
    assert_moments(np.stack((early, between - early, end - early), axis=1), 0.0, np.array([0.25, 0.25 / 4, 0.75]))
    assert abs(np.mean(early * (end - early))) < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_reverse_mode_through_a_grid():
    """y_1 = y_0 prod(1 + a h + s dW_k) by Euler's method, with the increments of another solve."""
    steps = 5

    def end(rates, key):
        model = sde(Linear(rates[:1]), Linear(rates[1:]), fixed(dfx.Euler(), 1 / steps), BrownianGrid(steps))
        return model(jnp.ones(1), jnp.linspace(0.0, 1.0, steps + 1), key=key)[:, 0]

    key, rates = jax.random.key(3), jnp.asarray([0.4, 0.7])
    motion = sde(zero, ones, fixed(dfx.Euler(), 1 / steps), BrownianGrid(steps))
    jumps = np.diff(motion(jnp.zeros(1), jnp.linspace(0.0, 1.0, steps + 1), key=key)[:, 0])
    value, slopes = jax.jit(jax.value_and_grad(lambda rates: end(rates, key)[-1]))(rates)
    factors = 1 + 0.4 / steps + 0.7 * jumps
    np.testing.assert_allclose(value, np.prod(factors), rtol=1e-5)  # rounding of float32
    expected = np.prod(factors) * np.array([np.sum(1 / factors) / steps, np.sum(jumps / factors)])
    np.testing.assert_allclose(slopes, expected, rtol=1e-4)


def test_a_grid_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="at least 1 interval"):
        BrownianGrid(0)
    model = sde(zero, ones, fixed(dfx.SPaRK(), 0.1), BrownianGrid(10))
    with pytest.raises((TypeError, ValueError), match="SpaceTimeLevyArea"):
        model(jnp.ones(1), jnp.asarray([0.0, 1.0]), key=jax.random.key(0))


def test_moment_matching_by_hand():
    trajectories = jnp.asarray([[[1.0], [2.0]], [[3.0], [2.0]]])  # means 2, 2 and variances 2, 0
    means, variances = jnp.asarray([[1.0], [2.0]]), jnp.asarray([[2.0], [3.0]])
    np.testing.assert_allclose(moment_matching(trajectories, means, variances), 1.0 + 9.0)
    with pytest.raises(ValueError, match="at least two paths"):
        moment_matching(trajectories[:1], means, variances)
