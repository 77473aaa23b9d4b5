"""Differences, integrals and fast Poisson solves of a second-order flux scheme on any grid of the library."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.grid import AbstractBoundary, Dirichlet, Grid, Neumann, Periodic


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of the unknowns; no unknown is on a Dirichlet wall.

    The faces of an axis that is not periodic are those between neighbours and the two walls, of a periodic axis those
    before each unknown.
    """

    size: int
    spacing: float
    low: AbstractBoundary
    high: AbstractBoundary

    @property
    def periodic(self) -> bool:
        """Whether the axis closes on itself."""
        return isinstance(self.low, Periodic)

    @functools.cached_property
    def scales(self) -> Float[np.ndarray, " faces"]:
        """Factor of the difference across each face; 0 at Neumann walls, `1 / (h sqrt(gap))` at Dirichlet walls."""
        if self.periodic:
            return np.full(self.size, 1 / self.spacing)
        ends = [1 / math.sqrt(wall.gap) if isinstance(wall, Dirichlet) else 0.0 for wall in (self.low, self.high)]
        return np.array([ends[0], *[1.0] * (self.size - 1), ends[1]]) / self.spacing

    @functools.cached_property
    def weights(self) -> Float[np.ndarray, " points"]:
        """Size of each cell in spacings: `gap + 1/2` next to a Neumann wall, 1 elsewhere."""
        weights = np.ones(self.size)
        for end, wall in ((0, self.low), (-1, self.high)):
            weights[end] += wall.gap - 0.5 if isinstance(wall, Neumann) else 0.0
        return weights

    def matrix(self) -> Float[np.ndarray, "points points"]:
        """`W^(-1/2) D^T D W^(-1/2)`, with the differences D across faces and the weights W."""
        steps = np.eye(self.size) - np.roll(np.eye(self.size), 1, axis=0) if self.periodic else None
        if steps is None:
            steps = np.eye(self.size + 1, self.size) - np.eye(self.size + 1, self.size, -1)
        d = self.scales[:, None] * steps / np.sqrt(self.weights)
        return d.T @ d

    @functools.cached_property
    def modes(self) -> tuple[Float[np.ndarray, " modes"], Float[np.ndarray, "points modes"]]:
        """Eigenvalues of `matrix`, ascending, and its orthonormal eigenvectors: sines, cosines or Fourier modes.

        The first eigenvalue is exactly 0 if no wall holds a value.
        """
        values, vectors = np.linalg.eigh(self.matrix())
        if not any(isinstance(wall, Dirichlet) for wall in (self.low, self.high)):
            values[0] = 0.0
        return values, vectors


@functools.cache
def _axis(size: int, spacing: float, low: AbstractBoundary, high: AbstractBoundary) -> Axis:
    return Axis(size, spacing, low, high)


