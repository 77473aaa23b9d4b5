import sys

import numpy as np
import pytest
from reading import assert_reads, values

from sciml.data import Hints, from_xarray
from sciml.grid import Grid, Neumann, Periodic

xarray = pytest.importorskip("xarray")


def dataset(variables, **coordinates):
    return xarray.Dataset(variables, coords=coordinates)


def test_roles_by_attributes_of_the_coordinates():
    u = values(5, 3, 7, 4)
    found = from_xarray(
        dataset(
            {"u": (("a", "b", "c", "d"), u)},
            a=("a", np.arange(5.0), {"standard_name": "realization"}),
            b=("b", np.arange(3.0), {"units": "days since 2000-01-01"}),
            c=("c", np.arange(7.0), {"axis": "Y"}),
            d=("d", np.arange(4.0), {"standard_name": "projection_x_coordinate"}),
        )
    )
    assert_reads(found, u.transpose(0, 1, 3, 2)[:, :, None])
    np.testing.assert_array_equal(found.layout.times, np.arange(3))
    assert "Times are days since 2000-01-01." in found.layout.notes
    assert found.layout.evidence == "dimensions a 5, b 3, c 7, d 4"


@pytest.mark.parametrize(
    ("dimensions", "order"),
    [
        (("time", "x"), "tx"),
        (("member", "time", "latitude", "longitude"), "styx"),
        (("time", "level", "lat", "lon"), "tzyx"),
        (("case", "t", "x"), "stx"),  # one other dimension in front
        (("sample", "time", "channel", "x", "y"), "stcxy"),
        (("X", "Y", "Time"), "xyt"),
    ],
)
def test_roles_by_names(dimensions, order):
    u = values(*range(3, 3 + len(dimensions)))
    found = from_xarray(xarray.DataArray(u, dims=dimensions, name="w"))
    for axis in "stc":
        if axis not in order:
            u, order = u[..., None], order + axis
    assert_reads(found, u.transpose([order.index(axis) for axis in "stcxyz" if axis in order]))
    assert found.layout.channels[0].name == ("w" if "channel" not in dimensions else "w_0")


def test_variables_become_channels_fixed_fields_and_parameters():
    u, v, mask, depth, nu = values(3, 5, 7, 4), values(7, 3, 4, 5), values(4, 7), values(3, 7, 4), values(3)
    found = from_xarray(
        dataset(
            {
                "u": (("sample", "time", "x", "y"), u),
                "v": (("x", "sample", "y", "time"), v),
                "mask": (("y", "x"), mask),
                "depth": (("sample", "x", "y"), depth),
                "nu": ("sample", nu),
                "g": 9.5,
                "label": ("sample", np.array(["a", "b", "c"])),
                "wind": ("time", values(5)),
                "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
                "time_bounds": (("time", "edge"), values(5, 2)),
            },
            time=("time", np.arange(5.0), {"bounds": "time_bounds"}),
        )
    )
    frames = np.stack([u, v.transpose(1, 3, 0, 2)], axis=2)
    fixed = np.stack([np.broadcast_to(mask.T, (3, 7, 4)), depth], axis=1)
    assert_reads(found, frames, fixed, np.stack([nu, np.full(3, 9.5)], axis=1))
    assert found.layout.parameters == ("nu", "g")
    assert "Variables that are not read: crs, label, time_bounds, wind." in found.layout.notes


def test_coordinates_place_the_points():
    u = values(2, 3, 4, 6)
    lat, lon = ("lat", np.array([60.0, 20, -20, -60]), {"units": "degrees_north"}), ("lon", np.arange(6) * 60.0)
    found = from_xarray(
        dataset({"u": (("member", "time", "lat", "lon"), u)}, lat=lat, lon=(*lon, {"units": "degrees_east"}))
    )
    assert found.grid == Grid((6, 4), (360.0, 160.0), (Periodic(), Neumann(0.5)))
    assert "lat decreases: index 0 of y is at 60." in found.layout.notes
    curved = dataset(
        {"u": (("time", "y", "x"), values(3, 4, 6))},
        lat=(("y", "x"), values(4, 6)),
        time=np.array(["2000-01-01", "2000-01-02", "2000-01-04"], "M8[ns]"),
    )
    found = from_xarray(curved)
    assert [one.name for one in found.layout.fixed] == ["lat"]
    np.testing.assert_array_equal(found[:]["fixed"][0, 0], curved["lat"].values.T)
    np.testing.assert_array_equal(found.layout.times, [0, 86400, 3 * 86400])


def test_names_of_channels():
    found = from_xarray(
        dataset({"u": (("time", "channel", "x"), values(3, 2, 8))}, channel=("channel", np.array(["rho", "p"])))
    )
    assert [one.name for one in found.layout.channels] == ["rho", "p"]


def test_maps_by_hints():
    a, u = values(3, 8), values(3, 8, seed=1)
    held = dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u), "c": (("sample", "x"), a)})
    assert_reads(from_xarray(held, hints=Hints(x="a", y="u")), u[:, None, None], a[:, None])
    other = xarray.Dataset({"u": (("p", "q", "r"), values(3, 5, 8))})
    assert_reads(
        from_xarray(other, hints=Hints(axes=("time", "sample", "x"))), values(3, 5, 8).transpose(1, 0, 2)[:, :, None]
    )


@pytest.mark.parametrize(
    ("variables", "hints", "message"),
    [
        (
            {"u": (("p", "q", "x"), values(3, 5, 8))},
            {},
            r"no role of its own for p, q\. .*\('p', 'q', 'x'\).*--axes sample,time,x",
        ),
        ({"u": (("time", "t", "x"), values(3, 5, 8))}, {}, "no role of its own for time, t"),
        ({"u": (("sample", "x"), values(3, 8))}, {}, r"expected a variable with time and space, got u \(3, 8\)"),
        ({"u": ("time", values(3))}, {}, "expected a variable with time and space"),
        ({}, {}, "expected a variable with time and space, got none"),
        ({"u": (("time", "x"), values(3, 8))}, {"y": "w"}, r"expected variables of u \(3, 8\), got the name w"),
        (
            {"u": (("time", "x"), values(3, 8))},
            {"axes": ("x",)},
            "expected the 2 axes of u, its dimensions being time, x",
        ),
        ({"u": (("time", "x"), values(3, 8) * 1j)}, {}, "expected a variable with time and space"),
        ({"u": (("time", "x"), values(3, 8) * 1j)}, {"axes": ("time", "x")}, r"expected variables of real numbers"),
        ({"u": (("time", "x"), values(3, 0))}, {}, "expected values in u, got none"),
        ({"u": (("time", "x"), values(3, 2)), "x": ("x", ["a", "b"])}, {}, "expected numbers as coordinates x"),
    ],
)
def test_data_sets_that_are_refused(variables, hints, message):
    with pytest.raises(ValueError, match=message) as raised:
        from_xarray(xarray.Dataset(variables), hints=Hints(**hints))
    assert "\n" not in str(raised.value)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="Expected an xarray Dataset or DataArray, got ndarray"):
        from_xarray(values(3, 8))


def test_nan_is_refused_when_it_is_read():
    u = values(3, 5, 8)
    u[1] = np.nan
    with pytest.raises(ValueError, match="the first is sample 1"):
        from_xarray(xarray.Dataset({"u": (("sample", "time", "x"), u)}))[:]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"needs xarray\. Install it by: pip install 'sciml-jax\[files\]'"):
        from_xarray(values(3, 8))
