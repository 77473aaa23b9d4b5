"""Convolution whose stencil skips points."""

import math
from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import AbstractBoundary, Dirichlet, Periodic, Sides, per_side
from sciml.nn._conv import check_channels, extend, uniform_in_fan


@final
class DilatedConv(eqx.Module):
    """Correlation y[o, i] = b[o] + sum_{a, c} w[a, c, o] x[c, i + dilation (a - 1)] with 3 points along each axis.

    The field continues beyond the walls as its boundary says. Weights and bias start as those of `Conv`.

    Attributes:
        weight: `(3, ..., in, out)`.
        bias: `(out,)`.
    """

    weight: Float[Array, "..."]
    bias: Float[Array, " out"]
    dilation: int = eqx.field(static=True)
    sides: tuple[Sides, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dimensions: int,
        dilation: int,
        boundary: AbstractBoundary | Sequence[AbstractBoundary | Sides] = Periodic(),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            dimensions: Number of axes of space.
            dilation: Grid spacings between neighbouring points of the stencil.
            boundary: One for all sides, or for each axis one or a pair (low side, high side).
            key: Of the random initial values.
        """
        kernel, (w_key, b_key) = (3,) * dimensions, jax.random.split(key)
        self.weight = uniform_in_fan(w_key, (*kernel, in_channels, out_channels), in_channels * math.prod(kernel))
        self.bias = uniform_in_fan(b_key, (out_channels,), in_channels * math.prod(kernel))
        self.dilation = dilation
        self.sides = per_side(boundary, dimensions)

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The correlation of one sample.

        Raises:
            ValueError: If the number of axes or channels differs from the kernel's, or if a periodic axis is shorter
                than the dilation.
        """
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)

    def channels_last(self, x: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        """The same for fields with a leading batch axis and the channels last."""
        dimensions, reach = len(self.sides), self.dilation
        check_channels(x, dimensions, self.weight.shape[-2])
        for n, (low, _) in zip(x.shape[1:-1], self.sides, strict=True):
            if isinstance(low, Periodic) and n < reach:
                raise ValueError(
                    f"A stencil of dilation {reach} needs a periodic axis of at least {reach} points, got {n}. "
                    "Use smaller dilations or a finer grid."
                )
        padded, _ = extend(x, self.sides, (reach,) * dimensions, (reach,) * dimensions)
        zeros = lambda side: reach if isinstance(side, Dirichlet) else 0
        padding = [(zeros(low), zeros(high)) for low, high in self.sides]
        axes = "DHW"[-dimensions:]
        layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
        one, spread = (1,) * dimensions, (reach,) * dimensions
        dtype = jnp.result_type(padded, self.weight)
        operands = padded.astype(dtype), self.weight.astype(dtype)
        y = lax.conv_general_dilated(*operands, one, padding, None, spread, layout)
        return y + jnp.broadcast_to(self.bias, y.shape)
