import contextlib
import hashlib
import os
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest
from h5py import h5d, h5l, h5p, h5s, h5t, h5z
from hdf5_files import flipped

from sciml import files

SECRET = b"root:x:0:0:root:/root:/bin/sh, and so on"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(4, np.float32)
    return tmp_path / "a.h5"


def made(path, write, **options):
    with h5py.File(path, "w", **options) as file:
        write(file)
    return path


def opened(path):
    """The first numbers of all data sets."""
    with files.open_hdf5(path) as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return {name: item[()] for name, item in found.items()}


def planned(file, name, shape, change, most=None, dtype=h5t.IEEE_F32LE):
    """A data set whose creation properties are changed at the lowest level."""
    plan = h5p.create(h5p.DATASET_CREATE)
    change(plan)
    return h5d.create(file.id, name.encode(), dtype, h5s.create_simple(shape, most), plan)


def chunked(size, *filters):
    def change(plan):
        plan.set_chunk((size,))
        for one in filters:
            plan.set_filter(one, h5z.FLAG_OPTIONAL, (1,))

    return change


def external_storage(file):
    file.create_dataset("x", (10,), "<f4", external=[(os.fspath(pathlib.Path(file.filename).parent / "secret"), 0, 40)])


def virtual(source):
    def write(file):
        layout = h5py.VirtualLayout((4,), "<f4")
        layout[:] = h5py.VirtualSource(source, "x", (4,))
        file.create_virtual_dataset("x", layout)

    return write


def endless_virtual(file):
    """HDF5 opens the sources of such a data set as soon as its shape is asked for."""
    endless = h5s.create_simple((4,), (h5s.UNLIMITED,))
    endless.select_hyperslab((0,), (h5s.UNLIMITED,), (1,), (1,))
    planned(file, "x", (4,), lambda plan: plan.set_virtual(endless, b"fifo", b"x", endless), (h5s.UNLIMITED,))


def sperr(file):
    """A filter of a plugin that is not imported, even if another test of the process has imported all of them."""
    with contextlib.suppress(RuntimeError):
        h5z.unregister_filter(32028)
    planned(file, "x", (4,), chunked(4, 32028))


def link(target):
    def write(file):
        file.create_group("g/h")["x"] = target

    return write


