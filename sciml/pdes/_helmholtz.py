"""Waves in a medium of random speed: finite elements for the Helmholtz equation, solved by block elimination."""

import dataclasses
import functools
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sciml.grid import Grid, Neumann
from sciml.pdes._nine_point import apply
from sciml.pdes._random_fields import along

_GAUSS = (1 + np.array([-np.sqrt(0.6), 0.0, np.sqrt(0.6)])) / 2  # points of the unit interval
_WEIGHTS = np.array([5, 8, 5]) / 18
_HATS = np.stack((1 - _GAUSS, _GAUSS))
_OVERLAPS = _WEIGHTS * _HATS[:, None] * _HATS[None]  # weight N_a N_b at each point
_SPEED = 20.0


def _elements(squares: Array) -> Array:
    """Element matrices `[a1, a2, b1, b2, i, j]` of `-Laplace - squares`, from its values at `[i, point, j, point]`."""
    slopes, masses = np.array([[1, -1], [-1, 1]]), np.array([[2, 1], [1, 2]]) / 6
    stiffness = np.einsum("ab,cd->acbd", slopes, masses) + np.einsum("ab,cd->acbd", masses, slopes)
    overlaps = jnp.asarray(_OVERLAPS, squares.dtype)
    masses = jnp.einsum("abp,cdq,ipjq->acbdij", overlaps, overlaps, squares) / squares.shape[0] ** 2
    return jnp.asarray(stiffness, squares.dtype)[..., None, None] - masses


def _stencils(elements: Array) -> Array:
    """The assembled matrix in the form of `_nine_point`."""
    n = elements.shape[-1]
    matrix = jnp.zeros((3, 3, n + 1, n + 1), elements.dtype)
    for a1, a2, b1, b2 in itertools.product(range(2), repeat=4):
        nodes = (1 + b1 - a1, 1 + b2 - a2, slice(a1, a1 + n), slice(a2, a2 + n))
        matrix = matrix.at[nodes].add(elements[a1, a2, b1, b2])
    return matrix


def _banded(bands: Array, x: Array) -> Array:
    """The product of a tridiagonal matrix, `bands[1 + d, i]` its entry (i, i + d), with the columns of `x`."""
    around, n = jnp.pad(x, ((1, 1), (0, 0))), len(x)
    return bands[0, :, None] * around[:n] + bands[1, :, None] * x + bands[2, :, None] * around[2:]


