import h5py
import numpy as np
import public_formats as made
import pytest

from sciml.data import Channel, open_data
from sciml.grid import Neumann, Periodic


def arrays(path, *names):
    with h5py.File(path) as file:
        return [file[name][()] for name in names]


SPACES = [((6,), ("x",)), ((6, 8), ("x", "y")), ((4, 5, 6), ("r", "theta", "phi"))]


@pytest.mark.parametrize(("space", "names"), SPACES)
def test_fields_in_their_order(tmp_path, space, names):
    path, d = tmp_path / "a", len(space)
    made.well(path, space=space, names=names)
    data = open_data(path)
    density, velocity, tensor, kappa, k = arrays(
        path, "t0_fields/density", "t1_fields/velocity", "t2_fields/D", "t0_fields/kappa", "scalars/k"
    )
    flat = tensor.reshape(*tensor.shape[:-2], d * d)
    expected = np.moveaxis(np.concatenate((density[..., None], velocity, flat), axis=-1), -1, 2)
    np.testing.assert_array_equal(data[:]["frames"], expected)
    np.testing.assert_array_equal(data[:]["fixed"], kappa[:, None])
    np.testing.assert_array_equal(data[:]["parameters"], k[:, None])
    labels = ["density", *(f"velocity_{a}" for a in names), *(f"D_{a}{b}" for a in names for b in names)]
    assert [one.name for one in data.layout.channels] == labels
    assert data.layout.channels[1] == Channel(f"velocity_{names[0]}", "velocity", 1)
    assert data.layout.channels[-1].rank == 2
    assert data.grid.lengths == pytest.approx((1.0,) * d)
    assert all(isinstance(low, Periodic) for low, _ in data.grid.sides)
    assert data.layout.parameters == ("k",)
    assert any("theta" in note for note in data.layout.notes) == (d == 3)


def test_folder_of_parts(tmp_path):
    root, counts = tmp_path / "made", {"train": 3, "valid": 2, "test": 4}
    for part, n in counts.items():
        (root / "data" / part).mkdir(parents=True)
        made.well(root / "data" / part / "a.hdf5", samples=n)
    further = np.full((1, 4, 6, 8), 7, "f4")
    for part in ("valid", "test"):  # the same file in both
        path = root / "data" / part / "b.h5"
        made.well(path, samples=1, change=lambda file: file["t0_fields/density"].write_direct(further))
    (root / "stats.yaml").write_text("mean: {}\n")
    for path in (root, root / "data"):
        data = open_data(path)
        rows = data.layout.splits
        assert {name: len(found) for name, found in rows.items()} == {"train": 3, "validation": 3, "test": 4}
        assert any(note.startswith("Published statistics") and "stats.yaml" in note for note in data.layout.notes)
        assert "test/b.h5 is a copy of valid/b.h5 and left out." in data.layout.notes
        for part, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
            (density,) = arrays(root / "data" / part / "a.hdf5", "t0_fields/density")
            np.testing.assert_array_equal(data[rows[name]]["frames"][: counts[part], :, 0], density)
        np.testing.assert_array_equal(data[rows["validation"][2:]]["frames"][:, :, 0], further)
        found = data.reader.frames(slice(2, 7), slice(1, 4, 2))  # across three files
        np.testing.assert_array_equal(found, data[2:7]["frames"][:, 1::2])
        assert len(data.reader.paths) == 4


def test_what_does_not_vary_repeats(tmp_path):
    def change(file):
        made.field(
            file,
            "t0_fields/kappa",
            made.values(5, 6),
            2,
            sample_varying=False,
            time_varying=False,
            dim_varying=[True, False],
        )
        made.field(file, "t0_fields/density", made.values(6, 4, 8), 2, sample_varying=False, dim_varying=[False, True])

    path = tmp_path / "a"
    made.well(path, change=change)
    data = open_data(path)
    kappa, density = arrays(path, "t0_fields/kappa", "t0_fields/density")
    np.testing.assert_array_equal(data[:]["fixed"], np.broadcast_to(kappa[:, None], (3, 1, 6, 8)))
    np.testing.assert_array_equal(data[:]["frames"][:, :, 0], np.broadcast_to(density[None, :, None], (3, 4, 6, 8)))


def test_scalars_of_all_shapes(tmp_path):
    def change(file):
        file["scalars"].attrs["field_names"] = ["k", "one", "moving", "both"]
        made.scalar(file, "one", np.float32(2.5))
        made.scalar(file, "moving", made.values(1, 4), time_varying=True)
        made.scalar(file, "both", made.values(2, 3, 4), sample_varying=True, time_varying=True)
        file.attrs["simulation_parameters"] = ["k", "further"]
        file.attrs["further"] = 0.75

    path = tmp_path / "a"
    made.well(path, change=change)
    data = open_data(path)
    assert data.layout.parameters == ("k", "one", "further")
    np.testing.assert_array_equal(data[:]["parameters"][:, 1:], [[2.5, 0.75]] * 3)
    assert "Scalars that vary in time are not used: moving, both." in data.layout.notes


