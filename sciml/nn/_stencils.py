"""Correlation of a field with a small kernel as a bilinear map, in the fastest form for each gradient."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from sciml.nn._bilinear import Bilinear


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Static description of y[i] = sum_a w[a] x[stride i + a - low], with x = 0 outside of the fine grid.

    Fields are `(batch, *space, channels)`; weights are `(*kernel, channels of x, channels of y)`.

    Attributes:
        kernel: Size of the kernel along each axis.
        stride: Fine spacings per coarse spacing along each axis.
        low: Position of the first coarse point in its kernel along each axis.
        fine: Shape of x.
        coarse: Shape of y.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    low: tuple[int, ...]
    fine: tuple[int, ...]
    coarse: tuple[int, ...]

    @property
    def padding(self) -> list[tuple[int, int]]:
        """Zeros (low, high) along each axis; a negative number drops values that no point reaches."""
        return [
            (low, (m - 1) * s + k - n - low)
            for k, s, low, n, m in zip(self.kernel, self.stride, self.low, self.fine, self.coarse, strict=True)
        ]


def _forward(x: Array, w: Array, stencil: Stencil) -> Array:
    axes = _axes(stencil)
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_general_dilated(x, w, stencil.stride, stencil.padding, None, None, layout)


def _input_gradient(y: Array, w: Array, stencil: Stencil) -> Array:
    axes = _axes(stencil)
    layout = (f"N{axes}C", f"{axes}OI", f"N{axes}C")
    spread = zip(stencil.kernel, stencil.stride, stencil.low, stencil.fine, stencil.coarse, strict=True)
    padding = [(k - 1 - low, n + low - 1 - (m - 1) * s) for k, s, low, n, m in spread]
    mirrored = lax.rev(w, range(len(axes)))
    return lax.conv_general_dilated(y, mirrored, (1,) * len(axes), padding, stencil.stride, None, layout)


def _weight_gradient(x: Array, y: Array, stencil: Stencil) -> Array:
    axes = _axes(stencil)
    layout = (f"C{axes}N", f"I{axes}O", f"{axes}NC")
    return lax.conv_general_dilated(x, y, (1,) * len(axes), stencil.padding, None, stencil.stride, layout)


def _axes(stencil: Stencil) -> str:
    return "DHW"[-len(stencil.kernel) :]


def _patches(x: Array, stencil: Stencil) -> Array:
    """The values of x that each coarse point sees, `(batch, *coarse, kernel size * channels)`."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in stencil.padding), (0, 0, 0)])
    return jnp.concatenate(
        [
            x[
                (
                    slice(None),
                    *(
                        slice(a, a + (m - 1) * s + 1, s)
                        for a, m, s in zip(at, stencil.coarse, stencil.stride, strict=True)
                    ),
                )
            ]
            for at in itertools.product(*map(range, stencil.kernel))
        ],
        -1,
    )


def _cpu_forward(x: Array, w: Array, stencil: Stencil) -> Array:
    """In double precision a matrix product: XLA has no fast convolution for it and takes long to compile its own."""
    if x.dtype != jnp.float64:
        return _forward(x, w, stencil)
    return _patches(x, stencil) @ w.reshape(-1, w.shape[-1])


def _taps(kernel: int, low: int, phase: int) -> tuple[int, list[int]]:
    """How x at 2 q + phase receives from y[q + d] with stride 2: the first d, and the index into w for each d."""
    taps = list(range((phase + low) % 2, kernel, 2))[::-1]
    return (phase + low - taps[0]) // 2, taps


