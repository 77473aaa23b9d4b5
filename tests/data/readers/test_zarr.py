import json
import shutil
import warnings

import numpy as np
import pytest
from reading import assert_reads, opened, values

from sciml.data._readers._zarr import FORMAT
from sciml.files import Damaged

xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
VERSIONS = [2, 3]


def example():
    u = values(3, 5, 4, 7)
    return xarray.Dataset(
        {"u": (("sample", "time", "y", "x"), u), "mask": (("y", "x"), values(4, 7)), "nu": ("sample", values(3))},
        coords={"time": np.arange(5) / 4},
    )


def stored(path, version, held=None, **more):
    (example() if held is None else held).to_zarr(path, zarr_format=version, consolidated=False, mode="w", **more)
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_values(tmp_path, version):
    held = example()
    found = opened(FORMAT, stored(tmp_path / "a.zarr", version, encoding={"u": {"chunks": (2, 3, 4, 7)}}))
    fixed = np.broadcast_to(held["mask"].values.T, (3, 1, 7, 4))
    assert_reads(found, held["u"].values.transpose(0, 1, 3, 2)[:, :, None], fixed, held["nu"].values[:, None])
    np.testing.assert_array_equal(found.layout.times, np.arange(5) / 4)
    assert found.reader.block == (2, 3)
    assert found.layout.format == "zarr"


@pytest.mark.parametrize("version", VERSIONS)
def test_names_of_channels(tmp_path, version):
    held = xarray.Dataset(
        {"u": (("time", "channel", "x"), values(3, 2, 8))}, coords={"channel": np.array(["rho", "p"], dtype="<U3")}
    )
    with warnings.catch_warnings(action="ignore"):  # zarr 3 has no specification of texts
        found = opened(FORMAT, stored(tmp_path / "a.zarr", version, held))
    assert [one.name for one in found.layout.channels] == ["rho", "p"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("space", [(16,), (8, 6), (5, 4, 3)])
def test_arrays_without_dimensions(tmp_path, version, space):
    group, u = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version), values(3, 7, *space)
    group.create_array("u", data=u, chunks=(2, 3, *space))
    found = opened(FORMAT, tmp_path / "a.zarr", axes=("sample", "time", *"xyz"[: len(space)]))
    assert_reads(found, u[:, :, None])
    assert found.reader.block == (2, 3)
    with pytest.raises(ValueError, match=r"a\.zarr: expected the axes of u.*--axes sample"):
        opened(FORMAT, tmp_path / "a.zarr")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_that_is_one_array(tmp_path, version):
    u = values(3, 7, 16)
    zarr.create_array(tmp_path / "a.zarr", data=u, zarr_format=version)
    assert_reads(opened(FORMAT, tmp_path / "a.zarr", axes=("sample", "time", "x")), u[:, :, None])


def test_dimensions_of_a_store_that_is_one_array(tmp_path):
    u = values(3, 7, 16)
    zarr.create_array(tmp_path / "a.zarr", data=u, dimension_names=("member", "t", "lon"))
    assert_reads(opened(FORMAT, tmp_path / "a.zarr"), u[:, :, None])


def test_sharded_arrays(tmp_path):
    group, u = zarr.open_group(tmp_path / "a.zarr", mode="w"), values(8, 6, 16)
    group.create_array("u", data=u, chunks=(2, 3, 16), shards=(4, 6, 16), dimension_names=("sample", "time", "x"))
    assert_reads(opened(FORMAT, tmp_path / "a.zarr"), u[:, :, None])


