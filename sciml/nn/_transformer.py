"""Transformers with any order of normalisation and attention, and their caches for writing token by token."""

import abc
import dataclasses
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from sciml.nn._activations import gelu
from sciml.nn._attention import MultiHeadAttention
from sciml.nn._dense import MLP, Dense

Norm = Callable[[Array], Array]
"""Acts on each token and keeps the shape."""

Tokens = Float[Array, "n width"]
Mask = Bool[Array, "#n n"] | None
Memory = Float[Array, "m width"] | None
MemoryMask = Bool[Array, "#n m"] | None

LayerCache = tuple[tuple[Array, Array] | None, tuple[Array, Array] | None]
"""Keys and values of the tokens written so far and of the memory, each `(heads, tokens, size)`."""


class AbstractJoin(eqx.Module):
    """How a layer f joins the residual stream x of tokens: `after(x, f(before(x)))`."""

    norm: eqx.AbstractVar[Norm]

    @abc.abstractmethod
    def before(self, x: Tokens) -> Tokens:
        """The input of the layer f."""

    @abc.abstractmethod
    def after(self, x: Tokens, change: Tokens) -> Tokens:
        """The stream after the layer, where `change` is the output of f."""


@final
class PostNorm(AbstractJoin):
    """norm(x + f(x)), the order of the first transformer (Vaswani et al. 2017, arXiv:1706.03762)."""

    norm: Norm

    def before(self, x: Tokens) -> Tokens:
        """The stream as it is."""
        return x

    def after(self, x: Tokens, change: Tokens) -> Tokens:
        """The normalised sum."""
        return self.norm(x + change)


@final
class PreNorm(AbstractJoin):
    """x + f(norm(x)) (Xiong et al. 2020, arXiv:2002.04745)."""

    norm: Norm

    def before(self, x: Tokens) -> Tokens:
        """The normalised stream."""
        return self.norm(x)

    def after(self, x: Tokens, change: Tokens) -> Tokens:
        """The sum."""
        return x + change


