"""A run: an experiment trained into a folder."""

import functools
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np
from rich.console import Console

from sciml import structure, train
from sciml.data import fingerprint
from sciml.experiment._definition import Experiment, held_out
from sciml.experiment._figures import draw_run
from sciml.experiment._file import settings
from sciml.experiment._folder import as_numbers, check_folder, provenance, read_json, to_json, write_json
from sciml.experiment._training import ShowProgress, train_into


def run_file(
    module: ModuleType,
    config: Any,
    folder: str | pathlib.Path,
    *,
    console: Console | None = None,
    progress: ShowProgress | None = None,
) -> dict[str, Any]:
    """Trains the experiment of a file and a config into a folder, or goes on where a run of the same config stopped.

    Args:
        module: From `load_file`.
        config: A `Config` of it.
        folder: New or empty, or a run of this config.
        console: As in `run`.
        progress: As in `run`.

    Raises:
        ValueError: If the folder holds anything else; also as `run`.
    """
    folder = pathlib.Path(folder)
    check_folder(folder, config)
    name = dict(settings(config)).get("model")
    started = {"name": name, "config": to_json(config), "file": pathlib.Path(str(module.__file__)).resolve()}
    return _run(module.build(config), folder, started, console, progress)


def run(
    experiment: Experiment,
    folder: str | pathlib.Path,
    *,
    console: Console | None = None,
    progress: ShowProgress | None = None,
) -> dict[str, Any]:
    """Trains an experiment into a folder, or goes on where a run of the same experiment stopped.

    The folder holds `config.json`, `run.json` (commit, versions, device, digest of the training data), `model.json`
    (structure of the model), `log.jsonl`, `checkpoints/`, `metrics.json` once the run is finished, and `figures/`. A
    resumed run ends with the same parameters, bit for bit, as one that was never interrupted, on the same machine and
    number of devices. The model that is tested, and that `load` returns, is the best on the validation data, or the
    last without them.

    Args:
        experiment: What is trained on what data.
        folder: New or empty, or a run of this experiment.
        console: Where progress is written.
        progress: `name of the run -> context of a hook`, shows the training; by default `train.Progress`.

    Returns:
        The content of `metrics.json`: `model`, `parameters`, `seconds` of the whole run, `train_seconds` of its steps
        alone, `steps`, `checkpoint`, `test`.

    Raises:
        ValueError: If the folder holds anything else or a run on other data, or a part of the model has no name.
        FloatingPointError: If the loss is not finite; it names the step, the learning rate and the last checkpoint.
        OSError: If the disk is full; earlier checkpoints are intact.
        KeyboardInterrupt: With a message that says from where the run can go on.
    """
    names = ("steps", "batch", "metric", "seed")
    config = {name: getattr(experiment, name) for name in names} | {"model": structure.describe(experiment.model)}
    check_folder(pathlib.Path(folder), config)
    return _run(experiment, pathlib.Path(folder), {"name": None, "config": config, "file": None}, console, progress)


def _run(
    experiment: Experiment,
    folder: pathlib.Path,
    started: Mapping[str, Any],
    console: Console | None,
    progress: ShowProgress | None,
) -> dict[str, Any]:
    console = Console() if console is None else console
    progress = functools.partial(train.Progress, console=console) if progress is None else progress
    say = functools.partial(console.print, highlight=False, soft_wrap=True, markup=False)
    known = fingerprint(experiment.train)
    _check_data(folder, known)
    if (folder / "metrics.json").exists():
        metrics = read_json(folder / "metrics.json")
        say(f"{folder} is finished: {_line(metrics['test'])}")
        return metrics
    description = structure.describe(experiment.model)
    name = started["name"] or _name(experiment.model)
    say(f"{folder}: {name}, {train.parameters(experiment.model):,} parameters, trains on {_summary(experiment)}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", started["config"])
    write_json(folder / "model.json", description)
    checkpoints = train.Checkpoints(
        folder / "checkpoints", metric=experiment.metric if experiment.validation is not None else None
    )
    _note_start(folder, started["file"], experiment, known, checkpoints.latest or 0)
    try:
        log = train_into(folder, experiment, checkpoints, console, progress)
        best = checkpoints.best
        model = checkpoints.restore_model(experiment.model, best)
    finally:
        checkpoints.close()
    metrics = {
        "model": name,
        "parameters": train.parameters(model),
        "seconds": round(log.seconds, 1),
        "train_seconds": log.records[-1].get("training_seconds"),
        "steps": log.records[-1]["step"],
        "checkpoint": best,
        "test": as_numbers(experiment.evaluate(model, held_out(experiment))),
    }
    write_json(folder / "metrics.json", metrics)
    say(f"{folder}: {_line(metrics['test'])}")
    draw_run(experiment, metrics, model, folder)
    return metrics


def _check_data(folder: pathlib.Path, known: Mapping[str, Any]) -> None:
    """Refuses to go on with other training data."""
    path = folder / "run.json"
    before = read_json(path).get("data") if path.exists() else None
    different = [] if before is None else [name for name in known if before.get(name) != known[name]]
    if before is not None and different:
        name = different[0]
        raise ValueError(
            f"{folder} was started with other training data: {name} {before.get(name)}, now {known[name]}. "
            "Use another folder for these data."
        )


def _note_start(
    folder: pathlib.Path, file: pathlib.Path | None, experiment: Experiment, known: Mapping[str, Any], step: int
) -> None:
    """Writes what the run, or its continuation, runs on; earlier entries stay."""
    path = folder / "run.json"
    content = {
        "experiment": None if file is None else str(file),
        "metric": None if experiment.validation is None else experiment.metric,
        "data": known,
        "starts": [*(read_json(path)["starts"] if path.exists() else ()), {"step": step, **provenance(file)}],
    }
    write_json(path, content)


def _summary(experiment: Experiment) -> str:
    """What a run has understood of its data, so that a missing channel axis is seen before the training."""
    count, shapes = len(experiment.train), [np.shape(a)[1:] for a in jax.tree.leaves(experiment.train[np.arange(1)])]
    if getattr(experiment.train, "grid", None) is None:
        return f"{count:,} samples of shape {', '.join(map(str, shapes))}"
    fields = " -> ".join(f"{channels} channel{'s' * (channels != 1)}" for channels, *_ in shapes)
    return f"{count:,} samples: {fields} on {' x '.join(map(str, shapes[0][1:]))} points"


def _name(model: Any) -> str:
    """Name of the class of a model, or of the operator inside of `operators.Normalised`."""
    inner = getattr(model, "operator", model)
    return type(inner).__name__


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
