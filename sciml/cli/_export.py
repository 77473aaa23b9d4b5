"""The command that writes a trained model for other programs: `sciml export`."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from sciml.cli._errors import Usage
from sciml.cli._options import parse


@dataclasses.dataclass(frozen=True)
class _Export:
    """Write the trained model of a run for other programs, with a card that says what it takes, gives and is worth."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run."""

    to: str
    """stablehlo: a program for XLA, on CPUs, GPUs and TPUs; onnx: a graph for onnxruntime and others; c: that graph
    with sources and examples for C and Fortran."""

    out: pathlib.Path | None = None
    """New folder for the files; by default the name of the run with -stablehlo, -onnx or -c, in the current folder."""

    shape: tuple[str, ...] = ()
    """Shape of a field, channels first: 1 64 64; by default that of the training data. For stablehlo a size may have a
    name and is chosen when the program runs: 1 n n, or 1 2*n 2*n for even ones."""

    smallest: int = 16
    """Least value of such a name."""

    unit: tuple[str, ...] = ()
    """Units for the card, CHANNEL=UNIT; several are possible."""


def export(arguments: Sequence[str]) -> int:
    """Writes a trained model for other programs."""
    options = parse(_Export, arguments, "sciml export")
    from sciml import experiment
    from sciml import export as formats
    from sciml.files import new_folder, write_json

    def stablehlo(model: Any, shape: Any, folder: pathlib.Path) -> None:
        formats.stablehlo(model, shape, folder / "model.stablehlo", smallest=options.smallest)

    def onnx(model: Any, shape: Any, folder: pathlib.Path) -> None:
        formats.onnx(model, shape, folder / "model.onnx")

    writers: dict[str, Callable[..., None]] = {"stablehlo": stablehlo, "onnx": onnx, "c": formats.c}
    if options.to not in writers:
        raise Usage(f"Expected --to {', '.join(writers)}, got {options.to!r}.")
    shape = tuple(int(size) if size.isdigit() else size for size in options.shape)
    units = dict(_unit(text) for text in options.unit)
    run = options.run.resolve()
    out = pathlib.Path(f"{run.name}-{options.to}") if options.out is None else options.out
    with new_folder(out) as folder:
        shape = shape or formats.shape_of(options.run)
        card = formats.card(options.run, shape=shape, units=units)
        writers[options.to](experiment.load(options.run), shape, folder)
        write_json(folder / "card.json", card.as_json())
    for path in sorted(out.iterdir()):
        print(path)
    return 0


def _unit(text: str) -> tuple[str, str]:
    channel, equals, unit = text.partition("=")
    if not (channel and equals and unit):
        raise Usage(f"Expected --unit CHANNEL=UNIT, such as velocity_x=m/s, got {text!r}.")
    return channel, unit
