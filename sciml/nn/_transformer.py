"""Transformers of any order of normalisation and attention, and what they need to write one row at a time."""

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
"""Acts on each row and keeps the shape."""

LayerCache = tuple[tuple[Array, Array] | None, tuple[Array, Array] | None]
"""Keys and values of the rows written so far and of the memory, each `(heads, rows, size)`."""


class AbstractJoin(eqx.Module):
    """How a layer f acts on the stream of rows x: `after(x, f(before(x)))`."""

    norm: eqx.AbstractVar[Norm]

    @abc.abstractmethod
    def before(self, x: Float[Array, "n width"]) -> Float[Array, "n width"]:
        """What the layer gets."""

    @abc.abstractmethod
    def after(self, x: Float[Array, "n width"], change: Float[Array, "n width"]) -> Float[Array, "n width"]:
        """The stream behind the layer that returned `change`."""


@final
class PostNorm(AbstractJoin):
    """norm(x + f(x)), the order of the first transformer (Vaswani et al. 2017, arXiv:1706.03762)."""

    norm: Norm

    def before(self, x: Float[Array, "n width"]) -> Float[Array, "n width"]:
        """The stream as it is."""
        return x

    def after(self, x: Float[Array, "n width"], change: Float[Array, "n width"]) -> Float[Array, "n width"]:
        """The normalised sum."""
        return self.norm(x + change)


@final
class PreNorm(AbstractJoin):
    """x + f(norm(x)) (Xiong et al. 2020, arXiv:2002.04745)."""

    norm: Norm

    def before(self, x: Float[Array, "n width"]) -> Float[Array, "n width"]:
        """The normalised stream."""
        return self.norm(x)

    def after(self, x: Float[Array, "n width"], change: Float[Array, "n width"]) -> Float[Array, "n width"]:
        """The sum."""
        return x + change


@final
class TransformerLayer(eqx.Module):
    """Attention of the rows to themselves, attention to a memory, a network, each joined to the stream.

    Attributes:
        own: Attention to themselves with its join, or None.
        other: Attention to the memory with its join, or None.
        network: Acts on each row alone; with its join.
    """

    own: tuple[AbstractJoin, MultiHeadAttention] | None
    other: tuple[AbstractJoin, MultiHeadAttention] | None
    network: tuple[AbstractJoin, MLP]

    def __call__(
        self,
        x: Float[Array, "n width"],
        mask: Bool[Array, "#n n"] | None = None,
        memory: Float[Array, "m width"] | None = None,
        memory_mask: Bool[Array, "#n m"] | None = None,
    ) -> Float[Array, "n width"]:
        """The rows behind the layer; a mask is false where a row does not see another.

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

    def start(self, memory: Float[Array, "m width"] | None, length: int) -> LayerCache:
        """The cache in front of the first of up to `length` rows."""
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
        """Row `index` behind the layer, and the cache with it."""
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
        raise ValueError("The layer attends to a memory, but got none. Give the rows of one.")
    return memory


@final
class Transformer(eqx.Module):
    """Layers between two normalisations; `TransformerForm` makes them.

    Attributes:
        first: Normalisation in front of the layers, or None.
        layers: The layers.
        last: Normalisation behind them, or None.
    """

    first: Norm | None
    layers: tuple[TransformerLayer, ...]
    last: Norm | None

    def __call__(
        self,
        x: Float[Array, "n width"],
        mask: Bool[Array, "#n n"] | None = None,
        memory: Float[Array, "m width"] | None = None,
        memory_mask: Bool[Array, "#n m"] | None = None,
    ) -> Float[Array, "n width"]:
        """The rows behind all layers, with the arguments of `TransformerLayer`."""
        x = self.states(x, mask, memory, memory_mask)[-1]
        return x if self.last is None else self.last(x)

    def states(
        self,
        x: Float[Array, "n width"],
        mask: Bool[Array, "#n n"] | None = None,
        memory: Float[Array, "m width"] | None = None,
        memory_mask: Bool[Array, "#n m"] | None = None,
    ) -> tuple[Float[Array, "n width"], ...]:
        """The rows in front of the first layer and behind each one, before the last normalisation."""
        states = [x if self.first is None else self.first(x)]
        for layer in self.layers:
            states.append(layer(states[-1], mask, memory, memory_mask))
        return tuple(states)

    def start(self, memory: Float[Array, "m width"] | None, length: int) -> tuple[LayerCache, ...]:
        """The caches of all layers in front of the first of up to `length` rows."""
        return tuple(layer.start(memory, length) for layer in self.layers)

    def step(
        self,
        x: Float[Array, "1 width"],
        caches: tuple[LayerCache, ...],
        index: Int[Array, ""],
        memory_mask: Bool[Array, "1 m"] | None = None,
    ) -> tuple[Float[Array, "1 width"], tuple[LayerCache, ...]]:
        """What `__call__` with a causal mask returns for row `index`, given the caches of the rows before it."""
        x = x if self.first is None else self.first(x)
        new = []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer.step(x, cache, index, memory_mask)
            new.append(cache)
        return x if self.last is None else self.last(x), tuple(new)


@dataclasses.dataclass(frozen=True)
class TransformerForm:
    """What the layers of a transformer are made of.

    Attributes:
        hidden: Length of the hidden layer of the networks.
        attention: `(width, key=...) -> MultiHeadAttention`; also takes `rotation=`.
        norm: `width -> normalisation` inside of the layers.
        join: `normalisation -> join`: `PostNorm`, `PreNorm`.
        first: `width -> normalisation` in front of all layers, or None.
        last: The same behind them.
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
        """Layers in which rows see each other, their positions by `rotation`."""
        return self._transformer(width, depth, lambda key: (self._joined(width, rotation, key), None), key)

    def reader(self, width: int, depth: int, *, key: PRNGKeyArray) -> Transformer:
        """Layers in which each row sees a memory and no other row."""
        return self._transformer(width, depth, lambda key: (None, self._joined(width, None, key)), key)

    def decoder(
        self, width: int, depth: int, *, rotation: Callable[..., Array] | None = None, key: PRNGKeyArray
    ) -> Transformer:
        """Layers in which rows see each other, then a memory."""

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
    """Those that make what is added to the stream."""
    attentions = [part[1].out for part in (layer.own, layer.other) if part is not None]
    return [*attentions, layer.network[1].layers[-1]]
