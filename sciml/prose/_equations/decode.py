"""Equations from a model, token by token."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from sciml.prose._model.model import Memory, Prose


def greedy(
    model: Prose, memory: Memory, *, begin: int | Int[Array, ""], end: int | Int[Array, ""], length: int
) -> Int[Array, " length"]:
    """The likeliest token each time, until the one that ends equations.

    One compiled loop. Under `jax.vmap` it runs until all samples have ended.

    Args:
        model: A model that writes equations.
        memory: From `model.encode`.
        begin: The token that begins equations.
        end: The token that ends them.
        length: Largest number of tokens, `end` included.

    Returns:
        The tokens behind `begin`; `end` where the equation has ended.
    """

    def running(state: tuple) -> Array:
        _, token, _, count = state
        return (count < length) & (token != end)

    def body(state: tuple) -> tuple:
        cache, token, tokens, count = state
        logits, cache = model.step(cache, token)
        token = jnp.argmax(logits).astype(jnp.int32)
        return cache, token, tokens.at[count].set(token), count + 1

    start = model.start(memory, length), jnp.asarray(begin, jnp.int32), jnp.full(length, end, jnp.int32), jnp.int32(0)
    return jax.lax.while_loop(running, body, start)[2]
