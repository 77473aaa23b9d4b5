"""Linear equations with constant coefficients on a periodic interval, solved exactly in Fourier space.

Row `i` of what a solver returns is the field at the time `i time / frames`: the first is the initial field, and `time`
itself is not among them. A field is understood as the trigonometric polynomial through its values, whose shortest wave
(two points, for an even number of them) keeps the cosine part that the points see. Where a field is not smooth on the
scale of the grid, that polynomial overshoots between the points, and fields that move without damping show it.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from sciml.pdes._etd import wavenumbers
from sciml.pdes._interval import Constant, check_interval


def _waves(u0: Array, length: float, time: float, frames: int) -> tuple[Array, Array]:
    """The wave numbers `(1, modes)` and the times `(time, 1)`, in the precision of the field."""
    check_interval(u0, length=length, time=time, frames=frames)
    (k,) = wavenumbers(u0.shape, (length,))
    times = np.arange(frames) * (time / frames)
    return jnp.asarray(k.reshape(1, -1), u0.dtype), jnp.asarray(times.reshape(-1, 1), u0.dtype)


def _evolved(u0: Float[Array, " x"], factors: Inexact[Array, "time modes"]) -> Float[Array, "time x"]:
    """The fields whose modes are those of `u0` times the factors; the first is `u0` without rounding."""
    modes = jnp.fft.rfft(u0).reshape(1, -1) * factors
    return jnp.fft.irfft(modes, u0.shape[0]).at[0].set(u0)


def solve_heat(
    u0: Float[Array, " x"], diffusivity: Constant, *, length: float, time: float, frames: int
) -> Float[Array, "time x"]:
    """The heat equation `u_t = diffusivity u_xx`.

    Args:
        u0: Initial field.
        diffusivity: In length^2 / time, not negative.
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames.

    Raises:
        ValueError: If there are less than 4 values, or a setting is not positive.
    """
    k, t = _waves(u0, length, time, frames)
    return _evolved(u0, jnp.exp(-jnp.asarray(diffusivity, u0.dtype) * k**2 * t))


def solve_advection(
    u0: Float[Array, " x"], speed: Constant, *, length: float, time: float, frames: int
) -> Float[Array, "time x"]:
    """The advection equation `u_t = -speed u_x`: the initial field moves by `speed t`.

    Args:
        u0: Initial field.
        speed: In length / time.
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames.

    Raises:
        ValueError: If there are less than 4 values, or a setting is not positive.
    """
    k, t = _waves(u0, length, time, frames)
    phase = jnp.asarray(speed, u0.dtype) * k * t
    return _evolved(u0, jnp.exp(-1j * phase))


def solve_wave(
    u0: Float[Array, " x"], speed: Constant, *, length: float, time: float, frames: int
) -> Float[Array, "time x"]:
    """The wave equation `u_tt = speed^2 u_xx` for a field at rest, `u_t = 0` at time 0.

    Args:
        u0: Initial field.
        speed: In length / time.
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames.

    Raises:
        ValueError: If there are less than 4 values, or a setting is not positive.
    """
    return solve_klein_gordon(u0, speed, 0.0, length=length, time=time, frames=frames)


def solve_klein_gordon(
    u0: Float[Array, " x"], speed: Constant, mass: Constant, *, length: float, time: float, frames: int
) -> Float[Array, "time x"]:
    """The Klein-Gordon equation `u_tt = speed^2 u_xx - mass^2 speed^4 u` for a field at rest, `u_t = 0` at time 0.

    Args:
        u0: Initial field.
        speed: In length / time.
        mass: In time / length^2 (that is, in units of Planck's constant).
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames.

    Raises:
        ValueError: If there are less than 4 values, or a setting is not positive.
    """
    k, t = _waves(u0, length, time, frames)
    speed, mass = jnp.asarray(speed, u0.dtype), jnp.asarray(mass, u0.dtype)
    return _evolved(u0, jnp.cos(speed * jnp.sqrt(k**2 + (mass * speed) ** 2) * t))
