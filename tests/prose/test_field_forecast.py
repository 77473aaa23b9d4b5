"""Operators in the place of PROSE, the loss in the scale of the given frames, and errors frame by frame."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import operators, prose, structure
from sciml.prose._model.field_forecast import frame_errors
from sciml.prose._model.losses import applied

INPUTS, LATER, CHANNELS, NX, NY = 3, 2, 4, 6, 10
PRESENT = np.array([True, True, False, False])


class Mixed(eqx.Module):
    """Another frame for each later one, not linear in the given ones."""

    weight: jax.Array

    def __call__(self, x):
        frames = x.reshape(INPUTS, CHANNELS, NX, NY)
        return jnp.tanh(jnp.einsum("li,icxy->lcxy", self.weight, frames)).reshape(-1, NX, NY)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(INPUTS + LATER, CHANNELS, NX, NY)).astype(np.float32)
    states = 3 + states * np.array([0.5, 4.0, 0, 0]).reshape(1, -1, 1, 1)
    states = (states * PRESENT.reshape(1, -1, 1, 1)).astype(np.float32)
    none = np.zeros(0, np.int32)
    times = np.arange(INPUTS + LATER, dtype=np.float32)
    number = np.int32(0)
    return prose.Sample(times, states, PRESENT, none, none > 0, none, none > 0, number, number, number)


@pytest.fixture
def model():
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(LATER, INPUTS)), jnp.float32)
    return prose.FieldForecast(Mixed(weight), prose.PerTrajectory(1e-8))


def scaled(states):
    mean = states[:INPUTS].mean(axis=(0, 2, 3), keepdims=True)
    deviation = states[:INPUTS].std(axis=(0, 2, 3), keepdims=True, ddof=1) + 1e-8
    return (states - mean) / deviation, mean, deviation


def expected(model, states):
    x, mean, deviation = scaled(states.astype(np.float64))
    return np.tanh(np.einsum("li,icxy->lcxy", model.operator.weight, x[:INPUTS])) * deviation + mean


def test_an_operator_acts_on_scaled_frames(model, sample):
    found, logits = jax.jit(lambda sample: applied(model, sample, INPUTS))(sample)
    assert logits is None
    np.testing.assert_allclose(found, expected(model, sample.states), atol=2e-5)  # float32 of values up to 15
    assert np.abs(found[:, 2:]).max() == 0
    moved = 7 * sample.states - 5 * PRESENT.reshape(1, -1, 1, 1).astype(np.float32)
    again = jax.jit(lambda sample: applied(model, sample, INPUTS))(sample._replace(states=moved))[0]
    np.testing.assert_allclose(again[:, :2], 7 * found[:, :2] - 5, atol=3e-4)


def test_the_loss_is_the_mean_square_in_the_scale_of_the_given_frames(model, sample):
    batch = jax.tree.map(lambda array: jnp.asarray(array)[None], sample)
    loss = prose.prose_loss(history=INPUTS, squares=lambda *given: prose.relative_to_inputs(*given, epsilon=1e-8))
    value, gradient = eqx.filter_jit(
        eqx.filter_value_and_grad(lambda model: loss(model, batch, jax.random.split(jax.random.key(0), 1))[0])
    )(model)
    truth, mean, deviation = scaled(sample.states.astype(np.float64))
    predicted = (expected(model, sample.states) - mean) / deviation
    error = np.mean((predicted - truth[INPUTS:])[:, PRESENT] ** 2)
    assert float(value) == pytest.approx(error, rel=1e-5)
    assert np.isfinite(gradient.operator.weight).all()
    assert np.abs(gradient.operator.weight).min() > 0


def test_errors_are_those_of_each_frame(model, sample):
    errors = jax.jit(prose.FrameErrors(model, INPUTS).__call__)(sample)
    truth, given = sample.states[INPUTS:, :2], sample.states[INPUTS - 1, :2]
    prediction = expected(model, sample.states)[:, :2]
    norm = lambda x: np.sqrt((x.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(errors["model"], norm(prediction - truth) / norm(truth), rtol=1e-5)
    np.testing.assert_allclose(errors["repeated"], norm(given[None] - truth) / norm(truth), rtol=1e-5)
    absent = np.array([False, False, True, False])  # channels without values
    one = np.ones((LATER, CHANNELS, NX, NY), np.float32)
    found = frame_errors(jnp.asarray(one), jnp.zeros_like(one), jnp.asarray(absent))
    np.testing.assert_allclose(found, np.sqrt(NX * NY) / 1e-7, rtol=1e-6)


def test_a_trained_operator_can_be_described():
    operator = operators.FNO(INPUTS * CHANNELS, LATER * CHANNELS, modes=(4, 4), width=3, depth=1, key=jax.random.key(0))
    model = prose.FieldForecast(operator, prose.PerTrajectory(1e-8))
    again = structure.rebuild(structure.describe(model))
    assert jax.tree.structure(again) == jax.tree.structure(model)
    assert again.scaling == model.scaling


def test_what_an_operator_cannot_do_is_refused(model, sample):
    given = sample.times[:INPUTS], sample.states[:INPUTS]
    with pytest.raises(ValueError, match=r"Expected 3 frames of 4 channels from the operator, got 8 channels"):
        model(*map(jnp.asarray, given), jnp.arange(3.0))
    with pytest.raises(ValueError, match=r"reads and writes no equation\. Leave the tokens out"):
        model(*map(jnp.asarray, given), jnp.arange(2.0), jnp.zeros(4, jnp.int32))
