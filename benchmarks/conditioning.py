"""What is a viscosity worth to a model of Burgers' equation, and is it better told by channels or by FiLM?

    python benchmarks/conditioning.py

Trajectories of 11 frames on 64 points, viscosities log-uniform from 0.003 to 0.1: training on 16 of them with 16
trajectories each, test on 8 others within the range. One FNO predicts increments; it is told nothing, the logarithm of
the viscosity as a channel (`AsChannels`), or by scales and shifts (`FiLM`). All are trained by the same number of
one-step training steps; each gets the same three trials of the learning rate, with another seed, judged by rollouts on
the last 4 trajectories of each training viscosity. The table has 3 seeds. Killed, it goes on. Writes
results/conditioning.json.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import forecast_training as forecasts
import jax
import numpy as np
import timer

from sciml import data, losses, train
from sciml.operators import FNO, Conditioned, FiLM, Increments, Numbers, as_channels, number_statistics, per_channel
from sciml.pdes import Burgers

HERE = pathlib.Path(__file__).resolve().parent
LOW, HIGH, FRAMES, EVERY, OF_EACH, STEPS, BATCH, TUNING_SEED = 0.003, 0.1, 10, 4, 16, 600, 32, 100
TRAINING = tuple(np.geomspace(LOW, HIGH, 16))
TEST = tuple(np.sqrt(np.asarray(TRAINING[:-1:2]) * np.asarray(TRAINING[1::2])))
RATES = (2e-3, 5e-3, 1.2e-2)
fno = functools.partial(FNO, modes=(24,), width=24, depth=3)
FORMS: dict[str, Callable[..., Any]] = {
    "unconditioned": as_channels,
    "channels": as_channels,
    "film": functools.partial(FiLM, width=24),
}


def trajectories(viscosities: tuple[float, ...], seed: int) -> data.Trajectories:
    """`OF_EACH` trajectories of each viscosity, solved on 256 points, with the viscosity as their parameter."""
    problem = Burgers(resolution=64 * EVERY, frames=FRAMES, viscosity=viscosities[0])
    frames = []
    for i, viscosity in enumerate(viscosities):
        pairs = data.draw(dataclasses.replace(problem, viscosity=float(viscosity)), n=OF_EACH, seed=seed + i)
        frames.append(np.concatenate((pairs.x, pairs.y), axis=1))
    values = np.concatenate(frames)[:, :, None]
    layout = data.Layout(
        "generated",
        "sciml.pdes.Burgers",
        len(values),
        FRAMES + 1,
        (data.Channel("u"),),
        problem.grid,
        times=np.linspace(0, problem.time, FRAMES + 1),
        parameters=("viscosity",),
    )
    numbers = np.repeat(np.asarray(viscosities, np.float32), OF_EACH)[:, None]
    return data.Trajectories(data.InMemory(values, layout, parameters=numbers)).select(every=EVERY).in_memory()


def model_for(form: str, known: data.Trajectories, seed: int) -> Conditioned:
    """The FNO in one form, with the statistics of training trajectories."""
    found = known[:]
    joined = lambda x: x.reshape(-1, *x.shape[2:])
    frames, steps = per_channel(joined(found["frames"])), per_channel(joined(np.diff(found["frames"], axis=1)))
    told = number_statistics(found["parameters"], np.ones(len(known), np.float32), logarithms=(0,))
    numbers = Numbers() if form == "unconditioned" else told
    key = jax.random.key(seed)
    inner = FORMS[form](fno, 1, 1, numbers=numbers.size, grid=known.grid, key=key)
    return Conditioned(inner, frames, Increments(steps), numbers=numbers)


def run(form: str, lr: float, seed: int, kept: data.Trajectories, judge: data.Trajectories) -> dict:
    """Errors of one training at the last frame and at the first, means over the samples of each viscosity."""
    windows = data.TrajectoryWindows(kept)
    model = model_for(form, kept, seed)
    model, seconds = forecasts.trained(model, losses.Unrolled(), windows, steps=STEPS, batch=BATCH, lr=lr, seed=seed)
    errors = forecasts.rollout_errors(model, judge)
    viscosities = judge[:]["parameters"][:, 0]
    return {
        "seconds": round(seconds, 2),
        "parameters": train.parameters(model),
        "step_1": float(errors[:, 0].mean()),
        f"step_{FRAMES}": float(errors[:, -1].mean()),
        "by_viscosity": {f"{v:.4g}": float(errors[viscosities == v, -1].mean()) for v in np.unique(viscosities)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    known, test = trajectories(TRAINING, 0), trajectories(TEST, 1000)
    which = np.arange(len(known)) % OF_EACH < OF_EACH - 4
    kept, validation = known.take(np.flatnonzero(which)), known.take(np.flatnonzero(~which))
    results = forecasts.Results(HERE / "results" / "conditioning.json")
    results.known["machine"] = timer.machine(os.cpu_count() or 1)
    results.known["settings"] = {"steps": STEPS, "batch": BATCH, "error": f"relative L2 at step {FRAMES}"}
    summary = {}
    for form in FORMS:
        tried = {}
        for lr in RATES:
            make = functools.partial(run, form, lr, TUNING_SEED, kept, validation)
            error = results.get("tuning", f"{form}, lr {lr:g}", make)[f"step_{FRAMES}"]
            tried[lr] = error if np.isfinite(error) else np.inf
        best = min(tried, key=lambda lr: tried[lr])
        found = [
            results.get("runs", f"{form}, seed {seed}", functools.partial(run, form, best, seed, kept, test))
            for seed in range(options.seeds)
        ]
        summary[form] = {"lr": best, "parameters": found[0]["parameters"]}
        for key in ("step_1", f"step_{FRAMES}"):
            values = [one[key] for one in found]
            summary[form][key] = {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
        summary[form]["by_viscosity"] = {
            v: statistics.mean(one["by_viscosity"][v] for one in found) for v in found[0]["by_viscosity"]
        }
        print(form, summary[form], flush=True)
    results.known["summary"] = summary
    results.write()


if __name__ == "__main__":
    main()
