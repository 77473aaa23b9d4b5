"""Fluxes, diffusion and reactions of one-dimensional balance laws: `u_t + f(u)_x = phi(u)_xx + r(u)`."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.pdes._interval import Constant

Values = Float[Array, "*cells"]


class AbstractFlux(eqx.Module):
    """A flux `f(u)` that acts on each value, with the speed of its waves."""

    @abc.abstractmethod
    def __call__(self, u: Values) -> Values:
        """`f(u)`."""

    @abc.abstractmethod
    def speed(self, a: Values, b: Values) -> Values:
        """The largest `|f'|` between two values; `a` may be above `b`."""


class LinearFlux(AbstractFlux):
    """`f(u) = k u`: advection with the speed `k`."""

    k: Constant

    def __call__(self, u: Values) -> Values:
        """`k u`."""
        return self.k * u

    def speed(self, a: Values, b: Values) -> Values:
        """`|k|`."""
        return jnp.full_like(a, jnp.abs(self.k))


class BurgersFlux(AbstractFlux):
    """`f(u) = k u^2 / 2`."""

    k: Constant

    def __call__(self, u: Values) -> Values:
        """`k u^2 / 2`."""
        return self.k * u**2 / 2

    def speed(self, a: Values, b: Values) -> Values:
        """`|k| max(|a|, |b|)`."""
        return jnp.abs(self.k) * jnp.maximum(jnp.abs(a), jnp.abs(b))


class CubicFlux(AbstractFlux):
    """`f(u) = k u^3 / 3`: convex for positive and concave for negative values."""

    k: Constant

    def __call__(self, u: Values) -> Values:
        """`k u^3 / 3`."""
        return self.k * u**3 / 3

    def speed(self, a: Values, b: Values) -> Values:
        """`|k| max(a^2, b^2)`."""
        return jnp.abs(self.k) * jnp.maximum(a**2, b**2)


class SineFlux(AbstractFlux):
    """`f(u) = k sin u`, whose waves are fastest at multiples of pi."""

    k: Constant

    def __call__(self, u: Values) -> Values:
        """`k sin u`."""
        return self.k * jnp.sin(u)

    def speed(self, a: Values, b: Values) -> Values:
        """`|k|` if a multiple of pi lies between the values, else the larger of `|k cos a|` and `|k cos b|`."""
        at_ends = jnp.maximum(jnp.abs(jnp.cos(a)), jnp.abs(jnp.cos(b)))
        return jnp.abs(self.k) * jnp.where(jnp.floor(a / jnp.pi) == jnp.floor(b / jnp.pi), at_ends, 1)


class LinearDiffusion(eqx.Module):
    """`phi(u) = viscosity u`, in length^2 / time times the unit of `u`."""

    viscosity: Constant

    def __call__(self, u: Values) -> Values:
        """`viscosity u`."""
        return self.viscosity * u


class PorousMedium(eqx.Module):
    """`phi(u) = u^m`, continued to negative values as an odd function; the exponent is at least 1."""

    m: Constant

    def __call__(self, u: Values) -> Values:
        """`u |u|^(m - 1)`."""
        return u * jnp.abs(u) ** (self.m - 1)


class LinearReaction(eqx.Module):
    """`r(u) = rate u`."""

    rate: Constant

    def __call__(self, u: Values) -> Values:
        """`rate u`."""
        return self.rate * u


class Logistic(eqx.Module):
    """`r(u) = rate u (1 - u)`: Fisher's equation with linear diffusion."""

    rate: Constant

    def __call__(self, u: Values) -> Values:
        """`rate u (1 - u)`."""
        return self.rate * u * (1 - u)


class SquaredLogistic(eqx.Module):
    """`r(u) = rate u^2 (1 - u)^2`."""

    rate: Constant

    def __call__(self, u: Values) -> Values:
        """`rate u^2 (1 - u)^2`."""
        return self.rate * (u * (1 - u)) ** 2


class Bistable(eqx.Module):
    """`r(u) = rate u (1 - u) (u - threshold)`: values go to 0 from below the threshold and to 1 from above."""

    rate: Constant
    threshold: Constant

    def __call__(self, u: Values) -> Values:
        """`rate u (1 - u) (u - threshold)`."""
        return self.rate * u * (1 - u) * (u - self.threshold)


class BalanceLaw(eqx.Module):
    """`u_t + flux(u)_x = diffusion(u)_xx + reaction(u)`; parts that are not given are zero.

    Args:
        flux: `f`, with the speed of its waves.
        diffusion: `phi`, which acts on each value and does not decrease.
        reaction: `r`, which acts on each value.
    """

    flux: AbstractFlux = LinearFlux(0.0)
    diffusion: Callable[[Values], Values] = LinearDiffusion(0.0)
    reaction: Callable[[Values], Values] = LinearReaction(0.0)
