"""The sets of arrays that the files of the Fourier neural operator's authors hold, in MATLAB's order of axes.

| arrays | what they are |
|---|---|
| `coeff`, `sol` | Darcy flow: coefficient and solution, points on the walls |
| `a`, `u` of one shape | Burgers' equation: initial and final state, periodic |
| `u` with an axis more than `a`, or with `t` | Navier-Stokes: vorticity, the time last, periodic |
| `input`, `output`, `visc`, `tspan` | Burgers' equation: initial states and trajectories, the time before space |

Source: Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, 2021, section 5; Li et al.,
Physics-Informed Neural Operator, 2021, section 4.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sciml.data._layout import AbstractReader
from sciml.data._readers._labelled import SPACE, Labelled, Origin, labelled_reader, located
from sciml.grid import Dirichlet, Grid, Periodic

_TRAIN, _TEST = 1000, 200  # samples of the published split: the first and the last
_COMPARED = 16  # samples whose first frame is compared with the initial state


class Reversed:
    """An array with its axes in the opposite order, as HDF5 shows those of MATLAB 7.3.

    Args:
        array: Anything with `shape` and `dtype` that is sliced as a NumPy array.
    """

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, tuple(array.shape)[::-1], array.dtype
        chunks = getattr(array, "chunks", None)
        self.chunks = None if chunks is None else tuple(chunks)[::-1]

    def __getitem__(self, cuts: Any) -> np.ndarray:
        """Values at one slice for each axis."""
        return np.asarray(self.array[tuple(cuts)[::-1]]).T


class Preceded:
    """Frames `(sample, time, *space)` with a first frame `(sample, *space)` of its own in front.

    Args:
        first: The first frame.
        rest: Those that follow.
    """

    def __init__(self, first: Any, rest: Any) -> None:
        self.first, self.rest, self.dtype = first, rest, rest.dtype
        self.shape = (rest.shape[0], rest.shape[1] + 1, *rest.shape[2:])

    def __getitem__(self, cuts: Any) -> np.ndarray:
        """Values at one slice for each axis."""
        samples, times, *space = cuts
        chosen = range(*times.indices(self.shape[1]))
        later = [time - 1 for time in chosen if time]
        parts = [np.asarray(self.first[(samples, *space)])[:, None]] if 0 in chosen else []
        if later:
            which = slice(later[0], later[-1] + 1, chosen.step)
            parts.append(np.asarray(self.rest[(samples, which, *space)]))
        return np.concatenate(parts, axis=1)


def fno_evidence(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What shows one of the sets of arrays, or None.

    Args:
        shapes: Shapes of the arrays by their names, axes in MATLAB's order.
    """
    names = _set(shapes)
    return None if names is None else f"arrays {' and '.join(f'{name} {shapes[name]}' for name in names)}"


def _set(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...] | None:
    return next((names for names in _READERS if set(names) <= set(shapes) and _fits(names, shapes)), None)


