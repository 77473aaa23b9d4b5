"""Means of errors over rollouts: for each step, over windows of steps, over time. Diverged rollouts are counted."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sciml.metrics._channels import Metric, channel_sum, nrmse
from sciml.metrics._steps import Trajectories, step_errors


@dataclasses.dataclass(frozen=True)
class Window:
    """Steps `first` to `last` of a rollout, both included; the first predicted frame is step 1.

    Raises:
        ValueError: Unless 1 <= first <= last.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise ValueError(
                f"Expected a window 1 <= first <= last, got first {self.first} and last {self.last}. "
                "Steps are counted from 1."
            )

    def __str__(self) -> str:
        """`6:12`, or `1` for a single step."""
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


WINDOWS = (Window(1, 1), Window(6, 12), Window(13, 30))
"""One step, and the two windows of The Well's tables (Ohana et al., NeurIPS 2024).

The Well's 6:12 and 13:30 are steps 6 to 12 and 13 to 30, both ends included, counted from 1 at the first predicted
frame, after 4 true frames: its trainer (package the_well 1.2.0) cuts the errors of 30 steps before the indices
1, 2, 5 and 12, counted from 0.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class WindowSummary:
    """Errors over a window of steps, averaged over the steps first, then over the rollouts.

    Attributes:
        mean: Mean over all rollouts; infinite if any has diverged by the last step of the window.
        stayed: Mean over the rollouts that have not diverged by the last step; infinite if all have.
        diverged: Number of rollouts that have diverged by the last step.
        samples: Number of all rollouts.
    """

    mean: Float[np.ndarray, "*values"]
    stayed: Float[np.ndarray, "*values"]
    diverged: int
    samples: int

    def __str__(self) -> str:
        """`0.031`, or the mean over those that stayed and the number of the others; channels are averaged."""
        kept = f"{np.mean(self.stayed):.4g}"
        return f"{kept} without {self.diverged} of {self.samples} that diverged" if self.diverged else kept


@dataclasses.dataclass(frozen=True, eq=False)
class RolloutSummary:
    """Errors of rollouts. `values` is the shape of the metric: none, or one axis of channels.

    Attributes:
        mean: Mean over all rollouts at each step; infinite at the steps by which any has diverged.
        stayed: Mean over the rollouts that have not diverged by the step; infinite if all have.
        diverged: Number of rollouts that have diverged by each step; it never falls.
        samples: Number of all rollouts.
        windows: Summaries of the windows that the rollout reaches, by name (`1`, `6:12`, `13:30`). A window whose last
            step lies beyond the rollout is left out.
    """

    mean: Float[np.ndarray, "time *values"]
    stayed: Float[np.ndarray, "time *values"]
    diverged: Int[np.ndarray, " time"]
    samples: int
    windows: Mapping[str, WindowSummary]


@dataclasses.dataclass(frozen=True, eq=False)
class RolloutErrors:
    """Means of a metric over rollouts, batch by batch: `RolloutErrors(vrmse).add(u, r).add(v, s).result()`.

    A rollout diverges at the first step whose error is not finite or exceeds `bound` in any channel, and counts as
    diverged from then on, whatever its later frames are. No mean over all rollouts is finite where one has diverged;
    means over the others are given next to the counts. An error is infinite as well where a relative metric meets a
    truth that is zero everywhere: take `vrmse` or an epsilon for such data.

    `add` returns a new object. Sums are in float64, so that the result does not depend on the batches beyond rounding.

    Args:
        metric: As in `step_errors`: an error that is small when the prediction is good.
        bound: Largest error, in the units of the metric, of a rollout that has not diverged.
        windows: Windows of steps to average over.
    """

    metric: Metric
    bound: float = np.inf
    windows: Sequence[Window] = WINDOWS
    sums: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    """What was added so far."""

    def add(self, predictions: Trajectories, truths: Trajectories) -> "RolloutErrors":
        """With some more rollouts.

        Args:
            predictions: Predicted frames, without the frames that were given.
            truths: True frames.

        Raises:
            ValueError: As in `step_errors`, or if the rollouts have another number of steps than earlier ones.
        """
        errors = step_errors(self.metric, predictions, truths).astype(np.float64)
        values = tuple(range(2, errors.ndim))
        bad = np.logical_or.accumulate((~(errors <= self.bound) | ~np.isfinite(errors)).any(axis=values), axis=1)
        found: dict[str, Any] = {
            "samples": np.asarray(len(errors)),
            "diverged": bad.sum(axis=0),
            "steps": np.where(_like(bad, errors), 0, errors).sum(axis=0),
        }
        for window in self._reached(errors.shape[1]):
            means = errors[~bad[:, window.last - 1], window.first - 1 : window.last].mean(axis=1)
            found[str(window)] = np.asarray(means.sum(axis=0))
        if self.sums and self.sums["steps"].shape != found["steps"].shape:
            raise ValueError(
                f"Expected errors of shape (time, *values) {self.sums['steps'].shape} as before, got "
                f"{found['steps'].shape}. Rollouts of other lengths need a RolloutErrors of their own."
            )
        total = {name: np.asarray(self.sums[name] + one) for name, one in found.items()} if self.sums else found
        return dataclasses.replace(self, sums=total)

    def result(self) -> RolloutSummary:
        """The means over what was added.

        Raises:
            ValueError: If nothing was added.
        """
        if not self.sums:
            raise ValueError("Expected at least one batch of rollouts, got none. Call add first.")
        samples, diverged, steps = int(self.sums["samples"]), self.sums["diverged"], self.sums["steps"]
        mean = np.where(_like(diverged, steps) > 0, np.inf, steps / samples)
        windows = {}
        for window in self._reached(len(steps)):
            count, total = int(diverged[window.last - 1]), self.sums[str(window)]
            overall = _mean(total, 0 if count else samples)
            windows[str(window)] = WindowSummary(overall, _mean(total, samples - count), count, samples)
        stayed = _mean(steps, _like(samples - diverged, steps))
        return RolloutSummary(mean, stayed, diverged, samples, windows)

    def _reached(self, steps: int) -> list[Window]:
        return [window for window in self.windows if window.last <= steps]


def _like(x: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """`x` with axes of size 1 appended, for arrays with the axes of errors."""
    return x.reshape(*x.shape, *(1,) * (errors.ndim - x.ndim))


def _mean(total: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """`total / count`, infinite where nothing was counted."""
    return np.where(count == 0, np.inf, total / np.maximum(count, 1))


def mean_nrmse(predictions: Trajectories, truths: Trajectories) -> Float[np.ndarray, " time"]:
    """Mean over the samples of the sum over the channels of `nrmse`, at each step: mean_nRMSE(t) of APEBench.

    Infinite from the first step on at which a rollout is not finite.

    Source: Koehler et al., "APEBench", NeurIPS 2024, arXiv:2411.00180.

    Raises:
        ValueError: As in `step_errors`.
    """
    return RolloutErrors(_SUMMED_NRMSE, windows=()).add(predictions, truths).result().mean


_SUMMED_NRMSE = channel_sum(nrmse)


def geometric_mean(errors: Float[Array | np.ndarray, " time"], *, steps: int | None = None) -> float:
    """exp(mean log error) over the first `steps` steps: APEBench's number of a rollout (100 steps of `mean_nrmse`).

    0 if an error is 0 and none infinite, infinite if an error is.

    Source: Koehler et al., "APEBench", NeurIPS 2024, arXiv:2411.00180.

    Args:
        errors: Errors of steps 1, 2, ...
        steps: Number of steps; those that exist if there are fewer, all by default.

    Raises:
        ValueError: If there is no step, or an error is negative or NaN.
    """
    chosen = np.asarray(errors, np.float64)[:steps]
    if len(chosen) == 0 or not (chosen >= 0).all():
        raise ValueError(
            f"A geometric mean needs errors of at least one step that are not negative and not NaN, got {chosen}. "
            "RolloutErrors gives such."
        )
    if np.isinf(chosen).any() or (chosen == 0).any():
        return float(np.where(np.isinf(chosen).any(), np.inf, 0.0))
    return float(np.exp(np.mean(np.log(chosen))))


def correlation_time(
    correlation: Float[Array | np.ndarray, "*curves time"], *, dt: float, threshold: float = 0.8
) -> Float[Array, "*curves"]:
    """The first time at which a correlation falls below a threshold, in units of time; infinite if it never does.

    An infinite time says that the correlation outlasts the rollout: count such curves, or average the curves first.

    Args:
        correlation: Correlations at the times dt, 2 dt, ..., such as `step_errors(pearson, ...).mean(2)`. One that is
            not finite counts as fallen.
        dt: Time between frames.
        threshold: Of the correlation.
    """
    correlation = jnp.asarray(correlation)
    fallen = ~(correlation >= threshold) | ~jnp.isfinite(correlation)
    first = dt * (jnp.argmax(fallen, axis=-1) + 1)
    return jnp.where(jnp.any(fallen, axis=-1), first, jnp.inf).astype(correlation.dtype)
