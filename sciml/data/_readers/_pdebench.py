"""PDEBench and PDEArena: HDF5 files told apart by the names of their data sets.

The layouts are those of Takamoto et al., PDEBench (2022), and of Gupta and Brandstetter, PDEArena (2022).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from sciml.data._layout import Channel
from sciml.data._readers._contents import Contents, FileFormat, ends, first_test, unused
from sciml.data._readers._files import Files
from sciml.data._readers._formats import Item, Probe, numbers_of, words
from sciml.data._readers._labelled import SPACE, Labelled
from sciml.data._readers._stored import Spread, Stacked, stored

_TIME = "t-coordinate"
_FLOW = ("density", "pressure", "Vx", "Vy", "Vz")
_VELOCITY = ("Vx", "Vy", "Vz")
_LONGEST_CONFIG, _DEEPEST_CONFIG = 2**16, 4
_PARTS = {"train": "train", "valid": "validation", "test": "test"}


def unclaimed(probe: Probe) -> bool:
    """Whether an HDF5 file is none of MATLAB, netCDF or this package, whose names of arrays may be any."""
    ours = any(one.startswith("sciml") for one in words(probe.attributes.get("format", "")))
    return probe.kind == "hdf5" and not probe.matlab and not ours and "_NCProperties" not in probe.attributes


def _coordinate(axis: str) -> str:
    return f"{axis}-coordinate"


def _dimensions(probe: Probe) -> int:
    """Number of axes of space with coordinates."""
    return next((n for n, axis in enumerate(SPACE) if _coordinate(axis) not in probe.arrays), len(SPACE))


def _frame_axes(name: str, shape: tuple[int, ...], space: int) -> tuple[str, ...]:
    axes = SPACE[:space]
    known = {
        space + 1: ("time", *axes),
        space + 2: ("sample", "time", *axes),
        space + 3: ("sample", "time", *axes, "channel"),
    }
    if not 1 <= space <= 3 or len(shape) not in known:
        raise ValueError(
            f"expected {name} with the axes (sample, time, {', '.join(axes) or 'x'}), got shape {shape} with "
            f"coordinates along {space} axes. Name the axes: `sciml data info PATH --y {name} --axes sample,time,x`."
        )
    return known[len(shape)]


def _points(files: Files, probe: Probe, names: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Coordinates along axes of space; edges of cells become their centres."""
    found = {}
    for axis, name in names.items():
        if name not in probe.arrays or axis not in sizes:
            continue
        line = _line(files, probe, name)
        if len(line) == sizes[axis] + 1:
            line = (line[1:] + line[:-1]) / 2
        if len(line) != sizes[axis]:
            raise ValueError(
                f"expected {sizes[axis]} coordinates in {name}, one for each value along {axis}, or as many edges of "
                f"cells and one more, got {len(line)}. Correct one of both."
            )
        found[axis] = line
    return found


def _line(files: Files, probe: Probe, name: str) -> np.ndarray:
    item = probe.arrays[name]
    if not item.numbers or len(item.shape) != 1:
        raise ValueError(
            f"expected real numbers along one axis in {name}, got kind {item.kind!r} of shape {item.shape}."
        )
    return files.values(probe.path, name).astype(np.float64)


def _times(line: np.ndarray, frames: int, name: str) -> dict[str, np.ndarray]:
    """Times of frames; files of PDEBench may have one more than frames, and any number for a single frame."""
    if frames == 1:
        return {}
    if len(line) not in (frames, frames + 1):
        raise ValueError(
            f"expected {frames} times in {name}, one for each frame, or one more, got {len(line)}. Correct one of both."
        )
    return {"time": line[:frames]}


def _single(probe: Probe) -> str | None:
    if not unclaimed(probe) or "tensor" not in probe.arrays or "density" in probe.arrays:
        return None
    return "data set tensor and coefficient nu" if "nu" in probe.arrays else "data set tensor"


def _read_single(probe: Probe, files: Files) -> Contents:
    """Data set `tensor`, and for Darcy flow its coefficient `nu`."""
    item = probe.arrays["tensor"]
    given, coefficient = _dimensions(probe), probe.arrays.get("nu")
    space = given or (len(item.shape) - (1 if _still(item, coefficient) else 2))
    still = _still(item, coefficient) and len(item.shape) == space + 1
    axes = ("sample", *SPACE[:space]) if still else _frame_axes("tensor", item.shape, space)
    frames = [Labelled("tensor", stored(files, probe.path, "tensor", item), axes)]
    fixed = []
    if coefficient is not None:
        known = {
            space: SPACE[:space],
            space + 1: ("sample", *SPACE[:space]),
            space + 2: ("sample", "time", *SPACE[:space]),
        }
        if len(coefficient.shape) not in known:
            raise ValueError(f"expected nu of shape (sample, {', '.join(SPACE[:space])}), got {coefficient.shape}.")
        fixed.append(Labelled("nu", stored(files, probe.path, "nu", coefficient), known[len(coefficient.shape)]))
    return _with_coordinates(probe, files, frames, fixed)


