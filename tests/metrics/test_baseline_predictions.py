"""Persistence and the mean predictor."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import metrics

FRAMES = np.random.default_rng(0).normal(size=(6, 3, 2, 4, 5)).astype(np.float32)  # samples, time, channels, x, y


def test_persistence_repeats_the_last_frame():
    found = jax.vmap(lambda frames: metrics.persistence(frames, 7))(jnp.asarray(FRAMES))
    assert np.array_equal(found, np.repeat(FRAMES[:, -1:], 7, axis=1))


def test_persistence_of_a_steady_state_is_exact():
    steady = np.repeat(FRAMES[:, :1], 7, axis=1)
    found = np.stack([metrics.persistence(one[:3], 7) for one in steady])
    assert not metrics.RolloutErrors(metrics.vrmse).add(found, steady).result().mean.any()


def test_the_mean_predictor_repeats_the_mean_of_each_channel():
    means = metrics.channel_means(FRAMES)
    assert means == pytest.approx([FRAMES[:, :, c].astype(np.float64).mean() for c in range(2)], rel=1e-12)
    predict = functools.partial(metrics.mean_predictor, n=7, mean=means)
    found = jax.vmap(predict)(jnp.asarray(FRAMES))
    assert found.shape == (6, 7, 2, 4, 5)
    assert found.dtype == FRAMES.dtype
    assert np.array_equal(found, np.broadcast_to(means.astype(np.float32).reshape(2, 1, 1), found.shape))


def test_the_mean_predictor_has_vrmse_one_on_noise():
    means = np.zeros(2)
    truth = np.random.default_rng(1).normal(size=(3, 2, 2, 64, 64)).astype(np.float32)
    found = np.stack([metrics.mean_predictor(one, 2, mean=means) for one in truth])
    errors = metrics.RolloutErrors(metrics.vrmse).add(found, truth).result().mean
    assert errors == pytest.approx(1, abs=1e-2)  # the sample mean of 4096 points differs from 0 by 1 / 64


@pytest.mark.parametrize(("given", "n"), [(0, 3), (2, 0)])
def test_baselines_need_a_frame_and_predict_one(given, n):
    frames = FRAMES[0, :given]
    with pytest.raises(ValueError, match=f"at least one given and one predicted frame, got {given} and n {n}"):
        metrics.persistence(frames, n)
    with pytest.raises(ValueError, match=f"at least one given and one predicted frame, got {given} and n {n}"):
        metrics.mean_predictor(frames, n, mean=np.zeros(2))
