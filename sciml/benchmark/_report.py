"""What the finished runs of a benchmark show: by run, and over the seeds of each model."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sciml.benchmark._plan import Plan, run_name
from sciml.experiment import provenance, read_metrics, read_run
from sciml.train import read_log


def report(
    plan: Plan, out: pathlib.Path, calibration: Mapping[str, Any], failures: Mapping[str, str]
) -> dict[str, Any]:
    """The content of `benchmark.json`.

    Args:
        plan: What is compared.
        out: Folder of the runs, of which some may be missing.
        calibration: From `calibration.json`.
        failures: Messages by name of the run.

    Raises:
        ValueError: If the target is no validation error of a finished run.
    """
    runs = [
        _run(plan, out / run_name(model, seed), (model, seed), calibration, failures.get(run_name(model, seed)))
        for seed, model in plan.runs
        if run_name(model, seed) in failures or (out / run_name(model, seed) / "metrics.json").exists()
    ]
    done = [out / one["run"] for one in runs if one["failure"] is None]
    metrics = {folder: metric_of(folder) if plan.target is None else plan.target[0] for folder in done}
    curves = {folder.name: curve(read_log(folder / "log.jsonl"), metrics[folder]) for folder in done}
    target = _target(plan, out, curves)
    for one in runs:
        reached = (t for t, error in curves.get(one["run"], ()) if target is not None and error <= target["value"])
        one["seconds_to_target"] = next(reached, None)
    return {
        "settings": plan.settings(),
        "models": list(plan.models),
        "seeds": list(dict.fromkeys(seed for seed, _ in plan.runs)),
        **provenance(plan.file.resolve()),
        "target": target,
        "baselines": read_metrics(done[0]).baselines if done else {},
        "summary": [_summary(model, runs, calibration.get(model, {})) for model in plan.models],
        "runs": runs,
    }


def _run(
    plan: Plan, folder: pathlib.Path, which: tuple[str, int], calibration: Mapping[str, Any], failure: str | None
) -> dict[str, Any]:
    """Results of one run; without them, for one that failed, only its name and the message."""
    known: dict[str, Any] = {"run": folder.name, "model": which[0], "seed": which[1], "failure": failure}
    if failure is not None:
        return known
    found, log = read_metrics(folder), read_log(folder / "log.jsonl")
    bands = {} if plan.coverage is None else found.bands.get(f"{plan.coverage:g}", {})
    bands = {f"{name}_{plan.coverage:.0%}": bands[name] for name in ("coverage", "width") if name in bands}
    training, epochs = log[-1]["training_seconds"], found.steps / calibration[which[0]]["steps_per_epoch"]
    return {
        **known,
        "parameters": found.parameters,
        "steps": found.steps,
        "epochs": epochs,
        "seconds": found.seconds,
        "training_seconds": training,
        "seconds_per_epoch": training / epochs,
        "of_budget": None if plan.budget is None else training / plan.budget,
        "validation": next((one["validation"] for one in reversed(log) if "validation" in one), None),
        "test": {**found.test, **bands},
    }


def curve(log: Sequence[Mapping[str, Any]], metric: str | None) -> list[tuple[float, float]]:
    """Seconds of training and a validation error after them, where it is finite.

    The log gives 0 to the first dispatch as long as it is the only one; it then counts like the mean of all steps.
    """
    mean = log[-1]["training_seconds"] / log[-1]["step"] if log else 0.0
    points = [(one["training_seconds"] or mean * one["step"], one.get("validation", {}).get(metric)) for one in log]
    return [(seconds, error) for seconds, error in points if error is not None]


def metric_of(folder: pathlib.Path) -> str | None:
    """The validation error that decides in a run, None without validation."""
    return read_run(folder).metric


def _target(plan: Plan, out: pathlib.Path, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Any:
    """The error to reach: the given one, or the largest final one; None without a run or without validation."""
    last = [curve[-1][1] for curve in curves.values() if curve]
    if plan.target is not None:
        if curves and not last:
            folder = out / next(iter(curves))
            known = next((one["validation"] for one in read_log(folder / "log.jsonl") if "validation" in one), {})
            raise ValueError(
                f"The target {plan.target[0]} is no validation error of {folder}, only {', '.join(known) or 'none'} "
                "would be. Finished runs are kept: give another target, or none, with the same command."
            )
        return {"metric": plan.target[0], "value": plan.target[1], "given": True}
    if not last:
        return None
    return {"metric": metric_of(out / next(iter(curves))), "value": max(last), "given": False}


def spread(values: Sequence[float]) -> dict[str, float | None] | None:
    """Mean and standard deviation with n - 1 in the denominator, None for a single value; None without values."""
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": math.fsum(values) / len(values), "std": deviation}


def _summary(model: str, runs: Sequence[Mapping[str, Any]], calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics over the finished runs of a model."""
    mine = [one for one in runs if one["model"] == model]
    done = [one for one in mine if one["failure"] is None]
    of = lambda name: spread([one[name] for one in done if one[name] is not None])
    return {
        "model": model,
        "finished": len(done),
        "parameters": done[0]["parameters"] if done else None,
        "step_bytes": calibration.get("step_bytes"),
        "test": {name: spread([one["test"][name] for one in done]) for name in (done[0]["test"] if done else ())},
        **{name: of(name) for name in ("seconds_per_epoch", "training_seconds", "of_budget", "seconds")},
        "seconds_to_target": of("seconds_to_target"),
        "reached_target": sum(one["seconds_to_target"] is not None for one in done),
        "failures": {one["run"]: one["failure"] for one in mine if one["failure"] is not None},
    }
