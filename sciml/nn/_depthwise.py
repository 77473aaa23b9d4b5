"""Convolutions that act on each channel apart."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.grid import Boundaries, Periodic, Sides, per_side
from sciml.nn._bilinear import Bilinear
from sciml.nn._conv import check_channels, extend, uniform_in_fan
from sciml.nn._stencils import Stencil


@final
class DepthwiseConv(eqx.Module):
    """Correlation of each channel with a kernel of its own: y[c, i] = b[c] + sum_a w[a, c] x[c, i + a - k // 2].

    The kernel has an odd number k of points along each axis and is centred; the field continues beyond each wall as its
    boundary says. Weights and bias start uniform in +-1 / sqrt(kernel size).

    Attributes:
        weight: `(*kernel, channels)`. A kernel in PyTorch's layout `(channels, 1, *kernel)` is this one after
            `[:, 0]` and `transpose(1, ..., 0)`.
        bias: `(channels,)`.
    """

    weight: Float[Array, "..."]
    bias: Float[Array, " channels"]
    sides: tuple[Sides, ...] = eqx.field(static=True)

    def __init__(
        self, channels: int, *, kernel: Sequence[int], boundary: Boundaries = Periodic(), key: PRNGKeyArray
    ) -> None:
        """Draws the weights.

        Args:
            channels: Number of channels of input and output.
            kernel: Size of the kernel along each axis of space, odd.
            boundary: One for all sides, or for each axis one or a pair (low side, high side).
            key: Of the random initial values.

        Raises:
            ValueError: If a size of the kernel is even.
        """
        if any(k % 2 == 0 for k in kernel):
            raise ValueError(
                f"Expected an odd size along each axis, got the kernel {tuple(kernel)}. Use 7 points, say."
            )
        w_key, b_key = jax.random.split(key)
        self.weight = uniform_in_fan(w_key, (*kernel, channels), math.prod(kernel))
        self.bias = uniform_in_fan(b_key, (channels,), math.prod(kernel))
        self.sides = per_side(boundary, len(kernel))

    def __call__(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """The correlation of one sample.

        Raises:
            ValueError: If the number of axes or channels differs from the kernel's, or if an axis that is not Dirichlet
                has too few points to continue the field.
        """
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)

    def channels_last(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """The same for fields with a leading batch axis and the channels last."""
        check_channels(x, len(self.sides), self.weight.shape[-1])
        kernel = self.weight.shape[:-1]
        reach = tuple(k // 2 for k in kernel)
        for n, far, (low, _) in zip(x.shape[1:-1], reach, self.sides, strict=True):
            if isinstance(low, Periodic) and n < far:
                raise ValueError(
                    f"A kernel of {2 * far + 1} points needs a periodic axis of at least {far} points, got {n}. "
                    "Use fewer levels or a finer grid."
                )
        padded, missing = extend(x, self.sides, reach, reach)
        stencil = Stencil(kernel, (1,) * len(kernel), missing, padded.shape[1:-1], x.shape[1:-1])
        y = depthwise.forward(padded, self.weight, stencil)
        return y + jnp.broadcast_to(self.bias, y.shape)


def _forward(x: Array, w: Array, stencil: Stencil) -> Array:
    axes = "DHW"[-len(stencil.kernel) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    kernel, one = w[..., None, :], (1,) * len(axes)
    return lax.conv_general_dilated(x, kernel, one, stencil.padding, None, None, layout, w.shape[-1])


def _weight_gradient(x: Array, y: Array, stencil: Stencil) -> Array:
    w = cut.like(jnp.zeros((*stencil.kernel, x.shape[-1]), x.dtype), x)
    return jax.linear_transpose(lambda w: _forward(x, w, stencil), w)(y)[0]


def _input_gradient(y: Array, w: Array, stencil: Stencil) -> Array:
    return _forward(y, *_transposed(w, stencil))


def _transposed(w: Array, stencil: Stencil) -> tuple[Array, Stencil]:
    low = tuple(k - 1 - low for k, low in zip(stencil.kernel, stencil.low, strict=True))
    return lax.rev(w, range(len(low))), Stencil(stencil.kernel, stencil.stride, low, stencil.coarse, stencil.fine)


# Sums of shifted fields are fused into one pass. XLA's own grouped convolution takes 25 to 50 times as long on CPUs:
# 70 ms instead of 1.4 ms for 7x7 points of 48 channels on 32x32, batch 16. Barriers keep XLA from computing what makes
# the field anew for each of the shifts, and for each shift of each later layer: without them a training step of two
# levels on 160 points compiles for minutes, with them in 6 seconds.
_TERMS_AT_ONCE = 49


def _cpu_forward(x: Array, w: Array, stencil: Stencil) -> Array:
    x, w = _with_zeros(x, stencil), w.reshape(*stencil.kernel, *(1,) * (x.ndim - 1), w.shape[-1])
    if math.prod(stencil.kernel) <= _TERMS_AT_ONCE:
        places = itertools.product(*map(range, stencil.kernel))
        return functools.reduce(jnp.add, (_window(x, at, stencil) * w[at] for at in places))
    rows = w.reshape(-1, *w.shape[len(stencil.kernel) - 1 :])

    def add(total: Array, of_row: tuple[Array, Array]) -> tuple[Array, None]:
        line, row = _row(x, of_row[0], stencil), of_row[1]
        return total + sum(_along_last(line, a, stencil) * row[a] for a in range(len(row))), None

    total = jnp.zeros_like(x, shape=(x.shape[0], *stencil.coarse, x.shape[-1]))
    return lax.scan(add, total, (_places(stencil), rows))[0]


def _cpu_input_gradient(y: Array, w: Array, stencil: Stencil) -> Array:
    return _cpu_forward(y, *_transposed(w, stencil))


def _cpu_weight_gradient(x: Array, y: Array, stencil: Stencil) -> Array:
    x, y, points = _with_zeros(x, stencil), lax.optimization_barrier(y), tuple(range(y.ndim - 1))

    def of_row(_: None, at: Array) -> tuple[None, Array]:
        line = _row(x, at, stencil)
        return None, jnp.stack([(_along_last(line, a, stencil) * y).sum(points) for a in range(stencil.kernel[-1])])

    return lax.scan(of_row, None, _places(stencil))[1].reshape(*stencil.kernel, x.shape[-1])


def _with_zeros(x: Array, stencil: Stencil) -> Array:
    edges = [(0, 0, 0), *((*pair, 0) for pair in stencil.padding), (0, 0, 0)]
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), edges))


def _window(x: Array, at: tuple[int, ...], stencil: Stencil) -> Array:
    return x[(slice(None), *(slice(a, a + n) for a, n in zip(at, stencil.coarse, strict=True)))]


def _places(stencil: Stencil) -> Array:
    """Offsets of the rows of the kernel along all axes but the last, `(rows, axes - 1)`."""
    leading = list(itertools.product(*map(range, stencil.kernel[:-1])))
    return jnp.asarray(leading, jnp.int32).reshape(len(leading), len(stencil.kernel) - 1)


def _row(x: Array, at: Array, stencil: Stencil) -> Array:
    """The part of `x` that one row of the kernel sees; the last axis is whole."""
    zero = jnp.zeros((), at.dtype)
    start = (zero, *(at[i] for i in range(at.shape[0])), zero, zero)
    return lax.dynamic_slice(x, start, (x.shape[0], *stencil.coarse[:-1], *x.shape[-2:]))


def _along_last(line: Array, a: int, stencil: Stencil) -> Array:
    return lax.slice_in_dim(line, a, a + stencil.coarse[-1], axis=line.ndim - 2)


depthwise = Bilinear(
    "depthwise",
    reference=(_forward, _input_gradient, _weight_gradient),
    cpu=(_cpu_forward, _cpu_input_gradient, _cpu_weight_gradient),
)
