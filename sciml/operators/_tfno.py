"""Tensorised Fourier neural operator."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import Dense, TuckerSpectralConv
from sciml.operators._base import AbstractOperator
from sciml.operators._fno import FourierBlock, fourier_network
from sciml.operators._pointwise import NEURALOPERATOR, Pointwise, count_coordinates, network


@final
class TFNO(AbstractOperator):
    """`FNO` whose Fourier layers hold Tucker factorisations of their weights, see `sciml.nn.TuckerSpectralConv`.

    All else is as in `FNO`, which it equals where the factors multiply to the same weights.

    Source: Kossaifi, Kovachki, Azizzadenesheli, Anandkumar 2023, arXiv:2310.00120, without its domain decomposition;
    neuraloperator's TFNO has this form, with one rank for all layers.
    """

    lifting: tuple[Dense, ...]
    blocks: tuple[FourierBlock, ...]
    projection: tuple[Dense, ...]
    grid: Grid | None = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modes: tuple[int, ...],
        width: int,
        ranks: tuple[float | int | tuple[int, ...], ...] = (0.1,) * 4,
        pointwise: Pointwise = NEURALOPERATOR,
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ):
        """Weights are drawn as in `FNO`, cores and factors so that the products have the same variance.

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
            width: Number of channels inside.
            ranks: For each Fourier layer the fraction of the dense weight's parameters that it holds, or its ranks for
                the axes (modes ..., in, out): `(0.1,) * 4` are 4 layers with a tenth of the parameters.
            pointwise: Sizes and activation of the layers that act on each point.
            grid: If given, the coordinates of its points are appended to the input, as in `FNO`.
            key: Random key.

        Raises:
            ValueError: If the grid's number of axes differs from that of `modes`, or a rank does not fit.
        """
        first, last, *inner = jax.random.split(key, len(ranks) + 2)
        inputs = in_channels + count_coordinates(grid, modes)
        self.lifting = network((inputs, int(pointwise.lifting * width), width), first)
        hidden = round(pointwise.mixing * width)
        self.blocks = tuple(
            FourierBlock(
                lambda key, rank=rank: TuckerSpectralConv(width, width, modes, rank=rank, key=key), width, hidden, key=k
            )
            for rank, k in zip(ranks, inner, strict=True)
        )
        self.projection = network((width, int(pointwise.projection * width), out_channels), last)
        self.grid = grid
        self.activation = pointwise.activation

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        return fourier_network(self, x)
