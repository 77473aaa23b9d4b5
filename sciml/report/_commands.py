"""The commands by which a run or a benchmark is made again, from its settings."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sciml.report._contents import Benchmark, Contents, RunContents

_WIDTH = 100


def commands(contents: Contents, out: pathlib.Path) -> list[str]:
    """The command of the benchmark or the run, if one is known, and the one that makes the report.

    All settings stand in them, also those that have their defaults, so that they mean the same in later versions.
    """
    found = []
    if contents.benchmark is not None:
        found.append(_benchmark(contents, contents.benchmark))
    elif contents.runs and _source(contents.runs[0]) is not None:
        run = contents.runs[0]
        settings = options(run.config)
        found.append(_lines(["sciml", "train", str(_source(run))], [*settings, ["--out", str(contents.folder)]]))
    report = [["--out", str(out)]]
    return [*found, _lines(["sciml", "report", str(contents.folder)], report)]


def options(settings: Mapping[str, Any]) -> list[list[str]]:
    """Settings as options of the command line, one list for each; groups of settings are no part of their names."""
    found: list[list[str]] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            found += options(value)
        elif isinstance(value, bool):
            found.append([flag if value else f"--no-{flag[2:]}"])
        else:
            found.append([flag, *_words(value)])
    return found


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [word for one in value for word in _words(one)]
    return [str(value)]


def _source(run: RunContents) -> str | None:
    """What the command trains: the data, or the experiment file; None for a run that was made in Python."""
    path = (run.data or {}).get("path")
    return path if isinstance(path, str) else run.run.experiment


def _benchmark(contents: Contents, benchmark: Benchmark) -> str:
    source = next((_source(one) for one in contents.runs if _source(one) is not None), None)
    settings = dict(benchmark.settings)
    file, budget = settings.pop("experiment", None), settings.pop("budget", None)
    if settings.get("steps", 0) is None:
        del settings["steps"]  # a benchmark counts epochs
    target = benchmark.target or {}
    parts = [["--models", *benchmark.models], ["--seeds", str(len(benchmark.seeds))]]
    parts += [["--seed", str(min(benchmark.seeds, default=0))]]
    parts += [] if budget is None else [["--budget", f"{budget}s"]]
    parts += [["--target", f"{target.get('metric')}={target.get('value')}"]] if target.get("given") else []
    start = ["sciml", "benchmark", str(source or file)]
    return _lines(start, [*parts, *options(settings), ["--out", str(contents.folder)]])


def _lines(start: Sequence[str], parts: Sequence[Sequence[str]]) -> str:
    """A command for a shell, in lines of up to a hundred characters that end in a backslash."""
    lines = [shlex.join(start)]
    for part in parts:
        words = shlex.join(part)
        if len(lines[-1]) + len(words) + 3 > _WIDTH:
            lines.append(f"  {words}")
        else:
            lines[-1] += f" {words}"
    return " \\\n".join(lines)
