"""U-Net of ConvNeXt blocks."""

import itertools
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Conv, Dense, DepthwiseConv, LayerNorm, RMSNorm, gelu
from sciml.operators._base import AbstractOperator, takes_any_field


@final
class ConvNeXtUNet(AbstractOperator):
    r"""U-Net of ConvNeXt blocks, which see 7 points along each axis of each channel apart.

    .. math::  u \leftarrow u + s \odot (W_2 \, \mathrm{gelu}(W_1 \, N(D u) + b_1) + b_2)

    D is a `DepthwiseConv` of 7 points along each axis, N a `LayerNorm` over the channels of each point,
    :math:`W_1` and :math:`W_2` matrices of the channels with 4 times as many in between, s one factor per channel that
    starts small. A stencil leads to the first width. On the way down each level but the coarsest has `blocks` blocks;
    an `RMSNorm` of the channels and a kernel of 2 points with stride 2 lead to the next one. The coarsest level has
    `neck` and then `blocks` more; on the way up each level but the coarsest and the finest mixes its own field with the
    skip connection, what entered its blocks on the way down, by one matrix, and has `blocks` blocks. Between levels are
    an `RMSNorm` and a transposed kernel of 2 points with stride 2, at the end a stencil to the channels of the output.

    n points become ceil(n / 2), so every size works whose coarsest level still has 3 points along each periodic axis
    and 4 between Neumann walls. Shifts and resolutions as for `UNet`, with one level less than there are widths.

    Source: "CNextU-net" of The Well (Ohana et al. 2024, arXiv:2412.00568), blocks of Liu et al., "A ConvNet for the
    2020s", CVPR 2022, arXiv:2201.03545. As in The Well's code, the finest level has no blocks and no skip connection on
    the way up. Differs from it in the boundary's padding, in sizes that are not divisible, and in the scale of
    normalisations between levels, which start with mean square 1 instead of norm 1; their constants, which that code
    holds but never uses, are left out.

    Attributes:
        lift: The stencil from the input's channels to the first width.
        down: For each level but the coarsest its blocks.
        coarsen: The normalisation and the strided kernel after each of them.
        neck: Blocks of the coarsest level at the end of the way down.
        up: For each level but the finest, coarsest first, its blocks on the way up.
        mix: The matrix in front of the blocks of each level of `up` but the coarsest.
        refine: The normalisation and the transposed kernel after each level of `up`.
        head: The stencil to the channels of the output.
    """

    lift: Conv
    down: tuple[tuple["_Block", ...], ...]
    coarsen: tuple[tuple[RMSNorm, Conv], ...]
    neck: tuple["_Block", ...]
    up: tuple[tuple["_Block", ...], ...]
    mix: tuple[Dense, ...]
    refine: tuple["_Refinement", ...]
    head: Conv

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        widths: Sequence[int] = (42, 84, 168, 336, 672),
        blocks: int = 2,
        neck: int = 1,
        layer_scale: float = 1e-6,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields of all levels continue beyond the walls.
            widths: Number of channels of each level, finest first.
            blocks: Number of blocks of a level on each way.
            neck: Number of blocks of the coarsest level at the end of the way down.
            layer_scale: First value of the factors s.
            key: Of the random initial values.

        Raises:
            ValueError: If there are fewer than two levels.
        """
        if len(widths) < 2:
            raise ValueError(f"Expected the widths of at least 2 levels, got {tuple(widths)}. Use widths=(42, 84).")
        kernel, sides = (3,) * len(grid.shape), grid.sides
        two = (2,) * len(kernel)
        lift_key, head_key, neck_key, *keys = jax.random.split(key, 3 + 5 * (len(widths) - 1))
        remaining = iter(keys)
        stack = lambda width, count, key: tuple(
            _Block(width, grid, layer_scale, one) for one in jax.random.split(key, count)
        )
        self.lift = Conv(in_channels, widths[0], kernel=kernel, boundary=sides, key=lift_key)
        self.head = Conv(widths[0], out_channels, kernel=kernel, boundary=sides, key=head_key)
        self.down = tuple(stack(width, blocks, next(remaining)) for width in widths[:-1])
        self.coarsen = tuple(
            (
                RMSNorm(fine, epsilon=_TINY),
                Conv(fine, coarse, kernel=two, stride=2, boundary=sides, key=next(remaining)),
            )
            for fine, coarse in itertools.pairwise(widths)
        )
        self.neck = stack(widths[-1], neck, neck_key)
        self.up = tuple(stack(width, blocks, next(remaining)) for width in widths[:0:-1])
        self.mix = tuple(Dense(2 * width, width, key=next(remaining)) for width in widths[-2:0:-1])
        self.refine = tuple(
            _Refinement(coarse, fine, len(kernel), next(remaining))
            for coarse, fine in itertools.pairwise(reversed(widths))
        )

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's, or if the coarsest level has too
                few points for its boundary.
        """
        u, entered = self.lift.channels_last(jnp.moveaxis(x, 0, -1)[None]), []
        for blocks, (norm, conv) in zip(self.down, self.coarsen, strict=True):
            entered.append(u)
            u = conv.channels_last(norm(_through(blocks, u)))
        u = _through(self.neck, u)
        for level, (blocks, refinement) in enumerate(zip(self.up, self.refine, strict=True)):
            skip = entered.pop()
            u = _through(blocks, u)
            u = refinement(u, skip.shape[1:-1])
            if level < len(self.mix):
                u = self.mix[level](jnp.concatenate((u, skip), -1))
        return jnp.moveaxis(self.head.channels_last(u)[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """The blocks."""
        return tuple(itertools.chain(*self.down, self.neck, *self.up))


_TINY = 1e-12  # only keeps a field of zeros from dividing by 0


class _Block(eqx.Module):
    depthwise: DepthwiseConv
    norm: LayerNorm
    expand: Dense
    contract: Dense
    scale: Float[Array, " channels"]

    def __init__(self, width: int, grid: Grid, layer_scale: float, key: PRNGKeyArray) -> None:
        keys = jax.random.split(key, 3)
        self.depthwise = DepthwiseConv(width, kernel=(7,) * len(grid.shape), boundary=grid.sides, key=keys[0])
        self.norm = LayerNorm(width, epsilon=1e-6)
        self.expand = Dense(width, 4 * width, key=keys[1])
        self.contract = Dense(4 * width, width, key=keys[2])
        self.scale = jnp.full(width, layer_scale)

    def __call__(self, u: Array) -> Array:
        y = self.contract(gelu(self.expand(self.norm(self.depthwise.channels_last(u)))))
        return u + y * jnp.broadcast_to(self.scale, y.shape)


def _through(blocks: tuple[Callable[[Array], Array], ...], u: Array) -> Array:
    for block in blocks:
        u = block(u)
    return u


class _Refinement(eqx.Module):
    """y[2 i + a] = W[a] N(u)[i] + b: every coarse point becomes 2 along each axis; an odd end is cut off."""

    norm: RMSNorm
    points: Dense
    bias: Float[Array, " out"]

    def __init__(self, into: int, out: int, dimensions: int, key: PRNGKeyArray) -> None:
        self.norm = RMSNorm(into, epsilon=_TINY)
        self.points = Dense(into, out * 2**dimensions, bias=False, key=key)
        self.bias = jnp.zeros(out)

    def __call__(self, u: Array, fine: tuple[int, ...]) -> Array:
        d, channels = len(fine), self.bias.shape[0]
        y = self.points(self.norm(u)).reshape(*u.shape[:-1], *(2,) * d, channels)
        order = [0, *(axis for i in range(d) for axis in (1 + i, 1 + d + i)), 2 * d + 1]
        y = y.transpose(order).reshape(u.shape[0], *(2 * n for n in u.shape[1:-1]), channels)
        y = y[(slice(None), *(slice(n) for n in fine))]
        return y + jnp.broadcast_to(self.bias, y.shape)
