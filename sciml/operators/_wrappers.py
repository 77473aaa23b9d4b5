"""Operators made from operators: normalisation, residual form, other resolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sciml import cut
from sciml.grid import Grid
from sciml.nn import Frozen, Rematerialised, resample
from sciml.operators._base import AbstractOperator, takes_any_field


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
        return (x - _own(self.mean, x)) / _own(self.deviation, x)

    def decode(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """The inverse of `encode`."""
        return x * _own(self.deviation, x) + _own(self.mean, x)


def _own(statistic: Frozen, x: Float[Array, "channels *space"]) -> Array:
    """The part of a statistic per point that belongs to this device's part of the field."""
    names = cut.axes(x, x.ndim - 1)
    each = tuple(None if n == 1 else name for n, name in zip(statistic.value.shape[1:], names, strict=True))
    return cut.own_part(statistic.value, each, 1)


_VALUES_AT_ONCE = 2**20
"""Statistics go through the samples in pieces of about that many values, so that they need no copy of the data."""


def _normaliser(samples: np.ndarray, axes: tuple[int, ...], epsilon: float) -> Normaliser:
    samples = np.asarray(samples)
    count = math.prod(samples.shape[axis] for axis in axes)
    if count < 2:
        raise ValueError(f"Statistics need at least 2 values, got samples of shape {samples.shape}.")
    rows = max(1, _VALUES_AT_ONCE // math.prod(samples.shape[1:]))
    pieces = [slice(start, start + rows) for start in range(0, len(samples), rows)]
    total = np.zeros(())
    for piece in pieces:
        if not np.isfinite(samples[piece]).all():
            raise ValueError("The samples hold values that are not finite. Remove these samples first.")
        total = total + samples[piece].sum(axis=axes, dtype=np.float64, keepdims=True)
    mean = total / count
    squares = np.zeros(())
    for piece in pieces:
        squares = squares + ((samples[piece] - mean) ** 2).sum(axis=axes, keepdims=True)
    deviation = np.sqrt(squares / (count - 1))
    # Relative: the rounded mean of equal values may differ from them.
    varies = deviation > 1e-13 * np.abs(mean)
    deviation = np.where(varies, deviation + epsilon, 1.0)
    return Normaliser(mean[0].astype(samples.dtype), deviation[0].astype(samples.dtype))


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

    operator: Callable[..., Array]
    x: Normaliser
    y: Normaliser

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The decoded output for the raw input `x`."""
        if x.shape[0] != self.x.mean.value.shape[0]:
            raise ValueError(
                f"Expected {self.x.mean.value.shape[0]} input channels as in the statistics, got {x.shape[0]}. "
                "Fields are (channels, *space), without a batch axis: use jax.vmap for a batch."
            )
        return self.y.decode(self.operator(self.x.encode(x)))


class Residual(AbstractOperator):
    """Predicts the increment: x + operator(x). For maps from a state to the next one.

    Of an input with more channels than the output, such as several frames with the latest one last, the increment is
    added to the last channels.
    """

    operator: Callable[..., Array]

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The last channels of `x` plus `operator(x)`.

        Raises:
            ValueError: If the operator returns more channels than it gets, or another grid.
        """
        y = self.operator(x)
        if y.shape[1:] != x.shape[1:] or y.shape[0] > x.shape[0]:
            raise ValueError(
                f"A residual operator must keep the grid and not add channels, got {x.shape} -> {y.shape}. "
                "Give it at most as many output as input channels."
            )
        return x[x.shape[0] - y.shape[0] :] + y


class WithFields(AbstractOperator):
    """operator([x, fields]) for fields that are the same for every input, such as a forcing.

    Attributes:
        operator: Its input has the channels of the input and of the fields.
        fields: `(channels, *space)`, saved and not trained; they belong to one grid.
    """

    operator: Callable[..., Array]
    fields: Frozen

    def __init__(self, operator: Callable[..., Array], fields: Float[np.ndarray | Array, "channels *space"]):
        self.operator = operator
        self.fields = Frozen(jnp.asarray(fields))

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The operator's output for the input and the fields.

        Raises:
            ValueError: If the input lives on another grid than the fields.
        """
        fields = cut.own_part(self.fields.value, cut.axes(x, x.ndim - 1), 1)
        if x.shape[1:] != fields.shape[1:]:
            raise ValueError(
                f"Expected a field (channels, {', '.join(map(str, fields.shape[1:]))}) as the fixed fields have, got "
                f"{x.shape}. Resample the data or wrap the operator in Resampled."
            )
        return self.operator(jnp.concatenate((x, fields.astype(x.dtype))))


class InPrecision(AbstractOperator):
    """An operator that computes in another data type than its parameters and fields have, such as bfloat16.

    Parameters stay as they are, so that the optimiser's small steps are not rounded away, and are rounded where the
    operator is called; the output has the data type of the input. Put it inside of `Normalised`, whose statistics and
    fields then keep their precision.

    Attributes:
        operator: The operator.
        dtype: The data type of its activations.
    """

    operator: Callable[..., Array]
    dtype: Any = eqx.field(static=True, converter=jnp.dtype)

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The operator's output, computed in `dtype`."""
        lower = lambda leaf: leaf.astype(self.dtype) if eqx.is_inexact_array(leaf) else leaf
        return jax.tree.map(lower, self.operator)(x.astype(self.dtype)).astype(x.dtype)


def rematerialised(model: PyTree) -> Any:
    """The model with the layers of its operators in `nn.Rematerialised`: less memory, more work in the backward pass.

    A gradient then keeps what enters each layer, and holds all else of one layer at a time. Outputs and gradients stay
    the same. Operators inside of others are found, such as in `Normalised`, `Patched` or `InPrecision`.

    Raises:
        ValueError: If the model has no operator with such layers.
    """
    every = [part for operator in _operators(model) for part in operator.repeated()]
    if not every:
        raise ValueError(
            f"Expected an operator with layers that repeat, got {type(model).__name__} without any. Leave out the "
            "rematerialisation, or put layers of your own into nn.Rematerialised."
        )
    plain = lambda tree: [
        part for operator in _operators(tree) for part in operator.repeated() if not isinstance(part, Rematerialised)
    ]
    return eqx.tree_at(plain, model, replace_fn=Rematerialised) if plain(model) else model


def _operators(tree: PyTree) -> Iterator[AbstractOperator]:
    """All operators in a tree, those inside of others as well."""
    if isinstance(tree, AbstractOperator):
        yield tree
    inside = lambda node: node is not tree and isinstance(node, AbstractOperator)
    for node in jax.tree.leaves(tree, is_leaf=inside):
        if inside(node):
            yield from _operators(node)


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

    operator: Callable[..., Array]
    grid: Grid = eqx.field(static=True)
    outer: Grid | None = eqx.field(static=True, default=None)

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The operator's output, interpolated to the resolution of `x`."""
        outer = self.grid.with_shape(x.shape[1:]) if self.outer is None else self.outer
        return resample(self.operator(resample(x, outer, self.grid)), self.grid, outer)
