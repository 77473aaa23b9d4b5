"""MATLAB 7.3: HDF5 files whose axes are reversed, and HDF5 files without a format, whose arrays the user names."""

import math
import pathlib
from collections.abc import Mapping

import numpy as np

from sciml.data._layout import AbstractReader
from sciml.data._readers._files import Files
from sciml.data._readers._fno import Reversed, fno_evidence, fno_reader
from sciml.data._readers._formats import Format, Hints, Item, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._own import own_arrays
from sciml.data._readers._stored import Stored, stored

_TOGETHER = 64  # samples that are read at once where they are the last axis of an array stored as a whole


def _recognise(probe: Probe) -> str | None:
    return "header MATLAB 7.3" if probe.matlab and probe.kind == "hdf5" else None


def _open(probe: Probe, hints: Hints) -> AbstractReader:
    arrays = _arrays(probe)
    others = [name for name, item in probe.arrays.items() if not item.numbers and not name.startswith("#")]
    said = (f"Variables that are no arrays of numbers are not read: {', '.join(others)}.",) if others else ()
    notes = ("The axes have MATLAB's order again.", *said)
    origin = Origin("MATLAB 7.3 arrays", "header MATLAB 7.3", (str(probe.path),), notes)
    shapes = {name: tuple(one.shape) for name, one in arrays.items() if probe.arrays[name].numbers}
    found = None if hints.given else fno_evidence(shapes)
    if found is None:
        return own_arrays(arrays, hints, origin)
    try:
        return fno_reader(arrays, Origin("FNO (MATLAB 7.3)", f"{origin.evidence}, {found}", origin.paths, notes))
    except ValueError as error:
        path = str(probe.path)
        raise ValueError(f"{error}" if str(error).startswith(path) else f"{path}: {error}") from None


def _arrays(probe: Probe) -> Mapping[str, Reversed | np.ndarray]:
    """The arrays in MATLAB's order of axes, without those that cells refer to."""
    files, found = probe.files, {}
    for name, item in probe.arrays.items():
        if name.startswith("#"):
            continue
        inner = _array(files, probe.path, name, item)
        if isinstance(inner, np.ndarray):
            found[name] = inner.T
            continue
        array = Reversed(inner)
        if item.chunks is None and len(item.shape) > 2:
            array.chunks = (min(_TOGETHER, array.shape[0]), *array.shape[1:])
        found[name] = array
    return found


def _array(files: Files, path: pathlib.Path, name: str, item: Item) -> Stored | np.ndarray:
    """A data set; numbers and lines, such as times and coordinates, are read at once."""
    line = item.numbers and math.prod(item.shape) == max(item.shape, default=1)
    return files.values(path, name) if line else stored(files, path, name, item)


def open_plain(probe: Probe, hints: Hints) -> AbstractReader:
    """A reader of an HDF5 file without a format.

    Args:
        probe: The file.
        hints: Which of its arrays are the frames and inputs, and what their axes are.

    Raises:
        ValueError: If neither names and shapes nor the hints tell what the arrays are; the message lists them with a
            command.
    """
    files = probe.files
    arrays = {name: _array(files, probe.path, name, item) for name, item in probe.arrays.items()}
    return own_arrays(arrays, hints, Origin("HDF5 arrays", "an HDF5 file without a known format", (str(probe.path),)))


FORMAT = Format("MATLAB 7.3", _recognise, _open)
"""The format of this file."""
