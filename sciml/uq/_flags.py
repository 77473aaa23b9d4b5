"""Which inputs are unlike those of the training: distances of features, with a conformal threshold."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciml.uq._conformal import checked, rank

Features = Callable[[Float[Array, "channels *space"]], Float[Array, " features"]]
Fields = Float[np.ndarray | Array, "_ channels ..."]
_SMALLEST = 1e-12  # relative to the largest; a power of zero has no logarithm
_RIDGE = 1e-6  # of the mean variance of the features, so that equal features do no harm


@dataclasses.dataclass(frozen=True)
class SpectralFeatures:
    """Mean, deviation and powers in shells of wavenumbers of each channel of a field, at any resolution.

    With the powers |u_k|^2 of the Fourier modes of the field without its mean, divided by their sum: the logarithms of
    the sums over the shells |k| in [b, b + 1), b = 1, ..., `shells`, and of all that is beyond, and the logarithm of
    the deviation: `shells + 3` features for each channel. Of fields that are not periodic they are those of the
    periodic continuation, which describes them as well.

    Attributes:
        shells: Number of shells.
    """

    shells: int = 6

    def __call__(self, field: Float[Array, "channels *space"]) -> Float[Array, " features"]:
        """The features of one field.

        Raises:
            ValueError: If the field has too few points for the shells.
        """
        space = field.shape[1:]
        if min(space) <= 2 * self.shells:
            raise ValueError(
                f"Expected more than {2 * self.shells} points along each axis for {self.shells} shells, got "
                f"{min(space)}. Use fewer shells."
            )
        axes = tuple(range(1, field.ndim))
        mean = jnp.mean(field, axis=axes, keepdims=True)
        powers = jnp.abs(jnp.fft.fftn(field - mean, axes=axes, norm="forward")) ** 2
        grid = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in space), indexing="ij")
        shell = np.minimum(np.floor(np.sqrt(sum(k**2 for k in grid))).astype(int), self.shells + 1).ravel()
        sums = jnp.stack(
            [powers.reshape(len(field), -1)[:, shell == b].sum(axis=1) for b in range(1, self.shells + 2)], axis=1
        )
        variance = sums.sum(axis=1, keepdims=True)
        relative = jnp.log(jnp.maximum(sums, _SMALLEST * variance) + jnp.finfo(sums.dtype).tiny)
        size = jnp.log(variance + jnp.finfo(sums.dtype).tiny)
        return jnp.concatenate((mean.reshape(-1, 1), size / 2, relative - size), axis=1).ravel()


@dataclasses.dataclass(frozen=True, eq=False)
class InputFlag:
    """Flags inputs whose features are further from those of the training than a part 1 - `level` of such inputs.

    The distance is that of Mahalanobis, sqrt((z - m)^T C^{-1} (z - m)) with mean m and covariance C of the training
    inputs' features. A flag says that an input is unusual; no flag does not say that the prediction is good.

    Attributes:
        features: From one field to its features.
        mean: Mean of the features over the training inputs.
        inverse: Inverse of their covariance.
        threshold: The largest distance that is not flagged.
    """

    features: Features
    mean: Float[np.ndarray, " features"]
    inverse: Float[np.ndarray, "features features"]
    threshold: float

    def distances(self, inputs: Fields) -> Float[np.ndarray, " _"]:
        """The distance of each input.

        Raises:
            ValueError: If an input is not finite; it names the sample.
        """
        away = _features(self.features, inputs) - self.mean
        return np.sqrt(np.einsum("ni,ij,nj->n", away, self.inverse, away))

    def flagged(self, inputs: Fields) -> Bool[np.ndarray, " _"]:
        """Whether each input is flagged; raises as `distances`."""
        return self.distances(inputs) > self.threshold


def input_flag(
    training: Fields, calibration: Fields, *, level: float = 0.95, features: Features = SpectralFeatures()
) -> InputFlag:
    """A flag for inputs, whose threshold is the conformal quantile of the distances of calibration inputs.

    A new input like these is flagged with a probability of at most 1 - level.

    Source: Mahalanobis distances as in Lee et al., "A simple unified framework for detecting out-of-distribution
    samples", NeurIPS 2018, arXiv:1807.03888, of features of the input in place of those of a hidden layer.

    Args:
        training: Inputs that give mean and covariance.
        calibration: Other inputs of the same kind, which give the threshold.
        level: Probability that an input of the same kind is not flagged.
        features: From one field to its features.

    Raises:
        ValueError: If there are too few inputs, naming how many are needed, or one is not finite, naming it.
    """
    known = _features(features, training)
    needed = known.shape[1] + 2
    if len(known) < needed:
        raise ValueError(
            f"Expected at least {needed} training inputs for the covariance of {known.shape[1]} features, got "
            f"{len(known)}. Use more inputs, or fewer features: SpectralFeatures(shells=2)."
        )
    covariance = np.atleast_2d(np.cov(known, rowvar=False))
    covariance = covariance + _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    found = InputFlag(features, known.mean(axis=0), np.linalg.inv(covariance), np.inf)
    distances = np.sort(found.distances(calibration))
    return dataclasses.replace(found, threshold=float(distances[rank(len(distances), level) - 1]))


def _features(features: Features, inputs: Fields) -> np.ndarray:
    values = checked(inputs, "inputs").astype(np.asarray(inputs).dtype)
    return np.asarray(jax.jit(jax.vmap(features))(values), np.float64)
