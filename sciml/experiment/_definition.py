"""What an experiment is."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from sciml.experiment._ranges import Count, Seed, Steps, check_value
from sciml.losses import Curriculum, Loss
from sciml.parallel import Alone, Automatic, Mapped
from sciml.train import Every, Optimiser, Scheduled


def unchanged(model: Any, resolution: int) -> tuple[Any, str]:
    """The default of `Experiment.at_resolution`: the model itself, for operators that take any resolution."""
    return model, "native: the trained model itself, applied at this resolution"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """How a trained model is applied to a user's file: `sciml predict RUN INPUT --out FOLDER`.

    Attributes:
        options: A frozen dataclass; its fields, with defaults and docstrings, are options of the command line.
        apply: `(model, input, out, options) -> lines`. It reads the file `input`, writes its results into the folder
            `out`, and returns lines to print.
    """

    options: type
    apply: Callable[[Any, pathlib.Path, pathlib.Path, Any], Sequence[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What is trained on what data, and how the result is tested.

    Attributes:
        model: The untrained model, any pytree.
        loss: `(model, batch, keys) -> (scalar, logs)`, means over the samples of the batch; or one for each step.
        optimiser: From optax, with its schedule, clipping, accumulation and EMA (`train.ema`).
        train: Training data: `len(data)`, `data[rows]`.
        steps: Number of optimiser steps.
        batch: Number of samples in a batch.
        evaluate: `(model, data) -> metrics`, lower is better; used for validation and test.
        test: Test data, or a function from a resolution (None: that of the training) to test data.
        baselines: From the test data to metrics of predictions that need no model, by name: rows of every table.
        validation: Data that choose the checkpoint. Without them the last checkpoint is used.
        metric: Name of the metric that chooses it.
        every: Number of steps between evaluations and checkpoints; by default a twentieth of the run.
        save_seconds: Shortest time between two checkpoints. The best state so far and the last are saved always.
        patience: Number of evaluations without improvement after which the run ends; by default it never does.
        member: From a key to another untrained model like `model`, for ensembles (`--members`, `ensemble`).
        at_resolution: `(model, resolution) -> (model, note)`, the model to evaluate at another resolution, for example
            in `operators.Resampled`, and a sentence that says what was done.
        coverage: `(model, calibration data, test data, level) -> metrics`, of conformal bands (`sciml evaluate
            --coverage`): `coverage`, `width`, and `calibration`, the number of calibration samples.
        figures: `(models by name, folder)`, draws the figures of one or several trained models into the folder.
        predict: How the trained model is applied to a user's file.
        certify: `(model, data, tolerance) -> metrics` of predictions with a guarantee: the fraction `accepted`, the
            mean number of `iterations` of the solver that corrects the others, and the largest `bound` of an error.
        hooks: Further hooks for the folder of the run, such as `[train.every(100, train.tensorboard(folder))]`.
        parallel: How devices share each batch. `Mapped()` needs a loss that is a mean over independent samples, and
            gradients that `jax.shard_map` takes, which those through diffrax's checkpointed adjoint are not (diffrax
            0.7.2). `Automatic()` takes any. With `Alone()` they share it if a layout is given, as by `Automatic()`.
        accumulate: Number of parts of a batch that each device computes one after another, to save memory.
        seed: Seed of the batches and of the loss.

    Raises:
        ValueError: If a number or the name of the metric is impossible.
    """

    model: Any
    loss: Loss | Scheduled | Curriculum
    optimiser: Optimiser
    train: Any
    steps: int
    batch: int
    evaluate: Callable[[Any, Any], Mapping[str, float]]
    test: Any
    _: dataclasses.KW_ONLY
    baselines: Callable[[Any], Mapping[str, Mapping[str, float]]] | None = None
    validation: Any = None
    metric: str = "relative_l2"
    every: int | None = None
    save_seconds: float = 10.0
    patience: int | None = None
    member: Callable[[PRNGKeyArray], Any] | None = None
    at_resolution: Callable[[Any, int], tuple[Any, str]] = unchanged
    coverage: Callable[[Any, Any, Any, float], Mapping[str, float]] | None = None
    figures: Callable[[Mapping[str, Any], pathlib.Path], None] | None = None
    predict: Prediction | None = None
    certify: Callable[[Any, Any, float], Mapping[str, float]] | None = None
    hooks: Callable[[pathlib.Path], Sequence[Every]] = lambda folder: ()
    parallel: Mapped | Automatic | Alone = Mapped()
    accumulate: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_value("steps", Steps, self.steps)
        check_value("batch", Count, self.batch)
        check_value("seed", Seed, self.seed)
        check_value("accumulate", Count, self.accumulate)
        check_value("every", Steps | None, self.every)
        check_value("patience", Count | None, self.patience)
        if not isinstance(self.metric, str) or not self.metric:
            raise ValueError(f"Expected the name of a metric that evaluate returns, got {self.metric!r}.")
        if not 0 <= self.save_seconds < math.inf:
            raise ValueError(f"Expected save_seconds >= 0, a time in seconds, got {self.save_seconds}.")
        if not len(self.train):
            raise ValueError("Expected training data of at least 1 sample, got none.")
        if self.batch > len(self.train):
            raise ValueError(
                f"A batch holds 1 to {len(self.train)} samples, as many as there are, got {self.batch}. "
                "Use a smaller batch."
            )
        if self.batch % self.accumulate:
            raise ValueError(f"Expected a batch that {self.accumulate} parts divide (accumulate), got {self.batch}.")


def held_out(experiment: Experiment, resolution: int | None = None) -> Any:
    """The test data of an experiment at a resolution, or as they are.

    Raises:
        ValueError: If the test data exist at one resolution alone, or `Experiment.test` returned data of another one.
    """
    if not callable(experiment.test):
        if resolution is None:
            return experiment.test
        raise ValueError(
            f"The test data of this experiment have one resolution, got {resolution}. Evaluate without a resolution, "
            "or give Experiment.test a function from a resolution to data."
        )
    found = experiment.test(resolution)
    grid = getattr(found, "grid", None)
    if resolution is None or grid is None:
        return found
    if not {resolution, resolution + 1} & set(grid.shape):  # as many elements have a node more
        raise ValueError(
            f"Expected test data at the resolution {resolution}, got a grid of {' x '.join(map(str, grid.shape))} "
            "points: Experiment.test ignored the resolution. Return data of that resolution, or give the data in "
            "place of the function if there is one resolution alone."
        )
    return found
