"""Commands that make data: `sciml generate`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro

from sciml.cli._errors import Usage
from sciml.cli._options import parse


def generate(arguments: Sequence[str]) -> int:
    """Draws samples of a problem and writes them to a file."""
    from rich.progress import Progress

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
    with Progress() as bar:
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
