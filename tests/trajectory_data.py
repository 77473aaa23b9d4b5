"""Small trajectories with unequal sizes in all axes, and a reader that notes what is read of them."""

import numpy as np

from sciml.data import Channel, InMemory, Layout, Trajectories
from sciml.grid import Grid

SAMPLES, FRAMES, CHANNELS, X, Y = 13, 11, 3, 5, 7
CHANNEL = (Channel("p"), Channel("v_x", "v", 1), Channel("v_y", "v", 1))


def layout(samples=SAMPLES, length=FRAMES):
    return Layout(
        "arrays",
        "made for a test",
        samples,
        length,
        CHANNEL,
        Grid((X, Y), (1.0, 2.0)),
        times=np.cumsum(np.linspace(0.1, 0.3, length)),
        fixed=(Channel("mask"), Channel("depth")),
        parameters=("nu",),
        splits={"train": np.array([0, 2, 5]), "test": np.array([1, 4])},
        notes=("made of random numbers",),
    )


def arrays(samples=SAMPLES, length=FRAMES, seed=0):
    rng = np.random.default_rng(seed)
    scale = np.array([1.0, 10.0, 0.1])[:, None, None]
    return {
        "frames": (5 + scale * rng.normal(size=(samples, length, CHANNELS, X, Y))).astype(np.float32),
        "fixed": rng.normal(size=(samples, 2, X, Y)).astype(np.float32),
        "parameters": rng.uniform(1, 2, size=(samples, 1)).astype(np.float32),
    }


class Recorded(InMemory):
    """Notes the bytes of frames and the number of reads; `block` and `paths` are those of a file."""

    def __init__(self, *args, block=(1, 1), paths=(), **rest):
        super().__init__(*args, **rest)
        self.block, self.paths, self.read, self.largest, self.calls = block, paths, 0, 0, []

    def frames(self, samples, times):
        found = super().frames(samples, times)
        self.read, self.largest = self.read + found.nbytes, max(self.largest, found.nbytes)
        self.calls.append((samples, times))
        return found


def trajectories(block=(1, 1), paths=(), rows=None, samples=SAMPLES, length=FRAMES, **changed):
    given = arrays(samples, length) | changed
    reader = Recorded(given.pop("frames"), layout(samples, length), block=block, paths=paths, **given)
    return Trajectories(reader, rows=rows)


def recorded(given):
    """The reader of trajectories."""
    assert isinstance(given.reader, Recorded)
    return given.reader
