"""xarray's data sets: what their named dimensions and variables are, by the CF conventions and by their names.

| role | attributes of the coordinate | names |
|---|---|---|
| time | `axis` T, `standard_name` time, units `... since ...` | time, t, step, frame |
| x, y, z | `axis`, `standard_name`, degrees_east, degrees_north | x, lon; y, lat; z, level, height, depth |
| sample | `standard_name` realization | sample, batch, ensemble, member, realization, trajectory |
| channel | | channel, component, variable |

One other dimension is that of the samples if it comes first. Variables with time are channels, those on space alone
fixed fields, those without space parameters. Source: CF Metadata Conventions 1.11, sections 4 and 6.
"""

import collections
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from sciml.data._layout import AbstractReader, Channel
from sciml.data._readers._formats import Hints
from sciml.data._readers._labelled import AXES, SPACE, Labelled, Origin, labelled_reader, located
from sciml.data._trajectories import Trajectories

_NAMES = {
    "time": "time t nt step steps frame frames",
    "x": "x lon longitude nx rlon easting xc",
    "y": "y lat latitude ny rlat northing yc",
    "z": "z lev level levels height depth altitude plev pressure_level nz zc",
    "sample": "sample samples batch ensemble member members realization realisation number trajectory trajectories run",
    "channel": "channel channels component components variable variables",
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names.split()}
_STANDARD = {
    "time": "time",
    "longitude": "x",
    "grid_longitude": "x",
    "projection_x_coordinate": "x",
    "latitude": "y",
    "grid_latitude": "y",
    "projection_y_coordinate": "y",
    "height": "z",
    "altitude": "z",
    "depth": "z",
    "air_pressure": "z",
    "realization": "sample",
}
_AXIS = {"T": "time", "X": "x", "Y": "y", "Z": "z"}
_DEGREES = {"degrees_east": "x", "degree_east": "x", "degrees_north": "y", "degree_north": "y"}


class _Variable:
    """A variable as an array that is read by slices, masked and scaled as its attributes say.

    Args:
        variable: xarray's variable.
    """

    def __init__(self, variable: Any) -> None:
        self.variable, self.shape, self.dtype = variable, tuple(variable.shape), variable.dtype
        self.chunks = variable.encoding.get("chunks") or variable.encoding.get("chunksizes")

    def __getitem__(self, cuts: Any) -> np.ndarray:
        """Values at slices."""
        try:
            return np.asarray(self.variable[cuts].values)
        except (OSError, RuntimeError, TypeError, KeyError, EOFError) as error:
            raise ValueError(
                f"expected values of the shape {self.shape}, but a part could not be read ({_line(error)}). Copy or "
                "download the data again."
            ) from error


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"


def from_xarray(dataset: Any, *, hints: Hints | None = None) -> Trajectories:
    """The trajectories of an xarray `Dataset` or `DataArray`, read when they are asked for.

    Axes of space come in the order x, y, z, whatever their order in the data. Times are numbers in the units of the
    data; those of the type `datetime64` become seconds since the first.

    Args:
        dataset: The data.
        hints: Names of the variables, and roles of the dimensions of `y`, where names and attributes do not tell.

    Raises:
        TypeError: If it is something else.
        ValueError: If dimensions have no role or share one, or no variable has an axis of space.
        ImportError: If xarray is not installed; it comes with the extra `files`.
    """
    xarray = imported("xarray")
    if isinstance(dataset, xarray.DataArray):
        dataset = dataset.to_dataset(name=dataset.name or "u")
    if not isinstance(dataset, xarray.Dataset):
        raise TypeError(f"Expected an xarray Dataset or DataArray, got {type(dataset).__name__}. Convert it first.")
    return Trajectories(dataset_reader(dataset, Hints() if hints is None else hints, Origin("xarray", "")))


