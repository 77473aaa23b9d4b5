"""PROSE-PDE: the second half of an evolution and its equation, from the first half and a guess of the equation."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np

from sciml import plot, prose, symbolic, train
from sciml.experiment import Count, NonNegative, Range, Seed, Whole, check_settings, chosen
from sciml.losses import Loss
from sciml.systems import PDE_FAMILIES, Evolutions, PdeMixture
from sciml.tasks._memory import check_amount
from sciml.tasks._prose import Split
from sciml.tasks._writing import GUESSES, AbstractEquationTask, Writing, spread_out, token_error

_TRAINING_SPREAD = 0.1
_EVERY = 2  # every other frame is given, or a target


@dataclasses.dataclass(frozen=True)
class ProsePDE(AbstractEquationTask):
    """The task of PROSE-PDE: forecasts of evolutions on an interval, and their equations.

    The frames 0, 2, ... of the first half are given. The frames 0, 2, ... of the second half are the targets in
    training; the frames 1, 3, ... of the second half, at times that are not in the training, those of validation and
    test.

    Metrics: `relative_l2` of the fields, the mean over samples; `r2` over the samples of a family, the mean over
    points, frames and families; `token_error`, the fraction of positions whose most likely token differs from the
    target, given the true prefix. In the test, of equations written token by token: `valid`, the fraction that can be
    read and has an error of up to 100, and of these the mean `expression_error` of the residual on a random polynomial
    in t and x, the same in all evaluations; `structure`, the fraction whose structure is right up to the order of sums
    and products; the same with `grammar_` for equations within the grammar and with mean numbers. Most of a residual
    comes from terms whose constants are the same in all systems, so that `nominal_expression_error`, the error of the
    nominal constants of the family, is the baseline of `expression_error`. Means over valid equations are left out if
    there are none.

    Raises:
        ValueError: If settings do not fit together.
    """

    families: tuple[str, ...] = tuple(PDE_FAMILIES)
    """Names of sciml.systems.PDE_FAMILIES."""
    systems: tuple[Count, Count, Count] = (2000, 40, 100)
    """Numbers of training, validation and test systems."""
    initial_conditions: Count = 10
    """Evolutions of each system."""
    spread: Annotated[float, Range(0, 0.99)] = _TRAINING_SPREAD
    """Relative half width of the constants of the test systems around the nominal ones. It is 0.1 in training."""
    frames: Count = 64
    """Frames of an evolution; every other one of the first half is given."""
    points: Count = 128
    """Points of a frame."""
    sensors: int | None = None
    """Number of given frames, spread over the first half; by default every other one."""
    noise: NonNegative = 0.02
    """Norm of the noise in training relative to that of the evolution."""
    guess: str = "skeleton"
    """How the guess of the equation is formed: known, or skeleton (constants masked)."""
    max_tokens: Annotated[int, Range(1, 10_000)] = 64
    """Most tokens of a written equation."""
    decoded: Whole = 400
    """Number of test samples whose equations are written, spread over all."""
    data_seed: Seed = 0
    """Seed of the evolutions."""
    data: str = "data"
    """Folder for the generated evolutions."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_amount(max(self.systems) * self.initial_conditions, self.frames * self.points)
        chosen("a guess", self.guess, {name: GUESSES[name] for name in ("known", "skeleton")})
        if not 1 <= self.given <= self._history:
            raise ValueError(
                f"Expected from 1 to {self._history} sensors, every other frame of the first half, got {self.given}."
            )
        least = max(1, min(self.systems[1:]) // len(self.families)) * self.initial_conditions
        if least < 2:
            raise ValueError(
                "R^2 compares the evolutions of a family: expected at least 2 of each in validation and test, got "
                f"{least}. Use more systems or initial conditions."
            )
        self.mixture(0)

    @property
    def _history(self) -> int:
        return len(range(0, self.frames // 2, _EVERY))

    @property
    def given(self) -> int:
        """Number of given frames."""
        return self._history if self.sensors is None else self.sensors

    @property
    def given_frames(self) -> np.ndarray:
        """Indices of the given frames."""
        return _EVERY * spread_out(self._history - 1, self.given)

    def later_frames(self, offset: int) -> np.ndarray:
        """Indices of the predicted frames: in training with the offset 0, in evaluations with 1, between these."""
        return np.arange(self.frames // 2 + offset, self.frames, _EVERY)

    @functools.cached_property
    def vocabulary(self) -> symbolic.Vocabulary:
        """The tokens of equations."""
        return symbolic.pde_vocabulary()

    def mixture(self, part: int) -> PdeMixture:
        """What the systems of a part are drawn from; those of the test have a spread of their own."""
        count, spread = self.initial_conditions, self.spread if part == 2 else _TRAINING_SPREAD
        evolutions = Evolutions(initial_conditions=count, candidates=2 * count, frames=self.frames, points=self.points)
        return PdeMixture(families=self.families, spread=spread, evolutions=evolutions)

    @property
    def writing(self) -> Writing:
        """How models write equations."""
        return Writing(self.vocabulary, self.given, prose.residual_grammar, self.max_tokens)

    @functools.cached_property
    def _field(self) -> Mapping[str, np.ndarray]:
        mixture = self.mixture(0)
        return prose.trial_field(mixture.times, mixture.centres, seed=0)

    def _errors(self, written: Any, truth: Any) -> Any:
        return prose.residual_errors(written, truth, self._field)

    def loss(self, dtype: Any) -> Loss:
        """The loss of a batch of evolutions without noise, to which fresh noise is added."""
        frames = np.concatenate((self.given_frames, self.later_frames(0)))
        inner = prose.prose_loss(history=self.given, data=5.0, squares=prose.relative_to_inputs, dtype=dtype)
        thin = lambda model, batch, keys: inner(model, prose.thinned(batch, frames), keys)
        return prose.noisy(thin, prose.Noise(prose.Additive(self.noise)))

    def _evaluated(self, split: Split, rows: Any) -> prose.Sample:
        return prose.thinned(split.data[rows], np.concatenate((self.given_frames, self.later_frames(1))))

    def evaluate(self, model: prose.Prose, split: Split) -> dict[str, float]:
        """The metrics above."""
        sample = self._evaluated(split, slice(None))
        found = train.predict(prose.SampleForecast(model, self.given), sample)
        truth, states = sample.states[:, self.given :], found.pop("states")
        families = [sample.family == number for number in np.unique(sample.family)]
        scores = [prose.coefficient_of_determination(states[own], truth[own]) for own in families]
        metrics = {
            "relative_l2": float(np.mean(prose.relative_l2_of_fields(states, truth))),
            "r2": float(np.mean(scores)),
        }
        tokens = token_error(found)
        if not tokens or not split.decoded:
            return metrics | tokens
        some = slice(None, None, max(1, len(truth) // split.decoded))  # of all systems, which follow each other
        few = jax.tree.map(lambda array: array[some][: split.decoded], sample)
        nominal = [PDE_FAMILIES[split.data.made.families[number]].system() for number in few.family]
        nominal_errors = self._errors(nominal, self.writing.true_equations(few))
        baseline = {"nominal_expression_error": nominal_errors.mean} if nominal_errors.valid.any() else {}
        equations, _ = self.writing.metrics(model, few, self._errors)
        return metrics | tokens | baseline | equations

    def figures(self, models: Mapping[str, prose.Prose], where: pathlib.Path) -> None:
        """The last frames of an evolution of four families with the written equations, and all predicted frames."""
        count = min(4, len(self.families), self.systems[2])
        sample = self._evaluated(self.test, np.arange(count) * self.initial_conditions)
        states, titles = self.writing.forecasts(models, sample)
        given, later = sample.states[:, : self.given, 0], sample.states[:, self.given :, 0]
        fields = {name: found[:, :, 0] for name, found in states.items()}
        last = {name: found[:, -1] for name, found in fields.items()}
        plot.save(plot.profiles(given[:, -1], later[:, -1], last, titles=titles), where / "predictions.png")
        plot.save(plot.predictions(given, later, fields), where / "frames.png")
