"""Convolutions, dilated ones and transposed ones; the boundary decides how fields continue beyond the walls."""

import math
from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.grid import Boundaries, Dirichlet, Periodic, Sides, continuation, per_side
from sciml.nn._matrices import MatrixAxes, kernel_axes
from sciml.nn._stencils import Stencil, correlation


@final
class Conv(eqx.Module):
    """Correlation y[o, i] = b[o] + sum_{a, c} w[a, c, o] x[c, stride i + a - (k - 1) // 2] in one to three dimensions.

    The kernel is centred and the field continues beyond each wall as its boundary says; nodes 0, stride, 2 stride, ...
    are kept, n becomes ceil(n / stride). With `inner`, nodes 1, 1 + stride, ... are kept as far as a 3-point stencil
    lies inside of the grid, so that nothing continues: stride 2 makes (n - 1) // 2 of n.

    Weights and bias start uniform in +-1 / sqrt(in_channels * kernel size).

    Attributes:
        weight: `(*kernel, in, out)`. A kernel in PyTorch's layout `(out, in, *kernel)` is this one after
            `transpose(2, ..., 1, 0)`.
        bias: `(out,)` or None.
    """

    weight: Float[Array, "..."]
    bias: Float[Array, " out"] | None
    stride: int = eqx.field(static=True)
    inner: bool = eqx.field(static=True)
    sides: tuple[Sides, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Sequence[int],
        stride: int = 1,
        inner: bool = False,
        boundary: Boundaries = Periodic(),
        bias: bool = True,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            kernel: Size of the kernel along each axis of space.
            stride: Spacing of the points that are kept, the same along each axis.
            inner: Whether only points are kept whose stencil lies inside of the grid; for kernels of 3 points.
            boundary: One for all sides, or for each axis one or a pair (low side, high side).
            bias: Whether a constant is added to each channel.
            key: Of the random initial values.

        Raises:
            ValueError: If `inner` meets a kernel of other than 3 points along an axis.
        """
        if inner and set(kernel) != {3}:
            raise ValueError(f"inner=True is for kernels of 3 points along each axis, got {tuple(kernel)}.")
        w_key, b_key = jax.random.split(key)
        self.weight = uniform_in_fan(w_key, (*kernel, in_channels, out_channels), in_channels * math.prod(kernel))
        self.bias = uniform_in_fan(b_key, (out_channels,), in_channels * math.prod(kernel)) if bias else None
        self.stride = stride
        self.inner = inner
        self.sides = per_side(boundary, len(kernel))

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix: the stencil of the input against the output."""
        return {"weight": kernel_axes(len(self.sides))}

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *coarse"]:
        """The correlation of one sample.

        Raises:
            ValueError: If the number of axes or channels differs from the kernel's.
        """
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)

    def channels_last(self, x: Float[Array, "batch *space in"]) -> Float[Array, "batch *coarse out"]:
        """The same for fields with a leading batch axis and the channels last, the layout of the computation."""
        check_channels(x, len(self.sides), self.weight.shape[-2])
        kernel = self.weight.shape[:-2]
        if math.prod(kernel) == self.stride == 1:
            y = x @ self.weight.reshape(self.weight.shape[-2:])
        else:
            check_parts(x, self.stride)
            if self.inner:
                cut.refuse(x, len(kernel), "A stencil that keeps inner nodes alone")
            margin = (0,) * len(kernel) if self.inner else tuple((k - 1) // 2 for k in kernel)
            coarse = tuple(coarsened(n, self.stride, inner=self.inner) for n in x.shape[1:-1])
            beyond = margin if self.inner else self._beyond(x, margin)
            padded, low = extend(x, self.sides, margin, beyond)
            stencil = Stencil(kernel, (self.stride,) * len(kernel), low, padded.shape[1:-1], coarse)
            y = correlation.forward(padded, self.weight, stencil)
        return y if self.bias is None else y + jnp.broadcast_to(self.bias, y.shape)

    def _beyond(self, x: Array, margin: tuple[int, ...]) -> tuple[int, ...]:
        """Values beyond the high ends: of a part only those that a kept node sees, because they have to be sent."""
        names, kernel, s = cut.axes(x, len(self.sides)), self.weight.shape[:-2], self.stride
        return tuple(
            k // 2 if name is None else (n // s - 1) * s + k - n - before
            for k, n, before, name in zip(kernel, x.shape[1:-1], margin, names, strict=True)
        )


@final
class Prolongation(eqx.Module):
    """Transposed convolution from every second node to a grid: y[o, 2i + a - 1] += w[a, o, c] x[c, i].

    The kernel has 3 points along an axis of odd size, where it can be the linear interpolation, and 4 along an axis of
    even size, where the last node lies beyond the last coarse node. With `inner` the coarse nodes are 1, 3, ... as in
    `Conv`: y[o, 2i + a] += w[a, o, c] x[c, i]. Weights start uniform in +-1 / sqrt(out_channels * kernel size),
    PyTorch's rule for transposed convolutions.

    Attributes:
        weight: `(*kernel, out, in)`. A kernel in PyTorch's layout `(in, out, *kernel)` is this one after
            `transpose(2, ..., 1, 0)`.
    """

    weight: Float[Array, "..."]
    fine: tuple[int, ...] = eqx.field(static=True)
    inner: bool = eqx.field(static=True)
    sides: tuple[Sides, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        fine: Sequence[int],
        inner: bool = False,
        boundary: Boundaries = Dirichlet(),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the coarse field.
            out_channels: Number of channels of the fine field.
            fine: Shape of the fine grid; the coarse one has half of it, rounded up.
            inner: Whether the coarse nodes are 1, 3, ... instead, (n - 1) // 2 of n.
            boundary: How the coarse field continues beyond the walls. `Dirichlet()`, zeros, is what a transposed
                convolution does by itself; with `Periodic()` the map commutes with shifts by two nodes.
            key: Of the random initial values.
        """
        kernel = tuple(3 if n % 2 else 4 for n in fine)
        self.weight = uniform_in_fan(key, (*kernel, out_channels, in_channels), out_channels * math.prod(kernel))
        self.fine = tuple(fine)
        self.inner = inner
        self.sides = per_side(boundary, len(fine))

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix: the stencil of the output against the input."""
        return {"weight": kernel_axes(len(self.sides))}

    def __call__(self, x: Float[Array, "in *coarse"]) -> Float[Array, "out *fine"]:
        """The fine field of one sample.

        Raises:
            ValueError: If the coarse field has another shape than the fine grid's every second node.
        """
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)

    def channels_last(self, x: Float[Array, "batch *coarse in"]) -> Float[Array, "batch *fine out"]:
        """The same for fields with a leading batch axis and the channels last."""
        check_channels(x, len(self.sides), self.weight.shape[-1])
        coarse = tuple(coarsened(n, 2, inner=self.inner) for n in self.fine)
        names = cut.axes(x, len(self.fine))
        if self.inner:
            cut.refuse(x, len(names), "A prolongation from inner nodes")
        if cut.whole_shape(x.shape[1:-1], names) != coarse:
            raise ValueError(
                f"Prolongation to the grid {self.fine} expects the coarse shape {coarse}, got {x.shape[1:-1]}. "
                "Build it for the grid of the data."
            )
        padded, before = extend(x, self.sides, (1,) * len(self.fine), (1,) * len(self.fine))
        kernel = self.weight.shape[:-2]
        low = tuple(1 - self.inner + 2 * (1 - missing) for missing in before)
        fine = tuple(n // cut.parts(name) for n, name in zip(self.fine, names, strict=True))
        stencil = Stencil(kernel, (2,) * len(kernel), low, fine, padded.shape[1:-1])
        return correlation.input_gradient(padded, self.weight, stencil)


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
        dilation: int,
        dimensions: int,
        boundary: Boundaries = Periodic(),
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

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix: the stencil of the input against the output."""
        return {"weight": kernel_axes(len(self.sides))}

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
        zeros = lambda side, name: reach if isinstance(side, Dirichlet) and name is None else 0
        names = cut.axes(x, dimensions)
        padding = [(zeros(low, name), zeros(high, name)) for (low, high), name in zip(self.sides, names, strict=True)]
        axes = "DHW"[-dimensions:]
        layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
        one, spread = (1,) * dimensions, (reach,) * dimensions
        dtype = jnp.result_type(padded, self.weight)
        operands = padded.astype(dtype), self.weight.astype(dtype)
        y = lax.conv_general_dilated(*operands, one, padding, None, spread, layout)
        return y + jnp.broadcast_to(self.bias, y.shape)


def uniform_in_fan(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Array:
    """Initial weights, uniform in +-1 / sqrt(fan_in)."""
    return jax.random.uniform(key, shape, minval=-1, maxval=1) / math.sqrt(fan_in)


def coarsened(n: int, stride: int, *, inner: bool) -> int:
    """Number of the nodes that a strided stencil keeps of `n`, see `Conv`."""
    return (n - 3) // stride + 1 if inner else -(-n // stride)


def check_channels(x: Array, dimensions: int, channels: int) -> None:
    """Raises ValueError unless `x` is `(batch, *space, channels)` with that number of axes of space and channels."""
    if x.ndim != dimensions + 2 or x.shape[-1] != channels:
        raise ValueError(
            f"Expected {channels} channels on a grid of {dimensions} dimensions, got {x.shape[-1]} channels on a grid "
            f"of shape {x.shape[1:-1]}. Fields are (channels, *space): map batches by jax.vmap."
        )


def extend(
    x: Array, sides: Sequence[Sides], before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[Array, tuple[int, ...]]:
    """Continues `x` beyond the ends that are no Dirichlet walls, and counts the zeros that are left to add before it.

    Where an axis is cut over devices, both ends are continued, at walls of the whole field by what the wall says.
    """
    missing, names = [], cut.axes(x, len(sides))
    for axis, (pair, name, *widths) in enumerate(zip(sides, names, before, after, strict=True), start=1):
        ends = [
            width if name or not isinstance(side, Dirichlet) else 0 for side, width in zip(pair, widths, strict=True)
        ]
        missing.append(widths[0] - ends[0])
        if any(ends):
            low, high = continuation(x, axis, pair, (ends[0], ends[1]), name)
            x = jnp.concatenate([part for part in (low, x, high) if part.shape[axis]], axis)
    return x, tuple(missing)


def check_parts(x: Float[Array, "batch *space channels"], stride: int) -> None:
    """Raises ValueError where a part of a cut axis does not begin and end between two nodes that a stride keeps."""
    for n, name in zip(x.shape[1:-1], cut.axes(x, x.ndim - 2), strict=True):
        if name is not None and n % stride:
            raise ValueError(
                f"Every node number {stride} is kept, but a part of the axis cut along {name!r} has {n} points. "
                f"Cut it into parts whose number of points is divisible by {stride} on each finer level."
            )