def _stored(sides: Sequence[AbstractBoundary]) -> tuple[int, int]:
    """Number of values that are stored on the Dirichlet walls (low, high) of an axis."""
    low, high = (int(isinstance(wall, Dirichlet) and wall.gap == 0) for wall in sides)
    return low, high


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The unknowns of a grid, `-Laplace` on them as `D* D`, and integrals.

    D takes differences across faces, `(v_i - v_(i-1)) / h`, and `D*` is its adjoint in the inner products below, so
    that `D* (a D v)` is the flux scheme of `-div(a grad v)` for a coefficient `a` at the faces: the scheme of
    `pdes.solve_diffusion` where the grid stores the values on its Dirichlet walls. Those are zero and no unknowns. A
    Dirichlet wall at the distance `gap h > 0` has the flux `a v / (gap h)`; through a Neumann wall nothing flows.

    The inner product of fields is the integral by the rule of the grid (`Axis.weights`), that of faces the integral
    along each axis, so that norms are those of L2.

    Args:
        grid: Where fields live.

    Raises:
        ValueError: If an axis has no unknown, or a boundary is no `Periodic`, `Dirichlet` or `Neumann`.
    """

    grid: Grid

    def __post_init__(self) -> None:
        known = {type(wall) for sides in self.grid.sides for wall in sides} - {Periodic, Dirichlet, Neumann}
        if known:
            raise ValueError(
                f"Expected walls Periodic, Dirichlet or Neumann, got {sorted(one.__name__ for one in known)}. Bounds "
                "know the Laplacian of these walls alone."
            )
        if min(self.shape) < 1:
            raise ValueError(f"Expected an unknown along each axis, got {self.grid.shape} points with their walls.")

    @functools.cached_property
    def inner(self) -> tuple[slice, ...]:
        """The unknowns among the points of the grid."""
        pairs = zip(self.grid.shape, map(_stored, self.grid.sides), strict=True)
        return tuple(slice(low, n - high) for n, (low, high) in pairs)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of unknowns along each axis."""
        return tuple(part.stop - part.start for part in self.inner)

    @functools.cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the unknowns."""
        return tuple(
            _axis(n, h, *(Dirichlet(1.0) if isinstance(wall, Dirichlet) and wall.gap == 0 else wall for wall in sides))
            for n, h, sides in zip(self.shape, self.grid.spacing, self.grid.sides, strict=True)
        )

    @property
    def volume(self) -> float:
        """Of a cell inside."""
        return math.prod(self.grid.spacing)

    @functools.cached_property
    def singular(self) -> bool:
        """Whether constants solve the homogeneous equation: no wall holds a value."""
        return all(axis.modes[0][0] == 0 for axis in self.axes)

    @functools.cached_property
    def lowest(self) -> float:
        """A lower bound of the eigenvalues of `D* D` on fields of mean zero if it is singular, else on all fields.

        The eigenvalues are known up to rounding, which is taken off.
        """
        values = [axis.modes[0] for axis in self.axes]
        error = 1e-14 * sum(float(one[-1]) for one in values)
        total = min(float(one[1]) for one in values if len(one) > 1) if self.singular else sum(one[0] for one in values)
        return float(total) - error

    @functools.cached_property
    def steepness(self) -> tuple[float, ...]:
        """For each axis a bound of `|D*|^2`, with sums in place of differences, by Gershgorin's circles."""
        found = []
        for axis in self.axes:
            squares = axis.scales**2
            after = np.roll(squares, -1) if axis.periodic else squares[1:]
            before = squares if axis.periodic else squares[:-1]
            found.append(float(np.max(2 * (before + after) / axis.weights)))
        return tuple(found)

    def at_faces(self, a: Float[Array, "*space"]) -> list[Array]:
        """Arithmetic means of neighbours at the faces along each axis, of a coefficient at the points of the grid.

        Towards walls on which no value is stored the coefficient continues as a constant.
        """
        faces = []
        for i, (axis, sides) in enumerate(zip(self.axes, self.grid.sides, strict=True)):
            cut = tuple(slice(None) if j == i else part for j, part in enumerate(self.inner))
            x = jnp.moveaxis(a[cut], i, 0)
            low, high = _stored(sides)
            if axis.periodic:
                mean = (x + jnp.roll(x, 1, 0)) / 2
            else:
                x = jnp.concatenate((x[: 1 - low], x, x[x.shape[0] - 1 + high :]))
                mean = (x[1:] + x[:-1]) / 2
            faces.append(jnp.moveaxis(mean, 0, i))
        return faces

    def gradient(self, v: Float[Array, "*unknowns"]) -> list[Array]:
        """`D v`: the differences across the faces along each axis."""
        found = []
        for i, axis in enumerate(self.axes):
            x = jnp.moveaxis(v, i, 0)
            around = ((1, 1), *((0, 0),) * (v.ndim - 1))
            steps = x - jnp.roll(x, 1, 0) if axis.periodic else jnp.diff(jnp.pad(x, around), axis=0)
            found.append(jnp.moveaxis(steps * _first(axis.scales, steps), 0, i))
        return found

    def divergence(self, fluxes: Sequence[Array]) -> Float[Array, "*unknowns"]:
        """`D* q`, minus the divergence of fluxes at the faces along each axis."""
        total = jnp.zeros(self.shape, fluxes[0].dtype)
        for i, (axis, q) in enumerate(zip(self.axes, fluxes, strict=True)):
            x = jnp.moveaxis(q, i, 0)
            x = x * _first(axis.scales, x)
            out = x - jnp.roll(x, -1, 0) if axis.periodic else -jnp.diff(x, axis=0)
            total = total + jnp.moveaxis(out / _first(axis.weights, out), 0, i)
        return total

    def solve(self, r: Float[Array, "*unknowns"], scale: Array | float, mass: float) -> Float[Array, "*unknowns"]:
        """`(scale D* D + mass)^(-1) r`, the solution of mean zero if the operator is singular.

        Transforms along each axis as matrix products: sines, cosines or Fourier modes, or for other gaps of the walls
        the modes of the axis, found numerically.

        Source: Lynch, Rice, Thomas, "Direct solution of partial difference equations by tensor product methods", 1964.
        """
        eigenvalues = functools.reduce(np.add.outer, [axis.modes[0] for axis in self.axes])
        for i, axis in enumerate(self.axes):
            r = _along(i, (axis.modes[1] * np.sqrt(axis.weights)[:, None]).T, r)
        divisor = scale * jnp.asarray(eigenvalues, r.dtype) + mass
        r = jnp.where(divisor == 0, 0, r / jnp.where(divisor == 0, 1, divisor))
        for i, axis in enumerate(self.axes):
            r = _along(i, axis.modes[1] / np.sqrt(axis.weights)[:, None], r)
        return r

    def inner_product(self, u: Float[Array, "*unknowns"], v: Float[Array, "*unknowns"]) -> Float[Array, ""]:
        """The integral of `u v`."""
        return self._integral(u * v, None)

    def norm(self, v: Float[Array, "*unknowns"]) -> Float[Array, ""]:
        """The L2 norm."""
        return jnp.sqrt(self.inner_product(v, v))

    def mean(self, v: Float[Array, "*unknowns"]) -> Float[Array, ""]:
        """The mean over the box."""
        return self.inner_product(v, jnp.ones_like(v)) / self.measure

    @functools.cached_property
    def measure(self) -> float:
        """Sum of the cells: the integral of 1."""
        return self.volume * math.prod(float(np.sum(axis.weights)) for axis in self.axes)

    def face_integral(self, p: Sequence[Array], q: Sequence[Array]) -> Float[Array, ""]:
        """The integral of the product of two fields at faces."""
        parts = [self._integral(one * other, i) for i, (one, other) in enumerate(zip(p, q, strict=True))]
        return functools.reduce(lambda x, y: x + y, parts)

    def weighted(self, values: Float[Array, "*unknowns"], normal: int | None = None) -> Float[Array, "*unknowns"]:
        """Values times the sizes of their cells in units of `volume`, along all axes but `normal`."""
        for i, axis in enumerate(self.axes):
            if i != normal and np.any(axis.weights != 1):
                x = jnp.moveaxis(values, i, 0)
                values = jnp.moveaxis(x * _first(axis.weights, x), 0, i)
        return values

    def _integral(self, values: Array, normal: int | None) -> Array:
        return self.volume * jnp.sum(self.weighted(values, normal))


def _first(factors: np.ndarray, like: Array) -> Array:
    """Factors of the entries along the first axis, shaped to broadcast."""
    return jnp.asarray(factors.reshape(-1, *(1,) * (like.ndim - 1)), like.dtype)


def _along(axis: int, matrix: np.ndarray, x: Array) -> Array:
    """Applies a matrix along one axis of `x`, in the precision of `x`."""
    product: Callable[..., Array] = functools.partial(jnp.tensordot, axes=(1, axis), precision="highest")
    return jnp.moveaxis(product(jnp.asarray(matrix, x.dtype), x), 0, axis)
