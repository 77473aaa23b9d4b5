"""Random words: reference values, and whether numbers of near keys and neighbouring steps look independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sciml.nde._heuristics.sampling import numbered_word, seeds_of, uniform


def finaliser(word):
    """MurmurHash3's with Python's integers."""
    word = (word ^ (word >> 16)) * 0x85EBCA6B % 2**32
    word = (word ^ (word >> 13)) * 0xC2B2AE35 % 2**32
    return word ^ (word >> 16)


def test_words_are_those_of_splitmix():
    for seed, number in ((0, 0), (0, 1), (12345, 7), (2**32 - 1, 1000)):
        found = numbered_word(jnp.uint32(seed), jnp.int32(number))
        assert int(found) == finaliser((seed + 0x9E3779B9 * number) % 2**32)


def draws(keys, steps):
    """`(keys, 2, steps)`: two seeds of each key, and numbers of so many steps."""
    number = lambda seed: jax.vmap(lambda i: uniform(numbered_word(seed, i), jnp.float32))(jnp.arange(steps))
    return np.asarray(jax.jit(jax.vmap(lambda key: jnp.stack([number(seed) for seed in seeds_of(key, 2)])))(keys))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_numbers_are_uniform_and_independent(impl):
    keys = jax.vmap(lambda i: jax.random.key(i, impl=impl))(jnp.arange(400))
    found = draws(keys, 50)
    assert (found >= 0).all()
    assert (found < 1).all()
    assert scipy.stats.kstest(found.reshape(-1), "uniform").pvalue > 1e-3
    pairs = {
        "steps": (found[..., :-1], found[..., 1:]),
        "keys": (found[:-1], found[1:]),
        "seeds": (found[:, 0], found[:, 1]),
        "first steps of keys": (found[:-1, :, 0], found[1:, :, 0]),
    }
    for name, (one, other) in pairs.items():
        table = np.histogram2d(one.reshape(-1), other.reshape(-1), bins=8, range=((0, 1), (0, 1)))[0]
        assert scipy.stats.chisquare(table.reshape(-1)).pvalue > 1e-3, name


def test_every_word_of_a_key_counts():
    data = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [2**31, 0], [0, 2**31]], np.uint32)
    seeds = [tuple(map(int, seeds_of(jax.random.wrap_key_data(one), 4))) for one in data]
    assert len({seed for some in seeds for seed in some}) == 24
