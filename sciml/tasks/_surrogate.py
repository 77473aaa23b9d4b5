"""Surrogates of data in any format: maps from fixed fields to a frame, and steps from frames to the next ones."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from sciml import data, losses, parallel, train
from sciml.experiment import Count, Experiment, NonNegative, Training, Whole, check_settings, chosen
from sciml.files import write_json
from sciml.operators import (
    Conditioned,
    FiLM,
    Increments,
    NextFrames,
    Normaliser,
    Numbers,
    as_channels,
    number_statistics,
)
from sciml.tasks._bands import calibration_of_rollouts, coverage_of, of_rollouts
from sciml.tasks._data_path import DataPath, Split, data_card, resolved, split_of
from sciml.tasks._fields import optimiser_of
from sciml.tasks._memory import within_memory
from sciml.tasks._predict_file import forecasts
from sciml.tasks._surrogate_errors import Rollouts, baseline_metrics, draw_errors, rollout_metrics
from sciml.zoo import Architecture

_VALIDATION_STEPS = 16  # predicted frames; longer rollouts are those of the test
_LARGE, _SHARE = 1 << 30, 0.25  # bytes, and share of the memory, of training data that are read before training
_DECADE = 10.0  # a positive parameter over such a range enters by its logarithm
_OF_STEPS = ("history", "bundle", "unroll", "noise", "strides")  # options that maps do not have
_NORMALISATION = (
    "mean and deviation of each channel of the training data, one deviation for all components of a vector; increments "
    "by those of differences of neighbouring frames"
)
CONDITIONING = {"channels": as_channels, "film": FiLM}
"""How parameters reach an operator: as channels that are constant in space, or as scales and shifts of hidden ones."""


@dataclasses.dataclass(frozen=True)
class Stepping:
    """Options of how a surrogate steps in time, a field of a Config."""

    history: Count = 1
    """Number of frames that the model sees."""
    bundle: Count = 1
    """Number of frames that it predicts at once."""
    unroll: Count = 1
    """Number of steps of which a training loss is the mean, each from the prediction before."""
    noise: NonNegative = 0.0
    """Standard deviation of noise on the frames seen in training, as a part of the deviation of each channel."""
    increments: bool = True
    """Whether the model predicts the difference to the latest frame."""
    strides: tuple[Count, ...] = (1,)
    """Steps between frames in training; with several, the model is conditioned on the time step."""
    conditioning: str = "channels"
    """channels: parameters are constant input channels; film: they scale and shift hidden channels."""
    rollout: Whole = 0
    """Number of frames that a test predicts; 0 for all that the data have."""

    def __post_init__(self) -> None:
        check_settings(self)


def resolve(source: DataPath, stepping: Stepping, training: Training) -> tuple[DataPath, Training, list[str]]:
    """Options with all that was left open chosen, and sentences that say what was chosen and why.

    Raises:
        FileNotFoundError: If there are no data.
        ValueError: If the data are in no known format, or the options do not fit them.
    """
    source, training, _, _, said = _prepared(source, stepping, training)
    return source, training, said


def _prepared(
    source: DataPath, stepping: Stepping, training: Training
) -> tuple[DataPath, Training, Split, data.TrajectoryWindows, list[str]]:
    """As `resolve`, with the parts of the data and the windows of the training part."""
    source, found, said = resolved(source)
    parts = split_of(source, found)
    windows = _windows(parts.train, source, stepping)
    source, how = _loading(source, windows.nbytes)
    samples = ", ".join(f"{len(getattr(parts, name))} {name}" for name in ("train", "validation", "test"))
    said += [f"split: {parts.how}; samples: {samples}", how]
    if training.batch > len(windows):
        said.append(f"batch: {len(windows)}, as many windows as there are, in place of {training.batch}")
        training = dataclasses.replace(training, batch=len(windows))
    return source, training, parts, windows, said


def _loading(source: DataPath, size: int) -> tuple[DataPath, str]:
    """The options with how training data of so many bytes are loaded, and a sentence that says it."""
    if source.load not in ("auto", "memory", "stream"):
        raise ValueError(f"Expected --load auto, memory or stream, got {source.load!r}.")
    if source.load != "auto":
        return source, f"load: {source.load}, as asked"
    most = min(_LARGE, int(_SHARE * train.host_memory()))
    load, compared = ("stream", "more than") if size > most else ("memory", "at most")
    why = f"{size:,} bytes of training data are {compared} {most:,}"
    return dataclasses.replace(source, load=load), f"load: {load}, because {why}"


def _windows(part: data.Trajectories, source: DataPath, stepping: Stepping) -> data.TrajectoryWindows:
    """Windows for training. A map sees no frame if its inputs are fixed fields, and else the first one."""
    if source.task == "step":
        horizon = _loss(stepping, stepping.history).horizon(stepping.bundle)
        return data.TrajectoryWindows(part, history=stepping.history, horizon=horizon, strides=stepping.strides)
    only = [name for name in _OF_STEPS if getattr(stepping, name) != getattr(Stepping(), name)]
    if only:
        options = ", ".join(f"--{name}" for name in only)
        raise ValueError(f"Expected no {options} for a map, which predicts one frame at once. Leave it out.")
    return data.TrajectoryWindows(part, history=int(part.layout.frames > 1))


def _loss(stepping: Stepping, history: int) -> losses.AbstractForecastLoss:
    """The loss, which knows how many frames it needs."""
    loss = losses.Unrolled(stepping.unroll, history=history)
    return losses.Noisy(stepping.noise, loss) if stepping.noise else loss


def _numbers(windows: data.TrajectoryWindows) -> Numbers:
    """Statistics of the parameters and time steps of training data."""
    part = windows.trajectories
    values = part.parameters(np.arange(len(part)))
    wide = (values > 0).all(axis=0) & (values.max(axis=0) >= _DECADE * np.abs(values.min(axis=0)))
    dt = windows.steps(windows.where(np.arange(windows.of_each))[1])
    dt = np.resize(dt, max(len(dt), len(values)))
    return number_statistics(
        np.resize(values, (len(dt), values.shape[1])), dt, logarithms=np.flatnonzero(wide).tolist()
    )


def _normaliser(known: data.Statistics, channels: Sequence[data.Channel], dimensions: int) -> Normaliser:
    """Statistics of channels, one deviation for all components of a field; 1 where the data do not vary."""
    known = known.by_field(channels)
    shape = (len(channels), *(1,) * dimensions)
    varies = known.deviation > 1e-6 * np.abs(known.mean)  # of float32 values
    deviation = np.where(varies, known.deviation, 1.0)
    return Normaliser(known.mean.reshape(shape).astype(np.float32), deviation.reshape(shape).astype(np.float32))


def _model(
    architecture: Architecture,
    windows: data.TrajectoryWindows,
    moments: data.Moments,
    stepping: Stepping,
    key: PRNGKeyArray,
) -> Conditioned:
    """The untrained model with the statistics of its training data."""
    layout, history, grid = windows.trajectories.layout, windows.history, windows.grid
    dimensions, numbers = len(grid.shape), _numbers(windows)
    frames = _normaliser(moments.frames, layout.channels, dimensions)
    step = stepping.increments and history
    output = Increments(_normaliser(moments.deltas, layout.channels, dimensions)) if step else NextFrames(frames)
    into = len(layout.fixed) + history * len(layout.channels)
    out = stepping.bundle * len(layout.channels)
    make = chosen("a conditioning", stepping.conditioning, CONDITIONING)
    return Conditioned(
        make(architecture.make, into, out, numbers=numbers.size, grid=grid, key=key),
        frames,
        output,
        fixed=_normaliser(moments.fixed, layout.fixed, dimensions) if layout.fixed else None,
        numbers=numbers,
        history=history,
        bundle=stepping.bundle,
    )


def _rollouts(part: data.Trajectories, history: int, steps: int) -> Rollouts:
    """Rollouts of up to so many steps over the frames that there are."""
    longest = part.layout.frames - history
    if longest < 1:
        raise ValueError(
            f"Expected more than {history} frames, which the model sees, for validation and test, got "
            f"{longest + history}. Use a shorter --history, or longer trajectories."
        )
    return Rollouts(part, history, min(steps, longest))


def surrogate(
    architecture: Architecture, source: DataPath, stepping: Stepping, training: Training, **options: Any
) -> Experiment:
    """An experiment that trains a surrogate of the data of a path.

    Training data are windows of frames of the training trajectories, an epoch is one window of each. Statistics of the
    training data are part of the model. Tests are rollouts from the first frames, see `rollout_metrics`. The folder of
    the run also holds `data.json`, which says what the data are, and `errors.json`, the errors of each frame.

    Args:
        architecture: From `sciml.zoo.MODELS`, or any `zoo.Architecture`.
        source: The data.
        stepping: How the model steps in time.
        training: Epochs or steps, batch, learning rate, seed.
        **options: Other attributes of `Experiment`.

    Raises:
        FileNotFoundError: If there are no data.
        ValueError: If the data are in no known format or not those of the fingerprint, or if the options do not fit
            them.
    """
    source, training, parts, windows, _ = _prepared(source, stepping, training)
    moments = parallel.after_first(lambda: data.moments(parts.train))  # which keeps them in a file
    make = lambda key: within_memory(lambda: _model(architecture, windows, moments, stepping, key))
    steps = training.steps_for(len(parts.train))
    rollout = stepping.rollout or parts.test.layout.frames
    test = _rollouts(parts.test, windows.history, rollout)

    def hooks(folder: pathlib.Path) -> Sequence[train.Every]:
        write_json(folder / "data.json", data_card(source, parts, normalisation=_NORMALISATION))
        return ()

    built = Experiment(
        model=make(jax.random.key(training.seed)),
        loss=_loss(stepping, windows.history),
        optimiser=optimiser_of(architecture, training, steps),
        train=data.Streamed(windows) if source.load == "stream" else windows.in_memory(),
        steps=steps,
        batch=training.batch,
        accumulate=training.accumulate,
        evaluate=rollout_metrics,
        test=test,
        baselines=baseline_metrics(moments.frames.mean),
        validation=_rollouts(parts.validation, windows.history, min(rollout, _VALIDATION_STEPS)),
        figures=draw_errors(test, moments.frames.mean),
        predict=forecasts(calibration_of_rollouts(parts.validation, windows.history)),
        member=make,
        coverage=coverage_of(of_rollouts),
        hooks=hooks,
        seed=training.seed,
    )
    return dataclasses.replace(built, **options)
