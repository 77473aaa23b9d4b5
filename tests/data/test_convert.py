"""Converted files: equal in every bit, described completely, a bounded part in memory, whatever was given."""

import dataclasses

import h5py
import numpy as np
import pytest
from trajectory_data import arrays, layout, recorded, trajectories

from sciml import data
from sciml.data import _convert
from sciml.files import Damaged, write_hdf5
from sciml.grid import Dirichlet, Grid, Neumann, Periodic

GRIDS = [Grid((5, 7), (1.0, 0.3)), Grid((5, 7), (2.0, 1.0), (Periodic(0.5), (Dirichlet(0.0), Neumann(0.5))))]


def given(grid=GRIDS[0], block=(1, 1), rows=None, **changed):
    reader = recorded(trajectories(block))
    reader.layout = dataclasses.replace(layout(), grid=grid, **changed)
    return data.Trajectories(reader, rows=rows)


def same(found, expected):
    for name, array in expected[:].items():
        assert found[:][name].dtype == np.float32
        np.testing.assert_array_equal(found[:][name], array)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("slab", [1, 5000, 2**25])
def test_a_converted_file_is_equal_in_every_bit(tmp_path, monkeypatch, grid, slab):
    monkeypatch.setattr(_convert, "_SLAB", slab)
    made = given(grid, block=(5, 3))
    data.convert(made, tmp_path / "fast.h5")
    found = data.open_data(tmp_path / "fast.h5")
    same(found, made)
    for field in ("samples", "frames", "channels", "fixed", "parameters"):
        assert getattr(found.layout, field) == getattr(made.layout, field), field
    assert (found.grid.shape, found.grid.lengths, found.grid.sides) == (grid.shape, grid.lengths, grid.sides)
    assert found.layout.times.tobytes() == made.layout.times.tobytes()
    assert found.layout.splits.keys() == made.layout.splits.keys() == {"train", "test"}
    for part, rows in made.layout.splits.items():
        np.testing.assert_array_equal(found.layout.splits[part], rows)
    assert found.layout.notes == (*made.layout.notes, "Converted from arrays.")
    assert found.layout.format == "sciml trajectories"
    assert data.fingerprint(found) == data.fingerprint(made)
    data.convert(found, tmp_path / "again.h5")
    assert data.open_data(tmp_path / "again.h5").layout.notes == found.layout.notes


def test_any_frames_are_read_alone(tmp_path):
    data.convert(given(), tmp_path / "fast.h5")
    found, values = data.open_data(tmp_path / "fast.h5"), given()[:]["frames"]
    samples, times = np.array([3, 4, 0]), np.array([[1, 3, 5], [1, 3, 5], [10, 10, 10]])
    times[2] = [0, 5, 10]
    np.testing.assert_array_equal(found.frames(samples, times), values[samples[:, None], times])
    windows = data.TrajectoryWindows(found, history=2, horizon=1)
    streamed = data.Streamed(windows, group=10_000)
    rows = streamed.batch_rows(6, 0, 3)
    np.testing.assert_array_equal(streamed[rows]["frames"], windows[rows]["frames"])


def test_a_selection_is_written_in_its_order(tmp_path):
    made = dataclasses.replace(given(rows=np.array([9, 3, 4, 12, 0])), place=Grid((5, 7), 1.0, Neumann()))
    made = made.select(times=slice(1, None, 3), every=2, channels=["v_y", "p"])
    data.convert(made, tmp_path / "part.h5")
    found = data.open_data(tmp_path / "part.h5")
    same(found, made)
    assert found.layout.splits == {}
    assert [one.name for one in found.layout.channels] == ["v_y", "p"]


def test_what_there_is_none_of_is_left_out(tmp_path):
    plain = dataclasses.replace(layout(), fixed=(), parameters=(), times=None, splits={}, notes=())
    data.convert(data.Trajectories(data.InMemory(arrays()["frames"], plain)), tmp_path / "plain.h5")
    found = data.open_data(tmp_path / "plain.h5")
    assert found[:2]["fixed"].shape == (2, 0, 5, 7)
    assert found[:2]["parameters"].shape == (2, 0)
    assert found.layout.times is None
    with h5py.File(tmp_path / "plain.h5") as file:
        assert sorted(file) == ["frames", "x1", "x2"]


