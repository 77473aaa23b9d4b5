"""Darcy flow through a medium with structures of many sizes, by linear finite elements and multigrid."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sciml.grid import Dirichlet, Grid
from sciml.pdes._elliptic import conjugate_gradients, diffusion_residual, thinned_to
from sciml.pdes._nine_point import apply, cycle, hierarchy

_TOLERANCE, _LIMIT = 1e-11, 200


def _stiffness(lower: Array, upper: Array) -> Array:
    """Stiffness matrix of linear elements at the interior nodes, from the coefficient in both triangles of each cell.

    An edge of a cell couples its ends by minus the mean of the coefficients of the two triangles that share it; the
    diagonal edges couple nothing, for they face right angles.
    """
    first = (lower[:, 1:] + upper[:, :-1]) / 2  # the lower triangle has the bottom and the right edge of its cell
    second = (lower[:-1] + upper[1:]) / 2
    west, east, south, north = first[:-1], first[1:], second[:, :-1], second[:, 1:]
    none = jnp.zeros_like(west)
    own = west + east + south + north
    return jnp.stack([jnp.stack(row) for row in ((none, -west, none), (-south, own, -north), (none, -east, none))])


@dataclasses.dataclass(frozen=True)
class MultiscaleDarcy:
    """Darcy flow with an oscillating permeability: `-div(a grad u) = forcing` on (0, 1)^2, `u = 0` on the boundary.

    `a(x) = prod_k (1 + cos(a_k pi (x1 + x2)) / 2) (1 + sin(a_k pi (x2 - 3 x1)) / 2)`, k = 1 ... factors, with
    independent uniform `a_k` in `(2^(k-1), 1.5 2^(k-1))`: with six factors the shortest period is 1/76 and the contrast
    about 10^4. The default is the data set of He, Liu, Xu, MgNO (2024), and of its predecessors: linear elements on
    1023 x 1023 interior nodes, every fourth stored, which makes 256 x 256.

    Each cell of the uniform mesh is cut along its diagonal from the lower left to the upper right, and `a` enters by
    its value at the centroids of the triangles: second order, as the elements. The sources leave both open, as well as
    the constant forcing, which scales `u`. The shortest period has 13 spacings by default: a smaller mesh needs fewer
    factors. The linear system is solved by conjugate gradients with a multigrid cycle as preconditioner; with six
    factors they take 20 to 25 iterations from 63 to 1023 nodes, where sine transforms, as in `solve_diffusion`, take
    270 for 63 and 800 for 255.

    A sample needs about 0.4 GB of memory by default: draw few at once (`--batch 4`).

    Args:
        resolution: Number of interior nodes along each axis for the solve.
        every: Store only each `every`-th node along each axis, beginning with the first.
        factors: Number of frequencies in the permeability.
        forcing: Constant right-hand side.
    """

    inputs: ClassVar[tuple[str, ...]] = ("permeability",)
    outputs: ClassVar[tuple[str, ...]] = ("pressure",)

    resolution: int = 1023
    every: int = 4
    factors: int = 6
    forcing: float = 1.0

    def __post_init__(self) -> None:
        if self.resolution < 2 or not 1 <= self.every < self.resolution:
            raise ValueError(
                "Expected at least 2 interior nodes and 1 <= every < resolution, "
                f"got resolution {self.resolution} and every {self.every}."
            )
        if self.factors < 1:
            raise ValueError(f"Expected at least one factor of the permeability, got factors {self.factors}. Use 6.")

    def at(self, resolution: int) -> "MultiscaleDarcy":
        """The same samples, stored at another resolution.

        Raises:
            ValueError: If its points are no equally spaced part of those of the solver.
        """
        return dataclasses.replace(self, every=thinned_to(self.resolution, resolution))

    @property
    def grid(self) -> Grid:
        """Where the stored values are: nodes `(i every + 1) / (resolution + 1)`."""
        stored = -(-self.resolution // self.every)
        beyond = self.resolution - (stored - 1) * self.every  # last stored node to the wall, in spacings of the mesh
        sides = (Dirichlet(1 / self.every), Dirichlet(beyond / self.every))
        return Grid((stored, stored), 1.0, (sides, sides))

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "1 x y"], Float[Array, "1 x y"]]:
        """One pair (permeability, pressure) on `grid`, computed in float64, returned in float32.

        The caller switches float64 on, around `jax.jit` and `jax.vmap` too, as `sciml.data.draw` and
        `sciml.data.generate` do. The pressure is NaN if the solver did not converge, see `pressure`.

        Raises:
            ValueError: If float64 is switched off.
        """
        octaves = jnp.asarray(2.0 ** np.arange(self.factors))
        frequencies = octaves * jax.random.uniform(key, (self.factors,), float, 1.0, 1.5)
        points = self.grid.points()
        a = self.permeability(frequencies, *points)
        kept = slice(None, None, self.every)
        u = self.pressure(frequencies)[kept, kept]
        return a[None].astype(jnp.float32), u[None].astype(jnp.float32)

    def permeability(
        self, frequencies: Float[Array, " factors"], x1: Float[np.ndarray, " x"], x2: Float[np.ndarray, " y"]
    ) -> Float[Array, "x y"]:
        """The permeability with the frequencies `a_k` at all pairs of the coordinates."""
        first, second = jnp.asarray(x1)[:, None], jnp.asarray(x2)[None]

        def multiply(a: Array, frequency: Array) -> tuple[Array, None]:
            along = 1 + jnp.cos(jnp.pi * frequency * (first + second)) / 2
            return a * along * (1 + jnp.sin(jnp.pi * frequency * (second - 3 * first)) / 2), None

        return jax.lax.scan(multiply, jnp.ones((len(x1), len(x2)), frequencies.dtype), frequencies)[0]

    def pressure(self, frequencies: Float[Array, " factors"]) -> Float[Array, "x y"]:
        """The pressure at all interior nodes for the frequencies `a_k`.

        It is NaN everywhere if the relative residual, in the norm of the preconditioner, is not below 2e-11 after 200
        iterations.

        Raises:
            ValueError: If the frequencies are not float64.
        """
        if frequencies.dtype != jnp.float64:
            raise ValueError(
                f"The solver needs float64, got {frequencies.dtype}. Switch it on: `with jax.enable_x64(True):`."
            )
        n = self.resolution
        corners = np.arange(n + 1)
        third, two_thirds = (corners + 1 / 3) / (n + 1), (corners + 2 / 3) / (n + 1)
        lower = self.permeability(frequencies, two_thirds, third)
        upper = self.permeability(frequencies, third, two_thirds)
        matrix = _stiffness(lower, upper)
        b = jnp.full((n, n), self.forcing / (n + 1) ** 2)
        precondition = functools.partial(cycle, hierarchy(matrix))
        u, residual = conjugate_gradients(
            functools.partial(apply, matrix), b, _TOLERANCE, _LIMIT, precondition=precondition
        )
        return jnp.where(residual <= 2 * _TOLERANCE, u, jnp.nan)

    def residual(self, a: Float[Array, "1 x y"], u: Float[Array, "1 x y"]) -> Float[Array, "1 x-2 y-2"]:
        """`diffusion_residual` of fields on `grid`, for losses without data; second order in the stored spacing.

        Raises:
            ValueError: If a field does not live on the grid.
        """
        return diffusion_residual(a, u, self.forcing, self.grid)
