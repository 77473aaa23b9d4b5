"""Neural CDEs: linear fields against matrix exponentials, and what a series with gaps must not change."""

import json

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from sciml.nde import (
    LogSignatureControl,
    MatrixField,
    NeuralCDE,
    Solve,
    hermite_control,
    linear_control,
    natural_cubic_control,
    observation_counts,
    rectilinear_control,
)
from sciml.structure import describe

HIDDEN, CHANNELS = 3, 2
LOOSE = Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=0.25, max_steps=64)
TIGHT = Solve(dfx.Tsit5(), dfx.PIDController(rtol=1e-9, atol=1e-11))
TIMES = np.array([0.0, 0.4, 0.5, 1.1, 1.7, 2.0])
EMPTY = [([1, 4], [0.1, 1.2]), ([3, 5], [0.6, 1.9])]


class Linear(eqx.Module):
    """The field z -> [A_0 z, A_1 z, ...] of matrices (channels, hidden, hidden)."""

    matrices: jax.Array

    def __call__(self, t, z, args):
        return jnp.einsum("chk,k->hc", self.matrices, z)


class Start(eqx.Module):
    value: jax.Array

    def __call__(self, row):
        return self.value


def linear_model(matrices, interpolation, solve=TIGHT):
    return NeuralCDE(
        Start(jnp.arange(1.0, HIDDEN + 1)), Linear(jnp.asarray(matrices)), eqx.nn.Identity(), interpolation, None, solve
    )


def exponentials(matrices, ts, xs):
    """States behind each row for the path of straight lines."""
    z, states = np.arange(1.0, HIDDEN + 1), []
    for step in np.diff(np.concatenate([ts[:, None], xs], axis=1), axis=0):
        z = expm(np.einsum("chk,c->hk", matrices, step)) @ z
        states.append(z)
    return states


def series(seed=0, times=TIMES):
    return np.random.default_rng(seed).normal(size=(len(times), CHANNELS))


def network(interpolation=linear_control, solve=LOOSE, features=None, channels=CHANNELS):
    keys = jax.random.split(jax.random.key(0), 3)
    return NeuralCDE(
        eqx.nn.Linear(channels + 1, HIDDEN, key=keys[0]),
        MatrixField(HIDDEN, channels + 1, width=7, depth=1, key=keys[1]),
        eqx.nn.Linear(HIDDEN, 4, key=keys[2]),
        interpolation,
        features,
        solve,
    )


def test_a_linear_field_against_the_product_of_exponentials():
    matrices = np.random.default_rng(1).normal(size=(CHANNELS + 1, HIDDEN, HIDDEN)) / 2
    xs = series()
    with jax.enable_x64(True):
        model = linear_model(matrices, linear_control)
        got = eqx.filter_jit(model.trajectory)(jnp.asarray(TIMES), jnp.asarray(xs))
    np.testing.assert_allclose(
        got[1:], exponentials(matrices, TIMES, xs), rtol=1e-7
    )  # 100 times the solver's tolerance


@pytest.mark.parametrize(
    "interpolation", [hermite_control, natural_cubic_control, rectilinear_control, LogSignatureControl(1, 2)]
)
def test_commuting_matrices_see_the_ends_of_the_path_alone(interpolation):
    matrix = np.random.default_rng(2).normal(size=(HIDDEN, HIDDEN)) / 2
    factors, xs = np.array([1.0, -0.5, 0.8]), series()
    total = factors @ np.array([TIMES[-1] - TIMES[0], *(xs[-1] - xs[0])])
    with jax.enable_x64(True):
        model = linear_model(factors[:, None, None] * matrix, interpolation)
        got = eqx.filter_jit(model)(jnp.asarray(TIMES), jnp.asarray(xs))
    np.testing.assert_allclose(got, expm(total * matrix) @ np.arange(1.0, HIDDEN + 1), rtol=1e-7)


def test_constant_steps_that_meet_the_corners_keep_their_order():
    # Slopes taken at the ends of steps would mix two pieces of the path and leave order 1.
    matrices = np.random.default_rng(3).normal(size=(CHANNELS + 1, HIDDEN, HIDDEN)) / 2
    ts, xs = np.array([0.0, 0.5, 1.0, 2.0]), series(1, range(4))
    errors = []
    with jax.enable_x64(True):
        for dt0 in (1 / 32, 1 / 64):
            model = linear_model(matrices, linear_control, Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=dt0))
            got = eqx.filter_jit(model)(jnp.asarray(ts), jnp.asarray(xs))
            errors.append(np.linalg.norm(got - exponentials(matrices, ts, xs)[-1]))
    assert 1.8 < np.log2(errors[0] / errors[1]) < 2.3


def test_rows_without_observations_change_nothing():
    xs = series()
    xs[2, 0] = np.nan
    # The same number of rows, at other times.
    more = [(np.insert(TIMES, where, times), np.insert(xs, where, np.nan, axis=0)) for where, times in EMPTY]
    with jax.enable_x64(True):
        run = eqx.filter_jit(network(solve=TIGHT))
        first, second = (run(jnp.asarray(ts), jnp.asarray(xs)) for ts, xs in more)
    np.testing.assert_allclose(first, second, atol=1e-7)  # 100 times the solver's tolerance


def test_a_rectilinear_model_knows_nothing_of_later_values():
    xs = series()
    later = xs.copy()
    later[4:] += 1
    with jax.enable_x64(True):
        model = network(rectilinear_control)
        run = eqx.filter_jit(model.trajectory)
        before, after = (run(jnp.asarray(TIMES), jnp.asarray(x)) for x in (xs, later))
    assert before.shape == (6, 4)
    np.testing.assert_allclose(after[:4], before[:4], rtol=1e-12)
    assert np.min(np.max(np.abs(after[4:] - before[4:]), axis=1)) > 1e-3


def test_gradients_reach_all_weights_through_gaps():
    xs = series()
    xs[1:3, 0] = np.nan
    model = network(natural_cubic_control)
    loss = lambda model: jnp.sum(model(jnp.asarray(TIMES, jnp.float32), jnp.asarray(xs, jnp.float32)) ** 2)
    for leaf in jax.tree.leaves(eqx.filter_jit(eqx.filter_grad(loss))(model)):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0)


def test_a_batch_is_its_samples_and_counts_are_channels():
    model = network(features=observation_counts, channels=2 * CHANNELS)
    xs = np.stack([series(seed) for seed in range(3)]).astype(np.float32)
    xs[0, 2, 1] = np.nan
    ts = jnp.asarray(TIMES, jnp.float32)
    states = eqx.filter_jit(lambda xs: jax.vmap(lambda x: model.solution(ts, x)[0])(xs))(xs)
    last = eqx.filter_jit(lambda x: model(ts, x))
    # rounding of float32
    np.testing.assert_allclose(jax.vmap(model.readout)(states[:, -1]), [last(x) for x in xs], atol=1e-5)


def test_counts_by_hand():
    xs = jnp.asarray([[1.0, jnp.nan], [jnp.nan, jnp.nan], [2.0, 0.0]])
    np.testing.assert_array_equal(observation_counts(xs), [[1, 0], [1, 0], [2, 1]])


def test_a_model_describes_itself():
    json.dumps(describe(network(LogSignatureControl(2, 3), features=observation_counts)))
