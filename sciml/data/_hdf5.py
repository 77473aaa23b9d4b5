"""The HDF5 form of pairs: described when written, checked when read."""

import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import h5py
import msgspec
import numpy as np

from sciml.data._dataset import Pairs
from sciml.files import check_digest, hdf5_array, hdf5_attribute, hdf5_json, open_hdf5
from sciml.grid import AbstractBoundary, Dirichlet, Grid, Neumann, Periodic

_FORMAT = "sciml pairs"
_VERSION, _VERSION_WITHOUT_DIGEST = 2, 1
_CHUNK = 2**18  # values, 1 MiB
_AGAIN = "Generate the file again with `sciml generate`."
_LOAD = "Load its arrays with h5py and pass them to `sciml.data.Pairs(x, y)`, both (samples, channels, *space)."
_BOUNDARIES: dict[str, Callable[..., AbstractBoundary]] = {
    "Periodic": Periodic,
    "Dirichlet": Dirichlet,
    "Neumann": Neumann,
}


def describe(
    file: h5py.File,
    n: int,
    *,
    grid: Grid,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    attributes: Mapping[str, Any],
    parameters: tuple[str, ...] = (),
) -> tuple[h5py.Dataset, ...]:
    """Makes the datasets `x` and `y` for `n` samples, and `parameters` if there are any; describes them in attributes.

    `x` and `y` are float32 `(sample, channel, x1, x2, ...)` with the channel names and units as attributes; the
    datasets `x1`, `x2`, ... hold the coordinates and are attached as dimension scales. Attributes of the file:
    `format`, `version`, `samples`, and as JSON `grid` and `attributes` (generator, settings, seed). `parameters` is
    float32 `(sample, parameter)`, with the names as the attribute `names`; readers that do not know it skip it. Chunks
    hold one sample, or as many of its channels as fit into 1 MiB, for reading any rows and frames; each is compressed
    without loss and carries a checksum.
    """
    file.attrs.update({"format": _FORMAT, "version": _VERSION, "samples": n})
    file.attrs["grid"] = json.dumps(grid_to_json(grid))
    file.attrs["attributes"] = json.dumps(dict(attributes))
    scales = [file.create_dataset(f"x{axis}", data=points) for axis, points in enumerate(grid.points(), start=1)]
    for axis, scale in enumerate(scales, start=1):
        scale.attrs.update({"units": "1", "long_name": f"coordinate x{axis}"})
        scale.make_scale(f"x{axis}")
    made = []
    for name, channels in (("x", inputs), ("y", outputs)):
        shape = (len(channels), *grid.shape)
        packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
        together = max(1, min(len(channels), _CHUNK // math.prod(grid.shape)))
        chunks = (1, together, *grid.shape)
        data = file.create_dataset(name, (n, *shape), np.float32, chunks=chunks, **packing)
        data.attrs.update({"units": "1", "channels": json.dumps(channels)})
        for axis, label in enumerate(("sample", "channel", *(f"x{axis}" for axis in range(1, len(scales) + 1)))):
            data.dims[axis].label = label
        for axis, scale in enumerate(scales, start=2):
            data.dims[axis].attach_scale(scale)
        made.append(data)
    if parameters:
        data = file.create_dataset("parameters", (n, len(parameters)), np.float32)
        data.attrs["names"] = json.dumps(parameters)
        made.append(data)
    return tuple(made)


def grid_to_json(grid: Grid) -> dict[str, Any]:
    """A grid as JSON, with the kind and gap of the boundary at each side."""
    boundary = [[{"type": type(side).__name__, "gap": side.gap} for side in pair] for pair in grid.sides]
    return {"shape": grid.shape, "extent": grid.lengths, "boundary": boundary}


class _Side(msgspec.Struct):
    type: Literal["Periodic", "Dirichlet", "Neumann"]
    gap: float


class GridJson(msgspec.Struct):
    """A grid as JSON."""

    shape: tuple[int, ...]
    extent: tuple[float, ...]
    boundary: list[tuple[_Side, _Side]]


def grid_from_json(value: GridJson) -> Grid:
    """The grid that a file describes."""
    made = [tuple(_BOUNDARIES[side.type](gap=side.gap) for side in pair) for pair in value.boundary]
    return Grid(value.shape, value.extent, tuple((low, high) for low, high in made))


def read(path: str | os.PathLike[str]) -> Pairs:
    """Reads a file of `generate` into memory.

    The digest of the whole file is compared before HDF5 opens it. Files of earlier versions have checksums of their
    fields alone. Further attributes and data sets are ignored.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the file is truncated or damaged, or larger than the memory.
        ValueError: If it is not an HDF5 file, or its contents are not those that `generate` writes.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Make it with `sciml generate`.")
    version = _VERSION if check_digest(path, remedy=_AGAIN) else _VERSION_WITHOUT_DIGEST
    with open_hdf5(path, remedy=_AGAIN) as file:
        try:
            return _contents(file, version)
        except ValueError as error:
            raise ValueError(f"{path} is not a data set of `sciml generate`: {error}") from error


def _contents(file: h5py.File, version: int) -> Pairs:
    if (form := str(file.attrs.get("format"))) != _FORMAT:
        raise ValueError(
            f"expected the attribute format {_FORMAT!r} and the datasets x and y, got format {form[:80]!r} and "
            f"{_overview(file)}. {_LOAD}"
        )
    try:
        if (found := hdf5_attribute(file, "version", int)) != version:
            kind = "with" if version == _VERSION else "without"
            raise ValueError(f"expected version {version} of a file {kind} a digest, got {found}.")
        samples = hdf5_attribute(file, "samples", int)
        grid = grid_from_json(hdf5_json(file, "grid", GridJson))
        attributes = hdf5_json(file, "attributes", dict[str, Any])
        found = []
        for name in ("x", "y"):
            data = hdf5_array(file, name, "f", (samples, None, *grid.shape))
            channels = hdf5_json(data, "channels", tuple[str, ...])
            found += [hdf5_array(file, name, "f", (samples, len(channels), *grid.shape)), channels]
        names, parameters = _parameters(file, samples)
    except ValueError as error:
        raise ValueError(f"{error} {_AGAIN}") from None
    x, inputs, y, outputs = found
    return Pairs(
        x[:],
        y[:],
        grid=grid,
        inputs=inputs,
        outputs=outputs,
        attributes=attributes,
        parameters=parameters,
        parameter_names=names,
    )


def _parameters(file: h5py.File, samples: int) -> tuple[tuple[str, ...], np.ndarray | None]:
    """The names and values of what differs from sample to sample, if the file has any."""
    if "parameters" not in file:
        return (), None
    data = hdf5_array(file, "parameters", "f", (samples, None))
    names = hdf5_json(data, "names", tuple[str, ...])
    return names, hdf5_array(file, "parameters", "f", (samples, len(names)))[:]


def _overview(file: h5py.File) -> str:
    """What a file holds: the first names with the shapes of arrays."""
    shown = [f"{name} {item.shape}" if isinstance(item, h5py.Dataset) else f"{name}/" for name, item in file.items()]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f"{', '.join(shown[:8])}{more}" if shown else "no datasets"
