import concurrent.futures
import importlib.util
import pathlib
import shutil
import subprocess
import sys

import h5py
import numpy as np
import public_formats as made
import pytest

from sciml.data import Hints, describe_data, open_data
from sciml.data._readers import _files
from sciml.files import Damaged
from sciml.grid import Neumann, Periodic


def test_files_of_equal_contents_are_one_data_set(tmp_path):
    for number in range(3):
        made.incompressible(tmp_path / f"made-{number}.h5", samples=2 + number, seed=10 * number)
    shutil.copy(tmp_path / "made-1.h5", tmp_path / "made-7.h5")
    data = open_data(tmp_path)
    assert len(data) == 2 + 3 + 4
    assert f"{tmp_path.name}/made-7.h5 is a copy of {tmp_path.name}/made-1.h5 and left out." in data.layout.notes
    with h5py.File(tmp_path / "made-2.h5") as file:
        np.testing.assert_array_equal(data[5:]["frames"][:, :, 2], file["particles"][..., 0])
        np.testing.assert_array_equal(data[5:]["fixed"], np.moveaxis(file["force"][:], -1, 1))
    assert data.layout.evidence == "3 HDF5 files, the first with data sets velocity, particles, force, t"


def test_parameters_of_files_vary_between_their_samples(tmp_path):
    for number, nu in enumerate((0.5, 0.25)):
        made.single(tmp_path / f"{number}.h5", samples=10 + number, attributes={"Nu": nu})
    data = open_data(tmp_path)
    np.testing.assert_array_equal(data[:]["parameters"][:, 0], [0.5] * 10 + [0.25] * 11)
    np.testing.assert_array_equal(data.layout.splits["test"], [0, 10])  # the first tenth of each


def test_groups_of_several_files(tmp_path):
    for number in range(2):
        made.grouped(tmp_path / f"{number}.h5", samples=3 + number, config=f"v: {number}{{i}}")
    data = open_data(tmp_path)
    assert data.layout.shape == (7, 5, 1, 7)
    np.testing.assert_array_equal(data[:]["parameters"][:, 0], [0, 1, 2, 10, 11, 12, 13])
    np.testing.assert_array_equal(data[2:5]["frames"][2, :, 0], made.values(1, 5, 7, 1)[..., 0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda path: made.single(path, frames=6), "expected the sizes of .*0.h5, got others"),
        (lambda path: made.single(path, attributes={"beta": 1.0}), "expected the parameters of .*0.h5, got others"),
        (made.flow, "expected PDEBench .single array. as in the other files"),
    ],
)
def test_files_of_unequal_contents(tmp_path, other, message):
    made.single(tmp_path / "0.h5")
    other(tmp_path / "1.h5")
    with pytest.raises(ValueError, match=message):
        open_data(tmp_path)


def test_boundaries_that_differ_between_files_are_walls(tmp_path):
    for number in range(2):
        made.single(tmp_path / f"{number}.h5", space=(32,))
        with h5py.File(tmp_path / f"{number}.h5", "r+") as file:
            x = file["x-coordinate"][:]
            file["tensor"][:] = x if number else np.sin(np.pi * x)
    data = open_data(tmp_path)
    assert isinstance(data.grid.sides[0][0], Neumann)
    assert "The boundaries along x differ between files: they are taken as walls." in data.layout.notes


def opened(folder):
    """Number of files of a folder that this process has open."""
    held = pathlib.Path("/proc/self/fd")
    if not held.is_dir():
        pytest.skip("there is no /proc")
    return sum(one.resolve().parent == folder.resolve() for one in held.iterdir())


def test_few_files_are_open_at_once(tmp_path):
    many = 20
    for number in range(many):
        made.single(tmp_path / f"{number:02d}.h5", samples=2, attributes={"n": number})
    data = open_data(tmp_path)
    data[:]
    assert opened(tmp_path) == _files._MOST_FILES
    np.testing.assert_array_equal(data[::2]["parameters"][:, 0], range(many))
    del data
    assert opened(tmp_path) == 0
    made.flow(tmp_path / "99.h5")
    with pytest.raises(ValueError, match="expected PDEBench"):
        open_data(tmp_path)
    assert opened(tmp_path) == 0


