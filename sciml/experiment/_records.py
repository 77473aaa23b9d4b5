"""What the JSON files of a run folder hold, and how they are read and written."""

import pathlib
from typing import Any

import msgspec

from sciml.files import Damaged, check_tree, read_json, write_json

FORMAT = 2
"""Version of run folders: their checkpoints, logs and JSON files have digests. Those of version 0.1 have no number."""

_COPY = "Take it from a copy of the run."
_REMEDIES = {"metrics.json": "Remove it and run the command of the run again, which tests the model again."}


class AbstractRecord(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A JSON object with these entries and no others."""

    def as_json(self) -> dict[str, Any]:
        """The entries as JSON; those that have their default are left out."""
        return msgspec.to_builtins(self)


class Device(AbstractRecord):
    """What a run ran on."""

    platform: str
    kind: str
    count: int


class Start(AbstractRecord, kw_only=True):
    """A start of a run, or a continuation: the step, what it ran on, and its layout on the devices (`--mesh`)."""

    step: int
    commit: str | None
    time: str
    device: Device
    versions: dict[str, str]
    x64: bool | None = None
    layout: str | None = None


class Run(AbstractRecord, kw_only=True):
    """The content of `run.json`: what a run was made from.

    Attributes:
        experiment: The experiment file, None for a run without one.
        digest: SHA-256 of that file.
        metric: The validation error that chooses the checkpoint, None without validation.
        data: What tells the training data from others.
        starts: When it was started and gone on with.
        format: Version of the folder.
    """

    experiment: str | None
    digest: str | None = None
    metric: str | None
    data: dict[str, Any] | None = None
    starts: list[Start]
    format: int = 1


class Metrics(AbstractRecord, kw_only=True):
    """The content of `metrics.json`: the results of a finished run.

    Attributes:
        model: Name of the model.
        parameters: Number of its trainable scalars.
        seconds: Wall time of the run.
        train_seconds: Wall time of its steps alone.
        steps: Number of optimiser steps.
        checkpoint: Number of steps of the checkpoint that was tested.
        test: Errors on the test data.
        resolutions: Errors at other resolutions, each with a `note` that says how the model was applied there.
        conditions: Errors on test data of other settings.
        baselines: Errors on the test data of predictions that need no model.
        bands: Coverage and width on the test data of conformal bands that the validation data calibrate, by level.
    """

    model: str
    parameters: int
    seconds: float
    train_seconds: float | None = None
    steps: int
    checkpoint: int | None
    test: dict[str, float]
    resolutions: dict[str, dict[str, float | str]] = {}
    conditions: dict[str, dict[str, float]] = {}
    baselines: dict[str, dict[str, float]] = {}
    bands: dict[str, dict[str, float]] = {}


def read_run(folder: str | pathlib.Path) -> Run:
    """What a run was made from, from its `run.json`.

    Raises:
        FileNotFoundError: If the folder is not a run.
        Damaged: If the file differs from its digest.
        ValueError: If it is no such record, of a newer version, or if the folder holds links.
    """
    run = read_part(folder, "run.json", Run)
    if run.format > FORMAT:
        raise ValueError(f"{folder} is a run of format {run.format}, and this version of sciml reads up to {FORMAT}.")
    return run


def read_metrics(folder: str | pathlib.Path) -> Metrics:
    """The results of a finished run, from its `metrics.json`; raises as `read_run`."""
    return read_part(folder, "metrics.json", Metrics)


def read_part(folder: str | pathlib.Path, name: str, kind: Any) -> Any:
    """A JSON file of a run as a value of a type; raises as `read_run`."""
    folder = pathlib.Path(folder)
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder} is not the folder of a run: it has no {name}.")
    check_tree(folder)
    try:
        return read_json(folder / name, kind)
    except Damaged as error:
        raise Damaged(f"{error} {_REMEDIES.get(name, _COPY)}") from None


def write_record(path: pathlib.Path, record: AbstractRecord) -> None:
    """Writes a record with its digest; raises as `files.write_json`."""
    write_json(path, record.as_json())
