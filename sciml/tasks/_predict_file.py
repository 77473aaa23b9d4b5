"""Predictions of operators and forecasts of surrogates for a user's file, in any format."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from sciml import data, plot, train, uq
from sciml.data import Layout
from sciml.experiment import Count, Prediction, Whole, check_settings
from sciml.operators import Conditioned, members_of
from sciml.rollout import Conditions, rollout_batch
from sciml.tasks._bands import Calibrate, banded
from sciml.tasks._field_errors import Guarantee
from sciml.tasks._forecast_files import check_free, check_kind, write_forecast
from sciml.tasks._surrogate_errors import Forecaster, Rollouts, errors_between, forecaster, joined

_DRAWN = 3  # samples
_DRAWINGS = (".png", ".gif")  # of which further channels have further ones, -2 and so on


@dataclasses.dataclass(frozen=True)
class ForecastFile:
    """Continue the first frames of the samples of a file, or map its fixed fields, and write the predicted frames."""

    steps: Whole = 0
    """Number of predicted frames; 0 for as many as the data have."""
    samples: Whole = 0
    """Number of samples; 0 for all."""
    x: str | None = None
    """Name of the array of inputs, where the format does not tell it."""
    y: str | None = None
    """Name of the array of frames, where the format does not tell it."""
    axes: tuple[str, ...] = ()
    """Axes of the array in their order, of sample, time, channel, x, y, z, where the format does not tell them."""
    every: Count = 1
    """Each so-many-th point along each axis."""
    stride: Count = 1
    """Each so-many-th frame."""
    band: float | None = None
    """Probability, such as 0.9, with which a band holds the truth of a sample at all of its values at once. The
    validation data of the run calibrate it, and its bounds are written beside the prediction, -lower and -upper."""
    certify: float | None = None
    """Largest relative L2 error, such as 1e-3, that the written fields keep for certain, as solutions of the equation
    of the run: predictions with larger bounds are corrected by the solver."""

    def __post_init__(self) -> None:
        check_settings(self)


def forecast_file(
    model: Any,
    path: pathlib.Path,
    out: pathlib.Path,
    options: ForecastFile,
    *,
    calibrate: Calibrate | None = None,
    guarantee: Guarantee | None = None,
) -> Sequence[str]:
    """Reads a file, predicts, and writes the predicted frames, a picture and an animation.

    Args:
        model: The trained model, an `operators.Conditioned` or an operator on fields.
        path: Data in any format.
        out: A file, see `write_forecast`; the picture and the animation get its name.
        options: What is predicted.
        calibrate: Bands for `options.band`.
        guarantee: Corrections for `options.certify`.

    Returns:
        Lines to print.

    Raises:
        FileExistsError: If the file, its bounds, its picture or its animation exists.
        FileNotFoundError: If there are no data.
        FloatingPointError: If a prediction is not finite, or the solver does not reach `options.certify`.
        ValueError: If the data do not fit the model, nothing calibrates a band, or nothing corrects predictions.
    """
    check_kind(out)
    for written in (
        out,
        *_bounds(out),
        *(out.with_name(f"{out.stem}{page}{kind}") for page in ("", "-2") for kind in _DRAWINGS),
    ):
        check_free(written)
    found = data.open_data(path, data.Hints(options.x, options.y, options.axes))
    found = found.select(times=slice(None, None, options.stride), every=options.every)
    found = found.take(slice(0, options.samples or None))
    history, each = _applied(model, found.layout, path)
    known = found.layout.frames - history
    steps = options.steps or known
    if steps < 1:
        raise ValueError(f"Expected --steps N, since {path} holds no frames after the {history} that are given.")
    if not history and steps > 1:
        raise ValueError(f"Expected one frame of a map, got --steps {steps}. Leave out --steps.")
    bands = _calibrated(model, calibrate, steps, found.layout, options)
    corrections = _Corrections(_guaranteed(guarantee, history, options), options.certify or 0.0)
    rollouts, frames, errors, bounds = Rollouts(found, history, min(steps, known)), [], [], []
    for given, conditions, truth in rollouts.batches():
        members = [np.asarray(one(given, conditions, steps)) for one in each]
        frames.append(corrections.kept(conditions.fixed, np.mean(members, axis=0)))
        if bands is not None:
            bounds.append(bands.band(*banded(members)))
        if truth.shape[1] == steps:
            errors.append(errors_between(frames[-1], truth))
    predicted = np.concatenate(frames)
    if not np.isfinite(predicted).all():
        bad = np.flatnonzero(~np.isfinite(predicted).reshape(len(predicted), -1).all(axis=1))
        raise FloatingPointError(
            f"The forecast of {len(bad)} of {len(predicted)} samples is not finite, the first is sample {bad[0]}. "
            "Nothing was written. Ask for fewer --steps, or train with --unroll."
        )
    layout = _layout(found.layout, history, steps)
    write_forecast(out, predicted, layout)
    for path, parts in zip(_bounds(out), zip(*bounds, strict=True), strict=False):
        write_forecast(path, np.concatenate(parts).astype(predicted.dtype), layout)
    lines = [f"{out}: {len(predicted)} samples, {steps} frames of {', '.join(one.name for one in layout.channels)}"]
    if errors:
        lines.append(f"relative L2 error against the frames of the file: {joined(errors).whole.mean():.4g}")
    if bands is not None:
        lines.append(f"{' and '.join(map(str, _bounds(out)))}: bounds that hold with probability {options.band:g}")
    return [*lines, *corrections.lines(), *_draw(predicted, rollouts, layout, out)]


def forecasts(calibrate: Calibrate, guarantee: Guarantee | None = None) -> Prediction:
    """`Experiment.predict` of operators and surrogates, with bands that are calibrated so, and such corrections."""
    return Prediction(ForecastFile, functools.partial(forecast_file, calibrate=calibrate, guarantee=guarantee))


@dataclasses.dataclass
class _Corrections:
    """Predictions that keep a tolerance, batch after batch; without a guarantee they stay as they are."""

    guarantee: Guarantee | None
    tolerance: float
    found: list[uq.Certificate] = dataclasses.field(default_factory=list)

    def kept(self, fixed: Any, predicted: np.ndarray) -> np.ndarray:
        """The frames of a batch, of which there is one, for its fixed fields."""
        if self.guarantee is None:
            return predicted
        self.found.append(self.guarantee.correct(np.asarray(fixed), predicted[:, 0], self.tolerance))
        missed = np.sum(~(self.found[-1].bound <= self.tolerance))
        if missed:
            raise FloatingPointError(
                f"The solver did not reach --certify {self.tolerance:g} for {missed} of {len(predicted)} samples. "
                "Nothing was written. Ask for a larger tolerance."
            )
        return np.asarray(self.found[-1].field)[:, None]  # in double precision, like the bound

    def lines(self) -> list[str]:
        """What was accepted and corrected."""
        if not self.found:
            return []
        accepted = np.concatenate([one.accepted for one in self.found])
        bound = max(float(np.max(one.bound)) for one in self.found)
        return [
            f"certified: relative L2 errors of at most {bound:.2g}, {accepted.sum()} of {len(accepted)} predictions "
            "accepted, the others corrected by the solver"
        ]


def _guaranteed(guarantee: Guarantee | None, history: int, options: ForecastFile) -> Guarantee | None:
    """The corrections that are asked for."""
    if options.certify is None:
        return None
    if options.band is not None:
        raise ValueError("Expected --band or --certify, got both: a band is one of predictions as they are.")
    if guarantee is None or history:
        raise ValueError(
            "Expected an experiment whose predictions have bounds, such as darcy, for --certify, got another. "
            "Leave out --certify."
        )
    return guarantee


def _bounds(out: pathlib.Path) -> list[pathlib.Path]:
    """The files of lower and upper bounds."""
    return [out.with_name(f"{out.stem}-{side}{out.suffix}") for side in ("lower", "upper")]


def _calibrated(
    model: Any, calibrate: Calibrate | None, steps: int, layout: Layout, options: ForecastFile
) -> uq.Conformal | None:
    """The bands that are asked for."""
    if options.band is None:
        return None
    if calibrate is None:
        raise ValueError("Expected a run with validation data that calibrate --band, got none. Leave out --band.")
    return calibrate(model, steps, len(layout.channels), options.band)


def _applied(model: Any, layout: Layout, path: pathlib.Path) -> tuple[int, list[Forecaster]]:
    """Number of frames that a model sees, and how its members predict: conditioned models, and operators on fields.

    Raises:
        ValueError: If the data do not fit the model, or have too few frames.
    """
    members = members_of(model)
    if isinstance(members[0], Conditioned):
        _check(members[0], layout, path)
        history, found = members[0].history, [forecaster(one) for one in members]
    else:
        history = _history(members[0], layout, path)
        found = [_of_fields(functools.partial(train.predict, one)) for one in members]
    if layout.frames < history:
        raise ValueError(f"Expected at least {history} frames, which the model sees, got {layout.frames} in {path}.")
    return history, found


def _history(model: Any, layout: Layout, path: pathlib.Path) -> int:
    """Number of frames that an operator on fields sees: 0 if it maps the fixed fields."""
    fixed, channels = len(layout.fixed), len(layout.channels)
    reason, counts = "", ([0] if fixed else []) + list(range(1, layout.frames + 1))
    for history in counts:
        x = jax.ShapeDtypeStruct((history * channels or fixed, *layout.grid.shape), np.float32)
        try:
            y = eqx.filter_eval_shape(model, x)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            continue
        if y.shape[0] % channels == 0 and y.shape[1:] == layout.grid.shape:
            return history
        reason = f"the model returns a field of shape {y.shape}"
    raise ValueError(
        f"Expected data that the model of the run maps, got {fixed} fixed fields, and frames of {channels} channels on "
        f"{' x '.join(map(str, layout.grid.shape))} points, in {path} ({reason:.300}). Use data like those of the "
        "training; --every thins the points."
    )


def _of_fields(predict: Callable[[np.ndarray], np.ndarray]) -> Forecaster:
    """The rollouts of an operator on fields, which sees its frames as channels."""

    def forecast(frames: np.ndarray, conditions: Conditions, n: int) -> np.ndarray:
        samples, history, channels, *space = frames.shape
        if not history:
            return np.asarray(predict(np.asarray(conditions.fixed))).reshape(samples, 1, channels, *space)
        found = rollout_batch(predict, frames.reshape(samples, -1, *space), n)
        return found.reshape(samples, -1, channels, *space)[:, :n]

    return forecast


def _check(model: Conditioned, layout: Layout, path: pathlib.Path) -> None:
    channels = model.frames.mean.value.shape[0]
    fixed = 0 if model.fixed is None else model.fixed.mean.value.shape[0]
    numbers = model.numbers.parameters
    parameters = 0 if numbers is None else numbers.mean.value.shape[0]
    wanted = {"channels": channels, "fixed fields": fixed, "parameters": parameters}
    got = {
        "channels": len(layout.channels),
        "fixed fields": len(layout.fixed),
        "parameters": len(layout.parameters),
    }
    for name, count in wanted.items():
        if got[name] != count:
            raise ValueError(
                f"Expected {count} {name} as in the training data of the run, got {got[name]} in {path}. "
                "`sciml data info` shows what the data hold."
            )


def _layout(known: Layout, history: int, steps: int) -> Layout:
    """The layout of predicted frames: their times go on with the last time step."""
    times = known.times
    if times is not None:
        dt = times[-1] - times[-2] if len(times) > 1 else 1.0
        after = times[history : history + steps]
        last = after[-1] if len(after) else times[-1]
        times = np.concatenate((after, last + dt * np.arange(1, steps - len(after) + 1)))
    return dataclasses.replace(
        known,
        format="forecast",
        evidence="predicted by a surrogate",
        frames=steps,
        times=times,
        fixed=(),
        parameters=(),
        splits={},
    )


def _draw(predicted: np.ndarray, rollouts: Rollouts, layout: Layout, out: pathlib.Path) -> list[str]:
    """Draws the last frames of the first samples and the first sample over time, beside the truth where it is known."""
    rows = np.arange(min(_DRAWN, len(predicted)))
    given, conditions, truth = rollouts.read(rows)
    seen = given[:, -1] if rollouts.history else np.asarray(conditions.fixed)
    names, steps, found = [one.name for one in layout.channels], predicted.shape[1], predicted[rows]
    known = truth.shape[1] == steps
    reference, truth = ("truth", truth) if known else ("forecast", found)
    models = {"forecast": found} if known else {}
    last = {name: one[:, -1] for name, one in models.items()}
    figures = plot.all_fields(seen, truth[:, -1], last, names=names, reference=reference)
    written = plot.save_each(figures, out.with_suffix(".png"))
    if steps > 1:
        times = None if layout.times is None else layout.times.tolist()
        films, target = {name: one[0] for name, one in models.items()}, out.with_suffix(".gif")
        written += plot.animation(truth[0], films, target, names=names, times=times, reference=reference)
    return [f"{path}" for path in written]
