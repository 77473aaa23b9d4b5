"""Signatures against their algebra: Chen, shuffles, exponentials, Lévy areas, Baker-Campbell-Hausdorff, Witt."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nde import logsignature, lyndon_words, signature
from sciml.nde._cde.logsignature import logsignature_size

CHANNELS, DEPTH = 3, 4


def path(seed, rows=6, channels=CHANNELS):
    return np.random.default_rng(seed).normal(size=(rows, channels))


@functools.cache
def compiled(function, depth):
    return jax.jit(functools.partial(function, depth=depth))


def signature_of(xs, depth=DEPTH):
    with jax.enable_x64(True):
        return [np.ones(())] + [np.asarray(level) for level in compiled(signature, depth)(jnp.asarray(xs))]


def logsignature_of(xs, depth=DEPTH):
    with jax.enable_x64(True):
        return np.asarray(compiled(logsignature, depth)(jnp.asarray(xs)))


def product(a, b):
    return [sum(np.multiply.outer(a[i], b[k - i]) for i in range(k + 1)) for k in range(len(a))]


def agree(a, b, atol=1e-12):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


def test_a_straight_line_is_an_exponential():
    v = np.array([0.5, -1.0, 2.0])
    power, expected = np.ones(()), [np.ones(())]
    for k in range(1, DEPTH + 1):
        power = np.multiply.outer(power, v)
        expected.append(power / math.factorial(k))
    agree(signature_of(np.stack([np.ones(3), 1 + v])), expected)


def test_chen():
    xs = path(0)
    agree(signature_of(xs), product(signature_of(xs[:4]), signature_of(xs[3:])))


def test_products_of_integrals_are_sums_over_shuffles():
    _, one, two, three, _ = signature_of(path(1))
    np.testing.assert_allclose(np.multiply.outer(one, one), two + two.T, atol=1e-12)
    shuffled = three + np.einsum("jik->ijk", three) + np.einsum("jki->ijk", three)
    np.testing.assert_allclose(np.multiply.outer(one, two), shuffled, atol=1e-12)


def test_levy_areas_by_the_shoelace_formula():
    xs = path(2)
    middle, step = (xs[1:] + xs[:-1]) / 2 - xs[:1], np.diff(xs, axis=0)
    area = np.einsum("ti,tj->ij", middle, step) - np.einsum("ti,tj->ij", step, middle)
    got = logsignature_of(xs, 2)
    np.testing.assert_allclose(got[:CHANNELS], xs[-1] - xs[0], atol=1e-12)
    np.testing.assert_allclose(got[CHANNELS:], [area[i, j] / 2 for i, j in [(0, 1), (0, 2), (1, 2)]], atol=1e-12)


def test_two_segments_against_baker_campbell_hausdorff():
    x, y = 0.7, -1.3
    corner = np.array([[0.0, 0.0], [x, 0.0], [x, y]])
    # log(e^X e^Y) = X + Y + [X, Y] / 2 + [X, [X, Y]] / 12 + [[X, Y], Y] / 12 + [X, [[X, Y], Y]] / 24
    expected = [x, y, x * y / 2, x * x * y / 12, x * y * y / 12, 0, x * x * y * y / 24, 0]
    assert lyndon_words(2, 4) == ((0,), (1,), (0, 1), (0, 0, 1), (0, 1, 1), (0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 1, 1))
    np.testing.assert_allclose(logsignature_of(corner), expected, atol=1e-13)


def bracket(word):
    """The tensor of a Lyndon word's bracket, by the factorisation of smallest first part with Lyndon rest."""
    if len(word) == 1:
        return np.eye(CHANNELS)[word[0]]
    u, v = next(
        (word[:i], word[i:]) for i in range(1, len(word)) if all(word[i:] < word[j:] for j in range(i + 1, len(word)))
    )
    return np.multiply.outer(bracket(u), bracket(v)) - np.multiply.outer(bracket(v), bracket(u))


def test_the_exponential_of_the_brackets_is_the_signature():
    xs = path(3)
    logarithm = [np.zeros((CHANNELS,) * k) for k in range(DEPTH + 1)]
    for word, value in zip(lyndon_words(CHANNELS, DEPTH), logsignature_of(xs), strict=True):
        logarithm[len(word)] = logarithm[len(word)] + value * bracket(word)
    total = power = [np.ones(())] + [np.zeros((CHANNELS,) * k) for k in range(1, DEPTH + 1)]
    for k in range(1, DEPTH + 1):
        power = [level / k for level in product(power, logarithm)]
        total = [a + b for a, b in zip(total, power, strict=True)]
    agree(signature_of(xs), total)


def test_only_the_trace_of_a_path_counts_and_its_reverse_is_the_negative():
    xs = path(4)
    finer = np.insert(xs, [2, 2, 4], [xs[1] + 0.25 * (xs[2] - xs[1]), xs[1] + 0.5 * (xs[2] - xs[1]), xs[4]], axis=0)
    np.testing.assert_allclose(logsignature_of(finer + 7), logsignature_of(xs), atol=1e-11)
    np.testing.assert_allclose(logsignature_of(xs[::-1]), -logsignature_of(xs), atol=1e-12)


def witt(channels, depth):
    def moebius(n):
        primes = [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]
        return 0 if any(n % p**2 == 0 for p in primes) else (-1) ** len(primes)

    necklaces = lambda k: sum(moebius(d) * channels ** (k // d) for d in range(1, k + 1) if k % d == 0) // k
    return sum(necklaces(k) for k in range(1, depth + 1))


@pytest.mark.parametrize(("channels", "depth"), list(itertools.product((1, 2, 3, 5), (1, 2, 3, 4))))
def test_sizes_by_the_formula_of_witt(channels, depth):
    assert logsignature_size(channels, depth) == witt(channels, depth)


def test_gradients_against_differences():
    xs, direction = path(5), path(6)
    with jax.enable_x64(True):
        f = lambda xs: jnp.sum(jnp.sin(compiled(logsignature, 3)(xs)))
        _, slope = jax.jvp(f, (jnp.asarray(xs),), (jnp.asarray(direction),))
        gradient = jax.grad(f)(jnp.asarray(xs))
        step = 1e-5
        difference = (f(xs + step * direction) - f(xs - step * direction)) / (2 * step)
        slopes = np.asarray([slope, np.sum(np.asarray(gradient) * direction)])
    np.testing.assert_allclose(slopes, float(difference), rtol=1e-7)  # h^2 = 1e-10


def test_refused_depths():
    with pytest.raises(ValueError, match="depth of at least 1"):
        signature(jnp.ones((3, 2)), 0)
    with pytest.raises(ValueError, match="depth of at least 1"):
        logsignature_size(2, 0)
