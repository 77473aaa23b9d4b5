"""Fourier neural operator."""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import SpectralConv, fold_vmap, gelu, matmul
from sciml.operators._base import AbstractOperator


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """The parts of an FNO that act on each point alone. Sizes are multiples of the width; 0 leaves the layer out.

    Attributes:
        lifting: Hidden layer of the network in front; 0 makes it linear.
        mixing: Hidden layer of the network that follows each Fourier layer; 0 leaves the network and its gate out.
        projection: Hidden layer of the network behind; 0 makes it linear.
        activation: The nonlinearity, elementwise.
    """

    lifting: float | int = 2.0
    mixing: float | int = 0.5
    projection: float | int = 2.0
    activation: Callable[[Array], Array] = gelu


class FNO(AbstractOperator):
    r"""Fourier neural operator on a uniform grid, of any size, in 1 to 3 dimensions.

    .. math::  v_0 = P(a, x), \quad
               w_l = \sigma_l(K_l v_l + S_l v_l), \quad
               v_{l+1} = \sigma_l(M_l(w_l) + g_l v_l), \quad u = Q(v_{depth})

    K is a `SpectralConv`, S a matrix per point, M, P and Q networks of one hidden layer per point, g one factor per
    channel, and the nonlinearity :math:`\sigma_l` is left out in the last layer. x are the coordinates of the points
    in units of the extent. This is the architecture of neuraloperator 2.0 with its defaults; equal weights give equal
    outputs. The first FNO (Li et al. 2021, arXiv:2010.08895) is `Pointwise(lifting=0, mixing=0, projection=4)` at
    width 32, which leaves M and g out: :math:`v_{l+1} = \sigma_l(K_l v_l + S_l v_l)`.

    A trained operator acts at other resolutions: frequencies and coordinates are those of the domain, not of the grid.
    """

    lifting: tuple["_Dense", ...]
    blocks: tuple["_Block", ...]
    projection: tuple["_Dense", ...]
    grid: Grid | None = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modes: tuple[int, ...],
        width: int,
        depth: int = 4,
        pointwise: Pointwise = Pointwise(),
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ):
        """Weights are drawn as in neuraloperator: Fourier layers normal, others uniform in +-1 / sqrt(inputs).

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
            width: Number of channels inside.
            depth: Number of Fourier layers.
            pointwise: Sizes and activation of the layers that act on each point.
            grid: If given, the coordinates of its points are appended to the input. At other sizes they are those of a
                grid of that size with the same boundaries. Without it the operator commutes with translations.
            key: Random key.

        Raises:
            ValueError: If the grid's number of axes differs from that of `modes`.
        """
        if grid is not None and len(grid.shape) != len(modes):
            raise ValueError(
                f"modes={modes} is for {len(modes)} axes, the grid has {len(grid.shape)}: {grid.shape}. "
                "Give one number of modes for each axis of the grid."
            )
        first, last, *inner = jax.random.split(key, depth + 2)
        coordinates = 0 if grid is None else len(grid.shape)
        sizes = (in_channels + coordinates, int(pointwise.lifting * width), width)
        self.lifting = _network(sizes, first)
        self.blocks = tuple(_Block(modes, width, round(pointwise.mixing * width), key=k) for k in inner)
        self.projection = _network((width, int(pointwise.projection * width), out_channels), last)
        self.grid = grid
        self.activation = pointwise.activation

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        dimensions = len(self.blocks[0].spectral.modes)
        channels = self.lifting[0].weight.shape[0] - (0 if self.grid is None else dimensions)
        if x.ndim != dimensions + 1 or x.shape[0] != channels:
            raise ValueError(
                f"Expected a field ({channels}, {dimensions} axes of space), got {x.shape}. "
                "Fields are (channels, *space) without a batch axis: use jax.vmap for batches."
            )
        return fold_vmap(_apply, self, x)


def _apply(model: FNO, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    # Channels last, the batch beside them: every product below is a GEMM without a transposition.
    coordinates = None if model.grid is None else _coordinates(model.grid, x.shape[2:])
    x = jnp.moveaxis(x, (0, 1), (-2, -1))
    x = _run(model.lifting, x, model.activation, coordinates)
    for i, block in enumerate(model.blocks):
        x = block(x, model.activation, last=i == len(model.blocks) - 1)
    x = _run(model.projection, x, model.activation)
    return jnp.moveaxis(x, (-2, -1), (0, 1))


def _coordinates(grid: Grid, shape: tuple[int, ...]) -> np.ndarray:
    points = dataclasses.replace(grid, shape=shape).points()
    axes = [x / length for x, length in zip(points, grid.lengths, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


class _Dense(eqx.Module):
    weight: Float[Array, "in out"]
    bias: Float[Array, " out"] | None

    def __init__(self, in_size: int, out_size: int, *, use_bias: bool = True, key: PRNGKeyArray):
        bound = 1 / math.sqrt(in_size)
        weight_key, bias_key = jax.random.split(key)
        self.weight = jax.random.uniform(weight_key, (in_size, out_size), minval=-bound, maxval=bound)
        self.bias = jax.random.uniform(bias_key, (out_size,), minval=-bound, maxval=bound) if use_bias else None

    def __call__(self, x: Float[Array, "*points in"]) -> Float[Array, "*points out"]:
        y = _multiply(x, self.weight)
        return y if self.bias is None else y + _along_last(self.bias, y.ndim)


def _multiply(x: Array, weight: Array) -> Array:
    return matmul(x.reshape(-1, x.shape[-1]), weight).reshape(*x.shape[:-1], -1)


def _along_last(x: Array, ndim: int) -> Array:
    return x.reshape((1,) * (ndim - 1) + x.shape)


def _network(sizes: tuple[int, int, int], key: PRNGKeyArray) -> tuple[_Dense, ...]:
    size_in, hidden, size_out = sizes
    if hidden == 0:
        return (_Dense(size_in, size_out, key=key),)
    first, second = jax.random.split(key)
    return _Dense(size_in, hidden, key=first), _Dense(hidden, size_out, key=second)


def _run(
    layers: tuple[_Dense, ...], x: Array, activation: Callable[[Array], Array], coordinates: np.ndarray | None = None
) -> Array:
    first, *rest = layers
    if coordinates is None:
        x = first(x)
    else:  # the coordinates' share is the same for the whole batch
        share = jnp.asarray(coordinates, x.dtype) @ first.weight[x.shape[-1] :]
        share = share if first.bias is None else share + _along_last(first.bias, share.ndim)
        x = _multiply(x, first.weight[: x.shape[-1]]) + jnp.expand_dims(share, -2)
    for layer in rest:
        x = layer(activation(x))
    return x


class _Block(eqx.Module):
    spectral: SpectralConv
    skip: _Dense
    mixing: tuple[_Dense, ...]
    gate: Float[Array, " width"] | None

    def __init__(self, modes: tuple[int, ...], width: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.spectral = SpectralConv(width, width, modes, key=keys[0])
        self.skip = _Dense(width, width, use_bias=False, key=keys[1])
        self.mixing = _network((width, hidden, width), keys[2]) if hidden else ()
        self.gate = jnp.ones(width) if hidden else None

    def __call__(
        self, x: Float[Array, "*space batch width"], activation: Callable[[Array], Array], *, last: bool
    ) -> Float[Array, "*space batch width"]:
        final = (lambda y: y) if last else activation
        y = final(self.spectral.multiply(x) + self.skip(x))
        if self.gate is None:
            return y
        return final(_run(self.mixing, y, activation) + x * _along_last(self.gate, x.ndim))
