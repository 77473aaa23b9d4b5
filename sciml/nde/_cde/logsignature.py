"""Signatures and log-signatures of piecewise linear paths.

The signature of a path x is the sequence of its iterated integrals, one tensor for each level k,

    S^{i1 ... ik} = integral over s1 < ... < sk of dx^{i1}(s1) ... dx^{ik}(sk).

Signatures are multiplied as non-commutative polynomials. The signature of two paths in sequence is the product of their
signatures (Chen), and the signature of a straight line with increment v is exp(v). The logarithm of a signature lies in
the free Lie algebra, which has a basis of brackets [l] of Lyndon words l: the bracket of a letter is the letter, and
[l] = [u][v] - [v][u], where v is the longest proper suffix of l = u v that is a Lyndon word. Source: Reutenauer, Free
Lie Algebras (1993), chapters 4 and 5.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Word = tuple[int, ...]


def signature(xs: Float[Array, "times channels"], depth: int) -> tuple[Float[Array, "..."], ...]:
    """The iterated integrals of the piecewise linear path through `xs`, of depths 1 to `depth`.

    Returns:
        Tensors of shapes (channels,), (channels, channels), ...

    Raises:
        ValueError: If the depth is not positive.
    """
    _check_depth(depth)
    channels = xs.shape[1]
    start = tuple(jnp.zeros((channels,) * k, xs.dtype) for k in range(1, depth + 1))
    return jax.lax.scan(lambda levels, v: (_times_exp(levels, v), None), start, xs[1:] - xs[:-1])[0]


def logsignature(xs: Float[Array, "times channels"], depth: int) -> Float[Array, " size"]:
    """Coefficients of the log-signature in the basis of brackets of `lyndon_words(channels, depth)`.

    Raises:
        ValueError: If the depth is not positive.
    """
    channels = xs.shape[1]
    levels = _log(signature(xs, depth))
    parts = []
    for k, level in enumerate(levels, start=1):
        words, coordinates = _projection(channels, k)
        flat = level.reshape(-1)
        parts.append(jnp.asarray(coordinates, xs.dtype) @ flat[jnp.asarray(words)])
    return jnp.concatenate(parts)


def logsignature_size(channels: int, depth: int) -> int:
    r"""Number of Lyndon words of lengths 1 to `depth`: :math:`\sum_k \frac1k \sum_{d | k} \mu(d) \, c^{k/d}` (Witt).

    Raises:
        ValueError: If the depth is not positive.
    """
    _check_depth(depth)
    return len(lyndon_words(channels, depth))


@functools.cache
def lyndon_words(channels: int, depth: int) -> tuple[Word, ...]:
    """The words smaller than all of their proper suffixes, by length and then in lexicographic order (Duval 1988)."""
    words, word = [], [-1]
    while word:
        word[-1] += 1
        words.append(tuple(word))
        period = len(word)
        while len(word) < depth:
            word.append(word[len(word) - period])
        while word and word[-1] == channels - 1:
            word.pop()
    return tuple(sorted(words, key=lambda word: (len(word), word)))


def factors(word: Word) -> tuple[Word, Word]:
    """The Lyndon words u and v with [word] = [u][v] - [v][u], for a Lyndon word of two or more letters."""
    suffixes = (word[i:] for i in range(1, len(word)))
    v = next(s for s in suffixes if all(s < s[j:] for j in range(1, len(s))))
    return word[: len(word) - len(v)], v


def window_logsignatures(rows: Float[Array, "times channels"], depth: int, window: int) -> Float[Array, "windows size"]:
    """Log-signatures over successive groups of `window` increments; the last group may be shorter.

    Raises:
        ValueError: If depth or window are not positive.
    """
    if window < 1:
        raise ValueError(f"Expected windows of at least one increment, got window={window}.")
    increments = rows.shape[0] - 1
    count = -(-increments // window)
    # Padding by the last row is safe: a constant piece does not change a signature.
    rows = jnp.concatenate([rows, jnp.repeat(rows[-1:], count * window - increments, axis=0)])
    places = np.arange(count)[:, None] * window + np.arange(window + 1)[None]
    return jax.vmap(functools.partial(logsignature, depth=depth))(rows[places])


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ValueError(f"Expected a depth of at least 1, got depth={depth}.")


def _times_exp(levels: tuple[Array, ...], v: Array) -> tuple[Array, ...]:
    """(1 + levels) exp(v) - 1, each level by Horner's rule in v."""
    new = []
    for k, level in enumerate(levels, start=1):
        sum_ = v / k
        for i in range(1, k):
            sum_ = (levels[i - 1] + sum_)[..., None] * _last(v / (k - i), i)
        new.append(level + sum_)
    return tuple(new)


def _last(v: Array, axes: int) -> Array:
    return v.reshape((1,) * axes + v.shape)


def _product(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    """Product of two polynomials without constant terms, given as tensors of levels 1, 2, ..."""
    new = [jnp.zeros_like(a[0])]
    for k in range(2, len(a) + 1):
        new.append(sum((jnp.tensordot(a[i], b[k - i - 2], axes=0) for i in range(k - 1)), jnp.zeros_like(a[k - 1])))
    return tuple(new)


def _log(levels: tuple[Array, ...]) -> tuple[Array, ...]:
    """log(1 + x) = x - x^2 / 2 + x^3 / 3 - ... by Horner's rule; powers above the depth vanish."""
    depth = len(levels)
    # log(1 + x) = x (1 - x (1/2 - x (1/3 - ...)))
    inner = tuple(jnp.zeros_like(level) for level in levels)
    for k in range(depth, 1, -1):
        inner = jax.tree.map(lambda x, y, k=k: x / k - y, levels, _product(levels, inner))
    return jax.tree.map(lambda x, y: x - y, levels, _product(levels, inner))


@functools.cache
def _projection(channels: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the Lyndon words of one length in a flattened tensor, and the matrix from these entries to brackets.

    The coefficient of word w in bracket [l] is 1 for w = l and 0 for smaller w. The matrix is therefore the inverse of
    a unitriangular integer matrix.
    """
    words = [word for word in lyndon_words(channels, length) if len(word) == length]
    places = np.array([_place(word, channels) for word in words], dtype=np.int64)
    index = {word: i for i, word in enumerate(words)}
    values = np.zeros((len(words), len(words)))
    for column, word in enumerate(words):
        for term, coefficient in _expand(word).items():
            if term in index:
                values[index[term], column] = coefficient
    return places, np.rint(np.linalg.inv(values))


def _place(word: Word, channels: int) -> int:
    return sum(letter * channels**power for power, letter in enumerate(reversed(word)))


@functools.cache
def _expand(word: Word) -> dict[Word, int]:
    """The bracket of a Lyndon word as a non-commutative polynomial: coefficients by word."""
    if len(word) == 1:
        return {word: 1}
    polynomial: dict[Word, int] = {}
    left, right = (_expand(part) for part in factors(word))
    for u, a in left.items():
        for v, b in right.items():
            polynomial[u + v] = polynomial.get(u + v, 0) + a * b
            polynomial[v + u] = polynomial.get(v + u, 0) - a * b
    return polynomial
