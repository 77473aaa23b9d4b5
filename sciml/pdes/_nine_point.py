"""Matrices that couple each node of a plane grid with its neighbours, and a multigrid cycle for them.

A matrix is an array `[1 + d1, 1 + d2, i, j]`, its entry between the nodes (i, j) and (i + d1, j + d2). Entries that
lead out of the grid are ignored: fields are zero there.
"""

import itertools

import jax.numpy as jnp
from jaxtyping import Array

_DAMPING = 0.8  # of the Jacobi steps: below 2 / 1.5, what a linear element asks for, also on the coarse levels


def apply(matrix: Array, u: Array) -> Array:
    """The product of a matrix with the nodal values `u`."""
    around, (n1, n2) = jnp.pad(u, 1), u.shape
    total = jnp.zeros_like(u)
    for p, q in itertools.product(range(3), repeat=2):
        total = total + matrix[p, q] * around[p : p + n1, q : q + n2]
    return total


def hierarchy(matrix: Array) -> list[Array]:
    """The matrix and its Galerkin products `P^T A P` on coarser grids, down to a single node along some axis.

    A coarse grid keeps the nodes 1, 3, 5, ...; P interpolates linearly along each axis, to zero beyond the ends.
    """
    levels = [matrix]
    while min(levels[-1].shape[2:]) > 1:
        levels.append(_coarsen(_coarsen(levels[-1], 0), 1))
    return levels


def _coarsen(matrix: Array, axis: int) -> Array:
    """`P^T A P` for the interpolation along one axis."""
    a = jnp.moveaxis(matrix, (axis, axis + 2), (0, 1))
    a = a.at[0, 0].set(0).at[2, -1].set(0)  # to nodes outside, to which P would interpolate
    n = a.shape[1] // 2
    a = jnp.pad(a, ((0, 0), (0, 1), (0, 0), (0, 0)))
    coarse = [jnp.zeros_like(a[0, :n]) for _ in range(3)]
    for row, column, d in itertools.product((-1, 0, 1), repeat=3):
        jump = 2 * d + column - row  # from the fine node 2 i + 1 + row to 2 (i + d) + 1 + column
        if abs(jump) <= 1:
            weight = 0.5 ** (abs(row) + abs(column))
            coarse[1 + d] = coarse[1 + d] + weight * a[1 + jump, 1 + row : 1 + row + 2 * n : 2]
    return jnp.moveaxis(jnp.stack(coarse), (0, 1), (axis, axis + 2))


def _interpolate(u: Array, shape: tuple[int, ...]) -> Array:
    """The product P u, for a fine grid of the given shape."""
    for axis, n in enumerate(shape):
        coarse = jnp.pad(jnp.moveaxis(u, axis, 0), ((1, 1), (0, 0)))
        between = (coarse[1:] + coarse[:-1]) / 2
        mixed = jnp.stack((between, coarse[1:]), axis=1).reshape(-1, coarse.shape[1])
        u = jnp.moveaxis(mixed[:n], 0, axis)
    return u


def _restrict(r: Array) -> Array:
    """The product P^T r."""
    for axis in range(r.ndim):
        fine = jnp.pad(jnp.moveaxis(r, axis, 0), ((0, 1), (0, 0)))
        n = (len(fine) - 1) // 2
        fine = fine[1 : 2 * n : 2] + (fine[: 2 * n : 2] + fine[2 : 2 * n + 1 : 2]) / 2
        r = jnp.moveaxis(fine, 0, axis)
    return r


def cycle(levels: list[Array], f: Array) -> Array:
    """One symmetric multigrid V-cycle for `A u = f` from zero, with one damped Jacobi step before and after.

    With a matrix that is symmetric and positive definite it is a preconditioner of conjugate gradients.
    """
    matrix, *coarser = levels
    diagonal = matrix[1, 1]
    if not coarser:
        return f / diagonal
    u = _DAMPING * f / diagonal
    correction = cycle(coarser, _restrict(f - apply(matrix, u)))
    u = u + _interpolate(correction, f.shape)
    return u + _DAMPING * (f - apply(matrix, u)) / diagonal
