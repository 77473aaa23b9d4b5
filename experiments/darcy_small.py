"""The published small Darcy set (1000 training and 50 test pairs, 16x16; 50 test pairs, 32x32): MgNO against FNO.

    sciml train experiments/darcy_small.py --model mgno --out runs/small/mgno
    sciml evaluate runs/small/mgno --resolution 16 32

The protocol is that of neuraloperator's gallery example (plot_FNO_darcy): all 1000
training pairs, 15 epochs, batches of 64, tested on the 50 pairs at 16x16 and, without training there, at 32x32; but
training pairs are transposed at random. That, sizes, loss and learning rates were chosen with `--holdout 200`, on
training pairs that were held out, never on the test pairs.
Results and seconds, over three seeds and beside the example in the same run: docs/results.md.

A stencil that was learned at one spacing means another one at half of it, so MgNO is evaluated at 32x32 through
`Resampled`; FNO acts at 32x32 itself, and `--resampled` evaluates it through `Resampled` as well.
"""

import dataclasses
import functools
import os
import pathlib

from sciml import data, losses, tasks, zoo
from sciml.experiment import Experiment, Training, Whole, chosen
from sciml.operators import FNO, MgNO


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    holdout: Whole = 0
    """Number of training pairs kept out of training and used as the test set, to choose settings by."""
    resampled: bool = False
    """Whether a model that acts at any resolution is evaluated at others through Resampled all the same."""
    transpose: bool = True
    """Whether the two axes of training samples are exchanged at random, by which the problem does not change."""
    data: str = dataclasses.field(default_factory=lambda: os.environ.get("SCIML_DATA", "../shared/data"))
    """Folder of darcy_train_16.npz, darcy_test_16.npz and darcy_test_32.npz."""
    run: Training = Training(epochs=15, batch=64)
    """Length and learning rate of the training."""


PRESETS = {
    "full": Config(),
    "choose": Config(holdout=200),
    "smoke": Config(run=Training(epochs=0.5, batch=64)),
}
MODELS = {
    "mgno": zoo.Architecture(functools.partial(MgNO, width=16, depth=4, levels=2), 6e-3),
    "fno": zoo.Architecture(functools.partial(FNO, modes=(8, 8), width=32, gain=0.1), 2e-2, any_resolution=True),
}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    model, folder = chosen("a model", config.model, MODELS), pathlib.Path(config.data)
    if config.resampled:
        model = dataclasses.replace(model, any_resolution=False)
    known = data.read_npz(folder / "darcy_train_16.npz")
    if config.holdout:
        known, test = data.split(known, (None, config.holdout), seed=0)
    else:
        test = functools.cache(lambda resolution: data.read_npz(folder / f"darcy_test_{resolution or 16}.npz"))
    assert known.grid is not None  # `read_npz` places the points
    loss = tasks.mean_of_l2_and_h1(known.grid)
    if config.transpose:
        loss = losses.augmented(loss, losses.transposition)
    return tasks.fields(model, tasks.Parts(known, None, test), config.run, loss=loss)
