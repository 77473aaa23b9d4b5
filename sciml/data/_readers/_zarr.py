"""zarr stores of versions 2 and 3 in local folders, with named dimensions as xarray writes them.

Nothing is opened before all metadata were read as JSON: types other than numbers and texts of one size, and codecs out
of the closed list, such as `pickle`, are refused. Chunks that are not there hold the fill value; that is a note, and if
they are most of an array, an error.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sciml.data._layout import AbstractReader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._own import listed, own_arrays
from sciml.data._readers._xarray import axes_of, dataset_reader, imported
from sciml.files import Damaged, check_tree, decode_json

_METADATA = (".zarray", "zarr.json", ".zgroup", ".zattrs", ".zmetadata")
_LONGEST = 2**24  # bytes of a part of the metadata
_LARGEST_CHUNK = 2**30  # bytes; a chunk is unpacked in memory as a whole
_BLOSC = 16  # bytes of the header of blosc, whose last four are the length with it
_NOT_THERE = 2**64 - 1  # in the index of a shard
_REMEDY = "Copy or download the store again."
_LEAST_WRITTEN = 0.1  # of the chunks of an array
_CODECS = {
    *("bytes", "gzip", "zstd", "blosc", "crc32c", "transpose", "sharding_indexed"),
    *("zlib", "gz", "bz2", "lzma", "lz4", "shuffle", "delta", "fixedscaleoffset", "bitround", "quantize", "packbits"),
    *("astype", "adler32", "fletcher32", "crc32", "pcodec", "zfpy", "vlen-utf8"),
}
_TEXTS = ("string", "fixed_length_utf32", "null_terminated_bytes", "numpy.datetime64", "numpy.timedelta64")
_UNREADABLE = (ValueError, TypeError, OSError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError)


def check_store(folder: pathlib.Path) -> tuple[str, ...]:
    """Looks through a store before it is opened; returns what to note.

    Raises:
        Damaged: If metadata are no JSON, or most chunks of an array were never written.
        ValueError: If it holds links, values that are Python objects, codecs out of the list, or larger chunks.
    """
    check_tree(folder)
    notes = []
    for path in sorted(folder.rglob("*")):
        if path.name not in (".zarray", "zarr.json"):
            continue
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"{path}: expected metadata of at most {_LONGEST} bytes, got {path.stat().st_size}.")
        found = decode_json(path.read_bytes(), str(path))
        if not isinstance(found, dict):
            raise Damaged(f"{path} is damaged: expected a JSON object. Copy or download the store again.")
        if path.name == ".zarray" or found.get("node_type") == "array":
            try:
                note = _check_array(path.parent, found)
            except (TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
                what = f"{type(error).__name__}: {error}"
                raise Damaged(f"{path} is damaged ({what:.200}). Copy or download the store again.") from None
            notes.extend([note] if note else [])
    return tuple(notes)


def _check_array(folder: pathlib.Path, found: Mapping[str, Any]) -> str | None:
    """Refuses what an array must not be."""
    old = found.get("zarr_format") == 2
    shape, kind = found["shape"], found["dtype" if old else "data_type"]
    chunks = found["chunks"] if old else found["chunk_grid"]["configuration"]["chunk_shape"]
    sizes = (*shape, *chunks)
    if not all(type(n) is int and n >= 0 for n in sizes) or len(shape) != len(chunks) or 0 in chunks:
        raise Damaged(f"{folder}: expected a shape and chunks, got {shape} and {chunks}. Copy the store again.")
    codecs = [*(found.get("filters") or ()), found.get("compressor")] if old else found["codecs"]
    codecs = [codec for codec in codecs if codec is not None]
    if not _plain(kind, codecs):
        raise ValueError(
            f"{folder}: expected numbers or texts of one size, got {json.dumps(kind):.80}. Objects could run code: "
            "write the numbers alone."
        )
    for name in map(_name, _inner(codecs)):
        if name not in _CODECS:
            raise ValueError(
                f"{folder}: expected codecs of {', '.join(sorted(_CODECS))}, got {name!r:.80}. Write the store again "
                "with one of them."
            )
    if math.prod(chunks) * 8 > _LARGEST_CHUNK:
        raise ValueError(
            f"{folder}: expected chunks of at most {_LARGEST_CHUNK} bytes, got {chunks}. Write smaller ones."
        )
    held = [path for path in folder.rglob("*") if path.is_file() and path.name not in _METADATA]
    if any(_name(one) == "blosc" for one in _inner(codecs)):
        for path in held:
            _check_packed(path, codecs, chunks)
    return _check_written(folder, shape, chunks, len(held))


def _plain(kind: Any, codecs: Any) -> bool:
    """Whether values are numbers or texts."""
    kind = kind.get("name") if isinstance(kind, dict) else kind
    if kind in _TEXTS:
        return True
    if kind == "|O":
        return "vlen-utf8" in [codec.get("id") for codec in codecs]
    try:
        return isinstance(kind, str) and np.dtype(kind).kind in "biufcSUmM"
    except TypeError:
        return False


def _inner(codecs: Any) -> list[Mapping[str, Any]]:
    """All codecs, also those within shards."""
    found = list(codecs)
    for codec in codecs:
        configuration = codec.get("configuration") or {}
        found += _inner([*configuration.get("codecs", ()), *configuration.get("index_codecs", ())])
    return found


def _check_packed(path: pathlib.Path, codecs: Sequence[Any], chunk: Sequence[int]) -> None:
    """Compares the lengths that chunks packed by blosc declare with their own: blosc reads beyond them otherwise.

    Args:
        path: A file of a chunk, or of a shard of chunks.
        codecs: Its codecs, the last one makes the bytes.
        chunk: Shape of the chunk or shard.
    """
    size = path.stat().st_size
    if _name(codecs[-1]) != "sharding_indexed":
        _check_blosc(path, [(0, size)], codecs)
        return
    inner = codecs[-1]["configuration"]
    if any(_name(one) == "blosc" for one in _inner(inner["codecs"])):
        count = math.prod(n // step for n, step in zip(chunk, inner["chunk_shape"], strict=True))
        index = 16 * count + 4 * sum(_name(one) == "crc32c" for one in inner["index_codecs"])
        first = 0 if inner.get("index_location") == "start" else size - index
        with path.open("rb") as file:
            file.seek(max(0, first))
            places = np.frombuffer(file.read(16 * count), "<u8")
        if first < 0 or len(places) != 2 * count:
            raise Damaged(f"{path} is truncated or damaged (an index of {index} in {size} bytes). {_REMEDY}")
        pieces = [(int(start), int(length)) for start, length in places.reshape(-1, 2) if start != _NOT_THERE]
        if any(start + length > size for start, length in pieces):
            raise Damaged(f"{path} is truncated or damaged (a chunk exceeds its {size} bytes). {_REMEDY}")
        _check_blosc(path, pieces, inner["codecs"])


def _check_blosc(path: pathlib.Path, pieces: Sequence[tuple[int, int]], codecs: Sequence[Any]) -> None:
    """See `_check_packed`; pieces are the first bytes and lengths of chunks."""
    names = [_name(one) for one in codecs]
    checksums = 0
    while names and names[-1] == "crc32c":
        checksums += 4 * len([names.pop()])
    if "blosc" in names[:-1] or "sharding_indexed" in names:
        raise ValueError(f"{path}: expected blosc as the last codec, got {', '.join(names)}. Write the store again.")
    if names[-1:] != ["blosc"]:
        return
    with path.open("rb") as file:
        for start, length in pieces:
            file.seek(start)
            declared = int.from_bytes(file.read(_BLOSC)[12:], "little")
            if length < _BLOSC or declared != length - checksums:
                raise Damaged(
                    f"{path} is truncated or damaged (a chunk of {length} bytes declares {declared}). {_REMEDY}"
                )


def _name(codec: Mapping[str, Any]) -> str:
    return str(codec["id"] if "id" in codec else codec["name"]).removeprefix("numcodecs.")


def _check_written(folder: pathlib.Path, shape: list[int], chunks: list[int], held: int) -> str | None:
    expected = math.prod(-(-length // step) for length, step in zip(shape, chunks, strict=True))
    if held < _LEAST_WRITTEN * expected:
        raise Damaged(
            f"{folder} of shape {tuple(shape)}: expected {expected} chunks, got {held}; others were never written. "
            "Copy or download the store again."
        )
    missing = expected - held
    return (
        f"{missing} of {expected} chunks of {folder.name} are not there: they hold its fill value."
        if missing > 0
        else None
    )


def _recognise(found: Probe) -> str | None:
    if found.kind != "zarr":
        return None
    return f"the metadata {next(name for name in _METADATA if (found.path / name).is_file())} of zarr"


def _open(found: Probe, hints: Hints) -> AbstractReader:
    zarr, xarray, path = imported("zarr"), imported("xarray"), found.path
    notes = check_store(path)
    try:
        arrays = _arrays(zarr, path)
        named = {name: _dimensions(array) for name, array in arrays.items()}
        if "" in arrays or not all(named[name] for name, array in arrays.items() if array.ndim):
            numbers = {name or path.stem: array for name, array in arrays.items() if array.dtype.kind in "biufc"}
            evidence = f"arrays {listed({name: tuple(array.shape) for name, array in numbers.items()})}"
            axes = hints.axes or axes_of(named.get("", ()))
            return own_arrays(
                numbers, dataclasses.replace(hints, axes=axes), Origin(FORMAT.name, evidence, (str(path),), notes)
            )
        dataset = xarray.open_dataset(
            path,
            engine="zarr",
            decode_times=False,
            decode_timedelta=False,
            chunks=None,
            cache=False,
            consolidated=False,
        )
    except _UNREADABLE as error:
        if str(error).startswith(f"{path}: "):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(f"{path} is truncated or damaged ({reason:.300}). Copy or download it again.") from None
    return dataset_reader(dataset, hints, Origin(FORMAT.name, f"{_recognise(found)}; ", (str(path),), notes))


def _arrays(zarr: Any, path: pathlib.Path) -> dict[str, Any]:
    """The arrays of a group, or with the name "" the one that the store is; metadata copied elsewhere are not used."""
    root = path / "zarr.json"
    alone = root.is_file() and decode_json(root.read_bytes(), str(root)).get("node_type") == "array"
    if alone or (path / ".zarray").is_file():
        return {"": zarr.open_array(path, mode="r")}
    return dict(zarr.open_group(path, mode="r", use_consolidated=False).arrays())


def _dimensions(array: Any) -> tuple[str, ...]:
    """Names of the dimensions of an array; none if it does not tell."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(str(name) for name in names if name is not None)


FORMAT = Format("zarr", _recognise, _open)
"""Stores in local folders."""
