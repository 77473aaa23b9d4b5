"""How tests of readers open a path with one format."""

import pathlib

import numpy as np

from sciml.data import Hints, Trajectories
from sciml.data._readers._formats import probe


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


def values(*shape, seed=0):
    """Random numbers that float32 holds exactly."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
