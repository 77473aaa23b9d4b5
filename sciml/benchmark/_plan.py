"""What a benchmark compares, and under which conditions."""

import dataclasses
import math
import pathlib
import re
import typing
from types import ModuleType
from typing import Any

from sciml.experiment import LARGEST_SEED, settings, to_json, with_settings
from sciml.parallel import Layout

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def duration(text: str) -> float:
    """Seconds from `300`, `300s`, `5m` or `1.5h`.

    Raises:
        ValueError: If it is anything else, or not positive.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", text.strip())
    if found is None or found[2] not in _UNITS or float(found[1]) == 0:
        raise ValueError(f"Expected a positive time such as 300s, 5m or 1.5h, got {text!r}.")
    return float(found[1]) * _UNITS[found[2]]


def target(text: str) -> tuple[str, float]:
    """Name and value of an error from `relative_l2=0.02`.

    Raises:
        ValueError: If it is anything else.
    """
    name, _, value = text.partition("=")
    try:
        found = name.strip(), float(value)
    except ValueError:
        found = "", math.nan
    if not found[0] or not math.isfinite(found[1]):
        raise ValueError(f"Expected the name and the value of an error, such as relative_l2=0.02, got {text!r}.")
    return found


def check_fields(module: ModuleType) -> None:
    """Refuses an experiment file that a benchmark has no handle on.

    Raises:
        ValueError: If its Config, with its option groups, has no setting `model`, `seed` or `epochs`.
    """
    known = dict(settings(next(iter(module.PRESETS.values()))))
    missing = [name for name in ("model", "seed", "epochs") if name not in known]
    if missing:
        raise ValueError(
            f"A benchmark sets model, seed and epochs, the Config of {module.__file__} has no {', '.join(missing)}. "
            "Add the field, or the option group experiment.Training, and use it in build."
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Models of one experiment file and the conditions that they share.

    Attributes:
        module: The experiment file, from `experiment.load_file`.
        config: All other settings; its seed is the first one, its epochs are those of all models without a budget.
        models: Names of `MODELS`.
        seeds: Number of runs of each model, with consecutive seeds.
        budget: Seconds of training for each run. They contain the steps: reading batches, loss, gradient, update.
            They do not contain compilation, validation, checkpoints and the test.
        target: Name and value of a validation error; the time until a run reaches it is measured. By default the
            largest final one of all runs, which all of them reach.
        layout: How each run is laid out over the devices.
        coverage: Level of conformal bands, whose coverage and width stand beside the errors; None for no bands. The
            validation data calibrate them, see `experiment.evaluate`.

    Raises:
        ValueError: If the Config lacks a field, a model does not exist or is given twice, or a number is not positive.
    """

    module: ModuleType
    config: Any
    models: tuple[str, ...]
    seeds: int = 3
    budget: float | None = None
    target: tuple[str, float] | None = None
    layout: Layout = Layout()
    coverage: float | None = None

    def __post_init__(self):
        check_fields(self.module)
        unknown = [name for name in self.models if name not in self.module.MODELS]
        if unknown or not self.models:
            known = ", ".join(self.module.MODELS)
            raise ValueError(
                f"Expected models of {self.module.__file__} ({known}), got {', '.join(unknown) or 'none'}."
            )
        if len(set(self.models)) < len(self.models):
            raise ValueError(f"Expected each model once, got {', '.join(self.models)}.")
        if self.seeds < 1:
            raise ValueError(f"Expected at least 1 seed, got {self.seeds}.")
        if self.first_seed + self.seeds - 1 > LARGEST_SEED:
            raise ValueError(
                f"Expected seeds up to {LARGEST_SEED}, got {self.seeds} from {self.first_seed} on. Use a lower --seed."
            )
        if self.coverage is not None and not 0 < self.coverage < 1:
            raise ValueError(f"Expected a level of coverage between 0 and 1, such as 0.9, got {self.coverage}.")
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise ValueError(f"Expected a budget of more than 0 seconds, got {self.budget}.")
        if self.budget is not None and not _takes_floats(self.config, "epochs"):
            raise ValueError(
                f"A budget ends within an epoch, but Config.epochs of {self.module.__file__} is no float. Make it one, "
                "with ceil(epochs * samples / batch) steps, or give a number of epochs instead of a budget."
            )

    @property
    def first_seed(self) -> int:
        """Seed of the first run of each model."""
        return dict(settings(self.config))["seed"]

    @property
    def file(self) -> pathlib.Path:
        """The experiment file."""
        return pathlib.Path(str(self.module.__file__))

    @property
    def runs(self) -> list[tuple[int, str]]:
        """(seed, model) in the order of training: a benchmark that is cut has complete rounds of all models."""
        return [(self.first_seed + k, model) for k in range(self.seeds) for model in self.models]

    def config_of(self, model: str, seed: int, epochs: float | None = None) -> Any:
        """The config of one run."""
        changes: dict[str, Any] = {"model": model, "seed": seed}
        if epochs is not None:
            changes["epochs"] = epochs
        if "steps" in dict(settings(self.config)):
            changes["steps"] = None  # a number of steps would count in place of the epochs
        return with_settings(self.config, changes)

    def settings(self) -> dict[str, Any]:
        """What must be the same when a benchmark goes on; models and seeds may be added."""
        free = {"model", "seed"} if self.budget is None else {"model", "seed", "epochs"}
        kept = {name: to_json(value) for name, value in settings(self.config) if name not in free}
        layout = {"layout": words} if (words := self.layout.words()) else {}
        return {"experiment": self.file.name, "budget": self.budget, **layout, **kept}


def _takes_floats(config: Any, name: str) -> bool:
    """Whether a setting of a config, or of a group in it, is annotated as a float."""
    hints = typing.get_type_hints(type(config))
    if name in hints:
        return float in (typing.get_args(hints[name]) or (hints[name],))
    groups = (getattr(config, field.name) for field in dataclasses.fields(config))
    return any(_takes_floats(group, name) for group in groups if dataclasses.is_dataclass(group))


def run_name(model: str, seed: int) -> str:
    """Name of the folder of a run."""
    return f"{model}-seed{seed}"
