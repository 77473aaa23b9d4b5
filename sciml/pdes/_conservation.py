"""Conservation laws on periodic boxes: limited slopes, and steps as long as the fastest wave allows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Averages = Float[Array, "fields *space"]


def half_slopes(w: Averages, axis: int) -> Averages:
    """Half of the differences across each cell along an axis, limited: 0 where `w` is not monotone.

    The smallest of the central and twice the one-sided ones: van Leer's monotonised central limiter (LeVeque, Finite
    Volume Methods for Hyperbolic Problems, 2002, section 6.11).
    """
    after = jnp.roll(w, -1, axis) - w
    before = jnp.roll(after, 1, axis)
    smallest = jnp.minimum(jnp.abs(after + before) / 2, 2 * jnp.minimum(jnp.abs(after), jnp.abs(before)))
    return jnp.where(after * before > 0, jnp.sign(after) * smallest, 0) / 2


def inflow(
    w: Averages, flux: Callable[[Averages, Averages], Float[Array, "balances *space"]], *, axis: int
) -> Float[Array, "balances *space"]:
    """What flows into each cell along an axis.

    Args:
        w: Cell values.
        flux: The flux between the values at both sides of the faces, the first ones at lower coordinates.
        axis: Axis of `w`.
    """
    half = half_slopes(w, axis)
    through = flux(w + half, jnp.roll(w - half, -1, axis))
    return jnp.roll(through, 1, axis) - through


def advance(
    u: Averages,
    rate: Callable[[Averages], Averages],
    fastest: Callable[[Averages], Float[Array, ""]],
    *,
    interval: float,
    courant: float,
) -> Averages:
    """The averages after an interval of time, by Heun's rule.

    The rule preserves what Euler's rule does, and is of order 2 (Gottlieb, Shu & Tadmor, SIAM Review 43, 2001).

    Args:
        u: Averages at its beginning.
        rate: Their time derivative.
        fastest: The number of cells that the fastest wave crosses in a unit of time; not finite for a state that is not
            possible, which ends the steps with NaN.
        interval: How long.
        courant: Largest number of cells that the fastest wave crosses in a step.
    """

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        u, left = state
        steps = jnp.ceil(left * fastest(u) / courant)
        dt = jnp.where(jnp.isfinite(steps), left / steps, jnp.nan)  # a state that is not finite ends the loop
        middle = u + dt * rate(u)
        return (u + middle + dt * rate(middle)) / 2, left - dt

    start = (u, jnp.asarray(interval, u.dtype))
    return jax.lax.while_loop(lambda state: state[1] > 0, step, start)[0]
