"""Hooks: evaluation, checkpoints, log, progress, early stop. Their order in `fit` is the order of this list."""

import json
import math
import pathlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sciml import parallel
from sciml.files import as_kind, decode_json, sealed, unsealed, write_bytes
from sciml.train._checkpoint import Checkpoints
from sciml.train._ema import ema_model
from sciml.train._loop import Event, Hook, Stop


def evaluation(metrics: Callable[[Any], Mapping[str, float]]) -> Hook:
    """Computes metrics of the model, with the EMA of the parameters if the optimiser has one, for later hooks."""

    def hook(event: Event) -> dict[str, float]:
        return {name: float(value) for name, value in metrics(parallel.own(ema_model(event.state))).items()}

    return hook


def checkpointing(checkpoints: Checkpoints, *, seconds: float = 0.0) -> Hook:
    """Saves the state with the metrics of this step; of several processes, process 0 decides when.

    Args:
        checkpoints: Where to save.
        seconds: Shortest time between two saves, except of states with the lowest metric so far, which are all saved.
    """
    last = time.perf_counter()

    def hook(event: Event) -> None:
        nonlocal last
        if parallel.broadcast(checkpoints.is_best(event.metrics) or time.perf_counter() - last >= seconds):
            checkpoints.save(event.state, event.metrics)
            last = time.perf_counter()

    return hook


def early_stop(metric: str, patience: int, history: Sequence[float] = ()) -> Hook:
    """Ends the run after `patience` evaluations in a row without a new lowest value.

    Args:
        metric: Name in `Event.metrics`; steps without it do not count.
        patience: Number of evaluations to wait.
        history: Values of earlier evaluations, of a resumed run.
    """
    values = list(history)

    def hook(event: Event) -> None:
        if metric in event.metrics:
            values.append(event.metrics[metric])
            if stalled(values, patience):
                raise Stop(f"{metric} has not improved for {patience} evaluations")

    return hook


def stalled(values: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` values brought no new lowest one; NaN is never the lowest."""
    best = min(range(len(values)), key=lambda i: math.inf if math.isnan(values[i]) else values[i], default=0)
    return len(values) - 1 - best >= patience


class Log:
    """One JSON object a line: `step`, two times, means of the training logs, and `validation` with the metrics.

    `seconds` is the wall time of the run, compilation and validation included; `training_seconds` is that of its steps
    alone (see `Event`). Both are summed over resumed parts. Of several processes, process 0 writes.

    Args:
        path: File to append to.
        step: Number of steps at which the run goes on; later lines, of a part that was lost, are removed.
    """

    def __init__(self, path: str | pathlib.Path, *, step: int = 0):
        self._path = pathlib.Path(path)
        self.records = parallel.by_first(lambda: _kept(self._path, step))
        self._before = self.records[-1]["seconds"] if self.records else 0.0
        self._trained = self.records[-1].get("training_seconds", 0.0) if self.records else 0.0
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return self._before + time.perf_counter() - self._start

    def __call__(self, event: Event) -> None:
        """Appends a line; the file is complete whenever the process dies."""
        if self.records and self.records[-1]["step"] >= event.step:
            return
        record: dict[str, Any] = {"step": event.step, "seconds": round(self.seconds, 3)}
        record["training_seconds"] = round(self._trained + event.seconds, 3)
        record |= {name: _number(values.mean()) for name, values in event.logs.items()}
        if event.metrics:
            record["validation"] = {name: _number(value) for name, value in event.metrics.items()}
        self.records.append(record)
        if parallel.is_first():
            with self._path.open("a") as file:
                file.write(_line(record))


def _kept(path: pathlib.Path, step: int) -> list[dict[str, Any]]:
    """The records up to a step; those of later ones are removed from the file."""
    records = [record for record in read_log(path) if record["step"] <= step]
    write_bytes(path, "".join(map(_line, records)).encode())
    return records


def _line(record: dict[str, Any]) -> str:
    return json.dumps(sealed(record)) + "\n"


_RECORD = dict[str, int | float | dict[str, float | None] | None]


def read_log(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """The records of a log, each compared with its digest; those of version 0.1 have none.

    A last line that was cut off is left out, and each damaged line with a warning that names it, such as one that
    stands there twice.
    """
    path = pathlib.Path(path)
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    digests = any(b'"sha256"' in line for line in lines)
    records = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last end of a line was cut off
        try:
            content = decode_json(line, f"line {number} of {path}")
            whole = isinstance(content, dict) and "step" in content and ("sha256" in content or not digests)
            record = unsealed(content, f"line {number} of {path}") if whole else None
            as_kind(record, _RECORD, "")
        except (OSError, ValueError):
            record = None
        if record is None or not _later(record, records):
            warnings.warn(f"Line {number} of {path} is damaged and left out.", stacklevel=2)
        else:
            records.append(record)
    return records


def _later(record: dict[str, Any], records: list[dict[str, Any]]) -> bool:
    """Whether a record is of a later step than all before; otherwise a line stands there twice, or in another place."""
    step = record["step"]
    return isinstance(step, int | float) and (not records or records[-1]["step"] < step)


def _number(value: Any) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None


class Progress:
    """Progress on the terminal: a bar there, otherwise plain lines; a context manager.

    Args:
        title: What is written before the bar.
        seconds: Shortest time between two plain lines that bring no new metric.
        console: Where to write.
    """

    def __init__(self, title: str = "", *, seconds: float = 10.0, console: Console | None = None):
        self._console = Console() if console is None else console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, TextColumn("{task.fields[numbers]}"), console=self._console)
        self._title, self._pause = title, seconds
        self._task: Any = None
        self._last: tuple[int, float] | None = None
        self._printed = -math.inf
        self._metrics: dict[str, float] = {}

    def __enter__(self) -> "Progress":
        """Starts the clock."""
        self._last = None
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the bar as it is."""
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Shows loss, metrics, steps per second and time left."""
        now = time.perf_counter()
        self._metrics |= event.metrics
        numbers = {"loss": event.logs["loss"].mean()} if "loss" in event.logs else {}
        text = "  ".join(f"{name} {value:.4g}" for name, value in {**numbers, **self._metrics}.items())
        left = ""
        if self._last is not None and event.step > self._last[0]:
            speed = (event.step - self._last[0]) / (now - self._last[1])
            text += f"  {speed:.3g} steps/s"
            left = f"  {_clock((event.steps - event.step) / speed)} left"
        self._last = (event.step, now)
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(self._title, total=event.steps, completed=event.step, numbers=text)
            self._bar.update(self._task, completed=event.step, numbers=text)
        elif event.metrics or event.step == event.steps or now - self._printed > self._pause:
            self._printed = now
            self._console.print(
                f"{self._title} step {event.step}/{event.steps}  {text}{left}", highlight=False, soft_wrap=True
            )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
