"""Means over rollouts by hand: each step, windows, batches, rollouts that diverge, curves over time."""

import functools
import math

import numpy as np
import pytest

from sciml import metrics
from sciml.metrics import Window

SINGLE = 1e-5  # float32
POINTS = 5


def rollouts(errors):
    """Predictions and truths whose RMSE is `errors` (samples, time, channels)."""
    truth = np.random.default_rng(0).normal(size=(*errors.shape, POINTS)).astype(np.float32)
    return truth + np.asarray(errors, np.float32)[..., None], truth


channel_rmse = metrics.per_channel(metrics.rmse)
ERRORS = np.random.default_rng(1).uniform(0.5, 2, size=(4, 14, 2))


def added(errors, cuts=(), **options):
    found = metrics.RolloutErrors(channel_rmse, **options)
    for part in np.split(errors, cuts):
        found = found.add(*rollouts(part))
    return found.result()


def test_errors_of_each_step_and_channel():
    assert metrics.step_errors(channel_rmse, *rollouts(ERRORS)) == pytest.approx(ERRORS, rel=SINGLE)
    whole = metrics.step_errors(metrics.rmse, *rollouts(ERRORS))
    assert whole == pytest.approx(np.sqrt(np.mean(ERRORS**2, axis=2)), rel=SINGLE)


@pytest.mark.parametrize("cuts", [(), (1,), (1, 3)])
def test_means_do_not_depend_on_the_batches(cuts):
    found = added(ERRORS, cuts)
    assert found.samples == 4
    assert found.mean == pytest.approx(ERRORS.mean(0), rel=SINGLE)
    assert found.stayed == pytest.approx(ERRORS.mean(0), rel=SINGLE)
    assert not found.diverged.any()


def test_windows_count_steps_from_one_with_both_ends():
    found = added(ERRORS)
    assert list(found.windows) == ["1", "6:12"]  # 13:30 is beyond 14 steps
    assert found.windows["1"].mean == pytest.approx(ERRORS[:, 0].mean(0), rel=SINGLE)
    assert found.windows["6:12"].mean == pytest.approx(ERRORS[:, 5:12].mean((0, 1)), rel=SINGLE)
    assert str(found.windows["6:12"]) == f"{found.windows['6:12'].mean.mean():.4g}"
    steps = np.arange(1, 31.0)[None, :, None]
    long = added(np.concatenate((steps, 3 * steps)))
    assert long.windows["6:12"].mean == pytest.approx(2 * 9, rel=SINGLE)
    assert long.windows["13:30"].mean == pytest.approx(2 * 21.5, rel=SINGLE)
    assert list(added(ERRORS[:, :11]).windows) == ["1"]
    own = added(ERRORS, windows=(Window(2, 3), Window(14, 14)))
    assert own.windows["2:3"].mean == pytest.approx(ERRORS[:, 1:3].mean((0, 1)), rel=SINGLE)
    assert own.windows["14"].mean == pytest.approx(ERRORS[:, 13].mean(0), rel=SINGLE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])  # the square of the last is infinite in float32
@pytest.mark.parametrize("cuts", [(), (2,)])
def test_a_diverged_rollout_is_counted_from_its_step_on(bad, cuts):
    errors = ERRORS.copy()
    errors[2, 6, 1] = bad  # step 7; the steps after it are finite again
    found = added(errors, cuts)
    assert found.diverged.tolist() == [0] * 6 + [1] * 8
    assert found.mean[:6] == pytest.approx(errors[:, :6].mean(0), rel=SINGLE)
    assert np.isinf(found.mean[6:]).all()
    kept = errors[[0, 1, 3]]
    assert found.stayed[:6] == pytest.approx(errors[:, :6].mean(0), rel=SINGLE)
    assert found.stayed[6:] == pytest.approx(kept[:, 6:].mean(0), rel=SINGLE)
    first, window = found.windows["1"], found.windows["6:12"]
    assert (first.diverged, window.diverged, window.samples) == (0, 1, 4)
    assert first.mean == pytest.approx(errors[:, 0].mean(0), rel=SINGLE)
    assert np.isinf(window.mean).all()
    assert window.stayed == pytest.approx(kept[:, 5:12].mean((0, 1)), rel=SINGLE)
    assert str(window) == f"{window.stayed.mean():.4g} without 1 of 4 that diverged"


def test_an_error_beyond_the_bound_diverges():
    errors = np.full((3, 4, 2), 0.5)
    errors[1, 2, 0] = 7.0
    assert added(errors).diverged.tolist() == [0, 0, 0, 0]
    assert added(errors, bound=8.0).diverged.tolist() == [0, 0, 0, 0]
    found = added(errors, bound=6.0)
    assert found.diverged.tolist() == [0, 0, 1, 1]
    assert found.stayed == pytest.approx(0.5, rel=SINGLE)
    assert np.isinf(found.mean[2:]).all()


def test_means_of_no_rollout_are_infinite():
    errors = np.full((2, 3, 1), np.nan)
    found = added(errors)
    assert found.diverged.tolist() == [2, 2, 2]
    for value in (found.mean, found.stayed, found.windows["1"].mean, found.windows["1"].stayed):
        assert np.isinf(value).all()


def test_an_exact_prediction_of_zero_has_error_zero_in_its_channel_alone():
    truth = np.random.default_rng(0).normal(size=(2, 3, 2, POINTS)).astype(np.float32)
    truth[1, 2, 0] = 0
    prediction = truth.copy()
    prediction[:, :, 1] *= 1.5
    found = metrics.step_errors(metrics.nrmse, prediction, truth)
    assert not found[:, :, 0].any()
    assert found[:, :, 1] == pytest.approx(0.5, rel=SINGLE)
    whole = metrics.step_errors(metrics.relative_l2, 0 * truth, 0 * truth)
    assert not whole.any()
    other = metrics.step_errors(functools.partial(metrics.nrmse), prediction + 1, truth)
    assert np.isinf(other[1, 2, 0])


