"""MATLAB files of version 5, read by SciPy, a variable at a time when its values are asked for."""

import functools
import math
import pathlib
import struct
import zlib
from typing import Any

import numpy as np
import scipy.io

from sciml.data._layout import AbstractReader
from sciml.data._readers._fno import fno_evidence, fno_reader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._own import listed, own_arrays
from sciml.files import Damaged

_TYPES = {
    "double": "f8",
    "single": "f4",
    "logical": "?",
    **{f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4, 8)},
}
_MATRIX, _COMPRESSED = 14, 15  # types of the parts of a file
_EXPANSION = 1100  # deflate makes at most 1032 bytes of one
_REMEDY = "Copy or download it again."
# What SciPy raises for damaged bytes.
_UNREADABLE = (ValueError, TypeError, OSError, IndexError, KeyError, AttributeError, OverflowError, RuntimeError)


class MatlabVariable:
    """An array of a file that is read as a whole at the first slice.

    Args:
        path: The file.
        name: Name of the variable.
        shape: Its shape.
        dtype: Its type.
    """

    def __init__(self, path: pathlib.Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype

    @functools.cached_property
    def values(self) -> np.ndarray:
        """All values.

        Raises:
            Damaged: If they cannot be read.
            ValueError: If they are not those that were declared.
        """
        try:
            found = scipy.io.loadmat(self.path, variable_names=[self.name])[self.name]
        except (*_UNREADABLE, zlib.error, struct.error, scipy.io.matlab.MatReadError) as error:
            raise _damaged(self.path, error) from None
        if not isinstance(found, np.ndarray) or found.shape != self.shape or found.dtype.kind not in "biuf":
            kind = getattr(found, "dtype", type(found).__name__)
            raise ValueError(
                f"{self.path}: expected real numbers of shape {self.shape} in {self.name}, got {kind} of "
                f"{getattr(found, 'shape', ())}. Write real and imaginary part as two arrays."
            )
        return found

    def __getitem__(self, cuts: Any) -> np.ndarray:
        """Values at slices."""
        return self.values[cuts]


def _damaged(path: pathlib.Path, error: Exception) -> Damaged:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Damaged(f"{path} is truncated or damaged ({reason:.200}). {_REMEDY}")


def _largest(path: pathlib.Path) -> int:
    """Number of values that the file can hold at most.

    Raises:
        Damaged: If its parts do not end where the file ends.
    """
    size, place, values = path.stat().st_size, 128, 0
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:128])
        while order is not None and place + 8 <= size:
            file.seek(place)
            kind, length = struct.unpack(f"{order}II", file.read(8))
            if kind not in (_MATRIX, _COMPRESSED):
                raise Damaged(f"{path} is truncated or damaged (a part of the unknown type {kind}). {_REMEDY}")
            values += length * (1 if kind == _MATRIX else _EXPANSION)
            place += 8 + length
    if order is None or place != size:
        raise Damaged(f"{path} is truncated or damaged (its parts end at byte {place} of {size}). {_REMEDY}")
    return values


def read_matlab5(path: pathlib.Path) -> tuple[dict[str, MatlabVariable], tuple[str, ...]]:
    """The arrays of numbers of a file by their names, and what else it holds.

    Raises:
        Damaged: If the file is cut off, or declares more than it can hold.
        ValueError: If two variables have one name.
    """
    largest = _largest(path)
    try:
        held = scipy.io.whosmat(path)
    except (*_UNREADABLE, zlib.error, struct.error, scipy.io.matlab.MatReadError) as error:
        raise _damaged(path, error) from None
    names = [name for name, *_ in held]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: expected variables of different names, got {', '.join(names):.200}. Rename one.")
    found = {
        name: MatlabVariable(path, name, tuple(map(int, shape)), np.dtype(_TYPES[kind]))
        for name, shape, kind in held
        if kind in _TYPES
    }
    if sum(math.prod(one.shape) for one in found.values()) > largest:
        shapes = listed({name: one.shape for name, one in found.items()})
        raise Damaged(f"{path} is truncated or damaged ({shapes} are more values than it can hold). {_REMEDY}")
    return found, tuple(f"{name} ({kind})" for name, _, kind in held if kind not in _TYPES)


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