def plain(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def test_plain_arrays_need_names_of_axes(tmp_path):
    path, u = tmp_path / "a.h5", made.values(0, 5, 3, 8, 2)
    plain(path, field=u, c=made.values(1, 5, 8), t=np.array([0.0, 1, 3]))
    with pytest.raises(ValueError, match=r"got field \(5, 3, 8, 2\), .*--y field --axes|got .*--y field --axes"):
        open_data(path)
    with pytest.raises(ValueError, match=r"expected the arrays .*got the name none"):
        open_data(path, Hints(y="none"))
    with pytest.raises(ValueError, match=r"axes of field of shape .5, 3, 8, 2. to be known.*--axes sample"):
        open_data(path, Hints(y="field"))
    data = open_data(path, Hints(x="c", y="field", axes=("sample", "time", "x", "channel")))
    np.testing.assert_array_equal(data[:]["frames"], np.moveaxis(u, -1, 2))
    np.testing.assert_array_equal(data[:]["fixed"][:, 0], made.values(1, 5, 8))
    np.testing.assert_array_equal(data.layout.times, [0, 1, 3])


def test_hints_go_before_the_names_of_arrays(tmp_path):
    made.single(tmp_path / "a", samples=6, frames=5, space=(7,))
    data = open_data(tmp_path / "a", Hints(y="tensor", axes=("time", "sample", "x")))
    assert data.layout.shape == (5, 6, 1, 7)
    made.single(tmp_path / "folder.h5")
    (tmp_path / "folder").mkdir()
    made.single(tmp_path / "folder" / "a")
    with pytest.raises(ValueError, match=r"expected no names of arrays or axes.*got tensor, time, sample, x"):
        open_data(tmp_path / "folder", Hints(y="tensor", axes=("time", "sample", "x")))


def test_two_formats_that_fit(tmp_path):
    made.single(tmp_path / "a")
    with h5py.File(tmp_path / "a", "r+") as file:
        file["0001/data"] = made.values(0, 5, 7, 1)
    with pytest.raises(ValueError, match=r"got 2 that fit: PDEBench .single.*; PDEBench .a group.*--axes"):
        open_data(tmp_path / "a")
    data = open_data(tmp_path / "a", Hints(y="tensor", axes=("sample", "time", "x")))
    assert data.layout.shape == (12, 5, 1, 7)


def test_what_is_no_data(tmp_path):
    (tmp_path / "a").write_text("text")
    for path, what in ((tmp_path / "a", "a file of the kind other, 4 bytes"), (tmp_path, "a folder of 1 entries: a")):
        with pytest.raises(ValueError, match=f"expected data of a known format .PDEBench.*got {what}"):
            open_data(path)
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder"):
        open_data(tmp_path / "missing")
    plain(tmp_path / "b", text=np.array([b"a", b"b"]))
    with pytest.raises(ValueError, match=r"expected frames with at least .*, got text of shape"):
        open_data(tmp_path / "b")
    plain(tmp_path / "c")
    with pytest.raises(ValueError, match=r"got no arrays"):
        open_data(tmp_path / "c")


def outside(tmp_path, kind):
    """A PDEBench file whose values would come from another file."""
    secret, path = tmp_path / "secret.h5", tmp_path / "a.h5"
    made.single(secret)
    made.single(path)
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        if kind == "external link":
            file["tensor"] = h5py.ExternalLink(str(secret), "tensor")
        elif kind == "soft link":
            file["tensor"] = h5py.SoftLink("/x-coordinate")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((12, 5, 7), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "tensor", (12, 5, 7))
            file.create_virtual_dataset("tensor", layout)
        elif kind == "external storage":
            (tmp_path / "raw").write_bytes(bytes(4 * 12 * 5 * 7))
            file.create_dataset("tensor", (12, 5, 7), "f4", external=[(str(tmp_path / "raw"), 0, 4 * 12 * 5 * 7)])
        else:
            file.create_dataset("tensor", (2**40, 5, 7), "f4", chunks=(1, 5, 7))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external link", "got an external link to"),
        ("soft link", "got a soft link to"),
        ("virtual", "got a virtual data set over other ones"),
        ("external storage", "got external storage in"),
        ("huge", "never written"),
    ],
)
def test_nothing_outside_of_a_file_is_read(tmp_path, kind, message):
    path = outside(tmp_path, kind)
    for place in (path, tmp_path):
        with pytest.raises((ValueError, Damaged), match=message) as caught:
            open_data(place)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [made.single, made.flow, made.grouped, made.incompressible, made.well])
