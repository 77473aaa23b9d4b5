"""Which loss makes the best forecasts after 16 steps at equal cost: one step, unrolled, pushforward, or noise?

    python benchmarks/unrolled.py [--data FOLDER]

The Burgers pairs that are distributed with neuraloperator are trajectories of 17 frames on 16 points. One FNO predicts
increments. Costs are counted in model evaluations, a gradient for two of them: a training step of one evaluation with
its gradient costs 3, and each loss takes as many steps as cost as much as 600 of them. Each loss gets six trials of its
learning rate and its own setting, with another seed, and keeps the one with the lowest error at step 16 on 100 of the
800 training trajectories; the table has the test trajectories and 3 seeds. Killed, it goes on. Writes
results/unrolled.json.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import statistics

import forecast_training as forecasts
import jax
import numpy as np
import timer

from sciml import data, losses
from sciml.grid import Grid, Periodic
from sciml.operators import FNO, AsChannels, Conditioned, Increments, per_channel

HERE = pathlib.Path(__file__).resolve().parent
STEPS, BATCH, UNROLLED, TUNING_SEED = 600, 64, 4, 100
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A loss and a learning rate; `setting` names what else was tried."""

    loss: losses.AbstractForecastLoss
    lr: float
    setting: str = ""

    def __str__(self) -> str:
        return f"lr {self.lr:g}{self.setting}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss with all of its trials, and the model evaluations of one of its training steps."""

    evaluations: int
    trials: list[Trial]

    @property
    def steps(self) -> int:
        return STEPS * 3 // self.evaluations


ROWS = {
    "one step": Row(3, [Trial(losses.Unrolled(1), lr) for lr in RATES]),
    "unrolled": Row(3 * UNROLLED, [Trial(losses.Unrolled(UNROLLED), lr) for lr in RATES]),
    "unrolled, cut": Row(3 * UNROLLED, [Trial(losses.Unrolled(UNROLLED, cut=1), lr) for lr in RATES]),
    "pushforward": Row(  # the first and the last step have gradients
        UNROLLED + 4,
        [
            Trial(losses.Pushforward(UNROLLED, one_step=weight), lr, f", one-step error times {weight:g}")
            for lr in RATES[1::2]
            for weight in (0.25, 1.0)
        ],
    ),
    "pushforward, last step alone": Row(
        UNROLLED + 2, [Trial(losses.Pushforward(UNROLLED, one_step=0.0), lr) for lr in RATES]
    ),
    "noise": Row(
        3, [Trial(losses.Noisy(sigma), lr, f", sigma {sigma:g}") for lr in RATES[1::2] for sigma in (0.003, 0.01)]
    ),
}


def trajectories(folder: pathlib.Path, name: str) -> data.Trajectories:
    """The trajectories of a file of pairs."""
    _, y = data.read_arrays(folder / name, "x", "y")
    layout = data.Layout(
        "pairs", "array y", len(y), y.shape[1], (data.Channel("u"),), Grid(y.shape[2:], boundary=Periodic())
    )
    return data.Trajectories(data.InMemory(y[:, :, None], layout))


def model_for(frames: np.ndarray, grid: Grid, seed: int) -> Conditioned:
    """An FNO that predicts increments, with the statistics of frames (samples, time, channels, x)."""
    operator = FNO(1, 1, modes=(16,), width=32, depth=4, grid=grid, key=jax.random.key(seed))
    joined = lambda x: x.reshape(-1, *x.shape[2:])
    steps = per_channel(joined(np.diff(frames, axis=1)))
    return Conditioned(AsChannels(operator), per_channel(joined(frames)), Increments(steps))


def run(trial: Trial, steps: int, seed: int, kept: data.Trajectories, judge: data.Trajectories) -> dict:
    """Errors of one training."""
    windows = data.TrajectoryWindows(kept, horizon=trial.loss.horizon())
    model = model_for(kept[:]["frames"], kept.grid, seed)
    model, seconds = forecasts.trained(model, trial.loss, windows, steps=steps, batch=BATCH, lr=trial.lr, seed=seed)
    errors = forecasts.rollout_errors(model, judge).mean(0)
    return {"seconds": round(seconds, 2), **{f"step_{i}": float(errors[i - 1]) for i in (1, 4, 16)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("SCIML_DATA", str(HERE.parents[1] / "shared" / "data")))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    folder = pathlib.Path(options.data)
    known, test = (trajectories(folder, f"burgers_{part}_16.npz") for part in ("train", "test"))
    kept, validation = known.take(slice(0, 700)), known.take(slice(700, 800))
    results = forecasts.Results(HERE / "results" / "unrolled.json")
    results.known["machine"] = timer.machine(os.cpu_count() or 1)
    results.known["settings"] = {"steps": STEPS, "batch": BATCH, "unrolled": UNROLLED, "error": "relative L2"}
    summary = {}
    for name, row in ROWS.items():
        tried = {}
        for trial in row.trials:
            make = functools.partial(run, trial, row.steps, TUNING_SEED, kept, validation)
            error = results.get("tuning", f"{name}, {trial}", make)["step_16"]
            tried[trial] = error if np.isfinite(error) else np.inf
        best = min(tried, key=lambda trial: tried[trial])
        found = [
            results.get("runs", f"{name}, seed {seed}", functools.partial(run, best, row.steps, seed, kept, test))
            for seed in range(options.seeds)
        ]
        summary[name] = {"chosen": str(best), "steps": row.steps, "evaluations": row.steps * row.evaluations}
        for key in ("step_1", "step_4", "step_16"):
            values = [one[key] for one in found]
            summary[name][key] = {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
        summary[name]["step_16"]["ratio"] = summary[name]["step_16"]["mean"] / summary["one step"]["step_16"]["mean"]
        print(name, summary[name], flush=True)
    results.known["summary"] = summary
    results.write()


if __name__ == "__main__":
    main()