REFUSED = {
    "external storage": (
        external_storage,
        r"data set /x: expected data in this file, got external storage in '.*secret'",
    ),
    "virtual data set": (virtual("other.h5"), "data set /x: expected data in this file, got a virtual data set"),
    "virtual data set without its source": (virtual("none.h5"), "data set /x: .* got a virtual data set"),
    "endless virtual data set": (endless_virtual, "data set /x: .* got a virtual data set"),
    "external link": (link(h5py.ExternalLink("other.h5", "/x")), "/g/h/x: .* an external link to '/x' in 'other.h5'"),
    "name of two lines": (
        lambda file: file.__setitem__("a\nb", h5py.SoftLink("/c\nd")),
        r"a\.h5: /a\\nb: expected a group or a data set, got a soft link to '/c\\nd'",
    ),
    "soft link": (link(h5py.SoftLink("/g")), "/g/h/x: expected a group or a data set, got a soft link to '/g'"),
    "sequences": (
        lambda file: file.create_dataset("x", (2,), h5py.vlen_dtype("<i4")),
        "data set /x: expected numbers, texts or records of one size, got sequences of any length",
    ),
    "unknown filter": (
        lambda file: planned(file, "x", (4,), chunked(4, 511)),
        r"data set /x: expected filters among gzip, .*, lzf, got filter 511 \(no registered plugin .* with gzip",
    ),
    "filter of a plugin": (
        sperr,
        r"got filter 32028 \(sperr\)\. Install it with `pip install hdf5plugin` and import hdf5plugin",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_leads_out_of_the_file_is_refused(case, path):
    write, message = REFUSED[case]
    os.mkfifo(path.with_name("fifo"))  # opening it would wait for ever
    made(path, write)
    with pytest.raises(ValueError, match=message) as found:
        opened(path)
    assert str(found.value).startswith(f"{path}: ")
    assert "\n" not in str(found.value)


def test_user_defined_links_are_refused(path):
    made(path, link(h5py.ExternalLink("other.h5", "/x")))
    content = path.read_bytes()
    place = content.index(b"other.h5")
    with h5py.File(path) as file:
        assert file.id.links.get_info(b"g").type == h5l.TYPE_HARD
    changed = [flipped(content, 8 * i + 1) for i in range(place - 64, place) if content[i] == 64]  # the class 64 -> 66
    messages = []
    for one in changed:
        path.write_bytes(one)
        with pytest.raises((ValueError, OSError)) as found:
            opened(path)
        messages.append(str(found.value))
    assert any("/g/h/x: expected a group or a data set, got a link of the unknown class 66" in one for one in messages)


@pytest.mark.parametrize("name", [".", "a/b"])
def test_names_that_are_paths_are_refused(name, path):
    stand_in = "#" * len(name)
    made(path, lambda file: file.create_group(stand_in))
    path.write_bytes(path.read_bytes().replace(stand_in.encode() + b"\0", name.encode() + b"\0"))
    with pytest.raises(ValueError, match=r"a\.h5: /.*: expected the name of a group or a data set, got a path"):
        opened(path)


def some_chunks(file):
    file.create_dataset("g/x", (100,), "<f4", chunks=(10,), compression="gzip", fillvalue=7)[:50] = 1


def huge(file):
    planned(file, "x", (2**33, 2**33), lambda plan: plan.set_chunk((10, 10)))  # the product overflows to 0


def twice(file):
    """A few bytes that stand for 64 MiB of zeros."""
    chunk = planned(file, "x", (2**24,), chunked(2**24, h5z.FILTER_DEFLATE))
    chunk.write_direct_chunk((0,), b"\x78\x01" + bytes(1000), 0)


LACKING = {
    "no chunk": (
        lambda file: planned(file, "x", (4,), chunked(4)),
        r"data set /x of shape \(4,\): expected 1 chunks, got 0; others were never written",
    ),
    "some chunks": (some_chunks, r"data set /g/x of shape \(100,\): expected 10 chunks, got 5; others were never"),
    "no storage": (lambda file: file.create_dataset("x", (3, 2), "<f4"), r"/x of shape \(3, 2\) was never written"),
    "huge contiguous": (lambda file: file.create_dataset("x", (2**40,), "<f4"), "was never written"),
    "huge chunked": (huge, r"data set /x of shape \(8589934592, 8589934592\): expected \d+ chunks, got 0"),
    "more than gzip can pack": (
        twice,
        r"expected a chunk of 67108864 bytes at \(0,\), got 1002 bytes, which cannot be",
    ),
    "unfiltered chunk cut short": (
        lambda file: planned(file, "x", (64,), chunked(64, 2)).write_direct_chunk((0,), bytes(8), 1),
        r"expected a chunk of 256 bytes at \(0,\), got 8 bytes",
    ),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_was_never_written_is_refused(case, path):
    write, message = LACKING[case]
    made(path, write)
    with pytest.raises(files.Damaged, match=rf"^{path}: {'data set ' * (not message.startswith('data'))}.*{message}"):
        opened(path)


def test_a_chunk_larger_than_may_be_unpacked_is_refused(path):
    def write(file):
        chunk = planned(file, "x", (2**29,), chunked(2**29, h5z.FILTER_SCALEOFFSET), dtype=h5t.STD_I32LE)
        chunk.write_direct_chunk((0,), bytes(21), 0)

    with pytest.raises(files.Damaged, match=r"expected a chunk of 2147483648 bytes at \(0,\), got 21 bytes"):
        opened(made(path, write))


def test_sizes_beyond_the_file_are_refused(path):
    made(path, lambda file: file.create_dataset("x", data=np.arange(1000, dtype="<f4")))
    with h5py.File(path) as file:
        place = file["x"].id.get_offset().to_bytes(8, "little") + (4000).to_bytes(8, "little")
    content = path.read_bytes()
    assert content.count(place) == 1
    for new, message in (
        ((2**20).to_bytes(8, "little") + place[8:], r" is truncated or damaged \(.*invalid dataset size"),
        (place[:8] + (8).to_bytes(8, "little"), r": data set /x: expected 4000 bytes for the shape \(1000,\), got 8\."),
        (
            place[:8] + (2**30).to_bytes(8, "little"),
            ": data set /x: expected 1073741824 bytes from 2048 on, but the file",
        ),
    ):
        path.write_bytes(content.replace(place, new))
        with pytest.raises(files.Damaged, match=f"^{path}{message}"):
            opened(path)


def test_a_chunk_beyond_the_file_is_refused(path):
    made(path, lambda file: file.create_dataset("x", data=np.arange(64, dtype="<f4"), chunks=(32,)))
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(1).byte_offset.to_bytes(8, "little")
    content = path.read_bytes()
    size = len(content)
    assert content.count(place) == 1
    path.write_bytes(content.replace(place, (size - 127).to_bytes(8, "little")))
    with pytest.raises(files.Damaged, match=rf"/x: the chunk at \(32,\) exceeds the {size} bytes of the file"):
        opened(path)


def test_data_sets_that_share_bytes_are_refused(path):
    """Two of three lie where the first one is, and the file ends there."""

    def write(file):
        for name in "xyz":
            file[name] = np.arange(1000.0)

    made(path, write)
    with h5py.File(path) as file:
        x, y, z = (file[name].id.get_offset() for name in "xyz")
    content = path.read_bytes()
    for other in (y, z):
        content = content.replace(other.to_bytes(8, "little"), x.to_bytes(8, "little"))
    path.write_bytes(content[:y].replace(len(content).to_bytes(8, "little"), y.to_bytes(8, "little")))
    with pytest.raises(
        files.Damaged, match=rf"data set /.: .* other data sets share bytes, .* than the {y} of the file"
    ):
        opened(path)


@pytest.mark.parametrize("cut", [20, 100, 2000, -1])
def test_truncated_files_are_damaged(cut, path):
    made(path, lambda file: file.create_dataset("x", data=np.arange(1000.0)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(files.Damaged, match=rf"^{path} is truncated or damaged \(.*\)\. Ask again\.$") as found:  # noqa: SIM117
        with files.open_hdf5(path, remedy="Ask again."):
            pass
    assert "\n" not in str(found.value)


def test_data_that_cannot_be_unpacked_are_damaged(path):
    made(path, lambda file: planned(file, "x", (64,), chunked(64, 1)).write_direct_chunk((0,), b"no deflate", 0))
    with pytest.raises(
        files.Damaged,
        match=rf"^{path} is truncated or damaged \(.*\(filter returned failure during read\)\)\. Copy or download",
    ):
        opened(path)


def test_errors_of_the_block_itself(path):
    made(path, lambda file: file.create_dataset("x", data=np.arange(9)))

    def attempt(error):
        with files.open_hdf5(path):
            raise error

    for error in (ValueError("a"), FileNotFoundError(2, "b"), OSError(28, "No space left"), TypeError("c")):
        with pytest.raises(type(error)) as found:
            attempt(error)
        assert found.value is error
    with pytest.raises(OSError, match=rf"^{path} holds more than fits into memory\. Read it in parts\.$"):
        attempt(MemoryError())
    with pytest.raises(files.Damaged, match=rf"^{path} is truncated or damaged \(Unable to open\)"):
        attempt(KeyError("Unable to open"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 another kind"])
def test_other_kinds_of_files(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^Expected {path} to be an HDF5 file, got {len(content)} bytes of another"):
        opened(path)
    assert files.check_digest(path) is False


def test_no_file(path):
    for use in (opened, files.check_digest):
        with pytest.raises(FileNotFoundError, match=rf"^There is no file {path}\. Check the path\.$"):
            use(path)


def everything(file):
    """All that is fine."""
    file["scalar"], file["text"], file["null"] = 1.5, "words", h5py.Empty("f4")
    file["words"] = np.array(["a", "bb"], h5py.string_dtype())
    file["type"], file["bits"] = np.dtype("f4"), np.array([True, False])
    file.create_dataset("nothing", (0, 3), "<f4")
    file.create_dataset("nothing in chunks", (0, 3), "<f4", maxshape=(None, 3))
    file.create_dataset("compact", data=np.arange(3))
    file.create_dataset("longer chunk", (5,), "<f4", chunks=(8,), maxshape=(None,))[:] = 1
    file.create_dataset("edges", (7, 5), "<f4", chunks=(3, 2), compression="lzf", shuffle=True)[:] = 2
    file.create_dataset("zeros", (2**20,), "<f4", chunks=(2**20,), compression="gzip", fletcher32=True)[:] = 0
    file.create_dataset("scaled", (2**16,), "<i4", chunks=(2**16,), scaleoffset=0)[:] = 5
    if h5z.filter_avail(h5z.FILTER_SZIP):
        file.create_dataset("szip", (2**10,), "<f4", chunks=(2**10,), compression="szip")[:] = 0
    file["reference"], file["region"] = file["bits"].ref, file["edges"].regionref[:2]
    file["edges"].attrs["of"] = file["bits"].ref
    group = file.create_group("g/h")
    group["up"], group["root"], group["itself"], group["again"] = file["g"], file["/"], group, file["edges"]
    plan = h5p.create(h5p.DATASET_CREATE)
    plan.set_layout(h5d.COMPACT)
    h5d.create(file.id, b"small", h5t.IEEE_F32LE, h5s.create_simple((5,)), plan).write(
        h5s.ALL, h5s.ALL, np.ones(5, "f4")
    )


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 1024}, {"track_order": True}])
def test_ordinary_files_are_opened_and_cycles_of_links_end(options, path):
    found = opened(made(path, everything, **options))
    np.testing.assert_array_equal(found["edges"], np.full((7, 5), 2, np.float32))
    np.testing.assert_array_equal(found["scaled"], np.full(2**16, 5))


def test_no_plugin_is_loaded_for_a_filter(path):
    made(path, lambda file: planned(file, "x", (4,), chunked(4, 32015)))
    plugins = path.with_name("plugins")
    plugins.mkdir()
    os.mkfifo(plugins / "libplugin.so")  # loading it would wait for ever
    program = "import sys, pathlib; from sciml.files import open_hdf5\nwith open_hdf5(pathlib.Path(sys.argv[1])): pass"
    environment = os.environ | {"HDF5_PLUGIN_PATH": str(plugins), "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment, timeout=60, capture_output=True, text=True
    )
    assert "got filter 32015 (zstd)" in ended.stderr


@pytest.fixture
def sealed(path):
    with files.write_hdf5(path, overwrite=False) as file:
        file["x"] = np.arange(100.0)
        file.attrs["unit"] = "m"
    return path


def test_the_digest_is_written_where_other_programs_skip_it(sealed):
    content = sealed.read_bytes()
    line = f"sciml HDF5, SHA-256 of the bytes from 512 on: {hashlib.sha256(content[512:]).hexdigest()}\n"
    assert content[:512] == line.encode() + bytes(512 - len(line))
    assert files.check_digest(sealed) is True
    with h5py.File(sealed) as file:
        np.testing.assert_array_equal(file["x"][:], np.arange(100.0))
        assert (file.userblock_size, file.attrs["unit"]) == (512, "m")
        mapped = np.memmap(sealed, "<f8", "r", file["x"].id.get_offset(), (100,))
    np.testing.assert_array_equal(mapped, np.arange(100.0))
    np.testing.assert_array_equal(opened(sealed)["x"], np.arange(100.0))


def test_every_other_byte_is_noticed(sealed):
    whole = sealed.read_bytes()
    for bit in (*range(0, 8 * 130, 3), *range(8 * 130, 8 * 520, 37), 8 * len(whole) - 1):
        sealed.write_bytes(flipped(whole, bit))
        with pytest.raises(
            files.Damaged, match=rf"^{sealed} is truncated or damaged \(it.*\)\. Copy or download it again"
        ):
            files.check_digest(sealed)
    for other in (whole + b"\0", whole[:-1], whole[:600], whole[:100], whole[:12]):
        sealed.write_bytes(other)
        with pytest.raises(files.Damaged, match="its bytes differ from its digest"):
            files.check_digest(sealed)


def test_files_of_other_programs_have_no_digest(path):
    assert files.check_digest(made(path, everything)) is False
    made(path, everything, userblock_size=512)
    with pytest.raises(files.Damaged, match="it begins with neither HDF5 nor a digest"):
        files.check_digest(path)


def test_parts_of_other_types_are_refused(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((2, 3))
        file.attrs.update({"one": 1, "text": "[1]", "many": [1, 2], "bad": "{"})
        assert files.hdf5_array(file, "x", "f", (2, None)).shape == (2, 3)
        assert files.hdf5_array(file, "x", "if", (...,)).shape == (2, 3)
        for shape in ((3, None), (2,), (None, None, None, ...), (3, ...), (2, 3, 1), ()):
            with pytest.raises(ValueError, match=r"expected x of shape .* got float64 of shape \(2, 3\)"):
                files.hdf5_array(file, "x", "f", shape)
        with pytest.raises(ValueError, match="of the kind i, got float64"):
            files.hdf5_array(file, "x", "i", (2, 3))
        file.create_group("g")
        with pytest.raises(ValueError, match="expected the data set g, got a group"):
            files.hdf5_array(file, "g", "i", (2, 3))
        planned(file, "time", (3,), lambda plan: None, dtype=h5t.UNIX_D32LE)
        with pytest.raises(ValueError, match="expected time of a type of NumPy, got another one"):
            files.hdf5_array(file, "time", "i", (3,))
        assert files.hdf5_attribute(file, "one", int) == 1
        with pytest.raises(ValueError, match="expected the attribute many to be int, got"):
            files.hdf5_attribute(file, "many", int)
        with pytest.raises(ValueError, match="expected the attribute one to be str, got '1'"):
            files.hdf5_attribute(file, "one", str)
        assert files.hdf5_json(file, "text", list[int]) == [1]
        with pytest.raises(ValueError, match="the attribute text holds something else than expected"):
            files.hdf5_json(file, "text", dict[str, int])
        with pytest.raises(ValueError, match="the attribute bad is damaged: expected JSON"):
            files.hdf5_json(file, "bad", dict)
