"""Experiments that train operators between fields: maps from an input field to an output field, and steps in time."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from sciml import losses, train
from sciml.data import Pairs, cached, split
from sciml.experiment import Count, Depth, Experiment, Seed, Training, Whole, check_settings, unchanged
from sciml.grid import Grid
from sciml.operators import Normalised, Normaliser, Resampled, per_channel
from sciml.tasks._bands import calibration_of_pairs, coverage_of, of_pairs
from sciml.tasks._field_errors import Guarantee, draw_first, mean_of_l2_and_h1, relative_errors
from sciml.tasks._memory import within_memory
from sciml.tasks._predict_file import forecasts
from sciml.zoo import Architecture


@dataclasses.dataclass(frozen=True)
class Generated:
    """Options of generated data, a field of a Config: `source: Generated = Generated((1000, 100, 200))`.

    The command line has them as `--samples`, `--data-seed` and `--data`.
    """

    samples: tuple[Count, Whole, Count] = (1000, 100, 200)
    """Numbers of training, validation and test samples; 0 for no validation."""
    data_seed: Seed = 0
    """Seed of the samples."""
    data: str = "data"
    """Folder for the generated files."""

    def __post_init__(self) -> None:
        check_settings(self)

    def parts(self, problem: Any, at: Callable[[int], Any] | None = None) -> "Parts":
        """Training, validation and test data of a problem, generated unless an earlier run has.

        Args:
            problem: A problem of `sciml.pdes`.
            at: From a resolution to the problem whose samples are the test data there; None for one resolution alone.
        """
        training, validation, test = self._split(problem)
        if at is None:
            return Parts(training, validation, test)
        other = lambda resolution: test if resolution is None else self._split(at(resolution))[2]
        return Parts(training, validation, functools.cache(other))

    def _split(self, problem: Any) -> tuple[Pairs, ...]:
        known = cached(problem, self.data, n=sum(self.samples), seed=self.data_seed)
        return split(known, self.samples, seed=None)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The data of an experiment.

    Attributes:
        train: Training data, `data.Pairs` or `data.Windows`.
        validation: Data that choose the checkpoint, or None.
        test: Test data, or a function from a resolution (None: that of the training) to test data.
    """

    train: Any
    validation: Any
    test: Any


