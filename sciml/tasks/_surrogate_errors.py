"""How surrogates are tested: rollouts from the first frames of trajectories, beside predictions that need no model."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sciml import metrics, plot, train
from sciml.data import Trajectories
from sciml.files import write_json
from sciml.grid import Grid
from sciml.operators import members_of
from sciml.rollout import Conditions, forecast_batch

DIVERGED = 100.0
"""A rollout whose relative error exceeds this, or is not finite, has diverged, and counts with this error in means."""
_BYTES = 64 << 20  # of the frames of a batch
_DRAWN = 16  # test rollouts of which spectra are drawn
Forecaster = Callable[[np.ndarray, Conditions, int], np.ndarray]
"""`(frames (samples, history, channels, *space), conditions, steps) -> (samples, steps, channels, *space)`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rollouts:
    """Trajectories that a model continues from their first frames, or for maps their single frames.

    Attributes:
        trajectories: The truth.
        history: Number of frames that the model is given; 0 for maps.
        steps: Number of frames that it predicts.
    """

    trajectories: Trajectories
    history: int
    steps: int

    def __len__(self) -> int:
        """Number of rollouts."""
        return len(self.trajectories)

    @property
    def grid(self) -> Grid:
        """Where the values are."""
        return self.trajectories.grid

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, Conditions, np.ndarray]:
        """Frames given, conditions, and the true frames of some rollouts."""
        frames = np.arange(self.history + self.steps)
        known = self.trajectories.frames(rows, np.broadcast_to(frames, (len(rows), len(frames))))
        times = self.trajectories.layout.times
        dt = 1.0 if times is None or len(times) < 2 else (times[-1] - times[0]) / (len(times) - 1)
        fixed, parameters = self.trajectories.fixed(rows), self.trajectories.parameters(rows)
        conditions = Conditions(fixed, parameters, np.full(len(rows), dt, np.float32))
        return known[:, : self.history], conditions, known[:, self.history :]

    def batches(self) -> Iterator[tuple[np.ndarray, Conditions, np.ndarray]]:
        """All rollouts in order, in batches that take a bounded part of the memory."""
        each = 4 * (self.history + self.steps) * math.prod(self.trajectories.layout.shape[2:])
        size = max(1, min(64, _BYTES // each))
        for start in range(0, len(self), size):
            yield self.read(np.arange(start, min(start + size, len(self))))


def forecaster(model: Any) -> Forecaster:
    """The rollouts of an `operators.Conditioned`, one step of a map; of an ensemble the mean of its members'."""

    def of_one(member: Any, frames: np.ndarray, conditions: Conditions, n: int) -> np.ndarray:
        step = functools.partial(train.predict, member)
        if not member.history:
            return np.asarray(step(frames, conditions))
        return np.asarray(forecast_batch(step, frames, conditions, n))

    members = members_of(model)
    return lambda frames, conditions, n: np.mean([of_one(one, frames, conditions, n) for one in members], axis=0)


def baselines(rollouts: Rollouts, mean: np.ndarray) -> dict[str, Forecaster]:
    """Predictions that need no model: the last frame again, and the mean of each channel of the training data.

    Args:
        rollouts: What is predicted.
        mean: Means `(channels,)`.
    """
    frame = np.zeros((1, len(rollouts.trajectories.layout.channels), *rollouts.grid.shape), np.float32)

    def persistence(frames: np.ndarray, conditions: Conditions, n: int) -> np.ndarray:
        return np.asarray(jax.vmap(lambda one: metrics.persistence(one, n))(frames))

    def constant(frames: np.ndarray, conditions: Conditions, n: int) -> np.ndarray:
        found = np.asarray(metrics.mean_predictor(frame, n, mean=mean))
        return np.broadcast_to(found, (len(frames), *found.shape))

    return {"persistence": persistence, "mean": constant} if rollouts.history else {"mean": constant}


@dataclasses.dataclass(frozen=True, eq=False)
class Errors:
    """Errors of rollouts, none NaN and none above `DIVERGED`.

    A rollout diverges at the first step whose relative L2 error reaches `DIVERGED`; all of its errors from there on are
    `DIVERGED`. The error of a channel may reach it before, where the truth is nearly zero (nRMSE) or nearly constant
    (VRMSE), and is no divergence.

    Attributes:
        whole: Relative L2 error of all predicted frames of each rollout `(samples,)`.
        steps: Relative L2 error of each frame `(samples, steps)`.
        channels: nRMSE of each frame and channel `(samples, steps, channels)`.
        variance: VRMSE of each frame and channel, of the same shape.
    """

    whole: np.ndarray
    steps: np.ndarray
    channels: np.ndarray
    variance: np.ndarray

    @property
    def diverged(self) -> int:
        """Number of rollouts that diverge."""
        return int((self.steps >= DIVERGED).any(axis=1).sum())

    def summary(self) -> dict[str, float]:
        """Means over rollouts, steps and channels: `relative_l2`, `nrmse`, `vrmse`, of windows, and what diverged.

        A window of steps that the rollouts do not reach is left out.
        """
        found = {
            "relative_l2": float(self.whole.mean()),
            "nrmse": float(self.channels.mean()),
            "vrmse": float(self.variance.mean()),
        }
        for window in metrics.WINDOWS:
            if window.last <= self.steps.shape[1] > 1:
                inside = self.variance[:, window.first - 1 : window.last]
                found[f"vrmse_{window}".replace(":", "_")] = float(inside.mean())
        return {**found, "diverged": float(self.diverged)}

    def quartiles(self) -> dict[str, list[float]]:
        """Lower quartile, median and upper quartile over the rollouts of the error of each frame."""
        low, median, high = plot.quartiles(self.steps)
        return {"low": low.tolist(), "median": median.tolist(), "high": high.tolist()}


def errors_between(prediction: np.ndarray, truth: np.ndarray) -> Errors:
    """The errors of predicted frames `(samples, steps, channels, *space)`."""
    together = (len(truth), 1, -1, *truth.shape[3:])
    whole = metrics.step_errors(metrics.relative_l2, prediction.reshape(together), truth.reshape(together))[:, 0]
    steps, channels, variance = (
        np.minimum(metrics.step_errors(one, prediction, truth), DIVERGED)  # which are infinite in place of NaN
        for one in (metrics.relative_l2, metrics.nrmse, metrics.vrmse)
    )
    gone = np.logical_or.accumulate(steps >= DIVERGED, axis=1)
    return Errors(
        np.where(gone[:, -1], DIVERGED, np.minimum(whole, DIVERGED)),
        np.where(gone, DIVERGED, steps),
        np.where(gone[..., None], DIVERGED, channels),
        np.where(gone[..., None], DIVERGED, variance),
    )


def joined(parts: Iterable[Errors]) -> Errors:
    """The errors of the rollouts of several batches."""
    names = [field.name for field in dataclasses.fields(Errors)]
    known = list(parts)
    return Errors(**{name: np.concatenate([getattr(one, name) for one in known]) for name in names})


def errors_of(forecast: Forecaster, rollouts: Rollouts) -> Errors:
    """The errors of all rollouts; data that exceed the memory are read in batches."""
    return joined(
        errors_between(np.asarray(forecast(frames, conditions, rollouts.steps)), truth)
        for frames, conditions, truth in rollouts.batches()
    )


def rollout_metrics(model: Any, rollouts: Rollouts) -> dict[str, float]:
    """Errors of a model: `relative_l2` of whole rollouts, and what `Errors.summary` gives, means over the rollouts."""
    return errors_of(forecaster(model), rollouts).summary()


def baseline_metrics(mean: np.ndarray) -> Callable[[Rollouts], dict[str, dict[str, float]]]:
    """`Experiment.baselines`: what `rollout_metrics` gives for predictions that need no model; see `baselines`."""
    return lambda rollouts: {
        name: errors_of(one, rollouts).summary() for name, one in baselines(rollouts, mean).items()
    }


def draw_errors(rollouts: Rollouts, mean: np.ndarray) -> Callable[[Mapping[str, Any], pathlib.Path], None]:
    """`Experiment.figures`: errors over time, spectra, best, median and worst rollouts, an animation; `errors.json`."""

    def figures(models: Mapping[str, Any], folder: pathlib.Path) -> None:
        forecasts = {name: forecaster(model) for name, model in models.items()}
        simple = baselines(rollouts, mean)
        found = {name: errors_of(one, rollouts) for name, one in {**forecasts, **simple}.items()}
        folder.mkdir(parents=True, exist_ok=True)
        run = folder.parent if (folder.parent / "run.json").exists() else folder
        write_json(run / "errors.json", _as_json(found, rollouts.steps, list(forecasts)))
        if rollouts.steps > 1:
            _over_time(found, rollouts, list(simple), folder)
        _samples(forecasts, found[next(iter(forecasts))], rollouts, folder)

    return figures


def _as_json(found: Mapping[str, Errors], steps: int, models: Sequence[str]) -> dict[str, Any]:
    """Quartiles of the errors of each frame; the only model is called `model`."""
    name_of = lambda name: "model" if [name] == list(models) else name
    return {
        "steps": list(range(1, steps + 1)),
        "models": {name_of(name): {"relative_l2": one.quartiles()} for name, one in found.items()},
        "diverged": {
            name_of(name): f"{one.diverged} of {len(one.whole)}" for name, one in found.items() if one.diverged
        },
    }


def _over_time(found: Mapping[str, Errors], rollouts: Rollouts, simple: list[str], folder: pathlib.Path) -> None:
    figure = plot.error_over_time(
        range(1, rollouts.steps + 1),
        {name: plot.quartiles(one.steps) for name, one in found.items()},
        y="relative L2 error",
        notes={name: f"{one.diverged} of {len(one.whole)} diverged" for name, one in found.items() if one.diverged},
        baselines=simple,
    )
    plot.save(figure, folder / "error_over_time.png")


def _samples(forecasts: Mapping[str, Forecaster], errors: Errors, rollouts: Rollouts, folder: pathlib.Path) -> None:
    """Best, median and worst rollout at the last step, spectra, and the median one as an animation."""
    layout = rollouts.trajectories.layout
    names, lengths = [one.name for one in layout.channels], layout.grid.lengths
    chosen = plot.ranks(errors.whole)
    rows = np.array(list(chosen.values()))
    given, conditions, truth = rollouts.read(rows)
    predictions = {name: one(given, conditions, rollouts.steps) for name, one in forecasts.items()}
    seen = given[:, -1] if rollouts.history else np.asarray(conditions.fixed)
    last = {name: one[:, -1] for name, one in predictions.items()}
    drawn = plot.best_to_worst(seen, truth[:, -1], last, errors=errors.whole[rows], names=names, numbers=rows.tolist())
    plot.save_each(drawn, folder / "predictions.png")
    few = np.arange(min(_DRAWN, len(rollouts)))
    given, conditions, all_truth = rollouts.read(few)
    all_found = {name: one(given, conditions, rollouts.steps) for name, one in forecasts.items()}
    steps = sorted({0, rollouts.steps // 2, rollouts.steps - 1})
    plot.save_each(
        plot.spectra(all_truth, all_found, steps=steps, names=names, lengths=lengths), folder / "spectra.png"
    )
    if rollouts.steps > 1:
        middle = list(chosen).index("median" if "median" in chosen else "best")
        films = {name: one[middle] for name, one in predictions.items()}
        plot.animation(truth[middle], films, folder / "rollout.gif", names=names)
