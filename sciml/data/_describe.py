"""What a data set holds, in words: for `sciml data info` and reports."""

import math
import os
from collections.abc import Sequence

import numpy as np

from sciml.data._layout import Channel
from sciml.data._trajectories import Trajectories
from sciml.grid import Grid, Periodic, Sides

_RANKS = {1: "vector", 2: "matrix"}
_LOOKED_AT = 2**24  # values of one sample, 64 MiB as float32
_MOST_PARAMETERS = 10**6  # samples whose parameters are read
_UNIFORM = 1e-3  # of a step: times are stored in float32 and rounded


def describe_data(data: Trajectories) -> list[tuple[str, str]]:
    """Label and text for each fact about a data set. One sample is read, its first frames if it is large.

    Values that are not finite are counted, not refused.

    Args:
        data: The data set.

    Returns:
        Rows in the order in which they are best read; the label `note` occurs once for each assumption.

    Raises:
        Damaged: If the sample cannot be read.
    """
    layout = data.layout
    sizes = ", ".join(f"{n}" for n in layout.shape)
    space = ", ".join("xyz"[: len(data.grid.shape)])
    return [
        ("format", f"{layout.format} ({layout.evidence})"),
        ("samples", f"{layout.samples:,}"),
        ("frames", f"{layout.frames:,}" if layout.frames > 1 else "1, a map from the fixed fields"),
        ("channels", _channels(layout.channels)),
        ("axes", f"(sample, time, channel, {space}) = ({sizes})"),
        *_grid(data.grid),
        ("times", _times(layout.times, layout.frames)),
        ("fixed fields", _channels(layout.fixed) or "none"),
        ("parameters", _parameters(data)),
        ("official split", _splits(data)),
        ("size", _size(data)),
        ("stored", _stored(data)),
        *_values(data),
        *(("note", note) for note in layout.notes),
    ]


def _channels(channels: Sequence[Channel]) -> str:
    """Scalars by their names, vectors and matrices with their components."""
    fields: dict[tuple[str, int], list[str]] = {}
    for one in channels:
        fields.setdefault((one.field, one.rank), []).append(one.name)
    shown = [
        ", ".join(names) if not rank else f"{field} ({_RANKS[rank]}: {', '.join(names)})"
        for (field, rank), names in fields.items()
    ]
    return ", ".join(shown)


def _grid(grid: Grid) -> list[tuple[str, str]]:
    """A row for each axis."""
    rows = zip("xyz", grid.shape, grid.lengths, grid.spacing, grid.sides, strict=False)
    return [
        (axis, f"{n:,} points, length {length:.6g}, spacing {h:.6g}, {_sides(sides)}")
        for axis, n, length, h, sides in rows
    ]


def _sides(sides: Sides) -> str:
    low, high = sides
    if isinstance(low, Periodic):
        return "periodic"
    names = [f"{type(one).__name__} {one.gap:g} spacings from its wall" for one in (low, high)]
    return f"both ends {names[0]}" if low == high else f"low end {names[0]}, high end {names[1]}"


def _times(times: np.ndarray | None, frames: int) -> str:
    if frames == 1:
        return "a single frame"
    if times is None:
        return "not known: frames are numbered"
    steps = np.diff(times)
    even = bool((np.abs(steps - steps.mean()) <= _UNIFORM * steps.mean()).all())
    step = f"step {steps.mean():.6g}" if even else f"steps from {steps.min():.6g} to {steps.max():.6g}, not uniform"
    return f"{times[0]:.6g} to {times[-1]:.6g}, {step}"


def _parameters(data: Trajectories) -> str:
    """Names with the range over all samples."""
    names = data.layout.parameters
    if not names:
        return "none"
    if len(data) > _MOST_PARAMETERS:
        return ", ".join(names)
    table = data.parameters(np.arange(len(data)))
    shown = []
    for name, column in zip(names, table.T, strict=True):
        low, high = float(column.min()), float(column.max())
        kinds = len(np.unique(column))
        shown.append(f"{name} {low:.6g} in all" if kinds == 1 else f"{name} {low:.6g} to {high:.6g} ({kinds} values)")
    return ", ".join(shown)


def _splits(data: Trajectories) -> str:
    found = [f"{name} {len(rows):,}" for name, rows in data.layout.splits.items()]
    left = len(data) - sum(len(rows) for rows in data.layout.splits.values())
    return ", ".join([*found, *([f"{left:,} in none"] if found and left else [])]) or "none"


def _size(data: Trajectories) -> str:
    there = [os.stat(path).st_size for path in data.reader.paths if os.path.isfile(path)]
    files = f"{_bytes(sum(there))} in {len(there)} file{'s' if len(there) > 1 else ''}, " if there else ""
    return f"{files}{_bytes(data.layout.nbytes)} as float32"


def _bytes(number: int) -> str:
    step = min(4, int(math.log(max(1, number), 1024)))
    return f"{number / 1024**step:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"


def _stored(data: Trajectories) -> str:
    samples, frames = data.reader.block
    return f"pieces of {samples} sample{'s' if samples > 1 else ''} and {frames} frame{'s' if frames > 1 else ''}"


def _values(data: Trajectories) -> list[tuple[str, str]]:
    """Range of each channel and fixed field in the first sample, and how many values are not finite."""
    assert data.rows is not None
    assert data.times is not None
    assert data.channels is not None
    known = data.reader.layout
    row = slice(int(data.rows[0]), int(data.rows[0]) + 1)
    a_frame = len(known.channels) * math.prod(known.grid.shape)
    count = max(1, min(len(data.times), _LOOKED_AT // a_frame))
    which = slice(data.times[0], data.times[count - 1] + 1, data.times.step)
    frames = np.moveaxis(data.reader.frames(row, which)[0][:, list(data.channels)], 1, 0)
    rows = [(one.name, _range(values)) for one, values in zip(data.layout.channels, frames, strict=True)]
    if known.fixed:
        rows += [(one.name, _range(part)) for one, part in zip(known.fixed, data.reader.fixed(row)[0], strict=True)]
    part = "sample 0" if count == len(data.times) else f"the first {count} frames of sample 0"
    return [("values", f"{name} in {part}: {text}") for name, text in rows]


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    bad = values.size - finite.size
    said = f", {bad:,} of {values.size:,} values are NaN or infinite" if bad else ""
    return f"{finite.min():.4g} to {finite.max():.4g}{said}" if finite.size else f"no finite value of {values.size:,}"
