"""Arrays of a container without a format: told by their names and shapes, or by what the user says of them.

| arrays | what they are |
|---|---|
| `x`, `y` of one shape `(sample, *space)` | inputs and outputs |
| `x` `(sample, *space)`, `y` `(sample, time, *space)` | initial states and trajectories; `visc` is a parameter |
| `frames` or `trajectories` | `(sample, time, channel, *space)` |
| `u` with `t` and `x` (and `y`, `z`) | frames with the coordinates of their axes |
| one array with `--axes`, or `--y` and `--axes` (and `--x`) | what the user says |
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciml.data._arrays import FIRST_ON_THE_WALL
from sciml.data._layout import AbstractReader
from sciml.data._readers._fno import joined_initial
from sciml.data._readers._formats import Hints
from sciml.data._readers._labelled import SPACE, Labelled, Origin, candidates, labelled_reader, located, unknown_axes
from sciml.grid import Grid

_FRAMES = ("frames", "trajectories")
_LOOKED_AT = 16  # samples whose values at a wall are compared with those inside
_ON_WALL = 0.05  # of the values inside: the published Darcy sets of neuraloperator are below 0.01


def own_arrays(arrays: Mapping[str, Any], hints: Hints, origin: Origin) -> AbstractReader:
    """A reader of arrays that no format explains.

    Args:
        arrays: The arrays by their names: anything with `shape` and `dtype` that is sliced as a NumPy array.
        hints: What the user says.
        origin: Where they come from.

    Raises:
        ValueError: If neither names and shapes nor hints tell what they are; the message lists them with a command.
    """
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    path = origin.paths[0] if origin.paths else "the data"
    missing = [name for name in (hints.x, hints.y) if name is not None and name not in shapes]
    if missing:
        raise ValueError(f"{path}: expected the arrays {listed(shapes)}, got the name {missing[0]}. Name one of them.")
    with located(origin):
        if hints.axes or hints.x or hints.y:
            return _hinted(arrays, hints, origin)
        known = _known(arrays, origin)
    if known is not None:
        return known
    if len(shapes) == 1:
        raise unknown_axes(path, *next(iter(shapes.items())))
    raise _unknown_arrays(path, arrays)


def listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names and shapes, the first 12."""
    shown = ", ".join(f"{name} {shape}" for name, shape in itertools.islice(shapes.items(), 12))
    return shown + (f" and {len(shapes) - 12} more" if len(shapes) > 12 else "")


def _unknown_arrays(path: str, arrays: Mapping[str, Any]) -> ValueError:
    numbers = {name: tuple(one.shape) for name, one in arrays.items() if np.dtype(one.dtype).kind in "biuf"}
    largest = max(numbers, key=lambda name: (len(numbers[name]) > 1, np.prod(numbers[name])), default=None)
    axes = candidates(numbers[largest], 1) if largest is not None else []
    held = listed({name: tuple(one.shape) for name, one in arrays.items()}) or "no arrays"
    found = f"{path}: expected x and y, frames, or u with t and x, got {held}."
    if not axes:
        return ValueError(f"{found} No array has samples or times and an axis of space, as frames have.")
    command = f"sciml data info {path} --y {largest} --axes {','.join(axes[0])}"
    return ValueError(f"{found} Name the frames and their axes, as in `{command}`; --x names inputs.")


