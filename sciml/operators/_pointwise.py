"""The parts of Fourier networks that act on each point alone."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import Dense, along_last, gelu, matmul, unit_coordinates


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


NEURALOPERATOR = Pointwise()


def network(sizes: tuple[int, int, int], key: PRNGKeyArray) -> tuple[Dense, ...]:
    """One hidden layer between input and output, none if its size is 0."""
    size_in, hidden, size_out = sizes
    if hidden == 0:
        return (Dense(size_in, size_out, key=key),)
    first, second = jax.random.split(key)
    return Dense(size_in, hidden, key=first), Dense(hidden, size_out, key=second)


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
