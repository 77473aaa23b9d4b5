"""Single NumPy arrays, mapped into memory: APEBench's trajectories, geo-FNO's meshes, and those that a user explains.

APEBench writes `(samples, time, channels, *space)` on a periodic grid, with a description `NAME.json` next to
`NAME_train.npy` and `NAME_test.npy`. geo-FNO's meshes are a folder of `NAME_X.npy`, `NAME_Y.npy` and `NAME_Q.npy`.
"""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciml.data._arrays import UNREADABLE_ARRAY, read_header
from sciml.data._layout import AbstractReader, Channel
from sciml.data._readers._formats import Format, Hints, Probe
from sciml.data._readers._labelled import SPACE, Labelled, Origin, labelled_reader, located
from sciml.data._readers._own import own_arrays
from sciml.files import Damaged, decode_json
from sciml.grid import Grid, Neumann, Periodic

_PARTS = ("_X.npy", "_Y.npy", "_Q.npy")
_MACH = 4  # channel of Q that the published benchmark of airfoils predicts
_LONGEST = 2**20  # bytes of a description


def map_array(path: pathlib.Path) -> np.ndarray:
    """An array of an `.npy` file, mapped into memory.

    Raises:
        ValueError: If it is made of Python objects, or declares other bytes than the file has.
    """
    with path.open("rb") as file:
        try:
            shape, fortran, dtype = read_header(file, "it", path.stat().st_size)
            if 0 in shape:
                return np.zeros(shape, dtype)
            return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
        except UNREADABLE_ARRAY as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{path}: expected a plain NumPy array, but {reason:.500}. Copy it again, or write it by numpy.save."
            ) from None


def _description(path: pathlib.Path) -> Mapping[str, Any] | None:
    """APEBench's description next to an array."""
    for part in ("_train", "_test"):
        other = path.with_name(f"{path.stem.removesuffix(part)}.json")
        if path.stem.endswith(part) and other.is_file() and other.stat().st_size <= _LONGEST:
            with contextlib.suppress(Damaged):
                found = decode_json(other.read_bytes(), str(other))
                return found if isinstance(found, dict) else None
    return None


def _number(description: Mapping[str, Any], name: str) -> float | None:
    """A positive number of a description, or of its part `info`."""
    inner = description.get("info")
    for part in (description, inner if isinstance(inner, dict) else {}):
        found = part.get(name)
        if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 1e30:
            return float(found)
    return None


def _recognise(found: Probe) -> str | None:
    return "an array of NumPy" if found.kind == "npy" else None


def _open(found: Probe, hints: Hints) -> AbstractReader:
    array, name, paths = map_array(found.path), found.path.stem, (str(found.path),)
    description = _description(found.path)
    if description is None or hints.axes or not 4 <= array.ndim <= 6:
        return own_arrays({name: array}, hints, Origin(FORMAT.name, f"an array {array.shape}", paths))
    extent, dt = _number(description, "domain_extent"), _number(description, "dt")
    notes = [] if extent else ["The description does not tell the extent: it is taken as 1."]
    evidence = f"an array {array.shape} with a description {name.rsplit('_', 1)[0]}.json"
    origin = Origin("APEBench", evidence, paths, tuple(notes))
    with located(origin):
        return labelled_reader(
            origin,
            [Labelled("u", array, ("sample", "time", "channel", *SPACE[: array.ndim - 3]))],
            coordinates={"time": dt * np.arange(array.shape[1])} if dt else None,
            grid=Grid(array.shape[3:], extent or 1.0, Periodic()),
        )


def _mesh(folder: pathlib.Path) -> list[pathlib.Path]:
    """The three files of a mesh in a folder; none unless there is exactly one."""
    stems = {one.name.removesuffix(_PARTS[2]) for one in folder.glob(f"*{_PARTS[2]}")}
    sets = [[folder / (stem + part) for part in _PARTS] for stem in sorted(stems)]
    complete = [one for one in sets if all(path.is_file() and not path.is_symlink() for path in one)]
    return complete[0] if len(complete) == 1 else []


def _recognise_folder(found: Probe) -> str | None:
    if found.kind != "folder":
        return None
    if any(found.path.glob("Random_UnitCell_*.npy")):
        return "files Random_UnitCell_*.npy"
    return " and ".join(path.name for path in _mesh(found.path)) or None


def _open_folder(found: Probe, _: Hints) -> AbstractReader:
    files = _mesh(found.path)
    if not files:
        raise ValueError(
            f"{found.path}: expected fields on a grid, got clouds of points, which have no neighbours along axes. "
            "Interpolate them to a grid and write that as arrays x and y."
        )
    x, y, q = (map_array(path) for path in files)
    paths = tuple(map(str, files))
    if q.ndim != 4 or x.shape != y.shape or x.shape != (q.shape[0], *q.shape[2:]):
        raise ValueError(
            f"{found.path}: expected X and Y of one shape (sample, x, y) and Q (sample, channel, x, y), got {x.shape}, "
            f"{y.shape} and {q.shape}. Download the files again."
        )
    names = ["mach" if i == _MACH else f"Q_{i}" for i in range(q.shape[1])]
    notes = ["The grid numbers the points of a curved mesh, whose coordinates are the fixed fields X and Y."]
    if len(names) > _MACH:
        notes.append("The published benchmark predicts the channel mach alone.")
    axes = ("sample", "x", "y")
    origin = Origin(MESHES.name, " and ".join(path.name for path in files), paths, tuple(notes))
    with located(origin):
        return labelled_reader(
            origin,
            [Labelled("Q", q, ("sample", "channel", "x", "y"), tuple(Channel(name) for name in names))],
            fixed=[Labelled("X", x, axes), Labelled("Y", y, axes)],
            grid=Grid(x.shape[1:], 1.0, Neumann(0.0)),
        )


FORMAT = Format("NumPy array", _recognise, _open)
"""Single arrays."""

MESHES = Format("geo-FNO meshes", _recognise_folder, _open_folder)
"""Folders of geo-FNO."""

FORMATS = (FORMAT, MESHES)
