"""Commands on finished runs: `sciml evaluate`, `sciml compare` and `sciml predict`."""

import argparse
import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from sciml.cli._errors import Usage
from sciml.cli._options import experiment_file, parse


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    """Test a finished run, also on other test data; metrics.json and the figures are brought up to date."""

    folder: tyro.conf.Positional[pathlib.Path]
    """Folder of the run."""

    resolution: tuple[int, ...] = ()
    """Number of points along each axis; several are possible."""

    condition: tuple[str, ...] = ()
    """Settings of the experiment that make other test data, such as noise=0.1; several are possible. A comma joins the
    settings of one condition: noise=0.1,sensors=16. Blanks join several values of one setting: "samples=10 5 5"."""

    certify: tuple[float, ...] = ()
    """Relative L2 errors that predictions are to keep: what share is accepted by its bound, and how many iterations of
    the solver correct the others; several are possible. For experiments with bounds (darcy)."""

    coverage: tuple[float, ...] = ()
    """Levels of conformal bands, such as 0.9: the validation data calibrate them, the test data show how often they
    hold and how wide they are."""

    file: str | None = None
    """Experiment file, or name of one that comes with sciml, whose code may be executed; by default that of the run."""


def evaluate(arguments: Sequence[str]) -> int:
    """Tests a finished run."""
    options = parse(_Evaluation, arguments, "sciml evaluate")
    from sciml import experiment, parallel

    conditions, file = [], _named(options.file)
    if options.condition:
        config = experiment.read_config(options.folder, experiment.module_of(options.folder, **file))
        conditions = [_changes(config, condition) for condition in options.condition]
    extra = {"coverage": options.coverage, "certify": options.certify}
    metrics = experiment.evaluate(options.folder, options.resolution, conditions, **extra, **file)
    if not parallel.is_first():
        return 0
    results = {"as trained": metrics["test"], **metrics.get("resolutions", {}), **metrics.get("conditions", {})}
    table = Table("test data", *results, title=f"{metrics['model']}, {metrics['parameters']} parameters")
    for name in dict.fromkeys(name for found in results.values() for name in found if name != "note"):
        table.add_row(name, *(f"{found[name]:.4g}" if name in found else "" for found in results.values()))
    console = Console(highlight=False)
    console.print(table)
    for resolution, found in metrics.get("resolutions", {}).items():
        console.print(f"{resolution}: {found['note']}", markup=False, soft_wrap=True)
    for level, found in metrics.get("bands", {}).items():
        held, wide, known = found["coverage"], found["width"], found["calibration"]
        text = f"bands at {level}: hold for {held:.3g} of the test samples, width {wide:.3g} of the root mean square, "
        text += f"calibrated on {known:.0f} validation samples"
        console.print(text, markup=False, soft_wrap=True)
    return 0


def _named(file: str | None) -> dict[str, Any]:
    """The argument `file` of functions that execute an experiment file, if the user names one."""
    return {} if file is None else {"file": experiment_file(file)}


def _changes(config: Any, condition: str) -> dict[str, Any]:
    """Settings of a text like `noise=0.1,sensors=16`, read as `sciml train` reads `--noise 0.1 --sensors 16`.

    Raises:
        Usage: If a part of the text is no FIELD=VALUE.
        SystemExit: If there is no such field, or if the value does not suit it; the message says so.
    """
    from sciml import experiment

    parts = [setting.partition("=") for setting in condition.split(",")]
    if not all(name and equals for name, equals, _ in parts):
        raise Usage(f"Expected --condition FIELD=VALUE, such as noise=0.1, got {condition!r}.")
    options = [text for name, _, value in parts for text in (f"--{name.replace('_', '-')}", *value.split())]
    kind = tyro.conf.FlagConversionOff[type(config)]
    changed = dict(experiment.settings(parse(kind, options, f"sciml evaluate --condition {condition}", default=config)))
    return {name: changed[name] for name in (name.replace("-", "_") for name, _, _ in parts)}


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Print a table of finished runs of one experiment and draw their losses, predictions and errors by resolution."""

    folders: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """Folders of the runs."""

    out: pathlib.Path
    """Folder for the table (JSON) and the figures."""

    file: str | None = None
    """Experiment file, or name of one that comes with sciml, whose code may be executed; by default that of a run."""


def compare(arguments: Sequence[str]) -> int:
    """Compares finished runs."""
    options = parse(_Comparison, arguments, "sciml compare")
    from sciml import experiment

    experiment.compare(options.folders, options.out, **_named(options.file))
    return 0


@dataclasses.dataclass(frozen=True)
class _Prediction:
    """Apply the trained model of a run to a file. sciml predict RUN --help lists the options of its experiment."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run."""

    input: tyro.conf.Positional[pathlib.Path]
    """File that the model is applied to; for operators in any format that `sciml data info` understands."""

    out: pathlib.Path
    """New file for the predicted fields (.nc, .h5 or .npz); for the forecasts of PROSE a new folder."""

    file: str | None = None
    """Experiment file, or name of one that comes with sciml, whose code may be executed; by default that of the run."""


def predict(arguments: Sequence[str]) -> int:
    """Applies the trained model of a run to a file."""
    if not arguments or arguments[0].startswith("-"):
        parse(_Prediction, arguments, "sciml predict")
        raise Usage("Expected the folder of a run first: sciml predict RUN INPUT --out FOLDER.")
    from sciml import experiment, parallel

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--file", nargs="?")
    file = _named(first.parse_known_args(arguments[1:])[0].file)
    prediction, model = experiment.prediction(arguments[0], **file)
    fields: list[Any] = [("files", _Prediction), ("options", prediction.options, prediction.options())]
    options = dataclasses.make_dataclass("Options", fields)
    text = prediction.options.__doc__ or "Apply the trained model of a run to a file."
    given = parse(options, arguments, "sciml predict", text)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with _written_once(given.files.out) as out:
        lines = prediction.apply(model, given.files.input, out, given.options)
    if parallel.is_first():
        for line in lines:
            console.print(line)
    return 0


@contextlib.contextmanager
def _written_once(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where a process writes what all processes compute: process 0 the result, the others what is removed again."""
    from sciml import parallel

    if parallel.is_first():
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder) / out.name
