"""How tests of readers open a path with one format."""

import pathlib

import numpy as np

from sciml.data import Hints, Trajectories
from sciml.data._readers._formats import probe
from sciml.grid import Periodic


def opened(form, path, **hints):
    """The data of a path, which the format must recognise."""
    found = probe(pathlib.Path(path))
    assert form.recognise(found)
    return Trajectories(form.open(found, Hints(**hints)))


def assert_reads(data, frames, fixed=None, parameters=None):
    """The data hold these values `(sample, time, channel, *space)`, whatever part of them is read."""
    assert data.layout.shape == frames.shape
    found = data[:]
    np.testing.assert_array_equal(found["frames"], frames.astype(np.float32))
    nothing = np.zeros((len(frames), 0, *frames.shape[3:]))
    np.testing.assert_array_equal(found["fixed"], nothing if fixed is None else fixed.astype(np.float32))
    if parameters is not None:
        np.testing.assert_array_equal(found["parameters"], parameters.astype(np.float32))
    rows, times = np.array([len(frames) - 1, 0]), slice(frames.shape[1] // 2, None, 2)
    part = data.take(rows).select(times=times)[:]
    np.testing.assert_array_equal(part["frames"], frames[rows, times].astype(np.float32))
    assert_reads_boxes(data, found)


def assert_reads_boxes(data, found):
    """The data give the points of a box of their grid as they are among all points `found`, also of thinned ones."""
    shape = data.grid.shape
    for every in (1, 2):
        if every > 1 and any(
            isinstance(low, Periodic) and n % every for n, (low, _) in zip(shape, data.grid.sides, strict=True)
        ):
            continue  # refused: the points of a ring would not be equally spaced
        thin = data.select(every=every)
        box = tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in thin.grid.shape)
        rows = np.arange(len(data))[::-1]
        part = thin.part(rows, box)
        for name in ("frames", "fixed"):
            expected = found[name][rows][(..., *[slice(None, None, every)] * len(shape))][(..., *box)]
            np.testing.assert_array_equal(part[name], expected)
        np.testing.assert_array_equal(part["parameters"], found["parameters"][rows])


def values(*shape, seed=0):
    """Random numbers that float32 holds exactly."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
