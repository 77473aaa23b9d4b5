"""Arrays whose axes have names: from the order of a file to (sample, time, channel, x, y, z), a slice at a time."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sciml.data._layout import AbstractReader, Channel, Layout, Space, seems_periodic, uniform
from sciml.grid import Grid

SPACE = ("x", "y", "z")
AXES = ("sample", "time", "channel", *SPACE)
_FEW_CHANNELS, _MOST_CHANNELS = 4, 12  # a shorter axis may well be one of channels, a longer one hardly
_FIELDS = 4  # samples that are read to see whether they are periodic


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """An array, a name for each axis, and the channels that it holds. Nothing is read.

    Args:
        name: Name of the array.
        array: Anything with `shape` and `dtype` that is sliced as a NumPy array: a memory map, a variable of a file.
        axes: Names of its axes of sample, time, channel, x, y, z, in any order; what is missing has one entry, or
            repeats where other arrays have more.
        channels: Its channels; by default the name, with numbers where the axis `channel` has more than one entry.

    Raises:
        ValueError: If the axes are unknown, doubled, without x, or as many as the array has not; if the values are no
            real numbers, or there are none; or if there are as many channels as the array has not.
    """

    name: str
    array: Any
    axes: tuple[str, ...]
    channels: tuple[Channel, ...] = ()

    def __post_init__(self) -> None:
        shape, kind = tuple(self.array.shape), np.dtype(self.array.dtype)
        unknown = [axis for axis in self.axes if axis not in AXES]
        if unknown or len(set(self.axes)) != len(self.axes) or len(self.axes) != len(shape):
            raise ValueError(
                f"expected the {len(shape)} axes of {self.name}, of shape {shape}, each once and of "
                f"{', '.join(AXES)}, got {','.join(self.axes)}. Name the axes in the order of the array."
            )
        if kind.kind not in "biuf":
            raise ValueError(
                f"expected real numbers in {self.name}, got {kind}. Write real and imaginary part as two arrays, and "
                "leave out texts and objects."
            )
        if 0 in shape:
            raise ValueError(f"expected values in {self.name}, got none: its shape is {shape}. Write the file again.")
        count = self.size("channel")
        if not self.channels:
            names = [self.name] if count == 1 else [f"{self.name}_{i}" for i in range(count)]
            object.__setattr__(self, "channels", tuple(Channel(name) for name in names))
        if len(self.channels) != count:
            raise ValueError(f"expected {count} channels of {self.name}, got {len(self.channels)}. Name each.")

    def size(self, axis: str) -> int:
        """Length of an axis; 1 if there is none."""
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    @property
    def space(self) -> dict[str, int]:
        """Lengths of the axes of space, in the order x, y, z."""
        return {axis: self.size(axis) for axis in SPACE if axis in self.axes}

    @property
    def block(self) -> tuple[int, int]:
        """Numbers of samples and frames that a chunk holds; one sample and all its frames if there are no chunks."""
        chunks = getattr(self.array, "chunks", None)
        if chunks is None or len(chunks) != len(self.axes) or not all(isinstance(n, int) for n in chunks):
            return (1, self.size("time"))
        held = dict(zip(self.axes, chunks, strict=True))
        return (
            max(1, min(held.get("sample", 1), self.size("sample"))),
            max(1, min(held.get("time", 1), self.size("time"))),
        )

    def read(
        self, samples: slice, times: slice, space: Mapping[str, int], box: Mapping[str, slice] | None = None
    ) -> Float[np.ndarray, "samples times channels *space"]:
        """Values as float32; axes that the array has not are repeated.

        Args:
            samples: Samples, with a start and a stop.
            times: Frames, with a start and a stop.
            space: Lengths of all axes of space in the order x, y, z.
            box: The points along axes of space that are read, with a start and a stop; all along those not named.
        """
        cuts = {"sample": samples, "time": times, **(box or {})}
        part = self.array[tuple(cuts.get(axis, slice(None)) for axis in self.axes)]
        with np.errstate(over="ignore"):  # the reader's caller refuses infinite values
            part = np.asarray(part).astype(np.float32)
        order = [axis for axis in AXES if axis in self.axes]
        part = part.transpose([self.axes.index(axis) for axis in order])
        wanted = ["sample", "time", "channel", *space]
        part = part.reshape([part.shape[order.index(axis)] if axis in order else 1 for axis in wanted])
        points = [_length(cuts[axis]) if axis in cuts else n for axis, n in space.items()]
        lengths = [_length(samples), _length(times), self.size("channel"), *points]
        return np.broadcast_to(part, lengths)


def _length(cut: slice) -> int:
    return len(range(cut.start, cut.stop, cut.step or 1))


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where arrays come from: name of the format, what shows it, the files, and what was assumed."""

    format: str
    evidence: str
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def located(origin: Origin) -> Iterator[None]:
    """Errors within name the first file, unless they do."""
    where = f"{origin.paths[0]}: " if origin.paths else ""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where}{error}") from None


