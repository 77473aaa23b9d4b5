"""The Fokker-Planck equation of overdamped Brownian motion in a potential, as a master equation between cells."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.pdes._interval import Constant, check_interval

BOLTZMANN = 1.380649e-23
"""Boltzmann's constant, J / K."""


def stokes_einstein(temperature: Constant, viscosity: Constant, radius: Constant) -> Constant:
    """The diffusivity `k_B T / (6 pi viscosity radius)` of a sphere in a fluid.

    Args:
        temperature: In K.
        viscosity: Of the fluid, in Pa s.
        radius: Of the sphere, in m.

    Returns:
        The diffusivity in m^2 / s; 1 m^2 / s is 1e12 um^2 / s.
    """
    return BOLTZMANN * temperature / (6 * math.pi * viscosity * radius)


def _generator(potential: Float[Array, " x"], diffusivity: Array, h: float) -> Float[Array, "x x"]:
    """Rates `[to, from]` between neighbouring cells; each column sums to zero."""
    n = potential.shape[0]
    climb = jnp.roll(potential, -1) - potential  # from cell i to cell i + 1
    upwards, downwards = (diffusivity / h**2 * jnp.exp(sign * climb / 2) for sign in (-1, 1))
    here = jnp.arange(n)
    there = (here + 1) % n
    rates = jnp.zeros((n, n), potential.dtype)
    rates = rates.at[there, here].add(upwards).at[here, there].add(downwards)
    return rates - jnp.diag(jnp.sum(rates, axis=0))


def _propagator(rates: Float[Array, "x x"], interval: float) -> Float[Array, "x x"]:
    """`exp(interval rates)` from sums and products of numbers that are not negative, and columns that sum to one.

    `rates + q` has no negative entry for the largest rate `q` of leaving a cell, so that
    `exp(h rates) = exp(-h q) sum_m (h (rates + q))^m / m!` has none either; squared until `h` is the interval.
    """
    n = rates.shape[0]
    fastest = jnp.max(-jnp.diagonal(rates))
    doublings = jnp.clip(jnp.ceil(jnp.log2(interval * fastest)), 0, 60)
    h = interval * jnp.exp2(-doublings)
    identity = jnp.eye(n, dtype=rates.dtype)
    hops = h * (rates + fastest * identity)
    # Horner's scheme with 19 terms: h q <= 1, and the next one is below 1 / 20! = 4e-19.
    total = jax.lax.fori_loop(0, 19, lambda m, total: identity + hops @ total / (19 - m), identity)

    def squared(_: Array, matrix: Array) -> Array:
        matrix = matrix @ matrix
        return matrix / jnp.sum(matrix, axis=0, keepdims=True)

    return jax.lax.fori_loop(0, doublings.astype(int), squared, total / jnp.sum(total, axis=0, keepdims=True))


def solve_fokker_planck(
    u0: Float[Array, " x"],
    potential: Float[Array, " x"],
    diffusivity: Constant,
    *,
    length: float,
    time: float,
    frames: int,
) -> Float[Array, "time x"]:
    """The Fokker-Planck equation `u_t = diffusivity (u_x + V' u)_x` on a periodic interval, `V = U / (k_B T)`.

    For a particle with the drag coefficient `k_B T / diffusivity` in a potential energy `U` this is
    `u_t = diffusivity u_xx + (1 / drag) (U' u)_x`. Between the centres of neighbouring cells with potentials `V` and
    `W` particles hop at the rate `diffusivity / h^2 exp((V - W) / 2)`, which is of second order in the width `h`. Hops
    in the Gibbs density `exp(-V)` balance exactly, no density becomes negative, their sum does not change, and between
    frames the solution is exact up to rounding (a matrix exponential).

    Args:
        u0: Initial density, or the probabilities of the cells; the equation is linear.
        potential: `V` at the centres of the cells, which should continue over the ends of the period.
        diffusivity: In length^2 / time, positive, as from `stokes_einstein`.
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames; row `i` is the density at `i time / frames`.

    Raises:
        ValueError: If there are less than 4 cells, or a setting is not positive.
    """
    check_interval(u0, length=length, time=time, frames=frames)
    rates = _generator(potential.astype(u0.dtype), jnp.asarray(diffusivity, u0.dtype), length / u0.shape[0])
    matrix = _propagator(rates, time / frames)
    advance = lambda u, _: (matrix @ u, matrix @ u)
    _, later = jax.lax.scan(advance, u0, None, length=frames - 1)
    return jnp.concatenate((u0.reshape(1, -1), later))
