"""Dense matrices of `-div(a grad u)`, assembled face by face with NumPy: an oracle without code of the package."""

import itertools

import numpy as np

from sciml.grid import Dirichlet, Neumann, Periodic


def assembled(grid, a):
    """Stiffness matrix and weights of all points: `K_ij = sum of a / h^2` over faces, times the sizes of cells."""
    shape, size = grid.shape, int(np.prod(grid.shape))
    index = np.arange(size).reshape(shape)
    weights = np.ones(shape)
    for axis, (low, high) in enumerate(grid.sides):
        for end, wall in ((0, low), (-1, high)):
            if isinstance(wall, Neumann):
                part = [slice(None)] * len(shape)
                part[axis] = end
                weights[tuple(part)] *= wall.gap + 0.5
    stiffness = np.zeros((size, size))
    for axis, (h, (low, high)) in enumerate(zip(grid.spacing, grid.sides, strict=True)):
        for point in itertools.product(*map(range, shape)):
            i = index[point]
            # the size of a face: that of the cell without its factor along this axis
            n = shape[axis]
            own = 1.0
            for other, (lower, upper) in enumerate(grid.sides):
                if other != axis:
                    for end, wall in ((0, lower), (shape[other] - 1, upper)):
                        if isinstance(wall, Neumann) and point[other] == end:
                            own *= wall.gap + 0.5
            after = list(point)
            after[axis] += 1
            if after[axis] < n or isinstance(low, Periodic):
                after[axis] %= n
                j = index[tuple(after)]
                conductance = own * (a[point] + a[tuple(after)]) / 2 / h**2
                stiffness[[i, j, i, j], [i, j, j, i]] += conductance * np.array([1, 1, -1, -1])
            for end, wall in ((0, low), (n - 1, high)):
                if isinstance(wall, Dirichlet) and point[axis] == end and wall.gap > 0:
                    stiffness[i, i] += own * a[point] / wall.gap / h**2
    return stiffness, weights.ravel()


def unknown(grid):
    """Which points are no Dirichlet walls."""
    inside = np.ones(grid.shape, bool)
    for axis, sides in enumerate(grid.sides):
        for end, wall in zip((0, -1), sides, strict=True):
            if isinstance(wall, Dirichlet) and wall.gap == 0:
                part = [slice(None)] * len(grid.shape)
                part[axis] = end
                inside[tuple(part)] = False
    return inside.ravel()


def solution(grid, a, f, mass=0.0):
    """The discrete solution at all points, that of mean zero if the matrix is singular."""
    stiffness, weights = assembled(grid, a)
    inside = unknown(grid)
    matrix = (stiffness + mass * np.diag(weights))[np.ix_(inside, inside)]
    right = (weights * f.ravel())[inside]
    u = np.zeros(inside.size)
    u[inside] = np.linalg.lstsq(matrix, right, rcond=1e-13)[0]
    if not mass and np.allclose(matrix.sum(1), 0, atol=1e-9 * np.abs(matrix).max()):
        u -= weights @ u / weights.sum()
    return u.reshape(grid.shape)


def errors(grid, a, u, v, mass=0.0):
    """Energy and L2 norm of `u - v`; values on Dirichlet walls have half of the weight."""
    stiffness, weights = assembled(grid, a)
    inside, e, volume = unknown(grid), (u - v).ravel(), np.prod(grid.spacing)
    own = np.where(inside, e, 0)
    squares = own @ (stiffness + mass * np.diag(weights)) @ own
    return np.sqrt(volume * squares), np.sqrt(volume * np.sum(np.where(inside, weights, 0.5) * e**2))
