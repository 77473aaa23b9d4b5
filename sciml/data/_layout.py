"""The contract between files and training: what a data set holds, and how its values are read."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sciml.grid import AbstractBoundary, Grid, Neumann, Periodic, Sides

_UNIFORM = 1e-3  # of a spacing: coordinates are stored in float32 and rounded
Space = tuple[slice, ...]
"""A box of a grid: one slice for each axis, with a start, a stop and step 1."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One channel of a field: a scalar, or a component of a vector or tensor.

    Attributes:
        name: Name of the channel, such as `velocity_x`.
        field: Name of the field that it is a component of, such as `velocity`; its own name for scalars.
        rank: Tensor rank of that field: 0 scalar, 1 vector, 2 matrix.
    """

    name: str
    field: str = ""
    rank: int = 0

    def __post_init__(self) -> None:
        if not self.name or self.rank not in (0, 1, 2):
            raise ValueError(f"Expected a channel with a name and rank 0, 1 or 2, got {self.name!r} of {self.rank}.")
        if not self.field:
            object.__setattr__(self, "field", self.name)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """What a data set holds: trajectories of frames, or for maps a single frame that fixed fields determine.

    Attributes:
        format: Name of the format, such as `PDEBench (single array)`.
        evidence: What in the data shows that format: `data sets tensor and x-coordinate`.
        samples: Number of samples.
        frames: Number of frames of each sample; 1 for maps.
        channels: Channels of a frame.
        grid: Where the values are. Coordinates that are not uniform are fixed fields as well, see `uniform`.
        times: Times of the frames `(frames,)`, increasing, in the units of the data; None if they are not known.
        fixed: Channels of the fields that do not change in time: coefficient, mask, forcing, coordinates.
        parameters: Names of the numbers that belong to a sample: viscosity, Reynolds number.
        splits: Rows of the official parts, `train`, `validation`, `test`; empty if none is published.
        notes: Sentences on what was assumed, such as boundaries that no entry of the file tells.

    Raises:
        ValueError: If sizes, names, times or rows do not fit together.
    """

    format: str
    evidence: str
    samples: int
    frames: int
    channels: tuple[Channel, ...]
    grid: Grid
    times: np.ndarray | None = None
    fixed: tuple[Channel, ...] = ()
    parameters: tuple[str, ...] = ()
    splits: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.samples < 1 or self.frames < 1 or not self.channels:
            raise ValueError(
                f"Expected at least 1 sample, frame and channel, got {self.samples} samples, {self.frames} frames and "
                f"{len(self.channels)} channels. A data set without values cannot be used."
            )
        for what, names in (
            ("channels", [one.name for one in self.channels]),
            ("fixed fields", [one.name for one in self.fixed]),
            ("parameters", list(self.parameters)),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"Expected different names of {what}, got {', '.join(twice)} twice. Rename one.")
        if self.times is not None:
            times = np.asarray(self.times, np.float64)
            if times.shape != (self.frames,) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise ValueError(
                    f"Expected {self.frames} increasing times, one for each frame, got {times.size} of which "
                    f"{np.count_nonzero(np.diff(times) <= 0)} do not increase. Correct them, or leave the times out."
                )
            object.__setattr__(self, "times", times)
        for name, rows in self.splits.items():
            if name not in ("train", "validation", "test") or (
                len(rows) and not 0 <= np.min(rows) <= np.max(rows) < self.samples
            ):
                raise ValueError(f"Expected rows 0 to {self.samples - 1} of train, validation or test, got {name}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all frames: (samples, frames, channels, *space)."""
        return (self.samples, self.frames, len(self.channels), *self.grid.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames and fixed fields as float32."""
        points = math.prod(self.grid.shape)
        return 4 * self.samples * points * (self.frames * len(self.channels) + len(self.fixed))


class AbstractReader(abc.ABC):
    """Reads values of a data set, float32. Samples and frames are consecutive, so that a reader can read them at once.

    Attributes:
        layout: What the data set holds.
        block: Numbers of samples and of frames that are stored together (a chunk), so that reading whole blocks is
            quickest.
        paths: The files.
    """

    layout: Layout
    block: tuple[int, int] = (1, 1)
    paths: tuple[str, ...] = ()

    @abc.abstractmethod
    def frames(self, samples: slice, times: slice) -> Float[np.ndarray, "samples times channels *space"]:
        """Frames of samples; `samples` has step 1, `times` may have any positive step, both have a start and a stop."""

    @abc.abstractmethod
    def fixed(self, samples: slice) -> Float[np.ndarray, "samples fixed *space"]:
        """Fixed fields of samples."""

    @abc.abstractmethod
    def parameters(self, samples: slice) -> Float[np.ndarray, "samples parameters"]:
        """Parameters of samples."""

    def frames_in(self, samples: slice, times: slice, space: Space) -> Float[np.ndarray, "samples times channels *box"]:
        """Frames of samples in a box of the grid.

        By default whole frames are read; readers that can read less do.
        """
        return self.frames(samples, times)[(..., *space)]

    def fixed_in(self, samples: slice, space: Space) -> Float[np.ndarray, "samples fixed *box"]:
        """Fixed fields of samples in a box, as `frames_in`."""
        return self.fixed(samples)[(..., *space)]


def uniform(coordinates: Sequence[np.ndarray], periodic: Sequence[bool]) -> tuple[Grid, bool]:
    """The grid of coordinates along each axis, and whether they are uniform.

    A periodic axis has the length `n h`. An axis with walls that begins at a multiple of `h / 2` has its walls there:
    cell centres begin at `h / 2`, nodes on the wall at 0. The boundary is that of a mirrored field, `Neumann`, because
    no format tells the condition. Coordinates that are not uniform make a grid of as many equal cells on their range.

    Args:
        coordinates: Increasing or decreasing coordinates of each axis.
        periodic: Whether each axis is periodic.

    Raises:
        ValueError: If coordinates are not finite, or do not increase or decrease.
    """
    lengths, sides, even = [], [], True
    for axis, (points, closed) in enumerate(zip(coordinates, periodic, strict=True)):
        points = np.asarray(points, np.float64)
        steps = np.diff(points)
        if (
            points.ndim != 1
            or not np.isfinite(points).all()
            or (len(steps) and not ((steps > 0).all() or (steps < 0).all()))
        ):
            raise ValueError(
                f"Expected increasing coordinates along axis {axis}, got an array of shape {points.shape} from "
                f"{points.min():.4g} to {points.max():.4g} that does not increase. Correct the coordinates."
            )
        h = abs(points[-1] - points[0]) / max(1, len(points) - 1) or 1.0
        even = even and bool((np.abs(np.abs(steps) - h) <= _UNIFORM * h).all())
        sides.append(wall_sides(points, h, closed))
        lengths.append(h * (len(points) if closed else len(points) - 1 + sides[-1][0].gap + sides[-1][1].gap))
    return Grid(tuple(len(points) for points in coordinates), tuple(lengths), tuple(sides)), even


def wall_sides(points: np.ndarray, h: float, closed: bool) -> Sides:
    """The two sides of an axis: periodic, cells between walls, or nodes on the walls."""
    centred = abs(abs(points.flat[0] / h) % 1 - 0.5) < 0.1
    gap = 0.5 if centred else 0.0
    side: AbstractBoundary = Periodic(gap) if closed else Neumann(gap)
    return side, side


def seems_periodic(fields: Float[np.ndarray, "samples *space"], axis: int) -> bool:
    """Whether fields go on from the last to the first value along a spatial axis as from one value to the next.

    The mean difference across the ends may be up to three times that of neighbours.

    Args:
        fields: Some fields of one channel.
        axis: Number of the axis of space, from 0.
    """
    values = np.moveaxis(np.asarray(fields, np.float64), axis + 1, -1)
    if values.shape[-1] < 3:
        return False
    across, inside = np.abs(values[..., 0] - values[..., -1]).mean(), np.abs(np.diff(values, axis=-1)).mean()
    return bool(across <= 3 * inside)


def thinned(grid: Grid, every: int) -> Grid:
    """The grid of each `every`-th point: walls stay where they are, so gaps change in units of the spacing.

    Raises:
        ValueError: If `every` does not divide a periodic axis.
    """
    boundary: list[Sides] = []
    for n, (low, high) in zip(grid.shape, grid.sides, strict=True):
        if isinstance(low, Periodic):
            if n % every:
                raise ValueError(f"A periodic axis of {n} points has no equal spacing with every {every}th point.")
            boundary.append((low, high))
            continue
        left = (n - 1) % every  # points dropped after the last one that is kept
        first, last = _with_gap(low, low.gap / every), _with_gap(high, (high.gap + left) / every)
        boundary.append((first, last))
    return Grid(tuple(-(-n // every) for n in grid.shape), grid.extent, tuple(boundary))


def _with_gap(side: Any, gap: float) -> AbstractBoundary:
    return dataclasses.replace(side, gap=gap)
