"""From a path of any known format to trajectories."""

import os
import pathlib

from sciml.data._readers._formats import Format, Hints, probe
from sciml.data._trajectories import Trajectories

FORMATS: tuple[Format, ...] = ()
"""All known formats."""


def open_data(path: str | os.PathLike[str], hints: Hints | None = None) -> Trajectories:
    """The data of a path in any known format, recognised by content. Values are read when they are asked for.

    Args:
        path: File or folder.
        hints: What the data do not tell: names of arrays and axes.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If no format, or more than one, fits, if the data contradict their format, or if the hints do not
            fit them; the message lists what was found and a command to go on with.
        Damaged: If a file is truncated or damaged.
        ImportError: If a package is missing; the message names the extra that installs it.
    """
    found = probe(pathlib.Path(path))
    fitting = [(one, evidence) for one in FORMATS if (evidence := one.recognise(found)) is not None]
    if len(fitting) != 1:
        raise ValueError(f"{path}: expected data of one known format, got {len(fitting)} that fit.")
    return Trajectories(fitting[0][0].open(found, Hints() if hints is None else hints))
