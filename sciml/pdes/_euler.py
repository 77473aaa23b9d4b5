"""The compressible Euler equations on periodic boxes: sound, shear and shocks of an ideal gas without viscosity."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sciml.grid import Grid, Periodic
from sciml.pdes._conservation import advance, inflow
from sciml.pdes._parameters import Setting, number
from sciml.pdes._periodic import AbstractFlow, check_positive, check_sizes
from sciml.pdes._random_fields import check_field, periodic_field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(AbstractFlow):
    """The compressible Euler equations: density `r`, pressure `p` and velocity `v` of an ideal gas on a periodic box.

    `r_t + div(r v) = 0`, `(r v)_t + div(r v v) + grad p = 0` and `E_t + div((E + p) v) = 0` with the energy
    `E = p / (gamma - 1) + r |v|^2 / 2`.

    Finite volumes of second order: density, pressure and velocity are linear in each cell, with slopes limited by van
    Leer's monotonised central limiter; the flux between cells is HLLC with Einfeldt's bounds of the speeds (Toro,
    Riemann Solvers and Numerical Methods for Fluid Dynamics, 2009, sections 10.4 to 10.6); Heun's rule in time, which
    is strong-stability preserving, with steps from the largest speed at each of them. Mass, momentum and energy are
    conserved to rounding. A state whose density or pressure is not positive becomes NaN, which `sciml generate`
    refuses.

    The fields and gamma are those of the compressible-flow data of PDEBench (Takamoto et al. 2022, arXiv:2210.07182).
    Differs from them in that the gas has no viscosity, where those have 1e-8 to 0.1, and in the initial fields, which
    are smooth and random, where those are sums of sines, turbulence or jumps; they steepen to shocks.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of cells along each axis.
        length: Length of each axis.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        gamma: Ratio of specific heats; or the ends of a range from which each sample draws, uniform.
        mach: Largest component of the initial velocity, in units of the speed of sound at density and pressure 1; a
            number, or a range whose logarithm is uniform.
        variation: Largest relative deviation of the initial density and pressure from 1, below 1.
        alpha: Smoothness of the initial fields, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial fields, in the same unit.
        courant: Largest time step as a part of the one in which the fastest wave crosses a cell, the speeds along the
            axes added; up to 1/2.
    """

    names: ClassVar[tuple[str, ...]] = ("density", "pressure", "velocity x1", "velocity x2", "velocity x3")
    uniform: ClassVar[tuple[str, ...]] = ("gamma",)
    logarithmic: ClassVar[tuple[str, ...]] = ("mach",)

    dimensions: int = 2
    resolution: int = 64
    length: float = 1.0
    frames: int = 20
    interval: float = 0.05
    gamma: Setting = 5 / 3
    mach: Setting = 0.5
    variation: float = 0.3
    alpha: float = 4.0
    tau: float = 10.0
    courant: float = 0.4

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2, 3):
            raise ValueError(f"Expected 1, 2 or 3 dimensions, got {self.dimensions}.")
        check_sizes(self.resolution, self.frames, unit="cells")
        check_positive(length=self.length, interval=self.interval)
        check_field(self.alpha, self.tau, self.dimensions)
        if not (0 <= self.variation < 1 and 0 < self.courant <= 0.5):
            raise ValueError(
                "Expected a variation in [0, 1) and courant up to 1/2, "
                f"got variation {self.variation} and courant {self.courant}."
            )
        for problem in self.corners():
            if number(problem.gamma) <= 1 or number(problem.mach) < 0:
                raise ValueError(f"Expected gamma > 1 and mach >= 0, got gamma {self.gamma} and mach {self.mach}.")

    @property
    def fields(self) -> tuple[str, ...]:
        """Density, pressure and the components of the velocity."""
        return self.names[: 2 + self.dimensions]

    @property
    def grid(self) -> Grid:
        """The centres of the cells, `(i + 1/2) length / resolution`."""
        return Grid((self.resolution,) * self.dimensions, self.length, Periodic(gap=0.5))

    def initial(self, key: Key[Array, ""]) -> Float[Array, "fields *space"]:
        """Smooth random fields around density and pressure 1, in JAX's default precision."""
        drawn = [
            periodic_field(one, self.grid.shape, alpha=self.alpha, tau=self.tau)
            for one in jax.random.split(key, len(self.fields))
        ]
        density, pressure, *velocity = (field / jnp.max(jnp.abs(field)) for field in drawn)
        speed = number(self.mach) * jnp.sqrt(number(self.gamma))
        return jnp.stack((1 + self.variation * density, 1 + self.variation * pressure, *(speed * v for v in velocity)))

    def solve(self, start: Float[Array, "fields *space"]) -> Float[Array, "frames fields *space"]:
        """The stored frames from density, pressure and velocity at time 0, in their precision.

        NaN from the first frame on before which a density or a pressure was not positive.

        Raises:
            ValueError: If the fields do not live on the grid, or if a constant is a range.
        """
        self.grid.check(start)
        gamma, dx = jnp.asarray(number(self.gamma), start.dtype), self.length / self.resolution
        rate = functools.partial(_rate, gamma=gamma, dx=dx)
        fastest = lambda u: _fastest(_values(u, gamma), gamma) / dx

        def frame(u: Array, _: None) -> tuple[Array, Array]:
            u = advance(u, rate, fastest, interval=self.interval, courant=self.courant)
            w = _values(u, gamma)
            return u, jnp.where(jnp.min(w[:2]) > 0, w, jnp.nan)

        return jax.lax.scan(frame, _averages(start, gamma), None, length=self.frames)[1]


