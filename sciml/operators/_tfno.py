"""Tensorised Fourier neural operator."""

from typing import final

import jax
from jaxtyping import PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import TuckerSpectralConv
from sciml.operators._fno import AbstractFNO, FourierBlock
from sciml.operators._pointwise import NEURALOPERATOR, Pointwise, count_coordinates, ends


@final
class TFNO(AbstractFNO):
    """`FNO` whose Fourier layers hold Tucker factorisations of their weights, see `sciml.nn.TuckerSpectralConv`.

    All else is as in `FNO`, which it equals where the factors multiply to the same weights.

    Source: Kossaifi, Kovachki, Azizzadenesheli, Anandkumar 2023, arXiv:2310.00120, without its domain decomposition;
    neuraloperator's TFNO has this form, with one rank for all layers.
    """

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
        self.lifting, self.projection = ends(inputs, out_channels, width, pointwise, (first, last))
        hidden = round(pointwise.mixing * width)
        self.blocks = tuple(
            FourierBlock(
                lambda key, rank=rank: TuckerSpectralConv(width, width, modes, rank=rank, key=key), width, hidden, key=k
            )
            for rank, k in zip(ranks, inner, strict=True)
        )
        self.grid = grid
        self.activation = pointwise.activation
