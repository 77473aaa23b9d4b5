"""Greedy decoding and beam search for the likeliest equations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from sciml.prose._equations.grammar import AbstractConstraint
from sciml.prose._equations.numbers import likeliest_numbers
from sciml.prose._model.model import Memory, Prose
from sciml.prose._model.symbols import Cache


class Hypotheses(NamedTuple):
    """The likeliest equations of a model, the best one first.

    An equation that did not end within `max_tokens` is kept unfinished. Under a `Grammar` all equations end.

    Attributes:
        tokens: The tokens after BOS, padded with EOS.
        scores: log p / length^length_penalty; minus infinity if fewer equations were found than `width`.
        lengths: Number of tokens of each equation, EOS included; 0 if fewer equations were found than `width`.
    """

    tokens: Int[Array, "width length"]
    scores: Float[Array, " width"]
    lengths: Int[Array, " width"]


class _Search(NamedTuple):
    """State of the beam search. All hypotheses that have not ended have the same length.

    Attributes:
        written: Keys and values of the tokens: the part of the cache that each hypothesis has for itself.
        progress: State of the constraint.
        tokens: The tokens so far.
        last: The last token.
        sums: log p of the tokens so far; minus infinity for an unused hypothesis.
        lengths: Number of tokens.
        ended: Whether the last token is EOS.
        position: Number of steps so far.
    """

    written: PyTree
    progress: PyTree
    tokens: Int[Array, "width length"]
    last: Int[Array, " width"]
    sums: Float[Array, " width"]
    lengths: Int[Array, " width"]
    ended: Bool[Array, " width"]
    position: Int[Array, ""]


def greedy(
    model: Prose, memory: Memory, *, bos: int | Int[Array, ""], eos: int | Int[Array, ""], max_tokens: int
) -> Int[Array, " tokens"]:
    """Greedy decoding: takes the likeliest token at each position, until EOS.

    It is one compiled loop, which under `jax.vmap` runs until the equations of all samples have ended.

    Args:
        model: A model that writes equations.
        memory: The encoded sample, from `model.encode`.
        bos: Id of the BOS token.
        eos: Id of the EOS token.
        max_tokens: Largest number of tokens, EOS included.

    Returns:
        The tokens after BOS, padded with EOS.
    """

    def running(state: tuple) -> Array:
        _, token, _, count = state
        return (count < max_tokens) & (token != eos)

    def body(state: tuple) -> tuple:
        cache, token, tokens, count = state
        logits, cache = model.step(cache, token)
        token = jnp.argmax(logits).astype(jnp.int32)
        return cache, token, tokens.at[count].set(token), count + 1

    start = (
        model.start(memory, max_tokens),
        jnp.asarray(bos, jnp.int32),
        jnp.full(max_tokens, eos, jnp.int32),
        jnp.int32(0),
    )
    return jax.lax.while_loop(running, body, start)[2]


def beam(
    model: Prose,
    memory: Memory,
    constraint: AbstractConstraint,
    *,
    width: int,
    max_tokens: int,
    length_penalty: float = 1.0,
    numbers: Callable[[Float[Array, " words"]], Float[Array, " words"]] = likeliest_numbers,
) -> Hypotheses:
    """Beam search for the likeliest equations.

    Each step extends all hypotheses by one token and keeps the `width` sequences with the largest sum of log p. A
    finished sequence stays in the beam, and the others compete for the remaining places (Sutskever, Vinyals, Le 2014,
    arXiv:1409.3215, section 3.2). Without a constraint, width 1 is `greedy`, and a width as large as the number of
    sequences finds the likeliest one. The length penalty is applied only at the end. The constraint masks tokens
    without renormalising, so that sequences are compared by the probabilities of the model.

    The search is one compiled loop, which under `jax.vmap` runs until all samples have ended. All hypotheses share the
    keys and values of the memory.

    Args:
        model: A model that writes equations.
        memory: The encoded sample, from `model.encode`.
        constraint: `Grammar` or `Unconstrained`.
        width: Number of hypotheses.
        max_tokens: Largest number of tokens, EOS included.
        length_penalty: Exponent of the length in the score. 0 ranks by log p, which favours short equations; 1 ranks by
            the mean log p per token.
        numbers: Applied to the logits of each step: `likeliest_numbers` or `MeanNumbers(vocabulary)`.

    Raises:
        ValueError: If the width is 0, or if no equation of `max_tokens` tokens satisfies the constraint.
    """
    if width < 1:
        raise ValueError(f"Expected a width of at least 1, got {width}.")
    constraint.check(max_tokens)
    own, shared, first = _started(model.start(memory, max_tokens), constraint, width, max_tokens)

    def step(written: PyTree, token: Array, position: Array) -> tuple[Array, PyTree]:
        here = eqx.tree_at(lambda cache: cache.index, shared, position)
        logits, cache = model.step(eqx.combine(written, here), token)
        return logits, eqx.filter(cache, own)

    def running(search: _Search) -> Array:
        # Under vmap this condition, and thus the position, stays unbatched: all samples write the cache in one slice.
        alive = eqxi.unvmap_any(~search.ended & (search.sums > -jnp.inf))
        return alive & (search.position < max_tokens)

    def body(search: _Search) -> _Search:
        logits, written = jax.vmap(step, in_axes=(0, 0, None))(search.written, search.last, search.position)
        logits = jax.vmap(numbers)(logits)
        remaining = jnp.full(width, max_tokens - search.position)
        allowed = jax.vmap(constraint.mask)(search.progress, remaining)
        return _advanced(search._replace(written=written), logits, allowed, constraint)

    last = jax.lax.while_loop(running, body, first)
    scores = last.sums / jnp.maximum(last.lengths, 1).astype(last.sums.dtype) ** length_penalty
    scores, order = jax.lax.top_k(scores, width)
    found = scores > -jnp.inf
    tokens = jnp.where(found[:, None], last.tokens[order], constraint.eos)
    return Hypotheses(tokens, scores, jnp.where(found, last.lengths[order], 0))


def _started(
    cache: Cache, constraint: AbstractConstraint, width: int, max_tokens: int
) -> tuple[PyTree, Cache, _Search]:
    """The beam before its first step.

    Returns:
        A mask of the leaves of the cache that each hypothesis has for itself, the leaves that all hypotheses share, and
        the search.
    """
    rows = lambda cache: [array for layer, _ in cache.layers for array in layer]
    own = eqx.tree_at(rows, jax.tree.map(lambda _: False, cache), replace_fn=lambda _: True)
    written, shared = eqx.partition(cache, own)
    copies = lambda array: jnp.broadcast_to(array[None], (width, *array.shape))
    dtype = jnp.promote_types(jax.tree.leaves(written)[0].dtype, jnp.float32)  # of the logits
    first = _Search(
        written=jax.tree.map(copies, written),
        progress=jax.tree.map(copies, constraint.start()),
        tokens=jnp.full((width, max_tokens), constraint.eos, jnp.int32),
        last=jnp.full(width, constraint.bos, jnp.int32),
        sums=jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf).astype(dtype),
        lengths=jnp.zeros(width, jnp.int32),
        ended=jnp.zeros(width, bool),
        position=jnp.zeros((), jnp.int32),
    )
    return own, shared, first


def _advanced(
    search: _Search,
    logits: Float[Array, "width words"],
    allowed: Bool[Array, "width #words"],
    constraint: AbstractConstraint,
) -> _Search:
    """The beam after one more token."""
    width, words = logits.shape
    best = min(width, words)
    # Within a hypothesis compare logits, not sums: rounding may make different sums equal.
    top, tokens = jax.lax.top_k(jnp.where(allowed, logits, -jnp.inf), best)
    gains = top - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    sums = (jnp.where(search.ended, -jnp.inf, search.sums)[:, None] + gains).reshape(-1)
    kept = jnp.where(search.ended, jnp.inf, -jnp.inf).astype(sums.dtype)
    chosen = jax.lax.top_k(jnp.concatenate((kept, sums)), width)[1]

    extended, option = chosen >= width, jnp.maximum(chosen - width, 0)
    parent = jnp.where(extended, option // best, chosen)
    moved: Any = lambda tree: jax.tree.map(lambda array: array[parent], tree) if width > 1 else tree
    stayed = jnp.where(moved(search.ended), moved(search.sums), -jnp.inf)
    sums = jnp.where(extended, sums[option], stayed)
    token = jnp.where(extended, tokens.reshape(-1)[option].astype(jnp.int32), constraint.eos)
    return _Search(
        written=moved(search.written),
        progress=jax.vmap(constraint.next)(moved(search.progress), token),
        tokens=jax.lax.dynamic_update_slice_in_dim(moved(search.tokens), token[:, None], search.position, axis=1),
        last=token,
        sums=sums,
        lengths=moved(search.lengths) + extended,
        ended=(token == constraint.eos) & (sums > -jnp.inf),
        position=search.position + 1,
    )
