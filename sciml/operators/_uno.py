"""U-shaped neural operator."""

import dataclasses
import math
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml import cut
from sciml.grid import Grid
from sciml.nn import Dense, InstanceNorm, SpectralConv, bare, fourier_resample
from sciml.operators._pointwise import AbstractFourierNetwork, Pointwise, count_coordinates, network


@dataclasses.dataclass(frozen=True)
class Stage:
    """One Fourier layer of a `UNO`.

    Attributes:
        channels: Number of channels of its result.
        modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
        scale: For each axis the number of points of its result as a factor of that of the operator's input. The
            product is rounded and at least 1.
        norm: Makes the layer before the nonlinearity from the number of channels, such as `InstanceNorm`.
    """

    channels: int
    modes: tuple[int, ...]
    scale: tuple[float | int, ...]
    norm: Callable[[int], InstanceNorm] | None = None


_POINTWISE = Pointwise(lifting=0.5, mixing=0, projection=1)


@final
class UNO(AbstractFourierNetwork):
    r"""U-shaped neural operator on a uniform grid, of any size, in 1 to 3 dimensions.

    .. math::  v_0 = \sigma(P(a, x)), \quad v_l = \sigma(N_l(K_l \tilde v_{l-1} + R_l S_l \tilde v_{l-1})), \quad
               u = Q(\tilde v_{2n+1})

    The result of stage l lives on a grid of its own size. K is a `SpectralConv` from grid to grid, S a matrix per
    point, R a trigonometric interpolation, N a norm or nothing, P and Q networks of at most one hidden layer per point,
    x the coordinates in units of the extent. Of the 2n + 1 stages the first n contract, one is in the middle, and the
    last n expand: to the result of stage 2n + 1 - i the channels of the result of stage i of the same size are
    appended, :math:`\tilde v_{2n+1-i} = (v_{2n+1-i}, v_i)` for i = 0 ... n - 1, where stage 0 is the lifted input.

    Source: Rahman, Ross, Azizzadenesheli 2023, TMLR, arXiv:2204.11127, and the authors' code, which interpolates by
    cubic splines that depend on the number of points, and pads the domain where it is not periodic. Here frequencies
    that both grids resolve are kept, in any number of dimensions, and nothing is padded.

    A trained operator acts at other resolutions. Without coordinates it commutes with translations by whole points of
    the coarsest grid, if all sizes are divisible.
    """

    blocks: tuple["_Block", ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        stages: tuple[Stage, ...],
        pointwise: Pointwise = _POINTWISE,
        gain: float = 1.0,
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ):
        """Weights are drawn as in `FNO`.

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            width: Number of channels of the lifted input.
            stages: The Fourier layers; stage 2n + 1 - i has the scale of stage i, the last one scale 1.
            pointwise: Sizes, as multiples of the width, and activation of the layers that act on each point; there is
                no mixing.
            gain: Factor of the initial weights of the Fourier layers, as of `FNO`.
            grid: If given, the coordinates of its points are appended to the input, as in `FNO`.
            key: Random key.

        Raises:
            ValueError: If the stages do not make a U, differ in their number of axes from one another or from the grid,
                or if `pointwise` asks for mixing networks.
        """
        if pointwise.mixing:
            raise ValueError(f"UNO has no mixing networks, got mixing={pointwise.mixing}. Leave them out by mixing=0.")
        modes = stages[0].modes if stages else ()
        _check_u_shape(stages, len(modes))
        first, last, *inner = jax.random.split(key, len(stages) + 2)
        inputs = in_channels + count_coordinates(grid, modes)
        self.lifting = network((inputs, int(pointwise.lifting * width), width), first)
        blocks, skips, channels = [], [width], width
        for i, (stage, k) in enumerate(zip(stages, inner, strict=True)):
            blocks.append(_Block(channels, stage, gain=gain, key=k))
            channels = stage.channels
            if i + 1 < len(stages) // 2:
                skips.append(channels)
            if i > len(stages) // 2:
                channels += skips.pop()
        self.blocks = tuple(blocks)
        self.projection = network((channels, int(pointwise.projection * width), out_channels), last)
        self.grid = grid
        self.activation = pointwise.activation

    @property
    def dimensions(self) -> int:
        """Number of axes of the fields."""
        return len(bare(self.blocks[0]).scale)

    def repeated(self) -> tuple[PyTree, ...]:
        """P, the stages and Q."""
        return (self.lifting, *self.blocks, self.projection)

    def body(self, v: Float[Array, "*space batch width"]) -> Float[Array, "*space batch out"]:
        """The stages, with their skip connections."""
        space, middle = v.shape[: self.dimensions], len(self.blocks) // 2
        v = self.activation(v)
        skips = [v]
        for i, block in enumerate(self.blocks):
            v = block(v, space, self.activation)
            if i + 1 < middle:
                skips.append(v)
            if i > middle:
                v = jnp.concatenate([v, skips.pop()], axis=-1)
        return v


