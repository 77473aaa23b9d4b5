"""Transformer whose attention acts between learned slices of the domain."""

import dataclasses
import itertools
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
    Conv,
    Dense,
    LayerNorm,
    TransformerBlock,
    attention,
    check_field,
    fold_vmap,
    head_size,
    merge_heads,
    split_heads,
    unit_coordinates,
)
from sciml.operators._base import AbstractOperator, takes_any_field

_COLDEST, _HOTTEST, _START = 0.1, 5.0, 0.5  # temperatures
_SMALL = 1e-9  # beside the share of a slice that no point chooses


@dataclasses.dataclass(frozen=True)
class Slicing:
    """The sizes of one Transolver layer.

    Attributes:
        heads: Number of heads.
        slices: Number of slices in each head.
        kernel: Points along each axis of the stencils that make a point's features: 3 is the published form on regular
            grids and belongs to one grid spacing, 1 is that on other meshes and serves every resolution.
        hidden: Hidden layer of the network at each point, in multiples of the width.
    """

    heads: int = 8
    slices: int = 64
    kernel: int = 3
    hidden: int = 1


_PUBLISHED = Slicing()


@final
class Transolver(AbstractOperator):
    r"""Transformer with physics attention on a uniform grid, in 1 to 3 dimensions.

    Pre-norm blocks whose attention acts between M slices instead of n points. In each head, with features
    :math:`f_i, g_i` of point i made from the norm's output by stencils:

    .. math::  w_i = \mathrm{softmax}(\Lambda g_i / \tau), \quad z_m = \frac{\sum_i w_{im} f_i}{\sum_i w_{im}}, \quad
               z' = \mathrm{softmax}(Q z (K z)^T / \sqrt{c}) V z, \quad f'_i = \sum_m w_{im} z'_m

    M weights per point that sum to 1, one token per slice, attention between the tokens, and its result distributed
    with the same weights. The temperature :math:`\tau` is learned, one per head, within 0.1 to 5. A slice with a share
    of less than 1e-9 of all weights counts as empty, its token is 0. A token is a ratio of quadratures, so that with
    `Slicing(kernel=1)` every resolution is taken. Larger stencils belong to their spacing: with them the operator takes
    fields on its own grid alone, and the field continues beyond walls as the boundary says.

    The input of each point is followed by its distances to a regular lattice of reference points, or by its
    coordinates, both in units of the extent.

    Source: Wu, Luo, Wang, Wang, Long, "Transolver: A Fast Transformer Solver for PDEs on General Geometries", ICML
    2024, arXiv:2402.02366, section 3, and its code for regular grids; the defaults are those of its Darcy experiment.
    There, stencils continue with zeros at every wall, and a constant that stands for a missing input is learned. Its
    code draws Lambda orthogonal, as here, and then overwrites it with small normal numbers.
    """

    lifting: MLP
    blocks: tuple[TransformerBlock, ...]
    norm: LayerNorm
    head: Dense
    grid: Grid = eqx.field(static=True)
    references: int = eqx.field(static=True)
    kernel: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 128,
        depth: int = 8,
        slicing: Slicing = _PUBLISHED,
        references: int = 8,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights: truncated normal of deviation 0.02 and constants 0, but Lambda and the stencils.

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            grid: Grid of input and output.
            width: Number of channels inside.
            depth: Number of blocks.
            slicing: Sizes of a block.
            references: Number of reference points along each axis, from 0 to the extent; 0 for coordinates instead.
            key: Of the random initial values.

        Raises:
            ValueError: If the heads do not divide the width.
        """
        first, last, *inner = jax.random.split(key, depth + 2)
        dimensions = len(grid.shape)
        extra = references**dimensions if references else dimensions
        init = jax.nn.initializers.truncated_normal(0.02)
        self.lifting = MLP((in_channels + extra, 2 * width, width), init=init, key=first)
        self.blocks = tuple(_block(width, slicing, grid, key) for key in inner)
        self.norm = LayerNorm(width)
        self.head = Dense(width, out_channels, init=init, key=last)
        self.grid = grid
        self.references = references
        self.kernel = slicing.kernel

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's, or if its stencils belong to
                another grid.
        """
        dimensions = len(self.grid.shape)
        extra = self.references**dimensions if self.references else dimensions
        cut.refuse(x, dimensions, "The attention of a Transolver")
        check_field(x, self.lifting.layers[0].weight.shape[0] - extra, dimensions)
        if self.kernel > 1:
            self.grid.check(x)
        return fold_vmap(_apply, self, x)

    def repeated(self) -> tuple[PyTree, ...]:
        """The blocks."""
        return self.blocks


