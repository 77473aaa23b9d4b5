"""Interpolation of fields between grids on the same box."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline

from sciml import cut
from sciml.grid import AbstractBoundary, Dirichlet, Grid, Neumann, Periodic


def _end(boundary: AbstractBoundary) -> str:
    """Condition of a spline at a wall: zero slope where a Neumann wall is stored, else nothing but smoothness."""
    return "clamped" if isinstance(boundary, Neumann) and boundary.gap == 0 else "not-a-knot"


@functools.lru_cache(maxsize=64)
def _matrix(source: Grid, target: Grid, axis: int) -> np.ndarray:
    """The cubic-spline interpolation matrix (target points, source points) along one axis."""
    at, wanted = source.points()[axis], target.points()[axis]
    values = np.eye(len(at))
    low, high = source.sides[axis]
    length = source.lengths[axis]
    if isinstance(low, Periodic):
        at, values = np.append(at, at[0] + length), np.vstack((values, values[:1]))
        return CubicSpline(at, values, bc_type="periodic")(at[0] + (wanted - at[0]) % length)
    zero = np.zeros((1, len(at)))
    if isinstance(low, Dirichlet) and low.gap:
        at, values = np.append(0.0, at), np.vstack((zero, values))
    if isinstance(high, Dirichlet) and high.gap:
        at, values = np.append(at, length), np.vstack((values, zero))
    if len(at) < 4:
        given = source.shape[axis]
        raise ValueError(f"A cubic spline needs 4 values along axis {axis}, got {given}. Use a finer grid.")
    ends: Any = (_end(low), _end(high))  # a pair is documented; the type stub knows a single string alone
    return CubicSpline(at, values, bc_type=ends)(wanted)


def resample(x: Float[Array, "channels *space"], source: Grid, target: Grid) -> Float[Array, "channels *other"]:
    """Values at the points of `target` of the cubic spline through the field `x` on `source`, axis by axis.

    The spline is periodic along periodic axes, zero at Dirichlet walls that are not stored, and has zero slope at
    stored Neumann walls. Points that the grids share keep their values.

    Raises:
        ValueError: If `x` is not on `source`, if the two grids do not cover the same box, or if an axis has too
            few points.
    """
    cut.refuse(x, x.ndim - 1, "A cubic spline")
    source.check(x)
    if source.lengths != target.lengths or len(source.shape) != len(target.shape):
        raise ValueError(
            f"Resampling needs two grids on the same box, got extents {source.lengths} and {target.lengths}. "
            "Give both grids the same extent."
        )
    for axis in range(len(source.shape)):
        if source.shape[axis] == target.shape[axis] and source.sides[axis] == target.sides[axis]:
            continue
        matrix = jnp.asarray(_matrix(source, target, axis), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(matrix, x, axes=(1, axis + 1)), 0, axis + 1)
    return x