def imported(name: str) -> Any:
    """A package of the extra `files`.

    Raises:
        ImportError: If it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"This format needs {name}. Install it by: pip install 'sciml-jax[files]'") from error


def axes_of(dimensions: Sequence[str]) -> tuple[str, ...]:
    """Roles of dimensions by their names alone; none if one has no role, or two have the same."""
    roles = [_ROLES.get(name.lower()) for name in dimensions]
    return () if None in roles or len(set(roles)) < len(roles) else tuple(str(role) for role in roles)


def dataset_reader(dataset: Any, hints: Hints, origin: Origin) -> AbstractReader:
    """A reader of an xarray Dataset.

    Args:
        dataset: The data, with numbers as times unless they are of the type `datetime64`.
        hints: What the user says.
        origin: Where the data come from; what shows the format is added.

    Raises:
        ValueError: As `from_xarray`; the message begins with the first file.
    """
    with located(origin):
        return _reader(dataset, hints, origin)


def _reader(dataset: Any, hints: Hints, origin: Origin) -> AbstractReader:
    roles = _roles(dataset, hints)
    kinds = _sorted_out(dataset, roles, hints)
    notes = list(origin.notes)
    if kinds["unread"]:
        notes.append(f"Variables that are not read: {', '.join(sorted(kinds['unread']))}.")
    coordinates, periodic = {}, {}
    for dimension, role in roles.items():
        if role in ("time", *SPACE) and dimension in dataset.indexes and dimension in dataset[kinds["frames"][0]].dims:
            points, how = _points(dataset[dimension], role)
            coordinates[role] = points
            notes.extend(how)
            if str(dataset[dimension].attrs.get("units")) in _DEGREES:
                span = abs(points[-1] - points[0]) * len(points) / max(1, len(points) - 1)
                periodic[role] = role == "x" and bool(abs(span - 360) < 1e-3 * span)
    dimensions = ", ".join(f"{dimension} {size}" for dimension, size in dataset.sizes.items())
    parameters = {one: np.asarray(dataset[one].values) for one in kinds["parameters"]}
    return labelled_reader(
        Origin(origin.format, f"{origin.evidence}dimensions {dimensions}", origin.paths, tuple(notes)),
        [_labelled(dataset, one, roles) for one in kinds["frames"]],
        fixed=[_labelled(dataset, one, roles) for one in kinds["fixed"]],
        coordinates=coordinates,
        parameters=parameters,
        periodic=periodic,
    )


def _roles(dataset: Any, hints: Hints) -> dict[Hashable, str]:
    """The role of every dimension."""
    missing = [one for one in (hints.x, hints.y) if one is not None and one not in dataset.data_vars]
    if missing:
        raise ValueError(f"expected variables of {_variables(dataset)}, got the name {missing[0]}. Name one of them.")
    if hints.axes:
        name = hints.y or _largest(dataset)
        dims = dataset[name].dims
        if len(dims) != len(hints.axes):
            raise ValueError(
                f"expected the {len(dims)} axes of {name}, its dimensions being {', '.join(map(str, dims))}, got "
                f"{','.join(hints.axes)}. Name each axis once."
            )
        return dict(zip(dims, hints.axes, strict=True))
    skipped = _bounds(dataset)
    used = [
        one.dims
        for name, one in dataset.data_vars.items()
        if len(one.dims) > 1 and name not in skipped and one.dtype.kind in "biuf"
    ]
    roles = {one: role for one in dataset.sizes if (role := _role(dataset, one)) is not None}
    others = [one for one in dataset.sizes if one not in roles and any(one in dims for dims in used)]
    counts = collections.Counter(role for one, role in roles.items() if any(one in dims for dims in used))
    twice = [role for role, count in counts.items() if count > 1]
    first = len(others) == 1 and all(dims[0] == others[0] for dims in used if others[0] in dims)
    if first and "sample" not in counts and not twice:
        return {**roles, others[0]: "sample"}
    if others or twice:
        raise _unclear(dataset, [one for one in dataset.sizes if one in others or roles.get(one) in twice])
    return roles


def _unclear(dataset: Any, unclear: list[Hashable]) -> ValueError:
    name = _largest(dataset)
    known: dict[Hashable, str | None] = {one: _role(dataset, one) for one in dataset[name].dims}
    taken = set(known.values())
    free = [axis for axis in AXES if axis not in taken]
    axes = [role or (free.pop(0) if free else "sample") for role in known.values()]
    return ValueError(
        f"expected dimensions with one role each, of {', '.join(AXES)}, got no role of its own for "
        f"{', '.join(map(str, unclear))}. Name those of {name} {tuple(map(str, dataset[name].dims))} in their order, "
        f"such as --y {name} --axes {','.join(axes)}."
    )


def _role(dataset: Any, dimension: Hashable) -> str | None:
    """The role of a dimension by the attributes of its coordinate, or by its name."""
    attributes = dataset[dimension].attrs if dimension in dataset.variables else {}
    said = {key: str(attributes.get(key, "")) for key in ("axis", "standard_name", "units")}
    if said["axis"].upper() in _AXIS:
        return _AXIS[said["axis"].upper()]
    if said["standard_name"] in _STANDARD:
        return _STANDARD[said["standard_name"]]
    if said["units"].lower() in _DEGREES:
        return _DEGREES[said["units"].lower()]
    if " since " in said["units"]:
        return "time"
    return _ROLES.get(str(dimension).lower())


def _largest(dataset: Any) -> str:
    """The variable of numbers with the most axes and values."""
    numbers = {str(name): one for name, one in dataset.data_vars.items() if one.dtype.kind in "biuf"}
    if not numbers:
        raise ValueError(f"expected variables of real numbers, got {_variables(dataset) or 'none'}. Write numbers.")
    return max(numbers, key=lambda name: (numbers[name].ndim, numbers[name].size))


def _variables(dataset: Any) -> str:
    return ", ".join(f"{name} {tuple(one.shape)}" for name, one in list(dataset.data_vars.items())[:12])


def _bounds(dataset: Any) -> set[str]:
    """Names of the variables that hold the edges of cells."""
    return {
        str(found)
        for one in dataset.variables.values()
        for part in (one.attrs, one.encoding)
        if (found := part.get("bounds"))
    }


def _sorted_out(dataset: Any, roles: Mapping[Hashable, str], hints: Hints) -> dict[str, list[str]]:
    """Names of the variables that are frames, fixed fields and parameters, and of those that are not read."""
    kinds: dict[str, list[str]] = {"frames": [], "fixed": [], "parameters": [], "unread": []}
    groups: dict[frozenset[Hashable], list[str]] = {}
    skipped = _bounds(dataset)
    for name, one in dataset.variables.items():
        has = {roles.get(dimension) for dimension in one.dims}
        inner = {axis for axis in has if axis in SPACE}
        if name in dataset.indexes:
            continue
        if name in dataset.coords and not (len(inner) > 1 and "time" not in has) and has != {"sample"}:
            continue
        if one.dtype.kind not in "biuf" or None in has or name in skipped or "grid_mapping_name" in one.attrs:
            kinds["unread"].append(str(name))
        elif inner and ("time" in has or hints.y == name):
            groups.setdefault(frozenset(d for d in one.dims if roles[d] != "channel"), []).append(str(name))
        elif inner:
            kinds["fixed"].append(str(name))
        elif has <= {"sample"}:
            kinds["parameters"].append(str(name))
        else:
            kinds["unread"].append(str(name))
    if hints.y is not None:
        groups = {key: [hints.y] for key, names in groups.items() if hints.y in names}
        kinds["fixed"] = [name for name in kinds["fixed"] if hints.x is None or name == hints.x]
    if not groups:
        raise ValueError(
            f"expected a variable with time and space, got {_variables(dataset) or 'none'}. Name inputs and outputs by "
            "--x and --y, or the axes by --axes."
        )
    chosen = max(groups, key=lambda key: (len(key), len(groups[key])))
    kinds["frames"] = groups.pop(chosen)
    kinds["unread"] += [name for names in groups.values() for name in names]
    kinds["unread"] += [one for one in kinds["fixed"] if not set(_space(dataset, one, roles)) <= chosen]
    kinds["fixed"] = [one for one in kinds["fixed"] if set(_space(dataset, one, roles)) <= chosen]
    return kinds


def _space(dataset: Any, name: str, roles: Mapping[Hashable, str]) -> list[Hashable]:
    return [one for one in dataset[name].dims if roles[one] in SPACE]


def _points(coordinate: Any, role: str) -> tuple[np.ndarray, list[str]]:
    """Coordinates as numbers, and what was assumed."""
    points = np.asarray(coordinate.values)
    units = coordinate.attrs.get("units")
    if points.dtype.kind == "M":
        return (points - points[0]) / np.timedelta64(1, "s"), ["Times are seconds since the first."]
    if points.dtype.kind == "m":
        return points / np.timedelta64(1, "s"), ["Times are seconds."]
    if points.dtype.kind not in "iuf":
        raise ValueError(f"expected numbers as coordinates {coordinate.name}, got {points.dtype}. Leave them out.")
    points = points.astype(np.float64)
    if role == "time":
        return points, [f"Times are {units}."] if units else []
    falls = len(points) > 1 and points[-1] < points[0]
    return points, [f"{coordinate.name} decreases: index 0 of {role} is at {points[0]:g}."] if falls else []


def _labelled(dataset: Any, name: str, roles: Mapping[Hashable, str]) -> Labelled:
    """A variable with named axes."""
    one = dataset[name].variable
    axes = tuple(roles[dimension] for dimension in one.dims)
    if "channel" not in axes:
        return Labelled(name, _Variable(one), axes)
    dimension = one.dims[axes.index("channel")]
    texts = dataset[dimension].values if dimension in dataset.indexes else np.arange(one.sizes[dimension])
    suffixes = [str(text) for text in texts]
    named = [text if dataset[dimension].dtype.kind in "OU" else f"{name}_{text}" for text in suffixes]
    return Labelled(name, _Variable(one), axes, tuple(Channel(text) for text in named))
