"""What chains are worth: effective sample size and potential scale reduction."""

import numpy as np
from jaxtyping import Array, Float


def _checked(samples: Float[Array | np.ndarray, "chains draws size"]) -> Float[np.ndarray, "parts half size"]:
    """The chains, each split in two."""
    values = np.asarray(samples, np.float64)
    if values.shape[1] < 4:
        raise ValueError(f"Expected at least 4 draws of each chain, got {values.shape[1]}. Sample longer.")
    half = values.shape[1] // 2
    return np.concatenate((values[:, :half], values[:, -half:]))


def _variances(values: Float[np.ndarray, "chains draws size"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean variance within the chains, and the pooled estimate that contains the variance between them."""
    draws = values.shape[1]
    within = values.var(1, ddof=1).mean(0)
    return within, within * (draws - 1) / draws + values.mean(1).var(0, ddof=1)


def rhat(samples: Float[Array | np.ndarray, "chains draws size"]) -> Float[np.ndarray, " size"]:
    """Potential scale reduction of each coefficient, with every chain split in two; near 1 if the chains agree.

    Gelman et al., Bayesian Data Analysis (2013), equation 11.4, without the ranks of Vehtari et al. (2021).

    Raises:
        ValueError: If a chain has fewer than 4 draws.
    """
    within, pooled = _variances(_checked(samples))
    return np.sqrt(pooled / within)


def effective_sample_size(samples: Float[Array | np.ndarray, "chains draws size"]) -> Float[np.ndarray, " size"]:
    """Number of independent draws whose mean has the variance of the mean of the chains, for each coefficient.

    The autocorrelations of all chains, each split in two, are combined and summed over the initial positive and falling
    pairs (Geyer, 1992). Vehtari, Gelman, Simpson, Carpenter, Buerkner, Rank-normalization (2021), without ranks.

    Raises:
        ValueError: If a chain has fewer than 4 draws.
    """
    values = _checked(samples)
    chains, draws, _ = values.shape
    within, pooled = _variances(values)
    centred = values - values.mean(1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * draws, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :draws].mean(0) / draws
    correlation = 1 - (within - covariance * draws / (draws - 1)) / pooled
    correlation[0] = 1
    pairs = correlation[: draws // 2 * 2].reshape(draws // 2, 2, -1).sum(1)
    positive = np.cumprod(pairs > 0, axis=0)
    falling = np.minimum.accumulate(pairs, axis=0) * positive
    time = np.maximum(2 * falling.sum(0) - 1, 1 / np.log10(chains * draws))
    return chains * draws / time
