"""What tells one data set from another: a changed value, another order, other types; rows alone of large data."""

import dataclasses

import jax
import numpy as np
import pytest
from trajectory_data import arrays as frames
from trajectory_data import layout, recorded, trajectories

from sciml import data
from sciml.data import _fingerprint


def arrays(count=7):
    rng = np.random.default_rng(0)
    return data.Arrays(rng.normal(size=(count, 3, 5)), rng.integers(0, 9, count))


def test_a_fingerprint_says_what_the_data_are_and_is_that_of_equal_data():
    found = data.fingerprint(arrays())
    assert (found["samples"], found["shapes"], found["dtypes"]) == (7, [[3, 5], []], ["float64", "int64"])
    assert data.fingerprint(arrays()) == found


@pytest.mark.parametrize("change", ["value", "order", "type"])
def test_other_data_have_another_fingerprint(change):
    x, labels = arrays()[:]
    if change == "value":
        x = x.copy()
        x[6, 2, 4] = np.nextafter(x[6, 2, 4], 9)
    elif change == "order":
        x, labels = x[::-1], labels[::-1]
    else:
        x = x.astype(np.float32)
    assert data.fingerprint(data.Arrays(x, labels)) != data.fingerprint(arrays())


def test_of_large_data_equally_spaced_samples_are_hashed(monkeypatch):
    monkeypatch.setattr(_fingerprint, "_WHOLE", 100)  # bytes
    monkeypatch.setattr(_fingerprint, "_ROWS", 3)
    seen = []

    class Recorded(data.Arrays):
        def __getitem__(self, rows):
            seen.append(np.asarray(rows).tolist())
            return super().__getitem__(rows)

    x, labels = arrays(9)[:]
    found = data.fingerprint(Recorded(x, labels))
    assert seen[-1] == [0, 4, 8]
    x = x.copy()
    x[4] += 1
    assert data.fingerprint(data.Arrays(x, labels)) != found


def windows(given, **sizes):
    return data.TrajectoryWindows(given, **sizes)


@pytest.mark.parametrize("whole", [64 << 20, 10_000])
def test_the_fingerprint_of_trajectories_depends_on_values_alone(monkeypatch, whole):
    monkeypatch.setattr(_fingerprint, "_WHOLE", whole)
    monkeypatch.setattr(_fingerprint, "_ROWS", 12)
    found = data.fingerprint(trajectories())
    assert (found["samples"], found["shapes"]) == (13, [[2, 5, 7], [11, 3, 5, 7], [1]])
    assert found["dtypes"] == ["float32"] * 3
    assert data.fingerprint(trajectories((5, 3), paths=("somewhere.h5",))) == found
    for name in ("frames", "fixed", "parameters"):
        values = frames()[name].copy()
        values[0] *= 2
        assert data.fingerprint(trajectories(**{name: values}))["sha256"] != found["sha256"]
    other = dataclasses.replace(layout(), times=None)
    reader = data.InMemory(frames()["frames"], other, fixed=frames()["fixed"], parameters=frames()["parameters"])
    assert data.fingerprint(data.Trajectories(reader))["sha256"] != found["sha256"]


def test_the_fingerprint_of_windows_is_that_of_their_trajectories():
    given = trajectories()
    found = data.fingerprint(windows(given, history=2, horizon=2))
    assert found["shapes"] == [list(a.shape[1:]) for a in jax.tree.leaves(windows(given, history=2, horizon=2)[:1])]
    assert found["samples"] == 13 * 8
    for group in (5000, 10**8):
        assert data.fingerprint(data.Streamed(windows(given, history=2, horizon=2), group=group)) == found
    for sizes in ({"history": 1, "horizon": 3}, {"history": 2, "horizon": 2, "strides": (1, 2)}):
        assert data.fingerprint(windows(given, **sizes))["sha256"] != found["sha256"]


def test_few_frames_of_large_trajectories_are_read(monkeypatch):
    given, frame = trajectories(samples=40), 420
    monkeypatch.setattr(_fingerprint, "_WHOLE", 30 * frame)
    data.fingerprint(windows(given))
    assert recorded(given).read == 30 * frame
    assert recorded(given).largest == frame
    monkeypatch.setattr(_fingerprint, "_WHOLE", 100)
    recorded(given).read = 0
    data.fingerprint(given)
    assert recorded(given).read == 2 * frame  # the first and the last, however large a frame is
