"""Mantissas of numbers: features that make similar ones similar, and the choice among likely ones when decoding."""

import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.symbolic import Vocabulary

_NEAR = math.log(1.5)


def mantissa_features(vocabulary: Vocabulary, octaves: int = 7) -> Float[np.ndarray, "vocabulary features"]:
    """Fourier features of the mantissa tokens: sin and cos of 2 pi 2^k log10(m), k = 0, ..., octaves - 1, for `N<m>`.

    The features are 0 for the mantissa 0 and for all other tokens. They change little from 123 to 124, and from 999 to
    100, which follows it with the next exponent. What the model learns about one number thus transfers to its
    neighbours. Use them as `ProseVariant.features`.

    Args:
        vocabulary: The vocabulary, whose codec defines the mantissas.
        octaves: Number of frequencies. With 7 the shortest period is a relative difference of 3.7 %; the learned token
            embeddings resolve smaller differences.
    """
    digits = vocabulary.codec.digits
    mantissas = np.arange(1, 10**digits)
    angles = 2 * np.pi * np.log10(mantissas)[:, None] * 2.0 ** np.arange(octaves)
    features = np.zeros((len(vocabulary), 2 * octaves), np.float32)
    features[list(_mantissas(vocabulary))[1:]] = np.concatenate((np.sin(angles), np.cos(angles)), axis=1)
    return features


def _mantissas(vocabulary: Vocabulary) -> tuple[int, ...]:
    """The ids of the mantissas in increasing order, 0 first."""
    digits = vocabulary.codec.digits
    return tuple(vocabulary.word_to_id[f"N{m:0{digits}d}"] for m in range(10**digits))


def likeliest_numbers(logits: Float[Array, " words"]) -> Float[Array, " words"]:
    """The unchanged logits: decoding takes the likeliest mantissa."""
    return logits


@final
class MeanNumbers(eqx.Module):
    """Replaces the distribution over mantissas by its local mean: one mantissa gets the probability of all of them.

    A model that knows a constant to some percent spreads its probability over about a hundred mantissas. The likeliest
    of them is then nearly random, and hypotheses that differ only in such digits compete with each other. The mean has
    the smallest expected squared error, and the probability of an equation becomes that of its structure.

    The mean is over mantissas within a factor of 1.5 of the likeliest one, across the wrap at the leading digit: 980
    and 102 count as 0.98 and 1.02. Mantissas that are farther away do not change the mean.

    Attributes:
        words: The ids of the mantissas in increasing order, 0 first.
    """

    words: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, vocabulary: Vocabulary) -> None:
        """For the mantissas of a vocabulary."""
        self.words = _mantissas(vocabulary)

    def __call__(self, logits: Float[Array, " words"]) -> Float[Array, " words"]:
        """The logits, with a finite value for only one mantissa. If the likeliest mantissa is 0, they are unchanged."""
        words = np.array(self.words)
        own = logits[words]
        count = len(words)
        top = jnp.argmax(own)
        # Each mantissa times 1/10, 1 or 10, whichever is nearest to the likeliest one.
        values = jnp.maximum(jnp.arange(count), 1).astype(own.dtype)
        apart = jnp.log(values / values[top])
        shift = -jnp.round(apart / math.log(10))
        near = (jnp.abs(apart + shift * math.log(10)) < _NEAR) & (jnp.arange(count) > 0)
        weights = jax.nn.softmax(jnp.where(near, own, -jnp.inf))
        mean = jnp.sum(weights * values * 10.0**shift)
        mean = jnp.where(mean >= count - 0.5, mean / 10, jnp.where(mean < count / 10 - 0.05, mean * 10, mean))
        chosen = jnp.clip(jnp.round(mean).astype(int), 1, count - 1)
        merged = jnp.where(jnp.arange(count) == chosen, jax.nn.logsumexp(own), -jnp.inf)
        return logits.at[words].set(jnp.where(top == 0, own, merged))
