"""Residual networks on one grid: of dilated convolutions, of blocks with the activation first, and with means."""

import math
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml import cut
from sciml.grid import Grid
from sciml.nn import Conv, Dense, DilatedConv, FieldNorm, apply_layer, gelu
from sciml.operators._base import AbstractOperator, takes_any_field
from sciml.operators._unet import ResidualBlock


@final
class DilatedResNet(AbstractOperator):
    """Dilated residual network: u <- u + activation(K_7(... activation(K_1 u))) for each block, one grid throughout.

    Each K is a 3-point stencil along each axis whose points lie `dilation` spacings apart, so that a block with the
    published dilations sees 22 points in each direction. A stencil to the width comes first, one to the channels of
    the output last. Sizes are free as long as the boundary can continue the field by the largest dilation, and on a
    periodic grid the operator commutes with every shift. It acts at other resolutions, but trained stencils belong to
    one spacing: `Resampled` keeps it.

    Source: Stachenfeld et al., "Learned coarse models for efficient turbulence simulation", ICLR 2022,
    arXiv:2112.15275, "Dil-ResNet" with its 4 blocks of 7 stencils. Width 64 is that of benchmarks of operators:
    1,035,201 parameters with one channel in and out. Differs from the source in the boundary's padding.

    Attributes:
        encoder: The stencil from the input's channels to the width.
        blocks: The dilated stencils of each block in their order.
        decoder: The stencil to the channels of the output.
    """

    encoder: Conv
    blocks: tuple[tuple[Conv | DilatedConv, ...], ...]
    decoder: Conv
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 64,
        dilations: Sequence[Sequence[int]] = ((1, 2, 4, 8, 4, 2, 1),) * 4,
        activation: Callable[[Array], Array] = jax.nn.relu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields continue beyond the walls.
            width: Number of channels inside.
            dilations: Of the stencils of each block, in grid spacings.
            activation: Applied after each stencil of a block, elementwise.
            key: Of the random initial values.
        """
        encoder_key, decoder_key, *keys = jax.random.split(key, 2 + sum(map(len, dilations)))
        remaining = iter(keys)
        kernel = (3,) * len(grid.shape)
        self.encoder = Conv(in_channels, width, kernel=kernel, boundary=grid.sides, key=encoder_key)
        self.blocks = tuple(
            tuple(_stencil(width, dilation, grid, next(remaining)) for dilation in block) for block in dilations
        )
        self.decoder = Conv(width, out_channels, kernel=kernel, boundary=grid.sides, key=decoder_key)
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's, or if an axis is too short for
                the dilations.
        """
        u = self.encoder.channels_last(jnp.moveaxis(x, 0, -1)[None])
        for block in self.blocks:
            u = apply_layer(self._block, block, u)
        return jnp.moveaxis(self.decoder.channels_last(u)[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """The blocks."""
        return self.blocks

    def _block(self, block: tuple[Conv | DilatedConv, ...], u: Array) -> Array:
        y = u
        for conv in block:
            y = self.activation(conv.channels_last(y))
        return u + y


def _stencil(width: int, dilation: int, grid: Grid, key: PRNGKeyArray) -> Conv | DilatedConv:
    if dilation == 1:  # the gradients of `Conv` take half of the time on CPUs
        return Conv(width, width, kernel=(3,) * len(grid.shape), boundary=grid.sides, key=key)
    return DilatedConv(width, width, dimensions=len(grid.shape), dilation=dilation, boundary=grid.sides, key=key)


@final
class ModernResNet(AbstractOperator):
    """Residual network of blocks that begin with their activation: u <- u + K2 activation(K1 activation(u)).

    Each K is a 3-point stencil along each axis; matrices of the channels lift the input and lead to the output. Such a
    block can be the identity, and nothing but sums stands between the input and the last matrix. With `norm` a
    normalisation is in front of each activation. Sizes are free, and on a periodic grid the operator commutes with
    every shift. It acts at other resolutions, but trained stencils belong to one spacing: `Resampled` keeps it.

    Source: He et al., "Identity mappings in deep residual networks", ECCV 2016, arXiv:1603.05027, in the form of Gupta,
    Brandstetter 2022, arXiv:2209.15616, and of APEBench's "MoRes" (Koehler et al. 2024, arXiv:2411.00180), which is
    `norm=FieldNorm`; width 26 with 8 blocks has 32,943 parameters with one channel in and out of one axis, and 832 more
    with these normalisations.

    Attributes:
        lift: The matrix from the input's channels to the width.
        blocks: The residual blocks in their order.
        head: The matrix to the channels of the output.
    """

    lift: Conv
    blocks: tuple[ResidualBlock, ...]
    head: Conv
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 26,
        blocks: int = 8,
        norm: Callable[[int], FieldNorm] | None = None,
        activation: Callable[[Array], Array] = gelu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields continue beyond the walls.
            width: Number of channels inside.
            blocks: Number of residual blocks.
            norm: Makes the normalisations from the number of channels, or None for none.
            activation: In front of each stencil, elementwise.
            key: Of the random initial values.
        """
        lift_key, head_key, *keys = jax.random.split(key, 2 + blocks)
        kernel = (1,) * len(grid.shape)
        self.lift = Conv(in_channels, width, kernel=kernel, boundary=grid.sides, key=lift_key)
        self.blocks = tuple(ResidualBlock(width, width, grid, one, norm) for one in keys)
        self.head = Conv(width, out_channels, kernel=kernel, boundary=grid.sides, key=head_key)
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        return _through(self, x)

    def repeated(self) -> tuple[PyTree, ...]:
        """The blocks."""
        return self.blocks


@final
class GlobalResNet(AbstractOperator):
    """Residual network whose blocks see a stencil and the mean over the domain: u <- u + M activation(S u + G mean(u)).

    S is a stencil of `kernel` points along each axis with a constant per channel, G and M are matrices of the channels,
    M with a constant per channel. Stencils of the same size lift the input and lead to the output. Equations with a
    term that depends on an integral over the domain, such as a pressure or a mean that is held at zero, cannot be
    followed by stencils alone; a mean costs one number per channel. On a grid with walls the mean is that of the
    points. Sizes are free, and on a periodic grid the operator commutes with every shift. It acts at other resolutions,
    but trained stencils belong to one spacing: `Resampled` keeps it.

    Source: the mean that is added at every point is the global context of Cao et al., "GCNet", arXiv:1904.11492, with
    equal weights for all points and one matrix.

    Attributes:
        lift: The stencil from the input's channels to the width.
        blocks: The residual blocks in their order.
        head: The stencil to the channels of the output.
    """

    lift: Conv
    blocks: tuple["_GlobalBlock", ...]
    head: Conv
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 24,
        blocks: int = 6,
        kernel: int = 7,
        activation: Callable[[Array], Array] = gelu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields continue beyond the walls.
            width: Number of channels inside.
            blocks: Number of residual blocks.
            kernel: Points of each stencil along each axis.
            activation: In the middle of each block, elementwise.
            key: Of the random initial values.
        """
        lift_key, head_key, *keys = jax.random.split(key, 2 + blocks)
        size = (kernel,) * len(grid.shape)
        self.lift = Conv(in_channels, width, kernel=size, boundary=grid.sides, key=lift_key)
        self.blocks = tuple(_GlobalBlock(width, size, grid, one) for one in keys)
        self.head = Conv(width, out_channels, kernel=size, boundary=grid.sides, key=head_key)
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        return _through(self, x)

    def repeated(self) -> tuple[PyTree, ...]:
        """The blocks."""
        return self.blocks


def _through(network: ModernResNet | GlobalResNet, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
    """Lift, blocks and head, on fields with the channels last."""
    u = network.lift.channels_last(jnp.moveaxis(x, 0, -1)[None])
    for block in network.blocks:
        u = block(u, network.activation)
    return jnp.moveaxis(network.head.channels_last(u)[0], -1, 0)


class _GlobalBlock(eqx.Module):
    """u <- u + M activation(S u + G mean(u)), see `GlobalResNet`."""

    stencil: Conv
    context: Dense
    mixing: Dense

    def __init__(self, width: int, kernel: tuple[int, ...], grid: Grid, key: PRNGKeyArray) -> None:
        first, second, third = jax.random.split(key, 3)
        self.stencil = Conv(width, width, kernel=kernel, boundary=grid.sides, key=first)
        self.context = Dense(width, width, bias=False, key=second)
        self.mixing = Dense(width, width, key=third)

    def __call__(
        self, u: Float[Array, "batch *space width"], activation: Callable[[Array], Array]
    ) -> Float[Array, "batch *space width"]:
        points = math.prod(u.shape[1:-1])
        # A product: XLA's reduction over the points is slow on CPUs.
        mean = cut.mean_over_parts(jnp.full(points, 1 / points, u.dtype) @ u.reshape(u.shape[0], points, -1))
        context = jnp.expand_dims(self.context(mean), range(1, u.ndim - 1))
        return u + self.mixing(activation(self.stencil.channels_last(u) + context))
