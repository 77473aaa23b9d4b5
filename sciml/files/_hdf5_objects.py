"""What an HDF5 file may hold: data sets whose bytes all lie in the file, and nothing that leads out of it."""

import math
import pathlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]  # compiled, unannotated

from sciml.files._plain import Damaged

_BUILT_IN = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_PLUGINS = {
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
}
_BOUNDED = {1, 2, 3, 32000}  # filters that cannot make more than `_EXPANSION` bytes of one
_EXPANSION = 1100  # deflate makes at most 1032 bytes of one
_LARGEST_CHUNK = 2**30  # bytes; a chunk is unpacked in memory as a whole
_COPY = "Copy its arrays into a plain HDF5 file, if you trust it."


def check_objects(file: h5py.File, path: pathlib.Path) -> None:
    """Walks over all objects of a file and refuses those that would give other bytes than the file's own.

    Nothing else is opened meanwhile, and no data are read: neither what a link leads to nor a plugin that a filter
    needs. References and named types lead nowhere by themselves and may stay.

    Raises:
        Damaged: If a data set, or a chunk of it, was never written, is shorter than declared, or exceeds the file.
        ValueError: If there are soft, external or user-defined links, external storage, virtual data sets, sequences
            of variable length, or filters that are not there.
    """
    left = size = path.stat().st_size
    for name, found in _objects(file, path):
        if isinstance(found, h5d.DatasetID):
            where = f"{path}: data set {name}"
            _check_source(where, found.get_create_plist())
            left -= _check_size(where, found, size)
            if left < 0:
                raise Damaged(
                    f"{where}: it and other data sets share bytes, they declare more than the {size} of the file."
                )


