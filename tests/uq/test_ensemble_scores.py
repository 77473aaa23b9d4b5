"""Scores of ensembles against scoringrules, integrals and draws; flags for inputs from elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import uq

SAMPLES, MEMBERS, CHANNELS, NX = 13, 6, 2, 5


def drawn(seed, samples=SAMPLES, members=MEMBERS):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, members, CHANNELS, NX)), rng.normal(size=(samples, CHANNELS, NX))


@pytest.mark.parametrize(("function", "estimator"), [(uq.crps, "nrg"), (uq.fair_crps, "fair")])
@pytest.mark.parametrize("members", [2, 7])
def test_crps_equals_scoringrules(function, estimator, members):
    rules = pytest.importorskip("scoringrules", reason="scoringrules, the oracle, is not installed")
    known, truth = drawn(0, members=members)
    with jax.enable_x64(True):
        found = jax.vmap(function)(jnp.asarray(known), jnp.asarray(truth))
    expected = rules.crps_ensemble(truth, np.moveaxis(known, 1, -1), estimator=estimator)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_crps_is_the_integral_over_the_squared_difference_of_distributions():
    members, truth = np.asarray([0.5, -1.0, 2.0]), 0.25
    points = np.linspace(-4, 4, 800_001)
    steps = (members[:, None] <= points).mean(axis=0)
    integral = np.sum((steps - (points >= truth)) ** 2) * (points[1] - points[0])
    assert float(uq.crps(jnp.asarray(members), jnp.asarray(truth))) == pytest.approx(integral, abs=1e-4)  # the spacing
    assert float(uq.crps(jnp.asarray([3.0]), jnp.asarray(1.0))) == 2
    assert np.isfinite(jax.grad(lambda x: uq.crps(x, jnp.asarray(0.3)))(jnp.asarray(members, jnp.float32))).all()


def test_fair_crps_does_not_depend_on_the_number_of_members_in_the_mean():
    mean = lambda score, members: float(jax.vmap(score)(*map(jnp.asarray, drawn(1, 4000, members))).mean())
    means = [mean(uq.fair_crps, members) for members in (2, 12)]
    plain = [mean(uq.crps, members) for members in (2, 12)]
    assert means[0] == pytest.approx(means[1], abs=0.02)  # deviation of the mean: about 0.004
    assert plain[0] > plain[1] + 0.1


def test_members_drawn_as_the_truth_have_a_ratio_of_one_and_flat_ranks():
    known, truth = drawn(2, 3000)
    assert uq.spread_skill(known, truth) == pytest.approx(1, abs=0.02)
    assert uq.spread_skill(0.5 * known, truth) < 0.7
    ranks = uq.rank_histogram(known, truth)
    assert ranks.shape == (MEMBERS + 1,)
    assert ranks.sum() == pytest.approx(1)
    np.testing.assert_allclose(ranks, 1 / (MEMBERS + 1), atol=0.01)  # deviation: 0.002
    assert uq.rank_histogram(0.1 * known, truth)[[0, -1]].sum() > 0.8


def test_ties_count_equally_to_all_ranks_that_are_possible():
    known = np.asarray([0.0, 0.0, 1.0]).reshape(1, 3, 1)
    np.testing.assert_allclose(uq.rank_histogram(known, np.zeros((1, 1))), [1 / 3, 1 / 3, 1 / 3, 0])


def test_spread_is_the_deviation_and_a_floor():
    known, _ = drawn(3)
    known[:, :, 1] = 4.0
    deviation = known.std(axis=1, ddof=1)
    np.testing.assert_allclose(uq.spread(known), deviation)
    found = uq.spread(known, floor=0.1)
    np.testing.assert_allclose(found[5, 1], 0.1 * np.sqrt(np.mean(deviation[5] ** 2)))
    with pytest.raises(ValueError, match=r"Expected positive scales, got 0 in sample 0. Add a floor"):
        uq.conformal(known[:, 0], known[:, 1], scale=uq.spread(known))


def test_impossible_members_are_refused_by_name():
    known, truth = drawn(4)
    known[7, 3, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"Expected finite members, got NaN or infinity in member 3 of sample 7, 1 in"):
        uq.spread(known)
    with pytest.raises(ValueError, match=r"2 of each sample or more, got the shape"):
        uq.spread(known[:, :1])
    with pytest.raises(ValueError, match=r"Expected 2 members or more for the fair CRPS, got 1. Use crps"):
        uq.fair_crps(jnp.zeros((1, 3)), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"of the truth's shape \(4,\), got \(2, 3\)"):
        uq.crps(jnp.zeros((2, 3)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"Expected true fields .* of the members' shape"):
        uq.spread_skill(drawn(5)[0], truth[..., :3])


def smooth(seed, samples, power, nx=16, ny=20):
    """Random fields whose spectrum falls off as |k|^-power."""
    rng = np.random.default_rng(seed)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(nx, 1 / nx), np.fft.fftfreq(ny, 1 / ny), indexing="ij"))
    noise = np.fft.fft2(rng.normal(size=(samples, 1, nx, ny)))
    return np.fft.ifft2(noise / np.maximum(k, 1) ** power).real.astype(np.float32)


def test_inputs_of_the_same_kind_are_flagged_rarely_and_rougher_ones_always():
    flag = uq.input_flag(smooth(0, 200, 2.0), smooth(1, 99, 2.0), level=0.95)
    low, high = 1 - np.asarray(uq.coverage_interval(0.95, calibration=99, test=400, probability=0.9999))[::-1]
    assert low <= flag.flagged(smooth(2, 400, 2.0)).mean() <= high
    assert flag.flagged(smooth(3, 50, 1.0)).all()
    assert flag.flagged(5 * smooth(4, 50, 2.0)).all()


def test_features_do_not_depend_on_the_resolution():
    x, y = np.meshgrid(np.arange(64) / 64, np.arange(64) / 64, indexing="ij")
    field = 1 + np.sin(2 * np.pi * x) + np.cos(2 * np.pi * (3 * x + 2 * y)) + 0.1 * np.sin(2 * np.pi * 9 * x)
    features = uq.SpectralFeatures(shells=4)
    fine, coarse = (np.asarray(features(jnp.asarray(field[None, ::n, ::n], jnp.float32))) for n in (1, 2))
    assert fine.shape == (7,)
    known = [0, 1, 2, 4, 6]  # mean, deviation and the shells that hold a mode; the others are rounding
    np.testing.assert_allclose(fine[known], coarse[known], atol=1e-3)
    assert fine[2] == pytest.approx(np.log(0.5 / 1.005), abs=1e-4)  # the power of the first mode over that of all


def test_flags_refuse_what_they_cannot_use():
    with pytest.raises(
        ValueError, match=r"Expected at least 11 training inputs for the covariance of 9 features, got 5"
    ):
        uq.input_flag(smooth(0, 5, 2.0), smooth(1, 99, 2.0))
    with pytest.raises(ValueError, match=r"Expected at least 19 calibration samples for the level 0.95, got 9"):
        uq.input_flag(smooth(0, 50, 2.0), smooth(1, 9, 2.0))
    with pytest.raises(ValueError, match=r"Expected more than 12 points along each axis for 6 shells, got 8"):
        uq.input_flag(smooth(0, 50, 2.0, 8, 9), smooth(1, 20, 2.0))
    bad = smooth(0, 20, 2.0)
    bad[11, 0, 3, 2] = np.inf
    with pytest.raises(ValueError, match=r"Expected finite inputs, got NaN or infinity in 1 of 20 samples.*sample 11"):
        uq.input_flag(bad, smooth(1, 20, 2.0))
