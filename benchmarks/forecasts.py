"""How slow is a forecast in one compiled loop, beside a compiled step that is called from Python?

    python benchmarks/forecasts.py [--rounds 5]

Forecasts of 10 frames of 4 samples on 32x32 points by three architectures of `zoo.MODELS`: `rollout.forecast`, vmapped
and compiled as a whole (a `lax.scan`), and `rollout.forecast_batch` with the compiled step. Both take turns; medians.
Writes results/forecasts.json.
"""

import argparse
import functools
import os
import pathlib
import statistics
import time

import forecast_training
import jax
import numpy as np
import timer

from sciml import zoo
from sciml.grid import Grid, Periodic
from sciml.operators import AsChannels, Conditioned, Increments, Normaliser
from sciml.rollout import Conditions, forecast, forecast_batch

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "forecasts.json"
SAMPLES, FRAMES, GRID = 4, 10, Grid((32, 32), boundary=Periodic())


def case(name: str, rounds: int) -> dict:
    """Medians of the seconds of both, and their ratio."""
    one = Normaliser(np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32))
    operator = zoo.MODELS[name].make(1, 1, grid=GRID, key=jax.random.key(0))
    small = Normaliser(one.mean.value, 0.01 * one.deviation.value)
    model = Conditioned(AsChannels(operator), one, Increments(small))
    frames = np.random.default_rng(0).normal(size=(SAMPLES, 1, 1, *GRID.shape)).astype(np.float32)
    none = Conditions(np.zeros((SAMPLES, 0, *GRID.shape)), np.zeros((SAMPLES, 0)), np.ones(SAMPLES, np.float32))
    scan = jax.jit(jax.vmap(lambda frames, conditions: forecast(model, frames, conditions, FRAMES)))
    step = functools.partial(forecast_training.predict, model)
    contenders = {
        "scan": lambda: np.asarray(scan(frames, none)),
        "loop": lambda: forecast_batch(step, frames, none, FRAMES),
    }
    outputs = {kind: call() for kind, call in contenders.items()}
    seconds = {kind: [] for kind in contenders}
    for _ in range(rounds):
        for kind, call in contenders.items():
            begin = time.perf_counter()
            call()
            seconds[kind].append(time.perf_counter() - begin)
    medians = {kind: statistics.median(times) for kind, times in seconds.items()}
    difference = float(np.abs(outputs["scan"] - outputs["loop"]).max())
    return {"seconds": medians, "scan_against_loop": medians["scan"] / medians["loop"], "difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = forecast_training.Results(RESULTS)
    results.known["machine"] = timer.machine(os.cpu_count() or 1)
    for name in ("fno", "unet", "mgno"):
        results.get("models", name, functools.partial(case, name, options.rounds))


if __name__ == "__main__":
    main()
