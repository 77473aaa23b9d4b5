"""What a run folder or a benchmark folder holds, read and checked; links and devices in it are refused."""

import dataclasses
import pathlib
from typing import Any

import msgspec

from sciml import experiment
from sciml.files import check_tree, read_json
from sciml.train import read_log


class Spread(msgspec.Struct):
    """Mean and standard deviation over the seeds; None without one."""

    mean: float | None
    std: float | None = None


class Summary(msgspec.Struct):
    """The results of one model over its seeds, as a benchmark writes them."""

    model: str
    finished: int
    parameters: int | None = None
    step_bytes: float | None = None
    test: dict[str, Spread | None] = {}
    seconds_per_epoch: Spread | None = None
    training_seconds: Spread | None = None
    of_budget: Spread | None = None
    seconds: Spread | None = None
    seconds_to_target: Spread | None = None
    reached_target: int = 0
    failures: dict[str, str] = {}


class Attempt(msgspec.Struct):
    """A run of a benchmark; `failure` is None if it is finished."""

    run: str
    model: str
    seed: int
    failure: str | None = None


class Benchmark(msgspec.Struct):
    """The content of `benchmark.json`, as far as a report shows it."""

    settings: dict[str, Any]
    models: list[str]
    seeds: list[int]
    time: str
    summary: list[Summary]
    runs: list[Attempt]
    commit: str | None = None
    device: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    target: dict[str, Any] | None = None


class Curve(msgspec.Struct):
    """Median and quartiles of an error over the test samples, one value for each step; None where it is not finite."""

    median: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Errors(msgspec.Struct):
    """The content of `errors.json`: errors over time, by model and by metric."""

    steps: list[float]
    models: dict[str, dict[str, Curve]]
    diverged: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class RunContents:
    """A run.

    Attributes:
        folder: Where it is.
        model: Name of the model.
        seed: Seed of the run; None outside of a benchmark.
        run: What it was made from.
        config: Its settings.
        metrics: Its results; None if it is not finished.
        log: Records of the training.
        data: What is known of the data: `data.json`, if there is one.
        errors: Errors over time: `errors.json`, if there is one.
    """

    folder: pathlib.Path
    model: str
    seed: int | None
    run: experiment.Run
    config: dict[str, Any]
    metrics: experiment.Metrics | None
    log: list[dict[str, Any]]
    data: dict[str, Any] | None
    errors: Errors | None


@dataclasses.dataclass(frozen=True)
class Contents:
    """A benchmark with its runs, or a single run, for which `benchmark` is None."""

    folder: pathlib.Path
    benchmark: Benchmark | None
    runs: list[RunContents]

    @property
    def experiment(self) -> str:
        """Name of the experiment or of the data, for titles."""
        data = next((one.data for one in self.runs if one.data is not None), {})
        files = [one.run.experiment for one in self.runs if one.run.experiment is not None]
        named = self.benchmark.settings.get("experiment") if self.benchmark is not None else None
        return pathlib.PurePath(str(data.get("path") or (files and files[0]) or named or self.folder)).stem


def read(folder: pathlib.Path) -> Contents:
    """Reads a run folder or a benchmark folder.

    Raises:
        FileNotFoundError: If it is neither.
        Damaged: If a file differs from its digest.
        ValueError: If a file holds something else than expected, or the folder holds links.
    """
    if (folder / "run.json").is_file():
        return Contents(folder, None, [_run(folder, None, None)])
    if not (folder / "benchmark.json").is_file():
        raise FileNotFoundError(
            f"{folder} is no folder of a run and none of a benchmark: it has no run.json and no benchmark.json. Give "
            "the folder that was --out of sciml train or of sciml benchmark."
        )
    check_tree(folder)
    found = read_json(folder / "benchmark.json", Benchmark)
    for one in found.runs:
        if one.run in ("", ".", "..") or pathlib.PurePath(one.run).name != one.run or "\\" in one.run:
            raise ValueError(f"{folder / 'benchmark.json'} names {one.run!r:.200} as a run, which is no folder in it.")
    runs = [
        _run(folder / one.run, one.model, one.seed) for one in found.runs if (folder / one.run / "run.json").is_file()
    ]
    return Contents(folder, found, runs)


def _run(folder: pathlib.Path, model: str | None, seed: int | None) -> RunContents:
    run = experiment.read_run(folder)
    metrics = experiment.read_metrics(folder) if (folder / "metrics.json").is_file() else None
    errors = _optional(folder / "errors.json", Errors)
    if errors is not None:
        _check(errors, folder / "errors.json")
    return RunContents(
        folder=folder,
        model=model or (metrics.model if metrics is not None else folder.name),
        seed=seed,
        run=run,
        config=_optional(folder / "config.json", dict[str, Any]) or {},
        metrics=metrics,
        log=read_log(folder / "log.jsonl"),
        data=_optional(folder / "data.json", dict[str, Any]),
        errors=errors,
    )


def _optional(path: pathlib.Path, kind: Any) -> Any:
    return read_json(path, kind) if path.is_file() else None


def _check(errors: Errors, path: pathlib.Path) -> None:
    """Refuses curves that have not one value for each step."""
    for model, metrics in errors.models.items():
        for metric, curve in metrics.items():
            lengths = {len(curve.median), len(curve.low), len(curve.high)}
            if lengths != {len(errors.steps)}:
                raise ValueError(
                    f"{path}: expected {len(errors.steps)} values of {metric} of {model}, one for each step, got "
                    f"{', '.join(map(str, sorted(lengths)))}."
                )
