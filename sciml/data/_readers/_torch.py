"""Files of `torch.save`, such as the data sets of neuraloperator, read by `files.read_torch`."""

import struct
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from sciml import files
from sciml.data._layout import AbstractReader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._own import listed, own_arrays

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # PyTorch's magic number, pickled


class _BFloat16:
    """Numbers with the upper half of the bits of a float32.

    Args:
        bits: Those bits.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, bits: np.ndarray) -> None:
        self.bits, self.shape = bits, bits.shape

    def __getitem__(self, cuts: Any) -> np.ndarray:
        return (np.asarray(self.bits[cuts], np.uint32) << 16).view(np.float32)


def _usual(array: np.ndarray) -> Any:
    return _BFloat16(array.view("<u2")) if array.dtype == ml_dtypes.bfloat16 else array


def _recognise(found: Probe) -> str | None:
    if found.kind == "other":
        with found.path.open("rb") as file:
            return "the first bytes of PyTorch before 1.6" if file.read(len(_LEGACY)) == _LEGACY else None
    if found.kind != "zip":
        return None
    try:
        with zipfile.ZipFile(found.path) as archive:
            return "a zip archive with data.pkl" if files.torch_archive(archive.namelist()) else None
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError):
        return None


def _open(found: Probe, hints: Hints) -> AbstractReader:
    if found.kind == "other":
        raise ValueError(
            f"{found.path}: expected a zip archive, as PyTorch 1.6 and later write it, got a file of an earlier one. "
            "Load and save it again by a later one."
        )
    entries = files.read_torch(found.path)
    arrays = {name: _usual(entry) for name, entry in entries.items() if isinstance(entry, np.ndarray)}
    for name, array in arrays.items():
        if array.dtype.kind == "c":
            raise ValueError(
                f"{found.path}: expected real tensors, got {name!r:.80} of {array.dtype}. Store its real and imaginary "
                "part as two channels; weights are read by sciml.interop.read_arrays."
            )
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    return own_arrays(arrays, hints, Origin(FORMAT.name, f"tensors {listed(shapes)}", (str(found.path),)))


FORMAT = Format("PyTorch tensors", _recognise, _open)
"""Files of `torch.save`."""
