"""A run: training into a folder, the trained model back from it, its errors at other resolutions."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from sciml import train
from sciml.experiment._definition import Experiment, load_file
from sciml.experiment._figures import draw_losses, draw_resolutions
from sciml.experiment._folder import check_folder, from_json, provenance, read_json, to_json, versions, write_json
from sciml.experiment._training import ShowProgress, device, train_into


def run(
    build: Callable[[Any], Experiment],
    config: Any,
    folder: str | pathlib.Path,
    *,
    file: str | pathlib.Path | None = None,
    console: Console | None = None,
    progress: ShowProgress | None = None,
) -> dict[str, Any]:
    """Trains `build(config)` into a folder, or goes on where a run of the same config stopped.

    The folder holds `config.json`, `run.json` (commit, versions, device), `model.json` (structure of the model),
    `log.jsonl`, `checkpoints/`, `metrics.json` once the run is finished, and `figures/`. A resumed run ends with the
    same parameters, bit for bit, as one that was never interrupted, on the same machine and number of devices. The
    model that is tested, and that `load` returns, is the best on the validation data, or the last without them.

    Args:
        build: From an experiment file.
        config: Its argument.
        folder: New or empty, or a run of this config.
        file: The experiment file, for `evaluate`.
        console: Where progress is written.
        progress: `name of the run -> context of a hook`, shows the training; by default `train.Progress`.

    Returns:
        The content of `metrics.json`: `model`, `parameters`, `seconds` of the whole run, `train_seconds` of its steps
        alone, `steps`, `checkpoint`, `test`.

    Raises:
        ValueError: If the folder holds anything else, or if a part of the model cannot be described.
        FloatingPointError: If the loss is not finite; it names the step, the learning rate and the last checkpoint.
        OSError: If the disk is full; earlier checkpoints are intact.
        KeyboardInterrupt: With a message that says from where the run can go on.
    """
    folder = pathlib.Path(folder)
    file = None if file is None else pathlib.Path(file).resolve()
    console = Console() if console is None else console
    progress = functools.partial(train.Progress, console=console) if progress is None else progress
    check_folder(folder, config)
    if (folder / "metrics.json").exists():
        metrics = read_json(folder / "metrics.json")
        console.print(f"{folder} is finished: {_line(metrics['test'])}", highlight=False, soft_wrap=True)
        return metrics
    experiment = build(config)
    description = train.describe(experiment.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", to_json(config))
    write_json(folder / "model.json", description)
    checkpoints = _checkpoints(folder, None if experiment.validation is None else experiment.metric)
    _note_start(folder, file, experiment, checkpoints.latest or 0)
    try:
        log = train_into(folder, experiment, checkpoints, console, progress)
        best = checkpoints.best
        model = checkpoints.restore_model(experiment.model, best)
    finally:
        checkpoints.close()
    metrics = {
        "model": getattr(config, "model", type(experiment.model).__name__),
        "parameters": train.parameters(model),
        "seconds": round(log.seconds, 1),
        "train_seconds": log.records[-1].get("training_seconds"),
        "steps": log.records[-1]["step"],
        "checkpoint": best,
        "test": _numbers(experiment.evaluate(model, experiment.test(None))),
    }
    write_json(folder / "metrics.json", metrics)
    console.print(f"{folder}: {_line(metrics['test'])}", highlight=False, soft_wrap=True)
    _draw(experiment, metrics, {metrics["model"]: model}, folder)
    return metrics


def load(folder: str | pathlib.Path, classes: Sequence[Any] = ()) -> Any:
    """The trained model of a run: the best on its validation data, or the last without them.

    Nothing of the experiment file is executed: the structure comes from `model.json`, the arrays from the checkpoint.

    Args:
        folder: The folder of the run.
        classes: Classes and functions of the model that are not part of sciml or of the packages it builds on.

    Raises:
        FileNotFoundError: If the folder is not a run, or has no checkpoint yet.
        ValueError: If the model uses a class that is not known.
    """
    folder = pathlib.Path(folder)
    like = train.rebuild(read_json(folder / "model.json"), classes)
    checkpoints = _checkpoints(folder, read_json(folder / "run.json")["metric"])
    try:
        return checkpoints.restore_model(like, checkpoints.best)
    finally:
        checkpoints.close()


def read_config(folder: str | pathlib.Path, module: Any) -> Any:
    """The config of a run, as the `Config` of its experiment file; see `load_file`.

    Raises:
        FileNotFoundError: If the folder is not a run.
        TypeError: If the config is of another experiment.
    """
    return from_json(module.Config, read_json(pathlib.Path(folder) / "config.json"))


def evaluate(folder: str | pathlib.Path, resolutions: Sequence[int] = (), *, file: Any = None) -> dict[str, Any]:
    """Evaluates a finished run at other resolutions, adds the results to its `metrics.json` and draws its figures.

    Args:
        folder: The folder of the run.
        resolutions: What `Experiment.test` and `Experiment.at_resolution` are called with.
        file: The experiment file, if it is no longer where the run found it.

    Returns:
        The content of `metrics.json`, with `resolutions: {"32": {"relative_l2": ..., "note": how it was evaluated}}`.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        ValueError: If the run is not finished.
    """
    folder = pathlib.Path(folder)
    started = read_json(folder / "run.json")
    if not (folder / "metrics.json").exists():
        raise ValueError(f"The run {folder} is not finished. Run its command again first; it goes on where it stopped.")
    metrics = read_json(folder / "metrics.json")
    if file is None and started["experiment"] is None:
        raise ValueError(f"The run {folder} was not made from an experiment file. Give the file.")
    module = load_file(started["experiment"] if file is None else file)
    experiment = module.build(read_config(folder, module))
    checkpoints = _checkpoints(folder, started["metric"])
    try:
        trained = checkpoints.restore_model(experiment.model, metrics["checkpoint"])
    finally:
        checkpoints.close()
    for resolution in resolutions:
        model, note = experiment.at_resolution(trained, resolution)
        found = _numbers(experiment.evaluate(model, experiment.test(resolution)))
        metrics.setdefault("resolutions", {})[str(resolution)] = {**found, "note": note}
    write_json(folder / "metrics.json", metrics)
    _draw(experiment, metrics, {metrics["model"]: trained}, folder)
    return metrics


def _draw(experiment: Experiment, metrics: Mapping[str, Any], models: Mapping[str, Any], folder: pathlib.Path) -> None:
    figures, name = folder / "figures", metrics["model"]
    draw_losses({name: train.read_log(folder / "log.jsonl")}, experiment.metric, figures / "losses.png")
    draw_resolutions({name: metrics}, experiment.metric, figures / "resolutions.png")
    if experiment.figures is not None:
        experiment.figures(models, figures)


def _checkpoints(folder: pathlib.Path, metric: str | None) -> train.Checkpoints:
    return train.Checkpoints(folder / "checkpoints", metric=metric)


def _note_start(folder: pathlib.Path, file: pathlib.Path | None, experiment: Experiment, step: int) -> None:
    """Writes what the run, or its continuation, runs on; earlier entries stay."""
    path = folder / "run.json"
    now = {
        **provenance(file),
        "step": step,
        "device": device(),
        "versions": versions(),
    }
    content = {
        "experiment": None if file is None else str(file),
        "metric": None if experiment.validation is None else experiment.metric,
        "starts": [*(read_json(path)["starts"] if path.exists() else ()), now],
    }
    write_json(path, content)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
