"""What training needs from a data set, and pairs of fields in memory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sciml.data._batches import permutation
from sciml.grid import Grid, Periodic


class Dataset(Protocol):
    """Samples that can be indexed by rows. Nothing else is asked of a reader, a window or a generator."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, rows: Any) -> Any:
        """The samples at an index array or slice: a pytree of NumPy arrays with a leading batch axis."""
        ...


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

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.x)

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and outputs at an index array or slice."""
        return self.x[rows], self.y[rows]

    def take(self, rows: Any) -> "Pairs":
        """The samples at an index array or slice, as `Pairs`."""
        return dataclasses.replace(self, x=self.x[rows], y=self.y[rows])


def split(data: Pairs, sizes: Sequence[int | float | None], *, seed: int | None) -> tuple[Pairs, ...]:
    """Disjoint parts of a data set that together hold every sample.

    Args:
        data: What to split.
        sizes: Size of each part: numbers of samples that add up to `len(data)`, or fractions that add up to 1. One of
            them may be None, for the rest.
        seed: Number that shuffles the samples before the cut, or None for the order of the data, as in published splits
            ("the first 1000 for training").

    Returns:
        One data set for each size, each in the order of `data`.

    Raises:
        ValueError: If the sizes do not add up, mix numbers and fractions, or leave a part empty.
    """
    counts = _counts(len(data), sizes)
    order = np.arange(len(data)) if seed is None else permutation(len(data), seed, 0)
    return tuple(data.take(np.sort(rows)) for rows in np.split(order, np.cumsum(counts)[:-1]))


def _counts(n: int, sizes: Sequence[int | float | None]) -> list[int]:
    """Numbers of samples that add up to `n`."""
    given = [size for size in sizes if size is not None]
    if len(sizes) - len(given) > 1:
        raise ValueError(f"Only one part can be None, the rest, got sizes {tuple(sizes)}.")
    kinds = {isinstance(size, float) for size in given}
    if len(kinds) > 1:
        raise ValueError(f"Give numbers of samples or fractions, not both, got sizes {tuple(sizes)}.")
    total: int | float = 1.0 if True in kinds else n
    filled = [total - sum(given) if size is None else size for size in sizes]
    if abs(sum(filled) - total) > 1e-9:
        raise ValueError(
            f"The parts {tuple(sizes)} must add up to {total} so that no sample is dropped unseen, "
            f"they add up to {sum(given)}. Use None for the rest: {(*given[:-1], None)}."
        )
    edges = np.rint(np.cumsum(filled) * (n / total)).astype(int)
    counts = np.diff(edges, prepend=0)
    if len(counts) == 0 or counts.min() < 1:
        raise ValueError(f"Each part needs at least one of {n} samples, sizes {tuple(sizes)} give {counts.tolist()}.")
    return counts.tolist()


def subsample(data: Pairs, every: int) -> Pairs:
    """Each `every`-th value along each spatial axis, beginning with the first; the grid follows.

    Raises:
        ValueError: If `every` is not positive, or does not divide a periodic axis.
    """
    if every < 1:
        raise ValueError(f"Expected a step of at least 1, got {every}.")
    cut = (slice(None), slice(None), *[slice(None, None, every)] * (data.x.ndim - 2))
    if data.grid is None:
        return dataclasses.replace(data, x=data.x[cut], y=data.y[cut[: data.y.ndim]])
    return dataclasses.replace(data, x=data.x[cut], y=data.y[cut], grid=_thinned(data.grid, every))


def _thinned(grid: Grid, every: int) -> Grid:
    """The grid of each `every`-th point: walls stay where they are, so gaps change in units of the spacing."""
    boundary = []
    for n, (low, high) in zip(grid.shape, grid.sides, strict=True):
        if isinstance(low, Periodic):
            if n % every:
                raise ValueError(f"A periodic axis of {n} points has no equal spacing with every {every}th point.")
            boundary.append((low, high))
            continue
        left = (n - 1) % every  # points dropped after the last one that is kept
        boundary.append(
            (
                dataclasses.replace(low, gap=low.gap / every),
                dataclasses.replace(high, gap=(high.gap + left) / every),
            )
        )
    return Grid(tuple(-(-n // every) for n in grid.shape), grid.extent, tuple(boundary))