def _fits(names: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    one, *others = (shapes[name] for name in names)
    if names == ("u", "t"):
        return 3 <= len(one) <= 5 and max(others[0], default=0) == math.prod(others[0]) == one[-1]
    if names == ("input", "output"):
        return (
            2 <= len(one) <= 4
            and len(others[0]) == len(one) + 1
            and others[0][0] == one[0]
            and (others[0][2:] == one[1:])
        )
    last = others[0]
    return 2 <= len(one) <= 4 and (last == one or (names == ("a", "u") and last[:-1] == one))


def fno_reader(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader:
    """A reader of one of the sets of arrays, which `fno_evidence` has found.

    Args:
        arrays: The arrays by their names, axes in MATLAB's order; see `Reversed`.
        origin: Where they come from.

    Raises:
        ValueError: If they contradict one another.
    """
    names = _set({name: tuple(array.shape) for name, array in arrays.items()})
    assert names is not None
    with located(origin):
        return _READERS[names](arrays, origin)


def _darcy(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader:
    shape = tuple(arrays["sol"].shape)
    axes = ("sample", *SPACE[: len(shape) - 1])
    unused = sorted(set(arrays) - {"coeff", "sol"})
    notes = [f"Arrays that are not read: {', '.join(unused)}."] if unused else []
    notes.append("The points lie on the walls of the unit box, the solution is zero there.")
    return labelled_reader(
        _noted(origin, *notes),
        [Labelled("sol", arrays["sol"], axes)],
        fixed=[Labelled("coeff", arrays["coeff"], axes)],
        grid=Grid(shape[1:], 1.0, Dirichlet(0.0)),
    )


def _initial_and_final(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader:
    shape = tuple(arrays["u"].shape)
    if len(shape) > len(arrays["a"].shape):
        return _vorticity(arrays, origin)
    axes = ("sample", *SPACE[: len(shape) - 1])
    return labelled_reader(
        _noted(origin, "a is the initial and u the final state on a periodic box of length 1."),
        [Labelled("u", arrays["u"], axes)],
        fixed=[Labelled("a", arrays["a"], axes)],
        grid=Grid(shape[1:], 1.0, Periodic()),
        splits=published_split(shape[0]),
    )


def _vorticity(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader:
    shape = tuple(arrays["u"].shape)
    notes = ["The box is periodic and has length 1."]
    if "a" in arrays:
        notes.append("a, the state before the first frame of u, is not read, as in the published use.")
    return labelled_reader(
        _noted(origin, *notes),
        [Labelled("u", arrays["u"], ("sample", *SPACE[: len(shape) - 2], "time"))],
        coordinates={"time": np.asarray(arrays["t"][:]).reshape(-1)} if "t" in arrays else None,
        grid=Grid(shape[1:-1], 1.0, Periodic()),
        splits=published_split(shape[0]),
    )


def _initial_and_trajectory(arrays: Mapping[str, Any], origin: Origin) -> AbstractReader:
    frames, first = arrays["output"], arrays["input"]
    coordinates, notes = {}, []
    if "tspan" in arrays:
        coordinates["time"] = np.asarray(arrays["tspan"][:], np.float64).reshape(-1)
    space = SPACE[: len(first.shape) - 1]
    for axis, size in zip(space, first.shape[1:], strict=True):
        if axis in arrays:
            points = np.asarray(arrays[axis][:], np.float64).reshape(-1)
            if len(points) == size:
                coordinates[axis] = points
            else:
                notes.append(f"The {len(points)} coordinates {axis} do not belong to the {size} points: not read.")
    joined = joined_initial("input", first, "output", frames, notes)
    if len(coordinates.get("time", ())) != joined.shape[1]:
        coordinates.pop("time", None)
        notes.append("The times of the frames are not known.")
    parameters = {"visc": np.asarray(arrays["visc"][:])} if "visc" in arrays else None
    return labelled_reader(
        _noted(origin, *notes),
        [Labelled("output", joined, ("sample", "time", *space))],
        coordinates=coordinates,
        parameters=parameters,
        periodic=dict.fromkeys(space, True),
    )


def joined_initial(first_name: str, first: Any, rest_name: str, rest: Any, notes: list[str]) -> Any:
    """The frames, with the initial state in front unless it is their first one; a note says which.

    Args:
        first_name: Name of the initial state.
        first: Initial state `(sample, *space)`.
        rest_name: Name of the frames.
        rest: Frames `(sample, time, *space)`.
        notes: Gets the note.
    """
    cut, space = slice(0, min(_COMPARED, first.shape[0])), (slice(None),) * (len(first.shape) - 1)
    begin, frame = np.asarray(first[(cut, *space)]), np.asarray(rest[(cut, slice(0, 1), *space)])[:, 0]
    if np.allclose(begin, frame, rtol=1e-5, atol=1e-6 * float(np.abs(frame).max(initial=0.0))):
        notes.append(f"{first_name} is the first frame of {rest_name} and not read again.")
        return rest
    notes.append(f"{first_name} differs from the first frame of {rest_name}: it is taken as the frame before it.")
    return Preceded(first, rest)


def published_split(samples: int) -> dict[str, np.ndarray]:
    """Rows of the published split: the first 1000 for training, the last 200 for the test; empty if there are fewer."""
    if samples < _TRAIN + _TEST:
        return {}
    return {"train": np.arange(_TRAIN), "test": np.arange(samples - _TEST, samples)}


def _noted(origin: Origin, *notes: str) -> Origin:
    return Origin(origin.format, origin.evidence, origin.paths, (*origin.notes, *notes))


_READERS: dict[tuple[str, ...], Callable[[Mapping[str, Any], Origin], AbstractReader]] = {
    ("coeff", "sol"): _darcy,
    ("a", "u"): _initial_and_final,
    ("u", "t"): _vorticity,
    ("input", "output"): _initial_and_trajectory,
}
