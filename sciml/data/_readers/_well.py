"""The Well: HDF5 files with fields of tensor rank 0, 1 and 2, scalars and boundary conditions in groups.

The layout is that of Ohana et al., The Well (2024), in its description of the data format.
"""

import math
import pathlib
from collections.abc import Sequence

import h5py
import numpy as np

from sciml.data._layout import Channel
from sciml.data._readers._contents import Contents, FileFormat, ends
from sciml.data._readers._files import Files
from sciml.data._readers._formats import Item, Probe, numbers_of, plain_attributes, words
from sciml.data._readers._labelled import SPACE, Labelled
from sciml.data._readers._stored import Flat, Spread, stored

_RANKS = ("t0_fields", "t1_fields", "t2_fields")
_PERIODIC = "PERIODIC"


def _recognise(probe: Probe) -> str | None:
    ranks = [rank for rank in _RANKS if any(name.startswith(f"{rank}/") for name in probe.arrays)]
    if probe.kind != "hdf5" or probe.matlab or not ranks or not any(n.startswith("dimensions/") for n in probe.arrays):
        return None
    return f"groups dimensions and {', '.join(ranks)}"


class _File:
    """Attributes of the objects of one file, and the sizes that its arrays must have."""

    def __init__(self, probe: Probe, files: Files) -> None:
        self.probe, self.files = probe, files
        names = {*_RANKS, "dimensions", "scalars", "boundary_conditions", *probe.arrays}
        names |= {str(pathlib.PurePosixPath(name).parent) for name in probe.arrays}
        self.attributes = files.use(
            probe.path, lambda file: {one: plain_attributes(found) for one in names if (found := _get(file, one))}
        )
        self.axes = words(self.attributes.get("dimensions", {}).get("spatial_dims"))
        self.sizes = [self._length(f"dimensions/{axis}") for axis in self.axes]
        if not 1 <= len(self.axes) <= 3:
            raise ValueError(
                f"expected one to three names in the attribute spatial_dims of dimensions, got {self.axes}. Without "
                "them the axes of the fields are not known."
            )
        self.frames = 1
        self.samples = int(numbers_of(probe.attributes).get("n_trajectories", 0))

    def _length(self, name: str) -> int:
        item = self.probe.arrays.get(name)
        if item is None or not item.numbers or not item.shape:
            raise ValueError(f"expected the coordinates {name}, got {'none' if item is None else item.shape}.")
        return item.shape[-1]

    def flag(self, name: str, flag: str) -> bool:
        """An attribute that is true or false; true if it is not there."""
        return bool(np.all(self.attributes.get(name, {}).get(flag, True)))

    def listed(self, group: str) -> list[str]:
        """Names of the data sets of a group in the order that its attribute gives; those not listed come last."""
        there = [name.removeprefix(f"{group}/") for name in self.probe.arrays if name.startswith(f"{group}/")]
        known = words(self.attributes.get(group, {}).get("field_names"))
        missing = [name for name in known if name not in there]
        if missing:
            raise ValueError(f"expected the data sets {', '.join(known)} in {group}, got no {', '.join(missing)}.")
        return [*known, *(name for name in there if name not in known)]

    def values(self, name: str) -> np.ndarray:
        """All values of a small data set."""
        return self.files.values(self.probe.path, name)


def _get(file: h5py.File, name: str) -> h5py.Group | h5py.Dataset | None:
    found = file.get(name)
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def _contents(probe: Probe, files: Files) -> Contents:
    file = _File(probe, files)
    fields = [(rank, name) for rank in range(3) for name in file.listed(_RANKS[rank])]
    _set_sizes(file, fields)
    frames, fixed = [], []
    for rank, name in fields:
        moves = file.flag(f"{_RANKS[rank]}/{name}", "time_varying")
        (frames if moves else fixed).append(_field(file, rank, name))
    if not frames:
        raise ValueError(f"expected a field that varies in time, got {', '.join(name for _, name in fields)}.")
    coordinates, notes = _coordinates(file)
    periodic, masks, said = _boundaries(file)
    if set(periodic) < set(SPACE[: len(file.axes)]):
        guess, note = ends(frames, fixed)
        periodic, said = {**guess, **periodic}, [*said, f"{note} Axes with an entry keep it."]
    spherical = words(probe.attributes.get("grid_type", "cartesian"))[:1] not in ((), ("cartesian",))
    if spherical:
        notes.append(f"The grid is {probe.attributes['grid_type']}: its coordinates are fixed fields.")
        fixed += [_line(file, axis, line) for axis, line in coordinates.items() if axis != "time"]
    parameters, unread = _parameters(file)
    stats = [
        place / "stats.yaml" for place in list(probe.path.absolute().parents)[:4] if (place / "stats.yaml").is_file()
    ]
    found = [f"Published statistics: {stats[0]}."] if stats else []
    return Contents(
        probe.path,
        tuple(frames),
        (*fixed, *masks),
        coordinates,
        parameters,
        {axis: periodic[axis] for axis in SPACE[: len(file.axes)]},
        notes=(*notes, *said, *unread, *found),
    )


