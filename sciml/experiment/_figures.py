"""Figures of runs, from their logs and metrics."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sciml import plot, train
from sciml.experiment._definition import Experiment


def draw_losses(logs: Mapping[str, Sequence[Mapping[str, Any]]], metric: str | None, path: pathlib.Path) -> None:
    """Training loss, and `metric` on the validation data where a log has it, against the step; one colour per run."""
    series: dict[str, tuple[list[int | float], list[int | float]]] = {}
    for name, records in logs.items():
        for label, value in (
            (f"{name}, training loss", lambda one: one.get("loss")),
            (f"{name}, {metric} in validation", lambda one: one.get("validation", {}).get(metric)),
        ):
            points = [(one["step"], value(one)) for one in records if value(one) is not None]
            if points:
                steps, values = zip(*points, strict=True)
                series[label] = (list(steps), list(values))
    if series:
        plot.save(plot.curves(series, x="step", y="error"), path)


def draw_resolutions(results: Mapping[str, Mapping[str, Any]], metric: str, path: pathlib.Path) -> None:
    """Error on the test data against the resolution, for runs that were evaluated at several.

    Args:
        results: The content of `metrics.json` by name of the run.
        metric: Which error.
        path: The figure to write; without two resolutions there is none.
    """
    series: dict[str, tuple[list[int | float], list[int | float]]] = {}
    for name, content in results.items():
        by_size = sorted((int(size), found) for size, found in content.get("resolutions", {}).items())
        if len(by_size) > 1:
            sizes, errors = zip(*((size, found[metric]) for size, found in by_size), strict=True)
            how = " / ".join(dict.fromkeys(found["note"].split(":")[0] for _, found in by_size))
            series[f"{name} ({how})"] = (list(sizes), list(errors))
    if series:
        figure = plot.curves(series, x="points along each axis", y=metric.replace("_", " "), marker="o")
        plot.save(figure, path)


def draw_run(experiment: Experiment, metrics: Mapping[str, Any], model: Any, folder: pathlib.Path) -> None:
    """Draws the losses of a run, its errors by resolution and the figures of its experiment into `figures/`."""
    figures, name = folder / "figures", metrics["model"]
    draw_losses({name: train.read_log(folder / "log.jsonl")}, experiment.metric, figures / "losses.png")
    draw_resolutions({name: metrics}, experiment.metric, figures / "resolutions.png")
    if experiment.figures is not None:
        experiment.figures({name: model}, figures)
