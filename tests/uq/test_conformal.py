"""Split conformal bands: exact coverage of exchangeable data, quantiles by hand, what is refused."""

import numpy as np
import pytest
import scipy.stats

from sciml import uq

SAMPLES, STEPS, CHANNELS, NX, NY = 40, 3, 2, 5, 7


def errors(seed, samples, *shape):
    """Heavy-tailed errors that differ in size from sample to sample, none equal to another."""
    rng = np.random.default_rng(seed)
    return rng.standard_t(3, (samples, *shape)) * rng.uniform(0.5, 2, (samples, *(1,) * len(shape)))


@pytest.mark.parametrize(("level", "rank"), [(0.5, 5), (0.8, 8), (0.9, 9), (0.85, 9), (0.05, 1)])
def test_the_quantile_is_the_score_of_the_rank_by_hand(level, rank):
    truth = np.arange(1.0, 10.0).reshape(9, 1, 1)  # scores 1 to 9: rank ceil(10 level)
    found = uq.conformal(np.zeros_like(truth), truth, level=level)
    assert found.quantiles.tolist() == [rank]
    assert found.samples == 9


@pytest.mark.parametrize("score", [uq.SupNorm(), uq.L2Norm(), uq.EachStep(), uq.EachStep(uq.L2Norm())])
@pytest.mark.parametrize("scaled", [False, True])
def test_coverage_of_exchangeable_data_is_beta_binomial(score, scaled):
    """Over random splits of any data without ties: mean k / (n + 1), and the Kolmogorov distance of its law is small.

    Steps with a union bound cover at least as often.
    """
    level, calibration, splits = 0.8, 29, 400
    truth = errors(0, 60, STEPS, CHANNELS, NX)
    scale = np.random.default_rng(1).uniform(0.5, 2, truth.shape) if scaled else None
    rng, found = np.random.default_rng(2), []
    for _ in range(splits):
        order = rng.permutation(len(truth))
        known, new = order[:calibration], order[calibration:]
        of = lambda rows: {} if scale is None else {"scale": scale[rows]}
        bands = uq.conformal(np.zeros_like(truth[known]), truth[known], level=level, score=score, **of(known))
        found.append(bands.covers(np.zeros_like(truth[new]), truth[new], **of(new)).sum())
    test = len(truth) - calibration
    if isinstance(score, uq.EachStep):
        assert np.mean(found) / test >= level
        return
    law = scipy.stats.betabinom(test, 24, calibration + 1 - 24)
    distance = max(abs(np.mean(np.asarray(found) <= k) - law.cdf(k)) for k in range(test + 1))
    assert distance < 1.63 / np.sqrt(splits)  # the 1 % point of Kolmogorov's law, which is wider for whole numbers
    low, high = uq.coverage_interval(level, calibration=calibration, test=test)
    assert np.mean([low <= one / test <= high for one in found]) > 0.93


def test_a_band_holds_at_all_values_at_once():
    truth = errors(3, SAMPLES, CHANNELS, NX, NY)
    prediction = errors(4, SAMPLES, CHANNELS, NX, NY)
    bands = uq.conformal(prediction, truth, level=0.9)
    low, high = bands.band(prediction)
    inside = ((low <= truth) & (truth <= high)).reshape(SAMPLES, -1).all(axis=1)
    assert inside.tolist() == bands.covers(prediction, truth).tolist()
    assert inside.sum() == 37  # rank ceil(41 * 0.9) of its own calibration samples
    assert uq.coverage(low, high, truth) > inside.mean()
    np.testing.assert_allclose(high - low, 2 * bands.quantiles[0])


def test_scales_widen_the_band_where_they_are_large():
    truth, scale = errors(5, SAMPLES, CHANNELS, NX), np.linspace(1, 3, NX).reshape(1, 1, NX)
    scale = np.broadcast_to(scale, (SAMPLES, 1, NX))
    bands = uq.conformal(np.zeros_like(truth), truth * scale, scale=scale)
    plain = uq.conformal(np.zeros_like(truth), truth)
    np.testing.assert_allclose(bands.quantiles, plain.quantiles)
    half = bands.half_width(np.zeros_like(truth), scale)
    np.testing.assert_allclose(half[0, 1], plain.quantiles[0] * scale[0, 0])


