import h5py
import numpy as np
import public_formats as made
import pytest

from sciml.data import Channel, TrajectoryWindows, open_data
from sciml.files import Damaged
from sciml.grid import Neumann, Periodic


def stacked(path, *names):
    """Data sets as channels after the axes (sample, time), read by h5py."""
    with h5py.File(path) as file:
        return np.stack([file[name][:] for name in names], axis=2)


def channels_first(array, space):
    """(sample, time, *space, channel) with the channels before space."""
    return np.moveaxis(array, -1, -1 - space)


SPACES = [(7,), (5, 8), (3, 4, 6)]


@pytest.mark.parametrize("space", SPACES)
def test_single_arrays(tmp_path, space):
    path = tmp_path / "any name"
    made.single(path, space=space)
    data = open_data(path)
    layout = data.layout
    assert layout.format == "PDEBench (single array)"
    assert layout.evidence == "data set tensor"
    assert layout.shape == (12, 5, 1, *space)
    np.testing.assert_array_equal(data[:]["frames"], stacked(path, "tensor"))
    np.testing.assert_array_equal(data[[7, 2]]["parameters"], np.full((2, 1), 0.25, np.float32))
    assert layout.parameters == ("Nu",)
    np.testing.assert_array_equal(layout.times, np.linspace(0.5, 2.0, 6, dtype=np.float32)[:5])  # one more is stored
    np.testing.assert_array_equal(layout.splits["test"], [0])  # the first tenth
    np.testing.assert_array_equal(layout.splits["train"], range(1, 12))
    assert data.grid.lengths == pytest.approx((2.0,) * len(space))  # coordinates are rounded to float32
    assert data.grid.sides[0][0].gap == 0.5
    found = data.reader.frames(slice(2, 5), slice(1, 5, 2))
    np.testing.assert_array_equal(found, stacked(path, "tensor")[2:5, 1:5:2])


def test_times_as_many_as_frames_and_edges_of_cells(tmp_path):
    path = tmp_path / "a"
    made.single(path, further=0)
    with h5py.File(path, "r+") as file:
        del file["x-coordinate"]
        file["x-coordinate"] = np.linspace(0, 3, 8)
    data = open_data(path)
    assert data.layout.times is not None
    assert data.layout.times[-1] == 2.0
    assert data.grid.lengths == pytest.approx((3.0,))


def test_darcy_is_a_map_of_the_coefficient(tmp_path):
    path = tmp_path / "a"
    made.darcy(path)
    data = open_data(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data.pairs().x, file["nu"][:][:, None])
        np.testing.assert_array_equal(data.pairs().y, file["tensor"][:])
    assert data.layout.times is None
    assert data.layout.fixed == (Channel("nu"),)


@pytest.mark.parametrize("space", SPACES)
def test_compressible_flow(tmp_path, space):
    path = tmp_path / "a"
    made.flow(path, space=space, chunks=(2, 3, *space))
    data = open_data(path)
    names = ("density", "pressure", "Vx", "Vy", "Vz")[: 2 + len(space)]
    np.testing.assert_array_equal(data[:]["frames"], stacked(path, *names))
    assert tuple(one.name for one in data.layout.channels) == names
    assert data.layout.channels[2] == Channel("Vx", "V", 1)
    assert data.layout.parameters == ("eta", "zeta")
    assert data.reader.block == (2, 3)


@pytest.mark.parametrize("space", SPACES)
def test_unbatched_flow_is_one_sample(tmp_path, space):
    path = tmp_path / "a"
    made.flow(path, samples=None, space=space)
    data = open_data(path)
    assert len(data) == 1
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data[0:1]["frames"][0, :, 1], file["pressure"][:])
    assert any("no axis of samples" in note for note in data.layout.notes)
    assert data.layout.splits == {}


