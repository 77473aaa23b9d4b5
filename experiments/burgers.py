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
from collections.abc import Mapping

import jax
import numpy as np

from sciml import data, losses, metrics, train, zoo
from sciml.experiment import Experiment, chosen, draw_predictions, relative_errors
from sciml.grid import Grid, Neumann, Periodic
from sciml.operators import AbstractOperator, Normalised, per_channel
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
    samples: tuple[int, int, int] = (700, 100, 400)
    """Numbers of training, validation and test samples; the published test pairs are 400."""
    physics: float = 0.0
    """Weight of the squared residual of the equation beside the data, for space-time fields."""
    epochs: float = 20
    """Passes through the training samples."""
    batch: int = 20
    """Samples in a batch."""
    rate: float | None = None
    """Peak of the learning rate; by default the model's own."""
    seed: int = 0
    """Seed of the initial weights and of the order of the samples."""
    data: str = dataclasses.field(default_factory=lambda: os.environ.get("SCIML_DATA", "../shared/data"))
    """Folder of burgers_train_16.npz and burgers_test_16.npz, or for generated files."""


PRESETS = {
    "published": Config(),
    "physics": Config(samples=(16, 100, 400), epochs=400, batch=8, physics=1e-2),
    "final": Config(
        problem=Burgers(resolution=1024), published=False, samples=(1000, 100, 100), epochs=20, data="data"
    ),
    "smoke": Config(
        problem=Burgers(resolution=16, frames=4, step=1e-2),
        published=False,
        samples=(16, 8, 8),
        physics=1e-3,
        epochs=1,
        batch=8,
        data="data",
    ),
}
MODELS: dict[str, zoo.Architecture] = zoo.MODELS


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


def pairs(config: Config) -> tuple[data.Pairs, ...]:
    """Training, validation and test data."""
    folder, problem = pathlib.Path(config.data), config.problem
    if config.published:
        known, test = published(folder, "burgers_train_16.npz"), published(folder, "burgers_test_16.npz")
        if known.y.shape[1:] != (problem.frames, problem.resolution):
            raise ValueError(
                f"The published pairs hold (frames, points) {known.y.shape[1:]}, the problem "
                f"{(problem.frames, problem.resolution)}. Use --published False to generate others."
            )
        kept, others = data.split(known, (config.samples[0], None), seed=0)
        validation = others.take(slice(0, config.samples[1]))
        parts = kept, validation, test.take(slice(0, config.samples[2]))
    else:
        known = data.cached(problem, folder, n=sum(config.samples), seed=0)
        parts = data.split(known, config.samples, seed=None)
    return parts if problem.frames == 1 else tuple(space_time(part, problem) for part in parts)


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    chosen("a model", config.model, MODELS)
    kept, validation, testing = pairs(config)
    grid = kept.grid
    assert grid is not None

    def figures(models: Mapping[str, AbstractOperator], where: pathlib.Path) -> None:
        draw_predictions(models, testing.take(slice(0, 3)), where / "predictions.png")

    steps = round(np.ceil(config.epochs * len(kept) / config.batch))
    model = MODELS[config.model]
    loss = losses.supervised(metrics.relative_l2)
    if config.physics:
        loss = losses.informed(loss, lambda x, u: config.problem.residual(u), weight=config.physics)
    network = model.make(1, 1, grid=grid, key=jax.random.key(config.seed))
    return Experiment(
        model=Normalised(network, per_channel(kept.x), per_channel(kept.y)),
        loss=loss,
        optimiser=train.clipped_adamw(config.rate or model.lr, steps=steps),
        train=kept,
        steps=steps,
        batch=config.batch,
        evaluate=relative_errors,
        test=lambda resolution: testing,
        validation=validation,
        figures=figures,
        seed=config.seed,
    )
