"""Files of arrays by name in the format `safetensors`: a JSON header, then bytes; nothing in them can be executed.

Eight bytes give the length of the header, which has `{"dtype", "shape", "data_offsets"}` for each name, and texts in
`__metadata__`. Files that are written here have two such texts: `sha256`, the digest of all bytes after the header,
and `card`, JSON with its own digest.

Source: the format's description at https://github.com/huggingface/safetensors.
"""

import hashlib
import json
import math
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from sciml.files._json import as_kind, decode_json, sealed, unsealed
from sciml.files._plain import Damaged, replacing

_KINDS: dict[str, np.dtype] = {
    "BOOL": np.dtype("?"),
    **{f"U{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
    **{f"I{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype("<c8"),
}
_LONGEST = 100_000_000  # bytes of a header, the format's own limit
_PIECE = 2**24


def write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Writes a file that is complete or not there at all.

    Args:
        path: The file.
        arrays: By name. Large types come first in the file, so that each array begins at a multiple of its item's size.
        card: What describes them, JSON.

    Raises:
        ValueError: If an array is of a type that the format does not have, a name is `__metadata__`, or the card is no
            JSON.
        OSError: If it cannot be written.
    """
    names = {kind: name for name, kind in _KINDS.items()}
    header, entries, start, digest = {}, [], 0, hashlib.sha256()
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        array = np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype not in names or name == "__metadata__":
            raise ValueError(
                f"Expected arrays of the types {', '.join(map(str, names))} under names other than __metadata__, got "
                f"{name!r} of {array.dtype}. Convert it first."
            )
        digest.update(_bytes(array))
        offsets = [start, start + array.nbytes]
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        start = offsets[1]
        entries.append(array)
    try:
        text = json.dumps(sealed(dict(card)), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected a card of finite numbers, texts, lists and dictionaries: {error}.") from None
    header["__metadata__"] = {"card": text, "sha256": digest.hexdigest()}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with replacing(path) as file:
        for part in (struct.pack("<Q", len(head)), head, *map(_bytes, entries)):
            view = memoryview(part)
            while len(view):
                view = view[file.write(view[:_PIECE]) :]


def read_safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file, mapped into memory, and its card.

    Files of other programs are read as well; their texts in `__metadata__` are then the card.

    Raises:
        FileNotFoundError: If it is missing.
        Damaged: If it is cut off, its header is not one, or its bytes differ from the digest.
        ValueError: If an array is of an unknown type, or the bytes of the arrays do not fill the file exactly once.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
        if not 2 <= length <= min(_LONGEST, size - 8):
            raise Damaged(
                f"{path} is damaged: expected the length of its header, up to {max(size - 8, 0)} bytes, got {length}."
            )
        header = as_kind(decode_json(file.read(length), f"the header of {path}"), dict[str, dict[str, Any]], str(path))
    texts = as_kind(header.pop("__metadata__", {}), dict[str, str], f"__metadata__ of {path}")
    count = size - 8 - length
    content = np.memmap(path, np.uint8, "r", 8 + length, (count,)) if count else np.empty(0, np.uint8)
    arrays = _arrays(header, content, path)
    if "sha256" in texts:
        digest = hashlib.sha256()
        for start in range(0, count, _PIECE):
            digest.update(_bytes(content[start : start + _PIECE]))
        if digest.hexdigest() != texts["sha256"]:
            raise Damaged(f"{path} is damaged: its bytes differ from their digest. Copy or write it again.")
    if "card" not in texts:
        return arrays, dict(texts)
    where = f"the card of {path}"
    return arrays, unsealed(as_kind(decode_json(texts["card"].encode(), where), dict[str, Any], where), where)


def _arrays(header: Mapping[str, dict[str, Any]], content: np.ndarray, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Views of the bytes, after what the header says of each was compared with the others and the file."""
    spans, arrays = [], {}
    for name, entry in header.items():
        where = f"the array {name!r:.200} of {path}"
        entry = as_kind(entry, dict[str, str | list[int]], where)
        given, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
        kind = _KINDS.get(given) if isinstance(given, str) else None
        if kind is None:
            raise ValueError(f"Expected {where} to be of {', '.join(_KINDS)}, got {given!r:.80}. Convert it first.")
        if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= 32):
            raise ValueError(f"Expected a shape and two offsets of {where}, got {entry!r:.200}. Write the file again.")
        start, end = offsets
        right = min(shape, default=0) >= 0 and 0 <= start <= end <= len(content)
        if not right or math.prod(shape) * kind.itemsize != end - start:
            raise ValueError(
                f"Expected {where} of shape {shape} to have {math.prod(shape) * kind.itemsize} of the file's "
                f"{len(content)} bytes, got those from {start} to {end}. Copy or write the file again."
            )
        spans.append((start, end))
        arrays[name] = content[start:end].view(kind).reshape(shape) if end > start else np.zeros(shape, kind)
    ends = [0, *(end for _, end in sorted(spans)), len(content)]
    if [start for start, _ in sorted(spans)] != ends[:-2] or ends[-1] != ends[-2]:
        raise ValueError(f"The arrays of {path} overlap, or leave bytes between them. Copy or write the file again.")
    return arrays


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
