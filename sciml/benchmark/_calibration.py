"""What one training step of a model costs, measured before the runs, because schedules need the number of steps."""

import dataclasses
from typing import Any

import numpy as np

from sciml import parallel, train
from sciml.experiment import Experiment, cadences, prepare

_LEAST_STEPS = 10  # of a run
_WINDOWS, _SECONDS = 6, 6.0  # least that is timed; steps are slower for some seconds after they were compiled


def measure(
    experiment: Experiment, budget: float | None, layout: parallel.Layout = parallel.Layout()
) -> dict[str, Any]:
    """Compiles the step of an experiment and, for a budget, times it.

    The timed steps are those of `train.fit` with the experiment's data and optimiser. A run of many steps looks at its
    losses only after several of them, which is quicker on accelerators; then it is timed again in that way.

    Args:
        experiment: Its step is timed.
        budget: Seconds of a run, None if steps are not timed.
        layout: How the run will be laid out over the devices.

    Returns:
        `steps_per_epoch` and `step_bytes`, with a budget also `seconds_per_step`, a median, and `timed_steps`.
    """
    start = prepare(experiment, layout)
    found = {"steps_per_epoch": len(experiment.train) / experiment.batch, "step_bytes": step_bytes(*start)}
    if budget is None:
        return found
    least = min(_SECONDS, budget / 10)
    seconds, timed = parallel.broadcast(_time(start, least, cadence=1, steps=1 << 30))
    steps = int(budget / seconds)
    cadence = cadences(dataclasses.replace(experiment, steps=steps))[1]
    if 1 < cadence <= steps // (_WINDOWS + 2):
        seconds, timed = _time(prepare(experiment, layout), least, cadence=cadence, steps=steps)
    return {**found, "seconds_per_step": seconds, "timed_steps": timed}


def fitted(model: str, found: dict[str, Any], budget: float) -> dict[str, Any]:
    """Adds to what was measured the number of steps that the budget allows, and the epochs that make them.

    Epochs are a quarter of a step short, so that neither rounding up nor to the nearest number of steps makes another.

    Raises:
        ValueError: If the budget is too short.
    """
    seconds = found["seconds_per_step"]
    steps = int(budget / seconds)
    if steps < _LEAST_STEPS:
        raise ValueError(
            f"Expected a budget of at least {_LEAST_STEPS} steps, but {model} takes {seconds:.3g} s for one and makes "
            f"{steps} in {budget:g} s. Give {_LEAST_STEPS * seconds:.3g} s or more, smaller batches or a smaller model."
        )
    return {**found, "budget": budget, "steps": steps, "epochs": round((steps - 0.25) / found["steps_per_epoch"], 6)}


def step_bytes(state: train.TrainState, step: train.CompiledStep, batches: train.Batches) -> int | None:
    """Memory of one compiled step on one device, as the compiler plans it; None where it does not tell.

    The sum of arguments (state, data on the device, batch), results and temporary arrays, those that share memory
    counted once. Unlike the peak that a device or process reports, which never falls, it belongs to this model alone.
    """
    plans = step.compile(state, batches.source, batches.together([batches.item(0)]))
    if None in plans:
        return None
    results = lambda plan: plan.output_size_in_bytes - plan.alias_size_in_bytes
    return max(plan.argument_size_in_bytes + results(plan) + plan.temp_size_in_bytes for plan in plans)


def _time(
    start: tuple[train.TrainState, train.CompiledStep, train.Batches], least: float, *, cadence: int, steps: int
) -> tuple[float, int]:
    """Median of the seconds per step over windows of `cadence` steps, and the number of steps in them.

    Only the second half of the windows counts.
    """
    marks: list[tuple[int, float]] = []

    def mark(event: train.Event) -> None:
        marks.append((event.step, event.seconds))
        if len(marks) >= _WINDOWS + 2 and event.seconds >= least:
            raise train.Stop("enough was timed")

    train.fit(*start, steps=steps, hooks=[train.every(cadence, mark)])
    windows = np.diff(np.asarray(marks[1:]), axis=0)  # the first one holds an estimate for the dispatch that compiles
    windows = windows[len(windows) // 2 :]
    return float(np.median(windows[:, 1] / windows[:, 0])), int(windows[:, 0].sum())
