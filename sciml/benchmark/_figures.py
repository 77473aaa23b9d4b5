"""Figures of a benchmark: error against cost, and losses against the step."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from sciml import plot
from sciml.benchmark._report import curve, metric_of
from sciml.benchmark._table import short
from sciml.train import read_log


def draw(content: Mapping[str, Any], out: pathlib.Path) -> None:
    """Draws `accuracy_cost.png` and `losses.png`; nothing if no run is finished."""
    done = [run for run in content["runs"] if run["failure"] is None]
    if not done:
        return
    metric = metric_of(out / done[0]["run"])
    logs = {run["run"]: read_log(out / run["run"] / "log.jsonl") for run in done}
    plot.save(_accuracy_cost(content, done, logs, metric or next(iter(done[0]["test"]))), out / "accuracy_cost.png")
    plot.save(_losses(content, done, logs, metric), out / "losses.png")


def _accuracy_cost(
    content: Mapping[str, Any], done: Sequence[Mapping[str, Any]], logs: Mapping[str, Any], metric: str
) -> Figure:
    """Validation error along each run, and mean and standard deviation of test error and training time by model."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    handles = []
    for k, one in enumerate(content["summary"]):
        if not one["finished"]:
            continue
        for run in (run for run in done if run["model"] == one["model"]):
            points = curve(logs[run["run"]], metric)
            axes.plot(*zip(*points, strict=True), color=f"C{k}", linewidth=0.9, alpha=0.6)
        time, error = one["training_seconds"], one["test"][metric]
        axes.errorbar(
            time["mean"],
            error["mean"],
            xerr=time["std"],
            yerr=error["std"],
            color=f"C{k}",
            marker="o",
            markersize=7,
            markeredgecolor="white",
            capsize=3,
            zorder=3,
        )
        label = f"{one['model']}, {short(one['parameters'])} parameters"
        handles.append(Line2D([], [], color=f"C{k}", marker="o", linestyle="", label=label))
    target = content["target"]
    if target is not None and target["metric"] == metric:
        axes.axhline(target["value"], color="0.5", linewidth=0.8, linestyle=":")
        handles.append(Line2D([], [], color="0.5", linestyle=":", label=f"target {target['value']:.3g}"))
    handles.append(Line2D([], [], color="0.4", linewidth=0.9, label="validation, each seed"))
    handles.append(Line2D([], [], color="0.4", marker="o", linestyle="", label="test, mean ± std"))
    axes.set(xscale="log", xlabel="seconds of training", ylabel=metric.replace("_", " "))
    _finish(axes, handles)
    _plain(axes.xaxis)
    return figure


def _losses(
    content: Mapping[str, Any], done: Sequence[Mapping[str, Any]], logs: Mapping[str, Any], metric: str | None
) -> Figure:
    """Training loss and validation error against the step, one colour per model and one line per seed."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    for run in done:
        colour = f"C{content['models'].index(run['model'])}"
        losses = [(one["step"], one["loss"]) for one in logs[run["run"]] if one.get("loss") is not None]
        axes.plot(*zip(*losses, strict=True), color=colour, linewidth=0.8, alpha=0.35)
        if metric is not None:
            errors = [(one["step"], one.get("validation", {}).get(metric)) for one in logs[run["run"]]]
            axes.plot(
                *zip(*(pair for pair in errors if pair[1] is not None), strict=True), "--", color=colour, zorder=3
            )
    models = [name for name in content["models"] if any(run["model"] == name for run in done)]
    handles = [Line2D([], [], color=f"C{content['models'].index(name)}", label=name) for name in models]
    handles.append(Line2D([], [], color="0.4", linewidth=0.8, alpha=0.5, label="training loss, each seed"))
    if metric is not None:
        label = f"{metric.replace('_', ' ')} in validation, each seed"
        handles.append(Line2D([], [], color="0.4", linestyle="--", label=label))
    axes.set(xlabel="step", ylabel="error")
    _finish(axes, handles)
    return figure


def _finish(axes: Axes, handles: Sequence[Line2D]) -> None:
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _plain(axis: Axis) -> None:
    """Numbers at 1, 2 and 5 times the powers of ten: a range of less than a decade would have one label."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
