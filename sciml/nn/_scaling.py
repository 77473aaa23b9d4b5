"""Fields between a grid and the one with half of its points along each axis."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.grid import Boundaries, Periodic, Sides, continuation, per_side
from sciml.nn._conv import check_channels, check_parts, extend, uniform_in_fan
from sciml.nn._matrices import MatrixAxes, kernel_axes
from sciml.nn._stencils import Stencil, correlation


def max_pool(x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *coarse channels"]:
    """The largest of every two neighbours along each axis of space; n becomes ceil(n / 2), an odd end stands alone."""
    check_parts(x, 2)
    for axis in range(1, x.ndim - 1):
        if x.shape[axis] % 2:
            x = jnp.concatenate((x, lax.slice_in_dim(x, -1, None, axis=axis)), axis)
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        x = jnp.maximum(*(lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1)))
    return x


def interpolate(
    x: Float[Array, "batch *coarse channels"], fine: Sequence[int], sides: Sequence[Sides]
) -> Float[Array, "batch *fine channels"]:
    """Linear interpolation from cells of two points to their points, the way back from `max_pool`.

    A point takes 3/4 of its own cell and 1/4 of the next one on its side. Beyond a wall the cells continue as the
    boundary says.

    Args:
        x: Values of the cells, ceil(n / 2) of them along an axis of n points.
        fine: Number of points along each axis.
        sides: The boundaries of each axis.
    """
    names = cut.axes(x, len(sides))
    for axis, (n, pair, name) in enumerate(zip(fine, sides, names, strict=True), start=1):
        before, after = continuation(x, axis, pair, (1, 1), name)
        m = x.shape[axis]
        left = jnp.concatenate((before, lax.slice_in_dim(x, 0, m - 1, axis=axis)), axis)
        right = jnp.concatenate((lax.slice_in_dim(x, 1, m, axis=axis), after), axis)
        pairs = jnp.stack((0.75 * x + 0.25 * left, 0.75 * x + 0.25 * right), axis + 1)
        points = pairs.reshape(*x.shape[:axis], 2 * m, *x.shape[axis + 1 :])
        x = lax.slice_in_dim(points, 0, n, axis=axis)
    return x


@final
class TransposedConv(eqx.Module):
    """Transposed convolution with 4 points along each axis: y[o, 2i + a - 1] += w[a, o, c] x[c, i], then + b[o].

    `Prolongation` belongs to one fine grid and has 3 points where that has an odd size; this one acts on all sizes.
    Weights start uniform in +-1 / sqrt(out_channels * 4^dimensions), PyTorch's rule.

    Attributes:
        weight: `(*kernel, out, in)`.
        bias: `(out,)`.
    """

    weight: Float[Array, "..."]
    bias: Float[Array, " out"]
    sides: tuple[Sides, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dimensions: int,
        boundary: Boundaries = Periodic(),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights; the coarse field continues beyond the walls as the boundary says."""
        w_key, b_key = jax.random.split(key)
        fan_in = out_channels * 4**dimensions
        self.weight = uniform_in_fan(w_key, (*(4,) * dimensions, out_channels, in_channels), fan_in)
        self.bias = uniform_in_fan(b_key, (out_channels,), fan_in)
        self.sides = per_side(boundary, dimensions)

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix: the stencil of the output against the input."""
        return {"weight": kernel_axes(len(self.sides))}

    def channels_last(
        self, x: Float[Array, "batch *coarse in"], fine: tuple[int, ...]
    ) -> Float[Array, "batch *fine out"]:
        """The field on the fine grid, whose sizes are 2 m or 2 m - 1 for m coarse points.

        Raises:
            ValueError: If the sizes or channels do not fit.
        """
        check_channels(x, len(self.sides), self.weight.shape[-1])
        if x.shape[1:-1] != tuple((n + 1) // 2 for n in fine):
            raise ValueError(
                f"The fine grid {fine} has {tuple((n + 1) // 2 for n in fine)} coarse points, got a field on "
                f"{x.shape[1:-1]}. Ask for twice the coarse size, or one point less."
            )
        one = (1,) * len(fine)
        padded, missing = extend(x, self.sides, one, one)
        low = tuple(1 + 2 * (1 - zeros) for zeros in missing)
        stencil = Stencil((4,) * len(fine), (2,) * len(fine), low, fine, padded.shape[1:-1])
        y = correlation.input_gradient(padded, self.weight, stencil)
        return y + jnp.broadcast_to(self.bias, y.shape)