def _cpu_input_gradient(y: Array, w: Array, stencil: Stencil) -> Array:
    """With stride 2, one convolution of y for the odd and one for the even points of each axis but the last.

    The points of both parities of the last axis are channels of one convolution, which in memory is their order on the
    fine grid. A convolution of y interleaved with zeros, the direct form, takes about twice the time.
    """
    if set(stencil.stride) == {1}:
        low = tuple(k - 1 - low for k, low in zip(stencil.kernel, stencil.low, strict=True))
        mirrored = jnp.swapaxes(lax.rev(w, range(len(low))), -1, -2)
        turned = Stencil(stencil.kernel, stencil.stride, low, stencil.coarse, stencil.fine)
        return _cpu_forward(y, mirrored, turned)
    if set(stencil.stride) != {2} or min(stencil.kernel) < 2:
        return _input_gradient(y, w, stencil)
    half = tuple((n + 1) // 2 for n in stencil.fine)
    *leading, last = [[_taps(k, low, p) for p in (0, 1)] for k, low in zip(stencil.kernel, stencil.low, strict=True)]
    first = min(d for d, _ in last)
    window = max(d + len(taps) for d, taps in last) - first
    tails = [_both_parities(w, last, first + i) for i in range(window)]
    parts = {}
    for phases in itertools.product((0, 1), repeat=len(leading)):
        chosen = [pair[p] for pair, p in zip(leading, phases, strict=True)]
        kernel = jnp.stack([tail[tuple(slice(t[-1], t[0] + 1, 2) for _, t in chosen)] for tail in tails], len(leading))
        starts, sizes = [*(d for d, _ in chosen), first], kernel.shape[: len(half)]
        low = tuple(-d for d in starts)
        part = _cpu_forward(
            y, lax.rev(kernel, range(len(leading))), Stencil(sizes, (1,) * len(half), low, stencil.coarse, half)
        )
        parts[phases] = part.reshape(*part.shape[:-2], 2 * part.shape[-2], part.shape[-1] // 2)
    x = _interleave(parts, len(leading))
    return x[(slice(None), *(slice(n) for n in stencil.fine))]


def _both_parities(w: Array, pair: Sequence[tuple[int, list[int]]], d: int) -> Array:
    """The kernel from y[q + d] to x[2 q] and x[2 q + 1] along the last axis, `(*leading, y channels, 2 x channels)`."""
    slices = [
        w[..., taps[d - first], :, :] if 0 <= d - first < len(taps) else jnp.zeros_like(w[..., 0, :, :])
        for first, taps in pair
    ]
    return jnp.swapaxes(jnp.concatenate(slices, -2), -1, -2)


def _interleave(parts: dict[tuple[int, ...], Array], axes: int) -> Array:
    """Joins the fields of each combination of parities, an axis at a time."""
    for axis in range(axes, 0, -1):
        parts = {
            phases: jnp.stack((parts[(*phases, 0)], parts[(*phases, 1)]), axis + 1)
            for phases in itertools.product((0, 1), repeat=axis - 1)
        }
        parts = {
            phases: part.reshape(*part.shape[:axis], -1, *part.shape[axis + 2 :]) for phases, part in parts.items()
        }
    return parts[()]


# Of 1024, 2048, 4096 and 8192 the fastest at 24 channels from 32x32 to 128x128, batch 4 and 8.
_POINTS_PER_PRODUCT = 2048


def _cpu_weight_gradient(x: Array, y: Array, stencil: Stencil) -> Array:
    """A correlation of x with y as the kernel, in blocks of rows that keep both in the processor's cache.

    In one piece it needs up to three times as long as in blocks where its operands exceed the cache.
    """
    if x.dtype == jnp.float64:
        patches = _patches(x, stencil).reshape(-1, math.prod(stencil.kernel) * x.shape[-1])
        product = patches.T @ y.reshape(-1, y.shape[-1])
        return product.reshape(*stencil.kernel, x.shape[-1], y.shape[-1])
    n, m = stencil.fine[0], stencil.coarse[0]
    stride, kernel, low = stencil.stride[0], stencil.kernel[0], stencil.low[0]
    rows = _rows(x.shape[0], m, stencil.coarse[1:])
    blocks = []
    for top in range(0, m, rows):
        bottom = min(top + rows, m)
        begin, end = stride * top - low, stride * (bottom - 1) - low + kernel
        first = min(max(begin, 0), n)
        last = max(min(end, n), first)
        part = dataclasses.replace(
            stencil,
            low=(first - begin, *stencil.low[1:]),
            fine=(last - first, *stencil.fine[1:]),
            coarse=(bottom - top, *stencil.coarse[1:]),
        )
        blocks.append(_weight_gradient(x[:, first:last], y[:, top:bottom], part))
    return sum(blocks[1:], blocks[0])


def _rows(batch: Any, rows: int, others: Sequence[int]) -> int:
    if not isinstance(batch, int):  # symbolic, while exporting
        return rows
    return min(rows, max(1, _POINTS_PER_PRODUCT // max(1, batch * math.prod(others))))


correlation = Bilinear(
    "correlation",
    reference=(_forward, _input_gradient, _weight_gradient),
    cpu=(_cpu_forward, _cpu_input_gradient, _cpu_weight_gradient),
)
