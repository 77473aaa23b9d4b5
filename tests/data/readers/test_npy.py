import io
import json

import numpy as np
import pytest
from reading import assert_reads, opened, values

from sciml.data._readers._npy import FORMAT, MESHES
from sciml.grid import Grid, Neumann, Periodic


def data(tmp_path, array, **hints):
    np.save(tmp_path / "a.npy", array)
    return opened(FORMAT, tmp_path / "a.npy", **hints)


@pytest.mark.parametrize("space", [(16,), (8, 6), (5, 4, 3)])
@pytest.mark.parametrize("order", "CF")
def test_arrays_with_named_axes(tmp_path, space, order):
    array = np.asarray(values(3, 7, *space).astype(">f8"), order=order)
    found = data(tmp_path, array, axes=("sample", "time", *"xyz"[: len(space)]))
    assert_reads(found, array[:, :, None])
    assert isinstance(found.reader._frames[0].array, np.memmap)


@pytest.mark.parametrize("space", [(16,), (8, 6), (5, 4, 3)])
def test_apebench(tmp_path, space):
    array = values(3, 7, 2, *space)
    np.save(tmp_path / "burgers_train.npy", array)
    (tmp_path / "burgers.json").write_text(json.dumps({"name": "burgers", "info": {"domain_extent": 3.0, "dt": 0.5}}))
    found = opened(FORMAT, tmp_path / "burgers_train.npy")
    assert_reads(found, array)
    assert found.grid == Grid(space, 3.0, Periodic())
    np.testing.assert_array_equal(found.layout.times, np.arange(7) / 2)
    assert found.layout.format == "APEBench"
    assert "burgers.json" in found.layout.evidence


def test_a_description_without_numbers(tmp_path):
    np.save(tmp_path / "kdv_test.npy", values(3, 7, 1, 16))
    (tmp_path / "kdv.json").write_text("{}")
    found = opened(FORMAT, tmp_path / "kdv_test.npy")
    assert found.grid == Grid((16,), 1.0, Periodic())
    assert found.layout.times is None
    assert "The description does not tell the extent: it is taken as 1." in found.layout.notes


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_other_descriptions_show_nothing(tmp_path, content):
    np.save(tmp_path / "kdv_test.npy", values(3, 7, 1, 16))
    (tmp_path / "kdv.json").write_text(content)
    with pytest.raises(ValueError, match="expected the axes of kdv_test"):
        opened(FORMAT, tmp_path / "kdv_test.npy")


def test_unlabelled_arrays_need_axes(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.npy: expected the axes of a of shape \(3, 7, 16\) to be known.*--axes sample"
    ):
        data(tmp_path, values(3, 7, 16))
    with pytest.raises(ValueError, match=r"a\.npy: expected the 3 axes of a"):
        data(tmp_path, values(3, 7, 16), axes=("sample", "x"))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_no_code_runs(tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match=r"a\.npy: expected a plain NumPy array, but it is made of Python objects"):
        data(tmp_path, np.array([Payload(str(trace))], dtype=object))
    assert not trace.exists()


def header(shape, kind="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((3, 8)) + bytes(95), r"it declares float32 of shape \(3, 8\), 96 bytes, and holds 95"),
        (header((3, 8)) + bytes(97), "96 bytes, and holds 97"),
        (header((2**40, 2**40)) + bytes(96), "and holds 96"),
        (header((-3, 8)) + bytes(96), "declares"),
        (header((3, 8))[:40], "expected a plain NumPy array, but"),
        (b"\x93NUMPY", "expected a plain NumPy array, but"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "version"),
        (header((0, 8)), "expected values in a, got none"),
        (header((3, 8), "<c8") + bytes(192), "expected real numbers in a, got complex64"),
        (header((3, 8), "<U4") + bytes(384), "expected real numbers in a"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        opened(FORMAT, tmp_path / "a.npy", axes=("sample", "x"))
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "a.npy") in str(raised.value)


def test_nan_is_refused_when_it_is_read(tmp_path):
    array = values(3, 16)
    array[1, 5] = np.inf
    with pytest.raises(ValueError, match="the first is sample 1"):
        data(tmp_path, array, axes=("sample", "x"))[:]


def meshes(folder, *, channels=5, name="NACA_Cylinder", samples=3):
    x, y, q = values(3, 9, 4), values(3, 9, 4, seed=1), values(samples, channels, 9, 4, seed=2)
    for part, array in zip("XYQ", (x, y, q), strict=True):
        np.save(folder / f"{name}_{part}.npy", array)
    return x, y, q


def test_meshes(tmp_path):
    x, y, q = meshes(tmp_path)
    found = opened(MESHES, tmp_path)
    assert_reads(found, q[:, None], np.stack([x, y], axis=1))
    assert [one.name for one in found.layout.channels] == ["Q_0", "Q_1", "Q_2", "Q_3", "mach"]
    assert found.grid == Grid((9, 4), 1.0, Neumann(0.0))
    assert "The published benchmark predicts the channel mach alone." in found.layout.notes
    np.testing.assert_array_equal(found.select(channels=["mach"])[:]["frames"][:, 0, 0], q[:, 4])


def test_meshes_with_fewer_channels(tmp_path):
    _, _, q = meshes(tmp_path, channels=2, name="Pipe")
    found = opened(MESHES, tmp_path)
    np.testing.assert_array_equal(found[:]["frames"][:, 0], q)
    assert [one.name for one in found.layout.channels] == ["Q_0", "Q_1"]


def test_meshes_of_other_shapes_are_refused(tmp_path):
    meshes(tmp_path, samples=4)
    with pytest.raises(ValueError, match=r"expected X and Y of one shape \(sample, x, y\) and Q.*got \(3, 9, 4\)"):
        opened(MESHES, tmp_path)


def test_clouds_of_points_are_refused(tmp_path):
    np.save(tmp_path / "Random_UnitCell_XY_10.npy", values(20, 2, 3))
    np.save(tmp_path / "Random_UnitCell_sigma_10.npy", values(20, 3))
    with pytest.raises(
        ValueError, match=r"expected fields on a grid, got clouds of points.*Interpolate them to a grid"
    ):
        opened(MESHES, tmp_path)
