import h5py
import numpy as np
import pytest
from hdf5_files import change_hdf5
from reading import assert_reads, opened, values

from sciml.data._readers._formats import probe
from sciml.data._readers._netcdf import FORMAT
from sciml.files import Damaged

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
ENGINES = ["h5netcdf", "scipy"]


def example(**change):
    u, v = values(3, 5, 4, 7), values(3, 5, 4, 7, seed=1)
    variables = {
        "u": (("sample", "time", "y", "x"), u),
        "v": (("sample", "time", "y", "x"), v),
        "nu": ("sample", values(3)),
    }
    return xarray.Dataset(
        {**variables, **change}, coords={"time": ("time", np.arange(5) / 4, {"units": "hours since 2000-1-1"})}
    )


def frames(held):
    return np.stack([held[name].transpose("sample", "time", "x", "y").values for name in "uv"], axis=2)


@pytest.mark.parametrize("engine", ENGINES)
def test_values(tmp_path, engine):
    held = example(mask=(("y", "x"), values(4, 7)))
    held.to_netcdf(tmp_path / "a.nc", engine=engine)
    found = opened(FORMAT, tmp_path / "a.nc")
    fixed = np.broadcast_to(held["mask"].values.T, (3, 1, 7, 4))
    assert_reads(found, frames(held), fixed, held["nu"].values[:, None])
    np.testing.assert_array_equal(found.layout.times, np.arange(5) / 4)
    assert found.layout.format == "netCDF"
    assert found.layout.evidence.endswith("; dimensions sample 3, time 5, y 4, x 7") or engine == "scipy"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("space", [("x",), ("lat", "lon"), ("level", "y", "x")])
def test_a_single_trajectory(tmp_path, engine, space):
    u = values(5, *(3, 4, 7)[: len(space)])
    xarray.Dataset({"u": (("time", *space), u)}).to_netcdf(tmp_path / "a.nc", engine=engine)
    found = opened(FORMAT, tmp_path / "a.nc")
    assert_reads(found, u.transpose(0, *range(len(space), 0, -1))[None, :, None])


@pytest.mark.parametrize("engine", ENGINES)
def test_scaled_and_masked_values(tmp_path, engine):
    u = np.arange(3 * 5 * 8).reshape(3, 5, 8) * 0.25
    held = xarray.Dataset({"u": (("sample", "time", "x"), u)})
    packed = {"u": {"dtype": "i2", "scale_factor": 0.25, "add_offset": 2.0, "_FillValue": -99}}
    held.to_netcdf(tmp_path / "a.nc", engine=engine, encoding=packed)
    assert_reads(opened(FORMAT, tmp_path / "a.nc"), u[:, :, None])
    u[1, 2, 3] = np.nan
    held.to_netcdf(tmp_path / "a.nc", engine=engine, encoding=packed)
    with pytest.raises(ValueError, match=r"Expected finite values of frames, got NaN.*the first is sample 1"):
        opened(FORMAT, tmp_path / "a.nc")[:]


def test_chunks_are_blocks_and_plugins_are_read(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    held = xarray.Dataset({"u": (("sample", "time", "x"), values(8, 6, 16))})
    held.to_netcdf(
        tmp_path / "a.nc",
        engine="h5netcdf",
        encoding={"u": {"chunksizes": (4, 3, 16), **hdf5plugin.Zstd()}},
    )
    found = opened(FORMAT, tmp_path / "a.nc")
    assert_reads(found, held["u"].values[:, :, None])
    assert found.reader.block == (4, 3)


def test_what_shows_the_format(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = values(3, 8)
    assert FORMAT.recognise(probe(tmp_path / "a.h5")) is None
    change_hdf5(tmp_path / "a.h5", lambda file: file.attrs.__setitem__("Conventions", "CF-1.11"))
    assert FORMAT.recognise(probe(tmp_path / "a.h5")) == "the conventions CF-1.11"


@pytest.mark.parametrize("engine", ENGINES)
def test_cut_off_files_are_refused(tmp_path, engine):
    path = tmp_path / "a.nc"
    example().to_netcdf(path, engine=engine)
    content = path.read_bytes()
    for size in (20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises((Damaged, ValueError), match=str(path)) as raised:
            opened(FORMAT, path)[:]
        assert "\n" not in str(raised.value)


def test_huge_declared_shapes_are_refused(tmp_path):
    path = tmp_path / "a.nc"
    xarray.Dataset({"u": (("time", "x"), values(5, 7))}).to_netcdf(path, engine="scipy")
    content = path.read_bytes()
    names = {b"time": 5, b"x\0\0\0": 7}
    for name, n in names.items():
        content = content.replace(name + n.to_bytes(4, "big"), name + (2**30).to_bytes(4, "big"), 1)
    path.write_bytes(content)
    with pytest.raises((Damaged, ValueError), match=str(path)):
        opened(FORMAT, path)[:]


def test_links_are_refused(tmp_path):
    path = tmp_path / "a.nc"
    example().to_netcdf(path, engine="h5netcdf")
    change_hdf5(path, lambda file: file.__setitem__("w", h5py.ExternalLink("/etc/passwd", "/")))
    with pytest.raises(ValueError, match="external link"):
        opened(FORMAT, path)


def test_data_sets_that_were_never_written_are_refused(tmp_path):
    path = tmp_path / "a.nc"
    example().to_netcdf(path, engine="h5netcdf")
    change_hdf5(path, lambda file: file.create_dataset("w", (3, 5), "f4"))
    with pytest.raises(Damaged, match=r"w of shape .* was never written"):
        opened(FORMAT, path)
    change_hdf5(path, lambda file: file["w"].attrs.__setitem__("NAME", np.bytes_("something else")))
    with pytest.raises(Damaged, match=r"w of shape .* was never written"):
        opened(FORMAT, path)


def test_unclear_dimensions_are_refused(tmp_path):
    path = tmp_path / "a.nc"
    xarray.Dataset({"u": (("p", "q", "x"), values(3, 5, 7))}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match=r"a\.nc: expected dimensions with one role each.*--axes sample,time,x"):
        opened(FORMAT, path)
    assert_reads(opened(FORMAT, path, axes=("sample", "time", "x")), values(3, 5, 7)[:, :, None])
