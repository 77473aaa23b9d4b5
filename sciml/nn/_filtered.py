"""Activations of band-limited fields: interpolated to a finer grid, filtered on the way back."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import cut
from sciml.grid import Grid, Periodic, Sides

# Half of the window in spacings of the coarser grid, and the parameter of the Kaiser window, 0.1102 (A - 8.7) for an
# attenuation of A = 60 dB. The filter falls from 1 to 0 between 0.77 and 1.23 of the limit, which is
# (A - 8) / (2.285 * 2 pi * 2 LOBES) per spacing wide.
LOBES = 8
BETA = 5.65


def filtered_activation(
    activation: Callable[[Array], Array], x: Float[Array, "batch *space channels"], source: Grid, target: Grid
) -> Float[Array, "batch *other channels"]:
    r"""A nonlinearity that creates (almost) no aliases, then the values on another grid.

    .. math::  y = D\,\sigma(U x), \quad (U x)(p) = \sum_k h(p - k)\, x_k

    U goes from `source` to the grid of twice its number of points, which holds most of the frequencies that the
    nonlinearity creates; D drops those that `source` or `target` cannot hold and takes values at the points of
    `target`. Along a periodic axis h is the periodic sinc, which keeps the frequencies below half of the number of
    points and nothing else. Along an axis with walls x continues as the boundary of `source` says, and

    .. math::  h(t) = \mathrm{sinc}(t)\, \frac{I_0(\beta \sqrt{1 - (t / R)^2})}{I_0(\beta)} \quad (|t| < R = 8)

    in units of the coarsest spacing involved, with each row divided by its sum, so that constants remain constants.

    Source: Raonić et al., "Convolutional neural operators for robust and accurate learning of PDEs", NeurIPS 2023,
    arXiv:2302.01178, section 2, with the ideal filter where the axis allows it; windows as in Karras et al.,
    "Alias-free generative adversarial networks", NeurIPS 2021, arXiv:2106.12423.

    Raises:
        ValueError: If `x` is not on `source`, or a grid has a single point along an axis.
    """
    cut.refuse(x, x.ndim - 2, "A filtered activation")
    if x.shape[1:-1] != source.shape:
        raise ValueError(f"Expected a field on {source.shape}, got one on {x.shape[1:-1]}. Give the grid of the data.")
    if min(*source.shape, *target.shape, 2) < 2:
        raise ValueError(
            f"A filter needs at least 2 points along each axis, got the grids {source.shape} and {target.shape}. "
            "Use fewer levels or a finer grid."
        )
    double = source.with_shape(tuple(2 * n for n in source.shape))
    # Space in front, batch and channels side by side: every product below is one of few long rows. The products of
    # fields with the batch in front, and their gradients, took 2 to 3 times as long on a CPU.
    x = jnp.moveaxis(x, 0, -2)
    x = _resampled(activation(_resampled(x, source, double, source)), double, target, source)
    return jnp.moveaxis(x, -2, 0)


def _resampled(x: Array, source: Grid, target: Grid, band: Grid) -> Array:
    for axis in range(len(source.shape)):
        matrix = jnp.asarray(_matrix(source, target, band, axis), x.dtype)
        before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        rows = jnp.einsum("ij,bjk->bik", matrix, x.reshape(math.prod(before), n, math.prod(after)))
        x = rows.reshape(*before, target.shape[axis], *after)
    return x


@functools.lru_cache(maxsize=256)
def _matrix(source: Grid, target: Grid, band: Grid, axis: int) -> np.ndarray:
    """The filter (target points, source points) along one axis that drops what one of the three grids cannot hold."""
    n, spacing, grids = source.shape[axis], source.spacing[axis], (source, target, band)
    at = (target.points()[axis] - source.points()[axis][0]) / spacing
    if isinstance(source.sides[axis][0], Periodic):
        return _periodic_sinc(at[:, None] - np.arange(n), n, min(grid.shape[axis] for grid in grids))
    widest = max(grid.spacing[axis] for grid in grids) / spacing
    reach = math.ceil(LOBES * widest) + 1
    t = (at[:, None] - np.arange(-reach, n + reach)) / widest
    weights = np.sinc(t) * np.i0(BETA * np.sqrt(np.clip(1 - (t / LOBES) ** 2, 0, None))) * (np.abs(t) < LOBES)
    return weights / weights.sum(1, keepdims=True) @ _continuation(n, source.sides[axis], reach)


def _periodic_sinc(t: np.ndarray, n: int, size: int) -> np.ndarray:
    """(1 / n) sum of exp(2 pi i k t / n) over |k| < size / 2."""
    kept = size - 1 + size % 2
    angle = np.pi * ((t + n / 2) % n - n / 2) / n
    angle = np.where(np.abs(angle) < 1e-9, 1e-9, angle)  # the limit kept / n, to rounding
    return np.sin(kept * angle) / (n * np.sin(angle))


def _continuation(n: int, pair: Sides, width: int) -> np.ndarray:
    """The matrix that continues n values by `width` beyond each wall.

    A wall may mirror what the other wall continues, so the ends grow in turn until both are long enough.
    """
    values = np.eye(n, dtype=np.float32)
    before = after = np.zeros((0, n), np.float32)
    with jax.ensure_compile_time_eval():
        while min(len(before), len(after)) < width:
            inward = np.concatenate((values, after))
            before = np.asarray(pair[0].beyond(jnp.asarray(inward), min(width, len(inward) - 1)))
            inward = np.concatenate((before, values))[::-1]
            after = np.asarray(pair[1].beyond(jnp.asarray(inward), min(width, len(inward) - 1)))[::-1]
    return np.concatenate((before, values, after)).astype(np.float64)
