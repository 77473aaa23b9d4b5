"""Coordinates of grid points as features of a network."""

import numpy as np
from jaxtyping import Float

from sciml.grid import Grid


def unit_coordinates(grid: Grid, shape: tuple[int, ...]) -> Float[np.ndarray, "*space dimensions"]:
    """Coordinates in units of the extent, at the points of a grid of `shape` on the same box with the same boundaries.

    A point of the domain has the same coordinates at every resolution.
    """
    axes = [x / length for x, length in zip(grid.with_shape(shape).points(), grid.lengths, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
