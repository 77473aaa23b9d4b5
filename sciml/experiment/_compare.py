"""Finished runs of one experiment beside each other: a table and figures."""

import pathlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from sciml import parallel
from sciml.experiment._figures import draw_losses, draw_resolutions
from sciml.experiment._file import build_with
from sciml.experiment._records import read_metrics, read_run
from sciml.experiment._trained import load_with, module_of, read_config
from sciml.files import write_json
from sciml.train import read_log


def compare(
    folders: Sequence[str | pathlib.Path],
    out: str | pathlib.Path,
    *,
    file: str | pathlib.Path | None = None,
    console: Console | None = None,
) -> Any:
    """Prints a table of finished runs and draws their losses, predictions and errors against the resolution.

    Of several processes, process 0 does it.

    Args:
        folders: Folders of runs of one experiment file; the test data are those of the first one.
        out: Folder for `table.json` and the figures `losses.png`, `predictions.png` and, for runs that were evaluated
            at several resolutions, `resolutions.png`.
        file: The experiment file to execute for the predictions, if it is not the recorded one; see `module_of`.
        console: Where the table is printed.

    Returns:
        The rows of the table: `run`, and what `metrics.json` of the run holds.

    Raises:
        FileNotFoundError: If a folder is not a finished run, or the experiment file is gone.
        PermissionError: If the recorded experiment file is not the one that made the runs; see `module_of`.
        ValueError: If no folder is given, or the runs belong to different experiment files.
    """
    paths = [pathlib.Path(folder) for folder in folders]
    if not paths:
        raise ValueError("Expected at least one finished run to compare, got none.")
    return parallel.by_first(
        lambda: _compared(paths, pathlib.Path(out), file, Console() if console is None else console)
    )


def _compared(
    paths: Sequence[pathlib.Path], out: pathlib.Path, file: str | pathlib.Path | None, console: Console
) -> list[dict[str, Any]]:
    found = [read_metrics(path).as_json() for path in paths]
    started = [read_run(path) for path in paths]
    files = {one.experiment for one in started}
    if len(files) > 1:
        raise ValueError(f"Expected runs of one experiment file, got runs of {', '.join(map(str, files))}.")
    models = [one["model"] for one in found]
    names = [one if models.count(one) == 1 else path.name for one, path in zip(models, paths, strict=True)]
    module = None if files == {None} and file is None else module_of(paths[0], file)
    out.mkdir(parents=True, exist_ok=True)
    rows = [{"run": name, **one} for name, one in zip(names, found, strict=True)]
    write_json(out / "table.json", rows)
    console.print(_table(rows))
    metric = started[0].metric or next(iter(found[0]["test"]))
    draw_losses(
        {name: read_log(path / "log.jsonl") for name, path in zip(names, paths, strict=True)},
        metric,
        out / "losses.png",
    )
    draw_resolutions(dict(zip(names, found, strict=True)), metric, out / "resolutions.png")
    if module is not None:
        _draw_predictions(module, names, paths, out)
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line per run: size, errors on the test data, and errors at other resolutions where they were asked for."""
    names = list(rows[0]["test"])
    resolutions = sorted({size for row in rows for size in row.get("resolutions", {})}, key=int)
    others = [f"{names[0]} at {size}" for size in resolutions]
    table = Table("model", "parameters", *names, *others, "seconds", title="errors on the test data")
    for row in rows:
        far = [row.get("resolutions", {}).get(size, {}).get(names[0]) for size in resolutions]
        errors = [*(row["test"].get(name) for name in names), *far]
        cells = ["" if error is None else f"{error:.4f}" for error in errors]
        table.add_row(row["run"], f"{row['parameters']:,}", *cells, f"{row['seconds']:.0f}")
    for name, found in rows[0].get("baselines", {}).items():
        table.add_row(
            name, "", *(f"{found[one]:.4f}" if one in found else "" for one in names), *[""] * len(others), ""
        )
    return table


def _draw_predictions(
    module: ModuleType, names: Sequence[str], paths: Sequence[pathlib.Path], out: pathlib.Path
) -> None:
    figures = build_with(module, read_config(paths[0], module)).figures
    if figures is not None:
        figures({name: load_with(path, module) for name, path in zip(names, paths, strict=True)}, out)
