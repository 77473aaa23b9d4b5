"""Windows of trajectories that exceed the memory: their order, what is held of them, and reading ahead."""

import collections
import concurrent.futures
import dataclasses
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from sciml.data._batches import check_batch, in_order, permutation
from sciml.data._layout import Space
from sciml.data._slabs import Slab, Slabs
from sciml.data._trajectories import Trajectories, TrajectoryWindows
from sciml.grid import Grid

_GROUP = 64 << 20  # bytes; two groups are in memory
_PARTS = 8  # least number of slabs in a group
_MERGED = 1 << 20  # bytes; disks read less of it hardly quicker
_PIECE = 64 << 20  # bytes


class _Recent:
    """What was used last, up to a sum of weights, and in any case the last one; for several threads."""

    def __init__(self, limit: int):
        self._limit, self._total, self._lock = limit, 0, threading.RLock()
        self._values: collections.OrderedDict[Hashable, tuple[Any, int]] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value of a key; `make` gives it and its weight if it is not there."""
        with self._lock:
            if key not in self._values:
                made = make()
                self._values[key] = made
                self._total += made[1]
                while self._total > self._limit and len(self._values) > 1:
                    self._total -= self._values.popitem(last=False)[1][1]
            self._values.move_to_end(key)
            return self._values[key][0]


@dataclasses.dataclass(frozen=True)
class _Groups:
    """The order of an epoch: slabs one after another, those of group g before `slab_ends[g]`, with as many windows."""

    slabs: np.ndarray
    slab_ends: np.ndarray
    window_ends: np.ndarray

    def of(self, group: int) -> np.ndarray:
        """The slabs of a group."""
        return self.slabs[self.slab_ends[group - 1] if group else 0 : self.slab_ends[group]]


class Streamed:
    """Windows of trajectories, read in slabs; `data[rows]` is that of the windows.

    Training takes windows in the order of `batch_rows`: in each epoch the slabs (samples and frames that are stored
    together) are permuted and cut into groups of about `group` bytes, and the windows of a group are shuffled. So
    every window is seen once in each epoch, every slab is read once or twice, and only the current group and what was
    read ahead of the next one are in memory. The order depends on the data, the seed and `group`, and never on what is
    in memory. A group should hold many trajectories: a batch sees those of its group alone.

    Args:
        windows: The windows.
        group: Bytes of the slabs of a group; a group takes up to one slab more.

    Raises:
        ValueError: If `group` is not positive.
    """

    def __init__(self, windows: TrajectoryWindows, *, group: int = _GROUP):
        if group < 1:
            raise ValueError(f"Expected a group of at least 1 byte, got {group}.")
        self.windows, self._group = windows, group
        counts = np.asarray(windows.counts)
        reach = (windows.history + windows.horizon - 1) * max(windows.strides)
        limit = max(1, group // _PARTS)
        self._slabs = Slabs(
            windows.trajectories, starts=int(counts.max()), reach=reach, limit=limit, merged=min(_MERGED, limit)
        )
        every = list(self._slabs)
        self._bytes = np.array([self._slabs.nbytes(slab) for slab in every], np.int64)
        self._sizes = np.array([len(self._numbers(slab)) for slab in every], np.int64)
        self._recent = _Recent(2 * (group + int(self._bytes.max(initial=0))))
        self._orders, self._soon = _Recent(3), np.zeros(0, np.int64)

    @property
    def grid(self) -> Grid:
        """Where the values are."""
        return self.windows.grid

    @property
    def nbytes(self) -> int:
        """As of the windows."""
        return self.windows.nbytes

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def take(self, rows: Any) -> "Streamed":
        """The windows of the trajectories at an index array or slice."""
        return Streamed(self.windows.take(rows), group=self._group)

    def source(self) -> dict[str, np.ndarray]:
        """As of the windows, which reads all."""
        return self.windows.source()

    def item(self, rows: Any) -> dict[str, np.ndarray]:
        """As of the windows."""
        return self.windows.item(rows)

    def fetch(self, source: Any, item: Any) -> Any:
        """As of the windows."""
        return self.windows.fetch(source, item)

    def source_part(self, rows: Any, space: Space) -> dict[str, np.ndarray]:
        """As of the windows."""
        return self.windows.source_part(rows, space)

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        """The windows at an index array or slice, and reads ahead what `batch_rows` wanted."""
        return self.part(rows, tuple(slice(0, n) for n in self.grid.shape))

    def part(self, rows: Any, space: Space) -> dict[str, np.ndarray]:
        """As `data[rows]`, with the points of a box alone, as `Trajectories.part`; no others are read and held."""
        samples, frames = self.windows.where(rows)
        layout, points = self.windows.trajectories.layout, [one.stop - one.start for one in space]
        found = {
            "frames": np.empty((*frames.shape, len(layout.channels), *points), np.float32),
            "fixed": np.empty((len(samples), len(layout.fixed), *points), np.float32),
            "parameters": np.empty((len(samples), len(layout.parameters)), np.float32),
        }
        numbers, place = self._slabs.of(samples, frames[:, 0]), self._slabs.place[samples]
        for number in np.unique(numbers).tolist():
            slab, held = self._held(number, space)
            inside = np.flatnonzero(numbers == number)
            at = place[inside]
            found["frames"][inside] = held["frames"][at[:, None], frames[inside] - slab.first]
            found["fixed"][inside], found["parameters"][inside] = held["fixed"][at], held["parameters"][at]
        for number in self._soon.tolist() if len(samples) else ():
            self._held(number, space)
        return found | {"dt": self.windows.steps(frames)}

    def batch_rows(self, size: int, seed: int, k: int) -> np.ndarray:
        """The windows of training batch `k`, a pure function of its arguments; raises as `data.rows`.

        The next call of `data[rows]` reads ahead as much of the next group as was used of this one.
        """
        check_batch(len(self), size, k)
        position, parts, groups, group, share = k * size, [], None, 0, 0.0
        while size:
            epoch, start = divmod(position, len(self))
            groups = self._groups(seed, epoch)
            group = int(np.searchsorted(groups.window_ends, start, side="right"))
            order = self._shuffled(seed, epoch, group)
            start -= int(groups.window_ends[group - 1]) if group else 0
            parts.append(order[start : start + size])
            share = (start + len(parts[-1])) / len(order)
            position, size = position + len(parts[-1]), size - len(parts[-1])
        assert groups is not None
        follows = group + 1 < len(groups.slab_ends)
        soon = groups.of(group + 1) if follows else self._groups(seed, position // len(self) + 1).of(0)
        self._soon = soon[: math.ceil(share * len(soon))]
        return np.concatenate(parts)

    def _numbers(self, slab: Slab) -> np.ndarray:
        """Numbers of the windows that begin in a slab."""
        counts = self.windows.counts
        offsets = np.cumsum([0, *counts[:-1]])
        runs = [
            offset + np.arange(slab.first, min(slab.first + slab.starts, count))
            for offset, count in zip(offsets, counts, strict=True)
        ]
        return (slab.samples[:, None] * self.windows.of_each + np.concatenate(runs)).ravel()

    def _groups(self, seed: int, epoch: int) -> _Groups:
        def make() -> tuple[_Groups, int]:
            order = permutation(len(self._slabs), seed, epoch)
            before = np.cumsum(self._bytes[order]) - self._bytes[order]
            ends = np.append(np.flatnonzero(np.diff(before // self._group)) + 1, len(order))
            return _Groups(order, ends, np.cumsum(self._sizes[order])[ends - 1]), 1

        return self._orders.get(("groups", seed, epoch), make)

    def _shuffled(self, seed: int, epoch: int, group: int) -> np.ndarray:
        """The windows of a group in their order."""

        def make() -> tuple[np.ndarray, int]:
            slabs = self._groups(seed, epoch).of(group)
            numbers = np.concatenate([self._numbers(self._slabs[number]) for number in slabs.tolist()])
            return numbers[permutation(len(numbers), seed, epoch, group)], 1

        return self._orders.get(("windows", seed, epoch, group), make)

    def _held(self, number: int, space: Space) -> tuple[Slab, dict[str, np.ndarray]]:
        def make() -> tuple[tuple[Slab, dict[str, np.ndarray]], int]:
            slab, trajectories = self._slabs[number], self.windows.trajectories
            read = {
                "frames": self._slabs.frames(slab, space),
                "fixed": trajectories.fixed(slab.samples, space),
                "parameters": trajectories.parameters(slab.samples),
            }
            return (slab, read), read["frames"].nbytes + read["fixed"].nbytes

        return self._recent.get((number, *((one.start, one.stop) for one in space)), make)


def in_pieces(trajectories: Trajectories, *, limit: int = _PIECE) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """All trajectories once, as `in_order`, in batches of at most `limit` bytes, or of one; the next is read meanwhile.

    Args:
        trajectories: What to go through.
        limit: Bytes of a batch; up to three are in memory.
    """
    size = max(1, limit // max(1, trajectories.layout.nbytes // max(1, len(trajectories))))
    return ahead(in_order(trajectories, size))


def ahead(values: Iterator[Any]) -> Iterator[Any]:
    """The same values, the next one computed by a thread while the caller uses the one before."""
    end = object()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, values, end)
        while (value := waiting.result()) is not end:
            waiting = pool.submit(next, values, end)
            yield value