def test_each_step_has_its_own_quantile_of_a_higher_level():
    truth = errors(6, 59, STEPS, CHANNELS, NX) * np.asarray([1, 2, 4]).reshape(1, 3, 1, 1)
    bands = uq.conformal(np.zeros_like(truth), truth, level=0.9, score=uq.EachStep())
    sizes = np.abs(truth).reshape(59, STEPS, -1).max(axis=2)
    rank = int(np.ceil(60 * (1 - 0.1 / 3)))
    assert bands.quantiles.tolist() == [np.sort(sizes[:, step])[rank - 1] for step in range(STEPS)]
    low, high = bands.band(np.zeros_like(truth))
    assert (high[7, 2, 1, 3] - low[7, 2, 1, 3]) == pytest.approx(2 * bands.quantiles[2])


def test_the_radius_of_a_ball_is_a_root_mean_square():
    truth = np.stack([np.full((CHANNELS, NX), size) for size in (1.0, 3.0, 2.0)])
    bands = uq.conformal(0 * truth, truth, level=0.75, score=uq.L2Norm())
    assert bands.half_width(truth[:1]).shape == (1, CHANNELS, NX)
    assert bands.quantiles.tolist() == [3.0]
    with pytest.raises(ValueError, match=r"Expected a sup-norm score for a band, got L2Norm"):
        bands.band(truth)


@pytest.mark.parametrize(("level", "needed"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.8, 4), (2 / 3, 2)])
def test_too_few_samples_are_refused_with_the_number_that_is_needed(level, needed):
    truth = errors(7, needed, CHANNELS, NX)
    assert uq.conformal(0 * truth, truth, level=level).quantiles[0] == np.abs(truth).max()
    with pytest.raises(ValueError, match=f"Expected at least {needed} calibration samples for the level 0.*got"):
        uq.conformal(0 * truth[1:], truth[1:], level=level)


def test_a_union_bound_needs_more_samples():
    truth = errors(8, 28, STEPS, CHANNELS, NX)
    with pytest.raises(ValueError, match=r"Expected at least 29 calibration samples for the level 0.966667, got 28"):
        uq.conformal(0 * truth, truth, level=0.9, score=uq.EachStep())


def test_what_is_impossible_is_refused_by_name():
    truth = errors(9, 12, CHANNELS, NX)
    bad = truth.copy()
    bad[4, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"Expected finite predictions, got NaN or infinity in 1 of 12 .* sample 4"):
        uq.conformal(bad, truth)
    with pytest.raises(ValueError, match=r"Expected finite true fields.* sample 4"):
        uq.conformal(truth, bad)
    with pytest.raises(ValueError, match=r"Expected finite predictions.* sample 4"):
        uq.conformal(truth, truth + 1).band(bad)
    with pytest.raises(ValueError, match=r"Expected a level between 0 and 1, such as 0.9, got 90"):
        uq.conformal(truth, truth, level=90.0)
    with pytest.raises(ValueError, match=r"Expected true fields of the shape of the predictions, .*got \(12, 2\)"):
        uq.conformal(truth, truth[..., 0])
    scale = np.ones((12, 1, 1))
    scale[3] = 0
    with pytest.raises(ValueError, match=r"Expected positive scales, got 0 in sample 3"):
        uq.conformal(truth, truth, scale=scale)
    with pytest.raises(ValueError, match=r"Expected scales that broadcast to the predictions"):
        uq.conformal(truth, truth, scale=np.ones((12, CHANNELS, 4)))
    with pytest.raises(ValueError, match=r"Expected rollouts .samples, steps"):
        uq.conformal(truth[..., 0], truth[..., 0], score=uq.EachStep())
    with pytest.raises(ValueError, match=r"with at least one sample"):
        uq.conformal(truth[:0], truth[:0])