def test_truncated_files(tmp_path, write):
    path = tmp_path / "a"
    write(path)
    content = path.read_bytes()
    for length in (9, 600, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises((ValueError, Damaged)) as caught:
            open_data(path)[:]
        assert "\n" not in str(caught.value)
        del caught  # it refers to this frame and itself, and so keeps the file open until garbage is collected


WRITE = """
import hdf5plugin, h5py, numpy, sys
with h5py.File(sys.argv[1], "w") as file:
    file.create_dataset("tensor", data=numpy.ones((4, 3, 8), "f4"), chunks=(1, 3, 8), **hdf5plugin.Blosc())
"""
READ = """
import sys
from sciml.data import open_data
assert "hdf5plugin" not in sys.modules
assert (open_data(sys.argv[1])[:]["frames"] == 1).all()
assert "hdf5plugin" in sys.modules
"""


@pytest.mark.slow
def test_filters_of_hdf5plugin(tmp_path):
    """In processes of their own, since filters stay registered and other tests expect them to be unknown."""
    if importlib.util.find_spec("hdf5plugin") is None:
        pytest.skip("hdf5plugin is not installed")
    for program in (WRITE, READ):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=True)


def test_threads_read_at_once(tmp_path):
    for number in range(3):
        made.single(tmp_path / f"{number}.h5", samples=40, attributes={"n": number})
    data = open_data(tmp_path)
    expected = data[:]["frames"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for row, found in enumerate(pool.map(lambda row: data[row : row + 2]["frames"], range(118))):
            np.testing.assert_array_equal(found, expected[row : row + 2])


def test_description(tmp_path):
    made.well(tmp_path / "a")
    made.flow(tmp_path / "b", space=(5, 8), chunks=(2, 3, 5, 8))
    made.darcy(tmp_path / "c")
    rows = describe_data(open_data(tmp_path / "a"))
    found = dict(rows)
    assert found["format"] == "The Well (groups dimensions and t0_fields, t1_fields, t2_fields)"
    assert found["channels"] == (
        "density, velocity (vector: velocity_x, velocity_y), D (matrix: D_xx, D_xy, D_yx, D_yy)"
    )
    assert found["axes"] == "(sample, time, channel, x, y) = (3, 4, 7, 6, 8)"
    assert found["x"] == "6 points, length 1, spacing 0.166667, periodic"
    assert found["times"] == "0 to 3, step 1"
    assert found["fixed fields"] == "kappa"
    assert found["parameters"].startswith("k ")
    assert found["parameters"].endswith(" (3 values)")
    assert found["official split"] == "none"
    density = made.values(1, 3, 4, 6, 8)[0]
    assert ("values", f"density in sample 0: {density.min():.4g} to {density.max():.4g}") in rows
    rows = describe_data(open_data(tmp_path / "b"))
    assert dict(rows)["stored"] == "pieces of 2 samples and 3 frames"
    assert dict(rows)["parameters"] == "eta 0.5 in all, zeta 0.125 in all"
    assert dict(rows)["official split"] == "train 2, test 1"
    assert ("note", "Stored with gzip.") in rows
    found = dict(describe_data(open_data(tmp_path / "c")))
    assert found["frames"] == "1, a map from the fixed fields"
    assert found["times"] == "a single frame"
    assert found["size"].endswith(f"in 1 file, {4 * 4 * 6 * 9 * 2 / 1024:.4g} KiB as float32")


def test_description_of_unusual_data(tmp_path):
    path = tmp_path / "a"
    made.single(path, space=(16,), samples=3)
    with h5py.File(path, "r+") as file:
        file["tensor"][:] = file["x-coordinate"][:]
        file["tensor"][0, 1, :2] = np.nan
        file["t-coordinate"][:] = [0, 1, 2, 4, 8, 16]
    found = dict(describe_data(open_data(path)))
    assert found["values"].endswith(", 2 of 80 values are NaN or infinite")
    assert found["times"] == "0 to 8, steps from 1 to 4, not uniform"
    assert found["x"].endswith("both ends Neumann 0.5 spacings from its wall")
    plain(tmp_path / "b", u=np.full((3, 4, 16), np.inf))
    found = dict(describe_data(open_data(tmp_path / "b", Hints(axes=("sample", "time", "x")))))
    assert found["values"] == "u in sample 0: no finite value of 64"
    assert found["times"] == "not known: frames are numbered"
    assert found["parameters"] == "none"


FILES = [
    ("1D_Advection_Sols_beta0.1.hdf5", (4, 11, 1, 32), 1),
    ("1D_Burgers_Sols_Nu0.01.hdf5", (4, 11, 1, 32), 1),
    ("1D_CFD_Rand_Eta0.01_Zeta0.01_periodic_Train.hdf5", (3, 6, 3, 16), 2),
    ("1D_diff-sorp_NA_NA.h5", (4, 6, 1, 32), 0),
    ("2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_128_Train.hdf5", (3, 6, 4, 16, 16), 3),
    ("2D_DarcyFlow_beta1.0_Train.hdf5", (5, 1, 1, 16, 16), 1),
    ("2D_diff-react_NA_NA.h5", (4, 6, 2, 16, 16), 0),
    ("2D_rdb_NA_NA.h5", (4, 6, 1, 16, 16), 0),
    ("3D_CFD_Rand_M1.0_Eta1e-08_Zeta1e-08_periodic_Train.hdf5", (3, 6, 5, 8, 8, 8), 3),
    ("ReacDiff_Nu0.5_Rho1.0.hdf5", (4, 11, 1, 32), 2),
    ("ns_incom_inhom_2d_512-0.h5", (2, 10, 3, 16, 16), 0),
    ("ns_V1e-4_N10000_T30.mat", (4, 6, 1, 16, 16), 0),
    ("well/synthetic", (9, 8, 7, 16, 12), 1),
    ("well/synthetic/data/test/synthetic_test.hdf5", (3, 8, 7, 16, 12), 1),
]


@pytest.mark.parametrize(("name", "shape", "parameters"), FILES)
def test_files_true_to_the_published_schemas(published_data, name, shape, parameters):
    path = published_data / "synthetic" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    data = open_data(path)
    assert data.layout.shape == shape
    assert len(data.layout.parameters) == parameters
    assert all(isinstance(low, Periodic) for low, _ in data.grid.sides)  # their values are random
    found = data[:]
    assert found["frames"].shape == shape
    first = pathlib.Path(data.reader.paths[0])
    with h5py.File(first) as file:
        names = [one for one in ("tensor", "density", "0000/data", "velocity", "u", "t0_fields/density") if one in file]
        array = np.asarray(file[names[0]][()])
    one = array if names[0] == "0000/data" else array.T[0] if names[0] == "u" else array[0]
    one = one[..., 0] if names[0] in ("0000/data", "velocity") else np.moveaxis(one, -1, 0) if names[0] == "u" else one
    np.testing.assert_array_equal(found["frames"][0, :, 0], one)
    assert [text for label, text in describe_data(data) if label == "samples"] == [f"{shape[0]}"]
