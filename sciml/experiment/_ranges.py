"""Which values the settings of an experiment may have, and the settings of a training that experiments share."""

import dataclasses
import math
import types
import typing
from typing import Annotated, Any

import numpy as np

LARGEST = 2**31 - 1
"""Largest number of steps: their counter has 32 bits."""
LARGEST_COUNT = 100_000_000
"""Largest `Count`. Arrays of more samples, points or units than that exceed the memory of any one machine."""
LARGEST_SEED = 2**32 - 1
"""Largest seed. JAX keeps 32 bits unless float64 is switched on, so that larger ones would repeat smaller ones."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Values that a setting may have, an annotation of its field: `width: Annotated[int, Range(1, 4096)] = 64`.

    `Count`, `Depth`, `Whole`, `Seed`, `Positive`, `NonNegative` and `Share` are the usual ones. They also apply to
    `Count | None` and to the entries of `tuple[Count, ...]`. See `check_settings`.

    Attributes:
        low: Smallest value.
        high: Largest value; infinite values are refused in any case.
        above: Whether the values are above the smallest one.
    """

    low: float | int
    high: float | int = math.inf
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        """Whether a number is in the range."""
        inside = self.low < value if self.above else self.low <= value
        return inside and value <= self.high and value != math.inf

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {self.low}" if self.above else f"of at least {self.low}"
        return f"above {self.low} and up to {self.high}" if self.above else f"from {self.low} to {self.high}"


Count = Annotated[int, Range(1, LARGEST_COUNT)]
Steps = Annotated[int, Range(1, LARGEST)]
Depth = Annotated[int, Range(1, 1000)]
Whole = Annotated[int, Range(0, LARGEST_COUNT)]
Seed = Annotated[int, Range(0, LARGEST_SEED)]
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]


def check_settings(config: Any) -> None:
    """Refuses a value that its `Range` does not contain, and in settings without one NaN and infinity.

    An infinity that is the default of its field is kept. Option groups are checked with their config.

    Args:
        config: A dataclass whose fields are settings, or groups of them.

    Raises:
        ValueError: If a value is refused; it names the option of the command line.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check_settings(value)
        elif not (isinstance(value, float) and value == field.default):
            check_value(f"--{field.name.replace('_', '-')}", hints[field.name], value)


def check_value(name: str, kind: Any, value: Any) -> None:
    """Refuses a value that the annotation of its setting does not allow; see `check_settings`.

    Raises:
        ValueError: If the value is refused.
    """
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Annotated:
        for known in arguments[1:]:
            if isinstance(known, Range):
                _check(name, known, arguments[0] is int, value)
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        for one in arguments:
            if value is not None:
                check_value(name, one, value)
    elif isinstance(value, tuple) and arguments:
        same = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        for one, entry in zip(same, value, strict=False):
            check_value(name, one, entry)
    elif isinstance(value, float | np.floating) and not math.isfinite(value):
        raise ValueError(f"Expected {name} to be a finite number, got {value}.")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"Expected {name} to be a number of up to 63 bits, got {value}.")


def _check(name: str, known: Range, whole: bool, value: Any) -> None:
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or value not in known:
        raise ValueError(f"Expected {name} {known}{', a whole number' if whole else ''}, got {value!r}.")


@dataclasses.dataclass(frozen=True)
class Training:
    """Options of training that experiment files share, a field of their Config: `run: Training = Training(epochs=8)`.

    The command line has them as `--epochs`, `--steps`, `--batch`, `--lr`, `--seed`, `--accumulate` and `--members`.

    Raises:
        ValueError: If a number is impossible; it names the option.
    """

    epochs: Annotated[float | int, Range(0, LARGEST, above=True)] = 10
    """Passes through the training data."""
    steps: Steps | None = None
    """Number of optimiser steps, in place of epochs."""
    batch: Count = 16
    """Samples in a batch."""
    lr: Positive | None = None
    """Peak learning rate; by default the model's own."""
    seed: Seed = 0
    """Seed of the initial weights, of the order of the samples and of random draws in the loss."""
    accumulate: Count = 1
    """Parts of a batch that are computed one after another, to save memory."""
    members: Count = 1
    """Models from consecutive seeds that are trained together as an ensemble, whose prediction is their mean."""

    def __post_init__(self) -> None:
        check_settings(self)

    def lr_or(self, default: float) -> float:
        """The learning rate, or the default if none is given."""
        return default if self.lr is None else self.lr

    def steps_for(self, samples: int) -> int:
        """Number of optimiser steps for a number of training samples.

        Raises:
            ValueError: If there are no samples, or more steps than can be counted.
        """
        if samples < 1:
            raise ValueError(f"Expected at least 1 training sample, got {samples}.")
        steps = math.ceil(self.epochs * samples / self.batch) if self.steps is None else self.steps
        if steps > LARGEST:
            raise ValueError(
                f"Expected up to {LARGEST} optimiser steps, got {steps} for --epochs {self.epochs} of {samples} "
                f"samples and --batch {self.batch}. Use fewer epochs."
            )
        return max(1, steps)