def _check_u_shape(stages: tuple[Stage, ...], dimensions: int) -> None:
    if len(stages) < 3 or len(stages) % 2 == 0:
        raise ValueError(
            f"Expected an odd number of stages, at least 3, got {len(stages)}. "
            "Give as many that expand as contract, and one between them."
        )
    for number, stage in enumerate(stages, 1):
        if len(stage.modes) != dimensions or len(stage.scale) != dimensions or min(stage.scale) <= 0:
            raise ValueError(
                f"Stage {number} has modes={stage.modes} and scale={stage.scale}, expected {dimensions} positive "
                "numbers in both. Give one for each axis of the field."
            )
    scales = [(1,) * dimensions, *(stage.scale for stage in stages)]
    for number in range(len(stages) // 2):
        mirrored = len(stages) - number
        if scales[number] != scales[mirrored]:
            raise ValueError(
                f"Stage {mirrored} has scale={scales[mirrored]}, expected that of stage {number}, {scales[number]}, "
                "whose result is appended (0 is the lifted input). Give both the same scale."
            )


class _Block(eqx.Module):
    spectral: SpectralConv
    skip: Dense
    norm: InstanceNorm | None
    scale: tuple[float | int, ...] = eqx.field(static=True)

    def __init__(self, in_channels: int, stage: Stage, *, gain: float, key: PRNGKeyArray):
        spectral_key, skip_key = jax.random.split(key)
        self.spectral = SpectralConv(in_channels, stage.channels, stage.modes, gain=gain, key=spectral_key)
        self.skip = Dense(in_channels, stage.channels, bias=False, key=skip_key)
        self.norm = None if stage.norm is None else stage.norm(stage.channels)
        self.scale = tuple(stage.scale)

    def __call__(
        self, x: Float[Array, "*space batch in"], whole: tuple[int, ...], activation: Callable[[Array], Array]
    ) -> Float[Array, "*other batch out"]:
        space = tuple(max(1, round(n * scale)) for n, scale in zip(whole, self.scale, strict=True))
        for n, size, scale, name in zip(whole, space, self.scale, cut.axes(x, len(space)), strict=True):
            if name is not None and abs(n * scale - size) > 1e-9:
                raise ValueError(
                    f"A stage of scale {scale} needs parts whose number of points it keeps whole, got {n} points along "
                    f"{name!r}. Cut this axis into fewer parts, or choose sizes that are divisible."
                )
        # Matrix and interpolation commute: the matrix acts on the smaller grid.
        if math.prod(space) > math.prod(x.shape[: len(space)]):
            skip = fourier_resample(self.skip(x), space)
        else:
            skip = self.skip(fourier_resample(x, space))
        y = self.spectral.multiply(x, space) + skip
        return activation(y if self.norm is None else self.norm.normalise(y))
