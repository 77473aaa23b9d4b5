"""The page: title, data, results, figures, notes, commands, versions."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sciml.files import write_bytes
from sciml.report._commands import commands
from sciml.report._contents import Benchmark, Contents, RunContents, Spread, read
from sciml.report._html import (
    Html,
    bullets,
    card,
    code,
    document,
    folded,
    heading,
    label,
    number,
    paragraph,
    plain,
    size,
    table,
)
from sciml.report._pictures import BASELINES, Pictures, errors_over_time, losses, named


def report(folder: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
    """Writes a page about a run or a benchmark, one file that needs no other and loads nothing.

    Args:
        folder: Folder of a run or of a benchmark, finished or not.
        out: The HTML file, which appears complete or not at all.
        overwrite: Whether it may replace an existing file.

    Returns:
        The file.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        FileNotFoundError: If the folder is no run and no benchmark.
        Damaged: If a file of it differs from its digest.
        ValueError: If a file of it holds something else than expected, or the folder holds links.
    """
    out = pathlib.Path(out)
    if out.is_dir():
        raise ValueError(f"{out} is a folder. Give a file for the page, such as {out / 'report.html'}.")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists. Choose another file, or replace it with --overwrite (overwrite=True).")
    content = page(folder, out).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    return out


def page(folder: str | os.PathLike[str], out: str | os.PathLike[str] = "report.html") -> str:
    """The page of `report` as text; `out` stands in the command that makes it again."""
    contents = read(pathlib.Path(folder))
    pictures = Pictures()
    figures = _figures(contents, pictures)  # before the notes, which say what is left out
    models = list(dict.fromkeys(one.model for one in contents.runs))
    if contents.benchmark is not None:
        models = list(contents.benchmark.models)
    title = f"{contents.experiment}: {', '.join(models)}"
    parts = [heading(1, title), paragraph(_about(contents), soft=True)]
    for name, section in (
        ("Results", _results(contents)),
        ("Notes", _notes(contents, pictures)),
        ("Data", _data(contents)),
        ("Figures", figures),
        ("Make it again", _again(contents, pathlib.Path(out))),
        ("Settings", _settings(contents)),
        ("Versions and device", _versions(contents)),
    ):
        if section:
            parts += [heading(2, name), *section]
    return document(title, parts)


def _about(contents: Contents) -> str:
    if contents.benchmark is None:
        run = contents.runs[0]
        state = (
            "finished" if run.metrics is not None else f"not finished, {run.log[-1]['step'] if run.log else 0} steps"
        )
        return f"Run {contents.folder}, {state}, started {run.run.starts[0].time if run.run.starts else ''}"
    found = contents.benchmark
    done = sum(one.failure is None for one in found.runs)
    seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) != 1)}"
    missing = len(found.models) * len(found.seeds) - len(found.runs)
    waiting = f", {missing} not yet run" if missing > 0 else ""
    return f"Benchmark {contents.folder}, {seeds}, {done} runs finished{waiting}, written {found.time}"


def _results(contents: Contents) -> list[Html]:
    baselines = _baselines(contents)
    if contents.benchmark is not None:
        found = [_benchmark_table(contents.benchmark, baselines)]
    else:
        found = _run_tables(contents.runs[0], baselines)
    return [*found, *_error_table(contents)]


def _benchmark_table(benchmark: Benchmark, baselines: Mapping[str, Mapping[str, Any]]) -> Html:
    metrics = list(dict.fromkeys(name for one in benchmark.summary for name in one.test))
    costs = ["train s", "total s", "s/epoch", "step memory"]
    head = ["model", "runs", "parameters", *map(label, metrics), *costs]
    if benchmark.target is not None:
        head.append("s to target")
    rows = []
    for one in benchmark.summary:
        cost = [_spread(part) for part in (one.training_seconds, one.seconds, one.seconds_per_epoch)]
        memory = "" if one.step_bytes is None else size(one.step_bytes)
        row = [one.model, str(one.finished), number(one.parameters)]
        row += [*(_spread(one.test.get(metric)) for metric in metrics), *cost, memory]
        if benchmark.target is not None:
            missed = one.finished - one.reached_target
            row.append(f"{_spread(one.seconds_to_target)}{f' ({missed} never)' if missed else ''}".strip())
        rows.append(row)
    caption = (
        "Errors on the test data and cost, mean ± standard deviation over the seeds. Train s: wall time of the steps; "
        "total s also contains compilation, validation and checkpoints. Step memory: what the compiler plans for one "
        "step on one device."
    )
    if benchmark.target is not None:
        name, value = benchmark.target.get("metric"), benchmark.target.get("value")
        caption += f" Target: {label(str(name))} of {plain(value)} on the validation data."
    return table(head, rows, caption=caption, baselines=_baseline_rows(baselines, metrics, len(head)))


def _run_tables(run: RunContents, baselines: Mapping[str, Mapping[str, Any]]) -> list[Html]:
    found = run.metrics
    if found is None:
        return [paragraph("The run is not finished: there are no test errors yet.")]
    metrics = list(found.test)
    head = ["model", "steps", "parameters", *map(label, metrics), "train s", "total s"]
    row = [run.model, number(found.steps), number(found.parameters), *(number(found.test[name]) for name in metrics)]
    row += [number(found.train_seconds), number(found.seconds)]
    caption = "Errors on the test data and cost. Train s: wall time of the steps; total s also contains compilation, "
    caption += "validation and checkpoints."
    found_tables = [table(head, [row], caption=caption, baselines=_baseline_rows(baselines, metrics, len(head)))]
    others = {f"resolution {name}": errors for name, errors in found.resolutions.items()}
    others |= {name: errors for name, errors in found.conditions.items() if name not in BASELINES}
    if others:
        names = list(dict.fromkeys(name for one in others.values() for name in one if name != "note"))
        lines = [[place, *(_cell(one.get(name)) for name in names)] for place, one in others.items()]
        found_tables.append(table(["test data", *map(label, names)], lines, caption="Errors on other test data."))
    if found.bands:
        names = ["coverage", "width", "calibration"]
        lines = [[level, *(_cell(one.get(name)) for name in names)] for level, one in found.bands.items()]
        caption = (
            "Conformal bands: part of the test samples inside at all points, width relative to the root mean square "
        )
        caption += "of the truth, number of validation samples that calibrate them."
        found_tables.append(table(["level", *names], lines, caption=caption))
    return found_tables


def _baselines(contents: Contents) -> dict[str, dict[str, Any]]:
    """Test errors of baselines: entries of `baselines` of the metrics, or conditions of their names."""
    found: dict[str, dict[str, Any]] = {}
    for run in contents.runs:
        content = {} if run.metrics is None else run.metrics.as_json()
        known = content.get("baselines") or {}
        named_so = {name: one for name, one in content.get("conditions", {}).items() if name in BASELINES}
        for name, errors in {**named_so, **known}.items():
            found.setdefault(name, errors)
    return found


def _baseline_rows(baselines: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], width: int) -> list[list[str]]:
    rows = [[name, "", "0", *(_cell(errors.get(metric)) for metric in metrics)] for name, errors in baselines.items()]
    return [[*row, *[""] * (width - len(row))] for row in rows]


def _error_table(contents: Contents) -> list[Html]:
    """Errors at the first, the middle and the last step, of each run and of the baselines of the first one."""
    known = [run for run in contents.runs if run.errors is not None and run.errors.steps]
    rows: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    head: list[str] = []
    for run in sorted(known, key=lambda one: [other.model for other in known].index(one.model)):
        for place, row, steps in _error_rows(run):
            head = head or ["model", "error", *steps, "diverged rollouts"]
            if [*head[2:-1]] == steps:
                (others if row[0] in BASELINES else rows).setdefault(place, row)
    caption = "Errors over time: median over the test samples, and quartiles in brackets."
    return [table(head, list(rows.values()), caption=caption, baselines=list(others.values()))] if head else []


def _error_rows(run: RunContents) -> list[tuple[str, list[str], list[str]]]:
    """What tells a row from others, its cells, and the names of its steps: one row for each model and metric."""
    errors = run.errors
    if errors is None:
        return []
    chosen = sorted({0, len(errors.steps) // 2, len(errors.steps) - 1})
    found = []
    for name, by_metric in errors.models.items():
        seed = f", seed {run.seed}" if name == "model" and run.seed is not None else ""
        place = f"{named(run, name)}{seed}"
        for metric, curve in by_metric.items():
            cells = [_middle(curve.median[k], curve.low[k], curve.high[k]) for k in chosen]
            row = [place, label(metric), *cells, plain(errors.diverged.get(name, ""))]
            found.append((f"{place} {metric}", row, [f"step {errors.steps[k]:g}" for k in chosen]))
    return found


def _middle(*values: float | None) -> str:
    """Median, and lower and upper quartile in brackets."""
    median, low, high = ("not finite" if one is None else f"{one:.3g}" for one in values)
    return f"{median} [{low}, {high}]"


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else plain("" if value is None else value)


def _spread(found: Spread | None) -> str:
    if found is None or found.mean is None:
        return ""
    return number(found.mean) + ("" if found.std is None else f" ± {found.std:.2g}")


def _notes(contents: Contents, pictures: Pictures) -> list[Html]:
    """Warnings and notes of the data of all runs, failures, diverged rollouts, and pictures that are left out."""
    warnings: dict[str, None] = {}
    notes: dict[str, None] = {}
    benchmark = contents.benchmark
    for one in benchmark.runs if benchmark is not None else ():
        if one.failure is not None:
            warnings[f"{one.run} failed: {one.failure}"] = None
    for run in contents.runs:
        for found, name in ((warnings, "warnings"), (notes, "notes")):
            entries = (run.data or {}).get(name, [])
            for one in entries if isinstance(entries, list) else [entries]:
                found[plain(one)] = None
        for name, count in (run.errors.diverged if run.errors is not None else {}).items():
            if count:
                alike = benchmark is None or name != "model"  # baselines are the same in all runs, and said once
                where = "" if alike else f" in {run.folder.name}"
                warnings[f"Diverged rollouts of {named(run, name)}{where}: {plain(count)}"] = None
        if run.metrics is None:
            warnings[f"{run.folder.name} is not finished."] = None
        else:
            for place, errors in run.metrics.resolutions.items():
                notes[f"Resolution {place}: {errors.get('note', '')}"] = None
    warnings |= dict.fromkeys(pictures.left_out)
    return [bullets(list(notes), warnings=list(warnings))] if warnings or notes else []


def _data(contents: Contents) -> list[Html]:
    """What the data are and how they were split."""
    run = next((one for one in contents.runs if one.data is not None), next(iter(contents.runs), None))
    if run is None:
        return []
    if run.data is not None:
        entries = {name: value for name, value in run.data.items() if name not in ("notes", "warnings")}
        entries = {name: _entry(name, value) for name, value in entries.items()}
        others = [one.folder.name for one in contents.runs if one.data is not None and one.data != run.data]
        more = [paragraph(f"The data of {', '.join(others)} differ from these in some entries.")] if others else []
        return [card(entries), *more]
    known = dict(run.run.data or {})
    samples = _setting(run.config, "samples")
    if isinstance(samples, list) and len(samples) == 3:
        known["split"] = "{} samples for training, {} for validation, {} for the test".format(*samples)
    else:
        known["split"] = "made by the experiment file; the number of samples is that of the training data"
    if run.run.metric is None:
        known["validation"] = "none: the last checkpoint was tested"
    else:
        known["validation"] = f"{label(run.run.metric)} on the validation data chooses the checkpoint"
    return [card(known)]


def _entry(name: str, value: Any) -> Any:
    if name == "bytes" and isinstance(value, int | float):
        return size(value)
    if name == "parameter_ranges" and isinstance(value, dict):
        ends = lambda one: " to ".join(map(plain, one)) if isinstance(one, list) else plain(one)
        return {key: ends(one) for key, one in value.items()}
    if name == "points" and isinstance(value, list) and value:
        return " x ".join(map(plain, value))
    return value


def _setting(config: Mapping[str, Any], name: str) -> Any:
    """The value of a setting, of the config or of a group in it."""
    if name in config:
        return config[name]
    groups = (one for one in config.values() if isinstance(one, dict))
    return next((found for one in groups if (found := _setting(one, name)) is not None), None)


def _figures(contents: Contents, pictures: Pictures) -> list[Html]:
    if contents.benchmark is None:
        run = contents.runs[0]
        return [
            *losses(run, pictures),
            *errors_over_time(contents, pictures),
            *pictures.of_folder(run.folder / "figures"),
        ]
    found = [*pictures.of_folder(contents.folder), *errors_over_time(contents, pictures)]
    opened: set[str] = set()
    for run in contents.runs:
        own = [
            *losses(run, pictures),
            *pictures.of_folder(run.folder / "figures", about=f"({run.model}, seed {run.seed})"),
        ]
        if own:
            found.append(folded(f"{run.model}, seed {run.seed}", own, shown=run.model not in opened))
            opened.add(run.model)
    return found


def _again(contents: Contents, out: pathlib.Path) -> list[Html]:
    lines = commands(contents, out)
    found = [code("\n\n".join(lines))]
    if len(lines) < 2:
        found.insert(0, paragraph("The run was made in Python by sciml.experiment.run; no command line makes it."))
    changed = next((one.run for one in contents.runs if one.run.digest is not None), None)
    if changed is not None:
        words = f"The experiment file had the SHA-256 digest {changed.digest}."
        found.append(paragraph(words, soft=True))
    return found


def _settings(contents: Contents) -> list[Html]:
    if contents.benchmark is not None:
        return [folded("Settings of all runs", [card(contents.benchmark.settings)])]
    return [folded("Settings of the run", [card(contents.runs[0].config)])] if contents.runs[0].config else []


def _versions(contents: Contents) -> list[Html]:
    if contents.benchmark is not None:
        one = contents.benchmark
        return [card({"commit": one.commit, "time": one.time, "device": one.device, "versions": one.versions})]
    cards = []
    for start in contents.runs[0].run.starts:
        entries = {"step": start.step, **start.as_json()}
        cards.append(card(entries))
    return cards
