"""The command that makes a page of a folder: `sciml report`."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

from sciml.cli._options import parse


@dataclasses.dataclass(frozen=True)
class _Report:
    """Write one self-contained page about a run or a benchmark: data, results, figures, cost, commands, versions."""

    folder: tyro.conf.Positional[pathlib.Path]
    """Folder of the run or of the benchmark."""

    out: pathlib.Path
    """The page (HTML)."""

    overwrite: bool = False
    """Replace an existing file."""


def report(arguments: Sequence[str]) -> int:
    """Writes a page about a run or a benchmark."""
    options = parse(_Report, arguments, "sciml report")
    from sciml.report import report

    print(report(options.folder, options.out, overwrite=options.overwrite))
    return 0
