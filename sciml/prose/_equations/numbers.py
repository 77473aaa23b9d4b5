"""Which of many similar numbers is written: the likeliest one, or the mean of those that are meant."""

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
    """The sines and cosines of 2 pi 2^k log10 m of each mantissa m, k = 0 .. octaves - 1; 0 for 0 and for other tokens.

    They change little from 123 to 124, and from 999 to 100 with an exponent larger by 1: what is learned of a number
    holds for those near it. For `ProseVariant.features`.

    Args:
        vocabulary: Of the tokens, of which mantissas are known by their codec.
        octaves: Number of frequencies. With 7 the shortest wave is 3.7 % long, and tokens' own rows tell finer ones.
    """
    digits = vocabulary.codec.digits
    mantissas = np.arange(1, 10**digits)
    angles = 2 * np.pi * np.log10(mantissas)[:, None] * 2.0 ** np.arange(octaves)
    features = np.zeros((len(vocabulary), 2 * octaves), np.float32)
    features[list(_mantissas(vocabulary))[1:]] = np.concatenate((np.sin(angles), np.cos(angles)), axis=1)
    return features


def _mantissas(vocabulary: Vocabulary) -> tuple[int, ...]:
    """The tokens of the mantissas, that of the number 0 first."""
    digits = vocabulary.codec.digits
    return tuple(vocabulary.word_to_id[f"N{m:0{digits}d}"] for m in range(10**digits))


def likeliest_numbers(logits: Float[Array, " words"]) -> Float[Array, " words"]:
    """The logits as they are."""
    return logits


@final
class MeanNumbers(eqx.Module):
    """Gives the probability of all mantissas to the mean of those near the likeliest one.

    A model that knows a constant up to some percent gives each of a hundred mantissas about 1 %. The likeliest is then
    one of them at random, and equations of the same structure count as different. The mean has the least expected
    square of the error, and the probability of an equation becomes that of its structure. Mantissas within a factor
    of 1.5 of the likeliest count, with exponents one larger or smaller where the leading digit overflows, so that 980
    and 102 stand for 0.98 and 1.02; mantissas that are farther away, as of an integer, do not move the mean.

    Attributes:
        words: The tokens of the mantissas, that of the number 0 first.
    """

    words: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, vocabulary: Vocabulary) -> None:
        """For the numbers of a vocabulary."""
        self.words = _mantissas(vocabulary)

    def __call__(self, logits: Float[Array, " words"]) -> Float[Array, " words"]:
        """The logits with one finite one among those of mantissas, unless the number 0 is the likeliest of them."""
        words = np.array(self.words)
        own = logits[words]
        count = len(words)
        top = jnp.argmax(own)
        # each as the number nearest to the likeliest, by a factor of 1/10, 1 or 10
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
