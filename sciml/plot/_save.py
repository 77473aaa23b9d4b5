"""Figures as files, written whole or not at all."""

import io
import os
import pathlib
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sciml.files import write_bytes


def save(figure: Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes a PNG of 130 dots per inch; a half-written figure is never left."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, dpi=130, format="png")
    write_bytes(path, content.getvalue())
    return path


def save_each(figures: Sequence[Figure], path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Writes several figures of one kind: `path` is the first, `<stem>-2.png` the second, and so on.

    Later ones of an earlier call, of which there were more, are removed.
    """
    written = [save(figure, numbered(path, k)) for k, figure in enumerate(figures)]
    remove_later(path, len(figures))
    return written


def numbered(path: str | os.PathLike[str], k: int) -> pathlib.Path:
    """The path of file number k of one kind, from 0: the first keeps its name, the second ends in `-2`."""
    path = pathlib.Path(path)
    return path if k == 0 else path.with_name(f"{path.stem}-{k + 1}{path.suffix}")


def remove_later(path: str | os.PathLike[str], count: int) -> None:
    """Removes the files of one kind from number `count` on, as far as they follow one another."""
    while count and (later := numbered(path, count)).is_file():
        later.unlink()
        count += 1