def _apply(model: Transolver, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    places = unit_coordinates(model.grid, x.shape[2:])
    features = _distances(places, model.references) if model.references else places
    v = model.lifting(jnp.moveaxis(x, 1, -1), features)
    for block in model.blocks:
        v = block(v)
    return jnp.moveaxis(model.head(model.norm(v)), -1, 1)


def _distances(places: np.ndarray, references: int) -> np.ndarray:
    """Distances to the lattice of reference points, axes (*space, reference)."""
    axis = np.linspace(0, 1, references)
    lattice = np.array(list(itertools.product(axis, repeat=places.shape[-1])))
    squares = (places[..., None, :] - lattice.reshape((1,) * (places.ndim - 1) + lattice.shape)) ** 2
    return np.sqrt(squares.sum(-1))


def _block(width: int, slicing: Slicing, grid: Grid, key: PRNGKeyArray) -> TransformerBlock:
    attention_key, network_key = jax.random.split(key)
    return TransformerBlock(
        PhysicsAttention(width, slicing, grid, key=attention_key),
        width=width,
        hidden=slicing.hidden * width,
        init=jax.nn.initializers.truncated_normal(0.02),
        key=network_key,
    )


@final
class PhysicsAttention(eqx.Module):
    """Attention between the slices of a grid, see `Transolver`.

    Attributes:
        features: Stencils to [f, g] of all heads.
        assignment: Lambda, the same for all heads.
        maps: Q, K and V side by side, the same for all heads.
        out: Joins the heads.
        temperature: One number per head.
    """

    features: Conv
    assignment: Dense
    maps: Dense
    out: Dense
    temperature: Float[Array, " heads"]

    def __init__(self, width: int, slicing: Slicing, grid: Grid, *, key: PRNGKeyArray) -> None:
        """Draws the weights."""
        keys = jax.random.split(key, 4)
        size, init = head_size(width, slicing.heads), jax.nn.initializers.truncated_normal(0.02)
        kernel = (slicing.kernel,) * len(grid.shape)
        self.features = Conv(width, 2 * width, kernel=kernel, boundary=grid.sides, key=keys[0])
        self.assignment = Dense(size, slicing.slices, init=jax.nn.initializers.orthogonal(), key=keys[1])
        self.maps = Dense(size, 3 * size, bias=False, init=init, key=keys[2])
        self.out = Dense(width, width, init=init, key=keys[3])
        self.temperature = jnp.full(slicing.heads, _START)

    def __call__(self, x: Float[Array, "batch *space width"]) -> Float[Array, "batch *space width"]:
        """The distributed result of the attention between slices."""
        batch, *space, width = x.shape
        heads = self.temperature.shape[0]
        rows = self.features.channels_last(x).reshape(batch, math.prod(space), 2 * width)
        f, g = (split_heads(one, heads) for one in jnp.split(rows, 2, axis=-1))
        temperature = jnp.clip(self.temperature, _COLDEST, _HOTTEST).reshape(1, heads, 1, 1)
        weights = jax.nn.softmax(self.assignment(g) / temperature, axis=-1)
        sums = jnp.einsum("bhnm,bhnc->bhmc", weights, f) / math.prod(space)
        tokens = sums / (weights.mean(2)[..., None] + _SMALL)
        query, key, value = jnp.split(self.maps(tokens), 3, axis=-1)
        return self.out(merge_heads(weights @ attention(query, key, value))).reshape(x.shape)
