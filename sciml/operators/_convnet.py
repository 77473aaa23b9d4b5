"""Stack of convolutions."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Conv, apply_layer
from sciml.operators._base import AbstractOperator, takes_any_field


@final
class ConvNet(AbstractOperator):
    """Feedforward stack u = K_depth activation(... K_1 activation(K_0 x)) of 3-point stencils along each axis.

    It sees `depth` + 1 points in each direction. Sizes are free, and on a periodic grid the operator commutes with
    every shift. It acts at other resolutions, but trained stencils belong to one spacing: `Resampled` keeps it.

    Source: "Conv" of APEBench (Koehler et al. 2024, arXiv:2411.00180). Its width 34 and depth 10 have 31,757 parameters
    with one channel in and out of one axis, the defaults here.

    Attributes:
        layers: The stencils in their order, one more than there are hidden layers.
    """

    layers: tuple[Conv, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 34,
        depth: int = 10,
        activation: Callable[[Array], Array] = jax.nn.relu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Decides the number of axes and how the fields continue beyond the walls.
            width: Number of channels of the hidden layers.
            depth: Number of hidden layers; without any the operator is one stencil.
            activation: Applied after each stencil but the last, elementwise.
            key: Of the random initial values.
        """
        channels, kernel = (in_channels, *(width,) * depth, out_channels), (3,) * len(grid.shape)
        self.layers = tuple(
            Conv(into, out, kernel=kernel, boundary=grid.sides, key=one)
            for into, out, one in zip(channels[:-1], channels[1:], jax.random.split(key, depth + 1), strict=True)
        )
        self.activation = activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        u, (*hidden, last) = jnp.moveaxis(x, 0, -1)[None], self.layers
        for layer in hidden:
            u = apply_layer(lambda layer, u: self.activation(layer.channels_last(u)), layer, u)
        return jnp.moveaxis(last.channels_last(u)[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """All stencils but the last, each with the activation after it."""
        return self.layers[:-1]
