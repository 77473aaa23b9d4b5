"""What the engine reads of a data set: whole samples, or of several processes that cut fields each its part of them."""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from sciml.parallel import Placement

Space = tuple[slice, ...]
"""A box of a grid: a slice for each of its axes, with a start, a stop and step 1."""


@runtime_checkable
class Gathered(Protocol):
    """A data set whose samples share values, such as windows that overlap, so that all samples take more than it does.

    `fetch(source(), item(rows))` is `data[rows]`.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of `source`, known without reading."""
        ...

    def source(self) -> PyTree:
        """Arrays that stay on the device."""
        ...

    def item(self, rows: Any) -> PyTree:
        """Where in them the samples are: arrays with a leading batch axis."""
        ...

    def fetch(self, source: PyTree, item: PyTree) -> PyTree:
        """The samples, traced inside the compiled step."""
        ...


@runtime_checkable
class Parted(Protocol):
    """A data set that can read its fields in a box of their grid, and no more than this."""

    def part(self, rows: Any, space: Space) -> PyTree:
        """`data[rows]`, rows an index array or slice, with the points of a box alone; other arrays are whole.

        Of no rows nothing is read.
        """
        ...


@runtime_checkable
class PartedSource(Protocol):
    """Data that are `Gathered` and can read the fields of their source in a box of their grid."""

    def source_part(self, rows: Any, space: Space) -> PyTree:
        """Rows of all arrays of `source()` with the points of a box alone, as in `Parted`."""
        ...


def own_reading(data: Any, placement: Placement) -> tuple[Callable[[np.ndarray], PyTree], PyTree]:
    """How this process reads rows for its devices, and the shapes of whole samples if it reads a part of each.

    Returns:
        `rows -> arrays`, and arrays with the shapes of whole samples behind their first axis, or None.
    """
    read, box = _part(data), placement.own_space
    if read is None or not _in_parts(placement):
        return lambda rows: data[rows], None
    return lambda rows: read(rows, box), read(np.zeros(0, int), _everywhere(placement))


def on_devices(data: Any, placement: Placement | None) -> PyTree:
    """All samples, or the source of `Gathered` data, on each device of a placement, fields in parts where it cuts."""
    if placement is not None and _in_parts(placement):
        read = _source_part(data) if isinstance(data, Gathered) else _part(data)
        if read is not None:
            return placement.in_boxes(read(slice(None), placement.own_space), read(slice(0), _everywhere(placement)))
    whole = data.source() if isinstance(data, Gathered) else data[np.arange(len(data))]
    return jax.device_put(whole) if placement is None else placement.put(whole, placement.of_fields(whole))


def bytes_of(data: Any, placement: Placement | None) -> int:
    """Bytes that `on_devices` takes of whole fields."""
    if isinstance(data, Gathered):
        return data.nbytes
    read = None if placement is None or not _in_parts(placement) else _part(data)
    one = data[np.arange(1)] if placement is None or read is None else read(slice(0), _everywhere(placement))
    return len(data) * sum(math.prod(np.shape(leaf)[1:]) * np.asarray(leaf).itemsize for leaf in jax.tree.leaves(one))


def _in_parts(placement: Placement) -> bool:
    return placement.mesh.is_multi_process and placement.cuts_space


def _everywhere(placement: Placement) -> Space:
    return tuple(slice(0, n) for n in placement.grid)


def _part(data: Any) -> Callable[[Any, Space], PyTree] | None:
    return data.part if isinstance(data, Parted) else None


def _source_part(data: Any) -> Callable[[Any, Space], PyTree] | None:
    return data.source_part if isinstance(data, PartedSource) else None
