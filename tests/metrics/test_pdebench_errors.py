"""PDEBench's errors against loops over samples, times, channels and modes, and by hand."""

import itertools
import math

import jax
import numpy as np
import pytest

from sciml import metrics
from sciml.grid import Grid

SAMPLES, TIME, CHANNELS = 5, 3, 2
GRIDS = [
    Grid((31,), extent=2.0),
    Grid((30,)),
    Grid((26, 28), extent=(2.0, 3.0)),
    Grid((8, 9, 10), extent=(2.0, 3.0, 0.5)),
]
DOUBLE = 1e-10  # float64: roundings of sums over some hundred numbers


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def noise(grid, samples=SAMPLES, seed=0):
    return np.random.default_rng(seed).normal(size=(2, samples, TIME, CHANNELS, *grid.shape))


def faces(e):
    """Sum of squares and number of points over all faces of one field without channels."""
    parts = [np.take(e, side, axis) for axis in range(e.ndim) for side in (0, -1)]
    return sum(np.sum(p**2) for p in parts), sum(np.size(p) for p in parts)


def shells(e):
    """|F|^2 of each shell by a loop over the modes."""
    transform = np.fft.fftn(e)
    if e.ndim == 1:
        return np.abs(transform[: len(e) // 2 + 1]) ** 2
    found = np.zeros(min(e.shape) // 2)
    for k in itertools.product(*(range(n // 2) for n in e.shape)):
        radius = math.floor(math.sqrt(sum(i**2 for i in k)))
        if radius < len(found):
            found[radius] += abs(transform[k]) ** 2
    return found


def by_loops(grid, u, r):
    """The errors (time, channels) of one batch, each from its definition."""
    found = {name: np.zeros((TIME, CHANNELS)) for name in ("rmse", "nrmse", "crmse", "max_error", "brmse", "merged")}
    found |= {name: np.zeros((TIME, CHANNELS)) for name in ("low", "mid", "high")}
    points = math.prod(grid.shape)
    for t, c in np.ndindex(TIME, CHANNELS):
        e, truth = (u - r)[:, t, c], r[:, t, c]
        found["rmse"][t, c] = np.mean([np.sqrt(np.mean(one**2)) for one in e])
        found["nrmse"][t, c] = np.mean([np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(e, truth, strict=True)])
        found["crmse"][t, c] = np.sqrt(np.mean([np.sum(one) ** 2 for one in e])) / points
        found["max_error"][t, c] = np.abs(e).max()
        found["brmse"][t, c] = np.mean([np.sqrt(np.divide(*faces(one))) for one in e])
        both = [np.sqrt(sum(faces(one)[0] for one in pair) / faces(pair[0])[1]) for pair in (u - r)[:, t]]
        found["merged"][t, c] = np.mean(both)
        modes = np.sqrt(np.mean([shells(one) for one in e], axis=0)) / points * np.prod(grid.lengths)
        for name, band in (("low", modes[:4]), ("mid", modes[4:12]), ("high", modes[12:])):
            found[name][t, c] = band.mean() if len(band) else np.nan
    return found


@pytest.mark.parametrize("grid", GRIDS)
def test_the_errors_are_those_of_the_definitions_whatever_the_batches_are(grid):
    u, r = noise(grid)
    found = metrics.PDEBench(grid).add(u[:2], r[:2]).add(u[2:], r[2:]).result()
    assert (found.diverged, found.samples) == (0, SAMPLES)
    expected = by_loops(grid, u, r)
    for name in ("rmse", "nrmse", "crmse", "max_error", "brmse"):
        assert getattr(found.errors, name) == pytest.approx(expected[name], rel=DOUBLE)
        assert found.errors.means()[name] == pytest.approx(expected[name].mean(), rel=DOUBLE)
    assert set(found.errors.frmse) == {band for band in ("low", "mid", "high") if not np.isnan(expected[band]).any()}
    for band, value in found.errors.frmse.items():
        assert value == pytest.approx(expected[band], rel=DOUBLE)
        assert found.errors.means()[f"frmse_{band}"] == pytest.approx(expected[band].mean(), rel=DOUBLE)


@pytest.mark.parametrize("grid", GRIDS)
def test_as_published_batches_are_summed_and_divided_by_one_less(grid):
    u, r = noise(grid)
    found = metrics.PDEBenchAsPublished(grid)
    parts = [slice(0, 2), slice(2, 3), slice(3, 5)]
    for part in parts:
        found = found.add(u[part], r[part])
    errors = found.result()
    batches = [by_loops(grid, u[part], r[part]) for part in parts]
    for name in ("rmse", "nrmse", "crmse", "max_error"):
        assert getattr(errors, name) == pytest.approx(sum(one[name] for one in batches) / 2, rel=DOUBLE)
    if len(grid.shape) == 3:
        assert errors.brmse == pytest.approx(sum(one["merged"][:, 0] for one in batches) / 2, rel=DOUBLE)
    else:
        assert errors.brmse == pytest.approx(sum(one["brmse"] for one in batches) / 2, rel=DOUBLE)
    for band, value in errors.frmse.items():
        assert value == pytest.approx(sum(one[band] for one in batches) / 2, rel=DOUBLE)


def test_a_constant_offset_is_a_conserved_error_of_the_lowest_mode():
    grid = Grid((32,), extent=4.0)
    _, r = noise(grid)
    found = metrics.PDEBench(grid).add(r + 0.5, r).result().errors.means()
    for name in ("rmse", "crmse", "max_error", "brmse"):
        assert found[name] == pytest.approx(0.5, rel=DOUBLE)
    assert found["frmse_low"] == pytest.approx(0.5 * 4 / 4, rel=DOUBLE)  # the mode 0 among four, times the length
    assert found["frmse_mid"] == pytest.approx(0, abs=1e-12)


def test_a_shift_conserves_the_sum():
    grid = Grid((32,))
    x = np.broadcast_to(np.sin(2 * np.pi * grid.points()[0]), (SAMPLES, TIME, CHANNELS, 32))
    found = metrics.PDEBench(grid).add(np.roll(x, 3, -1), x).result().errors.means()
    assert found["crmse"] == pytest.approx(0, abs=1e-12)
    assert found["nrmse"] == pytest.approx(2 * math.sin(2 * np.pi * 3 / 32 / 2), rel=DOUBLE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])  # the square of the last is infinite
def test_a_diverged_sample_is_counted_and_never_averaged_away(bad):
    grid = GRIDS[0]
    u, r = noise(grid)
    u[3, 1, 0, 7] = bad
    found = metrics.PDEBench(grid).add(u[:4], r[:4]).add(u[4:], r[4:]).result()
    assert (found.diverged, found.samples) == (1, SAMPLES)
    assert set(found.errors.means().values()) == {math.inf}
    kept = [0, 1, 2, 4]
    expected = by_loops(grid, u[kept], r[kept])
    for name in ("rmse", "nrmse", "crmse", "max_error", "brmse"):
        assert getattr(found.stayed, name) == pytest.approx(expected[name], rel=DOUBLE)
    assert not np.isfinite(metrics.PDEBenchAsPublished(grid).add(u, r).add(u, r).result().means()["rmse"])
    none = metrics.PDEBench(grid).add(u[3:4], r[3:4]).result()
    assert (none.diverged, none.samples) == (1, 1)
    assert set(none.stayed.means().values()) == {math.inf}


def test_a_truth_of_zero_has_an_infinite_relative_error_and_no_other():
    grid = GRIDS[0]
    u, r = noise(grid)
    r[2, 0, 1] = 0
    found = metrics.PDEBench(grid).add(u, r).result()
    assert found.diverged == 0
    assert np.isinf(found.errors.nrmse).sum() == 1
    assert np.isinf(found.errors.nrmse[0, 1])
    assert np.isfinite(found.errors.rmse).all()
    u[2, 0, 1] = 0
    assert np.isfinite(metrics.PDEBench(grid).add(u, r).result().errors.nrmse).all()


@pytest.mark.parametrize("kind", [metrics.PDEBench, metrics.PDEBenchAsPublished])
def test_what_does_not_fit_is_refused(kind):
    grid = GRIDS[0]
    u, r = noise(grid)
    with pytest.raises(ValueError, match=r"Expected trajectories on the grid \(30,\) of 1 to 3 dimensions, got"):
        kind(Grid((30,))).add(u, r)
    with pytest.raises(ValueError, match=r"Expected \(time, channels\) \(3, 2\) as before, got \(2, 2\)"):
        kind(grid).add(u, r).add(u[:, :2], r[:, :2])
    r[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Expected finite truths, sample 1 has"):
        kind(grid).add(u, r)


def test_a_result_needs_batches():
    grid = GRIDS[0]
    u, r = noise(grid)
    with pytest.raises(ValueError, match="Expected at least one batch of trajectories, got none"):
        metrics.PDEBench(grid).result()
    with pytest.raises(ValueError, match="needs 2 batches, got 1"):
        metrics.PDEBenchAsPublished(grid).add(u, r).result()