class LabelledReader(AbstractReader):
    """Reads arrays with named axes; see `labelled_reader`, which makes the layout.

    Args:
        layout: What they hold.
        frames: Arrays of the frames, in the order of the channels.
        fixed: Arrays of the fixed fields.
        parameters: Parameters `(samples, parameters)`.
        paths: The files.
    """

    def __init__(
        self,
        layout: Layout,
        frames: Sequence[Labelled],
        *,
        fixed: Sequence[Labelled],
        parameters: np.ndarray,
        paths: tuple[str, ...],
    ) -> None:
        self.layout, self.block, self.paths = layout, frames[0].block, paths
        self._frames, self._fixed, self._parameters = tuple(frames), tuple(fixed), parameters
        self._space = frames[0].space

    def frames(self, samples: slice, times: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self.frames_in(samples, times, ())

    def fixed(self, samples: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self.fixed_in(samples, ())

    def frames_in(self, samples: slice, times: slice, space: Space) -> np.ndarray:
        """As in `AbstractReader`."""
        box = dict(zip(self._space, space, strict=False))
        return np.concatenate([one.read(samples, times, self._space, box) for one in self._frames], axis=2)

    def fixed_in(self, samples: slice, space: Space) -> np.ndarray:
        """As in `AbstractReader`."""
        box = dict(zip(self._space, space, strict=False))
        if not self._fixed:
            points = [_length(box[axis]) if axis in box else n for axis, n in self._space.items()]
            return np.zeros((_length(samples), 0, *points), np.float32)
        first = slice(0, 1)
        return np.concatenate([one.read(samples, first, self._space, box)[:, 0] for one in self._fixed], axis=1)

    def parameters(self, samples: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._parameters[samples]


def labelled_reader(
    origin: Origin,
    frames: Sequence[Labelled],
    *,
    fixed: Sequence[Labelled] = (),
    coordinates: Mapping[str, np.ndarray] | None = None,
    parameters: Mapping[str, np.ndarray] | None = None,
    periodic: Mapping[str, bool] | None = None,
    grid: Grid | None = None,
    splits: Mapping[str, np.ndarray] | None = None,
) -> LabelledReader:
    """A reader of arrays with named axes.

    Args:
        origin: Where they come from.
        frames: Arrays of the frames, all with the same axes of samples, time and space; their channels follow one
            another.
        fixed: Arrays without time; those without samples are the same for all samples.
        coordinates: Coordinates along `x`, `y`, `z` and the times along `time`, as far as they are known.
        parameters: Parameters by their names: a number for each sample, or one for all.
        periodic: Whether an axis of space is periodic, where it is known; the values are looked at otherwise.
        grid: Where the values are, if the format says so; coordinates and values are not looked at then.
        splits: Rows of the official parts.

    Raises:
        ValueError: If shapes, names, times or coordinates contradict one another; the message begins with the path.
    """
    with located(origin):
        first = frames[0]
        check_sizes(first, frames, fixed)
        given = {} if coordinates is None else dict(coordinates)
        notes = list(origin.notes)
        extra: list[Labelled] = []
        if grid is None:
            grid, extra = _placed(first, given, {} if periodic is None else periodic, notes)
        samples, numbers = first.size("sample"), {} if parameters is None else parameters
        table = np.stack([_number(name, one, samples) for name, one in numbers.items()], axis=1) if numbers else None
        everything = (*fixed, *extra)
        layout = Layout(
            format=origin.format,
            evidence=origin.evidence,
            samples=samples,
            frames=first.size("time"),
            channels=tuple(channel for one in frames for channel in one.channels),
            grid=grid,
            times=None if "time" not in given else np.asarray(given["time"], np.float64),
            fixed=tuple(channel for one in everything for channel in one.channels),
            parameters=tuple(numbers),
            splits={} if splits is None else splits,
            notes=tuple(notes),
        )
    table = np.zeros((samples, 0), np.float32) if table is None else table
    return LabelledReader(layout, frames, fixed=everything, parameters=table, paths=origin.paths)


def check_sizes(first: Labelled, frames: Sequence[Labelled], fixed: Sequence[Labelled]) -> None:
    """Refuses arrays that do not have the sizes of the first one."""
    if not first.space:
        raise ValueError(
            f"expected an axis of space, x, y or z, of {first.name}, got {','.join(first.axes)}. Fields of points have "
            "at least x."
        )
    for one in (*frames, *fixed):
        still = one in fixed
        for axis in ("sample", "time", *SPACE):
            repeats = still and (axis not in one.axes or (axis == "time" and one.size(axis) == 1))
            if not repeats and (one.size(axis) != first.size(axis) or (still and axis == "time")):
                raise ValueError(
                    f"expected {first.size(axis)} entries along {axis} of {one.name}, as {first.name} has, got "
                    f"{one.size(axis)}. Leave one of both out, or write them with equal sizes."
                )


def _number(name: str, given: np.ndarray, samples: int) -> np.ndarray:
    """One number for each sample."""
    given = np.asarray(given)
    if given.dtype.kind not in "biuf" or given.size not in (1, samples):
        raise ValueError(
            f"expected one number of {name}, or one for each of {samples} samples, got {given.dtype} of shape "
            f"{given.shape}. Leave it out, or correct its length."
        )
    with np.errstate(over="ignore"):
        return np.broadcast_to(given.reshape(-1).astype(np.float32), samples)


def _placed(
    first: Labelled, given: Mapping[str, np.ndarray], periodic: Mapping[str, bool], notes: list[str]
) -> tuple[Grid, list[Labelled]]:
    """The grid, and the coordinates as fixed fields if they are not uniform; adds what was assumed to the notes."""
    space, points, closed = first.space, [], []
    last = first.size("time") - 1
    fields = first.read(slice(0, min(_FIELDS, first.size("sample"))), slice(last, last + 1), space)[:, 0, 0]
    fields = fields[np.isfinite(fields).reshape(len(fields), -1).all(axis=1)]
    for number, (axis, size) in enumerate(space.items()):
        ring, nodes = _ends(fields, number)
        ring = periodic.get(axis, ring)
        if axis in given:
            points.append(np.asarray(given[axis], np.float64))
            if points[-1].shape != (size,):
                raise ValueError(f"expected {size} coordinates along {axis}, got {points[-1].shape}. Correct them.")
        elif ring or not nodes:
            points.append((np.arange(size) + (0.0 if ring else 0.5)) / size)
        else:
            points.append(np.arange(size) / max(1, size - 1))
        if axis not in given:
            notes.append(f"No coordinates along {axis} are known: its length is taken as 1.")
        if axis not in periodic:
            notes.append(
                f"{axis} is taken as {'periodic' if ring else 'bounded by walls'}, because the values of some samples "
                f"{'go on' if ring else 'do not go on'} across its ends{' but are equal there' if nodes else ''}."
            )
        closed.append(ring)
    grid, even = uniform(points, closed)
    if even:
        return grid, []
    notes.append("The coordinates are not uniform: they are fixed fields, and the grid has equal cells on their range.")
    taken = {channel.name for channel in first.channels}
    names = [f"coordinate_{axis}" if axis in taken else axis for axis in space]
    return grid, [
        Labelled(name, line.astype(np.float32), (axis,)) for name, axis, line in zip(names, space, points, strict=True)
    ]


def _ends(fields: np.ndarray, axis: int) -> tuple[bool, bool]:
    """Whether fields are periodic along an axis, and whether its first and last values are the same stored twice."""
    if not len(fields):
        return False, False
    low, high = (np.take(fields, i, axis + 1) for i in (0, -1))
    same = bool((low == high).all()) and fields.shape[axis + 1] > 2 and not bool((fields == fields.flat[0]).all())
    return seems_periodic(fields, axis) and not same, same


def unknown_axes(path: Any, name: str, shape: tuple[int, ...]) -> ValueError:
    """The error for an array whose axes nothing tells: it lists likely ones and a command to go on with."""
    likely = [",".join(axes) for axes in candidates(shape)]
    if not likely:
        return ValueError(
            f"{path}: expected frames with at least samples or times and one axis of space, got {name} of shape "
            f"{shape}. Arrays of one axis, or of more than six, cannot be used."
        )
    return ValueError(
        f"{path}: expected the axes of {name} of shape {shape} to be known, but nothing in the data names them. "
        f"Likely ones are {' or '.join(likely)}; give them as in `sciml data info {path} --axes {likely[0]}`."
    )


def candidates(shape: tuple[int, ...], most: int = 3) -> list[tuple[str, ...]]:
    """Likely axes of an array, the likeliest first.

    Axes of space stand together and in their order, at the end or before the channels or times.

    Args:
        shape: Its shape.
        most: Number of candidates at most.
    """
    found: dict[tuple[str, ...], float] = {}
    subsets = [one for k in range(4) for one in itertools.combinations(("sample", "time", "channel"), k)]
    for n, before in itertools.product((1, 2, 3), subsets):
        for last in (None, *{"time", "channel"}.intersection(before)):
            axes = (*(axis for axis in before if axis != last), *SPACE[:n], *(() if last is None else (last,)))
            if len(axes) == len(shape) and ("sample" in axes or "time" in axes):
                found[axes] = _likelihood(dict(zip(axes, shape, strict=True))) - (0.5 if axes[-1] == "time" else 0.0)
    return sorted(found, key=lambda axes: (-found[axes], axes))[:most]


def _likelihood(sizes: Mapping[str, int]) -> float:
    """A score of named sizes: few channels, many points of about equal numbers on each axis, several samples."""
    points = [sizes[axis] for axis in SPACE if axis in sizes]
    spread = math.log(max(points) / min(points)) if min(points) else 9.0
    score = 2.0 - spread if len(points) > 1 else 0.0
    score += sum(1.0 if n > _MOST_CHANNELS else -2.0 for n in points) / len(points)
    if "channel" in sizes:
        score += 1.0 if sizes["channel"] <= _FEW_CHANNELS else 0.0 if sizes["channel"] <= _MOST_CHANNELS else -4.0
    score += 1.5 if "sample" in sizes else 0.0
    return score + (0.5 if "time" in sizes else 0.0)