def _still(item: Item, coefficient: Item | None) -> bool:
    """Whether a solution has the axes of its coefficient, that is no time."""
    return coefficient is not None and coefficient.shape == item.shape


def _with_coordinates(
    probe: Probe, files: Files, frames: Sequence[Labelled], fixed: Sequence[Labelled] = ()
) -> Contents:
    """Contents of files of one array for each field: coordinates, parameters and parts are stored alike."""
    first = frames[0]
    names = {axis: _coordinate(axis) for axis in SPACE}
    coordinates = _points(files, probe, names, first.space)
    if _TIME in probe.arrays:
        coordinates |= _times(_line(files, probe, _TIME), first.size("time"), _TIME)
    periodic, note = ends(frames, fixed)
    used = [*(one.name for one in (*frames, *fixed)), *names.values(), _TIME]
    unbatched = () if "sample" in first.axes else ("The arrays have no axis of samples: they are one sample.",)
    return Contents(
        probe.path,
        tuple(frames),
        tuple(fixed),
        coordinates,
        numbers_of(probe.attributes),
        periodic,
        first_test(first.size("sample")),
        (note, *unbatched, *unused(probe.arrays, used)),
    )


def _flow(probe: Probe) -> str | None:
    found = [name for name in _FLOW if name in probe.arrays]
    if not unclaimed(probe) or "density" not in found or len(found) < 2 or "tensor" in probe.arrays:
        return None
    return f"data sets {', '.join(found)}"


def _read_flow(probe: Probe, files: Files) -> Contents:
    """Compressible flow: one data set for each of density, pressure and the components of the velocity."""
    shape = probe.arrays["density"].shape
    further = [
        name for name, item in probe.arrays.items() if item.shape == shape and name not in _FLOW and item.numbers
    ]
    names = [name for name in _FLOW if name in probe.arrays] + sorted(further)
    space = _dimensions(probe) or len(shape) - 2
    axes = _frame_axes("density", shape, space)
    vector = [name for name in _VELOCITY if name in names] == list(_VELOCITY[:space])
    frames = []
    for name in names:
        item = probe.arrays[name]
        if item.shape != shape:
            raise ValueError(f"expected {name} of the shape {shape} of density, got {item.shape}. Correct one of both.")
        channel = Channel(name, "V", 1) if vector and name in _VELOCITY else Channel(name)
        frames.append(Labelled(name, stored(files, probe.path, name, item), axes, (channel,)))
    return _with_coordinates(probe, files, frames)


def _groups(probe: Probe) -> list[str]:
    """Names of the numbered groups with a data set `data`, in the order of their numbers."""
    found = [name.removesuffix("/data") for name in probe.arrays if re.fullmatch(r"[0-9]{1,18}/data", name)]
    return sorted(found, key=int)


def _grouped(probe: Probe) -> str | None:
    if not unclaimed(probe) or not (groups := _groups(probe)):
        return None
    return f"{len(groups)} numbered groups with a data set data"