def _known(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader | None:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    x, y = shapes.get("x", ()), shapes.get("y", ())
    if len(x) >= 2 and x == y:
        return _map(arrays["x"], arrays["y"], origin)
    if len(x) >= 2 and len(y) == len(x) + 1 and (y[0], y[2:]) == (x[0], x[1:]):
        return _trajectories(arrays, origin)
    for name in _FRAMES:
        if 4 <= len(shapes.get(name, ())) <= 6:
            axes = ("sample", "time", "channel", *SPACE[: len(shapes[name]) - 3])
            return _with_coordinates(arrays, name, axes, origin)
    if "u" in shapes and {"t", "time"}.intersection(shapes) and "x" in shapes:
        axes = _axes_by_size(shapes)
        return None if axes is None else _with_coordinates(arrays, "u", axes, origin)
    return None


def _map(x: Any, y: Any, origin: Origin) -> AbstractReader:
    """Inputs and outputs `(sample, *space)`."""
    shape = tuple(y.shape)
    axes = ("sample", *SPACE[: len(shape) - 1])
    if len(shape) > 4:
        raise ValueError(f"expected x and y (sample, *space) of one to three axes of space, got {shape}. Name --axes.")
    frames, fixed = [Labelled("y", y, axes)], [Labelled("x", x, axes)]
    notes = [*origin.notes, "x and y are taken as (sample, *space) without channels."]
    grid, some = None, (slice(0, _LOOKED_AT), *(slice(None) for _ in shape[1:]))
    if np.dtype(x.dtype).kind == "b" or _first_on_wall(np.asarray(y[some], np.float64)):
        grid = Grid(shape[1:], 1.0, (FIRST_ON_THE_WALL,) * (len(shape) - 1))
        notes.append(
            "The first points lie on the wall of the unit box, the last ones a spacing away from it, as in the "
            "published Darcy sets: x is binary, or y is near zero at the first points alone."
        )
    return labelled_reader(
        Origin(origin.format, origin.evidence, origin.paths, tuple(notes)), frames, fixed=fixed, grid=grid
    )


def _first_on_wall(fields: np.ndarray) -> bool:
    """Whether fields `(sample, *space)` are near zero at index 0 of every axis, and not at the last index."""
    for axis in range(1, fields.ndim):
        size = fields.shape[axis]
        wall, beside, far = (np.abs(np.take(fields, i, axis)).mean() for i in (0, min(1, size - 1), size - 1))
        if not wall < _ON_WALL * min(beside, far):
            return False
    return True


def _trajectories(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader:
    """Initial states x `(sample, *space)` and frames y `(sample, time, *space)`, as in the Burgers sets."""
    space = SPACE[: len(arrays["x"].shape) - 1]
    notes = list(origin.notes)
    joined = joined_initial("x", arrays["x"], "y", arrays["y"], notes)
    return labelled_reader(
        Origin(origin.format, origin.evidence, origin.paths, tuple(notes)),
        [Labelled("y", joined, ("sample", "time", *space))],
        parameters={"visc": np.asarray(arrays["visc"])} if "visc" in arrays else None,
    )


def _axes_by_size(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...] | None:
    """Axes of u by the lengths of its coordinates; None if that is ambiguous."""
    sizes = {axis: shapes[name][0] for axis, name in _coordinates("u", shapes).items() if len(shapes[name]) == 1}
    shape = shapes["u"]
    places = {axis: [i for i, n in enumerate(shape) if n == size] for axis, size in sizes.items()}
    if any(len(found) != 1 for found in places.values()) or len({found[0] for found in places.values()}) < len(sizes):
        return None
    axes: list[str | None] = [None] * len(shape)
    for axis, found in places.items():
        axes[found[0]] = axis
    rest = [i for i, axis in enumerate(axes) if axis is None]
    names = {(): (), (0,): ("sample",), (len(shape) - 1,): ("channel",)}.get(tuple(rest))
    if names is None and len(rest) == 2 and rest[0] == 0:
        names = ("sample", "channel")
    if names is None:
        return None
    for i, axis in zip(rest, names, strict=True):
        axes[i] = axis
    return tuple(str(axis) for axis in axes)


def _coordinates(name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Names of the arrays of coordinates by axis: `t` and `x` belong to `u`, and `burgers_t` to `burgers_u`."""
    found = {}
    for axis, names in {"time": ("t", "time"), **{axis: (axis,) for axis in SPACE}}.items():
        both = [prefix + one for prefix in (name[:-1], "") for one in names]
        one = next((one for one in both if one in shapes and one != name), None)
        if one is not None:
            found[axis] = one
    return found


def _with_coordinates(
    arrays: Mapping[str, Any], name: str, axes: tuple[str, ...], origin: Origin, fixed: tuple[Labelled, ...] = ()
) -> AbstractReader:
    """A reader of one array of frames with the coordinates that fit it."""
    frames = Labelled(name, arrays[name], axes)
    used = {one.name for one in fixed}
    places = _coordinates(name, {name: tuple(one.shape) for name, one in arrays.items()})
    coordinates = {}
    for axis, one in places.items():
        line = tuple(arrays[one].shape)
        if one not in used and axis in axes and max(line, default=0) == np.prod(line) == frames.size(axis):
            coordinates[axis] = np.asarray(arrays[one][tuple(slice(None) for _ in line)], np.float64).reshape(-1)
    return labelled_reader(origin, [frames], fixed=fixed, coordinates=coordinates)


def _hinted(arrays: Mapping[str, Any], hints: Hints, origin: Origin) -> AbstractReader:
    """What the user says."""
    path = origin.paths[0] if origin.paths else "the data"
    rest = [name for name in arrays if name != hints.x]
    name = hints.y or (rest[0] if len(rest) == 1 else None)
    if name is None:
        raise _unknown_arrays(path, arrays)
    if not hints.axes:
        raise unknown_axes(path, name, tuple(arrays[name].shape))
    fixed = () if hints.x is None else (_input(hints.x, arrays[hints.x], Labelled(name, arrays[name], hints.axes)),)
    said = Origin(origin.format, f"{origin.evidence}; {name} has the axes {','.join(hints.axes)} as said", origin.paths)
    return _with_coordinates(arrays, name, hints.axes, said, fixed)


def _input(name: str, array: Any, frames: Labelled) -> Labelled:
    """Inputs that belong to frames: their axes are those of the frames without time, channels or samples."""
    shape = tuple(array.shape)
    for left_out in ((), ("channel",), ("sample",), ("sample", "channel")):
        axes = tuple(axis for axis in frames.axes if axis != "time" and axis not in left_out)
        sizes = tuple(frames.size(axis) for axis in axes)
        if len(axes) == len(shape) and all(
            n == size or axis == "channel" for axis, n, size in zip(axes, shape, sizes, strict=True)
        ):
            return Labelled(name, array, axes)
    raise ValueError(
        f"expected {name} to have the axes {','.join(axis for axis in frames.axes if axis != 'time')} of {frames.name} "
        f"of shape {tuple(frames.array.shape)}, with or without channels and samples, got {shape}. Name other inputs."
    )
