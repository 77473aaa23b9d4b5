"""Darcy flow, -div(a grad u) = 1 on the unit square, u = 0 on its boundary: from permeability a to pressure u.

    sciml train experiments/darcy.py --preset demo --model mgno --out runs/demo/mgno
    sciml evaluate runs/demo/mgno --resolution 32 64

MgNO against FNO on data that the first run generates and keeps (`Darcy` of sciml.pdes). The demo solves on 64x64 cells
and trains on every second of them; its table is in the README.

The paper presets are the settings of He, Liu, Xu, "MgNO", ICLR 2024, on regenerated data: relative L2 0.176 % for
smooth and 0.339 % for rough permeability in their table 1 (second-hand). Differs from the source in: data of our
generator; decoupled weight decay; a learning rate that changes each step and not each epoch; a constant beta1 of Adam;
the mean of the relative L2 and H1 errors as the loss; gradients clipped.

A stencil belongs to one spacing: at other resolutions MgNO is evaluated through `Resampled`, FNO as it is.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
import optax

from sciml import data, losses, metrics
from sciml.experiment import Experiment, draw_predictions, relative_errors
from sciml.grid import Grid
from sciml.operators import FNO, AbstractOperator, MgNO, Normalised, Resampled, per_channel
from sciml.pdes import Darcy

_DEMO = Darcy(resolution=64, every=2)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    problem: Darcy = _DEMO
    """Permeability and solver."""
    samples: tuple[int, int, int] = (1000, 100, 200)
    """Numbers of training, validation and test samples."""
    width: int | None = None
    """Channels of the hidden fields; by default the model's own."""
    depth: int = 4
    """Number of layers."""
    levels: int = 5
    """Levels of the multigrid cycles (mgno)."""
    modes: int = 24
    """Kept frequencies along each axis (fno)."""
    epochs: float = 8
    """Passes through the training samples."""
    batch: int = 16
    """Samples in a batch."""
    rate: float | None = None
    """Peak of the learning rate; by default the model's own."""
    seed: int = 0
    """Seed of the samples, of the initial weights and of the order of the samples."""
    data: str = "data"
    """Folder for the generated files."""


_PAPER = Config(width=24, levels=6, epochs=500, batch=8, rate=5e-4)
PRESETS = {
    "demo": Config(),
    "smoke": Config(
        problem=Darcy(resolution=16), samples=(24, 8, 8), width=6, depth=2, levels=3, modes=6, epochs=1, batch=8
    ),
    "paper-smooth": dataclasses.replace(
        _PAPER, problem=Darcy(resolution=421, every=2, overshoot=None), samples=(1000, 100, 100), depth=5
    ),
    "paper-rough": dataclasses.replace(
        _PAPER, problem=Darcy(resolution=512, every=2, tau=5.0, low=2.0, overshoot=None), samples=(1280, 112, 112)
    ),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network for a config on a grid, its usual width and learning rate."""

    make: Callable[[Config, int, Grid, jax.Array], AbstractOperator]
    width: int
    rate: float


MODELS = {
    "mgno": Model(
        lambda config, width, grid, key: MgNO(
            1, 1, grid=grid, width=width, depth=config.depth, levels=config.levels, key=key
        ),
        width=24,
        rate=3e-3,
    ),
    "fno": Model(
        lambda config, width, grid, key: FNO(
            1, 1, modes=(config.modes,) * 2, width=width, depth=config.depth, grid=grid, key=key
        ),
        width=32,
        rate=5e-3,
    ),
}


def build(config: Config) -> Experiment:
    """The experiment of a config; generates its data unless an earlier run has."""
    total, grid, model = sum(config.samples), config.problem.grid, MODELS[config.model]
    known = data.cached(config.problem, config.data, n=total, seed=config.seed)
    training, validation, testing = data.split(known, config.samples, seed=None)

    def at(resolution: int) -> Darcy:
        every, rest = divmod(config.problem.resolution, resolution)
        if rest:
            raise ValueError(
                f"The data are solved on {config.problem.resolution} cells along each axis, of which {resolution} "
                "are not an equally spaced part. Give a divisor."
            )
        return dataclasses.replace(config.problem, every=every)

    def test(resolution: int | None) -> data.Pairs:
        if resolution is None:
            return testing
        other = data.cached(at(resolution), config.data, n=total, seed=config.seed)
        return data.split(other, config.samples, seed=None)[2]

    def at_resolution(trained: AbstractOperator, resolution: int) -> tuple[AbstractOperator, str]:
        if resolution == grid.shape[0] or config.model == "fno":
            return trained, "native: the trained model itself, applied at this resolution"
        return Resampled(trained, grid, at(resolution).grid), f"resampled: cubic splines to {grid.shape} and back"

    def figures(models: Mapping[str, AbstractOperator], where: pathlib.Path) -> None:
        draw_predictions(models, testing.take(slice(0, 3)), where / "predictions.png")

    key, width = jax.random.key(config.seed), config.width or model.width
    steps = round(np.ceil(config.epochs * len(training) / config.batch))
    rate = optax.cosine_onecycle_schedule(
        steps, config.rate or model.rate, pct_start=0.2, div_factor=10.0, final_div_factor=100.0
    )
    return Experiment(
        model=Normalised(model.make(config, width, grid, key), per_channel(training.x), per_channel(training.y)),
        loss=losses.supervised(lambda p, t: 0.5 * (metrics.relative_l2(p, t) + metrics.relative_h1(p, t, grid=grid))),
        optimiser=optax.chain(
            optax.clip_by_global_norm(0.1), optax.inject_hyperparams(optax.adamw)(rate, b2=0.98, weight_decay=1e-4)
        ),
        train=training,
        steps=steps,
        batch=config.batch,
        evaluate=relative_errors,
        test=test,
        validation=validation,
        at_resolution=at_resolution,
        figures=figures,
        seed=config.seed,
    )