def _triangular_inverse(lower: Array) -> Array:
    """The inverse of a lower triangular matrix: diagonal blocks of sizes 1, 2, 4, ..., all of a size at once."""
    n = len(lower)
    size = 1 << (n - 1).bit_length()
    padded = jnp.eye(size, dtype=lower.dtype).at[:n, :n].set(lower)
    blocks = (1 / jnp.diagonal(padded))[:, None, None]
    while (m := len(blocks)) > 1:
        first, second = blocks[::2], blocks[1::2]
        below = padded.reshape(m, size // m, m, size // m)[np.arange(1, m, 2), :, np.arange(0, m, 2), :]
        blocks = jnp.block([[first, jnp.zeros_like(first)], [-second @ below @ first, second]])
    return blocks[0, :n, :n]


def _inverse(matrix: Array) -> Array:
    """The inverse by pivoted elimination.

    Not `jnp.linalg.inv`: on CPUs its triangular solves start threads for each of these small blocks. With other work
    on the cores a sample of 100 elements then took a second instead of 0.03.
    """
    factors, _, order = jax.lax.linalg.lu(matrix)
    lower = jnp.tril(factors, -1) + jnp.eye(len(matrix), dtype=matrix.dtype)
    product = _triangular_inverse(jnp.triu(factors).T).T @ _triangular_inverse(lower)
    return jnp.zeros_like(matrix).at[:, order].set(product)


def _factorise(lines: Array) -> Array:
    """Inverses of the pivot blocks, one for each grid line `j`, from the matrix as `[j, 1 + d2, 1 + d1, i]`."""
    identity = jnp.eye(lines.shape[-1], dtype=lines.dtype)

    def eliminate(inverse: Array, line: Array) -> tuple[Array, Array]:
        below, own, _ = line
        # symmetric: the coupling of the line before to this one is the transpose of `below`
        pivot = _banded(own, identity) - _banded(below, _banded(below, inverse).T)
        inverse = _inverse(pivot)
        return inverse, inverse

    return jax.lax.scan(eliminate, jnp.zeros_like(identity), lines)[1]


def _substitute(lines: Array, inverses: Array, b: Array) -> Array:
    """Solves with the factorised matrix for the right-hand side `b[i, j]`."""

    def forward(before: Array, line: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        bands, inverse, own = line
        y = inverse @ (own - _banded(bands[0], before[:, None])[:, 0])
        return y, y

    def backward(after: Array, line: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        bands, inverse, own = line
        u = own - inverse @ _banded(bands[2], after[:, None])[:, 0]
        return u, u

    start = jnp.zeros_like(b[:, 0])
    _, y = jax.lax.scan(forward, start, (lines, inverses, b.T))
    _, u = jax.lax.scan(backward, start, (lines, inverses, y), reverse=True)
    return u.T


@functools.cache
def _lowest(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The wavenumbers `(k1, k2)` of the `n` lowest cosine modes but the constant; ties in the order of `k1`."""
    k = np.arange(math.isqrt(2 * n) + 2)
    first, second = (index.ravel()[1:] for index in np.meshgrid(k, k, indexing="ij"))
    chosen = np.argsort(first**2 + second**2, kind="stable")[:n]
    return first[chosen], second[chosen]


@dataclasses.dataclass(frozen=True)
class Helmholtz:
    """Standing waves in a medium of random speed: `-Laplace u - (omega / c)^2 u = 0` on (0, 1)^2.

    All walls are hard, `du/dn = 0`, but for a source on the wall `x2 = 1`: `du/dn = 1` where `|x1 - 1/2| <=
    half_width`. The speed is `c = 20 + tanh(g)` with the Gaussian series `g = sum_k theta_k (pi^2 |k|^2 + 9)^(-1)
    phi_k` over the lowest modes `k = (k1, k2)` but the constant, with independent standard normal `theta_k` and the
    cosines `phi_k` that are orthonormal in `L^2`; it is within about 19.6 to 20.3, so that by default the field has
    eight wavelengths across the square.

    Bilinear elements on a uniform mesh, with 3 x 3 Gauss points in each at which the series itself is evaluated. The
    matrix is indefinite and couples neighbouring grid lines alone: it is factorised by block elimination, one dense
    block per line, without pivoting between lines, and one step of iterative refinement repairs what that costs. At 100
    elements each sample of a batch takes 12 MB.

    The data are those of de Hoop, Huang, Qian, Stuart, The cost-accuracy trade-off in operator learning with neural
    networks (2022), that MgNO is tested on. Differs from their generator by default in the load. Here the flux is
    integrated exactly; there it is interpolated linearly from its nodal values, of which their comparison in floating
    point leaves out the two at the ends, so that `Helmholtz(half_width=0.14, ramp=0.01)` is theirs, a source
    that is 3 % shorter.

    Args:
        omega: Angular frequency; the wavenumber is about omega / 20.
        elements: Number of elements along each axis.
        modes: Number of modes in the random series.
        half_width: Half of the length of the source.
        ramp: Length over which the flux falls linearly to zero beyond both ends of the source.
    """

    inputs: ClassVar[tuple[str, ...]] = ("speed",)
    outputs: ClassVar[tuple[str, ...]] = ("wave",)

    omega: float = 1000.0
    elements: int = 100
    modes: int = 100
    half_width: float = 0.15
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if self.omega <= 0 or self.modes < 1:
            raise ValueError(f"Expected omega > 0 and modes >= 1, got omega {self.omega} and modes {self.modes}.")
        if self.modes > 10_000:
            raise ValueError(f"Expected at most 10000 modes, got {self.modes}.")
        if self.elements < self.omega / _SPEED:
            raise ValueError(
                f"Waves of wavenumber {self.omega / _SPEED:g} need at least {math.ceil(self.omega / _SPEED)} elements, "
                f"6 per wavelength, got {self.elements}. Use more elements or a lower omega."
            )
        if self.half_width <= 0 or self.ramp < 0 or self.half_width + self.ramp > 0.5:
            raise ValueError(
                "Expected half_width > 0, ramp >= 0 and a sum of at most 1/2, "
                f"got half_width {self.half_width} and ramp {self.ramp}."
            )

    @property
    def grid(self) -> Grid:
        """Where the values are: the nodes `i / elements`, those on the walls included."""
        return Grid((self.elements + 1,) * 2, 1.0, Neumann())

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "1 x y"], Float[Array, "1 x y"]]:
        """One pair (speed, wave) on `grid`, computed in float64, returned in float32.

        The caller switches float64 on, around `jax.jit` and `jax.vmap` too, as `sciml.data.draw` and
        `sciml.data.generate` do. The wave is NaN if the solver failed, see `wave`.

        Raises:
            ValueError: If float64 is switched off.
        """
        theta = jax.random.normal(key, (self.modes,), float)
        c, u = self.speed(theta, *self.grid.points()), self.wave(theta)
        return c[None].astype(jnp.float32), u[None].astype(jnp.float32)

    def speed(
        self, theta: Float[Array, " modes"], x1: Float[np.ndarray, " x"], x2: Float[np.ndarray, " y"]
    ) -> Float[Array, "x y"]:
        """The speed with the coefficients `theta` at all pairs of the coordinates."""
        first, second = _lowest(self.modes)
        deviations = 1 / (np.pi**2 * (first**2 + second**2) + 9)
        size = max(first.max(), second.max()) + 1
        field = jnp.zeros((size, size), theta.dtype).at[first, second].set(theta * deviations)
        for axis, x in enumerate((x1, x2)):
            cosines = np.cos(np.pi * np.outer(x, np.arange(size))) * np.where(np.arange(size), np.sqrt(2), 1)
            field = along(axis, cosines, field)
        return _SPEED + jnp.tanh(field)

    def wave(self, theta: Float[Array, " modes"]) -> Float[Array, "x y"]:
        """The wave at the nodes for the coefficients `theta`.

        It is NaN everywhere if the residual relative to the load, recomputed, is above 1e-10: at a resonance, which
        random speeds do not meet.

        Raises:
            ValueError: If the coefficients are not float64.
        """
        if theta.dtype != jnp.float64:
            raise ValueError(f"The solver needs float64, got {theta.dtype}. Use `with jax.enable_x64(True):`.")
        n = self.elements
        points = ((np.arange(n)[:, None] + _GAUSS) / n).ravel()
        squares = (self.omega / self.speed(theta, points, points)) ** 2
        matrix = _stencils(_elements(squares.reshape(n, 3, n, 3)))
        b = jnp.zeros((n + 1, n + 1), theta.dtype).at[:, -1].set(jnp.asarray(self._load(), theta.dtype))
        lines = jnp.transpose(matrix, (3, 1, 0, 2))
        inverses = _factorise(lines)
        u = _substitute(lines, inverses, b)
        u = u + _substitute(lines, inverses, b - apply(matrix, u))
        residual = jnp.linalg.norm(b - apply(matrix, u)) / jnp.linalg.norm(b)
        return jnp.where(residual <= 1e-10, u, jnp.nan)

    def _load(self) -> np.ndarray:
        """Integrals of the flux times each hat function of the wall `x2 = 1`; they add up to `2 half_width + ramp`."""
        n, end = self.elements, self.half_width + self.ramp
        corners = 0.5 + np.array([-end, -self.half_width, self.half_width, end])
        pieces = np.union1d(np.arange(n + 1) / n, corners)  # flux and hats are linear on each
        lengths = np.diff(pieces)
        x = (pieces[:-1, None] + lengths[:, None] * _GAUSS).ravel()
        inside = self.half_width - np.abs(x - 0.5)
        flux = np.where(inside >= 0, 1.0, np.maximum(0, 1 + inside / self.ramp) if self.ramp else 0.0)
        hats = np.maximum(0, 1 - np.abs(n * x - np.arange(n + 1)[:, None]))
        return hats @ (flux * (lengths[:, None] * _WEIGHTS).ravel())
