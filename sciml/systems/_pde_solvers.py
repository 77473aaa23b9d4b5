"""The solvers of the families of PROSE-PDE: constants of the equations to those that `sciml.pdes` takes."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from sciml import pdes


def klein_gordon(u: Array, c2: Any, q: Any, **where: Any) -> Array:
    """u_tt = c^2 u_xx - q u, whose mass is sqrt(q) / c^2."""
    return pdes.solve_klein_gordon(u, jnp.sqrt(c2), jnp.sqrt(q) / c2, **where)


def wave(u: Array, b2: Any, **where: Any) -> Array:
    """u_tt = b^2 u_xx."""
    return pdes.solve_wave(u, jnp.sqrt(b2), **where)


def cahn_hilliard(u: Array, e2: Any, **where: Any) -> Array:
    """u_t = -e^2 u_xxxx + 6 (u u_x)_x."""
    return pdes.solve_cahn_hilliard(u, jnp.sqrt(e2), **where)


def porous_medium(u: Array, m: Any, *rest: Any, **where: Any) -> Array:
    """u_t = (u^m)_xx; the other constants follow from m."""
    return pdes.solve_balance_law(u, pdes.BalanceLaw(diffusion=pdes.PorousMedium(m)), **where)


def _reacting(u: Array, n: Any, reaction: Any, where: Any) -> Array:
    law = pdes.BalanceLaw(diffusion=pdes.LinearDiffusion(n), reaction=reaction)
    return pdes.solve_balance_law(u, law, **where)


def linear_reaction(u: Array, n: Any, r: Any, **where: Any) -> Array:
    """u_t = n u_xx + r u."""
    return _reacting(u, n, pdes.LinearReaction(r), where)


def logistic(u: Array, n: Any, r: Any, **where: Any) -> Array:
    """u_t = n u_xx + r u (1 - u)."""
    return _reacting(u, n, pdes.Logistic(r), where)


def squared_logistic(u: Array, n: Any, r: Any, **where: Any) -> Array:
    """u_t = n u_xx + r u^2 (1 - u)^2."""
    return _reacting(u, n, pdes.SquaredLogistic(r), where)


def bistable(u: Array, n: Any, r: Any, a: Any, **where: Any) -> Array:
    """u_t = n u_xx + r u (1 - u) (u - a)."""
    return _reacting(u, n, pdes.Bistable(r, a), where)


def _flowing(u: Array, flux: Any, n: Any, where: Any) -> Array:
    law = pdes.BalanceLaw(flux=flux, diffusion=pdes.LinearDiffusion(n))
    return pdes.solve_balance_law(u, law, **where)


def linear(u: Array, k: Any, n: Any, **where: Any) -> Array:
    """u_t = -k u_x + n u_xx."""
    return _flowing(u, pdes.LinearFlux(k), n, where)


def burgers(u: Array, k: Any, n: Any = 0.0, **where: Any) -> Array:
    """u_t = -k u u_x + n u_xx."""
    return _flowing(u, pdes.BurgersFlux(k), n, where)


def cubic(u: Array, k: Any, n: Any = 0.0, **where: Any) -> Array:
    """u_t = -k u^2 u_x + n u_xx."""
    return _flowing(u, pdes.CubicFlux(k), n, where)


def sine(u: Array, k: Any, n: Any = 0.0, **where: Any) -> Array:
    """u_t = -k cos(u) u_x + n u_xx."""
    return _flowing(u, pdes.SineFlux(k), n, where)


def fokker_planck(u: Array, d: Any, a: Any, w: Any, *, length: float, **where: Any) -> Array:
    """u_t = d u_xx - a (sin(w (x - 1)) u)_x, whose potential is a / (d w) cos(w (x - 1)) in units of k_B T."""
    points = u.shape[0]
    x = (jnp.arange(points, dtype=u.dtype) + 0.5) * (length / points)
    return pdes.solve_fokker_planck(u, a / (d * w) * jnp.cos(w * (x - 1)), d, length=length, **where)
