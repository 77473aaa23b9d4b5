"""Trajectories of any source, read when they are asked for: a selection of samples, frames, channels and points."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sciml.data._dataset import Pairs
from sciml.data._layout import AbstractReader, Layout, Space, thinned
from sciml.grid import Grid


class InMemory(AbstractReader):
    """Arrays as a data set.

    Args:
        frames: Frames `(samples, time, channels, *space)`.
        layout: What they are.
        fixed: Fixed fields `(samples, fixed, *space)`; none by default.
        parameters: Parameters `(samples, parameters)`; none by default.

    Raises:
        ValueError: If the shapes differ from the layout, or values are not finite.
    """

    def __init__(
        self,
        frames: np.ndarray,
        layout: Layout,
        *,
        fixed: np.ndarray | None = None,
        parameters: np.ndarray | None = None,
    ) -> None:
        n, space = layout.samples, layout.grid.shape
        given = {
            "frames": (np.asarray(frames), layout.shape),
            "fixed": (np.zeros((n, 0, *space)) if fixed is None else np.asarray(fixed), (n, len(layout.fixed), *space)),
            "parameters": (
                np.zeros((n, 0)) if parameters is None else np.asarray(parameters),
                (n, len(layout.parameters)),
            ),
        }
        for name, (array, shape) in given.items():
            if array.shape != shape:
                raise ValueError(f"Expected {name} of shape {shape} for this layout, got {array.shape}.")
            check_finite(name, array)
        self.layout, self.block = layout, (1, layout.frames)
        self._frames, self._fixed, self._parameters = (
            np.ascontiguousarray(array, np.float32) for array, _ in given.values()
        )

    def frames(self, samples: slice, times: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._frames[samples, times]

    def fixed(self, samples: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._fixed[samples]

    def parameters(self, samples: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._parameters[samples]


def _sizes(space: Space) -> tuple[int, ...]:
    return tuple(one.stop - one.start for one in space)


def check_finite(what: str, array: np.ndarray, first: int = 0) -> None:
    """Refuses NaN and infinite values.

    Args:
        what: What the array is, for the message.
        array: Array with a leading axis of samples.
        first: Number of its first sample.

    Raises:
        ValueError: If a value is not finite; it names the first such sample.
    """
    if np.isfinite(array).all():
        return
    bad = first + np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    raise ValueError(
        f"Expected finite values of {what}, got NaN or infinite ones in {bad.size} of {len(array)} samples, the first "
        f"is sample {bad[0]}. Leave it out: --exclude {bad[0]} of sciml train, or take in Python."
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """Samples of a reader, each a trajectory of frames with fixed fields and parameters; nothing is read in advance.

    `data[rows]` is a dict of float32 arrays: `frames` (rows, time, channels, *space), `fixed` (rows, fixed, *space),
    `parameters` (rows, parameters). A selection (`take`, `select`, `data.split`, `data.subsample`) reads nothing.

    Args:
        reader: Where the values come from.
        rows: Numbers of the samples in the reader; all by default.
        times: Numbers of the frames in the reader, with any positive step; all by default.
        every: Step between the points along each axis.
        channels: Numbers of the channels of a frame.
        place: Where the values of the reader are, if it is not as its layout says: other boundaries.

    Raises:
        ValueError: If nothing is selected, or something that is not there.
    """

    reader: AbstractReader
    _: dataclasses.KW_ONLY
    rows: np.ndarray | None = None
    times: range | None = None
    every: int = 1
    channels: tuple[int, ...] | None = None
    place: Grid | None = None
    layout: Layout = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        known = self.reader.layout
        rows = np.arange(known.samples) if self.rows is None else np.asarray(self.rows)
        channels = tuple(range(len(known.channels))) if self.channels is None else tuple(self.channels)
        frames = range(known.frames) if self.times is None else self.times
        if frames.step < 1 or not len(frames) or not 0 <= frames[0] <= frames[-1] < known.frames:
            raise ValueError(f"Expected frames from 0 to {known.frames - 1} in their order, got {frames}.")
        if len(rows) and not 0 <= rows.min() <= rows.max() < known.samples:
            raise ValueError(f"Expected rows from 0 to {known.samples - 1}, got {rows.min()} to {rows.max()}.")
        grid = known.grid if self.place is None else self.place
        layout = dataclasses.replace(
            known,
            samples=len(rows),
            frames=len(frames),
            channels=tuple(known.channels[i] for i in channels),
            grid=grid if self.every == 1 else thinned(grid, self.every),
            times=None if known.times is None else known.times[list(frames)],
            splits=known.splits if np.array_equal(rows, np.arange(known.samples)) else {},
        )
        for name, value in (("layout", layout), ("rows", rows), ("channels", channels), ("times", frames)):
            object.__setattr__(self, name, value)

    @property
    def grid(self) -> Grid:
        """Where the values are."""
        return self.layout.grid

    def __len__(self) -> int:
        """Number of samples."""
        return self.layout.samples

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        """Whole samples at an index array or slice."""
        return self.part(rows, self._box(None))

    def part(self, rows: Any, space: Space) -> dict[str, np.ndarray]:
        """As `data[rows]`, with the points of a box alone; no more is read, if the format allows it.

        Args:
            rows: Index array or slice; of no rows nothing is read.
            space: One slice for each axis of the grid, with a start, a stop and step 1.

        Raises:
            ValueError: If the box is not inside of the grid, or a value is not finite.
        """
        samples = np.arange(len(self))[rows]
        times = np.broadcast_to(np.arange(self.layout.frames), (len(samples), self.layout.frames))
        return {
            "frames": self.frames(samples, times, space),
            "fixed": self.fixed(samples, space),
            "parameters": self.parameters(samples),
        }

    def take(self, rows: Any) -> "Trajectories":
        """The samples at an index array or slice."""
        assert self.rows is not None
        return dataclasses.replace(self, rows=self.rows[rows])

    def select(self, *, times: slice | None = None, every: int = 1, channels: Sequence[str] = ()) -> "Trajectories":
        """Some frames, points and channels.

        Args:
            times: Frames of these trajectories; all by default.
            every: Step between points along each axis.
            channels: Names; all by default.

        Raises:
            ValueError: If nothing is left, or there is no such channel.
        """
        names = [one.name for one in self.layout.channels]
        unknown = [name for name in channels if name not in names]
        if unknown:
            raise ValueError(f"Expected channels of {', '.join(names)}, got {', '.join(unknown)}.")
        assert self.channels is not None
        assert self.times is not None
        return dataclasses.replace(
            self,
            times=self.times if times is None else self.times[times],
            every=self.every * every,
            channels=tuple(self.channels[names.index(name)] for name in channels) or self.channels,
        )

    def frames(
        self, samples: np.ndarray, times: np.ndarray, space: Space | None = None
    ) -> Float[np.ndarray, "rows times channels *space"]:
        """Frames of samples: row i holds the frames `times[i]`, which have equal distances, of sample `samples[i]`.

        Rows of consecutive samples and equal times are read at once. With `space`, points of a box alone, as in `part`.

        Raises:
            ValueError: If a value is not finite.
        """
        space = self._box(space)
        found = np.empty((*times.shape, len(self.layout.channels), *_sizes(space)), np.float32)
        assert self.times is not None
        same = (times[1:] == times[:-1]).all(axis=1)
        for first, last in self._runs(samples, same):
            chosen = times[first]
            step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
            which = slice(self.times[chosen[0]], self.times[chosen[-1]] + 1, self.times.step * step)
            rows = self._rows(samples, first, last)
            block = self._read(space, self.reader.frames, self.reader.frames_in, rows, which)
            if self.channels != tuple(range(block.shape[2])):  # a list of all of them would copy
                block = block[:, :, list(self.channels or ())]
            check_finite("frames", block, rows.start)
            found[first:last] = block
        return found

    def fixed(self, samples: np.ndarray, space: Space | None = None) -> Float[np.ndarray, "rows fixed *space"]:
        """Fixed fields of samples; as `frames`."""
        space = self._box(space)
        found = np.empty((len(samples), len(self.layout.fixed), *_sizes(space)), np.float32)
        if not self.layout.fixed:
            return found
        for first, last in self._runs(samples):
            rows = self._rows(samples, first, last)
            block = self._read(space, self.reader.fixed, self.reader.fixed_in, rows)
            check_finite("fixed fields", block, rows.start)
            found[first:last] = block
        return found

    def parameters(self, samples: np.ndarray) -> Float[np.ndarray, "rows parameters"]:
        """Parameters of samples; raises as `frames`."""
        found = np.empty((len(samples), len(self.layout.parameters)), np.float32)
        if not self.layout.parameters:
            return found
        for first, last in self._runs(samples):
            rows = self._rows(samples, first, last)
            found[first:last] = self.reader.parameters(rows)
            check_finite("parameters", found[first:last], rows.start)
        return found

    def _runs(self, samples: np.ndarray, same: np.ndarray | bool = True) -> Iterator[tuple[int, int]]:
        """First and last row (exclusive) of runs of consecutive samples of the reader."""
        if not len(samples):
            return
        assert self.rows is not None
        follows = (np.diff(self.rows[samples]) == 1) & same
        edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(samples)]
        yield from itertools.pairwise(edges)

    def _rows(self, samples: np.ndarray, first: int, last: int) -> slice:
        assert self.rows is not None
        start = int(self.rows[samples[first]])
        return slice(start, start + last - first)

    def _box(self, space: Space | None) -> Space:
        """A box that is checked; without one the whole grid."""
        shape = self.grid.shape
        if space is None:
            return tuple(slice(0, n) for n in shape)
        inside = len(space) == len(shape) and all(
            0 <= (one.start or 0) < (one.stop or 0) <= n and one.step in (None, 1)
            for one, n in zip(space, shape, strict=True)
        )
        if not inside:
            raise ValueError(
                f"Expected a slice with a start and a stop for each axis of the grid {shape}, got {space}."
            )
        return tuple(slice(one.start or 0, one.stop) for one in space)

    def _read(
        self, space: Space, whole: Callable[..., np.ndarray], in_box: Callable[..., np.ndarray], *which: slice
    ) -> np.ndarray:
        """Values of the reader at the points of a box."""
        if space == self._box(None):
            block = whole(*which)
        else:
            inner = (slice(one.start * self.every, (one.stop - 1) * self.every + 1) for one in space)
            block = in_box(*which, tuple(inner))
        return block[(..., *[slice(None, None, self.every)] * len(space))]

    def pairs(self) -> Pairs:
        """The pairs of a map in memory: fixed fields and the single frame.

        Raises:
            ValueError: If there is more than one frame, or no fixed field.
        """
        if self.layout.frames != 1 or not self.layout.fixed:
            raise ValueError(
                f"Expected fixed fields and a single frame, got {len(self.layout.fixed)} fixed fields and "
                f"{self.layout.frames} frames. Windows of trajectories are TrajectoryWindows."
            )
        found = self[:]
        into, out = (tuple(one.name for one in part) for part in (self.layout.fixed, self.layout.channels))
        return Pairs(found["fixed"], found["frames"][:, 0], grid=self.grid, inputs=into, outputs=out)

    def in_memory(self) -> "Trajectories":
        """The same trajectories, read."""
        found = self[:]
        return Trajectories(
            InMemory(found["frames"], self.layout, fixed=found["fixed"], parameters=found["parameters"])
        )


@dataclasses.dataclass(frozen=True, eq=False)
class TrajectoryWindows:
    """Runs of frames of trajectories with everything that a conditioned step needs.

    `data[rows]` is a dict of float32 arrays: `frames` (rows, history + horizon, channels, *space), `fixed` (rows,
    fixed, *space), `parameters` (rows, parameters), and `dt` (rows,), the time between neighbouring frames of the
    window, or the number of frames between them where the times are not known. Maps have history 0: the fixed fields
    determine the single frame. Windows of one trajectory overlap, so that `data.split` cuts between trajectories.

    Args:
        trajectories: The frames.
        history: Number of frames seen.
        horizon: Number of frames to predict.
        strides: Steps between the frames of a window; each gives windows of its own, for models of several time steps.

    Raises:
        ValueError: If a number is not positive, or the trajectories are too short for one window.
    """

    trajectories: Trajectories
    _: dataclasses.KW_ONLY
    history: int = 1
    horizon: int = 1
    strides: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if self.history < 0 or self.horizon < 1 or not self.strides or min(self.strides) < 1:
            raise ValueError(
                f"A window needs history >= 0, horizon >= 1 and strides >= 1, got {self.history}, {self.horizon} and "
                f"{self.strides}."
            )
        counts = self.counts
        if min(counts) < 1:
            stride, frames = self.strides[counts.index(min(counts))], self.trajectories.layout.frames
            raise ValueError(
                f"History {self.history} and horizon {self.horizon} with stride {stride} need "
                f"{(self.history + self.horizon - 1) * stride + 1} frames, the trajectories have {frames}. "
                "Use shorter windows, a smaller stride or longer trajectories."
            )

    @property
    def counts(self) -> list[int]:
        """Number of windows of a trajectory for each stride."""
        frames = self.trajectories.layout.frames
        return [frames - (self.history + self.horizon - 1) * stride for stride in self.strides]

    @property
    def grid(self) -> Grid:
        """Where the values are."""
        return self.trajectories.grid

    @property
    def of_each(self) -> int:
        """Number of windows of each trajectory."""
        return sum(self.counts)

    def __len__(self) -> int:
        """Number of windows of all trajectories."""
        return len(self.trajectories) * self.of_each

    def take(self, rows: Any) -> "TrajectoryWindows":
        """The windows of the trajectories at an index array or slice."""
        return dataclasses.replace(self, trajectories=self.trajectories.take(rows))

    def in_memory(self) -> "TrajectoryWindows":
        """The same windows of trajectories that are read."""
        return dataclasses.replace(self, trajectories=self.trajectories.in_memory())

    def where(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Samples (rows,) and numbers of the frames (rows, history + horizon) of windows.

        Window `i` is one of trajectory `i // of_each`: those of the first stride by their first frame, then those of
        the next stride.
        """
        plain = isinstance(rows, np.ndarray) and _inside(rows, len(self))  # no array of all numbers for each batch
        sample, place = np.divmod(rows if plain else np.arange(len(self))[rows], self.of_each)
        ends = np.cumsum(self.counts)
        kind = np.searchsorted(ends, place, side="right")
        start = place - (ends - self.counts)[kind]
        stride = np.asarray(self.strides)[kind]
        return sample, start[:, None] + stride[:, None] * np.arange(self.history + self.horizon)

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        """The windows at an index array or slice."""
        return self._windows(rows, None)

    def part(self, rows: Any, space: Space) -> dict[str, np.ndarray]:
        """As `data[rows]`, with the points of a box alone, as `Trajectories.part`."""
        return self._windows(rows, space)

    def _windows(self, rows: Any, space: Space | None) -> dict[str, np.ndarray]:
        sample, frames = self.where(rows)
        return {
            "frames": self.trajectories.frames(sample, frames, space),
            "fixed": self.trajectories.fixed(sample, space),
            "parameters": self.trajectories.parameters(sample),
            "dt": self.steps(frames),
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all trajectories, which is less than that of all windows, since those overlap."""
        return self.trajectories.layout.nbytes + 4 * len(self.trajectories) * len(self.trajectories.layout.parameters)

    def source(self) -> dict[str, np.ndarray]:
        """All trajectories in memory, for `fetch`."""
        return self.trajectories[:]

    def source_part(self, rows: Any, space: Space) -> dict[str, np.ndarray]:
        """Some trajectories of `source`, with the points of a box alone, as `Trajectories.part`."""
        return self.trajectories.part(rows, space)

    def item(self, rows: Any) -> dict[str, np.ndarray]:
        """Where the windows at an index array or slice are, and their `dt`, for `fetch`."""
        sample, frames = self.where(rows)
        return {"sample": sample.astype(np.int32), "frames": frames.astype(np.int32), "dt": self.steps(frames)}

    @staticmethod
    def fetch(source: Any, item: Any) -> Any:
        """The windows at `item`, of NumPy's or of traced arrays: `fetch(source(), item(rows))` is `self[rows]`."""
        sample = item["sample"]
        fixed, parameters = source["fixed"][sample], source["parameters"][sample]
        frames = source["frames"][sample[:, None], item["frames"]]
        return {"frames": frames, "fixed": fixed, "parameters": parameters, "dt": item["dt"]}

    def steps(self, frames: np.ndarray) -> np.ndarray:
        """Time between the neighbouring frames of windows, the mean over the window; 1 for a single frame."""
        if frames.shape[1] == 1:
            return np.ones(len(frames), np.float32)
        times = self.trajectories.layout.times
        times = np.arange(self.trajectories.layout.frames) if times is None else times
        return ((times[frames[:, -1]] - times[frames[:, 0]]) / (frames.shape[1] - 1)).astype(np.float32)


def _inside(rows: np.ndarray, count: int) -> bool:
    """Whether an index array holds numbers from 0 to `count - 1` alone."""
    return rows.dtype.kind in "iu" and rows.size > 0 and bool(0 <= rows.min() <= rows.max() < count)