@pytest.mark.parametrize("space", SPACES)
def test_groups(tmp_path, space):
    path = tmp_path / "a"
    made.grouped(path, space=space, channels=2)
    data = open_data(path)
    with h5py.File(path) as file:
        expected = np.stack([file[f"{i:04d}/data"][:] for i in range(11)])
    expected = channels_first(expected, len(space))
    np.testing.assert_array_equal(data[:]["frames"], expected)
    np.testing.assert_array_equal(data.reader.frames(slice(3, 9), slice(0, 5, 3)), expected[3:9, ::3])
    assert data.layout.parameters == ("sim.D",)  # k is the same in all, and seeds are no parameters
    np.testing.assert_allclose(data[:]["parameters"][:, 0], np.arange(11) * 1e-3, rtol=1e-6)  # float32
    np.testing.assert_array_equal(data.layout.splits["test"], [10])  # the last tenth
    assert data.reader.block == (1, 2)


@pytest.mark.parametrize("config", ["", "{", "&a [*a]", "- 1\n- 2", "x: " + "9" * 70_000])
def test_settings_that_are_none_give_no_parameters(tmp_path, config):
    path = tmp_path / "a"
    made.grouped(path, samples=2, config=config.replace("{", "{{"))
    assert open_data(path).layout.parameters == ()


def test_incompressible_flow(tmp_path):
    path = tmp_path / "a"
    made.incompressible(path)
    data = open_data(path)
    with h5py.File(path) as file:
        both = np.concatenate((file["velocity"][:], file["particles"][:]), axis=-1)
        np.testing.assert_array_equal(data[:]["frames"], channels_first(both, 2))
        np.testing.assert_array_equal(data[:]["fixed"], channels_first(file["force"][:], 2))
    assert data.layout.channels == (
        Channel("velocity_x", "velocity", 1),
        Channel("velocity_y", "velocity", 1),
        Channel("particles"),
    )
    assert data.layout.parameters == ()
    assert data.layout.times is not None
    assert len(TrajectoryWindows(data, history=2, horizon=3)) == 4


def test_times_that_differ_between_samples_are_not_used(tmp_path):
    path = tmp_path / "a"
    made.incompressible(path, times=np.cumsum(np.ones((2, 6)) * [[1], [2]], axis=1))
    layout = open_data(path).layout
    assert layout.times is None
    assert any("differ between samples" in note for note in layout.notes)


@pytest.mark.parametrize(("part", "name"), [("train", "train"), ("valid", "validation"), ("test", "test")])
def test_arena(tmp_path, part, name):
    path = tmp_path / "a"
    made.arena(path, part=part)
    data = open_data(path)
    np.testing.assert_array_equal(data[:]["frames"], stacked(path, *(f"{part}/{one}" for one in ("u", "vx", "vy"))))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data[:]["parameters"][:, 0], file[f"{part}/buo_y"][:])
    assert data.layout.channels == (Channel("u"), Channel("vx", "v", 1), Channel("vy", "v", 1))
    assert list(data.layout.splits) == [name]
    assert data.grid.lengths == pytest.approx((32.0, 32.0))
    assert data.layout.notes[0].startswith("No entry tells the boundaries")
    assert len(data.layout.notes) == 1  # all arrays are used


@pytest.mark.parametrize("closed", [True, False])
def test_boundaries_are_judged_by_values(tmp_path, closed):
    path = tmp_path / "a"
    made.single(path, samples=4, space=(64,))
    with h5py.File(path, "r+") as file:
        x = file["x-coordinate"][:]
        file["tensor"][:] = np.sin(np.pi * x) + 2 if closed else x
    kind = Periodic if closed else Neumann
    assert open_data(path).grid.sides == ((kind(0.5), kind(0.5)),)


def test_walls_of_the_coefficient_count_where_the_solution_vanishes(tmp_path):
    path = tmp_path / "a"
    made.darcy(path, samples=3, space=(16, 24))
    with h5py.File(path, "r+") as file:
        wave = lambda n: np.sin(np.pi * (np.arange(n) + 0.5) / n)
        file["tensor"][:] = np.outer(wave(16), wave(24))
        file["nu"][:] = np.broadcast_to(np.arange(16)[:, None] >= 8, (16, 24))
    low, high = open_data(path).grid.sides
    assert isinstance(low[0], Neumann)
    assert isinstance(high[0], Periodic)


