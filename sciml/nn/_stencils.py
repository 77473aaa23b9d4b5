"""Correlation of a field with a small kernel as a bilinear map, in the fastest form for each gradient."""

import dataclasses

import jax
from jax import lax
from jaxtyping import Array

from sciml.nn._bilinear import Bilinear


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Static description of y[i] = sum_a w[a] x[stride i + a - low], with x = 0 outside of the fine grid.

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


def _layout(dimensions: int) -> tuple[str, str, str]:
    axes = "DHW"[-dimensions:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _forward(x: Array, w: Array, stencil: Stencil) -> Array:
    return lax.conv_general_dilated(
        x, w, stencil.stride, stencil.padding, dimension_numbers=_layout(len(stencil.kernel))
    )


def _input_gradient(y: Array, w: Array, stencil: Stencil) -> Array:
    x = jax.ShapeDtypeStruct((y.shape[0], *stencil.fine, w.shape[-2]), y.dtype)
    return jax.linear_transpose(lambda x: _forward(x, w, stencil), x)(y)[0]


def _weight_gradient(x: Array, y: Array, stencil: Stencil) -> Array:
    w = jax.ShapeDtypeStruct((*stencil.kernel, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: _forward(x, w, stencil), w)(y)[0]


REFERENCE = (_forward, _input_gradient, _weight_gradient)
correlation = Bilinear("correlation", REFERENCE, REFERENCE)