def test_sides_and_masks_inside(tmp_path):
    def change(file):
        del file["boundary_conditions"]
        low, high = np.zeros(6, bool), np.zeros(6, bool)
        low[0] = high[-1] = True
        made.condition(file, "x_wall", "WALL", ["x"], low)
        made.condition(file, "x_open", "OPEN", ["x"], high)
        obstacle = np.zeros((6, 8), bool)
        obstacle[:, 0], obstacle[2:4, 3:5] = True, True
        made.condition(file, "xy_wall", "WALL", ["x", "y"], obstacle)

    path = tmp_path / "a"
    made.well(path, change=change)
    data = open_data(path)
    assert data.grid.sides == ((Neumann(0.0), Neumann(0.0)),) * 2
    for note in ("x at the low side: WALL.", "x at the high side: OPEN.", "y at the low side: WALL."):
        assert note in data.layout.notes
    assert data.layout.fixed[-1] == Channel("mask")
    mask = np.zeros((6, 8))
    mask[2:4, 3:5] = 1
    np.testing.assert_array_equal(data[1:3]["fixed"][:, -1], [mask, mask])


def test_boundaries_that_are_not_told_are_judged(tmp_path):
    path = tmp_path / "a"
    made.well(path, change=lambda file: file.__delitem__("boundary_conditions/y_periodic"))
    assert any("judged by the values" in note for note in open_data(path).layout.notes)


def test_spherical_coordinates_are_fixed_fields(tmp_path):
    path = tmp_path / "a"
    made.well(path, names=("theta", "phi"), change=lambda file: file.attrs.__setitem__("grid_type", "spherical"))
    data = open_data(path)
    assert [one.name for one in data.layout.fixed] == ["kappa", "theta", "phi"]
    (phi,) = arrays(path, "dimensions/phi")
    np.testing.assert_array_equal(data[:1]["fixed"][0, 2], np.broadcast_to(phi, (6, 8)))


def test_coordinates_that_are_not_uniform_are_fixed_fields(tmp_path):
    path = tmp_path / "a"
    line = np.array([0, 1, 2, 4, 8, 16], "f4")
    made.well(path, change=lambda file: file["dimensions/x"].write_direct(line))
    data = open_data(path)
    assert [one.name for one in data.layout.fixed] == ["kappa", "x", "y"]
    np.testing.assert_array_equal(data[:1]["fixed"][0, 1], np.broadcast_to(line[:, None], (6, 8)))


def remove(name):
    return lambda file: file.__delitem__(name)


def attribute(item, name, value):
    return lambda file: file[item].attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("dimensions/x"), "expected the coordinates dimensions/x, got none"),
        (
            attribute("dimensions", "spatial_dims", ["x", "y", "z", "w"]),
            "expected (the coordinates|one to three names)",
        ),
        (
            attribute("t0_fields", "field_names", ["density", "other"]),
            "expected the data sets density, other in t0_fields",
        ),
        (
            attribute("t0_fields/density", "time_varying", False),
            "expected real numbers of shape .3, 6, 8. in t0_fields/de",
        ),
        (attribute("boundary_conditions/x_periodic", "bc_type", "ODD"), "PERIODIC, WALL or OPEN along x, y, got ODD"),
        (attribute("boundary_conditions/x_periodic", "associated_dims", ["q"]), "along x, y, got PERIODIC along q"),
        (lambda file: made.field(file, "t0_fields/density", np.ones((3, 4, 6, 8), "c8"), 2), "expected real numbers"),
        (lambda file: made.field(file, "t0_fields/density", np.ones((0, 4, 6, 8)), 2), "expected .*got"),
        (lambda file: made.scalar(file, "odd", np.ones(5), sample_varying=True), "of shape .3,. in scalars/odd"),
        (lambda file: made.scalar(file, "odd", np.nan), "NaN or infinite ones"),
    ],
)
def test_contradictions_are_named(tmp_path, change, message):
    path = tmp_path / "a"
    made.well(path, change=change)
    with pytest.raises(ValueError, match=message) as caught:
        open_data(path)[:]
    assert "\n" not in str(caught.value)
    del caught  # it refers to this frame and itself, and so keeps the file open until garbage is collected


def test_fields_that_stand_still_alone(tmp_path):
    def change(file):
        for group in ("t1_fields", "t2_fields"):
            del file[group]
        del file["t0_fields/density"]
        file["t0_fields"].attrs["field_names"] = ["kappa"]

    made.well(tmp_path / "a", change=change)
    with pytest.raises(ValueError, match=r"expected a field that varies in time, got kappa"):
        open_data(tmp_path / "a")
