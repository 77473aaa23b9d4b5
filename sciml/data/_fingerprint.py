"""What tells one data set from another when a run goes on."""

import hashlib
import math
from typing import Any

import jax
import numpy as np

from sciml.data._stream import Streamed
from sciml.data._trajectories import Trajectories, TrajectoryWindows

_WHOLE = 64 << 20  # bytes; smaller data are hashed as a whole
_ROWS = 256  # samples that are hashed of larger data, or frames of trajectories


def fingerprint(data: Any) -> dict[str, Any]:
    """Number of samples, shapes, types and a SHA-256 digest of a data set.

    Data of up to 64 MB are hashed as a whole, of larger data 256 equally spaced samples. Of trajectories of more than
    64 MB, 256 equally spaced frames of all samples are hashed, or as many as take 64 MB, with the fixed fields and
    parameters of their samples. The digest of windows is that of their trajectories with history, horizon and strides,
    however they are read.

    Args:
        data: `len(data)` and `data[rows]`, a pytree of arrays with a leading axis of samples.
    """
    if isinstance(data, Streamed):
        data = data.windows
    if isinstance(data, Trajectories | TrajectoryWindows):
        return _of_frames(data)
    count = len(data)
    first = data[np.arange(min(1, count))]
    size = count * sum(np.asarray(array).nbytes for array in jax.tree.leaves(first))
    rows = np.arange(count) if size <= _WHOLE else np.unique(np.linspace(0, count - 1, _ROWS).round().astype(int))
    digest = hashlib.sha256()
    for array in jax.tree.leaves(data[rows]):
        digest.update(np.ascontiguousarray(array).tobytes())
    arrays = jax.tree.leaves(first)
    return {
        "samples": count,
        "shapes": [list(np.shape(array)[1:]) for array in arrays],
        "dtypes": [str(np.asarray(array).dtype) for array in arrays],
        "sha256": digest.hexdigest(),
    }


def _of_frames(data: Trajectories | TrajectoryWindows) -> dict[str, Any]:
    """The fingerprint, with the shapes in the order of the names of the arrays, as of any other data set."""
    trajectories = data.trajectories if isinstance(data, TrajectoryWindows) else data
    layout, digest = trajectories.layout, _of_trajectories(trajectories)
    shapes: list[list[int]] = [
        [len(layout.fixed), *layout.grid.shape],
        list(layout.shape[1:]),
        [len(layout.parameters)],
    ]
    if isinstance(data, TrajectoryWindows):
        digest = hashlib.sha256(f"{digest} {data.history} {data.horizon} {data.strides}".encode()).hexdigest()
        shapes = [[], shapes[0], [data.history + data.horizon, *shapes[1][1:]], shapes[2]]
    return {"samples": len(data), "shapes": shapes, "dtypes": ["float32"] * len(shapes), "sha256": digest}


def _of_trajectories(data: Trajectories) -> str:
    layout, digest = data.layout, hashlib.sha256()
    names = [[(one.name, one.field, one.rank) for one in part] for part in (layout.channels, layout.fixed)]
    times = None if layout.times is None else layout.times.tolist()
    digest.update(f"{names} {layout.parameters} {layout.shape} {times}".encode())
    if layout.nbytes <= _WHOLE:
        parts = [data[:]] if len(data) else []
    else:
        frame = 4 * math.prod(layout.shape[2:])
        total, count = len(data) * layout.frames, min(_ROWS, max(2, _WHOLE // frame))
        places = np.unique(np.linspace(0, total - 1, count).round().astype(int))
        parts = (_frame(data, place) for place in places.tolist())  # one at a time in memory
    for part in parts:
        for array in jax.tree.leaves(part):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _frame(data: Trajectories, place: int) -> dict[str, np.ndarray]:
    """A frame of a sample with its fixed fields and parameters; frames are counted through all samples."""
    sample, time = np.divmod(np.array([place]), data.layout.frames)
    return {
        "frames": data.frames(sample, time[:, None]),
        "fixed": data.fixed(sample),
        "parameters": data.parameters(sample),
    }
