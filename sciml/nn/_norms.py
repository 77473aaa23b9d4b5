"""Normalisations, each with a learned factor and shift: of rows (`LayerNorm`, `RMSNorm`) and of fields.

| class | mean and variance over | factor and shift for each |
|---|---|---|
| `LayerNorm` | the last axis of each row | entry of the row |
| `RMSNorm` | the last axis of each row, no mean | entry of the row, no shift |
| `InstanceNorm` | the points of each channel | channel |
| `FieldNorm` | all channels and points | channel, or channel and point |

None has a state, so that a training step is a pure function; batch normalisation is left out for this reason.
"""

import functools
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml import cut
from sciml.nn._layout import along_last


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _standardise(x: Array, epsilon: float) -> Array:
    return _deviations(widened(x), epsilon)[0].astype(x.dtype)


def widened(x: Array) -> Array:
    """`x` in float32 or wider, because means and sums of exponentials lose too much in 16 bits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _deviations(x: Array, epsilon: float) -> tuple[Array, Array]:
    centred = x - x.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    return centred * inverse, inverse


@_standardise.defjvp
def _standardise_jvp(epsilon: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Two means per direction instead of the chain through mean, variance and root; its transpose has the same form.
    (x,), (tangent,) = primals, map(widened, tangents)
    y, inverse = _deviations(widened(x), epsilon)
    change = tangent - tangent.mean(-1, keepdims=True) - y * (y * tangent).mean(-1, keepdims=True)
    return y.astype(x.dtype), (inverse * change).astype(x.dtype)


@final
class LayerNorm(eqx.Module):
    """Layer normalisation of the last axis: scale * (x - mean) / sqrt(variance + epsilon) + shift.

    It acts on each row alone, so that neither the number of points nor the batch is fixed.

    Attributes:
        scale: Starts as 1.
        shift: Starts as 0.
        epsilon: Added to the variance.
    """

    scale: Float[Array, "*groups size"]
    shift: Float[Array, "*groups size"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, *shape: int, epsilon: float = 1e-5) -> None:
        """For rows of the given length, or for (groups, length) with a scale and a shift of their own in each group."""
        self.scale = jnp.ones(shape)
        self.shift = jnp.zeros(shape)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The normalised rows."""
        y = _standardise(x, self.epsilon)
        return y * jnp.broadcast_to(self.scale, y.shape) + jnp.broadcast_to(self.shift, y.shape)


@final
class RMSNorm(eqx.Module):
    """scale * x / sqrt(mean(x^2) + epsilon) along the last axis (Zhang, Sennrich 2019, arXiv:1910.07467, equation 4).

    Attributes:
        scale: Starts as 1.
        epsilon: Added to the mean square, which the source does not.
    """

    scale: Float[Array, " size"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, size: int, *, epsilon: float = 1e-5) -> None:
        """For rows of the given length."""
        self.scale = jnp.ones(size)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The normalised rows."""
        wide = widened(x)
        y = (wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + self.epsilon)).astype(x.dtype)
        return y * jnp.broadcast_to(self.scale, y.shape)


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
        mean = lambda x: cut.mean_over_parts(jnp.mean(x, space, keepdims=True))
        centred = x - mean(x)
        scale = jax.lax.rsqrt(mean(centred**2) + self.epsilon)
        return centred * scale * along_last(self.gain, x.ndim) + along_last(self.shift, x.ndim)


@final
class FieldNorm(eqx.Module):
    """Zero mean and unit variance over all channels and points of one field, then y = gain x + shift.

    With gain and shift per point this is the layer norm of the published MgNO for Navier-Stokes and Helmholtz. It
    belongs to one resolution and holds 60 % of the parameters of the Navier-Stokes model. With one of each per channel
    (group normalisation with one group, Wu, He 2018) it acts on every grid.

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
        names = cut.axes(x, x.ndim - 2)
        if self.gain.shape not in (x.shape[-1:], (*cut.whole_shape(x.shape[1:-1], names), x.shape[-1])):
            raise ValueError(
                f"The normalisation belongs to {self.gain.shape} (*space, channels), got {x.shape[1:]}. "
                "Normalise per channel to act on every grid."
            )
        axes = tuple(range(1, x.ndim))
        mean = lambda x: cut.mean_over_parts(jnp.mean(x, axes, keepdims=True))
        centred = x - mean(x)
        scale = jnp.sqrt(mean(centred**2) + self.epsilon)
        own = [a if a.ndim == 1 else cut.own_part(a, names) for a in (self.gain, self.shift)]
        gain, shift = (a.reshape((1,) * (x.ndim - a.ndim) + a.shape) for a in own)
        return centred / scale * gain + shift


def per_channel_norm(channels: int, shape: tuple[int, ...]) -> FieldNorm:
    """A `FieldNorm` with one gain and shift per channel, which acts on every grid; `shape` is ignored."""
    return FieldNorm(channels)
