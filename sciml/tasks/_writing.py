"""Equations that models write in the evaluations of PROSE tasks."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sciml import prose, symbolic, train
from sciml.systems import AbstractSystems, stored_trajectories
from sciml.tasks._prose import AbstractProse, Lazy

GUESSES = {
    "known": prose.known_equations,
    "skeleton": prose.skeleton_equations,
    "perturbed": prose.skeleton_equations,  # the loss adds and deletes terms
}


class AbstractEquationTask(AbstractProse):
    """A task whose samples are trajectories of drawn systems with their equations; a frozen dataclass.

    Attributes:
        vocabulary: The tokens of equations.
        systems: Numbers of training, validation and test systems.
        guess: One of GUESSES.
        decoded: Number of test samples whose equations are written.
        data_seed: Seed of the trajectories.
        data: Folder for the generated trajectories.
    """

    vocabulary: Any
    systems: tuple[int, int, int]
    guess: str
    decoded: int
    data_seed: int
    data: str

    @abc.abstractmethod
    def mixture(self, part: int) -> AbstractSystems:
        """What training (0), validation (1) or test systems (2) are drawn from."""

    def samples(self, part: int) -> Lazy:
        """Trajectories of training (0), validation (1) or test systems (2), without noise."""
        source, count = self.mixture(part), self.systems[part]

        def make() -> prose.EquationData:
            parts = stored_trajectories(source, self.data, count=count, seed=3 * self.data_seed + part)
            return prose.EquationData(parts, self.vocabulary, guess=GUESSES[self.guess])

        return Lazy(count * source.count, make)

    @property
    def written_samples(self) -> int:
        """Number of test samples whose equations are written."""
        return self.decoded


def spread_out(last: int, count: int) -> np.ndarray:
    """`count` of the indices 0 to `last`: the first, the last, and those equally spaced between them."""
    return np.round(np.linspace(0, last, count)).astype(int)


@dataclasses.dataclass(frozen=True)
class Writing:
    """How models write equations in an evaluation.

    Attributes:
        vocabulary: Of the tokens.
        history: Number of given times.
        grammar: `prose.system_grammar` or `prose.residual_grammar`.
        max_tokens: Largest number of tokens.
    """

    vocabulary: symbolic.Vocabulary
    history: int
    grammar: Callable[..., prose.Grammar]
    max_tokens: int

    def within_grammar(self, model: prose.Prose, sample: prose.Sample) -> list[symbolic.System | None]:
        """The likeliest equations of the grammar, with mean numbers."""
        return self._written(model, sample, self.grammar, prose.MeanNumbers(self.vocabulary), prose.read_strictly)

    def as_published(self, model: prose.Prose, sample: prose.Sample) -> list[symbolic.System | None]:
        """The likeliest tokens, read as the published code reads them."""
        reading = symbolic.system_from_tokens_as_published
        return self._written(model, sample, prose.unconstrained, prose.likeliest_numbers, reading)

    def _written(
        self, model: prose.Prose, sample: prose.Sample, constraint: Any, numbers: Any, reading: Any
    ) -> list[symbolic.System | None]:
        settings = self.history, self.vocabulary, constraint, self.max_tokens
        writer = prose.SampleEquations(model, *settings, numbers=numbers)
        return prose.equations(train.predict(writer, sample), self.vocabulary, reading)

    def true_equations(self, sample: prose.Sample) -> list[symbolic.System]:
        """The true equations of samples."""
        found = prose.equations(sample.equation[:, 1:], self.vocabulary)
        return [system for system in found if system is not None]

    def metrics(
        self, model: prose.Prose, sample: prose.Sample, errors: Callable[[Sequence[Any], Sequence[Any]], Any]
    ) -> tuple[dict[str, float], list[symbolic.System | None]]:
        """Metrics of both kinds of written equations, and those within the grammar.

        There is no `expression_error` where no equation is valid, since it is a mean over the valid ones.

        Args:
            model: A model that writes equations.
            sample: What it reads.
            errors: `(written, true) -> errors`, `prose.equation_errors` or `prose.residual_errors`.
        """
        truth, metrics = self.true_equations(sample), {}
        written = {"": self.as_published(model, sample), "grammar_": self.within_grammar(model, sample)}
        for name, systems in written.items():
            found = prose.equation_metrics(systems, truth, errors(systems, truth))
            metrics |= {f"{name}{metric}": value for metric, value in found.items() if not math.isnan(value)}
        return metrics, written["grammar_"]

    def forecasts(
        self, models: Mapping[str, prose.Prose], sample: prose.Sample
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """Forecasts of models by name, and captions with the true and the written equations of each sample."""
        captions = [["true: " + prose.equation_text(one)] for one in self.true_equations(sample)]
        states = {}
        for name, model in models.items():
            states[name] = train.predict(prose.SampleForecast(model, self.history), sample)["states"]
            if model.symbol_decoder is not None:
                for lines, one in zip(captions, self.within_grammar(model, sample), strict=True):
                    lines.append(f"{name}: {prose.equation_text(one)}")
        return states, ["\n".join(lines) for lines in captions]


def token_error(found: dict[str, np.ndarray]) -> dict[str, float]:
    """The teacher-forced token error, for a model that writes equations. Takes `wrong` and `tokens` out of `found`."""
    wrong, tokens = (int(found.pop(name).sum()) for name in ("wrong", "tokens"))
    return {"token_error": wrong / tokens} if tokens else {}
