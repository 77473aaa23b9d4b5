"""The model: two modalities in, two out."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from sciml.nn import Transformer
from sciml.prose._model.states import PerTrajectory, Scales, Unscaled
from sciml.prose._model.symbols import Cache, SymbolDecoder, SymbolEncoder


@final
class Memory(eqx.Module):
    """What the encoders make of one sample, for the decoders.

    Attributes:
        data: The rows of the trajectory.
        data_mask: Which of them exist.
        symbols: The rows of the equation, or None.
        symbols_mask: Which of them exist.
        scales: Of the trajectory.
    """

    data: Float[Array, "n width"]
    data_mask: Bool[Array, " n"]
    symbols: Float[Array, "m width"] | None
    symbols_mask: Bool[Array, " m"] | None
    scales: Scales


def data_embeddings(memory: Memory) -> tuple[Float[Array, "n width"], Bool[Array, " n"]]:
    """Lets a decoder see the rows of the trajectory."""
    return memory.data, memory.data_mask


def symbol_embeddings(memory: Memory) -> tuple[Float[Array, "m width"], Bool[Array, " m"]]:
    """Lets a decoder see the rows of the equation.

    Raises:
        ValueError: If there is no equation.
    """
    if memory.symbols is None or memory.symbols_mask is None:
        raise ValueError(
            "The decoder sees the rows of an equation, but the model reads none. Give it `all_embeddings`."
        )
    return memory.symbols, memory.symbols_mask


def all_embeddings(memory: Memory) -> tuple[Float[Array, "all width"], Bool[Array, " all"]]:
    """Lets a decoder see all rows, those of the trajectory first."""
    if memory.symbols is None or memory.symbols_mask is None:
        return data_embeddings(memory)
    rows = jnp.concatenate((memory.data, memory.symbols))
    return rows, jnp.concatenate((memory.data_mask, memory.symbols_mask))


@final
class DataEncoder(eqx.Module):
    """Reads a trajectory.

    Attributes:
        scaling: `(states, mask) -> scales`.
        embedding: `(times, scaled states, scales) -> rows`, the same number for each time.
        transformer: Lets the rows see each other.
    """

    scaling: Unscaled | PerTrajectory
    embedding: Callable[..., Array]
    transformer: Transformer

    def __call__(
        self,
        times: Float[Array, " time"],
        states: Float[Array, "time channels *space"],
        mask: Bool[Array, " time"],
    ) -> tuple[Float[Array, "n width"], Bool[Array, " n"], Scales]:
        """The rows, which of them exist, and the scales of the trajectory."""
        scales = self.scaling(states, mask)
        rows = self.embedding(times, scales.encode(states), scales)
        mask = jnp.repeat(mask, rows.shape[0] // times.shape[0])
        return self.transformer(rows, mask[None]), mask, scales


@final
class Fusion(eqx.Module):
    """Lets the rows of both modalities see each other.

    Attributes:
        kinds: Added to all rows of the trajectory and to all of the equation; normal of deviation 1 / sqrt(width).
        transformer: Acts on the rows of both, those of the trajectory first.
    """

    kinds: Float[Array, "2 width"]
    transformer: Transformer

    def __init__(self, transformer: Transformer, width: int, *, key: PRNGKeyArray) -> None:
        """Draws the two kinds."""
        self.kinds = jax.random.normal(key, (2, width)) / width**0.5
        self.transformer = transformer

    def __call__(
        self, data: Float[Array, "n width"], symbols: Float[Array, "m width"], mask: Bool[Array, " all"]
    ) -> Float[Array, "all width"]:
        """All rows, those of the trajectory first; `mask` tells for all of them which exist."""
        return self.transformer(jnp.concatenate((data + self.kinds[:1], symbols + self.kinds[1:])), mask[None])


@final
class DataDecoder(eqx.Module):
    """Predicts states at any times, each independently of the others.

    Attributes:
        query: `times -> rows`.
        transformer: Lets each row see the memory.
        head: `rows -> scaled states`.
        sees: `memory -> (rows, mask)`: which rows it attends to.
    """

    query: Callable[[Array], Array]
    transformer: Transformer
    head: Callable[[Array], Array]
    sees: Callable[[Memory], tuple[Array, Array]] = eqx.field(static=True)

    def hidden(
        self, query: Float[Array, "n width"], rows: Float[Array, "m width"], mask: Bool[Array, " m"]
    ) -> Float[Array, "n width"]:
        """The rows from which the states are made."""
        return self.transformer(query, None, rows, mask[None])


@final
class Prose(eqx.Module):
    """PROSE: from a trajectory and a guess of its equation to states at other times and to the equation.

    Encoders for both, a transformer over all of their rows, and decoders for both. One sample: rows (n, width); ragged
    lengths are padded, with masks that are true where something stands. Without the last block it is the 2-to-1 form,
    without the last three the 1-to-1 form.

    An equation is written token by token: `cache = model.start(memory, length)`, then `logits, cache =
    model.step(cache, token)`, first with the token that begins equations. All of this is pure, so that `jax.vmap`,
    `jax.lax.scan` and a search over several continuations of one cache apply; `greedy` takes the likeliest token each
    time.

    `prose_ode`, `prose_pde` and `prose_fd` make the published models.

    Source: Liu, Zhang, Schaeffer, "PROSE: Predicting multiple operators and symbolic expressions using multimodal
    transformers", Neural Networks 180, 2024, arXiv:2309.16816, section 3; Sun, Liu, Zhang, Schaeffer, "Towards a
    foundation model for partial differential equations: Multioperator learning and extrapolation", Phys. Rev. E 111,
    2025, arXiv:2404.12355; Liu, Sun, He, Pinney, Zhang, Schaeffer, "PROSE-FD: A multimodal PDE foundation model for
    learning multiple operators for forecasting fluid dynamics", 2024, arXiv:2409.09811.

    Attributes:
        data_encoder: Reads the trajectory.
        data_decoder: Predicts states.
        symbol_encoder: Reads the equation, or None.
        fusion: Joins the two, or None.
        symbol_decoder: Writes the equation, or None.
    """

    data_encoder: DataEncoder
    data_decoder: DataDecoder
    symbol_encoder: SymbolEncoder | None = None
    fusion: Fusion | None = None
    symbol_decoder: SymbolDecoder | None = None

    def __call__(
        self,
        times: Float[Array, " time"],
        states: Float[Array, "time channels *space"],
        query_times: Float[Array, " query"],
        tokens: Int[Array, " m"] | None = None,
        equation: Int[Array, " k"] | None = None,
        *,
        mask: Bool[Array, " time"] | None = None,
        tokens_mask: Bool[Array, " m"] | None = None,
    ) -> tuple[Float[Array, "query channels *predicted"], Float[Array, "k vocabulary"] | None]:
        """States at the query times, and the logits of the token behind each one of `equation`, if that is given.

        Args:
            times: Of the trajectory.
            states: Of the trajectory.
            query_times: When to predict.
            tokens: The guess of the equation, without tokens that begin or end it.
            equation: The true equation, behind the token that begins it.
            mask: Which of the times exist, by default all.
            tokens_mask: Which of the tokens exist, by default all.
        """
        memory = self.encode(times, states, tokens, mask=mask, tokens_mask=tokens_mask)
        return self.predict(memory, query_times), None if equation is None else self.logits(memory, equation)

    def encode(
        self,
        times: Float[Array, " time"],
        states: Float[Array, "time channels *space"],
        tokens: Int[Array, " m"] | None = None,
        *,
        mask: Bool[Array, " time"] | None = None,
        tokens_mask: Bool[Array, " m"] | None = None,
    ) -> Memory:
        """What decoders need of one sample, with the arguments of `__call__`.

        Raises:
            ValueError: If the model reads an equation and none is given, or the other way round.
        """
        mask = jnp.ones(times.shape, bool) if mask is None else mask
        data, data_mask, scales = self.data_encoder(times, states, mask)
        if self.symbol_encoder is None or self.fusion is None:
            if tokens is not None:
                raise ValueError("This model reads no equation. Leave `tokens` out, or make it with `symbols_in`.")
            return Memory(data, data_mask, None, None, scales)
        if tokens is None:
            raise ValueError("This model reads an equation. Give `tokens`, the guess.")
        tokens_mask = jnp.ones(tokens.shape, bool) if tokens_mask is None else tokens_mask
        symbols = self.symbol_encoder(tokens, tokens_mask)
        fused = self.fusion(data, symbols, jnp.concatenate((data_mask, tokens_mask)))
        n = data.shape[0]
        return Memory(fused[:n], data_mask, fused[n:], tokens_mask, scales)

    def predict(self, memory: Memory, query_times: Float[Array, " query"]) -> Float[Array, "query channels *space"]:
        """States at the query times."""
        decoder = self.data_decoder
        states = decoder.head(decoder.hidden(decoder.query(query_times), *decoder.sees(memory)))
        return memory.scales.decode(states.astype(memory.scales.mean.dtype))

    def logits(self, memory: Memory, equation: Int[Array, " k"]) -> Float[Array, "k vocabulary"]:
        """Logits of the token behind each one of `equation`."""
        decoder = self._writer()
        return decoder.logits(decoder.hidden(equation, *decoder.sees(memory)))

    def start(self, memory: Memory, length: int) -> Cache:
        """A cache for writing up to `length` tokens, the first of which begins the equation."""
        decoder = self._writer()
        return decoder.start(*decoder.sees(memory), length)

    def step(self, cache: Cache, token: Int[Array, ""]) -> tuple[Float[Array, " vocabulary"], Cache]:
        """Logits of the token behind `token`, equal to those of `logits` to rounding, and the cache with it."""
        return self._writer().step(cache, token)

    def _writer(self) -> SymbolDecoder:
        if self.symbol_decoder is None:
            raise ValueError("This model writes no equation. Make it with `symbols_out`.")
        return self.symbol_decoder
