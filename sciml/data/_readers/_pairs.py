"""Files of `sciml generate`: pairs of fields, or a first frame and all later ones."""

import dataclasses
import json
from typing import Any

import h5py
import numpy as np

from sciml.data._hdf5 import GridJson, grid_from_json
from sciml.data._layout import Channel
from sciml.data._readers._contents import Contents, FileFormat
from sciml.data._readers._files import Files
from sciml.data._readers._formats import Probe, words
from sciml.data._readers._labelled import SPACE, Labelled
from sciml.data._readers._stored import Stored, stored
from sciml.files import hdf5_array, hdf5_attribute, hdf5_json
from sciml.grid import Grid

_FORMAT = "sciml pairs"

_GENERATE = "Generate the file again with `sciml generate`."


def _recognise(probe: Probe) -> str | None:
    if probe.kind != "hdf5" or words(probe.attributes.get("format", "")) != (_FORMAT,):
        return None
    return f"attribute format is {_FORMAT!r}"


@dataclasses.dataclass(frozen=True)
class Description:
    """What a file says of itself: number of samples, grid, names of the channels, settings of the generator."""

    samples: int
    grid: Grid
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any]


def _description(file: h5py.File, digest: bool) -> Description:
    """What a file says of itself, compared with its data sets; files with a digest have version 2, others 1."""
    if (version := hdf5_attribute(file, "version", int)) != (2 if digest else 1):
        raise ValueError(f"expected version 2 of a file with a digest or 1 of one without, got {version}.")
    grid = grid_from_json(hdf5_json(file, "grid", GridJson))
    names = []
    for name in ("x", "y"):
        samples = hdf5_attribute(file, "samples", int)
        data = hdf5_array(file, name, "f", (samples, ...))
        names.append(hdf5_json(data, "channels", tuple[str, ...]))
        hdf5_array(file, name, "f", (samples, len(names[-1]), *grid.shape))
    settings = hdf5_json(file, "attributes", dict[str, Any]).get("settings", {})
    return Description(samples, grid, names[0], names[1], settings if isinstance(settings, dict) else {})


class Joined:
    """Frames `(sample, time, channel, *space)` of a first frame and later ones one after another along the channels.

    Args:
        first: The first frame `(sample, channel, *space)`.
        later: The later frames `(sample, time * channel, *space)`.
    """

    def __init__(self, first: Stored, later: Stored) -> None:
        self.first, self.later, self.dtype = first, later, later.dtype
        self.channels = first.shape[1]
        frames = later.shape[1] // self.channels + 1
        self.shape = (first.shape[0], frames, *first.shape[1:])
        together = self.shape[1] if later.chunks is None else max(1, later.chunks[1] // self.channels)
        self.chunks = (1, together, *self.shape[2:])

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Values at slices, one for each axis."""
        samples, times, *rest = index
        chosen = [*range(*times.indices(self.shape[1]))]
        later = [time - 1 for time in chosen if time]
        parts = [self.first[(samples, slice(None), *rest[1:])][:, None]] if 0 in chosen else []
        if later:
            c = self.channels
            part = self.later[(samples, slice(later[0] * c, (later[-1] + 1) * c), *rest[1:])]
            whole = part.reshape(part.shape[0], -1, c, *part.shape[2:])
            parts.append(whole[:, [time - later[0] for time in later]])
        return np.concatenate(parts, axis=1)[:, :, rest[0]]


def _contents(probe: Probe, files: Files) -> Contents:
    try:
        found = files.use(probe.path, lambda file: _description(file, probe.digest))
    except ValueError as error:
        raise ValueError(f"{probe.path} is not a data set of `sciml generate`: {error} {_GENERATE}") from error
    x, y = (stored(files, probe.path, name, probe.arrays[name]) for name in ("x", "y"))
    axes = ("channel", *SPACE[: len(found.grid.shape)])
    parameters = _parameters(probe, files, found)
    if _frames(found.settings) and len(found.outputs) % len(found.inputs) == 0:
        names = [name.partition(" t=")[0] for name in found.inputs]
        frames = Labelled("frames", Joined(x, y), ("sample", "time", *axes), tuple(Channel(one) for one in names))
        times = _times(found, frames.size("time"))
        known = {} if times is None else {"time": times}
        return Contents(probe.path, (frames,), (), known, parameters, grid=found.grid)
    pair = [
        Labelled(name, array, ("sample", *axes), tuple(Channel(one) for one in names))
        for name, array, names in (("y", y, found.outputs), ("x", x, found.inputs))
    ]
    return Contents(probe.path, (pair[0],), (pair[1],), {}, parameters, grid=found.grid)


def _frames(settings: dict[str, Any]) -> bool:
    """Whether the settings of a generator say that it writes frames."""
    frames = settings.get("frames")
    return isinstance(frames, int) and not isinstance(frames, bool) and frames >= 1


def _times(found: Description, frames: int) -> np.ndarray | None:
    """Times of the frames by the names of the channels, or by the settings `time` or `interval`."""
    c, settings = len(found.inputs), found.settings
    named = [name.partition(" t=")[2] for name in (*found.inputs, *found.outputs)][::c]
    step = settings.get("interval", None)
    if isinstance(settings.get("time"), int | float):
        step = settings["time"] / (frames - 1)
    if not isinstance(step, int | float) or not step > 0:
        step = None
    try:
        times = [float(text) for text in named[1:]]  # rounded to six digits, but the first of them is right
    except ValueError:
        return None if step is None else np.arange(frames) * step
    if step is not None:
        even = round(times[0] / step - 1) * step + np.arange(frames) * step
        if np.allclose(even[1:], times, rtol=1e-5, atol=0.0):
            return even
    return np.array([2 * times[0] - times[1] if frames > 2 else 0.0, *times])


def _parameters(probe: Probe, files: Files, found: Description) -> dict[str, np.ndarray]:
    """The data set `parameters` (sample, parameter), whose attribute `names` is a JSON list."""
    item = probe.arrays.get("parameters")
    if item is None:
        return {}
    name = files.use(probe.path, lambda file: words(file["parameters"].attrs.get("names", "[]")))
    try:
        names = json.loads(name[0])
    except ValueError:
        names = None
    if (
        not isinstance(names, list)
        or not all(isinstance(one, str) for one in names)
        or item.shape != (found.samples, len(names))
        or not item.numbers
    ):
        raise ValueError(
            f"expected real numbers (sample, parameter) in parameters and their names in its attribute names, got "
            f"shape {item.shape} for {found.samples} samples and names {str(names)[:80]}. {_GENERATE}"
        )
    table = files.values(probe.path, "parameters")
    return {one: table[:, column] for column, one in enumerate(names)}


FILES = (FileFormat(_FORMAT, _recognise, _contents),)
"""The format of this file."""

FORMATS = tuple(one.format() for one in FILES)
"""The same for paths."""
