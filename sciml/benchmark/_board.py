"""Progress of a benchmark: one line per model on a terminal, nothing elsewhere."""

import contextlib
import datetime
import functools
import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from sciml import train
from sciml.experiment import ShowProgress


class Board:
    """A line per model: seed, step, loss, validation error, time left; a context manager.

    Args:
        models: Their names.
        seeds: Number of runs of each model.
        console: Where to write.
    """

    def __init__(self, models: tuple[str, ...], seeds: int, console: Console):
        whole = Column(no_wrap=True)
        columns = (TextColumn("{task.description}", table_column=whole), BarColumn(20))
        self._bar = Bar(*columns, TextColumn("{task.fields[text]}", table_column=whole), console=console)
        self.console, self._seeds = console, seeds
        self._tasks = {model: self._bar.add_task(model, total=seeds, text="waits") for model in models}

    def __enter__(self) -> "Board":
        """Shows the lines."""
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the lines as they are."""
        self._bar.stop()

    def print(self, text: str) -> None:
        """A line that stays, above those of the models."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def say(self, model: str, text: str, done: int | None = None) -> None:
        """Writes into the line of a model, of which `done` runs have ended."""
        self._bar.update(self._tasks[model], text=text, completed=done)

    def progress_of(self, model: str, number: int) -> ShowProgress:
        """What shows the run of a model with its so-manieth seed, for `experiment.run`."""
        return lambda _: contextlib.nullcontext(functools.partial(self._show, model, number, _Speed()))

    def _show(self, model: str, number: int, speed: "_Speed", event: train.Event) -> None:
        left = event.steps * (self._seeds - number) - event.step
        seconds = speed(event.step) * left
        speed.metrics |= event.metrics
        numbers = {"loss": event.logs["loss"].mean()} if "loss" in event.logs else {}
        shown = "  ".join(f"{name} {value:.3g}" for name, value in {**numbers, **speed.metrics}.items())
        clock = f"  {datetime.timedelta(seconds=round(seconds))} left" if seconds else ""
        text = f"seed {number + 1}/{self._seeds}  step {event.step}/{event.steps}{clock}  {shown}"
        self._bar.update(self._tasks[model], text=text, completed=number + event.step / event.steps)


class _Speed:
    """Seconds per step since the first call, 0 at that; and the metrics of the last evaluation."""

    def __init__(self):
        self._first: tuple[int, float] | None = None
        self.metrics: dict[str, float] = {}

    def __call__(self, step: int) -> float:
        now = time.perf_counter()
        if self._first is None:
            self._first = step, now
        return (now - self._first[1]) / max(1, step - self._first[0])
