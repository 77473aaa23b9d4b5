"""MATLAB files of version 5, read here: SciPy's reader ends the process at some damaged bytes.

A file is a header of 128 bytes and one part for each variable, packed by deflate or not. A part holds the class, the
shape, the name and the values, each behind its type and length. Values that are not packed are mapped into memory,
packed ones are unpacked when they are first asked for. Source: MathWorks, MAT-File Format, R2024b, chapter 1.
"""

import functools
import math
import pathlib
import struct
import zlib
from typing import Any

import numpy as np

from sciml.data._layout import AbstractReader
from sciml.data._readers._fno import fno_evidence, fno_reader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._own import listed, own_arrays
from sciml.files import Damaged

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHERS = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "opaque"}
_LOGICAL, _COMPLEX = 0x200, 0x800  # flags next to the class
_MATRIX, _COMPRESSED = 14, 15  # types of the parts of a file
_HEAD = 1024  # bytes of a part that hold its class, shape and name
_EXPANSION = 1100  # deflate makes at most 1032 bytes of one
_REMEDY = "Copy or download it again."


class MatlabVariable:
    """An array of a file, whose values are read at the first slice.

    Args:
        part: The part of the file, bytes.
        order: Order of bytes, "<" or ">".
        packed: Whether it is packed.
        where: The file, for messages.
    """

    def __init__(self, part: np.ndarray, order: str, packed: bool, where: str) -> None:
        self._part, self._order, self._packed, self._where = part, order, packed, where
        head = zlib.decompressobj().decompress(part.data, _HEAD) if packed else part[:_HEAD].tobytes()
        kind, self._length = struct.unpack_from(f"{order}II", head)
        if kind != _MATRIX or self._length > len(part) * (_EXPANSION if packed else 1) or self._length < 16:
            raise ValueError(f"a part of type {kind} and {self._length} bytes")
        (_, flags, _), place = self._piece(head, 8)
        (flags,) = struct.unpack_from(f"{order}I", head, flags)
        (kind, start, size), place = self._piece(head, place)
        if _STORED.get(kind) != "i4" or size % 4 or not 8 <= size <= 128:
            raise ValueError(f"a shape of {size} bytes of type {kind}")
        self.shape: tuple[int, ...] = struct.unpack_from(f"{order}{size // 4}i", head, start)
        (kind, start, size), self._values = self._piece(head, place)
        self.name = head[start : start + size].decode("ascii")
        self.kind = _OTHERS.get(flags & 0xFF, "unknown")
        number = "?" if flags & _LOGICAL else _NUMBERS.get(flags & 0xFF)
        self.dtype = None if number is None else np.dtype("c16" if flags & _COMPLEX else number)
        if min(self.shape) < 0 or self._values > len(head):
            raise ValueError(f"a variable {self.name!r:.80} of shape {self.shape}")

    def _piece(self, content: Any, place: int) -> tuple[tuple[int, int, int], int]:
        """Type, first byte and length of a piece, and where the next one begins; up to 4 bytes share its first 8."""
        (first,) = struct.unpack_from(f"{self._order}I", content, place)
        if first >> 16:
            return (first & 0xFFFF, place + 4, min(4, first >> 16)), place + 8
        (size,) = struct.unpack_from(f"{self._order}I", content, place + 4)
        return (first, place + 8, size), place + 8 + -(-size // 8) * 8

    @functools.cached_property
    def values(self) -> np.ndarray:
        """All values.

        Raises:
            Damaged: If they are not those that were written.
        """
        assert self.dtype is not None
        try:
            content: Any = self._part
            if self._packed:
                machine = zlib.decompressobj()
                content = machine.decompress(self._part.data, 8 + self._length)
                if machine.decompress(machine.unconsumed_tail, 1) or not machine.eof:
                    raise ValueError("packed bytes without their end")
                content = np.frombuffer(content, np.uint8)
            (kind, start, size), _ = self._piece(content, self._values)
            stored = np.dtype(self._order + _STORED[kind])
            if size != math.prod(self.shape) * stored.itemsize or start + size > len(content):
                raise ValueError(f"{size} bytes of {stored} for the shape {self.shape}")
            found = content[start : start + size].view(stored).reshape(self.shape, order="F")
        except (ValueError, KeyError, struct.error, zlib.error) as error:
            raise Damaged(
                f"{self._where} is truncated or damaged ({self.name}: {' '.join(str(error).split()):.200}). {_REMEDY}"
            ) from None
        return found if stored == self.dtype else found.astype(self.dtype)

    def __getitem__(self, cuts: Any) -> np.ndarray:
        """Values at slices."""
        return self.values[cuts]


def _variables(path: pathlib.Path) -> list[MatlabVariable]:
    """The variables of a file.

    Raises:
        Damaged: If its parts do not end where the file ends, or cannot be read.
    """
    size, place, found = path.stat().st_size, 128, []
    content = np.memmap(path, np.uint8, "r")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128].tobytes(), "")
    while order and place + 8 <= size:
        kind, length = struct.unpack(f"{order}II", content[place : place + 8].tobytes())
        if kind not in (_MATRIX, _COMPRESSED):
            raise Damaged(f"{path} is truncated or damaged (a part of the unknown type {kind}). {_REMEDY}")
        end = place + 8 + length
        if end <= size:
            packed = kind == _COMPRESSED
            try:
                found.append(MatlabVariable(content[place + 8 * packed : end], order, packed, str(path)))
            except (ValueError, struct.error, zlib.error) as error:
                raise Damaged(f"{path} is truncated or damaged ({error}). {_REMEDY}") from None
        place = end
    if not order or place != size:
        raise Damaged(f"{path} is truncated or damaged (its parts end at byte {place} of {size}). {_REMEDY}")
    return found


