"""Data sets of HDF5 files as arrays that are read when they are sliced."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sciml.data._readers._files import Files
from sciml.data._readers._formats import Item


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """A data set, read when it is sliced.

    Args:
        files: What opens the file.
        path: The file.
        name: Name of the data set.
        shape: Its shape.
        dtype: Its type; the kind alone is right.
        chunks: Shape of its chunks.
    """

    files: Files
    path: pathlib.Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None = None

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Values at slices, one for each axis."""
        return self.files.read(self.path, self.name, index)


def stored(files: Files, path: pathlib.Path, name: str, item: Item) -> Stored:
    """A data set that was seen in a file."""
    dtype = np.dtype("complex64" if item.kind == "c" else item.kind)  # "c" is a character for NumPy
    return Stored(files, path, name, item.shape, dtype, item.chunks)


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """An array with further axes, along which its values repeat.

    Args:
        array: The array.
        shape: Shape with all axes.
        axes: Numbers of the axes that the array has, increasing.
    """

    array: Any
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return np.dtype(self.array.dtype)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the chunks, one entry along further axes."""
        chunks = getattr(self.array, "chunks", None)
        if chunks is None:
            return None
        inner = dict(zip(self.axes, chunks, strict=True))
        return tuple(inner.get(axis, 1) for axis in range(len(self.shape)))

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Values at slices, one for each axis."""
        part = self.array[tuple(index[axis] for axis in self.axes)]
        lengths = [len(range(*one.indices(n))) for one, n in zip(index, self.shape, strict=True)]
        inner = [n if axis in self.axes else 1 for axis, n in enumerate(lengths)]
        return np.broadcast_to(np.reshape(part, inner), lengths)


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """An array whose last axes, those of the components of a tensor, are one; they are sliced as a whole.

    Args:
        array: The array.
        merged: Number of axes.
    """

    array: Any
    merged: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with one axis in place of the last ones."""
        inner = tuple(self.array.shape)
        return (*inner[: -self.merged], math.prod(inner[-self.merged :]))

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return np.dtype(self.array.dtype)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the chunks."""
        inner = getattr(self.array, "chunks", None)
        return None if inner is None else (*inner[: -self.merged], math.prod(inner[-self.merged :]))

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Values at slices, one for each axis."""
        part = self.array[(*index[:-1], *[slice(None)] * self.merged)]
        return np.reshape(part, (*part.shape[: -self.merged], -1))[..., index[-1]]


@dataclasses.dataclass(frozen=True, eq=False)
class Stacked:
    """Arrays one after another along their first axis, that of the samples.

    Args:
        arrays: At least one, with equal further axes.
    """

    arrays: Sequence[Any]
    _starts: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", np.cumsum([0, *(one.shape[0] for one in self.arrays)]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with all samples."""
        return (int(self._starts[-1]), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Type that holds the values of all arrays."""
        return np.result_type(*{np.dtype(one.dtype) for one in self.arrays})

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the chunks of the first array."""
        return getattr(self.arrays[0], "chunks", None)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Values at slices, one for each axis; that of the samples has step 1."""
        start, stop, _ = index[0].indices(self.shape[0])
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        while first < len(self.arrays) and self._starts[first] < stop:
            low, high = int(self._starts[first]), int(self._starts[first + 1])
            inner = slice(max(start, low) - low, min(stop, high) - low)
            parts.append(self.arrays[first][(inner, *index[1:])])
            first += 1
        return np.concatenate(parts)
