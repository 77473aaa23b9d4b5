"""Attention between rows, and the transformer block around it."""

import functools
import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from sciml.nn._activations import gelu
from sciml.nn._dense import MLP, Dense
from sciml.nn._matmul import matmul


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _standardise(x: Array, epsilon: float) -> Array:
    return _deviations(x, epsilon)[0]


def _deviations(x: Array, epsilon: float) -> tuple[Array, Array]:
    centred = x - x.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    return centred * inverse, inverse


@_standardise.defjvp
def _standardise_jvp(epsilon: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Two means per direction instead of the chain through mean, variance and root; its transpose has the same form.
    (x,), (tangent,) = primals, tangents
    y, inverse = _deviations(x, epsilon)
    change = tangent - tangent.mean(-1, keepdims=True) - y * (y * tangent).mean(-1, keepdims=True)
    return y, inverse * change


@final
class LayerNorm(eqx.Module):
    """Layer normalisation of the last axis: scale * (x - mean) / sqrt(variance + epsilon) + shift.

    It acts on each row alone, so it pins neither the number of points nor the batch.

    Attributes:
        scale: Starts as 1.
        shift: Starts as 0.
        epsilon: Added to the variance.
    """

    scale: Float[Array, "*groups size"]
    shift: Float[Array, "*groups size"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, *shape: int, epsilon: float = 1e-5) -> None:
        """For rows of the given length, or for (groups, length) with a scale and a shift of their own in each group."""
        self.scale = jnp.ones(shape)
        self.shift = jnp.zeros(shape)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The normalised rows."""
        y = _standardise(x, self.epsilon)
        return y * jnp.broadcast_to(self.scale, y.shape) + jnp.broadcast_to(self.shift, y.shape)


def attention(
    query: Float[Array, "*batch n size"],
    key: Float[Array, "*batch m size"],
    value: Float[Array, "*batch m out"],
    mask: Bool[Array, "*#batch n m"] | None = None,
) -> Float[Array, "*batch n out"]:
    """softmax(Q K' / sqrt(size)) V over the last two axes.

    Args:
        query: Q.
        key: K.
        value: V.
        mask: Where it is false, a row of the query does not see a row of the value. A row of the query that sees
            nothing gets the mean of all values.
    """
    scores = matmul(query, jnp.swapaxes(key, -1, -2)) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = jnp.where(jnp.broadcast_to(mask, scores.shape), scores, jnp.finfo(scores.dtype).min)
    return matmul(jax.nn.softmax(scores, axis=-1), value)


def head_size(width: int, heads: int) -> int:
    """`width // heads`.

    Raises:
        ValueError: If `heads` does not divide `width`.
    """
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} heads do not divide the width {width}. Make the width a multiple of the heads.")
    return width // heads


def split_heads(x: Float[Array, "*batch n width"], heads: int) -> Float[Array, "*batch heads n size"]:
    """Each row cut into `heads` pieces of equal length, the heads as one more batch axis."""
    return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -2, -3)


def merge_heads(x: Float[Array, "*batch heads n size"]) -> Float[Array, "*batch n width"]:
    """The inverse of `split_heads`."""
    x = jnp.swapaxes(x, -2, -3)
    return x.reshape(*x.shape[:-2], -1)


@final
class MultiHeadAttention(eqx.Module):
    """Multi-head attention with linear maps in front and behind (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

    The key has no bias: it would add the same number to all scores of a row, which the softmax cancels.

    Attributes:
        query: Map of the rows that ask.
        key: Map of the rows that are compared.
        value: Map of the rows that are averaged.
        out: Map of the joined heads.
        heads: Number of heads.
    """

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, *, heads: int, init: Callable[..., Array] | None = None, key: PRNGKeyArray) -> None:
        """Draws the weights.

        Args:
            width: Length of the rows.
            heads: Number of heads.
            init: As in `Dense`.
            key: Of the random initial values.

        Raises:
            ValueError: If `heads` does not divide `width`.
        """
        head_size(width, heads)
        keys = jax.random.split(key, 4)
        self.query, self.value, self.out = (Dense(width, width, init=init, key=key) for key in keys[:3])
        self.key = Dense(width, width, bias=False, init=init, key=keys[3])
        self.heads = heads

    def __call__(
        self,
        x: Float[Array, "*batch n width"],
        context: Float[Array, "*batch m width"] | None = None,
        mask: Bool[Array, "*#batch n m"] | None = None,
    ) -> Float[Array, "*batch n width"]:
        """Attention of `x` to itself, or to `context`; `mask` as in `attention`, the same for all heads."""
        context = x if context is None else context
        rows = self.query(x), self.key(context), self.value(context)
        query, key, value = (split_heads(one, self.heads) for one in rows)
        mask = None if mask is None else jnp.expand_dims(mask, -3)
        return self.out(merge_heads(attention(query, key, value, mask)))


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
            width: Length of the rows.
            hidden: Length of the hidden layer.
            activation: Nonlinearity of the network.
            init: As in `Dense`.
            key: Of the random initial values.
        """
        self.attention = attention
        self.network = MLP((width, hidden, width), activation=activation, init=init, key=key)
        self.norms = (LayerNorm(width), LayerNorm(width))

    def __call__(self, x: Float[Array, "*batch n width"], *operands: Any) -> Float[Array, "*batch n width"]:
        """The block applied to `x`; `operands` go to the attention, behind the normalised `x`."""
        before, between = self.norms
        x = x + self.attention(before(x), *operands)
        return x + self.network(between(x))
