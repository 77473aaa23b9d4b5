"""Normalisation of a field over its points and channels."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


@final
class FieldNorm(eqx.Module):
    """Zero mean and unit variance over all channels and points of one field, then y = gain x + shift.

    With gain and shift per point this is the layer norm of the published MgNO for Navier-Stokes and Helmholtz, which
    holds 60 % of the parameters of the former and belongs to one resolution. With one of each per channel (group
    normalisation with one group, Wu, He 2018) it acts on every grid.

    Attributes:
        gain: `(*space, channels)` or `(channels,)`, ones at first.
        shift: The same, zeros at first.
        epsilon: Added to the variance.
    """

    gain: Float[Array, "..."]
    shift: Float[Array, "..."]
    epsilon: float = eqx.field(static=True)

    def __init__(self, channels: int, shape: tuple[int, ...] = (), *, epsilon: float = 1e-5) -> None:
        """A gain and a shift for each channel, at each point if the `shape` of the grid is given."""
        self.gain = jnp.ones((*shape, channels))
        self.shift = jnp.zeros((*shape, channels))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """The normalised field.

        Raises:
            ValueError: If the field has other channels or, with a gain per point, another grid.
        """
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)

    def channels_last(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """The same for fields with a leading batch axis and the channels last."""
        if self.gain.shape not in (x.shape[-1:], x.shape[1:]):
            raise ValueError(
                f"The normalisation belongs to {self.gain.shape} (*space, channels), got {x.shape[1:]}. "
                "Normalise per channel to act on every grid."
            )
        axes = tuple(range(1, x.ndim))
        centred = x - jnp.mean(x, axes, keepdims=True)
        scale = jnp.sqrt(jnp.mean(centred**2, axes, keepdims=True) + self.epsilon)
        gain, shift = (a.reshape((1,) * (x.ndim - a.ndim) + a.shape) for a in (self.gain, self.shift))
        return centred / scale * gain + shift


def per_channel_norm(channels: int, shape: tuple[int, ...]) -> FieldNorm:
    """A `FieldNorm` that acts on every grid, for places where `FieldNorm` itself would be one per point."""
    return FieldNorm(channels)
