"""Convolutional neural operator."""

import itertools
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Conv, FieldNorm, check_field, filtered_activation, fold_vmap, gelu
from sciml.operators._base import AbstractOperator, takes_any_field


@final
class CNO(AbstractOperator):
    r"""Convolutional neural operator: a U-Net whose activations respect the band limit of each grid.

    .. math::  v_{l+1} = P_l\,\Sigma_l\,(K_l v_l)

    K is a 3-point stencil along each axis, :math:`\Sigma` the activation between an interpolation to twice the points
    and a low-pass filter, P the passage to the grid of the next level; the last two are one `nn.filtered_activation`.
    A lifting layer, K Sigma K, comes first. `levels` layers halve the grid and double the width; residual blocks,
    v + norm(K Sigma norm(K v)), act on the skip connection of each level and on the coarsest field; as many layers
    double the grid, each on [field, skip]; a projection layer is last.

    All levels are grids on one box with the boundaries of `grid`, n points become ceil(n / 2), and every size works. On
    a periodic grid whose sizes 2^levels divides, shifts by that number of points commute with the operator. It acts at
    other resolutions, but trained stencils belong to one spacing: `Resampled`, which is how the source does it, keeps
    that.

    Source: Raonić et al., "Convolutional neural operators for robust and accurate learning of PDEs", NeurIPS 2023,
    arXiv:2302.01178, section 2. Differs from it in the boundary's padding, in the filters, and in `nn.FieldNorm` for
    batch normalisation, which is a state of the training.

    Attributes:
        lift: The two stencils of the lifting.
        down: The layers that halve the grid.
        skips: The residual blocks of each level's skip connection, finest first.
        neck: The residual blocks of the coarsest level.
        up: The layers that double the grid, coarsest first.
        project: The two stencils of the projection.
    """

    lift: tuple[Conv, Conv]
    down: tuple["_Layer", ...]
    skips: tuple[tuple["_Block", ...], ...]
    neck: tuple["_Block", ...]
    up: tuple["_Layer", ...]
    project: tuple[Conv, Conv]
    grid: Grid = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 16,
        levels: int = 3,
        blocks: tuple[int, int] = (4, 6),
        activation: Callable[[Array], Array] = gelu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: The box and its boundaries.
            width: Number of channels on the finest grid; each level doubles it.
            levels: How many times the grid is halved.
            blocks: Number of residual blocks (of each skip connection, of the coarsest level).
            activation: The nonlinearity, elementwise.
            key: Of the random initial values.
        """
        keys = iter(jax.random.split(key, 4 + levels * (2 + blocks[0]) + blocks[1]))
        stencil = lambda into, out: _stencil(into, out, grid, next(keys))
        widths = [width * 2**level for level in range(levels + 1)]
        joined = [*(2 * w for w in widths[:-1]), widths[-1]]  # from below and from the skip connection
        self.lift = (stencil(in_channels, width), stencil(width, width))
        self.down = tuple(_Layer(a, b, grid, next(keys)) for a, b in itertools.pairwise(widths))
        self.skips = tuple(tuple(_Block(w, grid, next(keys)) for _ in range(blocks[0])) for w in widths[:-1])
        self.neck = tuple(_Block(widths[-1], grid, next(keys)) for _ in range(blocks[1]))
        self.up = tuple(_Layer(joined[i + 1], widths[i], grid, next(keys)) for i in reversed(range(levels)))
        self.project = (stencil(joined[0], width), stencil(width, out_channels))
        self.grid = grid
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's, or if the coarsest level has too
                few points.
        """
        check_field(x, self.lift[0].weight.shape[-2], len(self.grid.shape))
        return fold_vmap(_apply, self, x)

    def repeated(self) -> tuple[PyTree, ...]:
        """The layers between grids and the residual blocks."""
        return tuple(itertools.chain(self.down, *self.skips, self.neck, self.up))


def _apply(model: CNO, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    activation, grids, finer = model.activation, [model.grid.with_shape(x.shape[2:])], []
    u = model.lift[0].channels_last(jnp.moveaxis(x, 1, -1))
    u = model.lift[1].channels_last(filtered_activation(activation, u, grids[0], grids[0]))
    for layer in model.down:
        finer.append(u)
        grids.append(model.grid.with_shape(tuple((n + 1) // 2 for n in grids[-1].shape)))
        u = layer(u, activation, *grids[-2:])
    for block in model.neck:
        u = block(u, activation, grids[-1])
    for layer, chain in zip(model.up, model.skips[::-1], strict=True):
        coarse, skip = grids.pop(), finer.pop()
        for block in chain:
            skip = block(skip, activation, grids[-1])
        u = jnp.concatenate((layer(u, activation, coarse, grids[-1]), skip), -1)
    u = filtered_activation(activation, model.project[0].channels_last(u), grids[0], grids[0])
    return jnp.moveaxis(model.project[1].channels_last(u), -1, 1)


class _Layer(eqx.Module):
    conv: Conv
    norm: FieldNorm

    def __init__(self, into: int, out: int, grid: Grid, key: PRNGKeyArray) -> None:
        self.conv = _stencil(into, out, grid, key)
        self.norm = FieldNorm(out)

    def __call__(self, u: Array, activation: Callable[[Array], Array], here: Grid, there: Grid) -> Array:
        return filtered_activation(activation, self.norm.channels_last(self.conv.channels_last(u)), here, there)


class _Block(eqx.Module):
    layer: _Layer
    conv: Conv
    norm: FieldNorm

    def __init__(self, width: int, grid: Grid, key: PRNGKeyArray) -> None:
        first, second = jax.random.split(key)
        self.layer = _Layer(width, width, grid, first)
        self.conv = _stencil(width, width, grid, second)
        self.norm = FieldNorm(width)

    def __call__(self, u: Array, activation: Callable[[Array], Array], here: Grid) -> Array:
        y = self.conv.channels_last(self.layer(u, activation, here, here))
        return u + self.norm.channels_last(y)


def _stencil(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> Conv:
    return Conv(into, out, kernel=(3,) * len(grid.shape), boundary=grid.sides, key=key)
