"""What a reader of an exported model must know: a card of plain JSON values."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from sciml import experiment, train
from sciml.export._program import Shape, program_of
from sciml.files import read_json
from sciml.grid import Grid
from sciml.operators import Conditioned, Normalised, Normaliser, members_of

_AXES = {"frames": ("time", "channels"), "parameters": ("parameters",), "dt": ()}
_SPACE = ("x", "y", "z")


@dataclasses.dataclass(frozen=True)
class Card:
    """What an exported model takes, gives, was trained on, and how large its errors are. All values are JSON values.

    Attributes:
        model: Name of the model in its experiment.
        parameters: Number of its trained numbers.
        precision: Type of the arrays.
        inputs: For each input its `axes`, `shape` and, where they are known, the names of its `channels`. An axis of
            the batch stands before them.
        output: The same for the output; empty if sizes are open.
        grid: `shape`, `lengths` and `boundary`, low and high side of each axis. Of another run than a surrogate's they
            are known only if the model holds its grid; entries are None otherwise.
        units: Units by name of a channel, as far as they were given.
        normalisation: Statistics that the model applies itself: its inputs and outputs are in the units of the data.
        training_data: Number of samples, shapes and fingerprint, and where they came from if it is recorded.
        errors: Errors on test data: of the run, at other resolutions, and under other conditions.
        bounds: Results with a guarantee: of certified predictions and of conformal bands; empty if there are none.
        versions: Of Python and the packages that trained the model.
    """

    model: str
    parameters: int
    inputs: dict[str, dict[str, Any]]
    output: dict[str, Any]
    grid: dict[str, Any]
    normalisation: dict[str, Any]
    training_data: dict[str, Any] = dataclasses.field(default_factory=dict)
    errors: dict[str, Any] = dataclasses.field(default_factory=dict)
    bounds: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    units: dict[str, str] = dataclasses.field(default_factory=dict)
    precision: str = "float32"

    def as_json(self) -> dict[str, Any]:
        """The card as a dictionary of JSON values."""
        return dataclasses.asdict(self)


def card(run: str | pathlib.Path, *, shape: Shape = (), units: Mapping[str, str] | None = None) -> Card:
    """The card of the trained model of a run.

    Args:
        run: The folder of the run.
        shape: As in `shape_of`, by default what that says.
        units: Units by name of a channel, which no run records.

    Raises:
        FileNotFoundError: If the folder is not a finished run.
        Damaged: If a file has changed since it was written.
        ValueError: If the shape of the fields is not known, or a unit belongs to no channel.
    """
    folder = pathlib.Path(run)
    model, record, metrics = experiment.load(folder), experiment.read_run(folder), experiment.read_metrics(folder)
    data = read_json(folder / "data.json", dict[str, Any]) if (folder / "data.json").is_file() else {}
    names = {"frames": data.get("channels"), "fixed": data.get("fixed"), "parameters": data.get("parameters")}
    known = {name: found for name, found in names.items() if found}
    _check_units(units or {}, known)
    fingerprint = {name: value for name, value in (record.data or {}).items() if name != "dtypes"}
    certified = {name: found for name, found in metrics.conditions.items() if name.startswith("certified ")}
    return dataclasses.replace(
        card_of(model, shape or shape_of(folder), channels=known),
        model=metrics.model,
        grid=_grid(model, shape or shape_of(folder), data),
        units=dict(units or {}),
        training_data=fingerprint
        | {name: data[name] for name in ("path", "format", "samples", "split") if name in data},
        errors={
            "test": metrics.test,
            "resolutions": metrics.resolutions,
            "conditions": {name: found for name, found in metrics.conditions.items() if name not in certified},
        },
        bounds={"certified": certified, "bands": metrics.bands} if certified or metrics.bands else {},
        versions=record.starts[-1].versions,
    )


def card_of(model: PyTree, shape: Shape, *, channels: Mapping[str, Sequence[str]] | None = None) -> Card:
    """The card of a model alone, without data and errors.

    Args:
        model: As in `stablehlo`.
        shape: As in `stablehlo`.
        channels: Names of the channels by name of an input.
    """
    program, names = program_of(model, shape), dict(channels or {})
    name = "frames" if isinstance(members_of(model)[0], Conditioned) else "y"
    output = {}
    if all(isinstance(size, int) for size in shape):
        result = jax.eval_shape(program.batched, *program.arguments("batch")).shape[1:]
        output = _array(name, result, names.get(name))
    return Card(
        model=type(model).__name__,
        parameters=train.parameters(model),
        inputs={name: _array(name, size, names.get(name)) for name, size in program.inputs.items()},
        output=output,
        grid=_grid(model, shape, {}),
        normalisation=_statistics(members_of(model)[0]),
    )


def _array(name: str, shape: Shape, channels: Sequence[str] | None) -> dict[str, Any]:
    first = _AXES.get(name, ("channels",))
    axes = [*first, *_SPACE[: max(0, len(shape) - len(first))]][: len(shape)]
    return {"axes": axes, "shape": list(shape)} | ({"channels": list(channels)} if channels else {})


def shape_of(run: str | pathlib.Path) -> tuple[int, ...]:
    """The shape `(channels, *space)` of a field, or of a frame, of the training data of a run.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the run does not record it.
    """
    folder = pathlib.Path(run)
    shapes = (experiment.read_run(folder).data or {}).get("shapes", [])
    fields = shapes[0] if len(shapes) == 2 else shapes[2][1:] if len(shapes) == 4 else []
    if not isinstance(fields, list) or not 2 <= len(fields) <= 4 or not all(isinstance(n, int) for n in fields):
        raise ValueError(
            f"{folder / 'run.json'} does not say which fields the model takes: expected data of fields, got the shapes "
            f"{shapes}. Give the shape of a field, channels first: --shape 1 64 64."
        )
    return tuple(fields)


def _check_units(units: Mapping[str, str], known: Mapping[str, Sequence[str]]) -> None:
    names = [name for found in known.values() for name in found]
    strange = [name for name in units if names and name not in names]
    if strange:
        raise ValueError(f"Expected units of {', '.join(names)}, got one of {strange[0]}. Correct its name.")


def _grid(model: Any, shape: Shape, data: Mapping[str, Any]) -> dict[str, Any]:
    if "points" in data:
        return {"shape": data["points"], "lengths": data.get("lengths"), "boundary": data.get("boundary")}
    found = next(_grids(model), None)
    if found is None:
        return {"shape": list(shape[1:]), "lengths": None, "boundary": None}
    boundary = [f"{type(low).__name__}, {type(high).__name__}" for low, high in found.sides]
    return {"shape": list(found.shape), "lengths": list(found.lengths), "boundary": boundary}


def _grids(node: Any) -> Any:
    """The grids that a model holds, the outermost first."""
    if isinstance(node, Grid):
        yield node
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for field in dataclasses.fields(node):
            yield from _grids(getattr(node, field.name, None))
    elif isinstance(node, list | tuple):
        for one in node:
            yield from _grids(one)


def _statistics(model: Any) -> dict[str, Any]:
    known: dict[str, Normaliser | None] = {}
    if isinstance(model, Normalised):
        known = {"x": model.x, "y": model.y}
    elif isinstance(model, Conditioned):
        known = {"frames": model.frames, "fixed": model.fixed, "parameters": model.numbers.parameters}
        known |= {"increments": getattr(model.output, "step", None)}
    statistics = {name: _of(one) for name, one in known.items() if one is not None}
    return {"inside": True, "statistics": statistics} if statistics else {"inside": False, "statistics": {}}


def _of(known: Normaliser) -> dict[str, Any]:
    mean, deviation = known.mean.value, known.deviation.value
    if math.prod(mean.shape[1:]) > 1:
        return {"mean": "one for each point", "deviation": "one for each point"}
    return {"mean": mean.ravel().tolist(), "deviation": deviation.ravel().tolist()}
