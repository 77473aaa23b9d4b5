"""netCDF files: version 3 through SciPy, version 4 as HDF5 files that were looked through before they are read."""

import contextlib

from sciml.data._layout import AbstractReader
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import Origin
from sciml.data._readers._xarray import dataset_reader, imported
from sciml.files import Damaged, open_hdf5

_ENGINES = {"hdf5": "h5netcdf", "netcdf3": "scipy"}
# What xarray, h5netcdf and SciPy raise for damaged files.
_UNREADABLE = (ValueError, TypeError, OSError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError)


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
    try:
        dataset = xarray.open_dataset(
            found.path,
            engine=_ENGINES[found.kind],
            decode_times=False,
            decode_timedelta=False,
            chunks=None,
            cache=False,
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(f"{found.path} is truncated or damaged ({reason:.300}). Copy or download it again.") from None
    return dataset_reader(dataset, hints, Origin(FORMAT.name, f"{_recognise(found)}; ", (str(found.path),)))


FORMAT = Format("netCDF", _recognise, _open)
"""netCDF 3 and 4, classic or with CF conventions."""
