"""The frame of Fourier networks: the networks P and Q at each point, between them layers of any kind."""

import abc
import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import Dense, along_last, check_field, fold_vmap, gelu, matmul, unit_coordinates
from sciml.operators._base import AbstractOperator


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """The parts of a Fourier network that act on each point alone. Sizes are multiples of the width, 0 for no layer.

    Attributes:
        lifting: Hidden layer of the first network, P; 0 makes it linear.
        mixing: Hidden layer of the network that follows each Fourier layer; 0 leaves the network and its gate out.
        projection: Hidden layer of the last network, Q; 0 makes it linear.
        activation: The nonlinearity, elementwise.
    """

    lifting: float | int = 2.0
    mixing: float | int = 0.5
    projection: float | int = 2.0
    activation: Callable[[Array], Array] = gelu


NEURALOPERATOR = Pointwise()


class AbstractFourierNetwork(AbstractOperator):
    """u = Q(B(P(a, x))): networks P and Q at each point and Fourier layers B, on a uniform grid of any size.

    Attributes:
        lifting: P.
        projection: Q.
        grid: Grid whose coordinates x are appended to the input, or None.
        activation: Nonlinearity of P and Q.
    """

    lifting: tuple[Dense, ...]
    projection: tuple[Dense, ...]
    grid: Grid | None = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    @property
    @abc.abstractmethod
    def dimensions(self) -> int:
        """Number of axes of the fields."""

    @abc.abstractmethod
    def body(self, v: Float[Array, "*space batch in"]) -> Float[Array, "*space batch out"]:
        """The Fourier layers B, for a batch with the channels last and the batch beside them."""

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        appended = 0 if self.grid is None else self.dimensions
        check_field(x, self.lifting[0].weight.shape[0] - appended, self.dimensions)
        return fold_vmap(_apply, self, x)


def _apply(model: AbstractFourierNetwork, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    # Channels last, the batch beside them: every product at a point is a GEMM without a transposition.
    points = coordinates(model.grid, x.shape[2:])
    v = run(model.lifting, jnp.moveaxis(x, (0, 1), (-2, -1)), model.activation, points)
    y = run(model.projection, model.body(v), model.activation)
    return jnp.moveaxis(y, (-2, -1), (0, 1))


def network(sizes: tuple[int, int, int], key: PRNGKeyArray) -> tuple[Dense, ...]:
    """One hidden layer between input and output, none if its size is 0."""
    size_in, hidden, size_out = sizes
    if hidden == 0:
        return (Dense(size_in, size_out, key=key),)
    first, second = jax.random.split(key)
    return Dense(size_in, hidden, key=first), Dense(hidden, size_out, key=second)


def ends(
    in_channels: int, out_channels: int, width: int, pointwise: Pointwise, keys: tuple[PRNGKeyArray, PRNGKeyArray]
) -> tuple[tuple[Dense, ...], tuple[Dense, ...]]:
    """The networks P and Q of a Fourier network whose layers all have one width."""
    first = network((in_channels, int(pointwise.lifting * width), width), keys[0])
    return first, network((width, int(pointwise.projection * width), out_channels), keys[1])


def run(
    layers: tuple[Dense, ...], x: Array, activation: Callable[[Array], Array], coordinates: np.ndarray | None = None
) -> Array:
    """Applies a `network`, whose last inputs are the `coordinates` (*space, axes) if they are given."""
    first, *rest = layers
    if coordinates is None:
        x = first(x)
    else:  # the coordinates' share is the same for the whole batch
        share = jnp.asarray(coordinates, x.dtype) @ first.weight[x.shape[-1] :]
        share = share if first.bias is None else share + along_last(first.bias, share.ndim)
        own = matmul(x.reshape(-1, x.shape[-1]), first.weight[: x.shape[-1]])
        x = own.reshape(*x.shape[:-1], -1) + jnp.expand_dims(share, -2)
    for layer in rest:
        x = layer(activation(x))
    return x


def count_coordinates(grid: Grid | None, modes: tuple[int, ...]) -> int:
    """Number of coordinates that the grid appends to the input.

    Raises:
        ValueError: If the grid's number of axes differs from that of `modes`.
    """
    if grid is not None and len(grid.shape) != len(modes):
        raise ValueError(
            f"modes={modes} is for {len(modes)} axes, the grid has {len(grid.shape)}: {grid.shape}. "
            "Give one number of modes for each axis of the grid."
        )
    return 0 if grid is None else len(grid.shape)


def coordinates(grid: Grid | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Coordinates of the points in units of the extent, axes (*space, axes), on a grid of that shape."""
    return None if grid is None else unit_coordinates(grid, shape)
