"""Own arrays in `.npz` files; they are read as a whole, since their bytes may be compressed."""

import struct
import zipfile

from sciml.data._arrays import read_all_arrays
from sciml.data._layout import AbstractReader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._own import listed, own_arrays


def _recognise(found: Probe) -> str | None:
    if found.kind != "zip":
        return None
    try:
        with zipfile.ZipFile(found.path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError):
        return "a damaged zip archive"  # the message of reading it says how
    return f"a zip archive of {len(names)} arrays" if names and all(one.endswith(".npy") for one in names) else None


def _open(found: Probe, hints: Hints) -> AbstractReader:
    arrays = read_all_arrays(found.path)
    shapes = {name: array.shape for name, array in arrays.items()}
    return own_arrays(arrays, hints, Origin(FORMAT.name, f"arrays {listed(shapes)}", (str(found.path),)))


FORMAT = Format("NumPy arrays", _recognise, _open)
"""`.npz` files of one's own."""
