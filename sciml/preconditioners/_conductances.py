"""Conductances on plane grids: the symmetric positive definite matrices of diffusion, by their energy."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def shifted(u: Float[Array, "n m"], rows: int, columns: int) -> Float[Array, "n m"]:
    """`u[i + rows, j + columns]` at (i, j), zero beyond the ends; shifts by -1, 0 and 1."""
    n, m = u.shape
    pads = ((max(-rows, 0), max(rows, 0)), (max(-columns, 0), max(columns, 0)))
    first, second = max(rows, 0), max(columns, 0)
    return kept(jnp.pad(kept(u), pads))[first : first + n, second : second + m]


def kept(values: Any) -> Any:
    """The same arrays, computed once: XLA would compute what makes a field anew for each of its shifts."""
    return jax.lax.optimization_barrier(values)


def padded(u: Float[Array, "n m"]) -> Float[Array, "around_n around_m"]:
    """The field with zeros around it, stored, so that `window` reads its shifts in place."""
    return kept(jnp.pad(kept(u), 1))


def window(u: Float[Array, "around_n around_m"], rows: int = 0, columns: int = 0) -> Float[Array, "n m"]:
    """`shifted` of a padded field."""
    n, m = u.shape
    return u[1 + rows : n - 1 + rows, 1 + columns : m - 1 + columns]


@final
class Conductances(eqx.Module):
    """The matrix A of the energy u^T A u = sum over edges of k (u_i - u_j)^2 + sum over nodes of wall u_i^2.

    All numbers are at least zero. A is symmetric; it is positive definite if every node is connected with one whose
    `wall` is positive.

    Attributes:
        x: Conductances between (i, j) and (i + 1, j); the last row is zero.
        y: Conductances between (i, j) and (i, j + 1); the last column is zero.
        down: Conductances between (i, j) and (i + 1, j + 1), or None for none.
        up: Conductances between (i, j) and (i + 1, j - 1), or None for none.
        wall: Conductances from each node to the walls, where fields are zero.
    """

    x: Float[Array, "n m"]
    y: Float[Array, "n m"]
    down: Float[Array, "n m"] | None
    up: Float[Array, "n m"] | None
    wall: Float[Array, "n m"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of nodes along each axis."""
        return self.wall.shape

    def edges(self) -> list[tuple[Array, int, int]]:
        """Conductances with the step (rows, columns) from the node that stores one to the other end."""
        pairs = [(self.x, 1, 0), (self.y, 0, 1)]
        return pairs + [(k, 1, step) for k, step in ((self.down, 1), (self.up, -1)) if k is not None]

    def diagonal(self) -> Float[Array, "n m"]:
        """The diagonal of A."""
        return self.wall + sum(k + shifted(k, -rows, -columns) for k, rows, columns in self.edges())

    def product(self, u: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """A u."""
        total = self.wall * u
        for k, rows, columns in self.edges():
            flux = kept(k * (u - shifted(u, rows, columns)))
            total = total + flux - shifted(flux, -rows, -columns)
        return total


def flux_conductances(a: Float[Array, "nodes_x nodes_y"]) -> Conductances:
    """The matrix of `sciml.pdes.solve_diffusion` for a coefficient at the nodes of the unit square, walls included.

    Conductances are the arithmetic means of neighbouring coefficients over h^2; unknowns are the interior nodes.

    Raises:
        ValueError: If an axis has no interior node.
    """
    if a.ndim != 2 or min(a.shape) < 3:
        raise ValueError(f"Expected a plane coefficient with at least 3 nodes along each axis, got {a.shape}.")
    x = (a[1:, 1:-1] + a[:-1, 1:-1]) / 2 * (a.shape[0] - 1) ** 2
    y = (a[1:-1, 1:] + a[1:-1, :-1]) / 2 * (a.shape[1] - 1) ** 2
    wall = jnp.zeros_like(a[1:-1, 1:-1])
    wall = wall.at[0].add(x[0]).at[-1].add(x[-1]).at[:, 0].add(y[:, 0]).at[:, -1].add(y[:, -1])
    return Conductances(x[1:].at[-1].set(0), y[:, 1:].at[:, -1].set(0), None, None, wall)


def matrix_conductances(matrix: Float[Array, "rows columns n m"]) -> Conductances:
    """The conductances of a symmetric matrix (3, 3, n, m): `[1 + d1, 1 + d2, i, j]` couples (i, j), (i + d1, j + d2).

    Entries that lead out of the grid are ignored. What the diagonal exceeds the other entries by is `wall`. The matrix
    must have no positive entry off its diagonal, and be diagonally dominant; values are not checked.

    Raises:
        ValueError: If the array has another layout.
    """
    if matrix.ndim != 4 or matrix.shape[:2] != (3, 3):
        raise ValueError(f"Expected a matrix (3, 3, n, m) of neighbours' entries, got {matrix.shape}.")
    matrix = matrix.at[0, :, 0].set(0).at[2, :, -1].set(0).at[:, 0, :, 0].set(0).at[:, 2, :, -1].set(0)
    return Conductances(-matrix[2, 1], -matrix[1, 2], -matrix[2, 2], -matrix[2, 0], jnp.sum(matrix, (0, 1)))
