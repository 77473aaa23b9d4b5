"""Equations as tokens: the encoder that reads them and the decoder that writes them."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from sciml.nn import Frozen, LayerCache, Transformer, sinusoidal_table


@final
class TokenEmbedding(eqx.Module):
    """A learned row for each token, plus a fixed one for its position.

    Tokens with features, such as those of numbers, have a learned map of these in addition: similar tokens then have
    similar rows before any of them has been seen often.

    The published table starts with a zero row for the padding, which masks keep from being seen; this one does not.

    Attributes:
        table: The rows, normal of deviation 1 / sqrt(width) at first; 0 for tokens with features.
        positions: The fixed rows, or None where attention knows the positions.
        features: Of the tokens, rows of 0 for those that have none; or None.
        weights: The map of the features, or None.
    """

    table: Float[Array, "vocabulary width"]
    positions: Frozen | None
    features: Frozen | None
    weights: Float[Array, "features width"] | None

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        positions: int,
        features: Float[np.ndarray, "vocabulary features"] | None = None,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the table.

        Args:
            vocabulary: Number of tokens.
            width: Length of the rows.
            positions: Number of sinusoidal rows for positions, 0 for none.
            features: Of the tokens, such as `mantissa_features`.
            key: Of the random initial values.

        Raises:
            ValueError: If there is not one row of features for each token.
        """
        self.table = jax.random.normal(key, (vocabulary, width)) / width**0.5
        self.positions = Frozen(jnp.asarray(sinusoidal_table(positions, width))) if positions else None
        self.features = self.weights = None
        if features is not None:
            if features.shape[0] != vocabulary:
                raise ValueError(f"Expected features of {vocabulary} tokens, got those of {features.shape[0]}.")
            self.features = Frozen(jnp.asarray(features))
            squares = np.sum(features**2, axis=1)
            self.table = jnp.where(squares[:, None] > 0, 0, self.table)
            drawn = jax.random.normal(jax.random.fold_in(key, 1), (features.shape[1], width))
            self.weights = drawn / (width * squares.max()) ** 0.5

    def rows(self) -> Float[Array, "vocabulary width"]:
        """The row of each token, without a position."""
        if self.features is None:
            return self.table
        return self.table + self.features.value.astype(self.table.dtype) @ self.weights

    def __call__(self, tokens: Int[Array, " n"], start: int | Int[Array, ""] = 0) -> Float[Array, "n width"]:
        """The rows of tokens at the positions `start`, `start + 1`, ..."""
        # Its transpose adds up the gradients of equal tokens, thousands in a batch: too many for 16 bits.
        wide = self.rows().astype(jnp.promote_types(self.table.dtype, jnp.float32))
        rows = wide[tokens].astype(self.table.dtype)
        if self.positions is None:
            return rows
        self.check(tokens.shape[0])
        return rows + self.positions.value[start + jnp.arange(tokens.shape[0])].astype(rows.dtype)

    def check(self, length: int) -> None:
        """That there is a position for each of `length` tokens.

        Raises:
            ValueError: If there is not.
        """
        if self.positions is not None and length > self.positions.value.shape[0]:
            raise ValueError(
                f"Expected up to {self.positions.value.shape[0]} tokens, got {length}. Make the model with more "
                "positions, or shorten the equations."
            )


@final
class SymbolEncoder(eqx.Module):
    """Reads an equation.

    Attributes:
        embedding: Of the tokens.
        transformer: Lets them see each other.
    """

    embedding: TokenEmbedding
    transformer: Transformer

    def __call__(self, tokens: Int[Array, " m"], mask: Bool[Array, " m"]) -> Float[Array, "m width"]:
        """The rows of an equation whose tokens stand where the mask is true."""
        return self.transformer(self.embedding(tokens), mask[None])


@final
class Cache(eqx.Module):
    """What the symbol decoder keeps while it writes an equation.

    Attributes:
        layers: Keys and values of the tokens so far, and of the memory.
        mask: Which rows of the memory exist.
        index: Number of tokens so far.
    """

    layers: tuple[LayerCache, ...]
    mask: Bool[Array, " m"]
    index: Int[Array, ""]


@final
class SymbolDecoder(eqx.Module):
    """Writes an equation: the probabilities of each token given those before it and a memory.

    The map to logits is the transposed rows of the tokens, with a bias.

    Attributes:
        embedding: Of the tokens.
        transformer: Causal, and attends to the memory.
        bias: Of the logits.
        sees: `memory -> (rows, mask)`: which rows of a `Memory` it attends to.
    """

    embedding: TokenEmbedding
    transformer: Transformer
    bias: Float[Array, " vocabulary"]
    sees: Callable[..., tuple[Array, Array]] = eqx.field(static=True)

    def hidden(
        self, tokens: Int[Array, " k"], rows: Float[Array, "m width"], mask: Bool[Array, " m"]
    ) -> Float[Array, "k width"]:
        """The rows from which the logits are made."""
        causal = jnp.tril(jnp.ones((tokens.shape[0],) * 2, bool))
        return self.transformer(self.embedding(tokens), causal, rows, mask[None])

    def logits(self, hidden: Float[Array, "k width"]) -> Float[Array, "k vocabulary"]:
        """Logits of the next tokens, in float32 or wider."""
        logits = hidden @ self.embedding.rows().T
        return (logits + self.bias[None]).astype(jnp.promote_types(logits.dtype, jnp.float32))

    def start(self, rows: Float[Array, "m width"], mask: Bool[Array, " m"], length: int) -> Cache:
        """The cache in front of the first of up to `length` tokens.

        Raises:
            ValueError: If there are fewer positions than that.
        """
        self.embedding.check(length)
        return Cache(self.transformer.start(rows, length), mask, jnp.zeros((), jnp.int32))

    def step(self, cache: Cache, token: Int[Array, ""]) -> tuple[Float[Array, " vocabulary"], Cache]:
        """Logits of the token behind `token`, and the cache with it."""
        row = self.embedding(token[None], cache.index)
        row, layers = self.transformer.step(row, cache.layers, cache.index, cache.mask[None])
        return self.logits(row)[0], Cache(layers, cache.mask, cache.index + 1)
