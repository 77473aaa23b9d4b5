"""Activation functions."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Gaussian error linear unit in its exact form, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2.

    Equal to `jax.nn.gelu(x, approximate=False)` to rounding, and several times faster on CPU, where that one goes
    through erfc. The derivative Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi) is evaluated once and kept; the compiler would
    otherwise repeat it in every operation that needs it.
    """
    return x * _phi(x)


def _phi(x: Array) -> Array:
    return 0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5))


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    # The barrier keeps the compiler from sharing erf between value and slope: storing it costs three passes over
    # memory where computing it again costs none.
    z = jax.lax.optimization_barrier(x)
    slope = _phi(z) + z * (jnp.exp(-0.5 * z * z) * math.sqrt(0.5 / math.pi))
    return gelu(x), slope * tangent
