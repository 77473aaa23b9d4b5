"""The Python file that defines an experiment, and the settings of its Config."""

import dataclasses
import hashlib
import importlib.util
import pathlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeVar

Config = TypeVar("Config")
Value = TypeVar("Value")


def load_file(path: str | pathlib.Path) -> ModuleType:
    """Imports an experiment file. This executes its code.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks `Config`, `PRESETS`, `MODELS` or `build`, or if they do not fit together.
    """
    path = pathlib.Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"There is no experiment file {path}.")
    name = f"experiment_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file. Give an experiment file, such as experiments/darcy.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up; the name can be that of no other module
    spec.loader.exec_module(module)
    missing = [name for name in ("Config", "PRESETS", "MODELS", "build") if name not in vars(module)]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}. See the docstring of sciml.experiment for an example.")
    if not module.PRESETS or not all(isinstance(preset, module.Config) for preset in module.PRESETS.values()):
        raise ValueError(f"PRESETS of {path} must map at least one name to a Config.")
    for preset in module.PRESETS.values():
        names = [name for name, _ in settings(preset)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"The Config of {path} has more than one field {', '.join(twice)}, counting those of the dataclasses "
                "in it; on the command line they would be one option. Rename the Config's own."
            )
    return module


def settings(config: Any) -> list[tuple[str, Any]]:
    """Names and values of all settings of a config: its fields, and those of the option groups among them."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found += settings(value) if dataclasses.is_dataclass(value) else [(field.name, value)]
    return found


def with_settings(config: Config, changes: Mapping[str, Any]) -> Config:
    """A config with other values of some settings, which may be fields of its option groups, or of whole groups.

    Raises:
        ValueError: If it has no such setting; it lists those that exist.
    """
    used: set[str] = set()

    def changed(group: Any) -> Any:
        new = {}
        for name in (field.name for field in dataclasses.fields(group)):
            if name in changes:
                used.add(name)
                new[name] = changes[name]
            elif dataclasses.is_dataclass(getattr(group, name)):
                new[name] = changed(getattr(group, name))
        return dataclasses.replace(group, **new)

    found = changed(config)
    unknown = [name for name in changes if name not in used]
    if unknown:
        known = ", ".join(name for name, _ in settings(config))
        raise ValueError(f"Expected settings of {known}, got {', '.join(unknown)}.")
    return found


def chosen(what: str, name: str, known: Mapping[str, Value]) -> Value:
    """`known[name]`, for a setting that is one of several names: `chosen("a model", config.model, MODELS)`.

    Raises:
        ValueError: If there is no such name; it lists the known ones.
    """
    if name not in known:
        raise ValueError(f"Expected {what} of {', '.join(known)}, got {name!r}.")
    return known[name]
