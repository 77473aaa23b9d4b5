"""A surrogate of the data of a path: a map from fixed fields to a frame, or steps from frames to the next ones.

    sciml train PATH --model mgno --out runs/a
    sciml benchmark PATH --models mgno fno unet --budget 5m --out runs/b
    sciml predict runs/a PATH --steps 50 --out forecast.nc

PATH is a file or folder in any format that `sciml data info PATH` understands. The format, the task, the split and all
else that is not given is chosen from the data and printed. Errors are those of rollouts from the first frames of the
test trajectories: `relative_l2` of all predicted frames in one norm, and means of PDEBench's `nrmse` and The Well's
`vrmse`.
"""

import dataclasses

from sciml import tasks, zoo
from sciml.experiment import Count, Experiment, Training, chosen


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    patch: Count = 1
    """Points of a patch along each axis that an operator sees as the channels of one point (`operators.Patched`)."""
    activations: tasks.Activations = tasks.Activations()
    """What a step of training keeps, and in which precision."""
    source: tasks.DataPath = tasks.DataPath()
    """Data, and how they are split."""
    stepping: tasks.Stepping = tasks.Stepping()
    """History, unrolled training, conditioning."""
    run: Training = Training(steps=1000, batch=16)
    """Length and learning rate of the training."""


PRESETS = {
    "quick": Config(),
    "smoke": Config(source=tasks.DataPath(limit=4), run=Training(steps=5, batch=2)),
    "full": Config(run=Training(epochs=500, batch=16)),
}
MODELS = zoo.MODELS


def resolve(config: Config) -> tuple[Config, list[str]]:
    """The config with all that was left open chosen from the data, and sentences that say what was chosen."""
    source, run, said = tasks.resolve(config.source, config.stepping, config.run)
    return dataclasses.replace(config, source=source, run=run), said


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    model = config.activations.of(chosen("a model", config.model, MODELS).in_patches(config.patch))
    return tasks.surrogate(model, config.source, config.stepping, config.run)
