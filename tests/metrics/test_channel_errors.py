"""Errors of each channel: worked by hand, closed forms, invariances, fields of 1 to 3 dimensions."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import metrics
from sciml.grid import Grid

SHAPES = [(7,), (5, 6), (4, 3, 5)]
ERRORS = [metrics.nrmse, metrics.vrmse, metrics.nmae, metrics.max_error, metrics.boundary_rmse]
SINGLE = 1e-6  # float32: a few roundings of 6e-8 each


def value(metric, prediction, truth):
    return np.asarray(jax.jit(metric)(prediction, truth))


def fields(shape, channels=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, channels, *shape)), jnp.float32)


# Two channels of three points. Errors (1, 0, -2) and (0, 2, 0).
TRUTH = jnp.asarray([[1.0, 2.0, 3.0], [0.0, -4.0, 0.0]])
PREDICTION = jnp.asarray([[2.0, 2.0, 1.0], [0.0, -2.0, 0.0]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.nrmse, [math.sqrt(5 / 14), math.sqrt(4 / 16)]),
        (
            functools.partial(metrics.nrmse, epsilon=2.0),
            [math.sqrt(5 / (14 + 3 * 2)), math.sqrt(4 / (16 + 3 * 2))],
        ),
        # unbiased variances: ((-1)^2 + 0 + 1^2) / 2 = 1 and (16/9 + 64/9 + 16/9) / 2 = 16/3
        (functools.partial(metrics.vrmse, epsilon=0.0), [math.sqrt(5 / 3), math.sqrt(4 / 3 / (16 / 3))]),
        (functools.partial(metrics.vrmse, epsilon=3.0), [math.sqrt(5 / 3 / 4), math.sqrt(4 / 3 / (16 / 3 + 3))]),
        (functools.partial(metrics.nmae, epsilon=0.0), [1 / 2, 2 / 4]),
        (functools.partial(metrics.nmae, epsilon=1.0), [1 / 3, (2 / 3) / (4 / 3 + 1)]),
        (metrics.max_error, [2.0, 2.0]),
        (metrics.boundary_rmse, [math.sqrt((1 + 4) / 2), 0.0]),
        (metrics.cosine_similarity, [(2 + 4 + 3) / math.sqrt(9 * 14), 1.0]),
        # centred: (1/3, 1/3, -2/3) . (-1, 0, 1) = -1, norms sqrt(2/3) and sqrt(2)
        (metrics.pearson, [-1 / math.sqrt(4 / 3), 1.0]),
        (metrics.per_channel(metrics.rmse), [math.sqrt(5 / 3), math.sqrt(4 / 3)]),
        (metrics.per_channel(metrics.relative_l2), [math.sqrt(5 / 14), math.sqrt(4 / 16)]),
    ],
)
def test_errors_of_two_channels_worked_by_hand(metric, expected):
    assert value(metric, PREDICTION, TRUTH) == pytest.approx(expected, rel=SINGLE)


def test_the_sum_over_the_channels_of_nrmse_is_that_of_its_parts():
    found = metrics.channel_sum(metrics.nrmse)(PREDICTION, TRUTH)
    assert float(found) == pytest.approx(math.sqrt(5 / 14) + 1 / 2, rel=SINGLE)


def test_boundary_rmse_counts_a_point_once_for_each_face():
    error = jnp.zeros((1, 3, 4)).at[0, 0, 0].set(1.0).at[0, 1, 0].set(2.0).at[0, 1, 2].set(100.0)
    # a corner twice, an edge point once, an inner point not at all; 2 * 4 + 2 * 3 points of the faces
    assert value(metrics.boundary_rmse, error, 0 * error)[0] == pytest.approx(math.sqrt((2 + 4) / 14), rel=SINGLE)
    solid = jnp.zeros((2, 3, 4, 5)).at[1, 0, 0, 4].set(3.0).at[1, 1, 2, 2].set(100.0)
    expected = [0, math.sqrt(3 * 9 / (2 * (3 * 4 + 4 * 5 + 5 * 3)))]  # a corner of a box lies on three faces
    assert value(metrics.boundary_rmse, solid, 0 * solid) == pytest.approx(expected, rel=SINGLE)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_offset_has_closed_forms(shape):
    truth = fields(shape)[0]
    offset = jnp.asarray([0.5, -2.0]).reshape(2, *(1,) * len(shape))
    size = np.asarray([0.5, 2.0])
    for metric in (metrics.per_channel(metrics.rmse), metrics.max_error, metrics.boundary_rmse):
        assert value(metric, truth + offset, truth) == pytest.approx(size, rel=1e-5)  # cancellation in float32
    assert value(metrics.pearson, truth + offset, truth) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("metric", ERRORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_do_not_mix(metric, shape):
    prediction, truth = fields(shape, channels=3)
    each = np.concatenate([value(metric, prediction[i : i + 1], truth[i : i + 1]) for i in range(3)])
    assert value(metric, prediction, truth) == pytest.approx(each, rel=SINGLE)
    order = np.asarray([2, 0, 1])
    assert value(metric, prediction[order], truth[order]) == pytest.approx(each[order], rel=SINGLE)


@pytest.mark.parametrize("shape", SHAPES)
def test_relative_errors_do_not_depend_on_units(shape):
    prediction, truth = fields(shape)
    for metric in (metrics.nrmse, metrics.vrmse, metrics.nmae):
        metric = functools.partial(metric, epsilon=0.0)
        assert value(metric, 8 * prediction, 8 * truth) == pytest.approx(value(metric, prediction, truth))
    found = value(metrics.pearson, 3 * prediction + 1, 0.5 * truth - 2)
    assert found == pytest.approx(value(metrics.pearson, prediction, truth), abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_of_the_truth_has_vrmse_one(shape):
    with jax.enable_x64(True):
        truth = jnp.asarray(np.random.default_rng(1).normal(size=(2, *shape)) + 5)
        n = math.prod(shape)
        mean = jnp.broadcast_to(truth.mean(axis=tuple(range(1, truth.ndim)), keepdims=True), truth.shape)
        found = metrics.vrmse(mean, truth, epsilon=0.0)
        assert np.asarray(found) == pytest.approx(math.sqrt((n - 1) / n), rel=1e-12)


@pytest.mark.parametrize("phase", [0.3, 1.0, 2.5])
def test_a_shifted_sine_has_the_closed_form(phase):
    x = jnp.arange(12) * 2 * np.pi / 12
    truth, prediction = jnp.sin(x)[None], jnp.sin(x + phase)[None]
    # |exp(i phase) - 1| = 2 sin(phase / 2), and the mean of sin(x) sin(x + phase) is cos(phase) / 2
    assert float(metrics.nrmse(prediction, truth)[0]) == pytest.approx(2 * math.sin(phase / 2), rel=1e-5)
    assert float(metrics.pearson(prediction, truth)[0]) == pytest.approx(math.cos(phase), abs=1e-6)


def test_similarities_of_constant_fields_are_defined():
    wave, zero, one = jnp.asarray([[1.0, -1.0, 2.0]]), jnp.zeros((1, 3)), jnp.full((1, 3), 0.1)
    assert metrics.pearson(one, zero) == 1
    assert metrics.pearson(wave, one) == 0
    assert metrics.cosine_similarity(zero, zero) == 1
    assert metrics.cosine_similarity(wave, zero) == 0
    assert metrics.cosine_similarity(one, 5 * one) == pytest.approx(1, rel=SINGLE)


@pytest.mark.parametrize("metric", [*ERRORS, metrics.pearson, metrics.cosine_similarity])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_has_no_finite_value(metric, bad):
    truth = fields((4, 3))[0]
    found = value(metric, truth.at[1].set(bad), truth)
    assert np.isfinite(found[0])
    assert not np.isfinite(found[1])


@pytest.mark.parametrize("metric", ERRORS)
def test_errors_can_be_compiled_and_differentiated_where_they_are_zero(metric):
    truth = fields((4, 3))[0]
    value, gradient = jax.jit(jax.value_and_grad(lambda u: jnp.sum(metric(u, truth))))(truth)
    assert value == 0
    assert np.isfinite(gradient).all()


def test_the_relative_h1_error_of_each_channel_is_that_of_the_channel_alone():
    prediction, truth = fields((6, 5), channels=3)
    metric = functools.partial(metrics.relative_h1, grid=Grid((6, 5), extent=(2.0, 3.0)))
    each = [float(value(metric, prediction[i : i + 1], truth[i : i + 1])) for i in range(3)]
    assert value(metrics.per_channel(metric), prediction, truth) == pytest.approx(each, rel=SINGLE)


def test_a_field_of_one_point_has_no_variance():
    with pytest.raises(ValueError, match="variance of a field needs 2 points, got 1"):
        metrics.vrmse(jnp.ones((2, 1)), jnp.ones((2, 1)))
