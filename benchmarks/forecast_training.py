"""What unrolled.py and conditioning.py share: training on windows, errors of rollouts, results that are resumed."""

import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from sciml import data, losses, train
from sciml.metrics import relative_l2
from sciml.operators import Conditioned
from sciml.rollout import Conditions, forecast_batch


class Results:
    """Results by name, written after each one, so that a killed benchmark goes on."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, section: str, name: str, make: Callable[[], Any]) -> Any:
        """The result of that name; made and written if there is none."""
        part = self.known.setdefault(section, {})
        if name not in part:
            part[name] = make()
            print(section, name, part[name], flush=True)
            self.write()
        return part[name]

    def write(self) -> None:
        """Writes all results."""
        self._path.write_text(json.dumps(self.known, indent=2) + "\n")


@functools.cache
def _step(loss: losses.AbstractForecastLoss) -> Callable[..., Any]:
    """One compiled step serves all learning rates and lengths, which are part of the state."""
    return train.make_step(loss, train.clipped_adamw(1.0, steps=1), fetch=data.TrajectoryWindows.fetch)


def trained(
    model: Conditioned,
    loss: losses.AbstractForecastLoss,
    known: data.TrajectoryWindows,
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> tuple[Conditioned, float]:
    """The model after so many steps, and their seconds without compilation."""
    which = functools.partial(data.rows, len(known), batch, seed)
    batches, step = train.resident(known, which), _step(loss)
    fresh = lambda: train.init(model, train.clipped_adamw(lr, steps=steps))
    item = lambda k: jax.tree.map(lambda array: array[None], batches.item(k))
    jax.block_until_ready(step(fresh(), batches.source, item(0))[1])
    state, begin = fresh(), time.perf_counter()
    for k in range(steps):
        state, logs = step(state, batches.source, item(k))
    jax.block_until_ready(logs)
    return state.model, time.perf_counter() - begin


@eqx.filter_jit
def predict(model: Conditioned, frames: Any, conditions: Conditions) -> Any:
    """The next frames of many samples."""
    return jax.vmap(model)(frames, conditions)


_frame_errors = jax.jit(jax.vmap(jax.vmap(relative_l2)))


def rollout_errors(model: Conditioned, known: data.Trajectories) -> np.ndarray:
    """Relative L2 errors `(samples, frames - 1)` of each frame of rollouts from the first one."""
    windows = data.TrajectoryWindows(known, horizon=known.layout.frames - 1)
    found = windows[:]
    start, later = found["frames"][:, :1], found["frames"][:, 1:]
    predicted = forecast_batch(functools.partial(predict, model), start, Conditions.of(found), later.shape[1])
    return np.asarray(_frame_errors(predicted, later))
