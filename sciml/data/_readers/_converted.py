"""Files of `sciml.data.convert`: frames as they are read, described completely."""

import math
from typing import Any

import h5py
import msgspec
import numpy as np

from sciml.data._hdf5 import GridJson, grid_from_json
from sciml.data._layout import AbstractReader, Channel, Layout, Space
from sciml.data._readers._formats import Format, Hints, Probe, words
from sciml.data._readers._stored import Files, Stored, stored
from sciml.files import hdf5_array, hdf5_attribute, hdf5_json

NAME, VERSION = "sciml trajectories", 1
_AGAIN = "Convert the data again with `sciml data convert`."


class _Channel(msgspec.Struct):
    name: str
    field: str
    rank: int


class _Layout(msgspec.Struct):
    grid: GridJson
    channels: list[_Channel]
    fixed: list[_Channel]
    parameters: list[str]
    notes: list[str]


def _recognise(probe: Probe) -> str | None:
    if probe.kind != "hdf5" or words(probe.attributes.get("format", "")) != (NAME,):
        return None
    return f"attribute format is {NAME!r}"


class Converted(AbstractReader):
    """Reads a file of `sciml.data.convert`, see there.

    Raises:
        ValueError: If the file contradicts itself.
    """

    def __init__(self, probe: Probe):
        self._files, self.paths = Files(), (str(probe.path),)
        try:
            if not probe.digest:
                raise ValueError("expected the digest that each of them begins with, got none.")
            self.layout = self._files.use(probe.path, _layout)
        except ValueError as error:
            raise ValueError(f"{probe.path} is no file of `sciml data convert`: {error} {_AGAIN}") from None
        self._arrays: dict[str, Stored] = {
            name: stored(self._files, probe.path, name, probe.arrays[name])
            for name in ("frames", "fixed", "parameters")
            if name in probe.arrays
        }

    def frames(self, samples: slice, times: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._arrays["frames"][samples, times]

    def frames_in(self, samples: slice, times: slice, space: Space) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._arrays["frames"][(samples, times, slice(None), *space)]

    def fixed(self, samples: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._of_samples("fixed", samples, (0, *self.layout.grid.shape))

    def fixed_in(self, samples: slice, space: Space) -> np.ndarray:
        """As in `AbstractReader`."""
        if "fixed" not in self._arrays:
            return self.fixed(samples)[(..., *space)]
        return self._arrays["fixed"][(samples, slice(None), *space)]

    def parameters(self, samples: slice) -> np.ndarray:
        """As in `AbstractReader`."""
        return self._of_samples("parameters", samples, (0,))

    def _of_samples(self, name: str, samples: slice, empty: tuple[int, ...]) -> np.ndarray:
        if name in self._arrays:
            return self._arrays[name][(samples,)]
        return np.empty((len(range(*samples.indices(self.layout.samples))), *empty), np.float32)


def _layout(file: h5py.File) -> Layout:
    if (version := hdf5_attribute(file, "version", int)) != VERSION:
        raise ValueError(f"expected version {VERSION}, got {version}.")
    known = hdf5_json(file, "layout", _Layout)
    grid = grid_from_json(known.grid)
    frames = hdf5_array(file, "frames", "f", (None, None, len(known.channels), *grid.shape))
    samples, count = frames.shape[:2]
    wanted: dict[str, tuple[int, ...]] = {"frames": frames.shape}
    if known.fixed:
        wanted["fixed"] = (samples, len(known.fixed), *grid.shape)
    if known.parameters:
        wanted["parameters"] = (samples, len(known.parameters))
    for name, shape in wanted.items():
        if (found := hdf5_array(file, name, "f", shape)).dtype != np.float32:
            raise ValueError(f"expected {name} of float32, got {found.dtype}.")
    times = hdf5_array(file, "times", "f", (count,))[:] if "times" in file else None
    names: Any = file.get("splits", {})
    splits = {part: hdf5_array(file, f"splits/{part}", "i", (None,))[:] for part in names}
    return Layout(
        NAME,
        f"attribute format is {NAME!r}, {math.prod(frames.shape) * 4:,} bytes of frames",
        samples,
        count,
        tuple(Channel(one.name, one.field, one.rank) for one in known.channels),
        grid,
        times=times,
        fixed=tuple(Channel(one.name, one.field, one.rank) for one in known.fixed),
        parameters=tuple(known.parameters),
        splits=splits,
        notes=tuple(known.notes),
    )


def _open(probe: Probe, hints: Hints) -> AbstractReader:
    return Converted(probe)


FORMAT = Format(NAME, _recognise, _open, labelled=True)
"""The format of this file."""
