import h5py
import numpy as np
import public_formats as made
import pytest

from sciml.data import Hints, open_data
from sciml.grid import Periodic


def test_vorticity_has_the_time_last(tmp_path):
    u, path = made.values(0, 5, 6, 8, 4), tmp_path / "a"
    made.matlab7(path, u=u, a=made.values(1, 5, 6, 8), t=np.arange(1.0, 5.0)[None])
    data = open_data(path)
    np.testing.assert_array_equal(data[:]["frames"], np.moveaxis(u, -1, 1)[:, :, None])
    np.testing.assert_array_equal(
        data.reader.frames(slice(1, 4), slice(0, 4, 3)), np.moveaxis(u, -1, 1)[1:4, ::3, None]
    )
    np.testing.assert_array_equal(data.layout.times, [1, 2, 3, 4])
    assert data.layout.format == "FNO (MATLAB 7.3)"
    assert "header MATLAB 7.3" in data.layout.evidence
    assert data.grid.sides == ((Periodic(), Periodic()),) * 2
    assert data.reader.block == (5, 4)  # samples are the last axis of the file, so that all are read at once


def test_maps(tmp_path):
    a, b = made.values(0, 5, 6, 8), made.values(1, 5, 6, 8)
    for names in (("coeff", "sol"), ("a", "u")):
        path = tmp_path / names[0]
        made.matlab7(path, **dict(zip(names, (a, b), strict=True)))
        data = open_data(path)
        np.testing.assert_array_equal(data.pairs().x, a[:, None])
        np.testing.assert_array_equal(data.pairs().y, b[:, None])


def test_inputs_and_trajectories(tmp_path):
    y, path = made.values(0, 5, 4, 8), tmp_path / "a"
    made.matlab7(path, input=y[:, 0], output=y, visc=0.25, tspan=np.arange(4.0)[:, None], x=np.arange(8.0)[None] / 8)
    data = open_data(path)
    np.testing.assert_array_equal(data[:]["frames"], y[:, :, None])
    assert data.layout.parameters == ("visc",)
    assert data.grid.lengths == (1.0,)


def test_published_parts(tmp_path):
    made.matlab7(tmp_path / "a", a=made.values(0, 1300, 4), u=made.values(1, 1300, 4))
    splits = open_data(tmp_path / "a").layout.splits
    np.testing.assert_array_equal(splits["train"], range(1000))
    np.testing.assert_array_equal(splits["test"], range(1100, 1300))


def test_arrays_with_hints(tmp_path):
    u, c, path = made.values(0, 5, 8, 3, 2), made.values(1, 5, 8), tmp_path / "a"
    made.matlab7(path, state=u, c=c)
    with pytest.raises(ValueError, match=r"--y state --axes sample,"):
        open_data(path)
    data = open_data(path, Hints(x="c", y="state", axes=("sample", "x", "time", "channel")))
    np.testing.assert_array_equal(data[:]["frames"], u.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(data[:]["fixed"], c[:, None])


def test_complex_numbers_and_cells(tmp_path):
    path = tmp_path / "a"
    made.matlab7(path, u=np.ones((5, 6, 4), [("real", "f8"), ("imag", "f8")]), a=made.values(0, 5, 6, 4))
    with pytest.raises(ValueError, match=r"expected real numbers in u, got"):
        open_data(path, Hints(y="u", axes=("sample", "x", "time")))
    with h5py.File(path, "r+") as file:
        file["#refs#/b"] = made.values(1, 9)
    data = open_data(path, Hints(y="a", axes=("sample", "x", "time")))
    assert "Variables that are no arrays of numbers are not read: u." in data.layout.notes or data.layout.samples == 5


def test_a_header_without_data(tmp_path):
    (tmp_path / "a").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600, b"\0"))
    with pytest.raises(ValueError, match=r"to be an HDF5 file"):
        open_data(tmp_path / "a")
