"""What an experiment is, and the Python file that defines one."""

import dataclasses
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from sciml.train import Every, Loss, Optimiser, Scheduled


def unchanged(model: Any, resolution: int) -> tuple[Any, str]:
    """The default of `Experiment.at_resolution`: the model itself, for operators that take any resolution."""
    return model, "native: the trained model itself, applied at this resolution"


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What is trained on what, and how it is judged.

    Attributes:
        model: The untrained model, any pytree.
        loss: `(model, batch, key) -> (scalar, logs)`, means over the samples of the batch; or one for each step.
        optimiser: From optax, with its schedule, clipping, accumulation and average (`train.averaged`).
        train: Training data: `len(data)`, `data[rows]`.
        steps: Number of optimiser steps.
        batch: Number of samples in a batch.
        evaluate: `(model, data) -> metrics`, lower is better; used for validation and test.
        test: Test data at a resolution, or as they are for None.
        validation: Data that choose the checkpoint; without them the last one is used.
        metric: Name of the metric that decides.
        every: Number of steps between evaluations and checkpoints; by default a twentieth of the run.
        save_seconds: Shortest time between two checkpoints, except of the best state so far and of the last one.
        patience: Number of evaluations without improvement after which the run ends; by default it never does.
        at_resolution: `(model, resolution) -> (model, note)`, the model to evaluate at another resolution, for example
            in `operators.Resampled`, and a sentence that says what was done.
        figures: `(models by name, folder)`, draws what is to be seen of one or several trained models into the folder.
        hooks: Further hooks for the folder of the run, such as `[train.every(100, train.tensorboard(folder))]`.
        split_batches: Whether all devices share each batch. False for losses that are no mean over independent samples,
            such as a batch solved as one equation, and for gradients through diffrax's checkpointed adjoint, which
            `jax.shard_map` does not differentiate (diffrax 0.7.2).
        seed: Seed of the batches and of the loss.
    """

    model: Any
    loss: Loss | Scheduled
    optimiser: Optimiser
    train: Any
    steps: int
    batch: int
    evaluate: Callable[[Any, Any], Mapping[str, float]]
    test: Callable[[int | None], Any]
    _: dataclasses.KW_ONLY
    validation: Any = None
    metric: str = "relative_l2"
    every: int | None = None
    save_seconds: float = 10.0
    patience: int | None = None
    at_resolution: Callable[[Any, int], tuple[Any, str]] = unchanged
    figures: Callable[[Mapping[str, Any], pathlib.Path], None] | None = None
    hooks: Callable[[pathlib.Path], Sequence[Every]] = lambda folder: ()
    split_batches: bool = True
    seed: int = 0


def load_file(path: str | pathlib.Path) -> ModuleType:
    """Imports an experiment file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks `Config`, `PRESETS`, `MODELS` or `build`, or if they do not fit together.
    """
    path = pathlib.Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"There is no experiment file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file. Give an experiment file, such as experiments/darcy.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    missing = [name for name in ("Config", "PRESETS", "MODELS", "build") if name not in vars(module)]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}. See the docstring of sciml.experiment for an example.")
    if not module.PRESETS or not all(isinstance(preset, module.Config) for preset in module.PRESETS.values()):
        raise ValueError(f"PRESETS of {path} must map at least one name to a Config.")
    for preset in module.PRESETS.values():
        _check_names(preset, path)
    return module


def _check_names(config: Any, path: pathlib.Path) -> None:
    """Every field, also of dataclasses in fields, is an option of the command line under its own name alone."""
    names = [field.name for field in dataclasses.fields(config)]
    for value in (getattr(config, name) for name in list(names)):
        if dataclasses.is_dataclass(value):
            names += [field.name for field in dataclasses.fields(value)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"The Config of {path} has more than one field {', '.join(twice)}, counting those of the dataclasses in "
            "it; on the command line they would be one option. Rename the Config's own."
        )
