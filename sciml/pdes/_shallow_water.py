"""Two-dimensional shallow water on a periodic square: waves, bores and the radial dam break."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sciml.grid import Grid, Periodic
from sciml.pdes._conservation import advance, inflow
from sciml.pdes._periodic import AbstractFlow, check_sizes
from sciml.pdes._random_fields import periodic_field


@dataclasses.dataclass(frozen=True)
class ShallowWater(AbstractFlow):
    """Height `h` and velocity `v` of water on a flat, periodic square, `g` the gravity.

    `h_t + div(h v) = 0` and `(h v)_t + div(h v v) + g h grad h = 0`, the latter as `div(h v v + g h^2 / 2)`.

    Finite volumes of second order: heights and velocities are linear in each cell, with slopes limited to the smallest
    of the central and twice the one-sided ones (van Leer's monotonised central limiter); the flux between cells is that
    of Harten, Lax and van Leer with Davis' bounds of the speeds, and carries the transverse velocity upwind, so that
    shear does not smear; Heun's rule in time, with steps from the largest speed at each of them (LeVeque, Finite Volume
    Methods for Hyperbolic Problems, 2002, sections 6.11, 13 and 19; Toro, Shock-Capturing Methods for Free-Surface
    Shallow Flows, 2001). Mass and momentum are conserved to rounding. Beds must stay wet.

    Samples are the radial dam break of PDEBench (Takamoto et al. 2022, arXiv:2210.07182), which there has the square
    [-2.5, 2.5]^2 and gravity 1 too: at rest, `h = 2` in a circle around the centre and 1 elsewhere.

    Args:
        resolution: Number of cells along each axis.
        length: Length of the square.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        gravity: Acceleration, length / time^2.
        inner: Height in the circle of a sample.
        smallest: Smallest radius of the circle; radii are uniform.
        largest: Largest radius.
        courant: Largest time step as a part of `1 / max((|v1| + c) / dx + (|v2| + c) / dx)` with `c = sqrt(g h)`; up
            to 1/2 heights stay positive.
    """

    names: ClassVar[tuple[str, ...]] = ("velocity x1", "velocity x2", "height")

    resolution: int = 64
    length: float = 5.0
    frames: int = 20
    interval: float = 0.05
    gravity: float = 1.0
    inner: float = 2.0
    smallest: float = 0.3
    largest: float = 0.7
    courant: float = 0.4

    def __post_init__(self) -> None:
        check_sizes(self.resolution, self.frames, least=4, unit="cells")
        if min(self.length, self.interval, self.gravity, self.inner) <= 0 or not 0 < self.courant <= 0.5:
            raise ValueError(
                "Expected positive length, interval, gravity and inner, and courant up to 1/2, "
                f"got {self.length}, {self.interval}, {self.gravity}, {self.inner} and {self.courant}."
            )
        if not 0 < self.smallest <= self.largest <= self.length / 2:
            raise ValueError(
                f"Expected radii of circles within a square of length {self.length}, smallest <= largest, "
                f"got {self.smallest} and {self.largest}."
            )

    @property
    def grid(self) -> Grid:
        """The centres of the cells, `(i + 1/2) length / resolution`."""
        return Grid((self.resolution,) * 2, self.length, Periodic(gap=0.5))

    def initial(self, key: Key[Array, ""]) -> Float[Array, "3 x y"]:
        """A dam break."""
        return self.dam_break(key)

    def dam_break(self, key: Key[Array, ""]) -> Float[Array, "3 x y"]:
        """Water at rest, higher in a circle of random radius around the centre, in JAX's default precision."""
        radius = jax.random.uniform(key, (), float, self.smallest, self.largest)
        x, y = (jnp.asarray(points - self.length / 2, float) for points in self.grid.points())
        height = jnp.where(jnp.hypot(x[:, None], y[None]) < radius, self.inner, 1.0)
        return jnp.stack((jnp.zeros_like(height), jnp.zeros_like(height), height))

    def waves(self, key: Key[Array, ""], *, height: float = 0.3, speed: float = 0.3) -> Float[Array, "3 x y"]:
        """Smooth random waves: largest deviation `height` of the height from 1, largest components `speed`."""
        fields = [periodic_field(one, (self.resolution,) * 2, alpha=4.0, tau=8.0) for one in jax.random.split(key, 3)]
        v1, v2, h = (field / jnp.max(jnp.abs(field)) for field in fields)
        return jnp.stack((speed * v1, speed * v2, 1 + height * h))

    def solve(
        self, start: Float[Array, "3 x y"], *, gravity: Float[Array, ""] | float | None = None
    ) -> Float[Array, "frames 3 x y"]:
        """The stored frames, two velocities and the height, from such a field at time 0, in its precision.

        Args:
            start: Velocities and height.
            gravity: In place of the setting; may be traced, for trajectories that differ in it.

        Raises:
            ValueError: If the field does not live on the grid.
        """
        self.grid.check(start)
        g = jnp.asarray(self.gravity if gravity is None else gravity, start.dtype)
        dx = self.length / self.resolution

        rate = lambda u: _rate(u, g, dx)
        fastest = lambda u: jnp.max(jnp.abs(u[1:] / u[:1]).sum(axis=0) + 2 * jnp.sqrt(g * u[0])) / dx

        def frame(u: Array, _: None) -> tuple[Array, Array]:
            u = advance(u, rate, fastest, interval=self.interval, courant=self.courant)
            return u, jnp.concatenate((u[1:] / u[:1], u[:1]))

        u = jnp.concatenate((start[2:], start[2:] * start[:2]))
        return jax.lax.scan(frame, u, None, length=self.frames)[1]


def _rate(u: Float[Array, "3 x y"], g: Float[Array, ""], dx: float) -> Float[Array, "3 x y"]:
    """The time derivative of height and momenta."""
    v1, v2 = u[1] / u[0], u[2] / u[0]
    flux = lambda low, high: _flux(low, high, g)
    mass1, along1, across1 = inflow(jnp.stack((u[0], v1, v2)), flux, axis=1)
    mass2, along2, across2 = inflow(jnp.stack((u[0], v2, v1)), flux, axis=2)
    return jnp.stack((mass1 + mass2, along1 + across2, across1 + along2)) / dx


def _flux(low: Float[Array, "3 x y"], high: Float[Array, "3 x y"], g: Float[Array, ""]) -> Float[Array, "3 x y"]:
    """The flux between heights, velocities along the axis and velocities across it at both sides of the faces."""
    (h0, v0, across0), (h1, v1, across1) = low, high
    c0, c1 = jnp.sqrt(g * h0), jnp.sqrt(g * h1)
    slowest = jnp.minimum(jnp.minimum(v0 - c0, v1 - c1), 0)
    fastest = jnp.maximum(jnp.maximum(v0 + c0, v1 + c1), 0)

    def between(f0: Array, f1: Array, jump: Array) -> Array:
        return (fastest * f0 - slowest * f1 + fastest * slowest * jump) / (fastest - slowest)

    m0, m1 = h0 * v0, h1 * v1
    mass = between(m0, m1, h1 - h0)
    along = between(m0 * v0 + g * h0**2 / 2, m1 * v1 + g * h1**2 / 2, m1 - m0)
    return jnp.stack((mass, along, mass * jnp.where(mass > 0, across0, across1)))
