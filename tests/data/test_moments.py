"""Moments against NumPy's in float64, whatever is stored together; the folder that keeps them."""

import itertools
import json

import numpy as np
import pytest
from trajectory_data import CHANNEL, arrays, layout, recorded, trajectories

from sciml import data
from sciml.data import _moments

ROWS = [None, np.array([7, 2, 3, 12])]
BLOCKS = [(1, 1), (1, 4), (5, 3), (2, 11)]


def expected(values, axis):
    others = tuple(i for i in range(values.ndim) if i != axis)
    values = values.astype(np.float64)
    return {
        "mean": values.mean(others),
        "deviation": values.std(others, ddof=1),
        "rms": np.sqrt((values**2).mean(others)),
        "low": values.min(others),
        "high": values.max(others),
    }


@pytest.mark.parametrize(("rows", "block", "stride"), [*itertools.product(ROWS, BLOCKS, [1, 3])])
def test_moments_are_those_of_all_values(monkeypatch, rows, block, stride):
    monkeypatch.setattr(_moments, "_SLAB", 5000 if stride == 1 else 1)
    given = trajectories(block, rows=rows)
    found, values = data.moments(given, stride=stride), given[:]
    frames = values["frames"].astype(np.float64)
    assert found.stride == stride
    for name, array, axis in (
        ("frames", frames, 2),
        ("deltas", frames[:, stride:] - frames[:, :-stride], 2),
        ("fixed", values["fixed"], 1),
        ("parameters", values["parameters"], 1),
    ):
        for moment, value in expected(array, axis).items():
            got = getattr(getattr(found, name), moment)
            np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-13, err_msg=f"{name} {moment}")  # float64 sums


def test_a_large_mean_costs_no_digits():
    frames = 1e6 + np.random.default_rng(1).normal(size=arrays()["frames"].shape)
    reader = data.InMemory(frames, layout(), fixed=arrays()["fixed"], parameters=arrays()["parameters"])
    stored = np.float32(frames).astype(np.float64)
    found = data.moments(data.Trajectories(reader)).frames
    # The textbook formula, the mean square less the squared mean, loses 12 of 16 digits here
    np.testing.assert_allclose(found.deviation, stored.std((0, 1, 3, 4), ddof=1), rtol=1e-9)


def test_components_of_a_vector_share_a_deviation():
    found = data.moments(trajectories()).frames
    pooled = found.by_field(CHANNEL)
    np.testing.assert_array_equal(pooled.mean, found.mean)
    assert pooled.deviation[0] == found.deviation[0]
    for moment in ("deviation", "rms"):
        x, y = getattr(found, moment)[1:]
        np.testing.assert_allclose(getattr(pooled, moment)[1:], np.sqrt((x**2 + y**2) / 2), rtol=1e-15)
        assert x > 5 * y or moment == "rms"  # they differ without it


def test_maps_have_no_differences():
    found = data.moments(trajectories(length=1))
    assert np.isnan(found.deltas.mean).all()
    assert np.isfinite(found.frames.deviation).all()


def test_few_bytes_are_read_at_a_time(monkeypatch):
    monkeypatch.setattr(_moments, "_SLAB", 5000)  # a frame takes 420 bytes
    given = trajectories(samples=40)
    data.moments(given)
    reader = recorded(given)
    assert reader.largest <= 5000 < reader.read < 1.1 * 40 * 11 * 420


def test_values_that_are_not_finite_are_refused():
    given = trajectories()
    recorded(given)._frames[9, 4, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"finite values of frames, got NaN or infinite ones in 1 of .* sample 9"):
        data.moments(given)