def _set_sizes(file: _File, fields: Sequence[tuple[int, str]]) -> None:
    """Numbers of samples and frames: those of the first field that varies in both."""
    times = file.probe.arrays.get("dimensions/time")
    file.frames = times.shape[-1] if times is not None and times.shape else 1
    for rank, name in fields:
        full = f"{_RANKS[rank]}/{name}"
        if file.flag(full, "sample_varying") and file.probe.arrays[full].shape:
            file.samples = file.probe.arrays[full].shape[0]
            return
    if file.samples < 1:
        raise ValueError(
            f"expected samples, got n_trajectories {file.samples} and no field that varies with the sample."
        )


def _field(file: _File, rank: int, name: str) -> Labelled:
    """A field with all axes of samples, time and space; along those that it does not vary in, it repeats."""
    full, d = f"{_RANKS[rank]}/{name}", len(file.axes)
    item = file.probe.arrays[full]
    dims = np.broadcast_to(np.asarray(file.attributes.get(full, {}).get("dim_varying", True), bool), (d,))
    moves = file.flag(full, "time_varying")
    axes = ["sample", *(["time"] if moves else []), *SPACE[:d]]
    sizes = [file.samples, *([file.frames] if moves else []), *file.sizes]
    varies = [file.flag(full, "sample_varying"), *([True] if moves else []), *dims.tolist()]
    wanted = (*(n for n, one in zip(sizes, varies, strict=True) if one), *[d] * rank)
    if item.shape != wanted or not item.numbers:
        raise ValueError(
            f"expected real numbers of shape {wanted} in {full}, by its attributes and the dimensions, got kind "
            f"{item.kind!r} and shape {item.shape}. Correct the attributes."
        )
    array = stored(file.files, file.probe.path, full, item)
    array = Flat(array, rank) if rank else array
    last = [d**rank] if rank else []
    if not all(varies):
        there = tuple(axis for axis, one in enumerate([*varies, *([True] if rank else [])]) if one)
        array = Spread(array, (*sizes, *last), there)
    labels = file.axes
    names = {0: [name], 1: [f"{name}_{a}" for a in labels], 2: [f"{name}_{a}{b}" for a in labels for b in labels]}[rank]
    channels = tuple(Channel(one, name, rank) for one in names)
    return Labelled(name, array, (*axes, *(["channel"] if rank else [])), channels)


def _line(file: _File, axis: str, line: np.ndarray) -> Labelled:
    return Labelled(file.axes[SPACE.index(axis)], np.asarray(line, np.float32), (axis,))


def _coordinates(file: _File) -> tuple[dict[str, np.ndarray], list[str]]:
    found, notes = {}, []
    for axis, name in zip(SPACE, file.axes, strict=False):
        lines = np.atleast_2d(file.values(f"dimensions/{name}").astype(np.float64))
        if not np.allclose(lines, lines[0]):
            raise ValueError(f"expected coordinates {name} that are the same for all samples and times, got others.")
        found[axis] = lines[0]
    renamed = [f"{axis} is {name}" for axis, name in zip(SPACE, file.axes, strict=False) if axis != name]
    if renamed:
        notes.append(f"Axes: {', '.join(renamed)}.")
    if "dimensions/time" in file.probe.arrays and file.frames > 1:
        rows = np.atleast_2d(file.values("dimensions/time").astype(np.float64))
        if np.allclose(rows, rows[0], rtol=1e-5, atol=0.0):
            found["time"] = rows[0]
        else:
            notes.append("The times differ between samples: frames are numbered instead.")
    return found, notes


