"""Trajectories of any source, and their windows, against plain indexing of arrays."""

import numpy as np
import pytest

from sciml import data
from sciml.data import Channel, InMemory, Layout, Trajectories, TrajectoryWindows, Windows, split, subsample
from sciml.grid import Dirichlet, Grid, Neumann, Periodic

SAMPLES, FRAMES, CHANNELS, NX, NY, FIXED = 5, 9, 2, 8, 6, 1
TIMES = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 5.0])
FIELDS = np.random.default_rng(0).normal(size=(SAMPLES, FRAMES, CHANNELS, NX, NY)).astype(np.float32)
COEFFICIENT = np.random.default_rng(1).normal(size=(SAMPLES, FIXED, NX, NY)).astype(np.float32)
VISCOSITY = np.linspace(0.1, 0.5, SAMPLES, dtype=np.float32)[:, None]


def layout(**changes):
    known = {
        "format": "arrays",
        "evidence": "they were given",
        "samples": SAMPLES,
        "frames": FRAMES,
        "channels": (Channel("u"), Channel("v")),
        "grid": Grid((NX, NY)),
        "times": TIMES,
        "fixed": (Channel("a"),),
        "parameters": ("nu",),
        "splits": {"train": np.arange(3), "test": np.arange(3, 5)},
    }
    return Layout(**{**known, **changes})


def made(**changes):
    return Trajectories(InMemory(FIELDS, layout(**changes), fixed=COEFFICIENT, parameters=VISCOSITY))


def test_whole_samples_are_the_arrays():
    found = made()[[4, 0]]
    np.testing.assert_array_equal(found["frames"], FIELDS[[4, 0]])
    np.testing.assert_array_equal(found["fixed"], COEFFICIENT[[4, 0]])
    np.testing.assert_array_equal(found["parameters"], VISCOSITY[[4, 0]])
    assert made().layout.splits.keys() == {"train", "test"}


