"""Attention between tokens, and the transformer block around it."""

import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from sciml.nn._activations import gelu
from sciml.nn._dense import MLP, Dense
from sciml.nn._matmul import matmul
from sciml.nn._norms import LayerNorm, widened


def attention(
    query: Float[Array, "*batch n size"],
    key: Float[Array, "*batch m size"],
    value: Float[Array, "*batch m out"],
    mask: Bool[Array, "*#batch #n m"] | None = None,
) -> Float[Array, "*batch n out"]:
    """softmax(Q K' / sqrt(size)) V over the last two axes.

    Args:
        query: Q.
        key: K.
        value: V.
        mask: Query token i attends to value token j where `mask[i, j]` is true. A query token that attends to none
            gets the mean of all values.
    """
    scores = widened(matmul(query, jnp.swapaxes(key, -1, -2)) / math.sqrt(query.shape[-1]))
    if mask is not None:
        scores = jnp.where(jnp.broadcast_to(mask, scores.shape), scores, jnp.finfo(scores.dtype).min)
    return matmul(jax.nn.softmax(scores, axis=-1).astype(value.dtype), value)


def head_size(width: int, heads: int) -> int:
    """`width // heads`.

    Raises:
        ValueError: If `heads` does not divide `width`.
    """
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} heads do not divide the width {width}. Make the width a multiple of the heads.")
    return width // heads


def split_heads(x: Float[Array, "*batch n width"], heads: int) -> Float[Array, "*batch heads n size"]:
    """Cuts the features of each token into `heads` parts of equal length, on one more batch axis."""
    return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -2, -3)


def merge_heads(x: Float[Array, "*batch heads n size"]) -> Float[Array, "*batch n width"]:
    """The inverse of `split_heads`."""
    x = jnp.swapaxes(x, -2, -3)
    return x.reshape(*x.shape[:-2], -1)


@final
class MultiHeadAttention(eqx.Module):
    """Multi-head attention with linear maps of queries, keys, values and result.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.

    Attributes:
        query: Map from tokens to queries.
        key: Map from tokens to keys.
        value: Map from tokens to values.
        out: Map of the joined heads.
        heads: Number of heads.
        norms: Normalisations of query and key in each head, or None (Henry et al. 2020, arXiv:2010.04245).
        rotation: `(heads, positions) -> heads`, applied to query and key after `norms`, such as `Rotary`, or None.
    """

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    heads: int = eqx.field(static=True)
    norms: tuple[Callable[..., Array], Callable[..., Array]] | None = None
    rotation: Callable[..., Array] | None = None

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        key_bias: bool = False,
        norm: Callable[[int], Callable[..., Array]] | None = None,
        rotation: Callable[..., Array] | None = None,
        init: Callable[..., Array] | None = None,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            width: Number of features of a token.
            heads: Number of heads.
            key_bias: Whether the key has a bias. It adds the same number to all scores of a query, which the softmax
                cancels unless there is a norm or a rotation; published weights have one.
            norm: Makes the normalisation of a head from its number of features.
            rotation: As the attribute.
            init: As in `Dense`.
            key: Of the random initial values.

        Raises:
            ValueError: If `heads` does not divide `width`.
        """
        size = head_size(width, heads)
        keys = jax.random.split(key, 4)
        self.query, self.value, self.out = (Dense(width, width, init=init, key=key) for key in keys[:3])
        self.key = Dense(width, width, bias=key_bias, init=init, key=keys[3])
        self.heads = heads
        self.norms = None if norm is None else (norm(size), norm(size))
        self.rotation = rotation

    def __call__(
        self,
        x: Float[Array, "*batch n width"],
        context: Float[Array, "*batch m width"] | None = None,
        mask: Bool[Array, "*#batch #n m"] | None = None,
    ) -> Float[Array, "*batch n width"]:
        """Attention of `x` to itself, or to `context`; `mask` as in `attention`, the same for all heads."""
        return self.attend(x, self.project(x if context is None else context), mask)

    def project(
        self, context: Float[Array, "*batch m width"], start: int | Int[Array, ""] = 0
    ) -> tuple[Float[Array, "*batch heads m size"], Float[Array, "*batch heads m size"]]:
        """Keys and values of tokens at the positions `start`, `start + 1`, ..., for `attend`."""
        key, value = (split_heads(layer(context), self.heads) for layer in (self.key, self.value))
        return self._placed(key, 1, start), value

    def attend(
        self,
        x: Float[Array, "*batch n width"],
        projected: tuple[Float[Array, "*batch heads m size"], Float[Array, "*batch heads m size"]],
        mask: Bool[Array, "*#batch #n m"] | None = None,
        start: int | Int[Array, ""] = 0,
    ) -> Float[Array, "*batch n width"]:
        """Attention of `x`, at the positions `start`, `start + 1`, ..., to keys and values from `project`."""
        query = self._placed(split_heads(self.query(x), self.heads), 0, start)
        mask = None if mask is None else jnp.expand_dims(mask, -3)
        return self.out(merge_heads(attention(query, *projected, mask)))

    def _placed(self, x: Array, which: int, start: int | Array) -> Array:
        if self.norms is not None:
            x = self.norms[which](x)
        return x if self.rotation is None else self.rotation(x, start + jnp.arange(x.shape[-2]))


@final
class TransformerBlock(eqx.Module):
    """x <- x + A(norm(x)), then x <- x + M(norm(x)), M a network of one hidden layer: the pre-norm transformer block.

    Attributes:
        attention: A: any layer that keeps the shape.
        network: M.
        norms: The two normalisations.
    """

    attention: Callable[..., Array]
    network: MLP
    norms: tuple[LayerNorm, LayerNorm]

    def __init__(
        self,
        attention: Callable[..., Array],
        *,
        width: int,
        hidden: int,
        activation: Callable[[Array], Array] = gelu,
        init: Callable[..., Array] | None = None,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights of the network.

        Args:
            attention: The layer A, such as `MultiHeadAttention`.
            width: Number of features of a token.
            hidden: Size of the hidden layer.
            activation: Nonlinearity of the network.
            init: As in `Dense`.
            key: Of the random initial values.
        """
        self.attention = attention
        self.network = MLP((width, hidden, width), activation=activation, init=init, key=key)
        self.norms = (LayerNorm(width), LayerNorm(width))

    def __call__(self, x: Float[Array, "*batch n width"], *operands: Any) -> Float[Array, "*batch n width"]:
        """The block applied to `x`; `operands` are further arguments of the attention, after the normalised `x`."""
        before, between = self.norms
        x = x + self.attention(before(x), *operands)
        return x + self.network(between(x))