def _read_grouped(probe: Probe, files: Files) -> Contents:
    """A group for each sample: `data` (time, x, y, z, channel), `grid/x` and so on, `grid/t`, and a text `config`."""
    groups = _groups(probe)
    first = probe.arrays[f"{groups[0]}/data"]
    for group in groups:
        for name, wanted in ((name, probe.arrays.get(f"{groups[0]}/{name}")) for name in _MEMBERS):
            found = probe.arrays.get(f"{group}/{name}")
            if (found and (found.shape, found.numbers)) != (wanted and (wanted.shape, wanted.numbers)):
                raise ValueError(
                    f"expected {name} in group {group} as in group {groups[0]}, "
                    f"{'nothing' if wanted is None else f'shape {wanted.shape}'}, got "
                    f"{'nothing' if found is None else f'shape {found.shape}'}. Leave out the groups that differ."
                )
    given = next((n for n, axis in enumerate(SPACE) if f"{groups[0]}/grid/{axis}" not in probe.arrays), len(SPACE))
    space = given or len(first.shape) - 2
    axes = ("time", *SPACE[:space], *(("channel",) if len(first.shape) == space + 2 else ()))
    if not 1 <= space <= 3 or len(axes) != len(first.shape):
        raise ValueError(
            f"expected data with the axes (time, {', '.join(SPACE[: max(1, space)])}, channel), got shape "
            f"{first.shape} with coordinates along {space} axes. Correct the coordinates."
        )
    parts = [stored(files, probe.path, f"{group}/data", probe.arrays[f"{group}/data"]) for group in groups]
    inner = tuple(range(1, len(first.shape) + 1))
    frames = Labelled("data", Stacked([Spread(one, (1, *first.shape), inner) for one in parts]), ("sample", *axes))
    coordinates = _points(files, probe, {axis: f"{groups[0]}/grid/{axis}" for axis in SPACE}, frames.space)
    time = f"{groups[0]}/grid/t"
    if time in probe.arrays:
        coordinates |= _times(_line(files, probe, time), frames.size("time"), time)
    periodic, note = ends([frames])
    members = {f"{group}/{name}" for group in groups for name in _MEMBERS}
    return Contents(
        probe.path,
        (frames,),
        (),
        coordinates,
        _varying(_configs(probe, files, groups)),
        periodic,
        first_test(len(groups), last=True),
        (note, *unused(probe.arrays, [*members])),
    )


_MEMBERS = ("data", "grid/x", "grid/y", "grid/z", "grid/t")


def _configs(probe: Probe, files: Files, groups: Sequence[str]) -> list[dict[str, float]]:
    """Numbers of the settings of each group."""
    texts = files.use(
        probe.path,
        lambda file: [words(file[group].attrs.get("config", "")) for group in groups],
    )
    return [_numbers(text[0]) if text else {} for text in texts]


def _numbers(text: str) -> dict[str, float]:
    """Numbers of a YAML text by the dotted names of their entries; nothing of texts that are no settings."""
    if len(text) > _LONGEST_CONFIG or "&" in text:  # anchors can stand for more than fits into memory
        return {}
    try:
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return dict(_leaves(content, (), _DEEPEST_CONFIG))


def _leaves(content: Any, place: tuple[str, ...], deepest: int) -> list[tuple[str, float]]:
    if isinstance(content, dict) and deepest:
        return [leaf for name, value in content.items() for leaf in _leaves(value, (*place, str(name)), deepest - 1)]
    if isinstance(content, str):  # YAML takes 1e-3 for a text
        try:
            content = float(content)
        except ValueError:
            return []
    if isinstance(content, bool) or not isinstance(content, int | float) or not abs(content) < 1e30:
        return []
    return [(".".join(place), float(content))]


