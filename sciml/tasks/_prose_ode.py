"""PROSE-ODE: the rest of a trajectory and its equations, from its noisy beginning and a guess of the equations."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import plot, prose, symbolic, train
from sciml.experiment import Count, NonNegative, Positive, Prediction, Range, Seed, Share, Whole, check_settings, chosen
from sciml.losses import Loss
from sciml.systems import FAMILIES, Mixture, Solutions
from sciml.tasks._files import predict_file
from sciml.tasks._forecast import Forecast, ForecastOptions, forecast
from sciml.tasks._guess import Trained
from sciml.tasks._memory import check_amount
from sciml.tasks._prose import Lazy, Split
from sciml.tasks._writing import GUESSES, AbstractEquationTask, Writing, spread_out, token_error

_TRAINING_SPREAD = 0.1


@dataclasses.dataclass(frozen=True)
class ProseODE(AbstractEquationTask):
    """The task of PROSE-ODE: forecasts of trajectories of ordinary differential equations, and their equations.

    Metrics: `relative_l2`, `first_half` and `second_half` of the predicted times against noisy targets, as published;
    with `clean_` against the true solution; with `floor_` the error of the true solution against noisy targets.
    `token_error` is the fraction of positions whose most likely token differs from the target, given the true prefix.
    In the test, of equations written token by token: `valid`, the fraction that can be read and is finite, and of
    these `expression_error` at 50 points in [-5, 5]^D, which is left out if there are none; `structure`, the fraction
    whose structure is right up to the order of sums and products; the same with `grammar_` for equations within the
    grammar and with mean numbers. Of the first of these also the errors before and after their constants are fitted to
    the given states, `unrefined_expression_error` and `refined_expression_error`, and of the forecasts, `unrefined_` by
    the network and `refined_` by solving the fitted equations. `solved` is the fraction that can be solved; the
    forecast of the network stands for the others.

    Raises:
        ValueError: If settings do not fit together.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    """Names of sciml.systems.FAMILIES."""
    systems: tuple[Count, Count, Count] = (8000, 24, 80)
    """Numbers of training, validation and test systems."""
    initial_conditions: Count = 10
    """Trajectories of each system."""
    spread: Annotated[float, Range(0, 0.99)] = _TRAINING_SPREAD
    """Relative half width of the constants of the test systems around the nominal ones. It is 0.1 in training."""
    points: Count = 192
    """Times of a trajectory, equally spaced from 0 to `end`."""
    end: Positive = 6.0
    """Last time."""
    history: Count = 64
    """Number of times of the given part of a trajectory; the others are predicted."""
    sensors: int | None = None
    """Number of given times, spread over the given part; by default all of its times."""
    targets: Count | None = 32
    """Number of predicted times drawn in each training step; all if None."""
    noise: NonNegative = 0.02
    """Norm of the noise relative to that of the trajectory."""
    guess: str = "perturbed"
    """How the guess of the equations is formed: known, skeleton (constants masked), or perturbed (skeletons, of which
    15 % have a term too much and 15 % one too few)."""
    blank_guesses: Share = 0.1
    """Fraction of the guesses in training that are blank: only the number of components is known."""
    known_guesses: Share = 0.5
    """Fraction of the guesses in training that are the true equations, with their numbers."""
    max_tokens: Annotated[int, Range(1, 10_000)] = 150
    """Most tokens of a written equation."""
    decoded: Whole = 800
    """Number of test samples whose equations are written; the first ones."""
    refined: Whole = 800
    """Number of these whose constants are fitted and whose equations are solved."""
    constant_std: Positive | None = 0.05
    """Standard deviation of the relative errors of written constants, a prior of their fit; None for no prior."""
    data_seed: Seed = 0
    """Seed of the trajectories."""
    data: str = "data"
    """Folder for the generated trajectories."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_amount(max(self.systems) * self.initial_conditions, self.points * 3)
        chosen("a guess", self.guess, GUESSES)
        if min(self.blank_guesses, self.known_guesses) < 0 or self.blank_guesses + self.known_guesses > 1:
            raise ValueError(
                "Expected fractions of blank and known guesses that are at most 1 together, got "
                f"{self.blank_guesses} and {self.known_guesses}."
            )
        if not 2 <= self.given <= self.history:
            raise ValueError(f"Expected from 2 to {self.history} sensors, the history, got {self.given}.")
        if not self.history < self.points or not 1 <= (self.targets or 1) <= self.points - self.history:
            raise ValueError(
                "Expected a history shorter than the points, and up to as many targets as points are left, got "
                f"history {self.history}, {self.points} points and {self.targets} targets."
            )
        self.mixture(0)

    @property
    def given(self) -> int:
        """Number of given times."""
        return self.history if self.sensors is None else self.sensors

    @property
    def dimension(self) -> int:
        """Largest number of components of a system."""
        return self.mixture(0).dimension

    @functools.cached_property
    def vocabulary(self) -> symbolic.Vocabulary:
        """The tokens of equations."""
        return symbolic.ode_vocabulary(self.dimension)

    def mixture(self, part: int) -> Mixture:
        """What the systems of a part are drawn from; those of the test have a spread of their own."""
        solutions = Solutions(initial_conditions=self.initial_conditions, points=self.points, end=self.end)
        spread = self.spread if part == 2 else _TRAINING_SPREAD
        return Mixture(solutions=solutions, families=self.families, spread=spread)

    @property
    def writing(self) -> Writing:
        """How models write equations."""
        return Writing(self.vocabulary, self.given, prose.system_grammar, self.max_tokens)

    @property
    def _given_times(self) -> np.ndarray:
        return spread_out(self.history - 1, self.given)

    @property
    def _later_times(self) -> np.ndarray:
        return np.arange(self.history, self.points)

    @property
    def used_times(self) -> np.ndarray:
        """Indices of the given times, followed by those of the predicted ones."""
        return np.concatenate((self._given_times, self._later_times))

    def _noise(self, data: Lazy) -> prose.Noise:
        terms = prose.TermNoise(data.made.structures, self.vocabulary) if self.guess == "perturbed" else None
        return prose.Noise(prose.Additive(self.noise), terms)

    @functools.cached_property
    def _training_noise(self) -> prose.Noise:
        with jax.ensure_compile_time_eval():  # the loss is traced
            return self._noise(self.training)

    def loss(self, dtype: Any) -> Loss:
        """The loss of a batch of clean samples: fresh noise, a choice of the targets, mixed guesses."""
        inner = prose.prose_loss(history=self.given, dtype=dtype)

        def thin(model: prose.Prose, batch: prose.Sample, keys: jax.Array) -> Any:
            first, second, rest = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
            batch = jax.vmap(self._at_random_times)(batch, first)
            mixed = mixed_guesses(batch, second, self.vocabulary, blank=self.blank_guesses, known=self.known_guesses)
            return inner(model, mixed, rest)

        return lambda model, batch, keys: prose.noisy(thin, self._training_noise)(model, batch, keys)

    def _at_random_times(self, sample: prose.Sample, key: jax.Array) -> prose.Sample:
        """The sample at the given times and at those of the targets, which are drawn."""
        later = jnp.asarray(self._later_times)
        if self.targets is not None:
            later = jax.random.choice(key, later, (self.targets,), replace=False)
        rows = jnp.concatenate((self._given_times, later))
        return sample._replace(times=sample.times[rows], states=sample.states[rows])

    def noisy_samples(self, split: Split, rows: Any) -> tuple[prose.Sample, prose.Sample]:
        """Samples with noise that is the same in every evaluation, and without it."""
        clean = split.data[rows]
        noise = self._noise(split.data)
        return jax.tree.map(np.asarray, _with_fixed_noise(noise, clean, split.seed)), clean

    def evaluate(self, model: prose.Prose, split: Split) -> dict[str, float]:
        """The metrics above."""
        sample, clean = self.noisy_samples(split, slice(None))
        sample, clean = prose.thinned(sample, self.used_times), clean.states[:, self.used_times]
        found = train.predict(prose.SampleErrors(model, self.given), (sample, clean))
        tokens = token_error(found)
        metrics = {name: float(np.mean(values)) for name, values in found.items()} | tokens
        if not tokens or not split.decoded:
            return metrics
        first = lambda count, tree: jax.tree.map(lambda array: array[:count], tree)
        equations, written = self.writing.metrics(model, first(split.decoded, sample), prose.equation_errors)
        if not self.refined:
            return metrics | equations
        count = min(self.refined, split.decoded)
        sample, clean = first(count, (sample, clean))
        forecasts = train.predict(prose.SampleForecast(model, self.given), sample)["states"]
        return metrics | equations | self.refined_errors(written[:count], forecasts, sample, clean)

    def refined_errors(
        self,
        written: Sequence[symbolic.System | None],
        forecasts: np.ndarray,
        sample: prose.Sample,
        clean: np.ndarray,
    ) -> dict[str, float]:
        """Errors of equations before and after the fit of their constants, and of both kinds of forecasts.

        Args:
            written: Equations of a model.
            forecasts: Its forecasts.
            sample: The noisy samples.
            clean: Their states without noise.
        """
        guesses = prose.equations(np.where(sample.tokens_mask, sample.tokens, self.vocabulary.eos), self.vocabulary)
        spreads = [prose.COPIED if same else self.constant_std for same in map(prose.copied, written, guesses)]
        better = prose.solved_forecasts(written, sample, forecasts, self.given, spreads=spreads)
        truth = self.writing.true_equations(sample)
        metrics = {"solved": float(np.mean(better.solved))}
        for name, found, states in (("unrefined", written, forecasts), ("refined", better.systems, better.states)):
            errors = prose.equation_errors(found, truth)
            if errors.valid.any():
                metrics[f"{name}_expression_error"] = errors.mean
            for kind, true in (("", sample.states), ("clean_", clean)):
                windows = jnp.asarray(states), jnp.asarray(true[:, self.given :]), sample.components
                errors = jax.vmap(prose.window_errors)(*windows)
                halves = {"relative_l2": errors.whole, "first_half": errors.first, "second_half": errors.second}
                metrics |= {f"{name}_{kind}{half}": float(np.mean(error)) for half, error in halves.items()}
        return metrics

    def figures(self, models: Mapping[str, prose.Prose], where: pathlib.Path) -> None:
        """Forecasts of the first trajectory of three families, with the equations that the models write."""
        count = min(3, len(self.families), self.systems[2])
        sample, clean = self.noisy_samples(self.test, np.arange(count) * self.initial_conditions)
        given, later = self._given_times, self._later_times
        states, titles = self.writing.forecasts(models, prose.thinned(sample, self.used_times))
        sizes, ahead = clean.components.sum(axis=1), prose.thinned(clean, later)
        curves = lambda batch: [(t, u[:, :n]) for t, u, n in zip(batch.times, batch.states, sizes, strict=True)]
        lines = {name: curves(ahead._replace(states=found)) for name, found in states.items()}
        given = curves(prose.thinned(sample, given))
        plot.save(plot.trajectories(given, curves(clean), lines, titles=titles), where / "predictions.png")

    def forecast(
        self, model: prose.Prose, times: np.ndarray, states: np.ndarray, options: ForecastOptions | None = None
    ) -> Forecast:
        """States after a trajectory, and its equations.

        Equations are the best of several likely ones by `prose.integral_residual`. Times are counted from the first
        one, since the equations of the families do not depend on time.

        Args:
            model: A model trained on this task.
            times: Increasing times `(n,)`, at most as many as the model was given in training.
            states: `(n, variables)`, at most as many variables as the model has.
            options: Guess, times of the forecast, refinement.

        Raises:
            ValueError: If the trajectory or an option does not fit the model.
        """
        return forecast(self._trained(model), times, states, options or ForecastOptions())

    def _trained(self, model: prose.Prose) -> Trained:
        return Trained(
            model=model,
            vocabulary=self.vocabulary,
            variables=self.dimension,
            history=self.given,
            span=self.end * (self.history - 1) / (self.points - 1),
            end=self.end,
            horizon=self.points - self.history,
            known=self.guess == "known",
            some_known=self.known_guesses > 0,
            blank=self.blank_guesses > 0,
            max_tokens=self.max_tokens,
        )

    @property
    def prediction(self) -> Prediction:
        """Forecasts of trajectories in files."""
        apply = lambda model, path, out, options: predict_file(self._trained(model), path, out, options)
        return Prediction(ForecastOptions, apply)


@eqx.filter_jit
def _with_fixed_noise(noise: prose.Noise, batch: prose.Sample, seed: int) -> prose.Sample:
    return prose.with_fixed_noise(noise, batch, seed=seed)


def mixed_guesses(
    batch: prose.Sample, keys: jax.Array, vocabulary: symbolic.Vocabulary, *, blank: float, known: float
) -> prose.Sample:
    """Samples some of whose guesses are replaced.

    Args:
        batch: The samples, with a leading axis.
        keys: Of the random choice for each sample.
        vocabulary: Of the tokens.
        blank: Probability of a blank guess, a placeholder for each component.
        known: Probability of the true equations.
    """
    if not blank and not known:
        return batch
    size = batch.components.shape[1]
    placeholders = vocabulary.encode(symbolic.system_to_tokens((symbolic.PLACEHOLDER,) * size))
    lengths = 2 * jnp.sum(batch.components, axis=1, keepdims=True) - 1
    true, true_mask = batch.equation[:, 1:-1], batch.equation_mask[:, 2:]  # without BOS and EOS
    width = max(batch.tokens.shape[1], len(placeholders), true.shape[1] if known else 0)
    fill = lambda array, value: jnp.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=value)
    kind = jax.vmap(jax.random.uniform)(keys)[:, None]
    tokens, mask = fill(batch.tokens, vocabulary.pad), fill(batch.tokens_mask, False)
    if blank:
        chosen = kind < blank
        tokens = jnp.where(chosen, fill(jnp.asarray(placeholders).reshape(1, -1), vocabulary.pad), tokens)
        mask = jnp.where(chosen, np.arange(width).reshape(1, -1) < lengths, mask)
    if known:
        chosen = kind > 1 - known
        tokens = jnp.where(chosen, fill(true, vocabulary.pad), tokens)
        mask = jnp.where(chosen, fill(true_mask, False), mask)
    return batch._replace(tokens=tokens, tokens_mask=mask)