def _parameters(file: _File) -> tuple[dict[str, np.ndarray], list[str]]:
    """Scalars that do not vary in time, and a note on the others."""
    found, left = {}, []
    for name in file.listed("scalars") if any(n.startswith("scalars/") for n in file.probe.arrays) else []:
        full = f"scalars/{name}"
        item = file.probe.arrays[full]
        varies, moves = file.flag(full, "sample_varying"), file.flag(full, "time_varying")
        if item.shape in ((), (1,)):
            varies = moves = False
        wanted = (*([file.samples] if varies else []), *([file.frames] if moves else []))
        if not item.numbers or math.prod(item.shape) != math.prod(wanted):
            raise ValueError(
                f"expected real numbers of shape {wanted} in {full}, got {item.kind!r} of shape {item.shape}."
            )
        if moves and file.frames > 1:
            left.append(name)
        else:
            found[name] = file.values(full).reshape(-1)
    known = numbers_of(file.probe.attributes)
    for name in words(file.probe.attributes.get("simulation_parameters")):
        if name in known and name not in found and name not in left:
            found[name] = np.array([known[name]])
    return found, [f"Scalars that vary in time are not used: {', '.join(left)}."] if left else []


def _boundaries(file: _File) -> tuple[dict[str, bool], list[Labelled], list[str]]:
    """Which axes are periodic, masks of walls inside of the box, and which condition is where."""
    periodic, masks, said = {}, [], []
    prefix = "boundary_conditions/"
    for name in sorted(one for one in file.attributes if one.startswith(prefix) and one not in file.probe.arrays):
        given = file.attributes[name]
        kind, dims = "".join(words(given.get("bc_type", ""))[:1]).upper(), words(given.get("associated_dims"))
        unknown = [one for one in dims if one not in file.axes]
        if unknown or kind not in (_PERIODIC, "WALL", "OPEN"):
            raise ValueError(
                f"expected {name} to be PERIODIC, WALL or OPEN along {', '.join(file.axes)}, got "
                f"{kind or 'no bc_type'} along {', '.join(dims) or 'no axis'}. Correct its attributes."
            )
        axes = [SPACE[file.axes.index(one)] for one in dims]
        if kind == _PERIODIC:
            periodic |= dict.fromkeys(axes, True)
            said.append(f"{', '.join(axes)}: PERIODIC.")
            continue
        places, inside, note = _mask(file, name, axes)
        said += [*(f"{place}: {kind}." for place in places), *note]
        periodic |= {place[0]: False for place in places}
        if inside is not None:
            short = name.removeprefix(prefix)
            masks.append(Labelled("mask", inside, tuple(axes), (Channel(f"mask_{short}"),)))
    if len(masks) == 1:
        masks = [Labelled("mask", masks[0].array, masks[0].axes, (Channel("mask"),))]
    return periodic, masks, said


def _mask(file: _File, name: str, axes: list[str]) -> tuple[list[str], np.ndarray | None, list[str]]:
    """The sides that a mask covers, what it covers inside of the box, and a note if it cannot be used."""
    item = file.probe.arrays.get(f"{name}/mask", Item((), "V"))
    wanted = tuple(file.sizes[SPACE.index(axis)] for axis in axes)
    if not item.numbers or item.shape != wanted:
        return [], None, [f"{name}: no mask along {', '.join(axes)} alone, so that its place is not used."]
    mask = file.values(f"{name}/mask").astype(bool)
    places, inside = [], mask.copy()
    for number, axis in enumerate(axes):
        for side, index in (("low", 0), ("high", -1)):
            face = np.moveaxis(mask, number, 0)[index]
            if face.all():
                places.append(f"{axis} at the {side} side")
                np.moveaxis(inside, number, 0)[index] = False
    return places, inside if inside.any() else None, []


FILES = (FileFormat("The Well", _recognise, _contents),)
"""The format of this file."""

FORMATS = tuple(one.format() for one in FILES)
"""The same for paths."""