def _varying(configs: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Numbers that every group has and that are not the same in all, but for seeds."""
    common = [name for name in configs[0] if all(name in one for one in configs)]
    table = {name: np.array([one[name] for one in configs]) for name in common}
    return {
        name: values
        for name, values in table.items()
        if (values != values[0]).any() and not name.rpartition(".")[2].lower().endswith("seed")
    }


def _incompressible(probe: Probe) -> str | None:
    found = [name for name in ("velocity", "particles", "force", "t") if name in probe.arrays]
    if not unclaimed(probe) or "velocity" not in found or len(found) < 2 or "density" in probe.arrays:
        return None
    return f"data sets {', '.join(found)}"


def _read_incompressible(probe: Probe, files: Files) -> Contents:
    """Incompressible flow: `velocity` (sample, time, x, y, component), `particles` alike, `force` without time."""
    shape = probe.arrays["velocity"].shape
    space = len(shape) - 3
    if not 1 <= space <= 3 or shape[-1] != space:
        raise ValueError(
            f"expected velocity with the axes (sample, time, x, y, component) and a component for each axis of space, "
            f"got shape {shape}. Name the axes: `sciml data info PATH --y velocity --axes sample,time,x,y,channel`."
        )
    axes = ("sample", "time", *SPACE[:space], "channel")
    frames, fixed = [_vector(probe, files, "velocity", axes)], []
    if "particles" in probe.arrays:
        item = probe.arrays["particles"]
        frames.append(Labelled("particles", stored(files, probe.path, "particles", item), axes[: len(item.shape)]))
    if "force" in probe.arrays:
        fixed.append(_vector(probe, files, "force", (axes[0], *axes[2:])))
    coordinates, notes = _sampled_times(probe, files, "t", frames[0])
    periodic, note = ends(frames, fixed)
    return Contents(
        probe.path,
        tuple(frames),
        tuple(fixed),
        coordinates,
        {},
        periodic,
        notes=(note, *notes, *unused(probe.arrays, ["velocity", "particles", "force", "t"])),
    )


def _vector(probe: Probe, files: Files, name: str, axes: tuple[str, ...]) -> Labelled:
    item = probe.arrays[name]
    space = [axis for axis in axes if axis in SPACE]
    channels = tuple(Channel(f"{name}_{axis}", name, 1) for axis in space)
    return Labelled(name, stored(files, probe.path, name, item), axes, channels)


def _sampled_times(
    probe: Probe, files: Files, name: str, first: Labelled
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Times that are stored for each sample; they are known to the layout if all samples have the same."""
    if name not in probe.arrays or first.size("time") == 1:
        return {}, ()
    item = probe.arrays[name]
    if not item.numbers or not 1 <= len(item.shape) <= 2 or 0 in item.shape:
        raise ValueError(f"expected times (sample, time) in {name}, got kind {item.kind!r} of shape {item.shape}.")
    rows = np.atleast_2d(files.values(probe.path, name).astype(np.float64))
    if not np.allclose(rows, rows[:1], rtol=1e-5, atol=0.0):
        return {}, (f"The times in {name} differ between samples: frames are numbered instead.",)
    return _times(rows[0], first.size("time"), name), ()


def _arena_parts(probe: Probe) -> list[str]:
    roots = {name.partition("/")[0] for name in probe.arrays}
    return [part for part in _PARTS if part in roots] if roots and roots <= set(_PARTS) else []


def _arena(probe: Probe) -> str | None:
    parts = _arena_parts(probe)
    if not unclaimed(probe) or not any(f"{part}/{name}" in probe.arrays for part in parts for name in ("u", "vx")):
        return None
    return f"group {' and '.join(parts)} with data sets of the flow"


def _read_arena(probe: Probe, files: Files) -> Contents:
    """A group of one part: fields (sample, time, x, y), a number or times or coordinates for each sample."""
    parts = _arena_parts(probe)
    if len(parts) != 1:
        raise ValueError(f"expected one group of train, valid and test in a file, got {', '.join(parts)}. Split it.")
    prefix = f"{parts[0]}/"
    inner = {name.removeprefix(prefix): item for name, item in probe.arrays.items()}
    shape = inner["u" if "u" in inner else "vx"].shape
    space = len(shape) - 2
    if not 1 <= space <= 3:
        raise ValueError(f"expected fields with the axes (sample, time, x, y), got shape {shape}.")
    axes = ("sample", "time", *SPACE[:space])
    names = sorted(name for name, item in inner.items() if item.shape == shape and item.numbers)
    whole = [f"v{axis}" for axis in SPACE[:space]]
    frames = []
    for name in names:
        channel = Channel(name, "v", 1) if name in whole and set(whole) <= set(names) else Channel(name)
        frames.append(Labelled(name, stored(files, probe.path, prefix + name, inner[name]), axes, (channel,)))
    coordinates, notes = _sampled_times(probe, files, f"{prefix}t", frames[0])
    for axis in SPACE[:space]:
        if axis in inner:
            lines = np.atleast_2d(files.values(probe.path, prefix + axis).astype(np.float64))
            coordinates[axis] = lines[0]
    scalars = [
        name
        for name, item in inner.items()
        if item.shape in ((), (shape[0],)) and item.numbers and name not in ("dt", *(f"d{axis}" for axis in SPACE))
    ]
    periodic, note = ends(frames)
    used = [prefix + name for name in (*names, *scalars, "t", "dt", *SPACE, *(f"d{axis}" for axis in SPACE))]
    return Contents(
        probe.path,
        tuple(frames),
        (),
        coordinates,
        {name: files.values(probe.path, prefix + name) for name in sorted(scalars)},
        periodic,
        {_PARTS[parts[0]]: np.arange(shape[0])},
        (note, *notes, *unused(probe.arrays, used)),
    )


FILES = (
    FileFormat("PDEBench (single array)", _single, _read_single),
    FileFormat("PDEBench (compressible flow)", _flow, _read_flow),
    FileFormat("PDEBench (a group for each sample)", _grouped, _read_grouped),
    FileFormat("PDEBench (incompressible flow)", _incompressible, _read_incompressible),
    FileFormat("PDEArena", _arena, _read_arena),
)
"""The formats of this file."""

FORMATS = tuple(one.format() for one in FILES)
"""The same for paths."""
