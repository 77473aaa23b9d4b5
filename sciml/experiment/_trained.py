"""The trained model of a run, and its errors on other test data."""

import pathlib
from collections.abc import Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from sciml import parallel, structure, train
from sciml.experiment._definition import Experiment, Prediction, held_out
from sciml.experiment._figures import draw_run
from sciml.experiment._file import build_with, load_file, with_settings
from sciml.experiment._folder import as_numbers, config_from_json
from sciml.experiment._guards import check_precision, finite, held, tested
from sciml.experiment._records import Metrics, read_metrics, read_part, read_run, write_record
from sciml.files import digest_of


def load(folder: str | pathlib.Path, classes: Sequence[Any] = (), *, step: int | None = None) -> Any:
    """The trained model of a run: the one that was tested, or the best so far if the run is not finished.

    Nothing of the run is executed: the structure comes from `model.json`, whose names stand for objects of the table of
    `sciml.structure` or of `classes`, the arrays from the checkpoint, whose files are compared with their digests.

    Args:
        folder: The folder of the run.
        classes: Your own classes and functions that the model consists of.
        step: The number of steps of another checkpoint.

    Raises:
        FileNotFoundError: If the folder is not a run, or has no such checkpoint.
        Damaged: If a file has changed since it was written; it names the file and the last good checkpoint.
        ValueError: If the model uses a class that is not known, or the folder holds links.
    """
    folder = pathlib.Path(folder)
    run = read_run(folder)
    check_precision(folder, run)
    description = read_part(folder, "model.json", Any)
    try:
        like = structure.rebuild(description, classes)
    except ValueError as error:
        raise ValueError(f"{folder / 'model.json'}: {error}") from None
    checkpoints = train.Checkpoints(folder / "checkpoints", metric=run.metric, digests=run.format > 1)
    if step is None:
        step = read_metrics(folder).checkpoint if (folder / "metrics.json").exists() else checkpoints.best
    return checkpoints.restore_model(like, step)


def module_of(folder: str | pathlib.Path, file: str | pathlib.Path | None = None) -> ModuleType:
    """The experiment file of a run, imported. This executes its code, if it is the file that made the run.

    Args:
        folder: The folder of the run.
        file: An experiment file to execute in place of the recorded one: naming it is the consent to run its code.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        PermissionError: If the recorded file is inside of the folder, or is not, byte for byte, the one that made the
            run.
        ValueError: If the run was not made from a file.
    """
    if file is not None:
        return load_file(file)
    folder = pathlib.Path(folder)
    run = read_run(folder)
    if run.experiment is None:
        raise ValueError(f"The run {folder} was not made from an experiment file. Give the file.")
    if not run.experiment.isprintable():
        raise ValueError(f"{folder / 'run.json'} names {run.experiment!r:.500} as the experiment file. Give the file.")
    path = pathlib.Path(run.experiment)
    allow = f"If you trust it, name it: --file {path} (file= in Python)."
    if path.resolve().is_relative_to(folder.resolve()):
        raise PermissionError(f"{folder} asks to execute {path}, a file inside of the run folder. {allow}")
    if not path.is_file():
        raise FileNotFoundError(f"The experiment file {path} of {folder} is gone. Name another one: --file FILE.")
    if not path.is_absolute() or digest_of(path) != run.digest:
        what = "is not recorded with its digest" if run.digest is None else "is not the file that made the run"
        raise PermissionError(f"{folder} asks to execute {path}, which {what}. {allow}")
    return load_file(path)


def load_with(folder: str | pathlib.Path, module: ModuleType) -> Any:
    """The trained model of a run, which may consist of classes and functions of its experiment file."""
    own = [one for one in vars(module).values() if isinstance(one, type | FunctionType)]
    return load(folder, [one for one in own if one.__module__ == module.__name__])


def read_config(folder: str | pathlib.Path, module: ModuleType) -> Any:
    """The config of a run, as the `Config` of its experiment file; see `load_file`.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the config has settings that the file does not know, or values of other types.
    """
    saved = read_part(folder, "config.json", dict[str, Any])
    try:
        return config_from_json(module.Config, saved)
    except ValueError as error:
        raise ValueError(f"{pathlib.Path(folder) / 'config.json'}: {error}") from None


