"""The points of a box of the grid alone: the values of whole fields, and no more of a file is read."""

import h5py
import numpy as np
import public_formats as made
import pytest
from reading import assert_reads_boxes, values
from trajectory_data import CHANNELS, FRAMES, SAMPLES, X, Y, trajectories

from sciml import data
from sciml.grid import Grid
from sciml.pdes import Darcy, FitzHughNagumo

BOX = (slice(1, 3), slice(2, 7))


def cut(array, box=BOX):
    return array[(..., *box)]


def equal(found, expected, box=BOX):
    """Fields are cut, other arrays are not."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], cut(array, box) if name in ("frames", "fixed") else array)


FILES = {
    "single": lambda path: made.single(path, space=(7, 6)),
    "darcy": made.darcy,
    "flow": lambda path: made.flow(path, space=(7, 5), chunks=(1, 2, 4, 3)),
    "grouped": lambda path: made.grouped(path, space=(7, 4), channels=2),
    "incompressible": made.incompressible,
    "arena": made.arena,
    "well": made.well,
    "vorticity": lambda path: made.matlab7(path, u=values(5, 6, 8, 4), t=np.arange(1.0, 5.0)[None]),
    "maps": lambda path: made.matlab7(path, coeff=values(5, 6, 8), sol=values(5, 6, 8)),
    "before": lambda path: made.matlab7(path, input=values(5, 8), output=values(5, 4, 8, seed=1)),
    "pairs": lambda path: data.generate(Darcy(resolution=8), path, n=3, seed=0),
    "frames": lambda path: data.generate(FitzHughNagumo(resolution=8, frames=2, interval=0.02), path, n=3, seed=0),
    "converted": lambda path: data.convert(trajectories(), path),
}


@pytest.mark.parametrize("name", FILES)
def test_boxes_of_hdf5_files(tmp_path, name):
    FILES[name](tmp_path / "a.h5")
    found = data.open_data(tmp_path / "a.h5")
    assert_reads_boxes(found, found[:])


def test_boxes_of_a_folder_of_files(tmp_path):
    for name in ("a", "b"):
        made.single(tmp_path / f"{name}.h5", space=(7, 6), samples=3)
    found = data.open_data(tmp_path)
    assert_reads_boxes(found, found[:])


@pytest.mark.parametrize("block", [(1, 1), (5, 3)])
def test_boxes_of_trajectories_and_windows(block):
    given = trajectories(block, rows=np.array([7, 2, 3, 12, 4]))
    rows = np.array([4, 0, 1, 1])
    equal(given.part(rows, BOX), given[rows])
    assert_reads_boxes(given, given[:])
    some = given.select(times=slice(1, 9, 3), channels=["v_y", "p"])
    equal(some.part(rows, BOX), some[rows])
    windows = data.TrajectoryWindows(given, history=2, horizon=1, strides=(1, 2))
    rows = np.array([11, 3, 3, 40])
    equal(windows.part(rows, BOX), windows[rows])
    source = windows.source()
    equal(windows.source_part(slice(1, 4), BOX), {name: array[1:4] for name, array in source.items()})
    equal(windows.fetch(windows.source_part(slice(None), BOX), windows.item(rows)), windows[rows])
    streamed = data.Streamed(windows, group=12_000)
    for k in (0, 3):
        rows = streamed.batch_rows(6, 1, k)
        equal(streamed.part(rows, BOX), windows[rows])
    equal(streamed[rows], windows[rows], (slice(None),) * 2)  # what is held of boxes is not taken for whole fields


def test_boxes_of_pairs_are_views_where_rows_are():
    x, y = values(6, 2, 5, 7), values(6, 1, 5, 7, seed=1)
    pairs, rows = data.Pairs(x, y, grid=Grid((5, 7))), np.array([3, 0])
    for found, whole in zip(pairs.part(rows, BOX), pairs[rows], strict=True):
        np.testing.assert_array_equal(found, cut(whole))
    for found, whole in zip(pairs.part(slice(2, 4), BOX), (x, y), strict=True):
        assert np.shares_memory(found, whole)
    frames = values(3, 9, 2, 5, 7)
    windows = data.Windows(frames, history=3, horizon=2)
    for found, whole in zip(windows.part(rows, BOX), windows[rows], strict=True):
        np.testing.assert_array_equal(found, cut(whole))


def test_no_rows_read_nothing():
    given = trajectories()
    windows = data.TrajectoryWindows(given)
    streamed = data.Streamed(windows)
    streamed.batch_rows(4, 0, 0)  # asks to read ahead
    nothing, box = np.zeros(0, int), (slice(0, X), slice(0, Y))
    for known in (given, windows, streamed):
        found = known.part(nothing, box)
        assert found["frames"].shape[2:] == (CHANNELS, X, Y)
        assert found["parameters"].shape == (0, 1)
    assert given.reader.calls == []


@pytest.mark.parametrize(
    "box", [BOX[:1], (slice(0, 6), slice(0, 7)), (slice(2, 2), slice(0, 7)), (slice(0, 4, 2),) * 2]
)
def test_a_box_outside_of_the_grid_is_refused(box):
    with pytest.raises(ValueError, match=r"a slice with a start and a stop for each axis of the grid \(5, 7\), got"):
        trajectories().part(np.arange(2), box)


@pytest.fixture
def asked(monkeypatch):
    """Bytes of each array that h5py has read."""
    read, found = h5py.Dataset.__getitem__, []

    def counted(self, index, **rest):
        values = read(self, index, **rest)
        found.append(np.asarray(values).nbytes)
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    return found


def test_a_file_is_asked_for_the_points_of_a_box_alone(tmp_path, asked):
    data.convert(trajectories(), tmp_path / "a.h5")
    found = data.open_data(tmp_path / "a.h5")
    fields, points = 4 * SAMPLES * (FRAMES * CHANNELS + 2), 2 * 5
    for known in (found, data.Streamed(data.TrajectoryWindows(found))):
        asked.clear()
        known.part(np.arange(len(known)), BOX)
        assert sum(asked) == fields * points + 4 * SAMPLES  # and one parameter of each sample
    made.flow(tmp_path / "b.h5", space=(X, Y), chunks=(1, 4, 1, 7))
    found = data.open_data(tmp_path / "b.h5")
    asked.clear()
    found.part(slice(None), BOX)
    assert sum(asked) == 4 * 3 * 4 * 4 * points  # 4 channels of 3 samples with 4 frames


def test_chunks_of_a_zarr_store_outside_of_the_box_are_not_read(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("zarr")
    u = values(3, 4, 6, 8)
    known = xarray.Dataset({"u": (("sample", "time", "x", "y"), u)})
    known.to_zarr(tmp_path / "a", zarr_format=3, consolidated=False, encoding={"u": {"chunks": (3, 4, 3, 4)}})
    found = data.open_data(tmp_path / "a")
    for chunk in (tmp_path / "a" / "u" / "c" / "0" / "0").rglob("*"):
        if chunk.is_file() and chunk.relative_to(tmp_path / "a" / "u").parts[-2:] != ("1", "0"):
            chunk.write_bytes(b"no chunk")
    part = found.part(np.array([2, 0]), (slice(3, 6), slice(1, 4)))
    np.testing.assert_array_equal(part["frames"], u[[2, 0], :, None, 3:, 1:4])
    with pytest.raises(ValueError, match="a part could not be read"):
        found.part(np.array([2, 0]), (slice(2, 6), slice(1, 4)))
