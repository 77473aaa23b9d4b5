"""Transformer with linear attention of Galerkin type."""

import dataclasses
import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml import cut
from sciml.grid import Grid
from sciml.nn import (
    MLP,
    Dense,
    LayerNorm,
    SpectralConv,
    bare,
    check_field,
    fold_vmap,
    head_size,
    merge_heads,
    split_heads,
    unit_coordinates,
)
from sciml.operators._base import AbstractOperator, takes_any_field
from sciml.operators._pointwise import count_coordinates

_EPSILON = 1e-7  # of the published code on its coarser grids: keys start with deviations of 1e-2, variances of 1e-4


@dataclasses.dataclass(frozen=True)
class SpectralHead:
    """Fourier layers that follow the transformer.

    Attributes:
        modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
        width: Number of channels.
        depth: Number of layers.
    """

    modes: tuple[int, ...]
    width: int = 32
    depth: int = 2


@final
class GalerkinTransformer(AbstractOperator):
    r"""Galerkin transformer on a uniform grid, of any size, in 1 to 3 dimensions.

    .. math::  v \leftarrow v + A(v), \quad v \leftarrow v + F(v), \quad
               A(v)(x) = O \, Q(x) \frac{1}{n} \sum_y \tilde K(y)^T \tilde V(y)

    per head, where Q, K and V are affine maps of v at each point, the tilde stands for a layer norm of the head's
    channels, to which the coordinates of the point are appended (to Q too, without a norm), O joins the heads and F
    is a network of one hidden layer of 2 width with ReLU. There is no softmax and no other norm. A linear map in front
    lifts [input, coordinates]; then follow a linear map of [v, coordinates] to a few channels, the layers
    :math:`v \leftarrow \mathrm{SiLU}(K v + S v)` with K a `SpectralConv` and S a matrix, and a network per point.

    The mean over the points is a quadrature of an integral, and the operator takes every resolution at a cost linear in
    n. The error of the quadrature is of second order for cell centres and of first order where walls are nodes.

    Source: Cao, "Choose a Transformer: Fourier or Galerkin", NeurIPS 2021, arXiv:2105.14995, section 3 and its Darcy
    experiment, where convolutions and interpolations around the transformer let it act on a coarser grid than the data
    and boundary values are set to zero; here it acts on the grid of the data and nothing is set. No dropout.
    """

    lifting: Dense
    layers: tuple["_Layer", ...]
    narrowing: Dense
    spectral: tuple["_SpectralLayer", ...]
    projection: MLP
    grid: Grid | None = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        head: SpectralHead,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights; Q, K and V start near 0.01 times the identity as published.

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            head: The Fourier layers after the transformer.
            width: Number of channels of the transformer.
            depth: Number of attention layers.
            heads: Number of heads.
            grid: If given, the coordinates of its points are used, in units of the extent; at other sizes those of a
                grid of that size with the same boundaries. Without it the operator commutes with translations.
            key: Of the random initial values.

        Raises:
            ValueError: If `heads` does not divide `width` or the grid's number of axes differs from that of the modes.
        """
        extra = count_coordinates(grid, head.modes)
        first, second, last, *inner = jax.random.split(key, 3 + depth + head.depth)
        self.lifting = Dense(in_channels + extra, width, key=first)
        self.layers = tuple(_Layer(width, heads, extra, key=key) for key in inner[:depth])
        self.narrowing = Dense(width + extra, head.width, key=second)
        self.spectral = tuple(_SpectralLayer(head, key=key) for key in inner[depth:])
        hidden = 2 * len(head.modes) * head.width
        self.projection = MLP((head.width, hidden, out_channels), activation=jax.nn.silu, key=last)
        self.grid = grid

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        dimensions = len(bare(self.spectral[0]).convolution.modes)
        cut.refuse(x, dimensions, "The attention of a Galerkin transformer")
        check_field(x, self.lifting.weight.shape[0] - (0 if self.grid is None else dimensions), dimensions)
        return fold_vmap(_apply, self, x)

    def repeated(self) -> tuple[PyTree, ...]:
        """The layers of attention and the Fourier layers."""
        return (*self.layers, *self.spectral)


def _apply(model: GalerkinTransformer, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    batch, channels, *space = x.shape
    places = None if model.grid is None else unit_coordinates(model.grid, tuple(space)).reshape(math.prod(space), -1)
    v = model.lifting(jnp.swapaxes(x.reshape(batch, channels, -1), 1, 2), places)
    for layer in model.layers:
        v = layer(v, places)
    v = model.narrowing(v, places).reshape(batch, *space, -1)
    v = jnp.moveaxis(v, 0, -2)  # the layout of the spectral layers
    for layer in model.spectral:
        v = layer(v)
    return jnp.moveaxis(model.projection(v), (-2, -1), (0, 1))


def _near_identity(key: PRNGKeyArray, shape: tuple[int, int]) -> Array:
    """0.01 (G + 1) for each of the three square maps side by side, G uniform with Glorot's variance."""
    size = shape[0]
    glorot = jax.nn.initializers.glorot_uniform()
    blocks = [0.01 * (glorot(key, (size, size)) + jnp.eye(size)) for key in jax.random.split(key, 3)]
    return jnp.concatenate(blocks, axis=1)


