"""Random words for a solve, by a few operations that the compiler joins to those of its steps.

On CPUs each draw of jax.random is a loop of its own, also if it is the only one of a solve: solves of small equations
feel it (docs/decisions.md).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

_GOLDEN = 0x9E3779B9  # 2^32 divided by the golden ratio


def seeds_of(key: Key[Array, ""], count: int) -> tuple[UInt32[Array, ""], ...]:
    """Words that depend on all bits of a key, of any generator of jax.random, and on their place."""
    state = jnp.uint32(_GOLDEN)
    for word in jax.random.key_data(key).astype(jnp.uint32):
        state = _mixed(state ^ word) + jnp.uint32(_GOLDEN)
    return tuple(_mixed(state ^ jnp.uint32(place)) for place in range(count))


def numbered_word(seed: UInt32[Array, ""], number: Int[Array, ""]) -> UInt32[Array, ""]:
    """A word of the sequence that begins with a seed.

    Source: SplitMix of 32 bits; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    return _mixed(seed + jnp.uint32(_GOLDEN) * number.astype(jnp.uint32))


def uniform(word: UInt32[Array, ""], dtype: Any) -> Float[Array, ""]:
    """A number in [0, 1), one of 2^24, which float32 holds."""
    return (word >> 8).astype(dtype) * 2.0**-24


def _mixed(word: UInt32[Array, ""]) -> UInt32[Array, ""]:
    """Each bit of the result depends on each of the word: the finaliser of MurmurHash3."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
