"""The encoder that reads the tokens of an equation and the decoder that writes them."""

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
    """Token embedding: a learned vector for each token plus a fixed sinusoidal vector for its position.

    Tokens may have features, such as those of `mantissa_features` for numbers. A learned linear map of the features is
    then added, so that similar tokens have similar embeddings even if they are rare in the training data.

    The published table has a zero embedding for the padding token. This table has not; masks hide padding anyway.

    Attributes:
        table: Learned embeddings. The initial values are normal with standard deviation 1 / sqrt(width), and 0 for
            tokens with features.
        positions: Sinusoidal position embeddings, or None if the attention encodes positions, as rotary embeddings do.
        features: Features of each token, 0 for tokens without features; or None.
        weights: Weights of the linear map of the features, or None.
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
            vocabulary: Number of tokens of the vocabulary.
            width: Size of the embeddings.
            positions: Largest sequence length of the sinusoidal position embeddings; 0 for none.
            features: Features of each token, such as `mantissa_features`, or None.
            key: PRNG key of the initial weights.

        Raises:
            ValueError: If the features have another number of tokens than the vocabulary.
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
        """The embedding of each token of the vocabulary, without position embedding."""
        if self.features is None:
            return self.table
        return self.table + self.features.value.astype(self.table.dtype) @ self.weights

    def __call__(self, tokens: Int[Array, " n"], start: int | Int[Array, ""] = 0) -> Float[Array, "n width"]:
        """The embeddings of tokens at the positions `start`, `start + 1`, ...

        Raises:
            ValueError: If there are more tokens than positions.
        """
        # The gradient of this lookup sums over equal tokens, thousands in a batch: too many for 16 bits.
        wide = self.rows().astype(jnp.promote_types(self.table.dtype, jnp.float32))
        rows = wide[tokens].astype(self.table.dtype)
        if self.positions is None:
            return rows
        self.check(tokens.shape[0])
        return rows + self.positions.value[start + jnp.arange(tokens.shape[0])].astype(rows.dtype)

    def check(self, length: int) -> None:
        """Checks that there is a position embedding for each of `length` tokens.

        Raises:
            ValueError: If there are fewer position embeddings.
        """
        if self.positions is not None and length > self.positions.value.shape[0]:
            raise ValueError(
                f"Expected up to {self.positions.value.shape[0]} tokens, got {length}. Make the model with more "
                "positions, or shorten the equations."
            )


@final
class SymbolEncoder(eqx.Module):
    """Encodes the tokens of an equation: token embedding and a transformer with self attention.

    Attributes:
        embedding: Embeds the tokens.
        transformer: Self attention over the tokens.
    """

    embedding: TokenEmbedding
    transformer: Transformer

    def __call__(self, tokens: Int[Array, " m"], mask: Bool[Array, " m"]) -> Float[Array, "m width"]:
        """One embedding per token; the mask is false for padding."""
        return self.transformer(self.embedding(tokens), mask[None])


@final
class Cache(eqx.Module):
    """Key-value cache of the symbol decoder.

    Attributes:
        layers: For each layer the keys and values of the tokens so far and of the memory.
        mask: False for padding in the memory.
        index: Number of tokens so far.
    """

    layers: tuple[LayerCache, ...]
    mask: Bool[Array, " m"]
    index: Int[Array, ""]


@final
class SymbolDecoder(eqx.Module):
    """Autoregressive decoder: logits of the next token, given the previous tokens and the encoded sample.

    The output layer shares its weights with the token embedding (weight tying) and has a bias.

    Attributes:
        embedding: Embeds the tokens.
        transformer: Causal self attention, and cross attention to the memory.
        bias: Bias of the logits.
        sees: `memory -> (embeddings, mask)`, the part of the memory that the tokens attend to.
    """

    embedding: TokenEmbedding
    transformer: Transformer
    bias: Float[Array, " vocabulary"]
    sees: Callable[..., tuple[Array, Array]] = eqx.field(static=True)

    def hidden(
        self, tokens: Int[Array, " k"], rows: Float[Array, "m width"], mask: Bool[Array, " m"]
    ) -> Float[Array, "k width"]:
        """The decoded embeddings of the tokens, the input of `logits`; `rows` are the embeddings of the memory."""
        causal = jnp.tril(jnp.ones((tokens.shape[0],) * 2, bool))
        return self.transformer(self.embedding(tokens), causal, rows, mask[None])

    def logits(self, hidden: Float[Array, "k width"]) -> Float[Array, "k vocabulary"]:
        """Logits of the next tokens, in float32 or wider."""
        logits = hidden @ self.embedding.rows().T
        return (logits + self.bias[None]).astype(jnp.promote_types(logits.dtype, jnp.float32))

    def start(self, rows: Float[Array, "m width"], mask: Bool[Array, " m"], length: int) -> Cache:
        """The empty cache for up to `length` tokens, which holds the keys and values of the memory `rows`.

        Raises:
            ValueError: If there are fewer position embeddings than `length`.
        """
        self.embedding.check(length)
        return Cache(self.transformer.start(rows, length), mask, jnp.zeros((), jnp.int32))

    def step(self, cache: Cache, token: Int[Array, ""]) -> tuple[Float[Array, " vocabulary"], Cache]:
        """Logits of the next token after `token`, and the cache extended by `token`."""
        row = self.embedding(token[None], cache.index)
        row, layers = self.transformer.step(row, cache.layers, cache.index, cache.mask[None])
        return self.logits(row)[0], Cache(layers, cache.mask, cache.index + 1)
