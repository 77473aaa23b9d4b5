"""Trajectories in slabs: samples and frames that are stored together, a bounded number of bytes at a time."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from sciml.data._layout import Space
from sciml.data._trajectories import Trajectories


@dataclasses.dataclass(frozen=True)
class Slab:
    """Frames of some samples.

    Attributes:
        samples: Numbers of the samples, in the order in which they are stored.
        first: Number of the first frame.
        starts: Number of frames at which something begins: a window, a difference.
        frames: Number of frames that are read, which are more than `starts` where windows reach beyond them.
    """

    samples: np.ndarray
    first: int
    starts: int
    frames: int


class Slabs:
    """Cuts trajectories into slabs, along the edges of what is stored together where that is known.

    A slab holds whole trajectories if the samples of a block fit into `limit`, otherwise a run of frames of them. A
    slab of runs reads `reach` more frames, which are read for the next one, too.

    Args:
        trajectories: What is cut.
        starts: Number of frames at which windows may begin, from the first.
        reach: Number of frames after its first one that a window needs.
        limit: Bytes that a slab should take at most. A slab takes more if one block does, or 2 `reach` frames.
        merged: Bytes up to which the samples of several blocks are read together.
    """

    def __init__(self, trajectories: Trajectories, *, starts: int, reach: int, limit: int, merged: int):
        layout, (together, run) = trajectories.layout, trajectories.reader.block
        assert trajectories.rows is not None
        assert trajectories.times is not None
        self._trajectories, self._reach = trajectories, reach
        points = math.prod(layout.grid.shape)
        self._frame_bytes, self._fixed_bytes = 4 * points * len(layout.channels), 4 * points * len(layout.fixed)
        block_bytes = together * (layout.frames * self._frame_bytes + self._fixed_bytes)
        self._edges = np.array([0, starts])
        if block_bytes > limit:
            step = -(-run // trajectories.times.step)
            count = max(limit // (together * self._frame_bytes) - reach, reach, 1)
            begin = -trajectories.times.start % run if trajectories.times.step == 1 else 0
            inner = np.arange(begin, starts, max(step, count // step * step))
            self._edges = np.unique(np.concatenate(([0], inner, [starts])))
        blocks = max(1, merged // block_bytes) if len(self._edges) == 2 else 1
        self._order = np.argsort(trajectories.rows, kind="stable")
        _, rank = np.unique(trajectories.rows[self._order] // together, return_inverse=True)
        self._ends = np.append(np.flatnonzero(np.diff(rank // blocks)) + 1, len(rank))
        self._begins = np.append(0, self._ends[:-1])
        self._group, self.place = np.empty_like(self._order), np.empty_like(self._order)
        self._group[self._order] = rank // blocks
        self.place[self._order] = np.arange(len(rank)) - self._begins[rank // blocks]

    def __len__(self) -> int:
        """Number of slabs."""
        return len(self._ends) * (len(self._edges) - 1)

    def __getitem__(self, number: int) -> Slab:
        """A slab; those of the same samples follow one another."""
        group, run = divmod(number, len(self._edges) - 1)
        first, last = int(self._edges[run]), int(self._edges[run + 1])
        frames = min(last + self._reach, self._trajectories.layout.frames) - first
        return Slab(self._order[self._begins[group] : self._ends[group]], first, last - first, frames)

    def __iter__(self) -> Iterator[Slab]:
        """All slabs."""
        return (self[number] for number in range(len(self)))

    def of(self, samples: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Numbers of the slabs that hold the windows of samples that begin at some frames.

        `place[sample]` is where a sample is among those of its slab.
        """
        run = np.searchsorted(self._edges, starts, side="right") - 1
        return self._group[samples] * (len(self._edges) - 1) + run

    def nbytes(self, slab: Slab) -> int:
        """Bytes of a slab."""
        return len(slab.samples) * (slab.frames * self._frame_bytes + self._fixed_bytes)

    def frames(self, slab: Slab, space: Space | None = None) -> np.ndarray:
        """Frames of a slab (samples, frames, channels, *space), all points or those of a box."""
        times = np.broadcast_to(np.arange(slab.first, slab.first + slab.frames), (len(slab.samples), slab.frames))
        return self._trajectories.frames(slab.samples, times, space)
