"""netCDF files: version 3 through SciPy into memory, version 4 as HDF5 files that were looked through before.

SciPy would map version 3 into memory, but cannot close it then while a value is in use.
"""

import contextlib
import functools
import io

from sciml.data._layout import AbstractReader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._xarray import dataset_reader, imported
from sciml.files import Damaged, open_hdf5

# What xarray, h5netcdf and SciPy raise for damaged files.
_UNREADABLE = (
    *(ValueError, TypeError, OSError, KeyError, IndexError, AttributeError, RuntimeError),
    *(OverflowError, MemoryError),
)


def _recognise(found: Probe) -> str | None:
    if found.kind == "netcdf3":
        return "the first bytes of netCDF 3"
    if found.kind != "hdf5":
        return None
    conventions = found.attributes.get("Conventions")
    if "_NCProperties" in found.attributes:
        return "the attribute _NCProperties of netCDF 4"
    return f"the conventions {conventions}" if isinstance(conventions, str) and conventions.startswith("CF") else None


def _open(found: Probe, hints: Hints) -> AbstractReader:
    xarray = imported("xarray")
    if found.kind == "hdf5":
        imported("h5netcdf")
        with contextlib.suppress(ImportError):
            imported("hdf5plugin")  # registers its filters, which `open_hdf5` then finds
        with open_hdf5(found.path):
            pass
    plain = functools.partial(xarray.open_dataset, decode_times=False, decode_timedelta=False, chunks=None, cache=False)
    try:
        if found.kind == "hdf5":
            dataset = plain(found.path, engine="h5netcdf")
        else:
            whole = io.BytesIO(found.path.read_bytes())  # a file would make room for all bytes that it declares
            with plain(whole, engine="scipy") as held:
                dataset = held.load()
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(f"{found.path} is truncated or damaged ({reason:.300}). Copy or download it again.") from None
    return dataset_reader(dataset, hints, Origin(FORMAT.name, f"{_recognise(found)}; ", (str(found.path),)))


FORMAT = Format("netCDF", _recognise, _open)
"""netCDF 3 and 4, classic or with CF conventions."""