def renew(name, array):
    def change(file):
        del file[name]
        file[name] = array

    return change


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (made.single, renew("tensor", np.ones((0, 5, 7), "f4")), "expected values in tensor, got none"),
        (made.single, renew("tensor", np.ones((12, 5, 7), "c8")), "expected real numbers in tensor, got complex"),
        (made.single, renew("tensor", np.full((12, 5, 7), b"a")), "expected real numbers in tensor"),
        (made.single, renew("tensor", np.ones((12, 5, 7), [("a", "f4")])), "expected real numbers in tensor"),
        (made.single, renew("tensor", np.ones((2, 12, 5, 7, 3, 3), "f4")), "expected tensor with the axes"),
        (made.single, renew("x-coordinate", np.arange(5.0)), "expected 7 coordinates in x-coordinate.* got 5"),
        (made.single, renew("x-coordinate", np.ones(7)), "Expected increasing coordinates along axis 0"),
        (made.single, renew("x-coordinate", np.ones((7, 2))), "along one axis in x-coordinate"),
        (made.single, renew("t-coordinate", np.arange(4.0)), "expected 5 times in t-coordinate.* got 4"),
        (made.single, renew("t-coordinate", np.zeros(5)), "Expected 5 increasing times"),
        (made.darcy, renew("nu", np.ones((3, 6, 9))), "expected 4 entries along sample of nu"),
        (made.darcy, renew("nu", np.ones(3)), "expected nu of shape"),
        (made.flow, renew("Vx", np.ones((3, 4, 8))), "expected Vx of the shape .3, 4, 7. of density"),
        (made.flow, renew("density", np.ones(3)), "expected density with the axes"),
        (made.grouped, renew("0003/data", np.ones((5, 8, 1))), "expected data in group 0003 as in group 0000"),
        (made.grouped, renew("0003/grid/x", np.ones(6)), "expected grid/x in group 0003 as in group 0000"),
        (made.incompressible, renew("velocity", np.ones((2, 6, 7, 9, 3))), "expected velocity with the axes"),
        (made.incompressible, renew("force", np.ones((2, 7, 8, 2))), "expected 9 entries along y of force"),
        (made.incompressible, renew("t", np.ones((2, 3, 4))), "expected times .sample, time. in t"),
        (made.arena, renew("train/u", np.ones((3, 8))), "expected fields with the axes"),
        (made.arena, lambda file: file.copy("train", "valid"), "expected one group of train, valid and test"),
    ],
)
def test_contradictions_are_named(tmp_path, write, change, message):
    path = tmp_path / "a"
    write(path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=message) as caught:
        open_data(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_refused_when_they_are_read(tmp_path):
    path = tmp_path / "a"
    made.single(path)
    with h5py.File(path, "r+") as file:
        file["tensor"][4, 1, 2] = np.nan
    data = open_data(path)
    data[:4]
    with pytest.raises(ValueError, match=r"NaN or infinite ones in 1 of .* sample 4"):
        data[3:7]


def test_doubles_and_integers_become_float32(tmp_path):
    path = tmp_path / "a"
    made.single(path)
    with h5py.File(path, "r+") as file:
        renew("tensor", np.arange(12 * 5 * 7).reshape(12, 5, 7))(file)
    found = open_data(path)[1:2]["frames"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.ravel(), np.arange(35, 70))
    with h5py.File(path, "r+") as file:
        renew("tensor", np.full((12, 5, 7), 1e200))(file)
    with pytest.raises(ValueError, match=r"NaN or infinite"):
        open_data(path)[:1]


def test_a_file_that_is_damaged_later(tmp_path):
    path = tmp_path / "a"
    made.grouped(path)
    with h5py.File(path, "r+") as file:
        del file["0003/data"]
        file.create_dataset("0003/data", data=np.zeros((5, 7, 1)), chunks=(2, 7, 1), compression="gzip")
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        where = file["0003/data"].id.get_chunk_info(0)
    content[where.byte_offset : where.byte_offset + where.size] = b"\xff" * where.size
    path.write_bytes(content)
    data = open_data(path)
    with pytest.raises(Damaged, match=r"is truncated or damaged"):
        data[3:4]
    data[5:6]  # other samples can be read afterwards