def test_selections_are_slices_of_the_arrays():
    found = made().take([4, 2, 3]).select(times=slice(1, None, 3), channels=["v"]).select(every=2)
    np.testing.assert_array_equal(found[:]["frames"], FIELDS[[4, 2, 3], 1::3][:, :, 1:, ::2, ::2])
    np.testing.assert_array_equal(found[:]["fixed"], COEFFICIENT[[4, 2, 3], :, ::2, ::2])
    assert found.layout.times.tolist() == TIMES[1::3].tolist()
    assert found.grid == Grid((NX // 2, NY // 2))
    assert found.layout.splits == {}  # rows of all samples, which are no longer there
    again = found.select(times=slice(1, 3))
    np.testing.assert_array_equal(again[:]["frames"], FIELDS[[4, 2, 3]][:, [4, 7], 1:, ::2, ::2])
    np.testing.assert_array_equal(found.in_memory()[:]["frames"], found[:]["frames"])


def test_parts_and_thinned_trajectories():
    first, rest = split(made(), (2, 3), seed=3)
    assert sorted([*first.rows, *rest.rows]) == list(range(SAMPLES))
    np.testing.assert_array_equal(rest[:]["frames"], FIELDS[rest.rows])
    np.testing.assert_array_equal(subsample(made(), 2)[1:2]["frames"], FIELDS[1:2, :, :, ::2, ::2])


@pytest.mark.parametrize(("history", "horizon", "strides"), [(1, 1, (1,)), (2, 3, (1,)), (1, 2, (1, 3))])
def test_windows_are_runs_of_frames(history, horizon, strides):
    windows = TrajectoryWindows(made(), history=history, horizon=horizon, strides=strides)
    expected = [
        (sample, start + stride * np.arange(history + horizon))
        for sample in range(SAMPLES)
        for stride in strides
        for start in range(FRAMES - (history + horizon - 1) * stride)
    ]
    assert len(windows) == len(expected)
    order = np.random.default_rng(2).permutation(len(windows))
    found = windows[order]
    np.testing.assert_array_equal(found["frames"], [FIELDS[expected[i][0], expected[i][1]] for i in order])
    np.testing.assert_array_equal(found["fixed"], [COEFFICIENT[expected[i][0]] for i in order])
    np.testing.assert_array_equal(found["parameters"], [VISCOSITY[expected[i][0]] for i in order])
    steps = [(TIMES[expected[i][1][-1]] - TIMES[expected[i][1][0]]) / (history + horizon - 1) for i in order]
    np.testing.assert_allclose(found["dt"], steps, rtol=1e-7)  # float32


def test_without_times_a_step_is_a_number_of_frames():
    windows = TrajectoryWindows(made(times=None), history=1, horizon=1, strides=(2,))
    assert set(windows[:]["dt"]) == {2.0}


def test_a_map_is_a_window_without_history():
    known = layout(frames=1, times=None)
    trajectories = Trajectories(InMemory(FIELDS[:, :1], known, fixed=COEFFICIENT, parameters=VISCOSITY))
    batch = TrajectoryWindows(trajectories, history=0, horizon=1)[[2]]
    np.testing.assert_array_equal(batch["frames"], FIELDS[[2], :1])
    assert batch["dt"] == 1
    pairs = trajectories.pairs()
    np.testing.assert_array_equal(pairs.x, COEFFICIENT)
    np.testing.assert_array_equal(pairs.y, FIELDS[:, 0])
    assert (pairs.inputs, pairs.outputs) == (("a",), ("u", "v"))


def test_windows_of_arrays_take_trajectories():
    x, y = Windows(made(), history=2)[[3]]
    np.testing.assert_array_equal(x, FIELDS[:1, 3:5].reshape(1, 4, NX, NY))
    np.testing.assert_array_equal(y, FIELDS[:1, 5])


def test_windows_are_split_between_trajectories():
    windows = TrajectoryWindows(made(), history=1, horizon=1)
    first, rest = split(windows, (2, 3), seed=None)
    np.testing.assert_array_equal(rest[:]["frames"], windows[2 * windows.of_each :]["frames"])
    assert len(first) == 2 * windows.of_each


def test_neighbouring_samples_are_read_at_once():
    trajectories, calls = made(), []
    inner = trajectories.reader.frames
    trajectories.reader.frames = lambda samples, times: calls.append((samples, times)) or inner(samples, times)
    windows = TrajectoryWindows(trajectories, history=1, horizon=1)
    rows = np.array([0, windows.of_each, 2 * windows.of_each, 4])  # frame 0 of samples 0 to 2, frame 4 of sample 0
    found = windows[rows]
    assert calls == [(slice(0, 3), slice(0, 2, 1)), (slice(0, 1), slice(4, 6, 1))]
    np.testing.assert_array_equal(found["frames"][3], FIELDS[0, 4:6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "Expected at least 1 sample, frame and channel, got 0 samples, 9 frames and 2 channels"),
        ({"channels": (Channel("u"), Channel("u"))}, "Expected different names of channels, got u twice"),
        ({"times": np.zeros(FRAMES)}, "Expected 9 increasing times, one for each frame, got 9 of which 8 do not"),
        ({"times": np.arange(4.0)}, "Expected 9 increasing times, one for each frame, got 4"),
        ({"splits": {"train": np.array([5])}}, "Expected rows 0 to 4 of train, validation or test, got train"),
        ({"splits": {"other": np.array([1])}}, "got other"),
    ],
)
def test_layouts_that_contradict_themselves(change, message):
    with pytest.raises(ValueError, match=message):
        layout(**change)


def test_bad_values_and_choices():
    bad = FIELDS.copy()
    bad[3, 2, 1] = np.nan
    with pytest.raises(
        ValueError,
        match="Expected finite values of frames, got NaN or infinite ones in 1 of 5 samples, the first is sample 3",
    ):
        InMemory(bad, layout(fixed=(), parameters=()))
    with pytest.raises(ValueError, match=r"Expected fixed of shape \(5, 1, 8, 6\) for this layout, got \(5, 0, 8, 6\)"):
        InMemory(FIELDS, layout())
    with pytest.raises(ValueError, match="Expected channels of u, v, got w"):
        made().select(channels=["w"])
    with pytest.raises(ValueError, match="Expected rows from 0 to 4, got 0 to 7"):
        Trajectories(made().reader, rows=np.array([0, 7]))
    with pytest.raises(ValueError, match="Expected frames from 0 to 8 in their order, got range"):
        Trajectories(made().reader, times=range(3, 12))
    with pytest.raises(ValueError, match="A window needs history >= 0, horizon >= 1 and strides >= 1"):
        TrajectoryWindows(made(), horizon=0)
    with pytest.raises(
        ValueError, match="History 1 and horizon 2 with stride 5 need 11 frames, the trajectories have 9"
    ):
        TrajectoryWindows(made(), horizon=2, strides=(1, 5))
    with pytest.raises(ValueError, match="Expected fixed fields and a single frame, got 1 fixed fields and 9 frames"):
        made().pairs()
    with pytest.raises(ValueError, match="Expected a channel with a name and rank 0, 1 or 2, got 'u' of 3"):
        Channel("u", rank=3)


@pytest.mark.parametrize(
    ("points", "periodic", "length", "sides"),
    [
        ((np.arange(10) + 0.5) / 10, True, 1.0, Periodic(0.5)),
        (np.arange(10) / 10, True, 1.0, Periodic(0.0)),
        (np.linspace(-2.5, 2.5, 11), False, 5.0, Neumann(0.0)),
        ((np.arange(10) + 0.5) / 10, False, 1.0, Neumann(0.5)),
    ],
)
def test_the_grid_of_coordinates(points, periodic, length, sides):
    grid, even = data.uniform([points], [periodic])
    assert even
    assert grid.sides == ((sides, sides),)
    np.testing.assert_allclose(grid.lengths, [length], rtol=1e-12)  # rounding of a sum of spacings


def test_coordinates_that_are_not_uniform_are_told():
    points = np.cos(np.linspace(np.pi, 0, 9))  # Chebyshev points
    grid, even = data.uniform([points, np.arange(4.0)], [False, False])
    assert not even
    assert grid.shape == (9, 4)
    with pytest.raises(ValueError, match="Expected increasing coordinates along axis 1"):
        data.uniform([points, np.array([0.0, 2.0, 1.0])], [False, False])


def test_thinned_walls_stay():
    whole = Grid((9,), 1.0, ((Dirichlet(0.0), Dirichlet(1.0)),))
    found = Trajectories(
        InMemory(FIELDS[:1, :1, :1, 0, :1].repeat(9, axis=3), Layout("a", "b", 1, 1, (Channel("u"),), whole))
    )
    np.testing.assert_allclose(found.select(every=4).grid.points()[0], whole.points()[0][::4], rtol=1e-12)
