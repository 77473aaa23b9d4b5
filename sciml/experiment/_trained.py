"""The trained model of a run, and its errors on other test data."""

import pathlib
from collections.abc import Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from sciml import structure, train
from sciml.experiment._definition import Prediction, held_out
from sciml.experiment._figures import draw_run
from sciml.experiment._file import load_file, with_settings
from sciml.experiment._folder import as_numbers, config_from_json, read_json, write_json


def load(folder: str | pathlib.Path, classes: Sequence[Any] = ()) -> Any:
    """The trained model of a run: the one that was tested, or the best so far if the run is not finished.

    Nothing of the experiment file is executed: the structure comes from `model.json`, the arrays from the checkpoint.

    Args:
        folder: The folder of the run.
        classes: Classes and functions of the model that are not part of sciml or of the packages it builds on.

    Raises:
        FileNotFoundError: If the folder is not a run, or has no checkpoint yet.
        ValueError: If the model uses a class that is not known.
    """
    folder = pathlib.Path(folder)
    like = structure.rebuild(read_json(folder / "model.json"), classes)
    checkpoints = train.Checkpoints(folder / "checkpoints", metric=read_json(folder / "run.json")["metric"])
    finished = folder / "metrics.json"
    try:
        step = read_json(finished)["checkpoint"] if finished.exists() else checkpoints.best
        return checkpoints.restore_model(like, step)
    finally:
        checkpoints.close()


def module_of(folder: str | pathlib.Path, file: str | pathlib.Path | None = None) -> ModuleType:
    """The experiment file of a run, imported. This executes its code.

    Args:
        folder: The folder of the run.
        file: The experiment file, if it is no longer where the run found it.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        ValueError: If the run was not made from a file.
    """
    started = read_json(pathlib.Path(folder) / "run.json")["experiment"]
    if file is None and started is None:
        raise ValueError(f"The run {folder} was not made from an experiment file. Give the file.")
    return load_file(started if file is None else file)


def load_with(folder: str | pathlib.Path, module: ModuleType) -> Any:
    """The trained model of a run, which may consist of classes and functions of its experiment file."""
    return load(folder, [one for one in vars(module).values() if isinstance(one, type | FunctionType)])


def read_config(folder: str | pathlib.Path, module: ModuleType) -> Any:
    """The config of a run, as the `Config` of its experiment file; see `load_file`.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the config has settings that the file does not know.
    """
    return config_from_json(module.Config, read_json(pathlib.Path(folder) / "config.json"))


def evaluate(
    folder: str | pathlib.Path,
    resolutions: Sequence[int] = (),
    conditions: Sequence[Mapping[str, Any]] = (),
    *,
    file: Any = None,
) -> dict[str, Any]:
    """Evaluates a finished run on other test data, adds the results to its `metrics.json` and draws its figures.

    Args:
        folder: The folder of the run.
        resolutions: Numbers of points along each axis of the test data.
        conditions: Settings of the experiment's config that make other test data: `{"noise": 0.1}`.
        file: The experiment file, if it is no longer where the run found it.

    Returns:
        The content of `metrics.json`, with `resolutions: {"32": {"relative_l2": ..., "note": how it was evaluated}}`
        and `conditions: {"noise=0.1": {"relative_l2": ...}}`.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        ValueError: If the run is not finished, or there are no such test data.
    """
    folder = pathlib.Path(folder)
    read_json(folder / "run.json")
    if not (folder / "metrics.json").exists():
        raise ValueError(f"The run {folder} is not finished. Run its command again first; it goes on where it stopped.")
    metrics, module = read_json(folder / "metrics.json"), module_of(folder, file)
    config, trained = read_config(folder, module), load_with(folder, module)
    experiment = module.build(config)
    for resolution in resolutions:
        known = held_out(experiment, resolution)
        model, note = experiment.at_resolution(trained, resolution)
        found = as_numbers(experiment.evaluate(model, known))
        metrics.setdefault("resolutions", {})[str(resolution)] = {**found, "note": note}
    for condition in conditions:
        changed = module.build(with_settings(config, condition))
        name = " ".join(f"{setting}={value}" for setting, value in condition.items())
        metrics.setdefault("conditions", {})[name] = as_numbers(changed.evaluate(trained, held_out(changed)))
    write_json(folder / "metrics.json", metrics)
    draw_run(experiment, metrics, trained, folder)
    return metrics


def prediction(folder: str | pathlib.Path, *, file: Any = None) -> tuple[Prediction, Any]:
    """How the trained model of a run is applied to a user's file, and the model. This executes the experiment file.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        ValueError: If the experiment predicts nothing from files.
    """
    module = module_of(folder, file)
    experiment = module.build(read_config(folder, module))
    if experiment.predict is None:
        raise ValueError(
            f"The experiment of {folder} has no `predict`, so that it predicts nothing from files. Load the model with "
            "sciml.experiment.load(folder) and call it, or train an experiment that predicts, such as prose_ode."
        )
    return experiment.predict, load_with(folder, module)
