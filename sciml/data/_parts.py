"""Parts of a data set: some of its samples, or some of its points."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from sciml.data._batches import permutation
from sciml.data._dataset import Arrays, Dataset, Pairs
from sciml.data._layout import thinned
from sciml.data._trajectories import Trajectories, TrajectoryWindows
from sciml.data._windows import Windows

Data = TypeVar("Data", bound=Dataset)


def split(data: Data, sizes: Sequence[int | float | None], *, seed: int | None) -> tuple[Data, ...]:
    """Disjoint parts of a data set that together hold every sample.

    `Windows` are split between trajectories, because windows of one trajectory overlap: sizes count trajectories.

    Args:
        data: What to split.
        sizes: Size of each part: numbers of samples that add up to their total, or fractions that add up to 1. One of
            them may be None, for the rest.
        seed: Number that shuffles the samples before the cut, or None for the order of the data, as in published splits
            ("the first 1000 for training").

    Returns:
        One data set for each size, each in the order of `data`.

    Raises:
        TypeError: If the data are not `Pairs`, `Windows`, `Trajectories` or `Arrays`.
        ValueError: If the sizes do not add up, mix numbers and fractions, or leave a part empty.
    """
    if not isinstance(data, Pairs | Windows | Arrays | Trajectories | TrajectoryWindows):
        raise TypeError(
            f"Expected Pairs, Windows, Trajectories or Arrays to split, got {type(data).__name__}. Wrap arrays in "
            "Arrays, and split other data sets by their rows."
        )
    n = len(data.trajectories) if isinstance(data, Windows | TrajectoryWindows) else len(data)
    counts = _counts(n, sizes)
    order = np.arange(n) if seed is None else permutation(n, seed, 0)
    take: Any = data.take  # of the type of the data
    return tuple(take(np.sort(rows)) for rows in np.split(order, np.cumsum(counts)[:-1]))


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


def subsample(data: Data, every: int) -> Data:
    """Each `every`-th value along each spatial axis, beginning with the first; the grid of `Pairs` follows.

    Raises:
        TypeError: If the data are not `Pairs`, `Windows` or `Trajectories`.
        ValueError: If `every` is not positive, or does not divide a periodic axis.
    """
    if every < 1:
        raise ValueError(f"Expected a step of at least 1, got {every}.")
    if isinstance(data, Windows):
        cut = (..., *[slice(None, None, every)] * (data.trajectories.ndim - 3))
        return dataclasses.replace(data, trajectories=data.trajectories[cut])
    if isinstance(data, Trajectories):
        thin: Any = data.select(every=every)  # of the type of the data
        return thin
    if not isinstance(data, Pairs):
        raise TypeError(
            f"Expected Pairs, Windows or Trajectories to subsample, got {type(data).__name__}. Subsample the arrays "
            "instead."
        )
    steps = slice(None, None, every)
    x, y = (array[(..., *[steps] * (array.ndim - 2))] for array in (data.x, data.y))
    grid = None if data.grid is None else thinned(data.grid, every)
    return dataclasses.replace(data, x=x, y=y, grid=grid)
