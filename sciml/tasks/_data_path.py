"""The data of a path as training, validation and test trajectories: what is chosen from it, and how it is split."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sciml import data
from sciml.data import Layout, Trajectories
from sciml.experiment import Count, Seed, Whole, check_settings
from sciml.grid import Grid, Neumann, Periodic, Sides

_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
_LEAST = 3  # frames of a part of a single trajectory: one that is seen, and some to predict
_FROM_TRAINING = 0.1  # of the official training samples, for validation


@dataclasses.dataclass(frozen=True)
class DataPath:
    """Options of the data of a path, a field of a Config. What is not given is chosen from the data and printed."""

    path: str = ""
    """File or folder of the data, in any format that `sciml data info` understands."""
    x: str | None = None
    """Name of the array of inputs, where the format does not tell it."""
    y: str | None = None
    """Name of the array of outputs or frames, where the format does not tell it."""
    axes: tuple[str, ...] = ()
    """Axes of the array in their order, of sample, time, channel, x, y, z, where the format does not tell them."""
    task: str = "auto"
    """step: from frames to the next ones; map: from fixed fields to a frame, or from the first frame to the last."""
    channels: tuple[str, ...] = ()
    """Channels of the frames that are used; all by default."""
    boundary: tuple[str, ...] = ()
    """periodic or wall, once or for each axis, where the data do not tell it."""
    every: Count = 1
    """Each so-many-th point along each axis."""
    stride: Count = 1
    """Each so-many-th frame."""
    limit: Count | None = None
    """Largest number of samples of each part."""
    exclude: tuple[Whole, ...] = ()
    """Numbers of samples that are left out, such as those with NaN."""
    split: str = "auto"
    """official: the published parts; own: 80 % training, 10 % validation, 10 % test."""
    split_seed: Seed = 0
    """Seed of the own split, and of the validation samples that are taken from an official training part."""
    hold_out: str | None = None
    """Parameter and range, such as nu=0.01:0.1; samples in it are the test data."""
    load: str = "auto"
    """memory: training data are read before training; stream: while training, in another order; auto: by their size."""
    fingerprint: str = ""
    """Digest of the data, which is found when a run begins; other data are refused."""

    def __post_init__(self) -> None:
        check_settings(self)

    def open(self) -> Trajectories:
        """All samples, frames, points and channels of the data, with the boundaries of these options.

        Raises:
            FileNotFoundError: If there is nothing at the path.
            ValueError: If no path is given, or the data are in no known format or have no such boundaries.
        """
        if not self.path:
            raise ValueError("Expected data: sciml train PATH --out FOLDER, or --path PATH.")
        found = data.open_data(self.path, data.Hints(self.x, self.y, self.axes))
        if self.boundary:
            found = dataclasses.replace(found, place=_with_boundary(found.grid, self.boundary))
        return found

    def chosen(self, found: Trajectories) -> Trajectories:
        """The frames, points and channels of these options."""
        frames = found.layout.frames
        ends = self.task == "map" and frames > 1
        times = slice(None, None, frames - 1) if ends else slice(None, None, self.stride)
        return found.select(times=times, every=self.every, channels=self.channels)


@dataclasses.dataclass(frozen=True)
class Split:
    """Training, validation and test trajectories, and a sentence that says how they were chosen."""

    train: Trajectories
    validation: Trajectories
    test: Trajectories
    how: str


def split_of(options: DataPath, found: Trajectories) -> Split:
    """The parts of the data of a path.

    Official test samples stay test samples, and official validation samples validation samples; without the latter, a
    tenth of the training samples is for validation. Samples are split before they are cut into windows. Data of one or
    two trajectories are split in time.

    Args:
        options: What is chosen; its split is not auto.
        found: What `options.open()` returns.

    Raises:
        ValueError: If there are too few samples, or there is no official split or no such parameter.
    """
    if options.hold_out is not None:
        rows, how = _held_out(found, options.hold_out, options.split_seed)
    elif options.split == "official":
        rows, how = _official(found, options.split_seed), "official"
    elif options.split == "own" and len(found) > 2:
        rows, how = _own(len(found), options.split_seed), f"own, 80/10/10 % by seed {options.split_seed}"
    elif options.split == "own":
        rows, how = dict.fromkeys(_SHARES, np.arange(len(found))), "in time"
    else:
        raise ValueError(f"Expected --split official or own, got {options.split!r}.")
    kept = {name: one[~np.isin(one, options.exclude)] for name, one in rows.items()}
    empty = [name for name, one in kept.items() if not len(one)]
    if empty:
        raise ValueError(
            f"Expected samples for {' and '.join(empty)}, got none besides those of --exclude. Leave fewer out."
        )
    chosen = options.chosen(found)
    parts = {name: chosen.take(one[: options.limit]) for name, one in kept.items()}
    if how == "in time":
        parts, how = _in_time(parts)
    left_out = f", without the samples {', '.join(map(str, options.exclude))}" if options.exclude else ""
    return Split(**parts, how=f"{how}{left_out}")


def _own(n: int, seed: int) -> dict[str, np.ndarray]:
    order = np.random.default_rng(seed).permutation(n)
    test, validation = (max(1, round(n * _SHARES[name])) for name in ("test", "validation"))
    parts = np.split(order, [n - test - validation, n - test])
    return {name: np.sort(part) for name, part in zip(_SHARES, parts, strict=True)}


def _with_validation(train: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    if len(train) < 2:
        raise ValueError(
            f"Expected at least 2 training samples, one of them for validation, got {len(train)}. Use --split own."
        )
    order = np.random.default_rng(seed).permutation(train)
    count = max(1, round(len(train) * _FROM_TRAINING))
    return {"train": np.sort(order[count:]), "validation": np.sort(order[:count])}


def _official(found: Trajectories, seed: int) -> dict[str, np.ndarray]:
    parts = {name: np.asarray(rows) for name, rows in found.layout.splits.items() if len(rows)}
    if not {"train", "test"} <= parts.keys():
        raise ValueError(
            f"Expected data with an official split, got {found.layout.format} without one. Use --split own."
        )
    return parts if "validation" in parts else {**_with_validation(parts["train"], seed), "test": parts["test"]}


def _held_out(found: Trajectories, text: str, seed: int) -> tuple[dict[str, np.ndarray], str]:
    name, _, ends = text.partition("=")
    low, _, high = ends.partition(":")
    known = found.layout.parameters
    if name not in known:
        raise ValueError(
            f"Expected --hold-out NAME=LOW:HIGH with a parameter of {', '.join(known) or 'none'}, got {text!r}."
        )
    try:
        low, high = float(low), float(high)
    except ValueError:
        raise ValueError(f"Expected --hold-out NAME=LOW:HIGH with two numbers, got {text!r}.") from None
    values = found.parameters(np.arange(len(found)))[:, known.index(name)]
    inside = (low <= values) & (values <= high)
    rows = np.arange(len(found))
    if not inside.any() or inside.all():
        raise ValueError(
            f"Expected some samples with {name} from {low:g} to {high:g} and some outside, got {inside.sum()} of "
            f"{len(found)}; {name} is {values.min():g} to {values.max():g}."
        )
    return {**_with_validation(rows[~inside], seed), "test": rows[inside]}, f"held out {name} from {low:g} to {high:g}"


def _in_time(parts: Mapping[str, Trajectories]) -> tuple[dict[str, Trajectories], str]:
    """The first frames of the training samples, and later ones for validation and test."""
    frames, samples = parts["train"].layout.frames, len(parts["train"])
    if frames < 10:
        raise ValueError(
            f"Expected at least 3 samples, or a trajectory of at least 10 frames to split in time, got {samples} "
            f"samples of {frames} frames. Give more data."
        )
    test, validation = (max(_LEAST, round(frames * _SHARES[name])) for name in ("test", "validation"))
    ends = frames - test - validation, frames - test, frames
    cuts = zip(parts.items(), (0, *ends[:-1]), ends, strict=True)
    found = {name: one.select(times=slice(first, last)) for (name, one), first, last in cuts}
    return found, f"in time: the first {ends[0]} frames for training, the last {test} for tests"


def _with_boundary(grid: Grid, kinds: Sequence[str]) -> Grid:
    """The grid with other boundaries; points and spacing stay."""
    if len(kinds) not in (1, len(grid.shape)) or not set(kinds) <= {"periodic", "wall"}:
        raise ValueError(
            f"Expected --boundary periodic or wall, once or for each of {len(grid.shape)} axes, got {' '.join(kinds)}."
        )
    lengths, boundary = [], []
    every = tuple(kinds) * (len(grid.shape) if len(kinds) == 1 else 1)
    for kind, n, h, (low, high) in zip(every, grid.shape, grid.spacing, grid.sides, strict=True):
        if kind == "periodic":
            sides: Sides = Periodic(low.gap), Periodic(low.gap)
            lengths.append(n * h)
        else:
            sides = (Neumann(low.gap), Neumann(low.gap if isinstance(high, Periodic) else high.gap))
            lengths.append(h * (n - 1 + sides[0].gap + sides[1].gap))
        boundary.append(sides)
    return Grid(grid.shape, tuple(lengths), tuple(boundary))


def resolved(options: DataPath) -> tuple[DataPath, Trajectories, list[str]]:
    """The options with all that was left open chosen, the opened data, and sentences that say what was chosen and why.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If the data are in no known format, do not fit the task, or are not those of the fingerprint.
    """
    options = dataclasses.replace(options, path=str(pathlib.Path(options.path).resolve()) if options.path else "")
    found = options.open()
    layout = found.layout
    task, why = _task(options.task, layout)
    split = options.split
    if split == "auto":
        sizes = {name: len(rows) for name, rows in layout.splits.items()}
        split = "official" if sizes.get("train", 0) > 1 and sizes.get("test", 0) else "own"
    said = [
        f"format: {layout.format}, because of {layout.evidence}",
        f"task: {task}, because {why}",
        *(f"assumed: {note}" for note in layout.notes),
    ]
    digest = _digest(options, found)
    return dataclasses.replace(options, task=task, split=split, fingerprint=digest), found, said


def _task(task: str, layout: Layout) -> tuple[str, str]:
    """The task of these data and why it is, refused where the data do not fit it."""
    why = "as asked"
    if task == "auto":
        task = "map" if layout.frames == 1 else "step"
        why = "there is a single frame" if task == "map" else f"there are {layout.frames} frames"
    if task not in ("map", "step"):
        raise ValueError(f"Expected --task map or step, got {task!r}.")
    if task == "map" and layout.frames == 1 and not layout.fixed:
        raise ValueError(
            f"Expected an input for the map to {', '.join(one.name for one in layout.channels)}, got data without "
            "fixed fields and with a single frame. Name the array of inputs: --x NAME."
        )
    if task == "step" and layout.frames < 2:
        raise ValueError("Expected several frames for --task step, got 1. Use --task map.")
    return task, why


def _digest(options: DataPath, found: Trajectories) -> str:
    """Digest of all samples that are not left out, whatever else is chosen of the data.

    Raises:
        ValueError: If the options have another one.
    """
    used = found.take(np.setdiff1d(np.arange(len(found)), options.exclude))
    digest = data.fingerprint(used)["sha256"]
    if options.fingerprint not in ("", digest):
        raise ValueError(
            f"The data at {options.path} are not those that the run was made with: fingerprint {digest[:12]}, "
            f"expected {options.fingerprint[:12]}. Use the data of the run, or another folder."
        )
    return digest


def data_card(options: DataPath, parts: Split, **said: Any) -> dict[str, Any]:
    """What a report says of the data of a run.

    Args:
        options: The resolved options.
        parts: The parts of the data.
        **said: Further entries.
    """
    layout = parts.train.layout
    times = layout.times
    ranges, warnings = _ranges(parts)
    return {
        "format": layout.format,
        "why": layout.evidence,
        "path": options.path,
        "task": options.task,
        "channels": [one.name for one in layout.channels],
        "fixed": [one.name for one in layout.fixed],
        "parameters": list(layout.parameters),
        "parameter_ranges": ranges,
        "points": list(layout.grid.shape),
        "lengths": list(layout.grid.lengths),
        "boundary": [f"{type(low).__name__}, {type(high).__name__}" for low, high in layout.grid.sides],
        "times": None
        if times is None or len(times) < 2
        else {"first": float(times[0]), "last": float(times[-1]), "count": len(times)},
        "samples": {name: len(getattr(parts, name)) for name in ("train", "validation", "test")},
        "split": parts.how,
        "bytes": math.prod(layout.shape) * 4,
        "fingerprint": options.fingerprint,
        "notes": list(layout.notes),
        "warnings": warnings,
        **said,
    }


def _ranges(parts: Split) -> tuple[dict[str, list[float]], list[str]]:
    """Ranges of the parameters of the training data, and warnings about test data outside of them."""
    values = {name: one.parameters(np.arange(len(one))) for name, one in (("train", parts.train), ("test", parts.test))}
    low, high = (function(values["train"], axis=0) for function in (np.min, np.max))
    outside = (values["test"] < low) | (values["test"] > high)
    names = parts.train.layout.parameters
    warnings = [
        f"{outside[:, i].sum()} of {len(outside)} test samples have {name} outside of the training range "
        f"{low[i]:g} to {high[i]:g}: their errors are errors of extrapolation."
        for i, name in enumerate(names)
        if outside[:, i].any()
    ]
    return {name: [_short(low[i]), _short(high[i])] for i, name in enumerate(names)}, warnings


def _short(value: np.floating) -> float:
    """A float32 number with the digits that it has."""
    return float(f"{value:.7g}")
