"""Split conformal prediction for fields and rollouts: bands that contain the truth with a chosen probability."""

import abc
import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

Values = Float[np.ndarray | Array, "samples ..."]
_SLACK = 1e-9  # (n + 1) level is a whole number for many pairs, and rounding must not raise it to the next one


class AbstractScore(abc.ABC):
    """A size of the error of one sample, which conformal prediction compares with those of a calibration set.

    A sample may have several sizes, its parts; it is covered if all of them are at most their quantiles.
    """

    @abc.abstractmethod
    def __call__(self, errors: Float[np.ndarray, "samples ..."]) -> Float[np.ndarray, "samples parts"]:
        """The sizes of errors, already divided by their scales, of each sample."""

    @abc.abstractmethod
    def radius(self, quantiles: Float[np.ndarray, " parts"], dimensions: int) -> np.ndarray:
        """The quantiles as an array that broadcasts against a sample of so many axes."""


@dataclasses.dataclass(frozen=True)
class SupNorm(AbstractScore):
    """max |error| over all channels, points and frames: the band holds at all of them at once."""

    def __call__(self, errors: Float[np.ndarray, "samples ..."]) -> Float[np.ndarray, "samples parts"]:
        """As in `AbstractScore`, one size."""
        return np.abs(_flat(errors)).max(axis=1, keepdims=True)

    def radius(self, quantiles: Float[np.ndarray, " parts"], dimensions: int) -> np.ndarray:
        """As in `AbstractScore`, one number."""
        return quantiles.reshape((1,) * dimensions)


@dataclasses.dataclass(frozen=True)
class L2Norm(AbstractScore):
    """Root of the mean of error^2 over channels, points and frames, in the units of the field.

    The set is a ball: it says how large the error is as a whole, and nothing of a single point. `radius` is its size.
    """

    def __call__(self, errors: Float[np.ndarray, "samples ..."]) -> Float[np.ndarray, "samples parts"]:
        """As in `AbstractScore`, one size."""
        return np.sqrt(np.mean(_flat(errors) ** 2, axis=1, keepdims=True))

    def radius(self, quantiles: Float[np.ndarray, " parts"], dimensions: int) -> np.ndarray:
        """As in `AbstractScore`, one number."""
        return quantiles.reshape((1,) * dimensions)


@dataclasses.dataclass(frozen=True)
class EachStep(AbstractScore):
    """Another score of each step of a rollout `(samples, steps, ...)`, each with a quantile of its own.

    All T steps hold together by a union bound: each gets the level 1 - alpha / T, which needs about T times as many
    samples as one score of the whole trajectory.

    Attributes:
        score: Score of one step.
    """

    score: AbstractScore = SupNorm()

    def __call__(self, errors: Float[np.ndarray, "samples ..."]) -> Float[np.ndarray, "samples parts"]:
        """As in `AbstractScore`, a size for each step.

        Raises:
            ValueError: If the errors have no axis of steps.
        """
        if errors.ndim < 3:
            raise ValueError(
                f"Expected rollouts (samples, steps, channels, *space) for a score of each step, got errors of shape "
                f"{errors.shape}. Use SupNorm() or L2Norm() for fields."
            )
        return np.concatenate([self.score(errors[:, step]) for step in range(errors.shape[1])], axis=1)

    def radius(self, quantiles: Float[np.ndarray, " parts"], dimensions: int) -> np.ndarray:
        """As in `AbstractScore`, a number for each step."""
        return quantiles.reshape((-1,) + (1,) * (dimensions - 1))


