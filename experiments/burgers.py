"""Burgers' equation u_t + u u_x = nu u_xx on a ring: from u at time 0 to u at all times, or at time 1.

    sciml train experiments/burgers.py --preset published --model mgno --out runs/burgers/mgno
    sciml train experiments/burgers.py --preset physics --model fno --out runs/burgers/physics

`published` takes the pairs that are distributed with neuraloperator (800 for training and 400 for tests, 16 points,
times 0, 1/16, ..., 1, nu = 0.01) as space-time fields: the input is the initial state at every time. A spectral solve
from their initial states agrees with them to 2.5 % at time 1, where 16 points no longer resolve the fronts, which says
that the points are i / 16 and the last time is 1. `physics` adds the squared residual of the equation and trains on
16 of these pairs. `final` is the map to time 1 of Li et al. 2021 on data that the first run generates (nu = 0.1).

Models see time as an axis with walls and space as a ring.
"""

import dataclasses
import os
import pathlib

import numpy as np

from sciml import data, losses, metrics, tasks, zoo
from sciml.experiment import Count, Experiment, NonNegative, Training, Whole, chosen
from sciml.grid import Grid, Neumann, Periodic
from sciml.pdes import Burgers


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    problem: Burgers = Burgers(resolution=16, frames=16, viscosity=0.01)
    """Equation, and solver of generated data; one frame makes it the map to the last time."""
    published: bool = True
    """Whether the data are the published pairs, which must fit to the problem."""
    samples: tuple[Count, Whole, Count] = (700, 100, 400)
    """Numbers of training, validation and test samples; the published test pairs are 400."""
    physics: NonNegative = 0.0
    """Weight of the squared residual of the equation in the loss, for space-time fields."""
    data: str = dataclasses.field(default_factory=lambda: os.environ.get("SCIML_DATA", "../shared/data"))
    """Folder of burgers_train_16.npz and burgers_test_16.npz, or for generated files."""
    run: Training = Training(epochs=20, batch=20)
    """Length and learning rate of the training."""


PRESETS = {
    "published": Config(),
    "physics": Config(samples=(16, 100, 400), physics=1e-2, run=Training(epochs=400, batch=8)),
    "final": Config(
        problem=Burgers(resolution=1024),
        published=False,
        samples=(1000, 100, 100),
        data="data",
        run=Training(epochs=20, batch=20),
    ),
    "smoke": Config(
        problem=Burgers(resolution=16, frames=4, step=1e-2),
        published=False,
        samples=(16, 8, 8),
        physics=1e-3,
        data="data",
        run=Training(epochs=1, batch=8),
    ),
}
MODELS = zoo.MODELS


def space_time(known: data.Pairs, problem: Burgers) -> data.Pairs:
    """Pairs (initial state at every time, state at every time) on the grid (time, space)."""
    x, later = known.x[:, :1], known.y
    y = np.concatenate((x, later), axis=1)[:, None]
    grid = Grid(y.shape[2:], (problem.time, problem.length), (Neumann(), Periodic()))
    return data.Pairs(np.broadcast_to(x[:, :, None], y.shape), y, grid=grid)


def published(folder: pathlib.Path, name: str) -> data.Pairs:
    """The published pairs of a file, initial state and later states."""
    x, y = data.read_arrays(folder / name, "x", "y")
    return data.Pairs(x[:, None], y[:, 1:])


def parts(config: Config) -> tasks.Parts:
    """Training, validation and test data."""
    folder, problem = pathlib.Path(config.data), config.problem
    if not config.published:
        found = tasks.Generated(config.samples, data=config.data).parts(problem)
    else:
        known, test = published(folder, "burgers_train_16.npz"), published(folder, "burgers_test_16.npz")
        if known.y.shape[1:] != (problem.frames, problem.resolution):
            raise ValueError(
                f"The published pairs hold (frames, points) {known.y.shape[1:]}, the problem "
                f"{(problem.frames, problem.resolution)}. Use --no-published to generate others."
            )
        kept, others = data.split(known, (config.samples[0], None), seed=0)
        validation = others.take(slice(0, config.samples[1]))
        found = tasks.Parts(kept, validation, test.take(slice(0, config.samples[2])))
    if problem.frames == 1:
        return found
    return tasks.Parts(*(space_time(part, problem) for part in (found.train, found.validation, found.test)))


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    model, loss = chosen("a model", config.model, MODELS), losses.supervised(metrics.relative_l2)
    if config.physics:
        loss = losses.informed(loss, lambda x, u: config.problem.residual(u), weight=config.physics)
    return tasks.fields(model, parts(config), config.run, loss=loss)
