"""Darcy flow through a medium whose log-permeability is a Gaussian field with few coefficients."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sciml.grid import Dirichlet, Grid
from sciml.pdes._elliptic import diffusion_residual, solve_diffusion
from sciml.pdes._random_fields import check_double, check_field, neumann_modes


@functools.cache
def _modes(count: int, resolution: int, alpha: float, tau: float) -> np.ndarray:
    return neumann_modes(count, (np.linspace(0, 1, resolution),) * 2, alpha=alpha, tau=tau)


@dataclasses.dataclass(frozen=True)
class LogNormalDarcy:
    """Darcy flow: `-div(exp(m) grad u) = forcing` on (0, 1)^2, `u = 0` on the boundary, with a Gaussian field `m`.

    `m = amplitude sum_j xi_j modes_j` with independent standard normal coefficients `xi`: the truncated
    Karhunen-Loeve expansion of the field `N(0, tau^(2 alpha - 2) (-Laplace + tau^2)^(-alpha))` with Neumann conditions
    (`neumann_modes`). A usual test problem of inverse problems: find `xi` from values of `u`.

    Everything lives at the nodes `i / (resolution - 1)`, those on the boundary included. The fluxes are those of
    `solve_diffusion`, second order. A key has the same coefficients at every resolution.

    Args:
        resolution: Number of nodes along each axis.
        terms: Number of coefficients.
        alpha: Smoothness of the field.
        tau: Inverse correlation length of the field; larger means finer structures.
        amplitude: Factor of the field.
        forcing: Constant right-hand side.
    """

    inputs: ClassVar[tuple[str, ...]] = ("log_permeability",)
    outputs: ClassVar[tuple[str, ...]] = ("pressure",)

    resolution: int = 32
    terms: int = 16
    alpha: float = 2.0
    tau: float = 3.0
    amplitude: float = 3.0
    forcing: float = 1.0

    def __post_init__(self) -> None:
        if self.resolution < 3 or self.terms < 1:
            raise ValueError(
                "Expected at least 3 nodes along each axis and 1 term, "
                f"got resolution {self.resolution} and terms {self.terms}."
            )
        if self.amplitude <= 0:
            raise ValueError(f"Expected a positive amplitude, got {self.amplitude}. Its sign has no effect: drop it.")
        check_field(self.alpha, self.tau, 2)

    def at(self, resolution: int) -> "LogNormalDarcy":
        """The same samples at another resolution."""
        return dataclasses.replace(self, resolution=resolution)

    @property
    def grid(self) -> Grid:
        """The nodes."""
        return Grid((self.resolution,) * 2, 1.0, Dirichlet(0.0))

    def log_permeability(self, coefficients: Float[Array, " terms"]) -> Float[Array, "x y"]:
        """The field of some coefficients, in their precision."""
        modes = _modes(self.terms, self.resolution, self.alpha, self.tau)
        return jnp.tensordot(coefficients, jnp.asarray(self.amplitude * modes, coefficients.dtype), axes=1)

    def pressure(self, log_permeability: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """The pressure for a log-permeability; float64. Its derivatives are those of `solve_diffusion`."""
        return solve_diffusion(jnp.exp(log_permeability), jnp.full_like(log_permeability, self.forcing))

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "1 x y"], Float[Array, "1 x y"]]:
        """One pair (log-permeability, pressure), computed in float64, returned in float32; see `Darcy.sample`.

        Raises:
            ValueError: If float64 is switched off.
        """
        coefficients = jax.random.normal(key, (self.terms,), float)
        check_double(coefficients)
        field = self.log_permeability(coefficients)
        return field[None].astype(jnp.float32), self.pressure(field)[None].astype(jnp.float32)

    def residual(self, x: Float[Array, "1 x y"], u: Float[Array, "1 x y"]) -> Float[Array, "1 x-2 y-2"]:
        """`diffusion_residual` of a log-permeability and a pressure, for losses without data.

        Raises:
            ValueError: If a field does not live on the grid.
        """
        return diffusion_residual(jnp.exp(x), u, self.forcing, self.grid)