def rank(n: int, level: float) -> int:
    """ceil((n + 1) level): the score of this rank among n is the quantile of split conformal prediction.

    Source: Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2005; for regression Lei et al.,
    "Distribution-free predictive inference for regression", JASA 2018, arXiv:1604.04173, theorem 2.2.

    Raises:
        ValueError: If the level is not between 0 and 1, or n is too small for it; it names the number that is needed.
    """
    if not 0 < level < 1:
        raise ValueError(f"Expected a level between 0 and 1, such as 0.9, got {level}.")
    found = math.ceil((n + 1) * level - _SLACK)
    if found > n:
        needed = math.ceil(level / (1 - level) - _SLACK)
        raise ValueError(
            f"Expected at least {needed} calibration samples for the level {level:.6g}, got {n}. Use more samples, or "
            f"a level of at most {n / (n + 1):.4g}."
        )
    return max(found, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Conformal:
    """A calibrated predictor: bands around predictions that contain the truth with at least the probability `level`.

    Attributes:
        level: The probability.
        score: What sizes of errors are compared.
        quantiles: The largest size of each part of the score inside of the band, in units of the scale.
        samples: Number of calibration samples.
    """

    level: float
    score: AbstractScore
    quantiles: Float[np.ndarray, " parts"]
    samples: int

    def half_width(self, predictions: Values, scale: Values | None = None) -> Float[np.ndarray, "samples ..."]:
        """Half of the width of the band at each value.

        Of a ball (`L2Norm`) the root mean square that an error may have.

        Args:
            predictions: Predictions of some samples.
            scale: Their scales, of the kind of the calibration.

        Raises:
            ValueError: If a prediction or a scale is not possible; it names the sample.
        """
        predictions = checked(predictions, "predictions")
        radius = self.score.radius(self.quantiles, predictions.ndim - 1)[None]
        return np.broadcast_to(radius * _scales(scale, predictions), predictions.shape)

    def band(self, predictions: Values, scale: Values | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bound of each value; arguments and errors as in `half_width`.

        With `SupNorm` the truth of a sample lies between them at all of its values at once, with the probability
        `level`.

        Raises:
            ValueError: If the score is `L2Norm`, whose set is no band.
        """
        score = self.score.score if isinstance(self.score, EachStep) else self.score
        if isinstance(score, L2Norm):
            raise ValueError(
                "Expected a sup-norm score for a band, got L2Norm, whose set is a ball around the prediction. "
                "Calibrate with SupNorm(), or use half_width, the radius of the ball."
            )
        half = self.half_width(predictions, scale)
        return np.asarray(predictions) - half, np.asarray(predictions) + half

    def covers(self, predictions: Values, truth: Values, scale: Values | None = None) -> Bool[np.ndarray, " samples"]:
        """Whether each sample's truth lies in its set, at all values; arguments and errors as in `conformal`."""
        inside = sizes(self.score, predictions, truth, scale) <= self.quantiles
        return np.asarray(inside.all(axis=1))


def conformal(
    predictions: Values,
    truth: Values,
    *,
    level: float = 0.9,
    score: AbstractScore = SupNorm(),
    scale: Values | None = None,
) -> Conformal:
    """Calibrates bands on samples that the model has not been trained on: split conformal prediction.

    With the score s = size of (truth - prediction) / scale, the quantile is the score of rank ceil((n + 1) level) among
    the n calibration samples. If these and a new sample are exchangeable, for example drawn alike and independently,
    then the probability that the new one is covered is at least `level` and, without ties, at most level + 1 / (n + 1).
    It is a mean over calibration sets and samples, not over the samples of one kind, and nothing is promised for inputs
    from elsewhere.

    Source: Lei et al., JASA 2018, arXiv:1604.04173, section 2.2, with sup-norm scores as in Diquigiovanni, Fontana,
    Vantini, "Conformal prediction bands for multivariate functional data", 2022, arXiv:2106.01792.

    Args:
        predictions: Predictions of the calibration samples: fields `(samples, channels, *space)` or rollouts `(samples,
            steps, channels, *space)`.
        truth: What they predict.
        level: Probability that a new sample is covered.
        score: `SupNorm`, `L2Norm`, or `EachStep` of one of them.
        scale: Positive, broadcastable to the predictions, for example the spread of an ensemble: bands are wide where
            it is large. It must be a function of the inputs, the same for new samples, and no function of the truth.

    Raises:
        ValueError: If there are too few samples for the level, naming how many are needed; if a prediction, truth or
            scale is not possible, naming the sample.
    """
    return calibrated(sizes(score, predictions, truth, scale), level=level, score=score)


def calibrated(known: Float[np.ndarray, "samples parts"], *, level: float, score: AbstractScore) -> Conformal:
    """As `conformal`, from the scores of the calibration samples, for data that are read in batches; see `sizes`.

    Raises:
        ValueError: If there are too few samples for the level.
    """
    each = 1 - (1 - level) / known.shape[1]
    which = rank(len(known), each)
    return Conformal(level, score, np.sort(known, axis=0)[which - 1], len(known))


def sizes(
    score: AbstractScore, predictions: Values, truth: Values, scale: Values | None = None
) -> Float[np.ndarray, "samples parts"]:
    """The scores of samples, what `calibrated` gets and `Conformal.quantiles` bounds; as in `conformal`."""
    predictions, truth = checked(predictions, "predictions"), checked(truth, "true fields")
    if predictions.shape != truth.shape:
        raise ValueError(
            f"Expected true fields of the shape of the predictions, {predictions.shape}, got {truth.shape}. Both are "
            "(samples, ...)."
        )
    return score((truth - predictions) / _scales(scale, predictions))


def checked(values: Values, name: str) -> np.ndarray:
    """Values as float64, all of them finite.

    Raises:
        ValueError: If there are no samples, or one is not finite; it names the first such sample.
    """
    found = np.asarray(jax.device_get(values), np.float64)
    if found.ndim < 2 or not found.size:
        raise ValueError(f"Expected {name} (samples, ...) with at least one sample, got the shape {found.shape}.")
    bad = np.flatnonzero(~np.isfinite(_flat(found)).all(axis=1))
    if bad.size:
        raise ValueError(
            f"Expected finite {name}, got NaN or infinity in {len(bad)} of {len(found)} samples, the first is sample "
            f"{bad[0]}. Replace diverged predictions by zeros, so that they count as large errors; left out, they "
            "would make the bands too narrow."
        )
    return found


def _scales(scale: Values | None, predictions: np.ndarray) -> np.ndarray:
    if scale is None:
        return np.ones((1,) * predictions.ndim)
    found = checked(scale, "scales")
    if found.ndim != predictions.ndim or any(
        a not in (1, b) for a, b in zip(found.shape, predictions.shape, strict=True)
    ):
        raise ValueError(
            f"Expected scales that broadcast to the predictions, {predictions.shape}, got {found.shape}. Give each "
            "sample a scale, and single axes a length of 1."
        )
    bad = np.flatnonzero((_flat(found) <= 0).any(axis=1))
    if bad.size:
        raise ValueError(
            f"Expected positive scales, got {found[bad[0]].min():g} in sample {bad[0]}. Add a floor to the spread of "
            "an ensemble: uq.spread(members, floor=0.1)."
        )
    return found


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def coverage_interval(level: float, *, calibration: int, test: int, probability: float = 0.95) -> tuple[float, float]:
    """The interval that holds the coverage of `test` samples with a probability, over random splits of one data set.

    Without ties, the number of covered samples is beta-binomial, with parameters k = ceil((n + 1) level) and n + 1 - k
    for n calibration samples, whatever the model and the data are [derived from the ranks being uniform].

    Source: Angelopoulos, Bates, "A gentle introduction to conformal prediction", 2021, arXiv:2107.07511, section 3.2.

    Args:
        level: The level of the bands, with one score for each sample.
        calibration: Number of calibration samples.
        test: Number of samples whose coverage is measured.
        probability: Of the interval; at least so much, as the number is a whole one.

    Raises:
        ValueError: As `rank`.
    """
    import scipy.stats

    which = rank(calibration, level)
    known = scipy.stats.betabinom(test, which, calibration + 1 - which)
    low, high = known.ppf((1 - probability) / 2), known.ppf((1 + probability) / 2)
    return float(low) / test, float(high) / test
