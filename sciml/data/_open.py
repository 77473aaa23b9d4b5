"""From a path of any known format to trajectories."""

import os
import pathlib

from sciml.data._layout import AbstractReader
from sciml.data._readers import (
    _converted,
    _folder,
    _matlab5,
    _matlab7,
    _netcdf,
    _npy,
    _npz,
    _pairs,
    _pdebench,
    _torch,
    _well,
    _zarr,
)
from sciml.data._readers._formats import Format, Hints, Probe, listed, probe
from sciml.data._trajectories import Trajectories

FORMATS: tuple[Format, ...] = (
    *_pdebench.FORMATS,
    *_well.FORMATS,
    *_pairs.FORMATS,
    _converted.FORMAT,
    _matlab7.FORMAT,
    _matlab5.FORMAT,
    _torch.FORMAT,
    *_npy.FORMATS,
    _npz.FORMAT,
    _netcdf.FORMAT,
    _zarr.FORMAT,
    _folder.FORMAT,
)
"""All known formats."""


def open_data(path: str | os.PathLike[str], hints: Hints | None = None) -> Trajectories:
    """The data of a path in any known format, recognised by content. Values are read when they are asked for.

    What a user says of an HDF5 file goes before the format that its names of arrays suggest.

    Args:
        path: File or folder.
        hints: What the data do not tell: names of arrays and axes.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If no format, or more than one, fits, if the data contradict their format, or if the hints do not
            fit them; the message lists what was found and a command to go on with.
        Damaged: If a file is truncated or damaged.
        ImportError: If a package is missing; the message names the extra that installs it.
    """
    found = probe(pathlib.Path(path))
    try:
        fitting = [(one, evidence) for one in FORMATS if (evidence := one.recognise(found)) is not None]
        return Trajectories(_reader(found, fitting, Hints() if hints is None else hints))
    except Exception:
        found.files.close()  # the error holds it, and would keep its files open
        raise


def _reader(found: Probe, fitting: list[tuple[Format, str]], hints: Hints) -> AbstractReader:
    if found.kind == "hdf5" and (not fitting or (hints.given and all(one.labelled for one, _ in fitting))):
        return _matlab7.open_plain(found, hints)
    if len(fitting) != 1:
        raise ValueError(_several(found, fitting) if fitting else _none(found))
    one, evidence = fitting[0]
    if hints.given and one.labelled:
        raise ValueError(
            f"{found.path}: expected no names of arrays or axes, since the data name them ({one.name}: {evidence}), "
            f"got {', '.join(said for said in (hints.x, hints.y, *hints.axes) if said)}. Leave out --x, --y and --axes."
        )
    return one.open(found, hints)


def _several(found: Probe, fitting: list[tuple[Format, str]]) -> str:
    shown = "; ".join(f"{one.name} ({evidence})" for one, evidence in fitting)
    example = next(iter(found.arrays), "u")
    return (
        f"{found.path}: expected data of one known format, got {len(fitting)} that fit: {shown}. Name the arrays and "
        f"axes yourself, as in `sciml data info {found.path} --y {example} --axes sample,time,x`."
    )


def _none(found: Probe) -> str:
    known = ", ".join(one.name for one in FORMATS)
    if found.kind == "folder":
        inside = sorted(one.name for one in found.path.iterdir())
        what = f"a folder of {len(inside)} entries: {', '.join(inside[:8])}{' and more' if len(inside) > 8 else ''}"
        remedy = "Give one file, or the folder that holds the files themselves."
    else:
        what = f"a file of the kind {found.kind}, {found.path.stat().st_size} bytes"
        remedy = "Convert it to HDF5, NumPy or netCDF, or check that the download is complete."
    inner = f" with {listed(found.arrays)}" if found.arrays else ""
    return f"{found.path}: expected data of a known format ({known}), got {what}{inner}. {remedy}"
