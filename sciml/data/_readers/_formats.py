"""How a format is recognised and opened, and what a path is before anybody has looked into it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import h5py

from sciml.data._layout import AbstractReader
from sciml.files import open_hdf5

_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"CDF\x01": "netcdf3",
    b"CDF\x02": "netcdf3",
    b"CDF\x05": "netcdf3",
    b"MATLAB 5.0 MAT-file": "mat5",
}
_ZARR = ("zarr.json", ".zgroup", ".zarray")


@dataclasses.dataclass(frozen=True)
class Hints:
    """What a user says of data whose format does not tell it.

    Attributes:
        x: Name of the array of inputs, for maps.
        y: Name of the array of outputs or frames.
        axes: Names of the axes of `y` in their order, of sample, time, channel, x, y, z.
    """

    x: str | None = None
    y: str | None = None
    axes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Item:
    """An array of a container: its shape, the letter of its kind as in `numpy.dtype.kind`, its dimensions if named."""

    shape: tuple[int, ...]
    kind: str
    dimensions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a path is, told by its first bytes or its entries.

    Attributes:
        path: The file or folder.
        kind: Container: hdf5, zip, npy, mat5, netcdf3, zarr, folder or other.
        arrays: Arrays of an HDF5 file by their full names, without leading slash; empty for other containers.
        attributes: Attributes of the root of an HDF5 file.
    """

    path: pathlib.Path
    kind: str
    arrays: Mapping[str, Item] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Format:
    """A format: what shows that a path has it, and how it is opened.

    Attributes:
        name: Name of the format.
        recognise: `probe -> evidence`, a phrase that says what shows the format, or None.
        open: `(probe, hints) -> reader`.
    """

    name: str
    recognise: Callable[[Probe], str | None]
    open: Callable[[Probe, Hints], AbstractReader]


def probe(path: pathlib.Path) -> Probe:
    """Looks at a path.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If an HDF5 file leads out of itself, see `files.open_hdf5`.
        Damaged: If an HDF5 file is damaged.
    """
    if path.is_dir():
        return Probe(path, "zarr" if any((path / name).is_file() for name in _ZARR) else "folder")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}. Check the path.")
    with path.open("rb") as file:
        head = file.read(1024)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "other")
    if h5py.is_hdf5(path):  # also behind a user block, such as that of MATLAB 7.3 or of our own files
        with open_hdf5(path) as file:
            arrays: dict[str, Item] = {}

            def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
                if isinstance(item, h5py.Dataset):
                    arrays[name] = Item(item.shape or (), item.dtype.kind)

            file.visititems(visit)
            return Probe(path, "hdf5", arrays, dict(file.attrs))
    return Probe(path, kind)
