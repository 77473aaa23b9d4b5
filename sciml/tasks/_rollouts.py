"""Operators that take a step in time: windows of frames to train on, rollouts to test and to draw."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from sciml import plot, train
from sciml.data import Windows, cached, joined_frames
from sciml.metrics import relative_l2
from sciml.operators import members_of
from sciml.rollout import rollout_batch
from sciml.tasks._field_errors import defined
from sciml.tasks._fields import Generated, Parts


def rollout_parts(source: Generated, problem: Any, *, history: int, horizon: int) -> Parts:
    """Windows of `history` frames and the next one for training, and of a whole rollout for validation and test.

    Args:
        source: Numbers of trajectories, seed and folder.
        problem: A problem of `sciml.pdes` whose samples are trajectories of `frames` frames.
        history: Number of frames that the operator sees.
        horizon: Number of frames that a rollout predicts; training uses the frames up to the last of them.

    Raises:
        ValueError: If the problem has fewer frames.
    """
    last = history + horizon
    if last > problem.frames:
        raise ValueError(
            f"{history} frames seen and {horizon} predicted need {last}, the problem has {problem.frames}. "
            f"Use --frames {last}."
        )
    known = cached(problem, source.data, n=sum(source.samples), seed=source.data_seed)
    first, *others = np.split(joined_frames(known), np.cumsum(source.samples)[:2])
    rollouts = (Windows(part, history=history, horizon=horizon, stop=last) if len(part) else None for part in others)
    return Parts(Windows(first, history=history, stop=last), *rollouts)


@jax.jit
def _errors(
    prediction: Float[Array, "samples frames values"], truth: Float[Array, "samples frames values"]
) -> tuple[Float[Array, " samples"], Float[Array, " frames"]]:
    """The error of each sample's frames in one norm, and the mean over the samples of each frame's error."""
    frames = jax.vmap(jax.vmap(relative_l2))(prediction[:, :, None], truth[:, :, None])
    frames = jax.vmap(defined, in_axes=1, out_axes=1)(frames, prediction, truth)
    return defined(jax.vmap(relative_l2)(prediction, truth), prediction, truth), frames.mean(0)


def _rollout(model: Any, x: np.ndarray, horizon: int) -> np.ndarray:
    """The rollout of an operator, of an ensemble the mean of its members' rollouts."""
    each = [rollout_batch(functools.partial(train.predict, one), x, horizon) for one in members_of(model)]
    return np.mean(each, axis=0)


def rollout_errors(model: Any, windows: Windows) -> dict[str, float]:
    """Relative L2 errors of rollouts over the output frames of windows, means over the samples.

    Returns:
        `relative_l2` of all frames in one norm, `each_frame`, the mean of the frames' errors, and `first_frame`. If a
        rollout grows beyond all numbers, the first two are infinite, and the third if its first frame has.
    """
    x, y = windows[np.arange(len(windows))]
    prediction = _rollout(model, x, windows.horizon)
    shape = (len(y), windows.horizon, -1)
    whole, each = _errors(prediction.reshape(shape), y.reshape(shape))
    return {"relative_l2": float(whole.mean()), "each_frame": float(each.mean()), "first_frame": float(each[0])}


def draw_rollouts(windows: Windows) -> Callable[[Mapping[str, Any], pathlib.Path], None]:
    """`Experiment.figures` that draws the last frames of the first three rollouts beside the first channel seen."""

    def figures(models: Mapping[str, Any], folder: pathlib.Path) -> None:
        x, y = windows[np.arange(min(3, len(windows)))]
        found = {name: _rollout(model, x, windows.horizon)[:, -1] for name, model in models.items()}
        plot.save(plot.predictions(x[:, -1], y[:, -1], found), folder / "predictions.png")

    return figures