def evaluate(
    folder: str | pathlib.Path,
    resolutions: Sequence[int] = (),
    conditions: Sequence[Mapping[str, Any]] = (),
    *,
    coverage: Sequence[float] = (),
    certify: Sequence[float] = (),
    file: Any = None,
) -> dict[str, Any]:
    """Evaluates a finished run on other test data, adds the results to its `metrics.json` and draws its figures.

    Several processes share the predictions of `train.predict`; process 0 writes.

    Args:
        folder: The folder of the run.
        resolutions: Numbers of points along each axis of the test data.
        conditions: Settings of the experiment's config that make other test data: `{"noise": 0.1}`.
        coverage: Levels of conformal bands, such as 0.9, which the validation data calibrate.
        certify: Tolerances, each of which the predictions of the test data are to keep (`uq.certify`). With levels or
            tolerances alone no figure is drawn again.
        file: The experiment file to execute, if it is not the recorded one; see `module_of`.

    Returns:
        The content of `metrics.json`, with `resolutions: {"32": {"relative_l2": ..., "note": how it was evaluated}}`,
        `conditions: {"noise=0.1": {"relative_l2": ...}, "certified 0.01": {"accepted": ...}}` and
        `bands: {"0.9": {"coverage": ..., "width": ...}}`.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        PermissionError: If the recorded experiment file is not the one that made the run; see `module_of`.
        BlockingIOError: If another process works in the folder.
        Damaged: If a file of the run has changed since it was written.
        FloatingPointError: If an error is not finite.
        ValueError: If the run is not finished, there are no such test data, too few validation data for a level, or
            no bounds.
    """
    folder = pathlib.Path(folder)
    read_run(folder)
    if not (folder / "metrics.json").exists():
        raise ValueError(f"The run {folder} is not finished. Run its command again first; it goes on where it stopped.")
    module = module_of(folder, file)
    with held(folder):
        metrics, config, trained = read_metrics(folder), read_config(folder, module), load_with(folder, module)
        experiment = build_with(module, config)
        for resolution in resolutions:
            known = held_out(experiment, resolution)
            model, note = experiment.at_resolution(trained, resolution)
            metrics.resolutions[str(resolution)] = {**tested(experiment, model, known, folder), "note": note}
        for condition in conditions:
            changed = build_with(module, with_settings(config, condition))
            name = " ".join(f"{setting}={value}" for setting, value in condition.items())
            metrics.conditions[name] = tested(changed, trained, held_out(changed), folder)
        for level in coverage:
            metrics.bands[f"{level:g}"] = _bands(experiment, trained, level)
        for tolerance in certify:
            metrics.conditions[f"certified {tolerance:g}"] = finite(_certified(experiment, trained, tolerance), folder)
        drawn = bool(resolutions or conditions or not (coverage or certify))
        parallel.by_first(lambda: _note(experiment, folder, metrics, trained, drawn=drawn))
    return metrics.as_json()


def _bands(experiment: Experiment, trained: Any, level: float) -> dict[str, float]:
    """Coverage and width of bands at a level.

    Raises:
        ValueError: If the experiment has no bands, or nothing to calibrate them.
    """
    if experiment.coverage is None or experiment.validation is None:
        lacks = "validation data, which calibrate them" if experiment.coverage is not None else "`coverage`"
        raise ValueError(
            f"Expected an experiment with bands, and this one has no {lacks}. Leave out --coverage, or give the "
            "experiment what is missing."
        )
    return as_numbers(experiment.coverage(trained, experiment.validation, held_out(experiment), level))


def _certified(experiment: Experiment, trained: Any, tolerance: float) -> Mapping[str, float]:
    if experiment.certify is None:
        raise ValueError(
            "The experiment has no `certify`: the errors of its predictions have no bound. Use one with bounds: darcy."
        )
    return experiment.certify(trained, held_out(experiment), tolerance)


def _note(experiment: Experiment, folder: pathlib.Path, metrics: Metrics, trained: Any, *, drawn: bool) -> None:
    write_record(folder / "metrics.json", metrics)
    if drawn:
        draw_run(experiment, metrics.as_json(), trained, folder)


def prediction(folder: str | pathlib.Path, *, file: Any = None) -> tuple[Prediction, Any]:
    """How the trained model of a run is applied to a user's file, and the model. This executes the experiment file.

    Raises:
        FileNotFoundError: If the folder is not a run, or its experiment file is gone.
        PermissionError: If the recorded experiment file is not the one that made the run; see `module_of`.
        ValueError: If the experiment predicts nothing from files.
    """
    module = module_of(folder, file)
    experiment = build_with(module, read_config(folder, module))
    if experiment.predict is None:
        raise ValueError(
            f"The experiment of {folder} has no `predict`, so that it predicts nothing from files. Load the model with "
            "sciml.experiment.load(folder) and call it, or train an experiment that predicts, such as prose_ode."
        )
    return experiment.predict, load_with(folder, module)
