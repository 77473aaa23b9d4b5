"""Commands on data: `sciml generate`, `sciml data info` and `sciml data convert`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.markup import escape

from sciml.cli._errors import Usage
from sciml.cli._options import parse


def generate(arguments: Sequence[str]) -> int:
    """Draws samples of a problem and writes them to a file."""
    from rich.progress import Progress

    from sciml import parallel
    from sciml.data import GENERATORS, generate

    if not arguments or arguments[0] not in GENERATORS:
        known = ", ".join(GENERATORS)
        if arguments and arguments[0] in ("-h", "--help"):
            print(f"usage: sciml generate PROBLEM ...\n\nPROBLEM is one of: {known}.")
            return 0
        raise Usage(f"Expected one of the problems {known}, got {arguments[0] if arguments else 'nothing'}.")
    problem = GENERATORS[arguments[0]]
    text = "Write samples of a problem to a file."
    options = parse(_generation_options(problem), arguments[1:], f"sciml generate {arguments[0]}", text)
    with Progress(disable=not parallel.is_first()) as bar:
        task = bar.add_task(options.out.name)
        generate(
            options.problem,
            options.out,
            n=options.n,
            seed=options.seed,
            batch=options.batch,
            overwrite=options.overwrite,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    return 0


def _generation_options(problem: type) -> type:
    help_of = lambda kind, text: Annotated[kind, tyro.conf.arg(help=text)]
    return dataclasses.make_dataclass(
        "Options",
        [
            ("out", help_of(pathlib.Path, "File to write (HDF5).")),
            ("problem", problem),
            ("n", help_of(int, "Number of samples."), 1000),
            ("seed", help_of(int, "Number that selects the samples."), 0),
            ("batch", help_of(int, "Number of samples computed at once."), 32),
            ("overwrite", help_of(bool, "Replace an existing file."), False),
        ],
    )


@dataclasses.dataclass(frozen=True)
class _Source:
    """Data in any format."""

    path: tyro.conf.Positional[pathlib.Path]
    """File or folder."""

    x: str | None = None
    """Name of the array of inputs, where the format does not tell it."""

    y: str | None = None
    """Name of the array of outputs or frames, where the format does not tell it."""

    axes: tuple[str, ...] = ()
    """Axes of the array in their order, of sample, time, channel, x, y, z: --axes sample,time,x."""


@dataclasses.dataclass(frozen=True)
class _Information:
    """Print what data hold: format, axes, channels, grid, boundaries, times, parameters, split, bytes, NaN."""

    source: _Source


@dataclasses.dataclass(frozen=True)
class _Conversion:
    """Write data of any format as one HDF5 file of sciml, laid out for reading windows of frames."""

    source: _Source

    out: pathlib.Path
    """File to write (HDF5)."""

    overwrite: bool = False
    """Replace an existing file."""


def data(arguments: Sequence[str]) -> int:
    """Tells what data hold, or converts them."""
    known = {"info": _Information, "convert": _Conversion}
    if not arguments or arguments[0] not in known:
        if arguments and arguments[0] in ("-h", "--help"):
            print("usage: sciml data info PATH ...\n       sciml data convert PATH --out FILE ...")
            return 0
        raise Usage(f"Expected sciml data info or sciml data convert, got {arguments[0] if arguments else 'nothing'}.")
    options = parse(known[arguments[0]], arguments[1:], f"sciml data {arguments[0]}")
    from rich.console import Console
    from rich.table import Table

    from sciml.data import Hints, convert, describe_data, open_data

    source = options.source
    found = open_data(source.path, Hints(source.x, source.y, source.axes))
    if arguments[0] == "convert":
        convert(found, options.out, overwrite=options.overwrite)
        print(f"{options.out}: {found.layout.samples} samples of {found.layout.frames} frames")
        return 0
    table = Table("", "", show_header=False)
    for label, text in describe_data(found):
        table.add_row(escape(label), escape(text))
    Console(highlight=False).print(table)
    return 0
