"""Operators made from operators: normalisation, residual form, other resolutions."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.grid import Grid
from sciml.nn import Frozen, resample
from sciml.operators._base import AbstractOperator


class Normaliser(eqx.Module):
    """The affine map to zero mean and unit deviation, (x - mean) / deviation, and its inverse.

    Attributes:
        mean: Mean, broadcastable to a sample: `(channels, 1, ...)` per channel or `(channels, *space)` per point.
        deviation: Standard deviation, same shape; 1 where the data do not vary.
    """

    mean: Frozen
    deviation: Frozen

    def __init__(self, mean: Float[np.ndarray | Array, "channels *space"], deviation: np.ndarray | Array):
        if mean.shape != deviation.shape:
            raise ValueError(f"Mean {mean.shape} and deviation {deviation.shape} must have the same shape.")
        self.mean = Frozen(jnp.asarray(mean))
        self.deviation = Frozen(jnp.asarray(deviation))

    def encode(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """(x - mean) / deviation."""
        return (x - self.mean.value) / self.deviation.value

    def decode(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """The inverse of `encode`."""
        return x * self.deviation.value + self.mean.value


def _normaliser(samples: np.ndarray, axes: Sequence[int], epsilon: float) -> Normaliser:
    samples = np.asarray(samples)
    if not np.isfinite(samples).all():
        raise ValueError("The samples hold values that are not finite. Remove these samples before taking statistics.")
    if np.prod([samples.shape[axis] for axis in axes]) < 2:
        raise ValueError(f"Statistics need at least 2 values, got samples of shape {samples.shape}.")
    wide = samples.astype(np.float64)
    deviation = wide.std(axis=tuple(axes), ddof=1, keepdims=True)[0]
    mean = wide.mean(axis=tuple(axes), keepdims=True)[0]
    deviation = np.where(deviation > 0, deviation + epsilon, 1.0)
    return Normaliser(mean.astype(samples.dtype), deviation.astype(samples.dtype))


def per_channel(samples: Float[np.ndarray, "samples channels *space"], *, epsilon: float = 0.0) -> Normaliser:
    """Statistics over samples and points, one mean and deviation per channel: usable at every resolution.

    The deviation is the unbiased one plus `epsilon`. Take it over training samples only.

    Raises:
        ValueError: If values are not finite or there are fewer than two.
    """
    return _normaliser(samples, (0, *range(2, samples.ndim)), epsilon)


def per_point(samples: Float[np.ndarray, "samples channels *space"], *, epsilon: float = 0.0) -> Normaliser:
    """Statistics over samples, at each point of each channel: pins the resolution. Otherwise as `per_channel`."""
    return _normaliser(samples, (0,), epsilon)


class Normalised(AbstractOperator):
    """An operator between normalised fields: `y.decode(operator(x.encode(input)))`.

    The statistics are part of the model, so that it maps raw fields to raw fields wherever it is loaded.
    """

    operator: AbstractOperator
    x: Normaliser
    y: Normaliser

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The decoded output for the raw input `x`."""
        if x.shape[0] != self.x.mean.value.shape[0]:
            raise ValueError(
                f"Expected {self.x.mean.value.shape[0]} input channels as in the statistics, got {x.shape[0]}. "
                "Fields are (channels, *space), without a batch axis: use jax.vmap for a batch."
            )
        return self.y.decode(self.operator(self.x.encode(x)))


class Residual(AbstractOperator):
    """Predicts the increment: x + operator(x). For maps from a state to the next one."""

    operator: AbstractOperator

    def __call__(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """`x + operator(x)`.

        Raises:
            ValueError: If the operator changes the shape.
        """
        y = self.operator(x)
        if y.shape != x.shape:
            raise ValueError(
                f"A residual operator must keep the shape, got {x.shape} -> {y.shape}. "
                "Give it as many output as input channels."
            )
        return x + y


class Resampled(AbstractOperator):
    """Lets an operator that lives on one grid act on fields of another resolution of the same box.

    The input is interpolated to the operator's grid and the output back (`nn.resample`, cubic splines). What the
    operator's grid cannot represent is lost: the error has a floor, that of interpolating the true solution.

    Attributes:
        operator: The operator.
        grid: The operator's own grid.
        outer: Grid of the fields; by default `grid` with as many points as the field that comes, which is right unless
            the first points of the two grids differ.
    """

    operator: AbstractOperator
    grid: Grid = eqx.field(static=True)
    outer: Grid | None = eqx.field(static=True, default=None)

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The operator's output, interpolated to the resolution of `x`."""
        outer = self.grid.with_shape(x.shape[1:]) if self.outer is None else self.outer
        return resample(self.operator(resample(x, outer, self.grid)), self.grid, outer)
