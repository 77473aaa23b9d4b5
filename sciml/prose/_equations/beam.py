"""The likeliest equations, by beam search."""

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
    """Equations that a model may have meant, the best one first.

    One that did not end within the length is among them as it is; under a `Grammar` all end.

    Attributes:
        tokens: The tokens behind the one that begins; the one that ends fills up the rest.
        scores: log p / length^exponent; minus infinity where there are fewer equations than asked for.
        lengths: Numbers of tokens, the one that ends included; 0 where there is no equation.
    """

    tokens: Int[Array, "width length"]
    scores: Float[Array, " width"]
    lengths: Int[Array, " width"]


class _Search(NamedTuple):
    """Slots of equations, all of which have as many tokens unless they have ended.

    Attributes:
        written: Keys and values of the tokens, the part of the cache that slots do not share.
        progress: States of the constraint.
        tokens: What was written.
        last: The last token.
        sums: log p, minus infinity in an empty slot.
        lengths: Numbers of tokens.
        ended: Whether the last token is the one that ends.
        position: Number of steps.
    """

    written: PyTree
    progress: PyTree
    tokens: Int[Array, "width length"]
    last: Int[Array, " width"]
    sums: Float[Array, " width"]
    lengths: Int[Array, " width"]
    ended: Bool[Array, " width"]
    position: Int[Array, ""]


def beam(
    model: Prose,
    memory: Memory,
    constraint: AbstractConstraint,
    *,
    width: int,
    length: int,
    exponent: float = 1.0,
    numbers: Callable[[Float[Array, " words"]], Float[Array, " words"]] = likeliest_numbers,
) -> Hypotheses:
    """Beam search: the likeliest continuations of the likeliest beginnings.

    Each step keeps the `width` likeliest of all sequences with a token more, by the sum of log p. One that has ended
    keeps its slot, and the others compete for the rest (Sutskever, Vinyals, Le 2014, arXiv:1409.3215, section 3.2), so
    that width 1 is `greedy`, and a width that holds all sequences finds the best one. Only at the end are lengths
    divided out. The probabilities are those of the model: the constraint leaves out, and does not renormalise, so that
    sequences are compared by their probability given that the constraint holds.

    One compiled loop; under `jax.vmap` it runs until all samples have ended. The keys and values of the memory are
    those of the sample, shared by all slots.

    Args:
        model: A model that writes equations.
        memory: From `model.encode`.
        constraint: `Grammar` or `Unconstrained`.
        width: Number of slots.
        length: Largest number of tokens, the one that ends included.
        exponent: Of the length in the score: 0 prefers short equations, 1 is the mean over tokens.
        numbers: What becomes of the logits of a step: `likeliest_numbers` or `MeanNumbers(vocabulary)`.

    Raises:
        ValueError: If there is no slot, or if the constraint lets nothing be written with as many tokens.
    """
    if width < 1:
        raise ValueError(f"Expected a width of at least 1, got {width}.")
    constraint.check(length)
    own, shared, first = _started(model.start(memory, length), constraint, width, length)

    def step(written: PyTree, token: Array, position: Array) -> tuple[Array, PyTree]:
        here = eqx.tree_at(lambda cache: cache.index, shared, position)
        logits, cache = model.step(eqx.combine(written, here), token)
        return logits, eqx.filter(cache, own)

    def running(search: _Search) -> Array:
        # Not batched under vmap, so that neither is the position: the rows of all samples are written as one slice.
        alive = eqxi.unvmap_any(~search.ended & (search.sums > -jnp.inf))
        return alive & (search.position < length)

    def body(search: _Search) -> _Search:
        logits, written = jax.vmap(step, in_axes=(0, 0, None))(search.written, search.last, search.position)
        logits = jax.vmap(numbers)(logits)
        remaining = jnp.full(width, length - search.position)
        allowed = jax.vmap(constraint.mask)(search.progress, remaining)
        return _advanced(search._replace(written=written), logits, allowed, constraint)

    last = jax.lax.while_loop(running, body, first)
    scores = last.sums / jnp.maximum(last.lengths, 1).astype(last.sums.dtype) ** exponent
    scores, order = jax.lax.top_k(scores, width)
    found = scores > -jnp.inf
    tokens = jnp.where(found[:, None], last.tokens[order], constraint.end)
    return Hypotheses(tokens, scores, jnp.where(found, last.lengths[order], 0))


def _started(cache: Cache, constraint: AbstractConstraint, width: int, length: int) -> tuple[PyTree, Cache, _Search]:
    """Which leaves of the cache slots do not share, the others, and slots of which only the first is not empty."""
    rows = lambda cache: [array for layer, _ in cache.layers for array in layer]
    own = eqx.tree_at(rows, jax.tree.map(lambda _: False, cache), replace_fn=lambda _: True)
    written, shared = eqx.partition(cache, own)
    copies = lambda array: jnp.broadcast_to(array[None], (width, *array.shape))
    dtype = jnp.promote_types(jax.tree.leaves(written)[0].dtype, jnp.float32)  # of the logits
    first = _Search(
        written=jax.tree.map(copies, written),
        progress=jax.tree.map(copies, constraint.start()),
        tokens=jnp.full((width, length), constraint.end, jnp.int32),
        last=jnp.full(width, constraint.begin, jnp.int32),
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
    """The slots with one token more."""
    width, words = logits.shape
    best = min(width, words)
    # By logits within a slot: rounded sums may be equal where logits are not.
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
    token = jnp.where(extended, tokens.reshape(-1)[option].astype(jnp.int32), constraint.end)
    return _Search(
        written=moved(search.written),
        progress=jax.vmap(constraint.next)(moved(search.progress), token),
        tokens=jax.lax.dynamic_update_slice_in_dim(moved(search.tokens), token[:, None], search.position, axis=1),
        last=token,
        sums=sums,
        lengths=moved(search.lengths) + extended,
        ended=(token == constraint.end) & (sums > -jnp.inf),
        position=search.position + 1,
    )