def one_cycle(
    architecture: Architecture, training: Training, samples: int, *, weight_decay: float, **cycle: float
) -> train.Optimiser:
    """The published optimiser of MgNO, `train.one_cycle_adam`, for the epochs and the learning rate of a training."""
    return train.one_cycle_adam(
        training.lr_or(architecture.lr),
        epochs=math.ceil(training.epochs),
        steps_per_epoch=-(-samples // training.batch),
        weight_decay=weight_decay,
        **cycle,
    )


def optimiser_of(architecture: Architecture, training: Training, steps: int) -> train.Optimiser:
    """The optimiser that was best for an architecture, with the rate of a training or else that of the architecture.

    An architecture's rate for Muon is that of 1,000 steps or more. Fewer steps get a higher one, in inverse proportion
    to the square root of their number and at most four times as high: in the searches of benchmarks/search.py the best
    rates of 60, 200 and 1,000 steps were about so far apart. A rate that the training names is taken as it is.
    """
    fewer = math.sqrt(min(max(1.0, 1000 / steps), 16.0)) if architecture.optimiser == "muon" else 1.0
    return train.OPTIMISERS[architecture.optimiser](training.lr_or(fewer * architecture.lr), steps=steps)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Normalises an operator by statistics of its training data.

    Attributes:
        x: Statistics of the inputs, `operators.per_channel` or `operators.per_point`; None leaves inputs as they are.
        y: Statistics of the outputs.
        epsilon: Added to the deviations.
    """

    x: Callable[..., Normaliser] | None = per_channel
    y: Callable[..., Normaliser] = per_channel
    epsilon: float = 0.0

    def around(self, model: Callable[..., Array], pairs: Pairs) -> Normalised:
        """The operator between normalised fields."""
        y, channels = self.y(pairs.y, epsilon=self.epsilon), pairs.x.shape[1]
        if self.x is not None:
            return Normalised(model, self.x(pairs.x, epsilon=self.epsilon), y)
        one = np.ones((channels, *(1,) * (pairs.x.ndim - 2)), np.float32)
        return Normalised(model, Normaliser(0 * one, one), y)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Options of the sizes of `zoo.mgno` and `zoo.fno`, a field of a Config.

    The command line has them as `--width`, `--depth`, `--levels` and `--modes`. What is not given is as in the zoo.
    """

    width: Count | None = None
    """Channels of the hidden fields (mgno, fno)."""
    depth: Depth | None = None
    """Number of layers (mgno, fno)."""
    levels: Depth | None = None
    """Levels of the multigrid cycles (mgno)."""
    modes: Count | None = None
    """Kept frequencies along each axis (fno)."""

    def __post_init__(self) -> None:
        check_settings(self)

    def of(self, model: str, architecture: Architecture) -> Architecture:
        """The architecture with these sizes, if the model is mgno or fno."""
        own = {"mgno": ("width", "depth", "levels"), "fno": ("width", "depth", "modes")}.get(model, ())
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        return (
            dataclasses.replace(architecture, make=functools.partial(architecture.make, **given))
            if given
            else architecture
        )


def fields(
    architecture: Architecture,
    parts: Parts,
    training: Training,
    *,
    grid: Grid | None = None,
    statistics: Statistics | None = Statistics(),
    loss: losses.Loss | None = None,
    optimiser: train.Optimiser | None = None,
    **options: Any,
) -> Experiment:
    """An experiment that trains an operator from input fields to output fields.

    At other resolutions an architecture that takes any is evaluated as it is, another one through
    `operators.Resampled`.

    Args:
        architecture: From `sciml.zoo.MODELS`, or any `zoo.Architecture`.
        parts: Training, validation and test data.
        training: Epochs or steps, batch, learning rate, seed.
        grid: Where the fields live, by default the grid of the training data.
        statistics: How fields are normalised; None trains on raw fields.
        loss: By default `mean_of_l2_and_h1`.
        optimiser: By default that of the architecture, with the learning rate of `training` or of the architecture.
        **options: Other attributes of `Experiment`. A `Guarantee` as `certify` also serves `sciml predict --certify`.

    Raises:
        ValueError: If the training data have no grid.
    """
    known, where = parts.train, getattr(parts.train, "grid", None) if grid is None else grid
    if where is None:
        raise ValueError("The training data have no grid. Give it: data.Pairs(x, y, grid=Grid(x.shape[2:])).")
    x, y = known[np.arange(1)]
    make = lambda key: within_memory(lambda: architecture.make(x.shape[1], y.shape[1], grid=where, key=key))
    model = make(jax.random.key(training.seed))
    if statistics is not None:
        model = statistics.around(model, known)
    member = make if statistics is None else lambda key: Normalised(make(key), model.x, model.y)
    steps = training.steps_for(len(known))
    guarantee = options["certify"] if isinstance(options.get("certify"), Guarantee) else None

    def at_resolution(trained: Callable[..., Array], resolution: int) -> tuple[Callable[..., Array], str]:
        target = where if architecture.any_resolution else parts.test(resolution).grid
        if target == where:
            return unchanged(trained, resolution)
        return Resampled(trained, where, target), f"resampled: cubic splines to {where.shape} and back"

    built = Experiment(
        model=model,
        loss=mean_of_l2_and_h1(where) if loss is None else loss,
        optimiser=optimiser_of(architecture, training, steps) if optimiser is None else optimiser,
        train=known,
        steps=steps,
        batch=training.batch,
        accumulate=training.accumulate,
        evaluate=relative_errors,
        test=parts.test,
        validation=parts.validation,
        member=member,
        at_resolution=at_resolution,
        coverage=coverage_of(of_pairs) if isinstance(known, Pairs) else None,
        figures=draw_first(parts.test),
        predict=forecasts(calibration_of_pairs(parts.validation), guarantee),
        seed=training.seed,
    )
    return dataclasses.replace(built, **options)