def read_matlab5(path: pathlib.Path) -> tuple[dict[str, MatlabVariable], tuple[str, ...]]:
    """The arrays of numbers of a file by their names, and what else it holds.

    Raises:
        Damaged: If the file is cut off, or declares more than it can hold.
        ValueError: If two variables have one name.
    """
    held = _variables(path)
    names = [one.name for one in held]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: expected variables of different names, got {', '.join(names):.200}. Rename one.")
    found = {one.name: one for one in held if one.dtype is not None}
    if sum(math.prod(one.shape) for one in found.values()) > _EXPANSION * path.stat().st_size:
        shapes = listed({name: one.shape for name, one in found.items()})
        raise Damaged(f"{path} is truncated or damaged ({shapes} are more values than it can hold). {_REMEDY}")
    return found, tuple(f"{one.name} ({one.kind})" for one in held if one.dtype is None)


def _recognise(found: Probe) -> str | None:
    return "the header of MATLAB 5" if found.kind == "mat5" else None


def _open(found: Probe, hints: Hints) -> AbstractReader:
    arrays, others = read_matlab5(found.path)
    shapes = {name: one.shape for name, one in arrays.items()}
    notes = (f"Variables that are no arrays of numbers are not read: {', '.join(others)}.",) if others else ()
    if not arrays:
        held = ", ".join(others) or "nothing"
        raise ValueError(f"{found.path}: expected arrays of numbers, got {held:.300}. Save plain arrays.")
    evidence = None if hints.axes or hints.x or hints.y else fno_evidence(shapes)
    if evidence is not None:
        return fno_reader(arrays, Origin("FNO (MATLAB 5)", evidence, (str(found.path),), notes))
    return own_arrays(arrays, hints, Origin(FORMAT.name, f"arrays {listed(shapes)}", (str(found.path),), notes))


FORMAT = Format("MATLAB 5 arrays", _recognise, _open)
"""Files of MATLAB's version 5, such as those of the Fourier neural operator's authors."""
