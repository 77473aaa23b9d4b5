import itertools

import numpy as np
import pytest
from reading import assert_reads, values

from sciml.data import Channel, Trajectories
from sciml.data._readers._labelled import AXES, Labelled, Origin, candidates, labelled_reader, unknown_axes
from sciml.grid import Dirichlet, Grid, Neumann, Periodic

SIZES = {"sample": 3, "time": 5, "channel": 2, "x": 7, "y": 4, "z": 6}
ORDERS = [
    ("sample", "time", "channel", "x"),
    ("x", "time"),
    ("y", "x", "sample"),
    ("time", "channel", "y", "z", "x"),
    ("sample", "x", "y", "time"),
    ("z", "channel", "sample", "y", "time", "x"),
    ("sample", "time", "x", "y", "z", "channel"),
]


def data(*arrays, **more):
    return Trajectories(labelled_reader(Origin("own", "arrays", ("a.npy",)), list(arrays), **more))


def canonical(array, axes):
    """Every axis by a loop over its places: independent of transposing and reshaping."""
    shape = [array.shape[axes.index(axis)] if axis in axes else 1 for axis in AXES[:3]]
    shape += [array.shape[axes.index(axis)] for axis in AXES[3:] if axis in axes]
    order = [*AXES[:3], *(axis for axis in AXES[3:] if axis in axes)]
    found = np.empty(shape, array.dtype)
    for place in itertools.product(*map(range, shape)):
        where = dict(zip(order, place, strict=True))
        found[place] = array[tuple(where[axis] for axis in axes)]
    return found


@pytest.mark.parametrize("axes", ORDERS, ids=",".join)
def test_any_order_of_axes_becomes_the_canonical_one(axes):
    array = values(*(SIZES[axis] for axis in axes))
    assert_reads(data(Labelled("u", array, axes)), canonical(array, axes))


def test_several_arrays_are_channels_and_fixed_fields_repeat():
    u, v = values(3, 5, 7, 4), values(4, 2, 7, 3, 5, seed=1)
    mask, height = values(4, 7, seed=2), values(3, 4, seed=3)
    found = data(
        Labelled("u", u, ("sample", "time", "x", "y")),
        Labelled("v", v, ("y", "channel", "x", "sample", "time"), (Channel("v_x", "v", 1), Channel("v_y", "v", 1))),
        fixed=[Labelled("mask", mask, ("y", "x")), Labelled("height", height, ("sample", "y"))],
        parameters={"nu": np.arange(3), "g": np.array([[9.5]])},
    )
    frames = np.concatenate([u[:, :, None], v.transpose(3, 4, 1, 2, 0)], axis=2)
    fixed = np.stack([np.broadcast_to(mask.T, (3, 7, 4)), np.broadcast_to(height[:, None], (3, 7, 4))], axis=1)
    assert_reads(found, frames, fixed, np.array([[0, 9.5], [1, 9.5], [2, 9.5]]))
    assert [one.name for one in found.layout.channels] == ["u", "v_x", "v_y"]
    assert found.layout.parameters == ("nu", "g")


def test_names_of_channels():
    assert [one.name for one in Labelled("u", values(2, 3, 8), ("sample", "channel", "x")).channels] == [
        *("u_0", "u_1", "u_2")
    ]


def wave(n, start, periods=1.0):
    return np.sin(2 * np.pi * periods * (np.arange(n) + start) / n)[None] * values(3, 1)


@pytest.mark.parametrize(
    ("fields", "side", "spacing"),
    [
        (wave(16, 0.0), Periodic(), 1 / 16),
        (wave(16, 0.5, 0.75), Neumann(0.5), 1 / 16),  # ends at 0 and at a quarter period before the full one
        (np.sin(np.pi * np.arange(17) / 16).round(12)[None] * values(3, 1), Neumann(0.0), 1 / 16),
    ],
)
def test_sides_without_coordinates_follow_from_the_values(fields, side, spacing):
    found = data(Labelled("u", fields, ("sample", "x"))).layout
    assert found.grid.sides == ((side, side),)
    assert found.grid.spacing == pytest.approx((spacing,))
    assert "No coordinates along x are known: its length is taken as 1." in found.notes


def test_coordinates_place_the_points():
    array = values(3, 5, 8, 4)
    found = data(
        Labelled("u", array, ("sample", "time", "x", "y")),
        coordinates={"time": np.arange(5) / 2, "x": (np.arange(8) + 0.5) / 4, "y": np.arange(4) * 3.0},
        periodic={"x": False, "y": True},
    )
    assert found.grid == Grid((8, 4), (2.0, 12.0), (Neumann(0.5), Periodic()))
    np.testing.assert_array_equal(found.layout.times, [0, 0.5, 1, 1.5, 2])


