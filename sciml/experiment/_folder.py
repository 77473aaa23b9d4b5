"""The settings of a run as JSON, and what it ran on."""

import dataclasses
import datetime
import enum
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import typeguard

from sciml.experiment._records import read_part

_PACKAGES = ("sciml-jax", "jax", "jaxlib", "equinox", "optax", "flax", "orbax-checkpoint", "numpy")


def to_json(value: Any) -> Any:
    """A config as JSON: dataclasses become objects, tuples lists, paths and enumerations strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"A Config holds numbers, strings, paths, tuples and dataclasses, got {value!r}.")


def from_json(kind: Any, value: Any) -> Any:
    """The inverse of `to_json` for an annotated type, such as a Config."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return None if value is None else from_json(_member(arguments, value), value)
    if typing.get_origin(kind) is typing.Annotated:
        return from_json(arguments[0], value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{name: from_json(hints[name], item) for name, item in value.items()})
    if isinstance(value, list):
        plain = typing.get_origin(kind) or kind
        same = arguments[:1] * len(value) if arguments and (plain is list or arguments[-1] is ...) else arguments
        items = [from_json(one, item) for one, item in zip(same or [Any] * len(value), value, strict=True)]
        return items if plain is list else tuple(items)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind[value]
    if kind is float:
        return float(value)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return kind(value)
    return value


_FORMERLY = {
    "lr": "rate",
    "split": "judge",
    "history": "inputs",
    "horizon": "predicted",
    "initial_conditions": "starts",
    "max_tokens": "longest",
    "blank_guesses": "blank",
    "known_guesses": "told",
    "constant_std": "trust",
    "number_features": "smooth",
}
"""Settings -> their names in earlier versions."""
_FORMER_VALUES = {"guess": {"unknown": "perturbed"}}
"""Settings -> their values in earlier versions -> the present ones."""


def config_from_json(kind: type, value: Mapping[str, Any]) -> Any:
    """The config that a run folder holds.

    A setting that is not where the present Config has it, in a run of an earlier version, is found by its name wherever
    it is. Settings that the run has not get their defaults.

    Raises:
        ValueError: If the run has settings that the Config does not know, or a value is of another type.
    """
    anywhere = dict(_entries(value))
    left = {name for name, item in anywhere.items() if not isinstance(item, Mapping)}

    def group(kind: type, own: Mapping[str, Any]) -> Any:
        hints = typing.get_type_hints(kind, include_extras=True)
        found = {}
        for field in dataclasses.fields(kind):
            inner = hints[field.name]
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                part = own.get(field.name)
                found[field.name] = group(inner, part if isinstance(part, Mapping) else {})
                continue
            names = field.name, _FORMERLY.get(field.name, field.name)
            places = [(items, name) for items in (own, anywhere) for name in names if name in items]
            if places:
                items, name = places[0]
                left.difference_update(dict(_entries({name: items[name]})))
                former = _FORMER_VALUES.get(field.name, {})
                found[field.name] = _setting(field.name, inner, former.get(str(items[name]), items[name]))
        return kind(**found)

    config = group(kind, value)
    if left:
        raise ValueError(
            f"The run was made with the settings {', '.join(sorted(left))}, which the Config of its experiment file "
            "does not know. Use the file that made the run."
        )
    return config


def _setting(name: str, kind: Any, value: Any) -> Any:
    """The value of a setting, of its annotated type."""
    try:
        return typeguard.check_type(from_json(kind, value), kind)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, typeguard.TypeCheckError) as error:
        expected = getattr(kind, "__name__", kind)
        raise ValueError(
            f"Expected {expected} for the setting {name} of the run, got {value!r:.80} ({error})."
        ) from None


def _entries(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of all entries, also of those inside of others: a group of options, or a setting."""
    for name, item in value.items():
        yield name, item
        if isinstance(item, Mapping):
            yield from _entries(item)


def _member(arguments: tuple[Any, ...], value: Any) -> Any:
    """The member of a union that a JSON value was written from."""
    for kind in arguments:
        plain = typing.get_origin(kind) or kind
        if isinstance(value, list) and plain in (tuple, list):
            return kind
        if isinstance(value, dict) and dataclasses.is_dataclass(plain):
            return kind
        if isinstance(plain, type) and type(value) is plain:
            return kind
    return next((kind for kind in arguments if kind is not type(None)), Any)


def as_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as numbers of Python."""
    return {name: float(value) for name, value in metrics.items()}


def differences(before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """Names and values of the fields in which two configs (as JSON) differ; None for one that is missing."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = dict.fromkeys((*before, *now))
        inner = [(name, differences(before.get(name), now.get(name))) for name in names]
        return [(f"{name}.{rest}".rstrip("."), old, new) for name, found in inner for rest, old, new in found]
    return [] if before == now else [("", before, now)]


def check_folder(folder: pathlib.Path, config: Any) -> None:
    """Refuses a folder that holds something else than a run of this config.

    Args:
        folder: Existing or not.
        config: A Config, or settings by name.

    Raises:
        ValueError: If it is a run of another config, or holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file. Give a folder for the run.")
    if not (folder / "config.json").exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise ValueError(f"{folder} is not a run and holds other files ({shown}). Use another folder.")
        return
    saved = read_part(folder, "config.json", dict[str, Any])
    if dataclasses.is_dataclass(config):
        saved = to_json(config_from_json(type(config), saved))  # runs of earlier versions in the present form
    found = differences(saved, to_json(config))
    if found:
        before = ", ".join(f"{name}={old}" for name, old, _ in found)
        now = ", ".join(f"{name}={new}" for name, _, new in found)
        raise ValueError(f"{folder} was started with {before}, now {now}; use another folder.")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def provenance(path: pathlib.Path | None) -> dict[str, Any]:
    """What a result depends on besides its settings: `commit`, `time`, `device`, `x64` and `versions`.

    Args:
        path: The experiment file; the commit is that of the repository that holds it, None outside of one.
    """
    where = pathlib.Path.cwd() if path is None else path.parent
    one = jax.devices()[0]
    return {
        "commit": _commit(where),
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": {"platform": one.platform, "kind": one.device_kind, "count": jax.device_count()},
        "x64": jax.config.read("jax_enable_x64"),
        "versions": versions(),
    }


def _commit(folder: pathlib.Path) -> str | None:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit} with changes" if commit and git("status", "--porcelain") else commit


def summary(data: Any) -> str:
    """What a run has understood of its data, so that a missing channel axis is seen before the training."""
    count, first = len(data), data[np.arange(1)]
    if isinstance(first, Mapping):
        shapes = {name: np.shape(array)[1:] for name, array in first.items()}
        return f"{count:,} samples of {', '.join(f'{name} {shape}' for name, shape in shapes.items() if all(shape))}"
    shapes = [np.shape(array)[1:] for array in jax.tree.leaves(first)]
    if getattr(data, "grid", None) is None:
        return f"{count:,} samples of shape {', '.join(map(str, shapes))}"
    fields = " -> ".join(f"{channels} channel{'s' * (channels != 1)}" for channels, *_ in shapes)
    return f"{count:,} samples: {fields} on {' x '.join(map(str, shapes[0][1:]))} points"


def name_of(model: Any) -> str:
    """Name of the class of a model, or of the operator inside of `operators.Normalised`."""
    inner = getattr(model, "operator", model)
    return type(inner).__name__
