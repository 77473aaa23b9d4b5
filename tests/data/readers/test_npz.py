import numpy as np
import pytest
from reading import assert_reads, opened, values

from sciml.data._readers._npz import FORMAT
from sciml.grid import Dirichlet, Neumann, Periodic


def data(tmp_path, *, hints=None, **arrays):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    return opened(FORMAT, path, **(hints or {}))


def test_pairs(tmp_path):
    x, y = values(5, 8, 6), values(5, 8, 6, seed=1)
    found = data(tmp_path, x=x, y=y)
    assert_reads(found, y[:, None, None], x[:, None])
    assert "x and y are taken as (sample, *space) without channels." in found.layout.notes


def test_the_published_sets(published_data):
    darcy = opened(FORMAT, published_data / "darcy_test_32.npz")
    held = np.load(published_data / "darcy_test_32.npz")
    assert_reads(darcy, held["y"][:, None, None], held["x"][:, None])
    assert darcy.grid.sides == ((Dirichlet(0.0), Dirichlet(1.0)),) * 2
    burgers = opened(FORMAT, published_data / "burgers_test_16.npz")
    held = np.load(published_data / "burgers_test_16.npz")
    assert_reads(burgers, held["y"][:, :, None], parameters=np.full((400, 1), held["visc"]))
    assert burgers.grid.sides == ((Periodic(), Periodic()),)


@pytest.mark.parametrize("name", ["frames", "trajectories"])
def test_frames(tmp_path, name):
    frames = values(3, 5, 2, 7, 4)
    found = data(tmp_path, **{name: frames, "t": np.arange(5) / 4, "x": (np.arange(7) + 0.5) / 7})
    assert_reads(found, frames)
    np.testing.assert_array_equal(found.layout.times, np.arange(5) / 4)
    assert found.grid.extent[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 7), "tx"),
        ((7, 5), "xt"),
        ((3, 5, 7), "stx"),
        ((5, 7, 4, 2), "txyc"),
        ((3, 2, 5, 7, 4), "sctxy"),
        ((3, 7, 4, 6, 5), "sxyzt"),
    ],
)
def test_axes_by_the_lengths_of_coordinates(tmp_path, shape, axes):
    u, sizes = values(*shape), dict(zip(axes, shape, strict=True))
    coordinates = {axis: np.arange(sizes[axis]) * 0.5 for axis in "txyz" if axis in sizes}
    found = data(tmp_path, u=u, **coordinates)
    for axis in "stc":
        if axis not in axes:
            u, axes = u[..., None], axes + axis
    assert_reads(found, u.transpose([axes.index(axis) for axis in "stcxyz" if axis in axes]))
    np.testing.assert_array_equal(found.layout.times, np.arange(5) * 0.5)


def test_coordinates_belong_to_the_array_with_their_prefix(tmp_path):
    arrays = {"a_u": values(5, 7), "a_x": np.linspace(-1, 1, 7), "a_t": np.arange(5) * 2.0, "b_u": values(9, 8)}
    found = data(tmp_path, hints={"y": "a_u", "axes": ("time", "x")}, **arrays)
    assert_reads(found, arrays["a_u"][None, :, None])
    np.testing.assert_array_equal(found.layout.times, arrays["a_t"])
    assert found.grid.sides == ((Neumann(0.0), Neumann(0.0)),) or isinstance(found.grid.sides[0][0], Periodic)


def test_inputs_by_name(tmp_path):
    k, u = values(3, 7, 4), values(3, 2, 7, 4)
    hints = {"x": "k", "y": "u", "axes": ("sample", "channel", "x", "y")}
    assert_reads(data(tmp_path, hints=hints, k=k, u=u), u[:, None], k[:, None])
    mask = values(7, 4)
    assert_reads(data(tmp_path, hints=hints, k=mask, u=u), u[:, None], np.broadcast_to(mask, (3, 1, 7, 4)))


@pytest.mark.parametrize(
    ("arrays", "hints", "message"),
    [
        ({"a": values(3, 5, 7)}, {}, r"a\.npz: expected the axes of a of shape \(3, 5, 7\).*--axes sample"),
        ({"a": values(3, 5, 7), "b": values(3)}, {}, r"got a \(3, 5, 7\), b \(3,\)\. Name the frames.*--y a --axes"),
        ({"a": values(3), "b": values(4)}, {}, r"got a \(3,\), b \(4,\)\. No array has samples or times"),
        ({"a": np.array(["a"]), "b": values(3)}, {}, "No array has samples or times"),
        ({"a": values(3, 5, 7)}, {"y": "w"}, r"a\.npz: expected the arrays a \(3, 5, 7\), got the name w"),
        ({"a": values(3, 5, 7)}, {"y": "a"}, "expected the axes of a"),
        ({"a": values(3, 5), "b": values(3, 5)}, {"axes": ("sample", "x")}, "Name the frames"),
        ({"a": values(3, 5)}, {"axes": ("sample", "time", "x")}, r"a\.npz: expected the 2 axes of a"),
        (
            {"a": values(3, 5), "b": values(2, 5)},
            {"x": "b", "y": "a", "axes": ("sample", "x")},
            "expected b to have the axes",
        ),
        ({"x": values(0, 8), "y": values(0, 8)}, {}, r"a\.npz: expected values in y, got none"),
        ({"x": values(2, 2, 2, 2, 2), "y": values(2, 2, 2, 2, 2)}, {}, "one to three axes of space"),
        ({"u": values(5, 5), "t": np.arange(5), "x": np.arange(5)}, {}, "--y u --axes"),
        ({"u": values(2, 3, 4, 5, 7), "t": np.arange(5), "x": np.arange(7)}, {}, "--y u --axes"),
    ],
)
def test_arrays_that_nothing_explains(tmp_path, arrays, hints, message):
    with pytest.raises(ValueError, match=message) as raised:
        data(tmp_path, hints=hints, **arrays)
    assert "\n" not in str(raised.value)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_no_code_runs(tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match="made of Python objects"):
        data(tmp_path, x=np.array([Payload(str(trace))], dtype=object), y=values(3, 8))
    assert not trace.exists()


def test_cut_off_files_are_refused(tmp_path):
    data(tmp_path, x=values(5, 8), y=values(5, 8))
    path = tmp_path / "a.npz"
    content = path.read_bytes()
    for size in (30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.npz to be an \.npz file"):
            opened(FORMAT, path)


def test_nan_is_refused_when_it_is_read(tmp_path):
    y = values(5, 8)
    y[3, 2] = np.nan
    found = data(tmp_path, x=values(5, 8), y=y)
    with pytest.raises(
        ValueError, match="of frames, got NaN or infinite ones in 1 of 5 samples, the first is sample 3"
    ):
        found[:]
