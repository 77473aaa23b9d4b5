"""Deep operator network."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.grid import Grid, Periodic
from sciml.nn import MLP, gelu, unit_coordinates
from sciml.operators._base import AbstractOperator, takes_any_field

_HARMONICS = (1, 2)  # of a periodic coordinate


@final
class DeepONet(AbstractOperator):
    r"""Deep operator network: coefficients from the input field times basis functions of the point.

    .. math::  u_c(x) = b_c + \sum_{k=1}^p \beta_{ck}(a) \, \tau_{ck}(x)

    The branch :math:`\beta` is a network of all values of the input on its grid, the trunk :math:`\tau` one of the
    coordinates, with the activation after its last layer too. One network each makes the values for all output
    channels c, p of them for each: of the ways to several outputs in Lu et al. 2022, the one that splits both. The
    result is defined at every point of the domain, but the branch reads the values of one grid: fields of other
    resolutions must be resampled.

    Coordinates enter in units of the extent. Along a periodic axis cos and sin of the first two harmonics stand for the
    coordinate, so that the result is periodic, as in the code of Lu et al. 2022 for Burgers' equation.

    Sources: Lu, Jin, Pang, Zhang, Karniadakis, Nature Machine Intelligence 3 (2021), arXiv:1910.03193, the unstacked
    form with bias; Lu et al., Computer Methods in Applied Mechanics and Engineering 393 (2022), arXiv:2111.05512.

    Attributes:
        branch: Network of the flattened field.
        trunk: Network of the coordinates.
        bias: One number per output channel.
        grid: Grid of the input.
    """

    branch: MLP
    trunk: MLP
    bias: Float[Array, " out"]
    grid: Grid = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        branch: tuple[int, ...] = (128, 128, 128),
        trunk: tuple[int, ...] = (128, 128),
        basis: int = 128,
        activation: Callable[[Array], Array] = gelu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights from Glorot's normal distribution; constants start as 0.

        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            grid: Grid of the input.
            branch: Hidden layers of the branch.
            trunk: Hidden layers of the trunk.
            basis: Number p of basis functions for each output channel.
            activation: Nonlinearity of both networks.
            key: Of the random initial values.
        """
        branch_key, trunk_key = jax.random.split(key)
        features = sum(2 * len(_HARMONICS) if isinstance(low, Periodic) else 1 for low, _ in grid.sides)
        options = {"activation": activation, "init": jax.nn.initializers.glorot_normal()}
        values = in_channels * int(np.prod(grid.shape))
        self.branch = MLP((values, *branch, out_channels * basis), **options, key=branch_key)
        self.trunk = MLP((features, *trunk, out_channels * basis), **options, key=trunk_key)
        self.bias = jnp.zeros(out_channels)
        self.grid = grid

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields at the points of the grid.

        Raises:
            ValueError: If the input has another number of channels, lives on another grid, or is cut over devices.
        """
        cut.refuse(x, len(self.grid.shape), "A DeepONet")
        places = unit_coordinates(self.grid, self.grid.shape).reshape(-1, len(self.grid.shape))
        return self._combine(x, jnp.asarray(places, x.dtype)).reshape(-1, *self.grid.shape)

    def at(self, x: Float[Array, "in *space"], points: Float[Array, "points dimensions"]) -> Float[Array, "out points"]:
        """The output at any points of the domain, given in the units of the grid's extent.

        Raises:
            ValueError: As for the call, or if the points have another number of coordinates than the grid axes.
        """
        if points.shape[1] != len(self.grid.shape):
            raise ValueError(
                f"Expected points with {len(self.grid.shape)} coordinates, got an array of shape {points.shape}. "
                "Give one row for each point."
            )
        return self._combine(x, points / jnp.asarray(self.grid.lengths, points.dtype)[None])

    def _combine(self, x: Array, places: Array) -> Array:
        channels = self.branch.layers[0].weight.shape[0] // int(np.prod(self.grid.shape))
        if x.shape[0] != channels:
            raise ValueError(
                f"Expected {channels} input channels, got {x.shape[0]} in a field of shape {x.shape}. Fields are "
                f"(channels, *space): build the operator with in_channels={x.shape[0]}, or map batches by jax.vmap."
            )
        self.grid.check(x)
        out = self.bias.shape[0]
        coefficients = self.branch(x.reshape(1, -1)).reshape(out, -1)
        # Without a batch axis under vmap: the basis is evaluated once for all samples.
        basis = self.trunk.activation(self.trunk(_features(self.grid, places))).reshape(places.shape[0], out, -1)
        return jnp.einsum("ck,nck->cn", coefficients, basis) + self.bias[:, None]


def _features(grid: Grid, places: Float[Array, "points dimensions"]) -> Float[Array, "points features"]:
    """What the trunk sees of coordinates in units of the extent."""
    columns = []
    for (low, _), column in zip(grid.sides, places.T, strict=True):
        if isinstance(low, Periodic):
            phases = [2 * jnp.pi * k * column for k in _HARMONICS]
            columns += [wave(phase) for phase in phases for wave in (jnp.cos, jnp.sin)]
        else:
            columns.append(column)
    return jnp.stack(columns, axis=1)
