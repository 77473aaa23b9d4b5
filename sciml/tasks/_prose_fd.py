"""PROSE-FD: the next frames of a plane flow, from frames and its equations."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciml import plot, prose, symbolic, systems, train
from sciml.experiment import Count, NonNegative, Seed, Whole, check_settings, chosen
from sciml.losses import Loss
from sciml.tasks._memory import check_amount
from sciml.tasks._prose import AbstractProse, Lazy, Split
from sciml.tasks._writing import GUESSES


@dataclasses.dataclass(frozen=True)
class ProseFD(AbstractProse):
    """The task of PROSE-FD: forecasts of frames of plane flows.

    Frames have four channels; families with fewer fill them up with zeros. Each channel is scaled by its mean and
    standard deviation over the given frames, and the loss is the mean square in that scale over the channels that
    exist. In training a window begins at any frame, in evaluations at the first one.

    Metrics: `relative_l2`, the norm of the error over that of the truth over points and channels in each frame, the
    mean over frames, over samples, and over families; the same of each family with its name in front; `last_frame`, of
    the last frame alone; `repeated`, the error of repeating the last given frame.

    Raises:
        ValueError: If settings do not fit together.
    """

    families: tuple[str, ...] = tuple(systems.FLUID_FAMILIES)
    """Names of sciml.systems.FLUID_FAMILIES."""
    weights: tuple[Whole, ...] = ()
    """How many times the windows of each family appear in training; once if empty."""
    flows: tuple[Count, Count, Count] = (800, 40, 80)
    """Numbers of training, validation and test trajectories, of the families in turn."""
    resolution: Count = 64
    """Points along each axis."""
    frames: Count = 40
    """Frames of a trajectory."""
    history: Count = 10
    """Number of given frames."""
    horizon: Count = 10
    """Number of predicted frames."""
    guess: str = "known"
    """How the equations that the model reads are formed: known, or skeleton (constants masked)."""
    epsilon: NonNegative = 1e-8
    """Added to the standard deviations of channels."""
    data_seed: Seed = 0
    """Seed of the trajectories."""
    data: str = "data"
    """Folder for the generated trajectories."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_amount(max(self.flows), 4 * self.frames * self.resolution**2)
        chosen("a guess", self.guess, {name: GUESSES[name] for name in ("known", "skeleton")})
        if self.weights and len(self.weights) != len(self.families):
            raise ValueError(f"Expected a weight for each of {self.families}, or none, got {self.weights}.")
        if min(self.flows) < len(self.families):
            raise ValueError(f"Expected at least one flow of each of {self.families}, got the numbers {self.flows}.")
        if self._begins < 1:
            raise ValueError(
                f"Expected trajectories of at least {self.history + self.horizon} frames, history and horizon, got "
                f"{self.frames}. Use more frames."
            )

    @functools.cached_property
    def vocabulary(self) -> symbolic.Vocabulary:
        """The tokens of equations."""
        return symbolic.fluid_vocabulary()

    @property
    def _begins(self) -> int:
        """Number of frames at which a window may begin."""
        return self.frames - self.history - self.horizon + 1

    def samples(self, part: int) -> Lazy:
        """Windows of training (0), validation (1) or test trajectories (2)."""
        begins = 1 if part else self._begins
        weights = {} if part else dict(zip(self.families, self.weights, strict=False))
        mixture = systems.FluidMixture(families=self.families, resolution=self.resolution, frames=self.frames)
        count, seed = self.flows[part], 3 * self.data_seed + part
        lanes = min(10, min(self.flows) // len(self.families))  # the same for all parts, for one compilation
        settings = {"window": self.history + self.horizon, "guess": GUESSES[self.guess], "begins": begins}

        def make() -> prose.FluidData:
            files = {"count": count, "seed": seed, "per_shard": 40, "lanes": lanes}
            parts = systems.stored_trajectories(mixture, self.data, **files)
            return prose.FluidData(parts, self.vocabulary, weights=weights, **settings)

        turns = (self.families[i % len(self.families)] for i in range(count))
        return Lazy(begins * sum(weights.get(name, 1) for name in turns), make)

    def loss(self, dtype: Any) -> Loss:
        """The mean square in the scale of the given frames."""
        squares = functools.partial(prose.relative_to_inputs, epsilon=self.epsilon)
        return prose.prose_loss(history=self.history, squares=squares, dtype=dtype)

    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        """The metrics above."""
        parts, data = [], split.data
        for begin in range(0, len(data), 64):
            sample = data[begin : begin + 64]
            parts.append((sample.family, train.predict(prose.FrameErrors(model, self.history), sample, size=16)))
        family = np.concatenate([number for number, _ in parts])
        errors = {name: np.concatenate([found[name] for _, found in parts]) for name in ("model", "repeated")}
        names = self.families
        of_families = lambda values: [float(np.mean(values[family == number])) for number in range(len(names))]
        each = of_families(errors["model"])
        return {
            "relative_l2": float(np.mean(each)),
            "last_frame": float(np.mean(of_families(errors["model"][:, -1]))),
            "repeated": float(np.mean(of_families(errors["repeated"]))),
            **{f"{name}_relative_l2": error for name, error in zip(names, each, strict=True)},
        }

    def figures(self, models: Mapping[str, Any], where: pathlib.Path) -> None:
        """The last frame of a trajectory of each family, in its last channel, and the last given frame."""
        sample = self.test.data[np.arange(len(self.families))]
        last = sample.components.sum(axis=1) - 1
        channel = lambda frames: frames[np.arange(len(frames)), last]
        predictions = {}
        for name, model in models.items():
            states = train.predict(prose.SampleForecast(model, self.history), sample)["states"]
            predictions[name] = channel(states[:, -1])
        given, truth = channel(sample.states[:, self.history - 1]), channel(sample.states[:, -1])
        plot.save(plot.predictions(given, truth, predictions), where / "predictions.png")
