"""A run: an experiment trained into a folder."""

import functools
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import msgspec
from rich.console import Console

from sciml import parallel, structure, train
from sciml.data import fingerprint
from sciml.experiment._definition import Experiment, held_out
from sciml.experiment._figures import draw_run
from sciml.experiment._file import build_with, settings
from sciml.experiment._folder import check_folder, name_of, summary, to_json
from sciml.experiment._guards import (
    baselines,
    begun,
    check_same_data,
    closed,
    go_back,
    held,
    note_start,
    placement_of,
    tested,
    with_remedy,
)
from sciml.experiment._records import Metrics, read_metrics, write_record
from sciml.experiment._training import ShowProgress, prepare, train_into
from sciml.files import write_json


def run_file(
    module: ModuleType,
    config: Any,
    folder: str | pathlib.Path,
    *,
    start: int | None = None,
    console: Console | None = None,
    progress: ShowProgress | None = None,
    layout: parallel.Layout = parallel.Layout(),
) -> dict[str, Any]:
    """Trains the experiment of a file and a config into a folder, or goes on where a run of the same config stopped.

    Args:
        module: From `load_file`.
        config: A `Config` of it.
        folder: New or empty, or a run of this config.
        start: As in `run`.
        console: As in `run`.
        progress: As in `run`.
        layout: As in `run`.

    Raises:
        ValueError: If the folder holds anything else; also as `run`.
    """
    folder = pathlib.Path(folder)
    parallel.by_first(lambda: check_folder(folder, config))
    file = pathlib.Path(str(module.__file__)).resolve()
    made_of = _Made(dict(settings(config)).get("model"), to_json(config), config, file)
    return _run(build_with(module, config), folder, made_of, start, console, progress, layout)


def run(
    experiment: Experiment,
    folder: str | pathlib.Path,
    *,
    start: int | None = None,
    console: Console | None = None,
    progress: ShowProgress | None = None,
    layout: parallel.Layout = parallel.Layout(),
) -> dict[str, Any]:
    """Trains an experiment into a folder, or goes on where a run of the same experiment stopped.

    The folder holds `config.json`, `run.json` (commit, versions, device, digest of the training data), `model.json`
    (structure of the model), `log.jsonl`, `checkpoints/`, `figures/`, and `metrics.json` once the run is finished. Each
    file has a digest, and a damaged one is refused by name. One process at a time works in a folder. A resumed run ends
    with the same parameters, bit for bit, as one that was never interrupted, on the same machine and number of devices.
    Several processes, see `sciml.parallel.join`, train together; process 0 writes, into a folder that all of them see.
    The model that is tested, and that `load` returns, is the best on the validation data, or the last without them.

    Args:
        experiment: What is trained on what data.
        folder: New or empty, or a run of this experiment.
        start: Step of the checkpoint from which an unfinished run goes on, by default the last one. Later ones and
            damaged ones are moved to `set_aside/`.
        console: Where progress is written.
        progress: `name of the run -> context of a hook`, shows the training; by default `train.Progress`.
        layout: How batches, fields and the state are laid out over the devices; by default all of them share each
            batch. A run may go on with another layout, then to rounding.

    Returns:
        The content of `metrics.json`: `model`, `parameters`, `seconds` of the whole run, `train_seconds` of its steps
        alone, `steps`, `checkpoint`, `test`.

    Raises:
        ValueError: If the folder holds anything else or a run on other data, a part of the model has no name,
            `evaluate` does not return the metric that chooses the checkpoint, or the layout does not fit.
        FloatingPointError: If the loss, a test metric or all validation errors are not finite.
        Damaged: If a file of the run has changed since it was written; it names the file and the last good checkpoint.
        BlockingIOError: If another process works in the folder.
        OSError: If the disk is full; earlier checkpoints are intact.
        KeyboardInterrupt: With a message that says from where the run can go on.
        SystemExit: With the code 0 if a SIGTERM ended the training; the run is saved.
    """
    names = ("steps", "batch", "metric", "seed")
    config = {name: getattr(experiment, name) for name in names} | {"model": structure.describe(experiment.model)}
    parallel.by_first(lambda: check_folder(pathlib.Path(folder), config))
    return _run(experiment, pathlib.Path(folder), _Made(None, config, config, None), start, console, progress, layout)


