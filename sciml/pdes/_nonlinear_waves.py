"""Nonlinear waves on a periodic interval: Sine-Gordon by splitting, Korteweg-de Vries with an integrating factor."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Inexact

from sciml.pdes._etd import dealias_mask, evolve, wavenumbers
from sciml.pdes._interval import Constant, check_interval


def solve_sine_gordon(
    u0: Float[Array, " x"], coefficient: Constant, *, length: float, time: float, frames: int, steps: int = 8
) -> Float[Array, "time x"]:
    """The Sine-Gordon equation `u_tt = u_xx - coefficient sin u` for a field at rest, `u_t = 0` at time 0.

    Steps of half a kick by `-coefficient sin u`, the exact flow of the wave equation in Fourier space, and half a kick
    (Strang splitting): second order, symplectic, and stable for steps of any number of grid spacings, other than
    the leapfrog rule of the published data.

    Args:
        u0: Initial field.
        coefficient: In 1 / time^2, where waves have speed 1.
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames; row `i` is the field at `i time / frames`.
        steps: Number of steps between frames. Fields of size 1 err by 5e-8 with steps of 1 / 512.

    Raises:
        ValueError: If there are less than 4 values, or a setting is not positive.
    """
    check_interval(u0, length=length, time=time, frames=frames, steps=steps)
    n, dt = u0.shape[0], time / (frames * steps)
    k = jnp.asarray(wavenumbers(u0.shape, (length,))[0], u0.dtype)
    cosine, sine, mean = jnp.cos(k * dt), k * jnp.sin(k * dt), dt * jnp.sinc(k * dt / jnp.pi)
    kick = -dt / 2 * jnp.asarray(coefficient, u0.dtype)

    def kicked(u: Array, rate: Array) -> Array:
        return rate + kick * jnp.fft.rfft(jnp.sin(jnp.fft.irfft(u, n)))

    def step(state: Array) -> Array:
        u, rate = state
        rate = kicked(u, rate)
        u, rate = cosine * u + mean * rate, cosine * rate - sine * u
        return jnp.stack((u, kicked(u, rate)))

    modes = jnp.fft.rfft(u0)
    start = jnp.stack((modes, jnp.zeros_like(modes)))
    later = evolve(step, start, frames=frames - 1, steps=steps, observe=lambda state: jnp.fft.irfft(state[0], n))
    return jnp.concatenate((u0.reshape(1, n), later))


def integrating_factor_rk4(
    linear: Inexact[Array, " modes"],
    nonlinear: Callable[[Complex[Array, " modes"]], Complex[Array, " modes"]],
    dt: float,
) -> Callable[[Complex[Array, " modes"]], Complex[Array, " modes"]]:
    """A step of `v' = L v + N(v)`: the classical rule of order 4 for `exp(-L t) v`.

    Where `L` is imaginary, high modes are not damped, and this rule follows them better than `etdrk4`. For random sums
    of sines and the default steps of `solve_kdv`, the median of 64 errors was 3e-10 and the largest, of fields with
    kinks, 3e-7; those of `etdrk4` were 8e-11 and 2e-4.

    Args:
        linear: The diagonal of `L`.
        nonlinear: `N`, from modes to modes.
        dt: Time step.
    """
    half = jnp.exp(dt / 2 * linear)

    def step(v: Array) -> Array:
        a = nonlinear(v)
        b = nonlinear(half * (v + dt / 2 * a))
        c = nonlinear(half * v + dt / 2 * b)
        d = nonlinear(half * (half * v + dt * c))
        return half * (half * (v + dt / 6 * a) + dt / 3 * (b + c)) + dt / 6 * d

    return step


def solve_kdv(
    u0: Float[Array, " x"], dispersion: Constant, *, length: float, time: float, frames: int, steps: int = 16
) -> Float[Array, "time x"]:
    """The Korteweg-de Vries equation `u_t = -dispersion u_xxx - u u_x`.

    Pseudo-spectral without aliasing, as `sciml.pdes.KdV` (the modes of the initial field beyond two thirds of the
    largest wave number are dropped from the second frame on), with `integrating_factor_rk4` in time.

    Args:
        u0: Initial field.
        dispersion: In length^3 / time.
        length: Length of the period.
        time: Where the frames end.
        frames: Number of frames; row `i` is the field at `i time / frames`.
        steps: Number of steps between frames. With steps of 1 / 1024 and dispersion 5e-4, smooth fields of size 0.5 on
            128 points of an interval of length 2 err by 3e-10, fields with kinks by up to 3e-7.

    Raises:
        ValueError: If there are less than 4 values, or a setting is not positive.
    """
    check_interval(u0, length=length, time=time, frames=frames, steps=steps)
    n = u0.shape[0]
    keep = dealias_mask(u0.shape, 2)
    k = jnp.asarray(wavenumbers(u0.shape, (length,))[0] * keep, u0.dtype)

    def field(v: Array) -> Array:
        return jnp.fft.irfft(v, n)

    linear = 1j * jnp.asarray(dispersion, u0.dtype) * k**3
    step = integrating_factor_rk4(linear, lambda v: -0.5j * k * jnp.fft.rfft(field(v) ** 2), time / (frames * steps))
    later = evolve(step, jnp.fft.rfft(u0) * jnp.asarray(keep), frames=frames - 1, steps=steps, observe=field)
    return jnp.concatenate((u0.reshape(1, n), later))