def test_metrics_with_more_axes_than_channels_are_averaged_alike():
    prediction, truth = rollouts(ERRORS)
    found = metrics.RolloutErrors(metrics.binned_spectral_mse).add(prediction, truth).result()
    assert found.mean.shape == (14, 3, 2)
    assert found.mean.sum(1) == pytest.approx((ERRORS**2).mean(0), rel=SINGLE)


def test_a_metric_without_channels_has_one_number_for_each_step():
    found = metrics.RolloutErrors(metrics.rmse).add(*rollouts(ERRORS)).result()
    assert found.mean.shape == (14,)
    assert found.windows["6:12"].mean.shape == ()
    assert found.windows["1"].mean == pytest.approx(np.sqrt(np.mean(ERRORS[:, 0] ** 2, 1)).mean(), rel=SINGLE)


def test_adding_leaves_the_object_as_it_was():
    first = metrics.RolloutErrors(channel_rmse).add(*rollouts(ERRORS[:1]))
    before = first.result().mean.copy()
    first.add(*rollouts(ERRORS[1:]))
    assert np.array_equal(first.result().mean, before)
    assert first.result().samples == 1


def test_what_does_not_fit_is_refused():
    prediction, truth = rollouts(ERRORS)
    with pytest.raises(ValueError, match=r"Expected predictions and truths of one shape .* got \(4, 14, 2, 5\) and"):
        metrics.step_errors(metrics.rmse, prediction, truth[:, 1:])
    with pytest.raises(ValueError, match=r"without a zero, got \(0, 14, 2, 5\)"):
        metrics.step_errors(metrics.rmse, prediction[:0], truth[:0])
    with pytest.raises(
        ValueError, match=r"Expected errors of shape \(time, \*values\) \(14, 2\) as before, got \(13, 2\)"
    ):
        metrics.RolloutErrors(metrics.nrmse).add(prediction, truth).add(prediction[:, 1:], truth[:, 1:])
    with pytest.raises(ValueError, match="Expected at least one batch of rollouts, got none"):
        metrics.RolloutErrors(metrics.nrmse).result()
    truth[2, 3, 1, 0] = np.inf
    with pytest.raises(ValueError, match="Expected finite truths, sample 2 has values that are not"):
        metrics.RolloutErrors(metrics.nrmse).add(prediction, truth)
    for first, last in [(0, 3), (4, 3)]:
        with pytest.raises(
            ValueError, match=f"Expected a window 1 <= first <= last, got first {first} and last {last}"
        ):
            Window(first, last)


def test_mean_nrmse_is_the_mean_over_samples_of_the_sum_over_channels():
    truth = np.ones((2, 3, 2, POINTS), np.float32)
    scale = np.arange(12).reshape(2, 3, 2) / 8  # exact in float32
    found = metrics.mean_nrmse((truth * (1 + scale[..., None])).astype(np.float32), truth)
    assert found == pytest.approx(scale.sum(2).mean(0), rel=SINGLE)


def test_the_geometric_mean_is_over_the_first_steps():
    errors = np.asarray([1.0, 2.0, 4.0, 100.0])
    assert metrics.geometric_mean(errors, steps=3) == pytest.approx(2, rel=1e-12)
    assert metrics.geometric_mean(errors[:3], steps=100) == pytest.approx(2, rel=1e-12)
    assert metrics.geometric_mean(errors) == pytest.approx(800 ** (1 / 4), rel=1e-12)
    assert metrics.geometric_mean(np.asarray([0.0, 1.0])) == 0
    assert metrics.geometric_mean(np.asarray([0.0, np.inf])) == math.inf
    for bad in ([], [1.0, np.nan], [1.0, -1.0]):
        with pytest.raises(ValueError, match="A geometric mean needs errors of at least one step"):
            metrics.geometric_mean(np.asarray(bad))


def test_the_correlation_time_is_that_of_the_first_fall():
    curves = np.asarray(
        [
            [0.9, 0.79, 0.95, 0.1],  # falls at step 2 and recovers
            [0.9, 0.85, 0.8, 0.81],  # 0.8 is not below
            [0.5, 0.9, 0.9, 0.9],
            [0.9, 0.9, np.nan, 0.9],
            [0.9, np.inf, 0.9, 0.9],
        ]
    )
    found = metrics.correlation_time(curves, dt=0.25)
    assert np.asarray(found) == pytest.approx([0.5, math.inf, 0.25, 0.75, 0.5])
    assert float(metrics.correlation_time(curves[1], dt=0.25, threshold=0.82)) == pytest.approx(0.75)


def test_a_wave_of_wrong_speed_loses_its_correlation_at_the_known_time():
    # a phase that grows by 0.1 per step: the correlation is its cosine, below 0.8 from acos(0.8) = 0.6435 on
    x = np.arange(16) * 2 * np.pi / 16
    steps = np.arange(1, 11)
    prediction = np.sin(x + 0.1 * steps[:, None])[None, :, None].astype(np.float32)
    truth = np.broadcast_to(np.sin(x), (1, 10, 1, 16)).astype(np.float32)
    curves = metrics.step_errors(metrics.pearson, prediction, truth).mean(axis=2)
    assert curves[0] == pytest.approx(np.cos(0.1 * steps), abs=1e-5)
    assert float(metrics.correlation_time(curves, dt=2.0)[0]) == pytest.approx(14)
