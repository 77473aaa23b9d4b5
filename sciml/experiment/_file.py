"""The Python file that defines an experiment, and the settings of its Config."""

import dataclasses
import hashlib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeVar

from sciml.experiment._definition import Experiment
from sciml.experiment._ensemble import ensemble
from sciml.experiment._ranges import Training, check_settings

Config = TypeVar("Config")
Value = TypeVar("Value")


def load_file(path: str | pathlib.Path) -> ModuleType:
    """Imports an experiment file. This executes its code.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its code fails, with the line, type and message of the error, which is the cause; if it lacks
            `Config`, `PRESETS`, `MODELS` or `build`, or if they do not fit together.
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
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(_reason(error, path)) from error
    missing = [name for name in ("Config", "PRESETS", "MODELS", "build") if name not in vars(module)]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}. See the docstring of sciml.experiment for an example.")
    presets = module.PRESETS.values() if isinstance(module.PRESETS, Mapping) else ()
    if not presets or not all(isinstance(module.Config, type) and isinstance(one, module.Config) for one in presets):
        raise ValueError(f"PRESETS of {path} must map at least one name to a Config.")
    if not dataclasses.is_dataclass(module.Config):
        raise ValueError(f"Config of {path} must be a frozen dataclass, got {module.Config!r}.")
    if not isinstance(module.MODELS, Mapping) or not callable(module.build):
        raise ValueError(f"MODELS of {path} must map names to models, and build must be a function.")
    for preset in module.PRESETS.values():
        names = [name for name, _ in settings(preset)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"The Config of {path} has more than one field {', '.join(twice)}, counting those of the dataclasses "
                "in it; on the command line they would be one option. Rename the Config's own."
            )
    return module


def _reason(error: BaseException, path: pathlib.Path) -> str:
    """Where the code of an experiment file failed, and why."""
    name, text = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename:
        place, text = f"{error.filename}, line {error.lineno}", error.msg
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path}, line {frames[-1].lineno}" if frames else str(path)
    if isinstance(error, SystemExit):
        return f"{place}: the file ends the process (sys.exit). Keep what a script does out of an experiment file."
    return f"{place}: {name}: {text}" if text else f"{place}: {name}"


def build_with(module: ModuleType, config: Any) -> Experiment:
    """`module.build(config)`, the experiment of a file and a config, whose values are checked before.

    Several processes build at the same time, and share the work of what they draw (`data.cached`).

    Raises:
        ValueError: If the settings make no experiment, with the type and the message of the error, which is the cause;
            if `build` returns anything else.
        OSError: If a file cannot be read or written.
        ImportError: If a package is missing.
    """
    check_settings(config)
    try:
        built = module.build(config)
    except (OSError, ImportError, FloatingPointError):
        raise
    except Exception as error:
        if type(error) in (ValueError, RuntimeError):
            raise
        text = " ".join(str(error).split())[:1000]
        remedy = "Use smaller sizes." if isinstance(error, MemoryError) else "Compare them with those of its presets."
        raise ValueError(
            f"These settings of {module.__file__} make no experiment: {type(error).__name__}"
            f"{': ' if text else ''}{text}{'' if text.endswith('.') else '.'} {remedy}"
        ) from error
    if not isinstance(built, Experiment):
        raise ValueError(f"Expected an Experiment from build of {module.__file__}, got {type(built).__name__}.")
    return ensemble(built, _members(config))


def _members(config: Any) -> int:
    """The number of members that the `Training` of a config asks for."""
    groups = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return next((group.members for group in groups if isinstance(group, Training)), 1)


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
