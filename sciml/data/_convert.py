"""Trajectories of any format into a file of ours, from which windows are read quickly."""

import json
import os
import pathlib

import h5py
import numpy as np

from sciml.data._hdf5 import grid_to_json
from sciml.data._layout import Layout
from sciml.data._readers._converted import NAME, VERSION
from sciml.data._slabs import Slabs
from sciml.data._trajectories import Trajectories
from sciml.files import write_hdf5

_SLAB = 32 << 20  # bytes


def convert(trajectories: Trajectories, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes trajectories into an HDF5 file of the format `sciml trajectories`; a bounded part of them is in memory.

    | data set | shape |
    |---|---|
    | `frames` | float32 (sample, time, channel, x1, x2, ...), with the coordinates `x1`, `x2`, ... as scales |
    | `fixed` | float32 (sample, channel, x1, x2, ...), if there are fixed fields |
    | `parameters` | float32 (sample, parameter), if there are parameters |
    | `times` | float64 (time,), if the times are known |
    | `splits/train`, ... | int64, rows of the official parts |

    Frames are stored as they are, one after another and not in chunks: any window is one read, and floating-point
    fields hardly become smaller by compression (`benchmarks/streaming.py` measures other forms). The attributes of the
    file describe the rest as JSON. The file has a digest and appears complete or not at all. `open_data` reads it; it
    compares the digest of the whole file first, which takes about a second for each gigabyte.

    Args:
        trajectories: What is written, the selection alone.
        path: The file.
        overwrite: Whether a file that is there is replaced.

    Raises:
        FileExistsError: If the file exists and is not to be replaced.
        ValueError: If a value is not finite; the message names its sample.
        OSError: If the file cannot be written.
    """
    with write_hdf5(pathlib.Path(path), overwrite=overwrite) as file:
        made = _describe(file, trajectories.layout)
        slabs = Slabs(trajectories, starts=trajectories.layout.frames, reach=0, limit=_SLAB, merged=_SLAB)
        for slab in slabs:
            times = slice(slab.first, slab.first + slab.frames)
            _write(made["frames"], slab.samples, slabs.frames(slab), times)
            if slab.first == 0 and "fixed" in made:
                _write(made["fixed"], slab.samples, trajectories.fixed(slab.samples))
            if slab.first == 0 and "parameters" in made:
                _write(made["parameters"], slab.samples, trajectories.parameters(slab.samples))
            file.flush()  # raises if the disk is full


def _write(data: h5py.Dataset, samples: np.ndarray, block: np.ndarray, *times: slice) -> None:
    """Writes runs of consecutive samples at once."""
    order = np.argsort(samples)
    for run in np.split(order, np.flatnonzero(np.diff(samples[order]) != 1) + 1):
        first = int(samples[run[0]])
        data[(slice(first, first + len(run)), *times)] = block[run]


def _describe(file: h5py.File, layout: Layout) -> dict[str, h5py.Dataset]:
    """Describes the file in attributes, and makes the data sets of the samples, still without values."""
    names = [
        [{"name": one.name, "field": one.field, "rank": one.rank} for one in part]
        for part in (layout.channels, layout.fixed)
    ]
    notes = list(layout.notes) + ([] if layout.format == NAME else [f"Converted from {layout.format}."])
    described = {"grid": grid_to_json(layout.grid), "channels": names[0], "fixed": names[1]}
    described |= {"parameters": list(layout.parameters), "notes": notes}
    file.attrs.update({"format": NAME, "version": VERSION, "layout": json.dumps(described)})
    for axis, points in enumerate(layout.grid.points(), start=1):
        file.create_dataset(f"x{axis}", data=points).make_scale(f"x{axis}")
    n, space = layout.samples, layout.grid.shape
    labels = ("sample", "time", "channel", *(f"x{axis}" for axis in range(1, len(space) + 1)))
    shapes = {"frames": layout.shape, "fixed": (n, len(layout.fixed), *space)}
    made = {}
    for name, shape in shapes.items():
        if shape[1] == 0:
            continue
        data = made[name] = file.create_dataset(name, shape, np.float32)
        given = labels if name == "frames" else (labels[0], *labels[2:])
        for axis, label in enumerate(given):
            data.dims[axis].label = label
            if label in file:
                data.dims[axis].attach_scale(file[label])
    if layout.parameters:
        made["parameters"] = file.create_dataset("parameters", (n, len(layout.parameters)), np.float32)
    if layout.times is not None:
        file["times"] = np.asarray(layout.times, np.float64)
    for part, rows in layout.splits.items():
        file[f"splits/{part}"] = np.asarray(rows, np.int64)
    return made
