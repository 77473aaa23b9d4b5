"""State dicts of PROSE-ODE, PROSE-PDE and PROSE-FD published as PyTorch code."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciml.nn import MLP, Dense, MultiHeadAttention, RMSNorm, Transformer
from sciml.prose import FrameEmbedding, LearnedTimes, PatchEmbedding, Prose, TokenEmbedding


@dataclasses.dataclass(frozen=True, eq=False)
class _Entry:
    """One array of a state dict: arrays of the model in PyTorch's layout, one behind the other.

    Attributes:
        name: In the state dict.
        leaves: Arrays of the model, or what tells their shapes and types.
        transposed: Whether their two axes change places.
        shape: In the state dict, if it is another one.
        copy: Whether the state dict has the same array under another name.
    """

    name: str
    leaves: tuple[Any, ...]
    transposed: bool = False
    shape: tuple[int, ...] | None = None
    copy: bool = False

    def shapes(self) -> list[tuple[int, ...]]:
        return [leaf.shape[::-1] if self.transposed else leaf.shape for leaf in self.leaves]

    def full_shape(self) -> tuple[int, ...]:
        shapes = self.shapes()
        return self.shape or (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def to_torch(self) -> np.ndarray:
        leaves = [np.asarray(leaf) for leaf in self.leaves]
        return np.concatenate([leaf.T if self.transposed else leaf for leaf in leaves]).reshape(self.full_shape())

    def from_torch(self, array: np.ndarray | Array) -> list[Array]:
        shapes = self.shapes()
        ends = np.cumsum([shape[0] for shape in shapes])
        parts = np.split(np.asarray(array).reshape(-1, *shapes[0][1:]), ends[:-1])
        parts = [part.T if self.transposed else part for part in parts]
        return [jnp.asarray(part, leaf.dtype) for part, leaf in zip(parts, self.leaves, strict=True)]


def prose_from_torch(model: Prose, arrays: Mapping[str, np.ndarray | Array]) -> Prose:
    """The model with the arrays of a state dict of the published code.

    A state dict becomes such a mapping by `{name: tensor.numpy() for name, tensor in model.state_dict().items()}`;
    kept with `numpy.savez`, it is read back as `dict(numpy.load(path))`.

    Args:
        model: From `prose_ode`, `prose_pde` or `prose_fd` with the sizes of the published one, or what
            `equinox.filter_eval_shape` returns for it, which takes no memory.
        arrays: By the names of the state dict. Its second copy of the symbol decoder's table may be missing.

    Returns:
        A model whose arrays have the data type of those of `model`.

    Raises:
        ValueError: If the model is not of a published form, arrays are missing or left over, or one has another shape
            than the model's.
    """
    entries = {entry.name: entry for entry in _checked(model)}
    missing = sorted(name for name in set(entries) - set(arrays) if not entries[name].copy)
    left = sorted(set(arrays) - set(entries))
    if missing or left:
        raise ValueError(
            f"Expected the {len(entries)} arrays of this model; missing: {missing[:5]} ({len(missing)}), left over: "
            f"{left[:5]} ({len(left)}). Build the model with the form and the depths of the published one."
        )
    for name, entry in entries.items():
        if name in arrays and arrays[name].shape != entry.full_shape():
            raise ValueError(
                f"Expected {name} of shape {entry.full_shape()}, got {arrays[name].shape}. Build the model with the "
                "widths, vocabularies and positions of the published one."
            )
    new = {}
    for name, entry in entries.items():
        if not entry.copy:
            loaded = entry.from_torch(arrays[name])
            new |= {id(leaf): array for leaf, array in zip(entry.leaves, loaded, strict=True)}
    return jax.tree.map(lambda leaf: new.get(id(leaf), leaf), model)


def prose_to_torch(model: Prose) -> dict[str, np.ndarray]:
    """The arrays of a model under the names and in the layout of the published code's state dict.

    A gradient, which has the model's structure, is taken as well.

    Raises:
        ValueError: If the model is not of a published form.
    """
    return {entry.name: entry.to_torch() for entry in _checked(model)}


def _checked(model: Prose) -> list[_Entry]:
    entries = list(_entries(model))
    known = {id(leaf) for entry in entries for leaf in entry.leaves}
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if id(leaf) not in known and isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            raise ValueError(
                f"The published models have nothing like model{jax.tree_util.keystr(path)}. Build the model with "
                "prose_ode, prose_pde or prose_fd, in the published form."
            )
    return entries


def _entries(model: Prose) -> Iterator[_Entry]:
    ends = embedding, _ = model.data_encoder.embedding, model.data_decoder
    if isinstance(embedding, FrameEmbedding | PatchEmbedding):
        yield from (_frames if isinstance(embedding, FrameEmbedding) else _patches)(*ends)
        layers, symbols, inner, table = _torch_layers, "symbol", ".transformer_", _word_embeddings
    else:
        yield from _states(*ends)
        layers, symbols, inner, table = _first_layers, "text", "", _embeddings
    encoder, decoder = (f"{inner}{kind}" if inner else "" for kind in ("encoder", "decoder"))
    yield from layers(model.data_encoder.transformer, f"data_encoder{encoder}")
    yield from layers(model.data_decoder.transformer, f"data_decoder{decoder}")
    if model.symbol_encoder is not None:
        yield from table(model.symbol_encoder.embedding, f"{symbols}_encoder")
        yield from layers(model.symbol_encoder.transformer, f"{symbols}_encoder{encoder}")
    if model.fusion is not None:
        yield _Entry("fusion.type_embeddings.weight", (model.fusion.kinds,))
        yield from layers(model.fusion.transformer, f"fusion{encoder}")
    if model.symbol_decoder is not None:
        name = f"{symbols}_decoder"
        yield from table(model.symbol_decoder.embedding, name)
        yield from layers(model.symbol_decoder.transformer, f"{name}{decoder}")
        yield _Entry(f"{name}.proj.weight", (model.symbol_decoder.embedding.table,), copy=True)
        yield _Entry(f"{name}.proj.bias", (model.symbol_decoder.bias,))


def _states(embedding: Any, decoder: Any) -> Iterator[_Entry]:
    yield from _sequence(embedding.network, "embedder")
    entries: Any = _dense if isinstance(decoder.query.network, Dense) else _sequence
    yield from entries(decoder.query.network, "data_decoder.query_embedder")
    yield from _dense(decoder.head, "data_decoder.proj")


def _frames(embedding: Any, decoder: Any) -> Iterator[_Entry]:
    query = decoder.query
    yield from _sequence(embedding.time.network, "embedder.time_proj")
    yield from _sequence(embedding.network, "embedder.pre_proj")
    yield from _sequence(decoder.head.network, "embedder.post_proj")
    yield _Entry("data_decoder.patch_position_embeddings", (query.vector,), shape=(1, 1, 1, *query.vector.shape))
    yield from _sequence(query.time.network, "data_decoder.time_proj")
    yield from _sequence(query.space.network, "data_decoder.space_proj")


def _patches(embedding: Any, decoder: Any) -> Iterator[_Entry]:
    head = decoder.head
    for part, name in ((embedding, "embedder"), (decoder.query, "data_decoder")):
        yield _Entry(f"{name}.patch_position_embeddings", (part.places,), shape=(1, 1, *part.places.shape))
        if isinstance(part.time, LearnedTimes):
            frames, width = part.time.table.shape
            yield _Entry(f"{name}.time_embed", (part.time.table,), shape=(1, frames, 1, width))
        else:
            yield from _sequence(part.time.network, f"{name}.time_proj")
    first, second = embedding.network.layers
    yield from _dense(first, "embedder.conv_proj.0", (embedding.patch, embedding.patch))
    yield from _dense(second, "embedder.conv_proj.2", (1, 1))
    shape = head.spread.weight.shape[0], head.shift.shape[0], head.patch, head.patch
    yield _Entry("embedder.post_proj.1.weight", (head.spread.weight,), shape=shape)
    yield _Entry("embedder.post_proj.1.bias", (head.shift,))
    for number, layer in zip((3, 5), head.network.layers, strict=True):
        yield from _dense(layer, f"embedder.post_proj.{number}", (1, 1))


def _sequence(network: MLP, name: str) -> Iterator[_Entry]:
    for number, layer in zip((0, 2), network.layers, strict=True):  # the nonlinearity is number 1
        yield from _dense(layer, f"{name}.{number}")


def _dense(layer: Dense, name: str, kernel: tuple[int, ...] = ()) -> Iterator[_Entry]:
    """A matrix, or with a kernel's size a convolution that is one on each patch."""
    into, out = layer.weight.shape
    shape = (out, into // math.prod(kernel), *kernel)
    yield _Entry(f"{name}.weight", (layer.weight,), transposed=True, shape=shape)
    if layer.bias is not None:
        yield _Entry(f"{name}.bias", (layer.bias,))


def _norm(norm: Any, name: str) -> Iterator[_Entry]:
    yield _Entry(f"{name}.weight", (norm.scale,))
    if not isinstance(norm, RMSNorm):
        yield _Entry(f"{name}.bias", (norm.shift,))


def _attention(attention: MultiHeadAttention, name: str) -> Iterator[_Entry]:
    """The three maps in one matrix, as in `torch.nn.MultiheadAttention`."""
    maps = attention.query, attention.key, attention.value
    yield _Entry(f"{name}.in_proj_weight", tuple(layer.weight for layer in maps), transposed=True)
    yield _Entry(f"{name}.in_proj_bias", tuple(layer.bias for layer in maps))
    yield from _dense(attention.out, f"{name}.out_proj")


def _separate_attention(attention: MultiHeadAttention, name: str) -> Iterator[_Entry]:
    for letter, layer in zip("qkv", (attention.query, attention.key, attention.value), strict=True):
        yield from _dense(layer, f"{name}.linear_{letter}")
    yield from _dense(attention.out, f"{name}.out_proj")


def _first_layers(transformer: Transformer, name: str) -> Iterator[_Entry]:
    """PROSE-ODE: a list for each kind of part, in which attention to a memory comes second or alone."""
    if transformer.first is not None:
        yield from _norm(transformer.first, f"{name}.layer_norm_emb")
    for i, layer in enumerate(transformer.layers):
        both = layer.own is not None and layer.other is not None
        if layer.own is not None:
            yield from _norm(layer.own[0].norm, f"{name}.layer_norm1.{i}")
            yield from _attention(layer.own[1], f"{name}.attentions.{i}.attn")
        if layer.other is not None:
            yield from _norm(layer.other[0].norm, f"{name}.layer_norm1{'5' if both else ''}.{i}")
            yield from _attention(layer.other[1], f"{name}.{'encoder_attn' if both else 'attentions'}.{i}.attn")
        join, network = layer.network
        for number, dense in enumerate(network.layers, start=1):
            yield from _dense(dense, f"{name}.ffns.{i}.lin{number}")
        yield from _norm(join.norm, f"{name}.layer_norm2.{i}")


def _torch_layers(transformer: Transformer, name: str) -> Iterator[_Entry]:
    """PROSE-PDE and PROSE-FD: as in `torch.nn.TransformerEncoder` and its decoder; the latest maps q, k, v apart."""
    attention = _separate_attention if isinstance(transformer.last, RMSNorm) else _attention
    for i, layer in enumerate(transformer.layers):
        own = f"{name}.layers.{i}"
        joins = []
        for part, kind in ((layer.own, "self_attn"), (layer.other, "multihead_attn")):
            if part is not None:
                joins.append(part[0])
                yield from attention(part[1], f"{own}.{kind}")
        join, network = layer.network
        for number, dense in enumerate(network.layers, start=1):
            yield from _dense(dense, f"{own}.linear{number}")
        for number, one in enumerate((*joins, join), start=1):
            yield from _norm(one.norm, f"{own}.norm{number}")
    if transformer.last is not None:
        yield from _norm(transformer.last, f"{name}.norm")


def _embeddings(embedding: TokenEmbedding, name: str) -> Iterator[_Entry]:
    yield _Entry(f"{name}.embeddings.weight", (embedding.table,))
    if embedding.positions is not None:
        yield _Entry(f"{name}.position_embeddings.weight", (embedding.positions.value,))


def _word_embeddings(embedding: TokenEmbedding, name: str) -> Iterator[_Entry]:
    yield _Entry(f"{name}.word_embeddings.weight", (embedding.table,))
    if embedding.positions is not None:
        length, width = embedding.positions.value.shape
        yield _Entry(f"{name}.positional_embedding.pe", (embedding.positions.value,), shape=(length, 1, width))