def test_missing_chunks_are_told_and_most_of_them_are_an_error(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    u = values(4, 5, 8)
    u[1] = 0.0
    names = ("sample", "time", "x")
    group.create_array("u", data=u, chunks=(1, 5, 8), dimension_names=names, config={"write_empty_chunks": False})
    found = opened(FORMAT, tmp_path / "a.zarr")
    assert_reads(found, u[:, :, None])
    assert "1 of 4 chunks of u are not there: they hold its fill value." in found.layout.notes
    group.create_array("v", shape=(10**9, 5, 8), chunks=(1, 5, 8), dtype="f4", dimension_names=names)
    with pytest.raises(Damaged, match=r"v of shape \(1000000000, 5, 8\): expected 1000000000 chunks, got 0"):
        opened(FORMAT, tmp_path / "a.zarr")


@pytest.mark.parametrize("version", VERSIONS)
def test_links_are_refused(tmp_path, version):
    stored(tmp_path / "a.zarr", version)
    (tmp_path / "outside").mkdir()
    shutil.move(tmp_path / "a.zarr" / "u", tmp_path / "outside" / "u")
    (tmp_path / "a.zarr" / "u").symlink_to(tmp_path / "outside" / "u")
    with pytest.raises(ValueError, match="is a symbolic link, which could lead anywhere"):
        opened(FORMAT, tmp_path / "a.zarr")


def changed(folder, version, change):
    path = folder / "u" / (".zarray" if version == 2 else "zarr.json")
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("version", "entries", "message"),
    [
        (
            2,
            {"dtype": "|O", "filters": [{"id": "pickle"}]},
            r"expected numbers or texts of one size, got \"\|O\"\. Objects",
        ),
        (2, {"dtype": "|O"}, "Objects could run code"),
        (2, {"dtype": [["a", "<f4"]]}, "expected numbers or texts"),
        (2, {"dtype": "nonsense"}, "expected numbers or texts"),
        (2, {"filters": [{"id": "pickle"}]}, "expected codecs of .*, got 'pickle'"),
        (2, {"compressor": {"id": "msgpack2"}}, "got 'msgpack2'"),
        (2, {"shape": [3, 5, 4, -7]}, "expected a shape and chunks"),
        (2, {"shape": "many"}, "expected a shape and chunks|is damaged"),
        (2, {"shape": [10**12, 5, 4, 7]}, "others were never written"),
        (2, {"chunks": [10**6, 10**6, 4, 7]}, "expected chunks of at most 1073741824 bytes"),
        (2, {"compressor": {}}, r"is damaged \(KeyError"),
        (3, {"data_type": "r128"}, "expected numbers or texts"),
        (3, {"data_type": {"name": "object"}}, "expected numbers or texts"),
        (3, {"codecs": [{"name": "numcodecs.pickle"}]}, "got 'pickle'"),
        (3, {"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "evil"}]}}]}, "got 'evil'"),
        (3, {"shape": [10**12, 5, 4, 7]}, "others were never written"),
        (3, {"chunk_grid": {}}, r"is damaged \(KeyError"),
    ],
)
def test_metadata_that_are_refused(tmp_path, version, entries, message):
    folder = stored(tmp_path / "a.zarr", version)
    changed(folder, version, lambda found: found.update(entries))
    with pytest.raises((Damaged, ValueError), match=message) as raised:
        opened(FORMAT, folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", VERSIONS)
def test_damaged_metadata_are_refused(tmp_path, version):
    folder = stored(tmp_path / "a.zarr", version)
    path = folder / "u" / (".zarray" if version == 2 else "zarr.json")
    text = path.read_text()
    for content, message in ((text[: len(text) // 2], "expected JSON"), ("[]", "expected a JSON object")):
        path.write_text(content)
        with pytest.raises(Damaged, match=message):
            opened(FORMAT, folder)
    path.write_text(" " * (2**24 + 1))
    with pytest.raises(ValueError, match="expected metadata of at most 16777216 bytes"):
        opened(FORMAT, folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_damaged_chunks_are_refused_when_they_are_read(tmp_path, version):
    folder = stored(tmp_path / "a.zarr", version)
    (chunk,) = (
        path
        for path in (folder / "u").rglob("*")
        if path.is_file() and path.name not in (".zarray", ".zattrs", "zarr.json")
    )
    chunk.write_bytes(chunk.read_bytes()[:40])
    with pytest.raises((Damaged, ValueError), match="Copy or download") as raised:
        opened(FORMAT, folder)[:]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shards", [None, (4, 6, 16)])
@pytest.mark.parametrize("change", [-1, 1, 2**24])
def test_lengths_that_blosc_would_believe_are_compared(tmp_path, shards, change):
    group, u = zarr.open_group(tmp_path / "a.zarr", mode="w"), values(8, 6, 16)
    group.create_array(
        "u",
        data=u,
        chunks=(2, 3, 16),
        shards=shards,
        compressors=zarr.codecs.BloscCodec(),
        dimension_names=("n", "t", "x"),
    )
    assert_reads(opened(FORMAT, tmp_path / "a.zarr"), u[:, :, None])
    chunk = tmp_path / "a.zarr" / "u" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    declared = int.from_bytes(content[12:16], "little")
    content[12:16] = (declared + change).to_bytes(4, "little")
    chunk.write_bytes(content)
    with pytest.raises(Damaged, match=rf"a chunk of {declared} bytes declares {declared + change}\)\. Copy"):
        opened(FORMAT, tmp_path / "a.zarr")
    chunk.write_bytes(content[:100])
    with pytest.raises(Damaged, match="truncated or damaged"):
        opened(FORMAT, tmp_path / "a.zarr")


def test_copied_metadata_are_not_used(tmp_path):
    folder = stored(tmp_path / "a.zarr", 2)
    zarr.consolidate_metadata(folder)
    path = folder / ".zmetadata"
    found = json.loads(path.read_text())
    found["metadata"]["u/.zarray"]["dtype"] = "|O"
    path.write_text(json.dumps(found))
    assert opened(FORMAT, folder).layout.shape == (3, 5, 1, 7, 4)
