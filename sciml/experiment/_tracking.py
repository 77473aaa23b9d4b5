"""Further hooks for the runs of an experiment file."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from sciml.experiment._definition import Experiment
from sciml.experiment._folder import to_json
from sciml.experiment._training import cadences
from sciml.train import Hook, every


def with_hooks(module: ModuleType, hooks: Callable[[dict[str, Any], pathlib.Path], Sequence[Hook]]) -> ModuleType:
    """An experiment file whose runs have further hooks, called as often as a line is written to the log.

    The runs are the same otherwise: hooks see the training and do not change it.

    Args:
        module: From `load_file`; it is not changed.
        hooks: `(config as JSON, folder of the run) -> hooks`, called when the training begins or goes on.
    """

    def build(config: Any) -> Any:
        built = module.build(config)
        if not isinstance(built, Experiment):
            return built  # refused by `build_with`
        often = cadences(built)[1]
        more = lambda folder: [every(often, hook) for hook in hooks(to_json(config), folder)]
        return dataclasses.replace(built, hooks=lambda folder: [*built.hooks(folder), *more(folder)])

    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module), build=build)
    return copy
