"""A solute that diffuses through a porous medium and sticks to it, in one dimension."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sciml.grid import Grid, Neumann
from sciml.pdes._cahn_hilliard import GRADING, STABLE, chebyshev_step
from sciml.pdes._parameters import Setting, number
from sciml.pdes._periodic import AbstractFlow, check_positive, check_sizes

LEAST = 1e-6
"""Concentrations below this one have its retardation factor, which tends to infinity at 0 for exponents below 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSorption(AbstractFlow):
    """Diffusion with sorption, `R(u) u_t = diffusivity u_xx`, of a concentration `u` on the interval [0, 1].

    `R(u) = 1 + (1 - porosity) / porosity density sorption exponent u^(exponent - 1)` is the retardation factor of
    Freundlich's isotherm, so that `u + (1 - porosity) / porosity density sorption u^exponent` is conserved. The
    equation and the constants are those of PDEBench (Takamoto et al. 2022, arXiv:2210.07182, appendix D): `u = 1` at
    `x = 0`, `u = -diffusivity u_x` at `x = 1`, through which the solute leaves, and initial fields that are constant,
    uniform in [0, 0.2]. The appendix prints the condition at `x = 1` without the minus sign, with which solutions grow
    without bound.

    Differences of second order between cells, which conserve; Runge-Kutta-Chebyshev steps of second order in time. The
    steps before the first frame grow from very small ones, since the field begins with a jump at `x = 0`.

    Args:
        resolution: Number of cells.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        diffusivity: Effective diffusion coefficient, length^2 / time; or the ends of a range from which each sample
            draws, uniform in the logarithm.
        porosity: Part of the volume that is not solid, in (0, 1).
        density: Bulk density of the medium, mass / length^3.
        sorption: Freundlich's parameter, in units that make its product with the density a number.
        exponent: Freundlich's exponent, in (0, 1].
        largest: Largest initial concentration, up to 1.
        steps: Smallest number of time steps between frames. More are taken if stability asks for it.
    """

    names: ClassVar[tuple[str, ...]] = ("concentration",)
    logarithmic: ClassVar[tuple[str, ...]] = ("diffusivity",)

    resolution: int = 256
    frames: int = 100
    interval: float = 5.0
    diffusivity: Setting = 5e-4
    porosity: float = 0.29
    density: float = 2880.0
    sorption: float = 3.5e-4
    exponent: float = 0.874
    largest: float = 0.2
    steps: int = 16

    def __post_init__(self) -> None:
        check_sizes(self.resolution, self.frames, unit="cells")
        check_positive(interval=self.interval, density=self.density, sorption=self.sorption)
        if not (0 < self.porosity < 1 and 0 < self.exponent <= 1 and 0 <= self.largest <= 1 and self.steps >= 1):
            raise ValueError(
                "Expected a porosity in (0, 1), an exponent in (0, 1], largest in [0, 1] and steps >= 1, "
                f"got {self.porosity}, {self.exponent}, {self.largest} and {self.steps}."
            )
        for problem in self.corners():
            if number(problem.diffusivity) <= 0:
                raise ValueError(f"Expected a positive diffusivity, got {self.diffusivity}.")

    @property
    def grid(self) -> Grid:
        """The centres of the cells, `(i + 1/2) / resolution`, with walls that models continue by reflection."""
        return Grid((self.resolution,), 1.0, Neumann(gap=0.5))

    def retardation(self, u: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """The factor `R(u)`; that of `LEAST` for smaller concentrations."""
        solid = (1 - self.porosity) / self.porosity * self.density * self.sorption
        return 1 + solid * self.exponent * jnp.maximum(u, LEAST) ** (self.exponent - 1)

    def initial(self, key: Key[Array, ""]) -> Float[Array, "1 x"]:
        """A constant concentration, in JAX's default precision."""
        return jnp.full((1, self.resolution), jax.random.uniform(key, (), float, 0, self.largest))

    def solve(self, start: Float[Array, "1 x"]) -> Float[Array, "frames 1 x"]:
        """The stored frames from a concentration in [0, 1] at time 0, in its precision.

        Raises:
            ValueError: If the field does not live on the grid, or if the diffusivity is a range.
        """
        self.grid.check(start)
        h = 1 / self.resolution
        diffusivity = jnp.asarray(number(self.diffusivity), start.dtype)
        leaving = 2 * diffusivity / h

        def rate(u: Array) -> Array:
            entering = 2 * diffusivity / h * (1 - u[:1])  # from the wall to the centre of the first cell
            left = leaving / (1 + leaving) * u[-1:]  # the concentration at the other wall
            flux = jnp.concatenate((entering, -diffusivity / h * jnp.diff(u), left))
            return -jnp.diff(flux) / h / self.retardation(u)

        fastest = 4 * diffusivity / h**2 / self.retardation(jnp.ones((), start.dtype))
        count = jnp.maximum(jnp.ceil(self.interval * fastest / STABLE), self.steps)

        def advance(u: Array, power: Array) -> tuple[Array, Array]:
            steps = jnp.ceil(power * count)  # of which the longest are as long as the others

            def step(j: Array, u: Array) -> Array:
                begin, end = (j / steps) ** power, ((j + 1) / steps) ** power
                return chebyshev_step(rate, u, self.interval * (end - begin))

            u = jax.lax.fori_loop(0, steps.astype(int), step, u)
            return u, u[None]

        powers = jnp.ones(self.frames, start.dtype).at[0].set(GRADING)
        return jax.lax.scan(advance, start[0], powers)[1]
