"""What training needs from a data set, and pairs of fields in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sciml.data._layout import Space
from sciml.grid import Grid


@runtime_checkable
class Dataset(Protocol):
    """Samples that can be indexed by rows. Nothing else is asked of a reader, a window or a generator.

    Where several processes cut fields, a data set that has a method `part(rows, space)`, see `Pairs.part`, is asked for
    the points that the devices of each process have, in place of whole samples.
    """

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, rows: Any) -> Any:
        """The samples at an index array or slice: a pytree of NumPy arrays with a leading batch axis."""
        ...


class Arrays:
    """Arrays of any shapes whose first axis is that of the samples; `data[rows]` is a tuple of as many.

    One array alone is a data set by itself, and pairs of fields are `Pairs`.

    Args:
        arrays: At least one, of equal length.

    Raises:
        ValueError: If there are none, or if their lengths differ.
    """

    def __init__(self, *arrays: np.ndarray) -> None:
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) != 1:
            raise ValueError(f"Expected arrays of one length, a row for each sample, got the lengths {lengths}.")
        self.arrays = arrays

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.arrays[0])

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, ...]:
        """The rows of all arrays at an index array or slice."""
        return tuple(array[rows] for array in self.arrays)

    def take(self, rows: Any) -> "Arrays":
        """The samples at an index array or slice, as `Arrays`."""
        return Arrays(*self[rows])


def _checked(name: str, array: Any) -> np.ndarray:
    """A real floating-point array `(samples, channels, *space)` of finite values."""
    array = np.asarray(array)
    if array.dtype.kind in "bui":
        array = array.astype(np.float32)
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name} must hold real numbers, got dtype {array.dtype}. "
            "Store the real and the imaginary part of complex fields as two channels."
        )
    if array.ndim < 3 or array.size == 0:
        raise ValueError(
            f"{name} must have the axes (samples, channels, *space) and not be empty, got shape {array.shape}. "
            f"Add a missing channel axis with {name}[:, None]."
        )
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{name} has NaN or infinite values in {bad.size} of {len(array)} samples, the first is sample {bad[0]}. "
            f"Remove them, for example with keep = np.isfinite({name}).reshape(len({name}), -1).all(axis=1)."
        )
    return array


def _checked_parameters(parameters: Any, expected: tuple[int, int]) -> np.ndarray:
    """A real array `(samples, parameters)` of finite values."""
    array = np.asarray(parameters)
    array = array.astype(np.float32) if array.dtype.kind in "bui" else array
    if array.dtype.kind != "f" or array.shape != expected:
        raise ValueError(
            f"Expected real parameters of shape {expected}, a row for each sample and a column for each of the "
            f"parameter_names, got {array.dtype} of shape {array.shape}."
        )
    if not (finite := np.isfinite(array).all(axis=1)).all():
        raise ValueError(
            f"parameters has NaN or infinite values in {np.count_nonzero(~finite)} of {len(array)} samples, the first "
            f"is sample {np.argmin(finite)}. Remove these samples."
        )
    return array


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of input and output fields in memory; `data[rows]` is the tuple `(x, y)`.

    Args:
        x: Inputs `(samples, channels, *space)`. Integers and booleans become float32.
        y: Outputs `(samples, channels, *space)`.
        grid: Where the values of both are, if it is known.
        inputs: Names of the channels of `x`.
        outputs: Names of the channels of `y`.
        attributes: What else is known of the data: generator, settings, seed, source.
        parameters: Constants that differ from sample to sample, `(samples, parameters)`, such as viscosities.
        parameter_names: Their names.

    Raises:
        ValueError: If an array has the wrong rank, is not real, or has values that are not finite; if the numbers of
            samples differ; if the grid or the names do not fit the arrays.
    """

    x: np.ndarray
    y: np.ndarray
    _: dataclasses.KW_ONLY
    grid: Grid | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parameters: np.ndarray | None = None
    parameter_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        if len(self.x) != len(self.y):
            raise ValueError(
                f"x has {len(self.x)} samples and y has {len(self.y)}; sample i of x belongs to sample i of y. "
                "Cut the longer one if you know which samples are missing."
            )
        for name, array, names in (("x", self.x, self.inputs), ("y", self.y, self.outputs)):
            if names and len(names) != array.shape[1]:
                raise ValueError(f"{name} has {array.shape[1]} channels, got the names {names}. Name each or none.")
            if self.grid is not None and array.shape[2:] != self.grid.shape:
                raise ValueError(
                    f"{name} has the spatial shape {array.shape[2:]}, its grid has {self.grid.shape}. "
                    "Give the grid of the data, or None if they have none in common."
                )
        if self.parameters is not None or self.parameter_names:
            expected = (len(self.x), len(self.parameter_names))
            object.__setattr__(self, "parameters", _checked_parameters(self.parameters, expected))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.x)

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and outputs at an index array or slice."""
        return self.x[rows], self.y[rows]

    def part(self, rows: Any, space: Space) -> tuple[np.ndarray, np.ndarray]:
        """As `data[rows]`, with the points of a box alone: one slice for each axis of space."""
        box = (slice(None), *space)
        return self.x[(rows, *box)], self.y[(rows, *box)]

    def take(self, rows: Any) -> "Pairs":
        """The samples at an index array or slice, as `Pairs`."""
        parameters = None if self.parameters is None else self.parameters[rows]
        return dataclasses.replace(self, x=self.x[rows], y=self.y[rows], parameters=parameters)
