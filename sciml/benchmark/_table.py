"""The results of a benchmark as a table: on the terminal, in Markdown, and a line per run in CSV."""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 80  # characters of a terminal


def table(content: Mapping[str, Any]) -> Table:
    """A line per model, for the terminal; of many errors the first ones that fit."""
    wide = Console(width=10 * _WIDTH)
    shown = [_table(content, most) for most in range(max(1, len(_errors(content))), 0, -1)]
    return next((one for one in shown if wide.measure(one).maximum <= _WIDTH), shown[-1])


def _table(content: Mapping[str, Any], most: int) -> Table:
    head, lines = _cells(content, most)
    left_out = ", ".join(name.replace("_", " ") for name in _errors(content)[most:])
    caption = f"In table.md: {left_out}" if left_out else None
    shown = Table(title=_title(content), caption=caption, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in head:
        shown.add_column(name.replace(" ", "\n"), no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    return shown


def write_markdown(content: Mapping[str, Any], path: pathlib.Path) -> None:
    """The same table in Markdown, with a line that says what the columns are."""
    head, lines = _cells(content)
    rows = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]
    where = content["device"]
    reasons = {name: reason for one in content["summary"] for name, reason in one["failures"].items()}
    text = [
        f"{_title(content)}.",
        "",
        *rows,
        "",
        *(f"- {name} failed: {reason}" for name, reason in reasons.items()),
        *([""] if reasons else ()),
        explanation(content),
        f"{where['count']} x {where['kind']} ({where['platform']}), jax {content['versions']['jax']}.",
    ]
    part = path.with_name(f"{path.name}.new")
    part.write_text("\n".join(text) + "\n")
    part.replace(path)


def explanation(content: Mapping[str, Any]) -> str:
    """What the columns of the table are."""
    target, equal = content["target"], content["settings"]["budget"] is None
    sentences = [
        "Errors on the test data, mean±standard deviation over the seeds. Size: number of parameters; rows without one "
        "need no training.",
        "Step MiB: memory that the compiler plans for one step on one device.",
        f"{'Train s' if equal else 'Of budget'}: wall time of the steps; total s also contains compilation, validation "
        "and checkpoints.",
    ]
    if any(name.startswith("coverage_") for name in _errors(content)):
        sentences.append(
            "Coverage: part of the test samples that lie inside of conformal bands at all points, which the validation "
            "data calibrate. Width: of these bands, relative to the root mean square of the truth."
        )
    if target is not None:
        name = target["metric"].replace("_", " ")
        sentences.append(f"Target: {name} of {target['value']:.3g} on the validation data, in seconds of training.")
    return " ".join(sentences)


def write_csv(content: Mapping[str, Any], path: pathlib.Path) -> None:
    """A line per run; test and validation errors are columns `test_<name>` and `validation_<name>`."""
    lines = []
    for run in content["runs"]:
        line = {name: value for name, value in run.items() if name not in ("test", "validation", "failure")}
        for kind in ("validation", "test"):
            line |= {f"{kind}_{name}": value for name, value in (run.get(kind) or {}).items()}
        lines.append({**line, "failure": run["failure"]})
    names = [*dict.fromkeys(name for line in lines for name in line if name != "failure"), "failure"]
    part = path.with_name(f"{path.name}.new")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
    part.replace(path)


def _title(content: Mapping[str, Any]) -> str:
    settings, count = content["settings"], len(content["seeds"])
    equal = f"{settings['epochs']:g} epochs" if settings["budget"] is None else f"{settings['budget']:g} s of training"
    return f"{settings['experiment']}, {equal}, {count} seed{'s' * (count > 1)}"


def _errors(content: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for one in content["summary"] for name in one["test"]))


def _cells(content: Mapping[str, Any], most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table, with all errors or the first ones."""
    summaries, target, budget = content["summary"], content["target"], content["settings"]["budget"]
    metrics = _errors(content)[:most]
    head = ["model", "size", *(name.replace("_", " ") for name in metrics), "s/epoch", "step MiB"]
    if target is not None:
        head.append("s to target")
    head += ["train s" if budget is None else "of budget", "total s"]
    if any(one["failures"] for one in summaries):
        head.append("failed")
    lines = [_line(one, metrics, content, len(head)) for one in summaries]
    for name, found in content["baselines"].items():
        errors = [_number(found[one]) if one in found else "" for one in metrics]
        lines.append([name, "", *errors, *[""] * (len(head) - len(metrics) - 2)])
    return head, lines


def _line(one: Mapping[str, Any], metrics: Sequence[str], content: Mapping[str, Any], length: int) -> list[str]:
    memory = one["step_bytes"]
    cells = [
        one["model"],
        "" if one["parameters"] is None else short(one["parameters"]),
        *(_spread(one["test"].get(name)) for name in metrics),
        _mean(one["seconds_per_epoch"]),
        "" if memory is None else _number(memory / 2**20),
    ]
    if content["target"] is not None:
        missed = one["finished"] - one["reached_target"]
        never = f"({missed} never)" if missed else ""
        cells.append(f"{_mean(one['seconds_to_target'])} {never}".strip())
    if content["settings"]["budget"] is None:
        cells.append(_mean(one["training_seconds"]))
    else:
        cells.append("" if one["of_budget"] is None else f"{one['of_budget']['mean']:.1%}")
    cells.append(_mean(one["seconds"]))
    if len(cells) < length:
        cells.append(f"{len(one['failures'])} of {len(content['seeds'])}" if one["failures"] else "")
    return cells


def short(count: int) -> str:
    """A number of parameters in thousands or millions."""
    return next(
        (f"{count / size:.3g}{unit}" for size, unit in ((10**6, "M"), (10**3, "k")) if count >= size), str(count)
    )


def _mean(found: Mapping[str, float | None] | None) -> str:
    return "" if found is None or found["mean"] is None else _number(found["mean"])


def _spread(found: Mapping[str, float | None] | None) -> str:
    if found is None:
        return ""
    return _mean(found) + ("" if found["std"] is None else f"±{found['std']:.2g}")


def _number(value: float) -> str:
    """Three digits, more if they stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