def test_few_bytes_are_read_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_convert, "_SLAB", 5000)
    made = given()
    data.convert(made, tmp_path / "fast.h5")
    assert recorded(made).largest <= 5000
    assert recorded(made).read == made.layout.samples * made.layout.frames * 420  # every value once


def test_other_programs_read_it(tmp_path):
    data.convert(given(), tmp_path / "fast.h5")
    with h5py.File(tmp_path / "fast.h5") as file:
        frames = file["frames"]
        assert isinstance(frames, h5py.Dataset)
        np.testing.assert_array_equal(frames[:], given()[:]["frames"])
        assert [one.label for one in frames.dims] == ["sample", "time", "channel", "x1", "x2"]
        np.testing.assert_allclose(frames.dims[4][0][:], GRIDS[0].points()[1])
        assert frames.chunks is None


def test_a_file_that_is_there_is_kept(tmp_path):
    data.convert(given(), tmp_path / "fast.h5")
    before = (tmp_path / "fast.h5").read_bytes()
    with pytest.raises(FileExistsError, match=r"fast\.h5 exists and is kept"):
        data.convert(given(rows=np.arange(3)), tmp_path / "fast.h5")
    assert (tmp_path / "fast.h5").read_bytes() == before
    data.convert(given(rows=np.arange(3)), tmp_path / "fast.h5", overwrite=True)
    assert len(data.open_data(tmp_path / "fast.h5")) == 3


def test_a_bad_value_leaves_no_file(tmp_path):
    made = given()
    recorded(made)._frames[7, 3, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="the first is sample 7"):
        data.convert(made, tmp_path / "fast.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_bit_is_found(tmp_path):
    path = tmp_path / "fast.h5"
    data.convert(given(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"fast\.h5 is truncated or damaged"):
        data.open_data(path)


def edited(path, change):
    """A file with a change that has a digest again."""
    with h5py.File(path) as old, write_hdf5(path.with_name("edited.h5"), overwrite=True) as new:
        new.attrs.update(dict(old.attrs))
        for name in old:
            old.copy(name, new)
        change(new)
    return path.with_name("edited.h5")


def replaced(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.update(version=2), "expected version 1, got 2"),
        (lambda file: file.attrs.update(layout="{}"), "missing required field `grid`"),
        (lambda file: file.attrs.update(layout="{"), "expected JSON"),
        (lambda file: file.__delitem__("frames"), "expected the data set frames, got none"),
        (lambda file: file.__delitem__("fixed"), "expected the data set fixed, got none"),
        (replaced("frames", np.zeros((13, 11, 2, 5, 7), np.float32)), r"expected frames of shape \(None, None, 3, 5"),
        (replaced("parameters", np.zeros((13, 1))), "expected parameters of float32, got float64"),
        (replaced("times", np.zeros(11)), "Expected 11 increasing times"),
        (replaced("splits/train", np.array([99])), "Expected rows 0 to 12"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path, change, message):
    data.convert(given(), tmp_path / "fast.h5")
    with pytest.raises(ValueError, match=rf"is no file of `sciml data convert`: .*{message}.*Convert the data again"):
        data.open_data(edited(tmp_path / "fast.h5", change))


def test_a_file_without_digest_is_refused(tmp_path):
    data.convert(given(), tmp_path / "fast.h5")
    with h5py.File(tmp_path / "fast.h5") as old, h5py.File(tmp_path / "bare.h5", "w") as new:
        new.attrs.update(dict(old.attrs))
        for name in old:
            old.copy(name, new)
    with pytest.raises(ValueError, match="expected the digest that each of them begins with, got none"):
        data.open_data(tmp_path / "bare.h5")
