"""Commands that only print: `sciml list` and `sciml info`."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sciml.cli._errors import one_line
from sciml.cli._options import packaged_experiments, parse


@dataclasses.dataclass(frozen=True)
class _Listing:
    """Experiments that come with sciml with their presets and models, and the problems that it generates data of."""


def listing(arguments: Sequence[str]) -> int:
    """Prints what can be trained and generated."""
    parse(_Listing, arguments, "sciml list")
    from sciml.data import GENERATORS

    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print("Experiments: sciml train NAME [--preset NAME] [--model NAME] --out DIR\n")
    for name, path in packaged_experiments().items():
        console.print(f"{name}: {_described(path)}")
    console.print("\nData: sciml generate NAME --out FILE\n")
    for name, problem in GENERATORS.items():
        console.print(f"{name}: {_first_line(problem.__doc__)}")
    return 0


def _described(path: pathlib.Path) -> str:
    """What an experiment file is about, its presets and its models; or in one line why it cannot be imported."""
    from sciml import experiment

    try:
        module = experiment.load_file(path)
    except Exception as error:
        return f"cannot be imported ({one_line(str(error))})"
    presets, models = ", ".join(module.PRESETS), ", ".join(module.MODELS)
    return f"{_first_line(module.__doc__)}\n    presets {presets}; models {models}"


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


@dataclasses.dataclass(frozen=True)
class _Information:
    """Versions and devices."""


def info(arguments: Sequence[str]) -> int:
    """Prints versions and devices."""
    parse(_Information, arguments, "sciml info")
    import jax

    from sciml.experiment import versions

    table = Table("", "", show_header=False)
    for name, version in versions().items():
        table.add_row(name, version)
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE_DIR"):
        table.add_row(name, os.environ.get(name, "not set"))
    for device in jax.local_devices():
        table.add_row(f"device {device.id}", f"{device.platform} {device.device_kind}")
    Console().print(table)
    return 0