def test_a_stride_is_positive():
    with pytest.raises(ValueError, match="Expected a stride of at least 1 frame, got 0"):
        data.moments(trajectories(), stride=0)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A file that counts as large, and the folder for what is kept."""
    monkeypatch.setattr(_moments, "_KEPT", 1000)
    monkeypatch.setenv("SCIML_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data.h5"
    path.write_bytes(b"1")
    return path


def same(one, other):
    for part in ("frames", "deltas", "fixed", "parameters"):
        for moment in ("mean", "deviation", "rms", "low", "high"):
            np.testing.assert_array_equal(getattr(getattr(one, part), moment), getattr(getattr(other, part), moment))


def test_moments_of_large_files_are_kept(kept):
    first, second = trajectories(paths=(str(kept),)), trajectories(paths=(str(kept),), block=(2, 3))
    made = data.moments(first)
    same(made, data.moments(second))
    assert recorded(first).read > recorded(second).read == first.layout.nbytes - 4 * 13 * 2 * 35
    assert len(list((kept.parent / "cache").iterdir())) == 1
    kept.write_bytes(b"12")  # another file may have the same samples where the fingerprint looks
    third = trajectories(paths=(str(kept),))
    same(made, data.moments(third))
    assert recorded(third).read > recorded(second).read


@pytest.mark.parametrize("change", ["stride", "rows", "times", "channels"])
def test_other_selections_are_kept_apart(kept, change):
    given = trajectories(paths=(str(kept),))
    data.moments(given)
    other = {
        "stride": given,
        "rows": given.take(slice(1, None)),
        "times": given.select(times=slice(2, None)),
        "channels": given.select(channels=["v_x", "p", "v_y"]),
    }[change]
    found = data.moments(other, stride=2 if change == "stride" else 1)
    for moment, value in expected(other[:]["frames"], 2).items():
        np.testing.assert_allclose(getattr(found.frames, moment), value, rtol=1e-12)


def test_a_damaged_or_unwritable_folder_is_no_error(kept, monkeypatch):
    given = trajectories(paths=(str(kept),))
    made = data.moments(given)
    (file,) = (kept.parent / "cache").iterdir()
    for text in ("{", json.dumps({"frames": {"mean": [1.0]}}), file.read_text().replace("1", "2", 1)):
        file.write_text(text)
        same(made, data.moments(given))
    monkeypatch.setenv("SCIML_CACHE", str(kept / "inside a file"))
    same(made, data.moments(given))


def test_the_folder_is_that_of_the_system(monkeypatch):
    monkeypatch.delenv("SCIML_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr(_moments.sys, "platform", "linux")
    assert str(_moments._folder()) == "/somewhere/sciml"
    monkeypatch.setattr(_moments.sys, "platform", "darwin")
    assert str(_moments._folder()).endswith("/Library/Caches/sciml")


STATS = """
mean: {p: 1.0, v: [2.0, 3.0], mask: 0.5, depth: 1.5}
std: {p: 10.0, v: [20.0, 30.0], mask: 5.0, depth: 6.0}
rms: {p: 11.0, v: [21.0, 31.0], mask: 7.0, depth: 8.0}
mean_delta: {p: 0.1, v: [0.2, 0.3]}
std_delta: {p: 0.4, v: [0.5, 0.6]}
rms_delta: {p: 0.7, v: [0.8, 0.9]}
"""


def test_published_statistics_are_those_of_the_channels(tmp_path):
    (tmp_path / "stats.yaml").write_text(STATS)
    found = data.from_stats_yaml(tmp_path / "stats.yaml", layout())
    np.testing.assert_array_equal(found.frames.mean, [1, 2, 3])
    np.testing.assert_array_equal(found.frames.deviation, [10, 20, 30])
    np.testing.assert_array_equal(found.frames.rms, [11, 21, 31])
    np.testing.assert_array_equal(found.deltas.deviation, [0.4, 0.5, 0.6])
    np.testing.assert_array_equal(found.fixed.deviation, [5, 6])
    assert found.parameters.mean.shape == (1,)
    assert found.stride == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v: [2.0, 3.0]", "v: [2.0]", r"expected 2 finite numbers for v in mean, got \[2\.0\]"),
        ("p: 10.0, ", "", "expected 1 finite numbers for p in std, got None"),
        ("p: 0.1", "p: .nan", "expected 1 finite numbers for p in mean_delta, got nan"),
        ("p: 0.1", "p: {a: 1}", "expected 1 finite numbers for p in mean_delta, got {'a': 1}"),
        ("rms:", "rms", "expected YAML"),
        (STATS, "[1, 2]", "expected 1 finite numbers for p in mean, got None"),
        ("p: 1.0", "p: !!python/name:os.system", "expected YAML"),
    ],
)
def test_other_statistics_are_refused(tmp_path, old, new, message):
    (tmp_path / "stats.yaml").write_text(STATS.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        data.from_stats_yaml(tmp_path / "stats.yaml", layout())


def test_the_statistics_of_a_file_of_the_well_are_found(published_data):
    folder = published_data / "synthetic" / "well" / "synthetic"
    found = data.from_stats_yaml(folder / "stats.yaml", data.open_data(folder / "data" / "train").layout)
    assert np.isfinite(found.frames.deviation).all()
