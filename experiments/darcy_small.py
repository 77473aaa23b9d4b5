"""The published small Darcy set (1000 training and 50 test pairs, 16x16; 50 test pairs, 32x32): MgNO against FNO.

    sciml train experiments/darcy_small.py --model mgno --out runs/small/mgno
    sciml evaluate runs/small/mgno --resolution 16 32

The protocol is that of neuraloperator's gallery example (plot_FNO_darcy): all 1000
training pairs, 15 epochs, batches of 64, tested on the 50 pairs at 16x16 and, without training there, at 32x32. Sizes,
loss and learning rates were chosen with `--holdout 200`, on training pairs that were held out, never on the test pairs.
Results and seconds, over three seeds and beside the example in the same run: docs/results.md.

A stencil that was learned at one spacing means another one at half of it, so MgNO is evaluated at 32x32 through
`Resampled`; FNO acts at 32x32 itself, and `--resampled True` evaluates it through `Resampled` as well.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np

from sciml import data, losses, metrics, train
from sciml.experiment import Experiment, draw_predictions, on_grid, relative_errors
from sciml.grid import Grid
from sciml.operators import FNO, AbstractOperator, MgNO, Normalised, per_channel


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    seed: int = 0
    """Seed of the initial weights and of the order of the samples."""
    epochs: float = 15
    """Passes through the training pairs."""
    batch: int = 64
    """Pairs in a batch."""
    rate: float | None = None
    """Peak of the learning rate; by default the model's own."""
    holdout: int = 0
    """Number of training pairs kept out of training and used as the test set, to choose settings by."""
    resampled: bool = False
    """Whether a model that acts at any resolution is evaluated at others through Resampled all the same."""
    data: str = dataclasses.field(default_factory=lambda: os.environ.get("SCIML_DATA", "../shared/data"))
    """Folder of darcy_train_16.npz, darcy_test_16.npz and darcy_test_32.npz."""


PRESETS = {"full": Config(), "choose": Config(holdout=200), "smoke": Config(epochs=0.5)}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network on a grid, and the learning rate that suits it."""

    make: Callable[[Grid, jax.Array], AbstractOperator]
    rate: float


MODELS = {
    "mgno": Model(lambda grid, key: MgNO(1, 1, grid=grid, width=16, depth=4, levels=2, key=key), 6e-3),
    "fno": Model(lambda grid, key: FNO(1, 1, modes=(8, 8), width=32, depth=4, grid=grid, key=key), 2e-2),
}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    folder = pathlib.Path(config.data)
    known = data.read_npz(folder / "darcy_train_16.npz")
    kept, held_out = data.split(known, (None, config.holdout), seed=0) if config.holdout else (known, None)
    grid = known.grid
    assert grid is not None
    model = MODELS[config.model]

    def test(resolution: int | None) -> data.Pairs:
        if held_out is not None:
            return held_out
        return data.read_npz(folder / f"darcy_test_{resolution or 16}.npz")

    def at_resolution(trained: AbstractOperator, resolution: int) -> tuple[AbstractOperator, str]:
        native = config.model == "fno" and not config.resampled
        return on_grid(trained, grid, grid.with_shape((resolution,) * 2), native=native)

    def figures(models: Mapping[str, AbstractOperator], where: pathlib.Path) -> None:
        draw_predictions(models, test(None).take(slice(0, 3)), where / "predictions.png")

    steps = round(np.ceil(config.epochs * len(kept) / config.batch))
    return Experiment(
        model=Normalised(model.make(grid, jax.random.key(config.seed)), per_channel(kept.x), per_channel(kept.y)),
        loss=losses.supervised(lambda p, t: 0.5 * (metrics.relative_l2(p, t) + metrics.relative_h1(p, t, grid=grid))),
        optimiser=train.clipped_adamw(config.rate or model.rate, steps=steps),
        train=kept,
        steps=steps,
        batch=config.batch,
        evaluate=relative_errors,
        test=test,
        at_resolution=at_resolution,
        figures=figures,
        seed=config.seed,
    )
