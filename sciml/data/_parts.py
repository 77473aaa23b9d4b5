"""Parts of a data set: some of its samples, or some of its points."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sciml.data._batches import permutation
from sciml.data._dataset import Pairs
from sciml.grid import AbstractBoundary, Grid, Periodic


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


def _with_gap(side: Any, gap: float) -> AbstractBoundary:
    return dataclasses.replace(side, gap=gap)


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
        boundary.append((_with_gap(low, low.gap / every), _with_gap(high, (high.gap + left) / every)))
    return Grid(tuple(-(-n // every) for n in grid.shape), grid.extent, tuple(boundary))
