"""Conformal bands of operators and surrogates: calibrated on validation data, measured on test data."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sciml import train, uq
from sciml.data import Pairs, Trajectories
from sciml.operators import members_of
from sciml.tasks._surrogate_errors import Forecaster, Rollouts, forecaster

_FLOOR = 1.0  # part of the mean spread of an ensemble that is added to it, so that a scale is nowhere zero
_SAMPLES = 64  # pairs of which the predictions of all members are in memory at once
Batches = Iterator[tuple[Sequence[np.ndarray], np.ndarray]]
"""The predictions of each member, and the truth, of some samples."""


def banded(each: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Centre and scale of bands from the predictions of each member: mean and spread, or one model's own and none.

    Predictions that are not finite become zeros, so that they count as the large errors that they are.
    """
    members = np.stack([np.where(np.isfinite(one), one, 0) for one in each], axis=1)
    scale = uq.spread(members, floor=_FLOOR) if members.shape[1] > 1 else None
    return members.mean(axis=1), scale


def calibrated_bands(batches: Batches, level: float) -> uq.Conformal:
    """Bands that hold at all values of a sample at once, calibrated on some samples; raises as `uq.conformal`."""
    score, found = uq.SupNorm(), []
    for each, truth in batches:
        centre, scale = banded(each)
        found.append(uq.sizes(score, centre, truth, scale))
    return uq.calibrated(np.concatenate(found), level=level, score=score)


def measured(bands: uq.Conformal, batches: Batches) -> dict[str, float]:
    """`coverage`, the part of the samples whose truth is inside everywhere, and `width`.

    The width is the mean of upper minus lower bound, relative to the root mean square of the truth.
    """
    covered, widths, squares = [], [], []
    for each, truth in batches:
        centre, scale = banded(each)
        covered.append(bands.covers(centre, truth, scale))
        widths.append(2 * bands.half_width(centre, scale).mean(axis=tuple(range(1, truth.ndim))))
        squares.append(np.mean(np.square(truth, dtype=np.float64), axis=tuple(range(1, truth.ndim))))
    width, size = np.concatenate(widths).mean(), np.sqrt(np.concatenate(squares).mean())
    return {"coverage": float(np.concatenate(covered).mean()), "width": float(width / size)}


def coverage_of(batches: Callable[[Any, Any], Batches]) -> Callable[[Any, Any, Any, float], dict[str, float]]:
    """`Experiment.coverage` for data of which `(model, data)` gives predictions and truth in batches."""

    def coverage(model: Any, calibration: Any, test: Any, level: float) -> dict[str, float]:
        bands = calibrated_bands(batches(model, calibration), level)
        return {**measured(bands, batches(model, test)), "calibration": float(bands.samples)}

    return coverage


def of_pairs(model: Any, pairs: Pairs) -> Batches:
    """Predictions of the members of an operator, and the true outputs."""
    members = members_of(model)
    for start in range(0, len(pairs), _SAMPLES):
        x, y = pairs[np.arange(start, min(start + _SAMPLES, len(pairs)))]
        yield [np.asarray(train.predict(one, x)) for one in members], np.asarray(y)


def of_rollouts(model: Any, rollouts: Rollouts) -> Batches:
    """Rollouts of the members of a surrogate, and the true frames."""
    each: list[Forecaster] = [forecaster(one) for one in members_of(model)]
    for given, conditions, truth in rollouts.batches():
        yield [np.asarray(one(given, conditions, rollouts.steps)) for one in each], truth


Calibrate = Callable[[Any, int, int, float], uq.Conformal]
"""`(model, steps, channels of a frame, level) -> bands` of so many predicted frames."""


def calibration_of_pairs(pairs: Any) -> Calibrate:
    """How operators between fields are calibrated: on the outputs of validation data, `data.Pairs`.

    Its result raises ValueError if there are no such data, or their outputs are not the frames that are predicted.
    """

    def calibrate(model: Any, steps: int, channels: int, level: float) -> uq.Conformal:
        if not isinstance(pairs, Pairs):
            raise ValueError(
                "Expected pairs of fields as validation data of the run, which calibrate --band, got none."
            )
        if steps * channels != pairs.y.shape[1]:
            raise ValueError(
                f"Expected {pairs.y.shape[1]} predicted channels, as the validation data that calibrate --band have, "
                f"got {steps} frames of {channels}. Ask for one application of the model."
            )
        return calibrated_bands(of_pairs(model, pairs), level)

    return calibrate


def calibration_of_rollouts(trajectories: Trajectories, history: int) -> Calibrate:
    """How surrogates are calibrated: on rollouts of validation trajectories over as many frames as are predicted.

    Its result raises ValueError if these have fewer frames.
    """

    def calibrate(model: Any, steps: int, channels: int, level: float) -> uq.Conformal:
        longest = trajectories.layout.frames - history
        if steps > longest:
            raise ValueError(
                f"Expected up to {longest} predicted frames with --band, as many as the validation trajectories that "
                f"calibrate it have, got {steps}. Use fewer --steps."
            )
        return calibrated_bands(of_rollouts(model, Rollouts(trajectories, history, steps)), level)

    return calibrate
