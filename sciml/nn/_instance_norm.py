"""Normalisation of each channel over space."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.nn._layout import along_last


@final
class InstanceNorm(eqx.Module):
    r"""Mean 0 and variance 1 of each channel over the points of one field, then a factor and a number per channel.

    .. math::  y_c = g_c \frac{u_c - \bar u_c}{\sqrt{\overline{(u_c - \bar u_c)^2} + \epsilon}} + s_c

    Source: Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022. Means over points approximate those over the domain, so
    that it acts on every grid.

    Attributes:
        gain: g.
        shift: s.
        epsilon: Added to the variance.
    """

    gain: Float[Array, " channels"]
    shift: Float[Array, " channels"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, channels: int, *, epsilon: float = 1e-5):
        """`gain` 1 and `shift` 0 for each of the channels."""
        self.gain = jnp.ones(channels)
        self.shift = jnp.zeros(channels)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """The normalised field."""
        y = self.normalise(jnp.moveaxis(x, 0, -1)[..., None, :])
        return jnp.moveaxis(y[..., 0, :], -1, 0)

    def normalise(self, x: Float[Array, "*space batch channels"]) -> Float[Array, "*space batch channels"]:
        """The same for a batch with the channels last."""
        space = tuple(range(x.ndim - 2))
        centred = x - jnp.mean(x, space, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(centred**2, space, keepdims=True) + self.epsilon)
        return centred * scale * along_last(self.gain, x.ndim) + along_last(self.shift, x.ndim)
