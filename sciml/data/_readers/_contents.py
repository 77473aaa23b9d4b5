"""What an HDF5 file of a format holds, and a reader of one file or of several with the same contents."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sciml.data._layout import AbstractReader, seems_periodic
from sciml.data._readers._files import Files
from sciml.data._readers._formats import Format, Hints, Item, Probe
from sciml.data._readers._labelled import SPACE, Labelled, Origin, check_sizes, labelled_reader
from sciml.data._readers._stored import Spread, Stacked
from sciml.grid import Grid

_FIELDS = 3  # samples that are read to see whether they are periodic


@dataclasses.dataclass(frozen=True)
class Contents:
    """Arrays of one file with names for their axes, see `labelled_reader`.

    Attributes:
        path: The file.
        frames: Arrays of the frames.
        fixed: Arrays without time.
        coordinates: Coordinates along x, y, z, and times along `time`, where they are known.
        parameters: Parameters by name, one number for all samples or one for each.
        periodic: Whether an axis is periodic, where that is known.
        splits: Rows of the official parts.
        notes: What was assumed, or is not used.
        grid: Where the values are, if the format says so.
    """

    path: pathlib.Path
    frames: tuple[Labelled, ...]
    fixed: tuple[Labelled, ...] = ()
    coordinates: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    periodic: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    splits: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    grid: Grid | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.frames[0].size("sample")

    @property
    def signature(self) -> dict[str, Any]:
        """What files that are read as one data set must have in common."""
        lengths = {axis: self.frames[0].size(axis) for axis in ("time", *SPACE)}
        return {
            "channels": [one.name for array in self.frames for one in array.channels],
            "fixed fields": [one.name for array in self.fixed for one in array.channels],
            "parameters": list(self.parameters),
            "sizes": lengths,
            "coordinates": {axis: np.asarray(line) for axis, line in self.coordinates.items()},
            "grid": self.grid,
        }


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """A format of HDF5 files.

    Attributes:
        name: Name of the format.
        recognise: As in `Format`.
        contents: `(probe, files) -> contents`; errors do not name the file.
    """

    name: str
    recognise: Callable[[Probe], str | None]
    contents: Callable[[Probe, Files], Contents]

    def read(self, probe: Probe) -> Contents:
        """The contents of a file.

        Raises:
            ValueError: If they contradict the format.
        """
        try:
            found = self.contents(probe, probe.files)
        except ValueError as error:
            path = str(probe.path)
            raise ValueError(f"{error}" if str(error).startswith(path) else f"{path}: {error}") from None
        packings = sorted({item.packing for item in probe.arrays.values() if item.packing})
        said = (f"Stored with {' and '.join(packings)}.",) if packings else ()
        return dataclasses.replace(found, notes=(*found.notes, *said))

    def format(self) -> Format:
        """The format of a path that is one such file."""
        return Format(self.name, self.recognise, self._open, labelled=True)

    def _open(self, probe: Probe, hints: Hints) -> AbstractReader:
        return gathered(self.name, self.recognise(probe) or "", [self.read(probe)])


def gathered(name: str, evidence: str, parts: Sequence[Contents], notes: Sequence[str] = ()) -> AbstractReader:
    """A reader of the samples of all parts, one part after another.

    Args:
        name: Name of the format.
        evidence: What shows it.
        parts: Contents of at least one file.
        notes: What else was assumed.

    Raises:
        ValueError: If the parts differ in more than samples and values, or are contradictory in themselves.
    """
    first = parts[0]
    for other in parts[1:]:
        _check_alike(first, other)
    starts = np.cumsum([0, *(one.samples for one in parts)])
    splits: dict[str, list[np.ndarray]] = {}
    for part, start in zip(parts, starts, strict=False):
        for which, rows in part.splits.items():
            splits.setdefault(which, []).append(np.asarray(rows) + start)
    said = [*notes, *(note for part in parts for note in part.notes)]
    mixed = [axis for axis, ring in first.periodic.items() if any(part.periodic.get(axis) != ring for part in parts)]
    if mixed:
        said.append(f"The boundaries along {', '.join(mixed)} differ between files: they are taken as walls.")
    paths = tuple(dict.fromkeys(str(part.path) for part in parts))
    return labelled_reader(
        Origin(name, evidence, paths, tuple(dict.fromkeys(said))),
        _stacked([part.frames for part in parts]),
        fixed=_stacked([part.fixed for part in parts], [part.samples for part in parts]),
        coordinates=first.coordinates,
        parameters={key: _table(key, parts) for key in first.parameters},
        periodic={axis: ring and axis not in mixed for axis, ring in first.periodic.items()},
        grid=first.grid,
        splits={which: np.concatenate(rows) for which, rows in splits.items()},
    )


def _check_alike(first: Contents, other: Contents) -> None:
    wanted, found = first.signature, other.signature
    for what, value in wanted.items():
        if what == "coordinates":
            same = value.keys() == found[what].keys() and all(
                line.shape == found[what][axis].shape and np.allclose(line, found[what][axis])
                for axis, line in value.items()
            )
        else:
            same = value == found[what]
        if not same:
            shown = "" if what == "coordinates" else f": {value} and {found[what]}"
            raise ValueError(
                f"{other.path}: expected the {what} of {first.path}, got others{shown}. Open files of one kind only, "
                "each in a folder of its own."
            )


def _table(key: str, parts: Sequence[Contents]) -> np.ndarray:
    rows = []
    for part in parts:
        value = np.asarray(part.parameters[key])
        if len(parts) == 1:
            return value
        if value.size not in (1, part.samples):
            raise ValueError(
                f"{part.path}: expected one number of {key}, or {part.samples}, got {value.size}. Correct its length."
            )
        rows.append(np.broadcast_to(value.reshape(-1), part.samples))
    return np.concatenate(rows)


def _stacked(arrays: Sequence[Sequence[Labelled]], samples: Sequence[int] = ()) -> list[Labelled]:
    """The arrays of several files, each along all samples."""
    if len(arrays) == 1:
        return list(arrays[0])
    found = []
    for same in zip(*arrays, strict=True):
        counts = samples or [one.size("sample") for one in same]
        ordered = [_leading(one, count) for one, count in zip(same, counts, strict=True)]
        if len({one.axes for one in ordered}) > 1:
            raise ValueError(
                f"expected equal axes of {same[0].name} in all files, got {[one.axes for one in same]}. "
                "Open files of one kind only."
            )
        found.append(dataclasses.replace(ordered[0], array=Stacked([one.array for one in ordered])))
    return found


def _leading(one: Labelled, samples: int) -> Labelled:
    """An array whose first axis is that of the samples."""
    if one.axes[0] == "sample":
        return one
    if "sample" in one.axes:
        raise ValueError(f"expected the samples along the first axis of {one.name}, got {','.join(one.axes)}.")
    shape = (samples, *one.array.shape)
    return dataclasses.replace(
        one, array=Spread(one.array, shape, tuple(range(1, len(shape)))), axes=("sample", *one.axes)
    )


def ends(frames: Sequence[Labelled], fixed: Sequence[Labelled] = ()) -> tuple[dict[str, bool], str]:
    """Whether each axis of space seems periodic by the values of some samples, and a note that says so.

    Args:
        frames: Arrays of the frames; the first and the last frame of three samples is read.
        fixed: Arrays without time, which may show walls where frames vanish at them.

    Raises:
        ValueError: If the arrays have unequal sizes.
    """
    check_sizes(frames[0], frames, fixed)
    space = frames[0].space
    channels: list[np.ndarray] = []  # fields of one channel (sample, *space) each
    for one in (*frames, *fixed):
        last, n = one.size("time") - 1, one.size("sample")
        read = [
            one.read(slice(row, row + 1), slice(time, time + 1), space)[0, 0]
            for row in sorted({0, n // 2, n - 1})[:_FIELDS]
            for time in sorted({0, last})
        ]
        for fields in zip(*read, strict=True):
            finite = [field for field in fields if np.isfinite(field).all() and np.ptp(field) > 0]
            channels += [np.stack(finite)] if finite else []
    found = {
        axis: bool(channels) and all(seems_periodic(fields, number) for fields in channels)
        for number, axis in enumerate(space)
    }
    parts = [f"{axis} is {'periodic' if ring else 'bounded by walls'}" for axis, ring in found.items()]
    return found, f"No entry tells the boundaries; judged by the values of some samples, {', '.join(parts)}."


def first_test(samples: int, *, last: bool = False) -> dict[str, np.ndarray]:
    """The official parts where a tenth of the samples, the first or the last ones, is for tests.

    A single sample cannot be split.
    """
    count = max(1, samples // 10)
    if samples < 2:
        return {}
    rows = np.arange(samples)
    test, train = (rows[-count:], rows[:-count]) if last else (rows[:count], rows[count:])
    return {"train": train, "test": test}


def unused(arrays: Mapping[str, Item], used: Sequence[str]) -> tuple[str, ...]:
    """A note on the arrays that are not used."""
    known = set(used)
    left = [f"{name} {item.shape}" for name, item in arrays.items() if name not in known]
    return (f"Not used: {', '.join(left[:8])}{' and more' if len(left) > 8 else ''}.",) if left else ()
