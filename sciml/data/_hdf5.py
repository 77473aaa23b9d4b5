"""The HDF5 form of pairs: written atomically, checked when read."""

import contextlib
import io
import json
import os
import pathlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from sciml.data._dataset import Pairs
from sciml.grid import AbstractBoundary, Dirichlet, Grid, Neumann, Periodic

_FORMAT = "sciml pairs"
_VERSION = 1
_AGAIN = "Generate the file again with `sciml generate`."
_LOAD = "Load its arrays with h5py and pass them to `sciml.data.Pairs(x, y)`, both (samples, channels, *space)."
_BOUNDARIES: dict[str, Callable[..., AbstractBoundary]] = {
    "Periodic": Periodic,
    "Dirichlet": Dirichlet,
    "Neumann": Neumann,
}


@contextlib.contextmanager
def write_hdf5(path: pathlib.Path, *, overwrite: bool) -> Iterator[h5py.File]:
    """A new HDF5 file that appears complete when the block ends without an error, and not at all otherwise.

    It is written under another name in its folder, flushed to the disk and renamed. `file.flush()` writes what is
    there so far, and raises OSError if that fails.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists and is kept. Choose another name, or ask for it to be overwritten.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("x+b", buffering=0) as raw:
            target = _Target(raw)
            with h5py.File(target, "w") as file:
                try:
                    yield file
                finally:
                    target.closing = True
            target.check()
            os.fsync(raw.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = f"{path} could not be written ({error.strerror or error})"
        raise OSError(error.errno, f"{reason}. Free some space or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


class _Target:
    """The file that HDF5 writes to: it keeps the error of a write for the next `flush` instead of raising it.

    HDF5 can neither close a file nor free its memory after a write has failed, such as on a full disk. So writes after
    the failed one are dropped silently, and `flush` raises the error unless the file is being closed.

    Attributes:
        closing: Whether `flush` is called by HDF5 on closing the file.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self.closing = False
        self.seek, self.tell, self.read, self.readinto = raw.seek, raw.tell, raw.read, raw.readinto

    def check(self) -> None:
        """Raises the error of the first write that failed."""
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Raises as `check`, unless the file is being closed."""
        if not self.closing:
            self.check()

    def truncate(self, size: int) -> int:
        """Sets the size of the file."""
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size

    def write(self, data: Any) -> int:
        """Writes all bytes, or drops them after a failure."""
        view = memoryview(data).cast("B")
        while self._error is None and len(view):
            try:
                view = view[self._raw.write(view) :]
            except OSError as error:
                self._error = error
        return len(data)


def describe(
    file: h5py.File,
    n: int,
    *,
    grid: Grid,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Makes the datasets `x` and `y` for `n` samples, and describes them in attributes.

    `x` and `y` are float32 `(sample, channel, x1, x2, ...)` with the channel names and units as attributes; the
    datasets `x1`, `x2`, ... hold the coordinates and are attached as dimension scales. Attributes of the file:
    `format`, `version`, `samples`, and as JSON `grid` and `attributes` (generator, settings, seed). Chunks hold one
    sample, for reading any rows; each is compressed without loss and carries a checksum.
    """
    file.attrs.update({"format": _FORMAT, "version": _VERSION, "samples": n})
    file.attrs["grid"] = json.dumps(_grid_to_json(grid))
    file.attrs["attributes"] = json.dumps(dict(attributes))
    scales = [file.create_dataset(f"x{axis}", data=points) for axis, points in enumerate(grid.points(), start=1)]
    for axis, scale in enumerate(scales, start=1):
        scale.attrs.update({"units": "1", "long_name": f"coordinate x{axis}"})
        scale.make_scale(f"x{axis}")
    made = []
    for name, channels in (("x", inputs), ("y", outputs)):
        shape = (len(channels), *grid.shape)
        packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
        data = file.create_dataset(name, (n, *shape), np.float32, chunks=(1, *shape), **packing)
        data.attrs.update({"units": "1", "channels": json.dumps(channels)})
        for axis, label in enumerate(("sample", "channel", *(f"x{axis}" for axis in range(1, len(scales) + 1)))):
            data.dims[axis].label = label
        for axis, scale in enumerate(scales, start=2):
            data.dims[axis].attach_scale(scale)
        made.append(data)
    return made[0], made[1]


def _grid_to_json(grid: Grid) -> dict[str, Any]:
    boundary = [[{"type": type(side).__name__, "gap": side.gap} for side in pair] for pair in grid.sides]
    return {"shape": grid.shape, "extent": grid.lengths, "boundary": boundary}


def _grid_from_json(value: Any) -> Grid:
    low_high = [[_BOUNDARIES[side["type"]](gap=side["gap"]) for side in pair] for pair in value["boundary"]]
    return Grid(tuple(value["shape"]), tuple(value["extent"]), tuple((low, high) for low, high in low_high))


def read(path: str | os.PathLike[str]) -> Pairs:
    """Reads a file of `generate` into memory.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the file is truncated or damaged: HDF5 knows its length, and every chunk carries a checksum.
        ValueError: If it is not an HDF5 file, or its contents are not those that `generate` writes.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Make it with `sciml generate`.")
    if not h5py.is_hdf5(path):
        raise ValueError(
            f"Expected {path} to be an HDF5 file, got {path.stat().st_size} bytes of another kind. {_LOAD}"
        )
    try:
        with h5py.File(path, "r") as file:
            return _contents(file)
    except ValueError as error:
        raise ValueError(f"{path} is not a data set of `sciml generate`: {error}") from error
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises all three for damaged files
        raise OSError(f"{path} is truncated or damaged ({error}). {_AGAIN}") from error


def _contents(file: h5py.File) -> Pairs:
    found: dict[str, Any] = {
        name: file.attrs.get(name) for name in ("format", "version", "samples", "grid", "attributes")
    }
    if found["format"] != _FORMAT:
        raise ValueError(
            f"expected the attribute format {_FORMAT!r} and the datasets x and y, got format {found['format']!r} and "
            f"{_overview(file)}. {_LOAD}"
        )
    if found["version"] != _VERSION:
        raise ValueError(f"expected its version {_VERSION}, got {found['version']}. {_AGAIN}")
    x, y = file.get("x"), file.get("y")
    missing = [name for name, value in {**found, "x": x, "y": y}.items() if value is None]
    if missing or not (isinstance(x, h5py.Dataset) and isinstance(y, h5py.Dataset)):
        raise ValueError(
            f"expected the datasets x and y and the attributes {', '.join(found)}, lacks {missing}. {_AGAIN}"
        )
    try:
        samples = int(found["samples"])
        grid = _grid_from_json(json.loads(str(found["grid"])))
        attributes = json.loads(str(found["attributes"]))
        inputs, outputs = (tuple(json.loads(str(data.attrs["channels"]))) for data in (x, y))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"an attribute cannot be understood ({error}). {_AGAIN}") from error
    for name, data, channels in (("x", x, inputs), ("y", y, outputs)):
        expected = (samples, len(channels), *grid.shape)
        if data.shape != expected:
            raise ValueError(f"expected {name} of shape {expected} from its attributes, got {data.shape}. {_AGAIN}")
    return Pairs(x[:], y[:], grid=grid, inputs=inputs, outputs=outputs, attributes=attributes)


def _overview(file: h5py.File) -> str:
    """What a file holds: the first names with the shapes of arrays."""
    shown = [f"{name} {item.shape}" if isinstance(item, h5py.Dataset) else f"{name}/" for name, item in file.items()]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f"{', '.join(shown[:8])}{more}" if shown else "no datasets"
