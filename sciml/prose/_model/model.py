"""The PROSE model: reads a trajectory and an equation, predicts states and writes an equation."""

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
    """The encoded sample, to which the decoders attend.

    Attributes:
        data: Embeddings of the trajectory.
        data_mask: False for padding in `data`.
        symbols: Embeddings of the equation, or None.
        symbols_mask: False for padding in `symbols`, or None.
        scales: Mean and standard deviation by which the trajectory was scaled.
    """

    data: Float[Array, "n width"]
    data_mask: Bool[Array, " n"]
    symbols: Float[Array, "m width"] | None
    symbols_mask: Bool[Array, " m"] | None
    scales: Scales


def data_embeddings(memory: Memory) -> tuple[Float[Array, "n width"], Bool[Array, " n"]]:
    """The embeddings of the trajectory and their mask: what a decoder attends to."""
    return memory.data, memory.data_mask


def symbol_embeddings(memory: Memory) -> tuple[Float[Array, "m width"], Bool[Array, " m"]]:
    """The embeddings of the equation and their mask: what a decoder attends to.

    Raises:
        ValueError: If the model reads no equation.
    """
    if memory.symbols is None or memory.symbols_mask is None:
        raise ValueError(
            "The decoder sees the rows of an equation, but the model reads none. Give it `all_embeddings`."
        )
    return memory.symbols, memory.symbols_mask


def all_embeddings(memory: Memory) -> tuple[Float[Array, "all width"], Bool[Array, " all"]]:
    """All embeddings and their mask, the trajectory before the equation: what a decoder attends to."""
    if memory.symbols is None or memory.symbols_mask is None:
        return data_embeddings(memory)
    rows = jnp.concatenate((memory.data, memory.symbols))
    return rows, jnp.concatenate((memory.data_mask, memory.symbols_mask))