def _objects(file: h5py.File, path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Every object once, by its address, since hard links may form cycles."""
    waiting, seen = [("", h5g.open(file.id, b"/"))], set()
    while waiting:
        name, found = waiting.pop()
        info = h5o.get_info(found)
        if (info.fileno, info.addr) in seen:
            continue
        seen.add((info.fileno, info.addr))
        yield name, found
        if isinstance(found, h5g.GroupID):
            for link in found:
                inner = f"{name}/{_shown(link)[1:-1]}"
                _check_link(f"{path}: {inner}", found, link)
                waiting.append((inner, h5o.open(found, link)))


def _check_link(where: str, group: h5g.GroupID, link: bytes) -> None:
    if b"/" in link or link in (b"", b"."):
        raise ValueError(f"{where}: expected the name of a group or a data set, got a path. {_COPY}")
    kind = group.links.get_info(link).type
    if kind == h5l.TYPE_HARD:
        return
    if kind == h5l.TYPE_EXTERNAL:
        other, inner = map(_shown, group.links.get_val(link))
        what = f"an external link to {inner} in {other}"
    elif kind == h5l.TYPE_SOFT:
        what = f"a soft link to {_shown(group.links.get_val(link))}"
    else:
        what = f"a link of the unknown class {kind}"
    raise ValueError(f"{where}: expected a group or a data set, got {what}. {_COPY}")


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="backslashreplace"))  # on one line, whatever the name is


def _check_source(where: str, plan: h5py.h5p.PropDCID) -> None:
    """Refuses what would be read from elsewhere, or by code that is not there yet."""
    if plan.get_layout() == h5d.VIRTUAL:
        raise ValueError(f"{where}: expected data in this file, got a virtual data set over other ones. {_COPY}")
    if plan.get_external_count():
        other = _shown(plan.get_external(0)[0])
        raise ValueError(f"{where}: expected data in this file, got external storage in {other}. {_COPY}")
    for number in _filters(plan):
        try:
            ready = h5z.get_filter_info(number) & h5z.FILTER_CONFIG_DECODE_ENABLED
        except RuntimeError:  # `h5z.filter_avail` would load all libraries of the plugin path to find it
            ready = False
        if not ready:
            known = ", ".join(_BUILT_IN.values())
            name = _BUILT_IN.get(number) or _PLUGINS.get(number) or "no registered plugin of hdf5plugin"
            remedy = (
                "Ask for a file with gzip."
                if number not in _PLUGINS
                else "Install it with `pip install hdf5plugin` and import hdf5plugin before you read."
            )
            raise ValueError(f"{where}: expected filters among {known}, got filter {number} ({name}). {remedy}")


def _filters(plan: h5py.h5p.PropDCID) -> list[int]:
    return [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]


def _check_size(where: str, data: h5d.DatasetID, size: int) -> int:
    """Compares what a data set declares with what is stored of it; returns the stored bytes."""
    space, kind = data.get_space(), data.get_type()
    if space.get_simple_extent_type() == h5s.NULL:
        return 0
    if kind.detect_class(h5t.VLEN):  # a damaged length makes HDF5 fill gigabytes; texts are bounded by 4 GiB
        raise ValueError(
            f"{where}: expected numbers, texts or records of one size, got sequences of any length. {_COPY}"
        )
    item = 1 if kind.detect_class(h5t.REFERENCE) else kind.get_size()  # references are shorter in a file
    declared = math.prod(space.shape) * item  # integers of Python, which do not overflow
    if declared == 0:
        return 0
    if data.get_create_plist().get_layout() == h5d.CHUNKED:
        return _check_chunks(where, data, item, size)
    stored = data.get_storage_size()
    if stored == 0 and _only_a_dimension(data):
        return 0
    if stored == 0:
        raise Damaged(f"{where} of shape {space.shape} was never written.")
    if stored < declared:
        raise Damaged(f"{where}: expected {declared} bytes for the shape {space.shape}, got {stored}.")
    if (data.get_offset() or 0) + stored > size:
        raise Damaged(f"{where}: expected {stored} bytes from {data.get_offset()} on, but the file has {size}.")
    return stored


def _only_a_dimension(data: h5d.DatasetID) -> bool:
    """Whether netCDF made the data set for the length of a dimension, and says that it has no values."""
    if not h5a.exists(data, b"NAME"):
        return False
    text = h5a.open(data, b"NAME")
    if text.shape != () or text.dtype.kind != "S":
        return False
    name = np.empty((), text.dtype)
    text.read(name)
    return name.tobytes().startswith(b"This is a netCDF dimension but not a netCDF variable")


def _check_chunks(where: str, data: h5d.DatasetID, item: int, size: int) -> int:
    shape, plan = data.get_space().shape, data.get_create_plist()
    chunk, filters = plan.get_chunk(), _filters(plan)
    full = math.prod(chunk) * item
    count = math.prod(-(-length // step) for length, step in zip(shape, chunk, strict=True))
    found = []
    data.chunk_iter(lambda one: True if len(found) > count else found.append(one))  # True ends it
    inside = {
        one.chunk_offset for one in found if all(at < end for at, end in zip(one.chunk_offset, shape, strict=True))
    }
    if not len(found) == len(inside) == count:
        raise Damaged(
            f"{where} of shape {shape}: expected {count} chunks, got {len(inside)}; others were never written."
        )
    for one in found:
        if one.byte_offset is None or one.byte_offset + one.size > size:
            raise Damaged(f"{where}: the chunk at {one.chunk_offset} exceeds the {size} bytes of the file.")
        plain = all(one.filter_mask >> i & 1 for i in range(len(filters)))  # its filters were skipped
        largest = one.size if plain else _EXPANSION * one.size if _BOUNDED.issuperset(filters) else _LARGEST_CHUNK
        if full > (largest if plain else min(largest, _LARGEST_CHUNK)):
            raise Damaged(
                f"{where}: expected a chunk of {full} bytes at {one.chunk_offset}, got {one.size} bytes, which cannot "
                "be unpacked to as many."
            )
    return sum(one.size for one in found)