@final
class TransformerLayer(eqx.Module):
    """Self attention, cross attention to a memory and a network, each joined to the residual stream.

    Attributes:
        own: Self attention with its join, or None.
        other: Cross attention to the memory with its join, or None.
        network: Network of each token, with its join.
    """

    own: tuple[AbstractJoin, MultiHeadAttention] | None
    other: tuple[AbstractJoin, MultiHeadAttention] | None
    network: tuple[AbstractJoin, MLP]

    def __call__(self, x: Tokens, mask: Mask = None, memory: Memory = None, memory_mask: MemoryMask = None) -> Tokens:
        """The tokens after the layer; token i attends to token j where the mask is true.

        Raises:
            ValueError: If the layer attends to a memory and none is given.
        """
        if self.own is not None:
            join, attention = self.own
            x = join.after(x, attention(join.before(x), mask=mask))
        if self.other is not None:
            join, attention = self.other
            x = join.after(x, attention(join.before(x), _given(memory), memory_mask))
        join, network = self.network
        return join.after(x, network(join.before(x)))

    def start(self, memory: Memory, length: int) -> LayerCache:
        """The empty cache for up to `length` tokens."""
        written = projected = None
        if self.own is not None:
            value = self.own[1].value.weight
            empty = jnp.zeros((self.own[1].heads, length, value.shape[1] // self.own[1].heads), value.dtype)
            written = empty, empty
        if self.other is not None:
            projected = self.other[1].project(_given(memory))
        return written, projected

    def step(
        self,
        x: Float[Array, "1 width"],
        cache: LayerCache,
        index: Int[Array, ""],
        memory_mask: Bool[Array, "1 m"] | None = None,
    ) -> tuple[Float[Array, "1 width"], LayerCache]:
        """Token `index` after the layer, and the cache that holds it."""
        written, projected = cache
        if self.own is not None and written is not None:
            join, attention = self.own
            row = join.before(x)
            new = attention.project(row, index)
            write = lambda all, one: jax.lax.dynamic_update_slice_in_dim(all, one, index, axis=1)
            keys, values = map(write, written, new)
            written = keys, values
            seen = (jnp.arange(keys.shape[1]) <= index)[None]
            x = join.after(x, attention.attend(row, written, seen, index))
        if self.other is not None and projected is not None:
            join, attention = self.other
            x = join.after(x, attention.attend(join.before(x), projected, memory_mask))
        join, network = self.network
        return join.after(x, network(join.before(x))), (written, projected)


def _given(memory: Array | None) -> Array:
    if memory is None:
        raise ValueError("The layer attends to a memory, but got none. Give its tokens.")
    return memory


@final
class Transformer(eqx.Module):
    """Layers between two normalisations; `TransformerConfig` makes them.

    Attributes:
        first: Normalisation before the layers, or None.
        layers: The layers.
        last: Normalisation after the layers, or None.
    """

    first: Norm | None
    layers: tuple[TransformerLayer, ...]
    last: Norm | None

    def __call__(self, x: Tokens, mask: Mask = None, memory: Memory = None, memory_mask: MemoryMask = None) -> Tokens:
        """The tokens after all layers, with the arguments of `TransformerLayer`."""
        x = self.states(x, mask, memory, memory_mask)[-1]
        return x if self.last is None else self.last(x)

    def states(
        self, x: Tokens, mask: Mask = None, memory: Memory = None, memory_mask: MemoryMask = None
    ) -> tuple[Tokens, ...]:
        """The tokens before the first layer and after each one, without the last normalisation."""
        states = [x if self.first is None else self.first(x)]
        for layer in self.layers:
            states.append(layer(states[-1], mask, memory, memory_mask))
        return tuple(states)

    def start(self, memory: Memory, length: int) -> tuple[LayerCache, ...]:
        """The empty caches of all layers for up to `length` tokens."""
        return tuple(layer.start(memory, length) for layer in self.layers)

    def step(
        self,
        x: Float[Array, "1 width"],
        caches: tuple[LayerCache, ...],
        index: Int[Array, ""],
        memory_mask: Bool[Array, "1 m"] | None = None,
    ) -> tuple[Float[Array, "1 width"], tuple[LayerCache, ...]]:
        """The token `index` that `__call__` with a causal mask returns, from the caches of the tokens before it."""
        x = x if self.first is None else self.first(x)
        new = []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer.step(x, cache, index, memory_mask)
            new.append(cache)
        return x if self.last is None else self.last(x), tuple(new)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The parts of the layers of a transformer.

    Attributes:
        hidden: Size of the hidden layer of the networks.
        attention: `(width, key=...) -> MultiHeadAttention`; also takes `rotation=`.
        norm: `width -> normalisation` in the layers.
        join: `normalisation -> join`: `PostNorm`, `PreNorm`.
        first: `width -> normalisation` before all layers, or None.
        last: `width -> normalisation` after all layers, or None.
        identity: Whether each layer with `PreNorm` begins as the identity, the last maps of its attentions and of its
            network being 0 (Zhang et al. 2019, "Fixup initialization", arXiv:1901.09321, section 3).
    """

    hidden: int
    attention: Callable[..., MultiHeadAttention]
    norm: Callable[[int], Norm]
    join: Callable[[Norm], AbstractJoin]
    first: Callable[[int], Norm] | None = None
    last: Callable[[int], Norm] | None = None
    identity: bool = False

    def encoder(
        self, width: int, depth: int, *, rotation: Callable[..., Array] | None = None, key: PRNGKeyArray
    ) -> Transformer:
        """Layers with self attention; `rotation` encodes the positions."""
        return self._transformer(width, depth, lambda key: (self._joined(width, rotation, key), None), key)

    def reader(self, width: int, depth: int, *, key: PRNGKeyArray) -> Transformer:
        """Layers with cross attention to a memory alone."""
        return self._transformer(width, depth, lambda key: (None, self._joined(width, None, key)), key)

    def decoder(
        self, width: int, depth: int, *, rotation: Callable[..., Array] | None = None, key: PRNGKeyArray
    ) -> Transformer:
        """Layers with self attention, then cross attention to a memory."""

        def attentions(key: PRNGKeyArray) -> tuple:
            keys = jax.random.split(key)
            return self._joined(width, rotation, keys[0]), self._joined(width, None, keys[1])

        return self._transformer(width, depth, attentions, key)

    def _joined(self, width: int, rotation: Callable[..., Array] | None, key: PRNGKeyArray) -> tuple:
        return self.join(self.norm(width)), self.attention(width, rotation=rotation, key=key)

    def _transformer(self, width: int, depth: int, attentions: Callable[..., tuple], key: PRNGKeyArray) -> Transformer:
        def layer(key: PRNGKeyArray) -> TransformerLayer:
            attention_key, network_key = jax.random.split(key)
            network = MLP((width, self.hidden, width), activation=gelu, key=network_key)
            own, other = attentions(attention_key)
            made = TransformerLayer(own, other, (self.join(self.norm(width)), network))
            zero = lambda dense: jax.tree.map(jnp.zeros_like, dense)
            return eqx.tree_at(_last_maps, made, replace_fn=zero) if self.identity else made

        first, last = (None if norm is None else norm(width) for norm in (self.first, self.last))
        return Transformer(first, tuple(layer(key) for key in jax.random.split(key, depth)), last)


def _last_maps(layer: TransformerLayer) -> list[Dense]:
    """The layers whose output is added to the residual stream."""
    attentions = [part[1].out for part in (layer.own, layer.other) if part is not None]
    return [*attentions, layer.network[1].layers[-1]]
