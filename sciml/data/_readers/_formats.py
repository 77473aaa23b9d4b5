"""How a format is recognised and opened, and what a path is before anybody has looked into it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import h5py

from sciml.data._layout import AbstractReader
from sciml.data._readers._files import Files
from sciml.files import check_digest, open_hdf5

_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"CDF\x01": "netcdf3",
    b"CDF\x02": "netcdf3",
    b"CDF\x05": "netcdf3",
    b"MATLAB 5.0 MAT-file": "mat5",
}
_MATLAB7 = b"MATLAB 7.3"
_ZARR = ("zarr.json", ".zgroup", ".zarray")


@dataclasses.dataclass(frozen=True)
class Hints:
    """What a user says of data whose format does not tell it.

    Attributes:
        x: Name of the array of inputs, for maps.
        y: Name of the array of outputs or frames.
        axes: Names of the axes of `y` in their order, of sample, time, channel, x, y, z; a text may hold several with
            commas between them.
    """

    x: str | None = None
    y: str | None = None
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = (name.strip() for one in self.axes for name in one.split(","))
        object.__setattr__(self, "axes", tuple(name for name in names if name))

    @property
    def given(self) -> bool:
        """Whether the user says anything."""
        return bool(self.x or self.y or self.axes)


@dataclasses.dataclass(frozen=True)
class Item:
    """An array of a container: its shape, the letter of its kind as in `numpy.dtype.kind`, its dimensions if named.

    `chunks` is the shape of the pieces that are stored together, None where the array is stored as a whole; `packing`
    names the compression.
    """

    shape: tuple[int, ...]
    kind: str
    dimensions: tuple[str, ...] = ()
    chunks: tuple[int, ...] | None = None
    packing: str = ""

    @property
    def numbers(self) -> bool:
        """Whether it holds real numbers."""
        return self.kind in ("b", "i", "u", "f")


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a path is, told by its first bytes or its entries.

    Attributes:
        path: The file or folder.
        kind: Container: hdf5, zip, npy, mat5, netcdf3, zarr, folder or other.
        arrays: Arrays of an HDF5 file by their full names, without leading slash; empty for other containers.
        attributes: Attributes of the root of an HDF5 file.
        matlab: Whether it is an HDF5 file of MATLAB, whose axes are reversed.
        digest: Whether it is an HDF5 file that began with its digest, which was compared.
        files: Keeps an HDF5 file open that was looked through, which takes long for many groups.
    """

    path: pathlib.Path
    kind: str
    arrays: Mapping[str, Item] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    matlab: bool = False
    digest: bool = False
    files: Files = dataclasses.field(default_factory=Files)


@dataclasses.dataclass(frozen=True)
class Format:
    """A format: what shows that a path has it, and how it is opened.

    Attributes:
        name: Name of the format.
        recognise: `probe -> evidence`, a phrase that says what shows the format, or None.
        open: `(probe, hints) -> reader`.
        labelled: Whether the data name their arrays and axes, so that `open` takes no hints.
    """

    name: str
    recognise: Callable[[Probe], str | None]
    open: Callable[[Probe, Hints], AbstractReader]
    labelled: bool = False


def probe(path: pathlib.Path, files: Files | None = None) -> Probe:
    """Looks at a path. The digest of an HDF5 file that has one is compared before HDF5 opens the file.

    Args:
        path: The path.
        files: Opens an HDF5 file, and keeps it open.

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
    matlab = head.startswith(_MATLAB7)
    digest = False if matlab else check_digest(path)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "other")
    if kind == "hdf5" or h5py.is_hdf5(path):  # also behind a user block, such as that of MATLAB 7.3 or of our own files
        files = Files() if files is None else files
        arrays, attributes = files.use(path, _looked_through)
        return Probe(path, "hdf5", arrays, attributes, matlab, digest, files)
    if matlab:
        with open_hdf5(path):  # raises what is wrong with it
            pass
    return Probe(path, kind)


def _looked_through(file: h5py.File) -> tuple[dict[str, Item], dict[str, Any]]:
    """The arrays of an HDF5 file and the attributes of its root."""
    arrays: dict[str, Item] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = _item(item)

    file.visititems(visit)
    return arrays, plain_attributes(file)


def _item(item: h5py.Dataset) -> Item:
    try:
        kind = item.dtype.kind
    except TypeError:  # HDF5 knows types that NumPy has not
        kind = "V"
    packing = [str(item.compression)] if item.compression else []
    return Item(item.shape or (), kind, (), item.chunks, ", ".join([*packing, *(["shuffle"] if item.shuffle else [])]))


def plain_attributes(item: h5py.HLObject) -> dict[str, Any]:
    """Attributes that NumPy can hold; others, such as references of MATLAB, are left out."""
    found = {}
    for name in item.attrs:
        try:
            found[name] = item.attrs[name]
        except (TypeError, OSError, UnicodeDecodeError):
            continue
    return found


def numbers_of(attributes: Mapping[str, Any]) -> dict[str, float]:
    """Attributes that are one finite real number, by name."""
    found = {}
    for name, value in attributes.items():
        value = value.item() if getattr(value, "size", 0) == 1 else value
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            found[name] = float(value)
    return found


def words(value: Any) -> tuple[str, ...]:
    """The texts of an attribute that is one text or a list of them."""
    found = value.ravel().tolist() if getattr(value, "ravel", None) is not None else value
    found = [found] if isinstance(found, str | bytes) else list(found or ())
    return tuple(one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in found)


def listed(arrays: Mapping[str, Item], most: int = 8) -> str:
    """Names and shapes of arrays for a message."""
    shown = [f"{name} {item.shape}" for name, item in arrays.items()]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more if shown else "no arrays"
