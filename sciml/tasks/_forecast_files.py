"""Forecasts as files: netCDF, HDF5 or npz, each complete or not there at all."""

import io
import pathlib
from collections.abc import Callable

import numpy as np
import scipy.io

from sciml import data
from sciml.data import Layout
from sciml.files import write_bytes

_AXES = ("x", "y", "z")


def write_forecast(path: pathlib.Path, frames: np.ndarray, layout: Layout) -> None:
    """Writes predicted frames.

    Args:
        path: The file. `.nc` is netCDF (classic, 64-bit offsets), `.h5` and `.hdf5` are files of `data.convert`, and
            `.npz` holds the arrays `frames`, `times`, `x`, `y`, `z` and `channels`.
        frames: Frames `(samples, time, channels, *space)`.
        layout: What they are.

    Raises:
        FileExistsError: If the file exists.
        ValueError: If the file name has another ending.
        OSError: If it cannot be written.
    """
    check_kind(path)
    check_free(path)
    _WRITERS[path.suffix](path, frames, layout)


def check_kind(path: pathlib.Path) -> None:
    """Refuses a file whose name does not tell a format.

    Raises:
        ValueError: If it does not.
    """
    if path.suffix not in _WRITERS:
        raise ValueError(f"Expected --out FILE with the ending {', '.join(_WRITERS)}, got {path}. Choose one of them.")


def check_free(path: pathlib.Path) -> None:
    """Refuses to write over a file.

    Raises:
        FileExistsError: If there is one.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists and is kept. Choose another file with --out, or remove it.")


def _times(layout: Layout) -> np.ndarray:
    return np.arange(layout.frames, dtype=np.float64) if layout.times is None else layout.times


def _netcdf(path: pathlib.Path, frames: np.ndarray, layout: Layout) -> None:
    space = _AXES[: len(layout.grid.shape)]
    target = io.BytesIO()
    with scipy.io.netcdf_file(target, "w", version=2) as file:
        file.Conventions = "CF-1.8"
        file.createDimension("sample", layout.samples)
        for name, points in (("time", _times(layout)), *zip(space, layout.grid.points(), strict=True)):
            file.createDimension(name, len(points))
            variable = file.createVariable(name, "f8", (name,))
            variable[:] = points
            variable.axis = "T" if name == "time" else name.upper()
        for number, channel in enumerate(layout.channels):
            variable = file.createVariable(_plain(channel.name), "f4", ("sample", "time", *space))
            variable[:] = frames[:, :, number]
            variable.long_name = channel.name
        file.flush()
        write_bytes(path, target.getvalue())


def _plain(name: str) -> str:
    """A name that netCDF allows."""
    return "".join(one if one.isalnum() or one in "_-" else "_" for one in name)


def _hdf5(path: pathlib.Path, frames: np.ndarray, layout: Layout) -> None:
    data.convert(data.Trajectories(data.InMemory(frames, layout)), path)


def _npz(path: pathlib.Path, frames: np.ndarray, layout: Layout) -> None:
    target = io.BytesIO()
    points = dict(zip(_AXES, layout.grid.points(), strict=False))
    np.savez(target, frames=frames, times=_times(layout), channels=[one.name for one in layout.channels], **points)
    write_bytes(path, target.getvalue())


_WRITERS: dict[str, Callable[[pathlib.Path, np.ndarray, Layout], None]] = {
    ".nc": _netcdf,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npz": _npz,
}