class _GalerkinAttention(eqx.Module):
    maps: Dense
    key_norm: LayerNorm
    value_norm: LayerNorm
    out: Dense
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int, coordinates: int, *, key: PRNGKeyArray) -> None:
        size = head_size(width, heads)
        maps_key, out_key = jax.random.split(key)
        self.maps = Dense(width, 3 * width, init=_near_identity, key=maps_key)
        self.key_norm = LayerNorm(heads, 1, size, epsilon=_EPSILON)
        self.value_norm = LayerNorm(heads, 1, size, epsilon=_EPSILON)
        self.out = Dense(width + heads * coordinates, width, key=out_key)
        self.heads = heads

    def __call__(
        self, v: Float[Array, "batch n width"], places: Float[np.ndarray, "n dimensions"] | None
    ) -> Float[Array, "batch n width"]:
        query, key, value = (split_heads(one, self.heads) for one in jnp.split(self.maps(v), 3, axis=-1))
        key, value = self.key_norm(key), self.value_norm(value)
        if places is not None:
            beside = jnp.broadcast_to(jnp.asarray(places, v.dtype), (*query.shape[:2], *places.shape))
            query, key, value = (jnp.concatenate([beside, one], axis=-1) for one in (query, key, value))
        moments = jnp.einsum("bhnk,bhnv->bhkv", key, value) / v.shape[1]
        return self.out(merge_heads(query @ moments))


class _Layer(eqx.Module):
    attention: _GalerkinAttention
    network: MLP

    def __init__(self, width: int, heads: int, coordinates: int, *, key: PRNGKeyArray) -> None:
        attention_key, network_key = jax.random.split(key)
        self.attention = _GalerkinAttention(width, heads, coordinates, key=attention_key)
        self.network = MLP((width, 2 * width, width), activation=jax.nn.relu, key=network_key)

    def __call__(
        self, v: Float[Array, "batch n width"], places: Float[np.ndarray, "n dimensions"] | None
    ) -> Float[Array, "batch n width"]:
        v = v + self.attention(v, places)
        return v + self.network(v)


class _SpectralLayer(eqx.Module):
    convolution: SpectralConv
    skip: Dense  # its constant is that of the convolution

    def __init__(self, head: SpectralHead, *, key: PRNGKeyArray) -> None:
        convolution_key, skip_key = jax.random.split(key)
        self.convolution = SpectralConv(head.width, head.width, head.modes, key=convolution_key)
        self.skip = Dense(head.width, head.width, bias=False, key=skip_key)

    def __call__(self, v: Float[Array, "*space batch width"]) -> Float[Array, "*space batch width"]:
        return jax.nn.silu(self.convolution.multiply(v) + self.skip(v))