def test_uneven_coordinates_are_fixed_fields():
    x, y = np.array([0.0, 1.0, 3.0]), np.arange(4.0)
    found = data(Labelled("x", values(2, 3, 4), ("sample", "x", "y")), coordinates={"x": x, "y": y})
    assert [one.name for one in found.layout.fixed] == ["coordinate_x", "y"]
    np.testing.assert_array_equal(found[:]["fixed"][1], np.stack(np.meshgrid(x, y, indexing="ij")))
    assert "not uniform" in found.layout.notes[-1]


def test_a_grid_of_the_format_is_taken():
    grid = Grid((7,), 2.0, Dirichlet(0.0))
    assert data(Labelled("u", values(3, 7), ("sample", "x")), grid=grid).grid == grid


def test_chunks_are_blocks():
    class Chunked:
        shape, dtype, chunks = (30, 20, 8), np.dtype("f4"), (4, 5, 8)

        def __getitem__(self, cuts):
            return np.zeros(self.shape, "f4")[cuts]

    axes = ("sample", "time", "x")
    assert data(Labelled("u", Chunked(), axes)).reader.block == (4, 5)
    assert data(Labelled("u", values(3, 5, 8), axes)).reader.block == (1, 5)


@pytest.mark.parametrize(
    ("array", "axes", "message"),
    [
        (values(3, 8), ("sample",), r"expected the 2 axes of u, of shape \(3, 8\).* got sample\. Name the axes"),
        (values(3, 8), ("sample", "sample"), "each once"),
        (values(3, 8), ("sample", "w"), "of sample, time, channel, x, y, z, got sample,w"),
        (values(3, 8) * 1j, ("sample", "x"), "expected real numbers in u, got complex64.*two arrays"),
        (values(3, 8).astype("S4"), ("sample", "x"), "expected real numbers in u"),
        (values(0, 8), ("sample", "x"), r"expected values in u, got none: its shape is \(0, 8\)"),
        (values(3, 8), ("sample", "time"), "expected an axis of space, x, y or z, of u, got sample,time"),
    ],
)
def test_arrays_that_are_refused(array, axes, message):
    with pytest.raises(ValueError, match=message):
        data(Labelled("u", array, axes))


def test_numbers_of_channels():
    with pytest.raises(ValueError, match=r"expected 2 channels of u, got 1\. Name each"):
        Labelled("u", values(2, 8), ("channel", "x"), (Channel("u"),))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"fixed": [Labelled("m", values(9), ("x",))]}, r"a\.npy: expected 8 entries along x of m, as u has, got 9"),
        ({"fixed": [Labelled("m", values(3, 5, 8), ("sample", "time", "x"))]}, "along time of m"),
        ({"coordinates": {"x": np.arange(7)}}, r"a\.npy: expected 8 coordinates along x, got \(7,\)"),
        ({"coordinates": {"time": np.zeros(5)}}, r"a\.npy: Expected 5 increasing times"),
        ({"parameters": {"nu": np.ones(2)}}, r"expected one number of nu, or one for each of 3 samples.*\(2,\)"),
        ({"parameters": {"nu": np.array(["a"])}}, "expected one number of nu"),
    ],
)
def test_contradictions(more, message):
    with pytest.raises(ValueError, match=message):
        data(Labelled("u", values(3, 5, 8), ("sample", "time", "x")), **more)


def test_values_that_are_not_finite_are_refused_when_they_are_read():
    array = values(3, 5, 8).astype(np.float64)
    array[2, 1, 3] = 1e300  # infinite as float32
    found = data(Labelled("u", array, ("sample", "time", "x")))
    assert found.take([0, 1])[:]["frames"].shape == (2, 5, 1, 8)
    with pytest.raises(ValueError, match="the first is sample 2"):
        found[:]


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((50, 64), "sample,x"),
        ((50, 11, 64), "sample,time,x"),
        ((50, 32, 32), "sample,x,y"),
        ((50, 51, 1, 160), "sample,time,channel,x"),
        ((100, 129, 128, 128), "sample,time,x,y"),
        ((1200, 64, 64, 20), "sample,x,y,time"),
        ((10, 5, 32, 32, 3), "sample,time,x,y,channel"),
        ((5, 21, 3, 16, 16, 16), "sample,time,channel,x,y,z"),
    ],
)
def test_likely_axes(shape, first):
    found = candidates(shape)
    assert ",".join(found[0]) == first
    assert all(len(axes) == len(shape) for axes in found)


def test_the_error_of_unknown_axes_gives_a_command():
    message = str(unknown_axes("a.npy", "u", (50, 11, 64)))
    assert "sample,time,x or sample,channel,x" in message
    assert "`sciml data info a.npy --axes sample,time,x`" in message
    assert "one axis, or of more than six" in str(unknown_axes("a.npy", "u", (7,)))
