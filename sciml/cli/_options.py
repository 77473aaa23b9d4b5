"""How commands read their options, and those that name an experiment find it."""

import argparse
import dataclasses
import difflib
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any

import tyro

from sciml.cli._errors import Usage

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def parse(kind: Any, arguments: Sequence[str], prog: str, description: str = "", default: Any = None) -> Any:
    """The options of a command."""
    options = {} if default is None else {"default": default}
    config = (tyro.conf.OmitArgPrefixes,)
    text = description or None  # None stands for the docstring of `kind`
    return tyro.cli(kind, args=list(arguments), prog=prog, description=text, config=config, **options)


def packaged_experiments() -> dict[str, pathlib.Path]:
    """The experiment files that come with the package, by name: those of the wheel, or of the clone it is used from."""
    folder = _PACKAGE / "_experiments"
    folder = folder if folder.is_dir() else _PACKAGE.parent / "experiments"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


SURROGATE = "surrogate"
"""Name of the experiment that trains on the data of a path."""


def with_data(arguments: Sequence[str]) -> list[str]:
    """A command line that begins with an experiment: a path that is no Python file is data, for a surrogate of them."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in packaged_experiments():
        return list(arguments)
    path = pathlib.Path(arguments[0])
    if path.suffix == ".py" or not path.exists():
        return list(arguments)
    return [SURROGATE, "--path", str(path), *arguments[1:]]


def experiment_file(given: str) -> pathlib.Path:
    """The file of an experiment, given by its name or by a path.

    Raises:
        Usage: If there is none; it names similar ones.
    """
    known = packaged_experiments()
    if given in known:
        return known[given]
    path = pathlib.Path(given)
    if path.is_file():
        return path
    near = difflib.get_close_matches(path.stem, known, cutoff=0.5)
    remedy = f"Did you mean {' or '.join(near)}? " if near else ""
    what = "file" if path.suffix == ".py" else "or data file" if path.suffix or os.sep in given else "of the name"
    raise Usage(f"There is no experiment {what} {given}. {remedy}`sciml list` shows those that come with sciml.")


def load_experiment(given: str) -> ModuleType:
    """The module of an experiment, given by its name or by a path.

    Raises:
        Usage: If there is no such experiment, or if the file does not define one.
    """
    from sciml import experiment

    file = experiment_file(given)
    try:
        return experiment.load_file(file)
    except ValueError as error:
        raise Usage(str(error)) from None


_EXPERIMENT = Annotated[
    tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT", help="Name from `sciml list`, or path of a file.")
]


def help_without_experiment(
    arguments: Sequence[str], command: str, description: str, kinds: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Refuses a command line that does not begin with an experiment, or prints the options that all of them share.

    Raises:
        Usage: If no help is asked for.
        SystemExit: After the help is printed.
    """
    if not {"-h", "--help"} & set(arguments):
        got = arguments[0] if arguments else "nothing"
        raise Usage(
            f"Expected the name or the file of an experiment first, got {got}. "
            f"Try sciml list, or sciml {command} --help."
        )
    preset = Annotated[
        str, tyro.conf.arg(help="Default of the experiment's own options.", help_behavior_hint="(default: its first)")
    ]
    given = [(name, kind, defaults[name]) if name in defaults else (name, kind) for name, kind in kinds.items()]
    fields: list[Any] = [("experiment", _EXPERIMENT), *given, ("preset", preset, "")]
    more = f"sciml {command} EXPERIMENT --help lists the options of that experiment as well."
    options = dataclasses.make_dataclass("Options", fields, kw_only=True)
    parse(options, ["--help"], f"sciml {command}", f"{description} {more}")


def experiment_options(
    module: ModuleType, arguments: Sequence[str], command: str, kinds: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Any:
    """The Config of an experiment file, with the chosen preset's values as defaults, and the options of a command.

    Args:
        module: The experiment file.
        arguments: The command line after the command; the first one names the experiment.
        command: Its name.
        kinds: The command's own options and their types.
        defaults: The values of those that may be left out.

    Raises:
        Usage: If there is no such preset, or if the Config or a group in it has a field of the command's options.
    """
    from sciml import experiment

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?", default=next(iter(module.PRESETS)))
    preset = first.parse_known_args(arguments[1:])[0].preset
    if preset not in module.PRESETS:
        raise Usage(f"There is no preset {preset!r} in {arguments[0]}, only {', '.join(module.PRESETS)}.")
    hidden = {*kinds, "preset"} & {name for name, _ in experiment.settings(module.PRESETS[preset])}
    if hidden:
        raise Usage(
            f"The Config must not have the field {', '.join(hidden)}, an option of every experiment. Rename it."
        )
    presets = ", ".join(module.PRESETS)
    fields: list[Any] = [
        ("config", module.Config),
        *kinds.items(),
        ("preset", Annotated[str, tyro.conf.arg(help=f"Default of all other fields: {presets}.")], preset),
    ]
    options = dataclasses.make_dataclass("Options", fields)
    given = dict.fromkeys(kinds, tyro.MISSING) | dict(defaults)
    default = options(config=module.PRESETS[preset], preset=preset, **given)
    description = (module.__doc__ or "").strip()
    return parse(options, arguments[1:], f"sciml {command} {arguments[0]}", description, default)
