"""Arrays from `.npz` files."""

import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np

from sciml.data._dataset import Pairs
from sciml.grid import Dirichlet, Grid, Sides

FIRST_ON_THE_WALL: Sides = (Dirichlet(0.0), Dirichlet(1.0))


_EXPANSION = 1100  # deflate makes at most 1032 bytes of one


def read_arrays(path: str | os.PathLike[str], *names: str) -> tuple[np.ndarray, ...]:
    """Arrays of an `.npz` file by name, read without pickle.

    What an array declares is compared with what the file holds before memory is taken, and every byte that is read
    with its checksum.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a complete `.npz` file of plain arrays, or lacks one of these.
    """
    found = _read(pathlib.Path(path), names)
    return tuple(found[name] for name in names)


def read_all_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file by their names; see `read_arrays`."""
    return _read(pathlib.Path(path), None)


def _read(path: pathlib.Path, names: tuple[str, ...] | None) -> dict[str, np.ndarray]:
    """Arrays by name, or all of them."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path, or download the data set first.")
    with path.open("rb") as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                members = _members(archive)
                names = tuple(members) if names is None else names
                missing = sorted(set(names) - set(members))
                if missing:
                    raise ValueError(f"it holds the arrays {sorted(members)}, {missing} missing")
                return {name: _array(archive, members[name], name, path.stat().st_size) for name in names}
        except UNREADABLE_ARRAY as error:
            reason = f"{' '.join(str(error).split()) or type(error).__name__:.500}"
            raise ValueError(
                f"Expected {path} to be an .npz file with the plain arrays {' and '.join(names or ())}, but {reason}. "
                "Load them yourself, or write them by np.savez."
            ) from error


# What zipfile and NumPy raise for damaged bytes, besides classes of their own; a RuntimeError asks for a password.
UNREADABLE_ARRAY = (
    *(ValueError, EOFError, OSError, AttributeError, RuntimeError, IndexError, KeyError, TypeError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays."""
    found = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in found:
            raise ValueError(f"it holds two arrays {name!r}")
        found[name] = info
    return found


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, size: int) -> np.ndarray:
    packed, plain = info.compress_size, info.compress_type == zipfile.ZIP_STORED
    if not plain and info.compress_type != zipfile.ZIP_DEFLATED:
        raise ValueError(f"{name} is compressed by method {info.compress_type}, expected none or deflate")
    if packed > size or info.file_size > packed * (1 if plain else _EXPANSION):
        raise ValueError(f"{name} declares {info.file_size} bytes in {packed} of the {size} bytes of the file")
    with archive.open(info) as member:
        shape, fortran, dtype = read_header(member, name, info.file_size)
        declared = math.prod(shape) * dtype.itemsize
        content, done = bytearray(declared), 0
        while done < declared and (piece := member.read(min(declared - done, 2**20))):
            content[done : done + len(piece)] = piece
            done += len(piece)
        if done < declared or member.read(1):  # zipfile compares the checksum when it meets the end
            raise ValueError(f"{name} has another length than declared")
    return np.ndarray(shape, dtype, content, order="F" if fortran else "C")


def read_header(file: Any, name: str, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis varies quickest, and type of an array in the `.npy` format.

    Args:
        file: The array's bytes; left where its values begin.
        name: Its name, for the messages.
        size: Number of those bytes.

    Raises:
        ValueError: If it is made of Python objects, or declares other bytes than there are.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has the .npy version {version}, expected (1, 0) or (2, 0)")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{name} is made of Python objects, expected numbers or texts of one size")
    declared, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or declared != held:
        raise ValueError(f"{name} declares {dtype} of shape {shape}, {declared} bytes, and holds {held}")
    return shape, fortran, dtype


def read_npz(path: str | os.PathLike[str], *, sides: Sides = FIRST_ON_THE_WALL, extent: float = 1.0) -> Pairs:
    """Pairs from an `.npz` file with the arrays `x` and `y`, both `(samples, *space)` without a channel axis.

    The published Darcy sets of neuraloperator have this form, with points `i / n`: the first lies on the wall, the last
    one is a spacing away from it (their 32x32 set thinned by two is their 16x16 set). Other arrays go into `Pairs`
    directly: `Pairs(x[:, None], y[:, None])`.

    Args:
        path: The file. It is read without pickle.
        sides: Boundaries at the low and the high side of every axis, which place the points.
        extent: Length of each axis.

    Returns:
        Pairs with one channel each.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a complete `.npz` file, lacks an array, or `x` and `y` differ in shape.
    """
    x, y = read_arrays(path, "x", "y")
    if x.shape != y.shape or x.ndim < 2:
        raise ValueError(
            f"Expected x and y of one shape (samples, *space) in {path}, got {x.shape} and {y.shape}. "
            "Add the channel axes yourself and pass the arrays to Pairs."
        )
    grid = Grid(x.shape[1:], extent, (sides,) * (x.ndim - 1))
    return Pairs(x[:, None], y[:, None], grid=grid, attributes={"source": pathlib.Path(path).name})
