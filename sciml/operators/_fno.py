"""Fourier neural operator."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Dense, SpectralConv, TuckerSpectralConv, along_last, bare
from sciml.operators._pointwise import (
    NEURALOPERATOR,
    AbstractFourierNetwork,
    Pointwise,
    count_coordinates,
    ends,
    network,
    run,
)


class AbstractFNO(AbstractFourierNetwork):
    """A Fourier network whose layers are `FourierBlock`s on one grid.

    Attributes:
        blocks: The layers in their order.
    """

    blocks: tuple["FourierBlock", ...]

    @property
    def dimensions(self) -> int:
        """Number of axes of the fields."""
        return len(bare(self.blocks[0]).spectral.modes)

    def repeated(self) -> tuple[PyTree, ...]:
        """P, the blocks and Q."""
        return (self.lifting, *self.blocks, self.projection)

    def body(self, v: Float[Array, "*space batch width"]) -> Float[Array, "*space batch width"]:
        """The blocks, the last one without a nonlinearity at its end."""
        for i, block in enumerate(self.blocks):
            v = block(v, self.activation, last=i == len(self.blocks) - 1)
        return v


@final
class FNO(AbstractFNO):
    r"""Fourier neural operator on a uniform grid, of any size, in 1 to 3 dimensions.

    .. math::  v_0 = P(a, x), \quad
               w_l = \sigma_l(K_l v_l + S_l v_l), \quad
               v_{l+1} = \sigma_l(M_l(w_l) + g_l v_l), \quad u = Q(v_{depth})

    K is a `SpectralConv`, S a matrix per point, M, P and Q networks of one hidden layer per point, g one factor per
    channel, and the nonlinearity :math:`\sigma_l` is left out in the last layer. x are the coordinates of the points
    in units of the extent. This is the architecture of neuraloperator 2.0 with its defaults. Equal weights give equal
    outputs on grids whose axes but the last have even sizes; on odd ones neuraloperator undoes `fftshift` by
    `fftshift`, which shifts its modes. The first FNO (Li et al. 2021, arXiv:2010.08895) is
    `Pointwise(lifting=0, mixing=0, projection=4)` at width 32, which leaves M and g out:
    :math:`v_{l+1} = \sigma_l(K_l v_l + S_l v_l)`.

    A trained operator acts at other resolutions: frequencies and coordinates are those of the domain, not of the grid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modes: tuple[int, ...],
        width: int,
        depth: int = 4,
        pointwise: Pointwise = NEURALOPERATOR,
        gain: float = 1.0,
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ):
        """Weights are drawn as in neuraloperator: Fourier layers normal, others uniform in +-1 / sqrt(inputs).

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
            width: Number of channels inside.
            depth: Number of Fourier layers.
            pointwise: Sizes and activation of the layers that act on each point.
            gain: Factor of the initial weights of the Fourier layers; neuraloperator has 1.
            grid: If given, the coordinates of its points are appended to the input. At other sizes they are those of a
                grid of that size with the same boundaries. Without it the operator commutes with translations.
            key: Random key.

        Raises:
            ValueError: If the grid's number of axes differs from that of `modes`.
        """
        first, last, *inner = jax.random.split(key, depth + 2)
        inputs = in_channels + count_coordinates(grid, modes)
        self.lifting, self.projection = ends(inputs, out_channels, width, pointwise, (first, last))
        make = lambda key: SpectralConv(width, width, modes, gain=gain, key=key)
        self.blocks = tuple(FourierBlock(make, width, round(pointwise.mixing * width), key=k) for k in inner)
        self.grid = grid
        self.activation = pointwise.activation


class FourierBlock(eqx.Module):
    """A Fourier layer with its skip connection, mixing network and gate, see `FNO`."""

    spectral: SpectralConv | TuckerSpectralConv
    skip: Dense
    mixing: tuple[Dense, ...]
    gate: Float[Array, " width"] | None

    def __init__(
        self,
        make: Callable[[PRNGKeyArray], SpectralConv | TuckerSpectralConv],
        width: int,
        hidden: int,
        *,
        key: PRNGKeyArray,
    ):
        """`make(key)` is the spectral layer, `hidden` the size of the mixing network's hidden layer."""
        keys = jax.random.split(key, 3)
        self.spectral = make(keys[0])
        self.skip = Dense(width, width, bias=False, key=keys[1])
        self.mixing = network((width, hidden, width), keys[2]) if hidden else ()
        self.gate = jnp.ones(width) if hidden else None

    def __call__(
        self, x: Float[Array, "*space batch width"], activation: Callable[[Array], Array], *, last: bool
    ) -> Float[Array, "*space batch width"]:
        """The block's output; the `last` one has no nonlinearity at its end."""
        final = (lambda y: y) if last else activation
        y = final(self.spectral.multiply(x) + self.skip(x))
        if self.gate is None:
            return y
        return final(run(self.mixing, y, activation) + x * along_last(self.gate, x.ndim))
