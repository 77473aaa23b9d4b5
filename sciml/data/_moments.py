"""Means, deviations and ranges of trajectories in one pass, and the folder that keeps those of large files."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from sciml.data._fingerprint import fingerprint
from sciml.data._layout import Channel, Layout
from sciml.data._slabs import Slabs
from sciml.data._trajectories import Trajectories
from sciml.files import Damaged, read_json, write_json

_SLAB = 8 << 20  # bytes; a slab is held in float64 as well
_KEPT = 64 << 20  # bytes; the moments of smaller data are computed in less than a second


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of some quantities in float64; of no values they are NaN.

    Attributes:
        mean: Mean.
        deviation: Standard deviation, unbiased: the sum of squares over the number of values less one; 0 of one value.
        rms: Root of the mean square.
        low: Smallest value.
        high: Largest value.
    """

    mean: Float[np.ndarray, " quantities"]
    deviation: Float[np.ndarray, " quantities"]
    rms: Float[np.ndarray, " quantities"]
    low: Float[np.ndarray, " quantities"]
    high: Float[np.ndarray, " quantities"]

    def by_field(self, channels: Sequence[Channel]) -> "Statistics":
        """The same with one deviation and one RMS for all components of a field, their root mean square.

        A vector divided by them keeps its direction. Scalars keep their own.

        Args:
            channels: What the quantities are.
        """
        pooled = {"deviation": self.deviation.copy(), "rms": self.rms.copy()}
        for field in {one.field for one in channels if one.rank}:
            which = [i for i, one in enumerate(channels) if one.field == field]
            for values in pooled.values():
                values[which] = np.sqrt(np.mean(values[which] ** 2))
        return dataclasses.replace(self, **pooled)


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Moments of trajectories.

    Attributes:
        frames: Of each channel over all samples, frames and points.
        deltas: Of the differences of two frames of a trajectory, `stride` frames apart.
        fixed: Of each fixed field.
        parameters: Of each parameter over the samples.
        stride: Number of frames between those of a difference.
    """

    frames: Statistics
    deltas: Statistics
    fixed: Statistics
    parameters: Statistics
    stride: int


class _Sums:
    """Count, mean, sum of squared deviations and range of the values so far, merged block by block.

    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979, eq. 2.1.
    """

    def __init__(self, quantities: int):
        self._count = 0
        self._mean, self._squares = np.zeros(quantities), np.zeros(quantities)
        self._low, self._high = np.full(quantities, np.inf), np.full(quantities, -np.inf)

    def add(self, block: np.ndarray, axis: int) -> None:
        """Adds a float64 block, whose values it overwrites; `axis` is that of the quantities."""
        count = block.size // max(1, block.shape[axis])
        if not block.size:
            return
        others = tuple(i for i in range(block.ndim) if i != axis)
        low, high = block.min(axis=others), block.max(axis=others)
        mean = block.mean(axis=others)
        block -= mean.reshape([-1 if i == axis else 1 for i in range(block.ndim)])
        squares = np.square(block, out=block).sum(axis=others)
        total, shift = self._count + count, mean - self._mean
        self._squares += squares + shift**2 * (self._count * count / total)
        self._mean += shift * (count / total)
        self._count = total
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def statistics(self) -> Statistics:
        if not self._count:
            return Statistics(*(np.full(len(self._mean), np.nan) for _ in range(5)))
        return Statistics(
            self._mean,
            np.sqrt(self._squares / max(1, self._count - 1)),
            np.sqrt(self._mean**2 + self._squares / self._count),
            self._low,
            self._high,
        )


def moments(trajectories: Trajectories, *, stride: int = 1) -> Moments:
    """Moments of trajectories in one pass over their values, a bounded number of bytes at a time.

    Those of data of more than 64 MB in files are kept in the folder `SCIML_CACHE`, by default `sciml` in the user's
    folder for caches, under the fingerprint of the data and the sizes and times of change of the files. A folder that
    cannot be written is no error. Moments belong to training data alone: take the part before.

    Args:
        trajectories: The training data.
        stride: Number of frames between the two of a difference.

    Raises:
        ValueError: If the stride is not positive, or a value is not finite: the message names its sample.
    """
    if stride < 1:
        raise ValueError(f"Expected a stride of at least 1 frame, got {stride}.")
    if trajectories.layout.nbytes <= _KEPT or not trajectories.reader.paths:
        return _computed(trajectories, stride)
    kept = _folder() / f"moments-{_key(trajectories, stride)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, Damaged):
        found: Any = read_json(kept, dict[str, dict[str, list[float]]])
        parts = {name: {one: np.array(v) for one, v in values.items()} for name, values in found.items()}
        return Moments(**{name: Statistics(**values) for name, values in parts.items()}, stride=stride)
    made = _computed(trajectories, stride)
    content = dataclasses.asdict(made)
    del content["stride"]
    with contextlib.suppress(OSError, ValueError):  # a difference of single frames is NaN, which JSON cannot hold
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {name: {one: v.tolist() for one, v in values.items()} for name, values in content.items()})
    return made


def from_stats_yaml(path: str | os.PathLike[str], layout: Layout) -> Moments:
    """The published statistics of a data set of The Well, those of its training data.

    The file holds `mean`, `std`, `rms` and the same of differences of neighbouring frames (`mean_delta`, ...), for each
    field a number, or nested lists for the components of vectors and tensors. Ranges, and all moments of parameters and
    of differences of fixed fields, are not published: they are NaN.

    Args:
        path: The file `stats.yaml`.
        layout: The data set; its channels are found by the names of their fields.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or has no finite numbers for a field.
    """
    try:
        content = yaml.safe_load(pathlib.Path(path).read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected YAML, got {' '.join(str(error).split()):.200}.") from None

    def part(channels: Sequence[Channel], suffix: str) -> Statistics:
        mean, std, rms = (
            _published(content, f"{name}{suffix}", channels, str(path)) for name in ("mean", "std", "rms")
        )
        none = np.full(len(channels), np.nan)
        return Statistics(mean, std, rms, none, none)

    nothing = Statistics(*(np.full(len(layout.parameters), np.nan) for _ in range(5)))
    return Moments(part(layout.channels, ""), part(layout.channels, "_delta"), part(layout.fixed, ""), nothing, 1)


def _published(content: Any, name: str, channels: Sequence[Channel], path: str) -> np.ndarray:
    """One published moment of each channel."""
    found, fields = [], [one.field for one in channels]
    for i, field in enumerate(fields):
        given = content.get(name, {}).get(field) if isinstance(content, dict) else None
        try:
            values = np.array(given, np.float64).ravel()
        except (TypeError, ValueError):
            values = np.zeros(0)
        if values.size != fields.count(field) or not np.isfinite(values).all():
            raise ValueError(
                f"{path}: expected {fields.count(field)} finite numbers for {field} in {name}, got {given!s:.80}. "
                "Compute them by sciml.data.moments."
            )
        found.append(values[fields[:i].count(field)])
    return np.array(found, np.float64)


def _computed(trajectories: Trajectories, stride: int) -> Moments:
    layout = trajectories.layout
    names = {"frames": layout.channels, "deltas": layout.channels, "fixed": layout.fixed}
    sums = {name: _Sums(len(which)) for name, which in names.items()} | {"parameters": _Sums(len(layout.parameters))}
    slabs = Slabs(trajectories, starts=layout.frames, reach=stride, limit=_SLAB, merged=_SLAB)
    for slab in slabs:
        block = slabs.frames(slab).astype(np.float64)
        sums["deltas"].add(block[:, stride:] - block[:, :-stride], 2)
        sums["frames"].add(block[:, : slab.starts], 2)
        if slab.first == 0:
            sums["fixed"].add(trajectories.fixed(slab.samples).astype(np.float64), 1)
            sums["parameters"].add(trajectories.parameters(slab.samples).astype(np.float64), 1)
    return Moments(**{name: one.statistics() for name, one in sums.items()}, stride=stride)


def _key(trajectories: Trajectories, stride: int) -> str:
    """A digest of everything that moments depend on."""
    assert trajectories.rows is not None
    files = [os.stat(path) for path in trajectories.reader.paths]
    known = {
        "data": fingerprint(trajectories),
        "rows": hashlib.sha256(trajectories.rows.astype("<i8").tobytes()).hexdigest(),
        "selection": [str(trajectories.times), trajectories.every, trajectories.channels],
        "files": [(one.st_size, one.st_mtime_ns) for one in files],
        "stride": stride,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def _folder() -> pathlib.Path:
    """Where results that can be computed again are kept."""
    if given := os.environ.get("SCIML_CACHE"):
        return pathlib.Path(given)
    home = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~/AppData/Local")}
    known = home.get(sys.platform, os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return pathlib.Path(known).expanduser() / "sciml"