@final
class DataEncoder(eqx.Module):
    """Encodes a trajectory: scaling, embedding, transformer with self attention.

    Attributes:
        scaling: `(states, mask) -> scales`.
        embedding: `(times, scaled states, scales) -> embeddings`, the same number for each time.
        transformer: Self attention over the embeddings.
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
        """The embeddings, their mask (false for padding), and the scales of the trajectory."""
        scales = self.scaling(states, mask)
        rows = self.embedding(times, scales.encode(states), scales)
        mask = jnp.repeat(mask, rows.shape[0] // times.shape[0])
        return self.transformer(rows, mask[None]), mask, scales


@final
class Fusion(eqx.Module):
    """Self attention over the embeddings of both modalities.

    Attributes:
        kinds: Learned type embeddings, one added to each embedding of the trajectory, one to each of the equation. The
            initial values are normal with standard deviation 1 / sqrt(width).
        transformer: Acts on the concatenated embeddings, the trajectory before the equation.
    """

    kinds: Float[Array, "2 width"]
    transformer: Transformer

    def __init__(self, transformer: Transformer, width: int, *, key: PRNGKeyArray) -> None:
        """Draws the two type embeddings."""
        self.kinds = jax.random.normal(key, (2, width)) / width**0.5
        self.transformer = transformer

    def __call__(
        self, data: Float[Array, "n width"], symbols: Float[Array, "m width"], mask: Bool[Array, " all"]
    ) -> Float[Array, "all width"]:
        """All fused embeddings, the trajectory before the equation; `mask` is false for padding in this order."""
        return self.transformer(jnp.concatenate((data + self.kinds[:1], symbols + self.kinds[1:])), mask[None])


@final
class DataDecoder(eqx.Module):
    """Predicts states at any query times, each independently of the others.

    Attributes:
        query: `times -> query embeddings`.
        transformer: Cross attention of the queries to the memory, without self attention.
        head: `decoded embeddings -> scaled states`.
        sees: `memory -> (embeddings, mask)`, the part of the memory that the queries attend to.
    """

    query: Callable[[Array], Array]
    transformer: Transformer
    head: Callable[[Array], Array]
    sees: Callable[[Memory], tuple[Array, Array]] = eqx.field(static=True)

    def hidden(
        self, query: Float[Array, "n width"], rows: Float[Array, "m width"], mask: Bool[Array, " m"]
    ) -> Float[Array, "n width"]:
        """The decoded embeddings of the queries, the input of `head`; `rows` are the embeddings of the memory."""
        return self.transformer(query, None, rows, mask[None])


@final
class Prose(eqx.Module):
    """PROSE: maps a trajectory and a guess of its equation to states at other times and to the equation.

    Each modality, trajectory and equation, has an encoder and a decoder. A fusion transformer acts on the embeddings of
    both encoders, and the decoders attend to its output. The model acts on one sample; use `jax.vmap` for a batch.
    Sequences of different lengths are padded, and their masks are false for padding.

    | variant | reads                   | predicts            | parts that are None                             |
    |---------|-------------------------|---------------------|-------------------------------------------------|
    | 2-to-2  | trajectory and equation | states and equation |                                                 |
    | 2-to-1  | trajectory and equation | states              | `symbol_decoder`                                |
    | 1-to-1  | trajectory              | states              | `symbol_encoder`, `fusion` and `symbol_decoder` |

    To write an equation token by token, call `cache = model.start(memory, length)`, then
    `logits, cache = model.step(cache, token)` repeatedly, first with the BOS token. These functions are pure, so they
    work under `jax.vmap` and `jax.lax.scan`, and a cache may be continued in several ways. `greedy` and `beam` decode
    whole equations.

    `prose_ode`, `prose_pde` and `prose_fd` make the published models.

    Source: Liu, Zhang, Schaeffer, "PROSE: Predicting multiple operators and symbolic expressions using multimodal
    transformers", Neural Networks 180, 2024, arXiv:2309.16816, section 3; Sun, Liu, Zhang, Schaeffer, "Towards a
    foundation model for partial differential equations: Multioperator learning and extrapolation", Phys. Rev. E 111,
    2025, arXiv:2404.12355; Liu, Sun, He, Pinney, Zhang, Schaeffer, "PROSE-FD: A multimodal PDE foundation model for
    learning multiple operators for forecasting fluid dynamics", 2024, arXiv:2409.09811.

    Attributes:
        data_encoder: Encodes the trajectory.
        data_decoder: Predicts states.
        symbol_encoder: Encodes the guess of the equation, or None.
        fusion: Self attention over both modalities, or None.
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
        """States at the query times, and teacher-forced logits if `equation` is given, otherwise None.

        Logits i are those of token i + 1 of the equation, given its tokens 0 to i.

        Args:
            times: Times of the given trajectory.
            states: States at these times, unscaled.
            query_times: Times at which states are predicted.
            tokens: Token ids of the guessed equation, without BOS and EOS.
            equation: Token ids of the true equation, starting with BOS and without EOS.
            mask: False for padding in `times`; None means no padding.
            tokens_mask: False for padding in `tokens`; None means no padding.

        Raises:
            ValueError: As `encode`, or if `equation` is given to a model that writes no equation.
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
        """Encodes one sample for the decoders; the arguments are those of `__call__`.

        Raises:
            ValueError: If the model reads an equation and `tokens` is None, or if it reads none and `tokens` is given.
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
        """States at the query times, in the unit of the given states."""
        decoder = self.data_decoder
        states = decoder.head(decoder.hidden(decoder.query(query_times), *decoder.sees(memory)))
        return memory.scales.decode(states.astype(memory.scales.mean.dtype))

    def logits(self, memory: Memory, equation: Int[Array, " k"]) -> Float[Array, "k vocabulary"]:
        """Logits of the next token after each token of `equation`, which starts with BOS.

        Raises:
            ValueError: If the model writes no equation.
        """
        decoder = self._writer()
        return decoder.logits(decoder.hidden(equation, *decoder.sees(memory)))

    def start(self, memory: Memory, length: int) -> Cache:
        """An empty cache for writing up to `length` tokens, BOS included.

        Raises:
            ValueError: If the model writes no equation, or has fewer positions than `length`.
        """
        decoder = self._writer()
        return decoder.start(*decoder.sees(memory), length)

    def step(self, cache: Cache, token: Int[Array, ""]) -> tuple[Float[Array, " vocabulary"], Cache]:
        """Logits of the next token after `token`, and the cache extended by `token`.

        The logits equal those of `logits` up to rounding.
        """
        return self._writer().step(cache, token)

    def _writer(self) -> SymbolDecoder:
        if self.symbol_decoder is None:
            raise ValueError("This model writes no equation. Make it with `symbols_out`.")
        return self.symbol_decoder