Values = Float[Array, "fields *space"]
"""Density, pressure and velocity; the velocity along an axis comes first where there is one axis at hand."""

Averages = Float[Array, "fields *space"]
"""Density, energy and momentum."""

Speeds = Float[Array, "*space"]
"""A speed at each face."""


def _averages(w: Values, gamma: Float[Array, ""]) -> Averages:
    energy = w[1] / (gamma - 1) + w[0] * jnp.sum(w[2:] ** 2, axis=0) / 2
    return jnp.concatenate((w[:1], energy[None], w[:1] * w[2:]))


def _values(u: Averages, gamma: Float[Array, ""]) -> Values:
    velocity = u[2:] / u[:1]
    pressure = (gamma - 1) * (u[1] - u[0] * jnp.sum(velocity**2, axis=0) / 2)
    return jnp.concatenate((u[:1], pressure[None], velocity))


def _fastest(w: Values, gamma: Float[Array, ""]) -> Float[Array, ""]:
    """The largest sum of the speeds along all axes; infinite if a density or a pressure is not positive."""
    sound = jnp.sqrt(gamma * w[1] / w[0])
    speeds = jnp.sum(jnp.abs(w[2:]), axis=0) + (w.shape[0] - 2) * sound
    return jnp.where(jnp.min(w[:2]) > 0, jnp.max(speeds), jnp.inf)


def _rate(u: Averages, gamma: Float[Array, ""], dx: float) -> Averages:
    """The time derivative of the averages."""
    w, total = _values(u, gamma), jnp.zeros_like(u)
    for axis in range(u.ndim - 1):
        turned = jnp.concatenate((w[:2], w[2 + axis : 3 + axis], w[2 : 2 + axis], w[3 + axis :]))
        through = inflow(turned, functools.partial(_flux, gamma=gamma), axis=axis + 1)
        total += jnp.concatenate((through[:2], through[3 : 3 + axis], through[2:3], through[3 + axis :]))
    return total / dx


def _flux(low: Values, high: Values, gamma: Float[Array, ""]) -> Averages:
    """The HLLC flux between the states at both sides of the faces.

    Toro (2009), eqs. (10.37) to (10.39) with the speeds of eqs. (10.52) and (10.53).
    """
    slowest, fastest = _speeds(low, high, gamma)
    (r0, p0, v0), (r1, p1, v1) = low[:3], high[:3]
    m0, m1 = r0 * (slowest - v0), r1 * (fastest - v1)  # what passes the outer waves
    middle = (p1 - p0 + m0 * v0 - m1 * v1) / (m0 - m1)
    return jnp.where(middle[None] >= 0, _beside(low, slowest, middle, gamma), _beside(high, fastest, middle, gamma))


def _beside(w: Values, outer: Speeds, middle: Speeds, gamma: Float[Array, ""]) -> Averages:
    """The flux on one side of the contact, from the state beyond the outer wave of this side."""
    density, pressure, along = w[:3]
    u = _averages(w, gamma)
    push = jnp.concatenate((jnp.stack((0 * pressure, pressure * along, pressure)), 0 * w[3:]))
    flux = u * along[None] + push
    factor = density * (outer - along) / (outer - middle)
    energy = u[1] / density + (middle - along) * (middle + pressure / (density * (outer - along)))
    between = factor[None] * jnp.concatenate((jnp.ones_like(w[:1]), energy[None], middle[None], w[3:]))
    crossed = jnp.sign(outer) != jnp.sign(middle)  # the face lies between the two waves
    return jnp.where(crossed[None], flux + outer[None] * (between - u), flux)


def _speeds(low: Values, high: Values, gamma: Float[Array, ""]) -> tuple[Speeds, Speeds]:
    """Bounds of the speeds of all waves: those of the states, and of their mean after Roe."""
    part = jnp.sqrt(low[0]) / (jnp.sqrt(low[0]) + jnp.sqrt(high[0]))
    enthalpies = [
        gamma / (gamma - 1) * pressure / density + jnp.sum(velocity**2, axis=0) / 2
        for density, pressure, velocity in ((w[0], w[1], w[2:]) for w in (low, high))
    ]
    velocity = part[None] * low[2:] + (1 - part[None]) * high[2:]
    enthalpy = part * enthalpies[0] + (1 - part) * enthalpies[1]
    mean = jnp.sqrt((gamma - 1) * (enthalpy - jnp.sum(velocity**2, axis=0) / 2))
    c0, c1 = (jnp.sqrt(gamma * w[1] / w[0]) for w in (low, high))
    return jnp.minimum(low[2] - c0, velocity[0] - mean), jnp.maximum(high[2] + c1, velocity[0] + mean)
