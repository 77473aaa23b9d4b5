"""U-Nets: the classic one and one of residual blocks."""

import itertools
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Conv, FieldNorm, TransposedConv, gelu, interpolate, max_pool
from sciml.operators._base import AbstractOperator, takes_any_field


@final
class UNet(AbstractOperator):
    """The classic U-Net: stages of two convolutions on coarser and coarser grids, and back with skip connections.

    A stage is twice u <- activation(norm(K u)) with a 3-point stencil K along each axis, without bias. On the way down
    each but the first follows `nn.max_pool`; on the way up a stage acts on [skip, `nn.interpolate` of the coarser
    field] and ends with the width of the level above. A matrix of the channels and a constant per channel are last.

    n points become ceil(n / 2), so every size works; where 2^(levels - 1) divides all sizes of a periodic grid, the
    operator commutes with shifts by that number of points. It acts at other resolutions, but trained stencils belong to
    one spacing: `Resampled` keeps it.

    Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional networks for biomedical image segmentation", MICCAI 2015,
    in the bilinear variant that benchmarks of operators use. Differs from it in the boundary's padding, in cells that
    are interpolated about their centres instead of end to end, and in the normalisation: batch normalisation is a state
    of the training, `nn.FieldNorm` has the same parameters and none. As it follows a stencil without bias, the output
    does not change when the input is multiplied by a positive number: append a constant channel (or coordinates, or
    subtract a mean by `Normalised`) where the amplitude matters.

    Attributes:
        encoder: The stages on the way down.
        decoder: The stages on the way up.
        head: The affine map of the channels to those of the output.
    """

    encoder: tuple["_Stage", ...]
    decoder: tuple["_Stage", ...]
    head: Conv
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        activation: Callable[[Array], Array] = jax.nn.relu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields of all levels continue beyond the walls.
            widths: Number of channels of each level, finest first.
            activation: Applied after each normalisation, elementwise.
            key: Of the random initial values.

        Raises:
            ValueError: If there is no level.
        """
        _check_widths(widths)
        head_key, *keys = jax.random.split(key, 2 * len(widths))
        remaining = iter(keys)
        into = (in_channels, *widths[:-1])
        self.encoder = tuple(_Stage(a, b, b, grid, next(remaining)) for a, b in zip(into, widths, strict=True))
        decoder, coarser = [], widths[-1]
        for level in reversed(range(len(widths) - 1)):
            width, above = widths[level], widths[max(level - 1, 0)]
            decoder.append(_Stage(width + coarser, width, above, grid, next(remaining)))
            coarser = above
        self.decoder = tuple(decoder)
        self.head = Conv(widths[0], out_channels, kernel=(1,) * len(grid.shape), boundary=grid.sides, key=head_key)
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's, or if the coarsest level has too
                few points for its boundary.
        """
        u, finer = jnp.moveaxis(x, 0, -1)[None], []
        for stage in self.encoder:
            u = stage(max_pool(u) if finer else u, self.activation)
            finer.append(u)
        for stage, skip in zip(self.decoder, finer[-2::-1], strict=True):
            back = interpolate(u, skip.shape[1:-1], self.head.sides)
            u = stage(jnp.concatenate((skip, back), -1), self.activation)
        return jnp.moveaxis(self.head.channels_last(u)[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """The stages."""
        return (*self.encoder, *self.decoder)


class _Stage(eqx.Module):
    convs: tuple[Conv, ...]
    norms: tuple[FieldNorm, ...]

    def __init__(self, into: int, hidden: int, out: int, grid: Grid, key: PRNGKeyArray) -> None:
        first, second = jax.random.split(key)
        kernel, sides = (3,) * len(grid.shape), grid.sides
        self.convs = (
            Conv(into, hidden, kernel=kernel, boundary=sides, bias=False, key=first),
            Conv(hidden, out, kernel=kernel, boundary=sides, bias=False, key=second),
        )
        self.norms = (FieldNorm(hidden), FieldNorm(out))

    def __call__(self, u: Array, activation: Callable[[Array], Array]) -> Array:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            u = activation(norm.channels_last(conv.channels_last(u)))
        return u


@final
class ResidualUNet(AbstractOperator):
    """The modern U-Net: residual blocks, learned changes of the grid, a skip connection from every one of them.

    A block is u <- S u + K2 activation(norm(K1 activation(norm(u)))) with 3-point stencils K and a matrix S where the
    width changes. The way down has `blocks` of them per level and a stencil of stride 2 between levels, two more blocks
    follow on the coarsest level, and the way up has `blocks` + 1 per level, each on [u, skip], where the skips are the
    results of the way down in reverse, and `nn.TransposedConv` between levels. Every size works; shifts and resolutions
    as for `UNet`.

    Source: Gupta, Brandstetter, "Towards multi-spatiotemporal-scale generalized PDE modeling", 2022, arXiv:2209.15616,
    U-Net_mod without attention: width 64 there has widths (64, 128, 256, 1024). Differs from it in the boundary's
    padding and in the last normalisation, which has one group here as all others.

    Attributes:
        lift: The stencil from the input's channels to the first width.
        down: Blocks and strided stencils in their order.
        middle: The blocks of the coarsest level between the ways down and up.
        up: Blocks and transposed stencils in their order.
        norm: The normalisation in front of the head.
        head: The stencil to the channels of the output.
    """

    lift: Conv
    down: tuple["ResidualBlock | Conv", ...]
    middle: tuple["ResidualBlock", ...]
    up: tuple["ResidualBlock | TransposedConv", ...]
    norm: FieldNorm
    head: Conv
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        widths: Sequence[int] = (64, 128, 256, 1024),
        blocks: int = 2,
        activation: Callable[[Array], Array] = gelu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields of all levels continue beyond the walls.
            widths: Number of channels of each level, finest first.
            blocks: Number of residual blocks of each level on the way down.
            activation: Applied after each normalisation, elementwise.
            key: Of the random initial values.

        Raises:
            ValueError: If there is no level.
        """
        _check_widths(widths)
        dimensions, sides = len(grid.shape), grid.sides
        kernel = (3,) * dimensions
        lift_key, head_key, *keys = jax.random.split(key, 4 + len(widths) * (2 * blocks + 3))
        remaining = iter(keys)
        down: list[ResidualBlock | Conv] = []
        up: list[ResidualBlock | TransposedConv] = []
        for level, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)):
            if level:
                down.append(Conv(before, before, kernel=kernel, stride=2, boundary=sides, key=next(remaining)))
            down += [ResidualBlock(width if i else before, width, grid, next(remaining)) for i in range(blocks)]
            ascent: list[ResidualBlock | TransposedConv] = [
                ResidualBlock(2 * width, width, grid, next(remaining)) for _ in range(blocks)
            ]
            ascent.append(ResidualBlock(width + before, before, grid, next(remaining)))
            if level:
                ascent.append(
                    TransposedConv(before, before, dimensions=dimensions, boundary=sides, key=next(remaining))
                )
            up = ascent + up
        self.lift = Conv(in_channels, widths[0], kernel=kernel, boundary=sides, key=lift_key)
        self.down, self.up = tuple(down), tuple(up)
        self.middle = tuple(ResidualBlock(widths[-1], widths[-1], grid, next(remaining)) for _ in range(2))
        self.norm = FieldNorm(widths[0])
        self.head = Conv(widths[0], out_channels, kernel=kernel, boundary=sides, key=head_key)
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's, or if the coarsest level has too
                few points for its boundary.
        """
        results = [self.lift.channels_last(jnp.moveaxis(x, 0, -1)[None])]
        for layer in self.down:
            u = results[-1]
            results.append(layer.channels_last(u) if isinstance(layer, Conv) else layer(u, self.activation))
        u = results[-1]
        for block in self.middle:
            u = block(u, self.activation)
        for layer in self.up:
            if isinstance(layer, TransposedConv):
                u = layer.channels_last(u, results[-1].shape[1:-1])
            else:
                u = layer(jnp.concatenate((u, results.pop()), -1), self.activation)
        u = self.head.channels_last(self.activation(self.norm.channels_last(u)))
        return jnp.moveaxis(u[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """The residual blocks."""
        layers = (*self.down, *self.middle, *self.up)
        return tuple(layer for layer in layers if not isinstance(layer, Conv | TransposedConv))


class ResidualBlock(eqx.Module):
    """u <- S u + K2 activation(norm(K1 activation(norm(u)))), see `ResidualUNet`; without norms they are left out."""

    convs: tuple[Conv, ...]
    norms: tuple[FieldNorm, ...]
    shortcut: Conv | None

    def __init__(
        self, into: int, out: int, grid: Grid, key: PRNGKeyArray, norm: Callable[[int], FieldNorm] | None = FieldNorm
    ) -> None:
        first, second, third = jax.random.split(key, 3)
        kernel, sides = (3,) * len(grid.shape), grid.sides
        self.convs = (
            Conv(into, out, kernel=kernel, boundary=sides, key=first),
            Conv(out, out, kernel=kernel, boundary=sides, key=second),
        )
        self.norms = () if norm is None else (norm(into), norm(out))
        self.shortcut = None if into == out else Conv(into, out, kernel=(1,) * len(kernel), key=third)

    def __call__(self, u: Array, activation: Callable[[Array], Array]) -> Array:
        y = u
        for conv, norm in itertools.zip_longest(self.convs, self.norms):
            y = conv.channels_last(activation(y if norm is None else norm.channels_last(y)))
        return y + (u if self.shortcut is None else self.shortcut.channels_last(u))


def _check_widths(widths: Sequence[int]) -> None:
    if not widths:
        raise ValueError("Expected the width of at least one level, got none. Use widths=(64, 128, 256), finest first.")
