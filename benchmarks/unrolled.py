"""Which loss makes the best forecasts after 16 steps at equal cost: one step, unrolled, pushforward, or noise?

    python benchmarks/unrolled.py [--data FOLDER]

The Burgers pairs that are distributed with neuraloperator are trajectories of 17 frames on 16 points. One small FNO
predicts the next frame, or the increment. Costs are counted in model evaluations, a gradient for two of them: a window
of one step costs 3, one of four unrolled steps 12. In the short training, losses have 600 optimiser steps, and batches
of as many windows as cost as much as 64 of one step. The long one costs four times as much and has 9,600 steps with
batches that cost as much as 16 windows of one step. Seconds stand in the results too. Each loss gets two or three
trials of its learning rate or its own setting, with another seed, and keeps the one with the lowest error at step 16 on
100 of the 800 training trajectories; the table has the test trajectories and 3 seeds. Killed, it goes on. Writes
results/unrolled.json.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import pathlib
import statistics

import forecast_training as forecasts
import jax
import numpy as np
import timer

from sciml import data, losses
from sciml.grid import Grid, Periodic
from sciml.operators import FNO, AsChannels, Conditioned, Increments, NextFrames, per_channel

HERE = pathlib.Path(__file__).resolve().parent
UNROLLED, TUNING_SEED = 4, 100


@dataclasses.dataclass(frozen=True)
class Training:
    """Optimiser steps, windows of single steps in a batch, and the learning rates that are tried."""

    steps: int
    windows: int
    rates: tuple[float, ...]


SHORT, LONG = Training(600, 64, (8e-3, 1.6e-2, 3.2e-2)), Training(9600, 16, (8e-3, 1.6e-2))


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
    """A loss in a training, with all of its trials, and the model evaluations of one of its windows."""

    training: Training
    evaluations: int
    trials: list[Trial]

    @classmethod
    def at_each_rate(cls, training: Training, evaluations: int, loss: losses.AbstractForecastLoss) -> "Row":
        """A row that tries the learning rate alone."""
        return cls(training, evaluations, [Trial(loss, lr) for lr in training.rates])

    @property
    def batch(self) -> int:
        """Number of windows that cost as much as those of single steps."""
        return self.training.windows * 3 // self.evaluations


def noise(training: Training, *sigmas: float) -> Row:
    """A row that tries the size of the noise."""
    trials = [Trial(losses.Noisy(sigma), training.rates[1], f", sigma {sigma:g}") for sigma in sigmas]
    return Row(training, 3, trials)


each = Row.at_each_rate
ROWS = {
    "one step": each(SHORT, 3, losses.Unrolled(1)),
    "unrolled": each(SHORT, 3 * UNROLLED, losses.Unrolled(UNROLLED)),
    "unrolled, cut": each(SHORT, 3 * UNROLLED, losses.Unrolled(UNROLLED, cut=1)),
    # The first and the last step have gradients, or the last one alone.
    "pushforward": each(SHORT, UNROLLED + 4, losses.Pushforward(UNROLLED)),
    "pushforward, last step alone": each(SHORT, UNROLLED + 2, losses.Pushforward(UNROLLED, one_step=0.0)),
    "noise": noise(SHORT, 0.003, 0.01, 0.03),
    "long, one step": each(LONG, 3, losses.Unrolled(1)),
    "long, two steps unrolled": each(LONG, 6, losses.Unrolled(2)),
    "long, unrolled": each(LONG, 3 * UNROLLED, losses.Unrolled(UNROLLED)),
    "long, pushforward": each(LONG, UNROLLED + 4, losses.Pushforward(UNROLLED)),
    "long, noise": noise(LONG, 0.001, 0.003),
}
OUTPUTS = {"next frame": lambda frames, steps: NextFrames(frames), "increment": lambda frames, steps: Increments(steps)}


def trajectories(folder: pathlib.Path, name: str) -> data.Trajectories:
    """The trajectories of a file of pairs."""
    _, y = data.read_arrays(folder / name, "x", "y")
    layout = data.Layout(
        "pairs", "array y", len(y), y.shape[1], (data.Channel("u"),), Grid(y.shape[2:], boundary=Periodic())
    )
    return data.Trajectories(data.InMemory(y[:, :, None], layout))


def model_for(output: str, known: data.Trajectories, seed: int) -> Conditioned:
    """An FNO with the statistics of trajectories."""
    operator = FNO(1, 1, modes=(8,), width=8, depth=2, grid=known.grid, key=jax.random.key(seed))
    values = known[:]["frames"]
    frames, steps = (per_channel(x.reshape(-1, *x.shape[2:])) for x in (values, np.diff(values, axis=1)))
    return Conditioned(AsChannels(operator), frames, OUTPUTS[output](frames, steps))


def run(output: str, row: Row, trial: Trial, seed: int, kept: data.Trajectories, judge: data.Trajectories) -> dict:
    """Errors of one training."""
    windows = data.TrajectoryWindows(kept, horizon=trial.loss.horizon())
    model = model_for(output, kept, seed)
    settings = {"steps": row.training.steps, "batch": row.batch, "lr": trial.lr, "seed": seed}
    model, seconds = forecasts.trained(model, trial.loss, windows, **settings)
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
    trainings = {"short": dataclasses.asdict(SHORT), "long": dataclasses.asdict(LONG)}
    results.known["settings"] = {**trainings, "unrolled": UNROLLED, "error": "relative L2"}
    summary = results.known.setdefault("summary", {})
    for output, name in itertools.product(OUTPUTS, ROWS):
        row, tried = ROWS[name], {}
        for trial in row.trials:
            make = functools.partial(run, output, row, trial, TUNING_SEED, kept, validation)
            error = results.get("tuning", f"{output}, {name}, {trial}", make)["step_16"]
            tried[trial] = error if np.isfinite(error) else np.inf
        best = min(tried, key=lambda trial: tried[trial])
        make = functools.partial(run, output, row, best)
        found = [
            results.get("runs", f"{output}, {name}, seed {seed}", functools.partial(make, seed, kept, test))
            for seed in range(options.seeds)
        ]
        of = {"chosen": str(best), "batch": row.batch, "evaluations": row.training.steps * row.batch * row.evaluations}
        for key in ("seconds", "step_1", "step_4", "step_16"):
            values = [one[key] for one in found]
            of[key] = {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
        summary.setdefault(output, {})[name] = of
        one_step = summary[output]["long, one step" if row.training is LONG else "one step"]
        of["step_16"]["against_one_step"] = of["step_16"]["mean"] / one_step["step_16"]["mean"]
        print(output, name, of, flush=True)
        results.write()


if __name__ == "__main__":
    main()