class _Made(msgspec.Struct):
    """What a run is made of: its name, its config as JSON and as it is compared, its experiment file."""

    name: str | None
    json: dict[str, Any]
    config: Any
    file: pathlib.Path | None


def _run(
    experiment: Experiment,
    folder: pathlib.Path,
    made_of: _Made,
    start: int | None,
    console: Console | None,
    progress: ShowProgress | None,
    layout: parallel.Layout,
) -> dict[str, Any]:
    console = Console(quiet=not parallel.is_first()) if console is None or not parallel.is_first() else console
    progress = functools.partial(train.Progress, console=console) if progress is None else progress
    say = functools.partial(console.print, highlight=False, soft_wrap=True, markup=False)
    known, description = fingerprint(experiment.train), structure.describe(experiment.model)
    name = made_of.name or name_of(experiment.model)
    check_same_data(known)
    finished = functools.partial(_finished, folder, made_of.config, known, say)
    done = parallel.by_first(finished)
    if done is not None:
        return done
    placement = placement_of(experiment, layout)
    prepared, words = prepare(experiment, layout), None if placement is None else placement.words()
    with held(folder), train.predicting_on(placement):
        check_again = lambda: check_folder(folder, made_of.config)  # another process may have begun it in the meantime
        parallel.by_first(check_again)
        done = parallel.by_first(finished)
        if done is not None:
            return done
        metric = None if experiment.validation is None else experiment.metric
        with with_remedy():
            parallel.by_first(
                functools.partial(_begin, experiment, folder, made_of, known, description, (start, words), say)
            )
            checkpoints = train.Checkpoints(folder / "checkpoints", metric=metric)
            with closed(checkpoints):
                log = train_into(folder, experiment, prepared, checkpoints, console, progress)
                best = parallel.broadcast(checkpoints.best)
                model = checkpoints.restore_model(experiment.model, best)
        metrics = Metrics(
            model=name,
            parameters=train.parameters(model),
            seconds=round(log.seconds, 1),
            train_seconds=log.records[-1].get("training_seconds"),
            steps=log.records[-1]["step"],
            checkpoint=best,
            test=tested(experiment, model, held_out(experiment), folder),
            baselines=baselines(experiment),
        )
        return parallel.by_first(functools.partial(_end, experiment, folder, metrics, model, say))


def _begin(
    experiment: Experiment,
    folder: pathlib.Path,
    made_of: _Made,
    known: dict[str, Any],
    description: Any,
    begins: tuple[int | None, str | None],
    say: Any,
) -> None:
    """Writes what a run is made of, or checks that it goes on with the same: from a step, in a layout."""
    start, layout = begins
    before = begun(folder, known)
    name, count = made_of.name or name_of(experiment.model), train.parameters(experiment.model)
    say(f"{folder}: {name}, {count:,} parameters, trains on {summary(experiment.train)}")
    write_json(folder / "config.json", made_of.json)
    write_json(folder / "model.json", description)
    if start is not None:
        go_back(folder, start, say)
    metric = None if experiment.validation is None else experiment.metric
    latest = train.Checkpoints(folder / "checkpoints", metric=metric).latest or 0
    note_start(folder, made_of.file, metric, known, before, {"step": latest, "layout": layout}, say)


def _end(experiment: Experiment, folder: pathlib.Path, metrics: Metrics, model: Any, say: Any) -> dict[str, Any]:
    """Draws the figures and writes the results."""
    with train.predicting_on(None):  # process 0 alone, which has no part of fields that others have
        draw_run(experiment, metrics.as_json(), model, folder)
    write_record(folder / "metrics.json", metrics)  # last: a run without it is not finished
    say(f"{folder}: {_line(metrics.test)}")
    return metrics.as_json()


def _finished(folder: pathlib.Path, config: Any, known: Mapping[str, Any], say: Any) -> dict[str, Any] | None:
    """The results of a finished run of this config on these data, None if it is not finished."""
    if not (folder / "metrics.json").exists():
        return None
    check_folder(folder, config)
    begun(folder, known)
    metrics = read_metrics(folder)
    say(f"{folder} is finished: {_line(metrics.test)}")
    return metrics.as_json()


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
