"""One-dimensional equations on a periodic interval: Burgers, Korteweg-de Vries, Kuramoto-Sivashinsky, Allen-Cahn."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from sciml.pdes._etd import wavenumbers
from sciml.pdes._parameters import Setting, number
from sciml.pdes._periodic import AbstractSemilinear


@dataclasses.dataclass(frozen=True, kw_only=True)
class Burgers(AbstractSemilinear):
    """Burgers' equation `u_t + u u_x = viscosity u_xx` on a periodic interval.

    By default the map from `u` at time 0 to `u` at time 1 of Li et al., Fourier Neural Operator (2021), section 5.1:
    viscosity 0.1 and `u_0 ~ N(0, 625 (-Laplace + 25)^(-2))` on the unit interval.

    Args:
        resolution: Number of points.
        length: Length of the interval.
        time: Time of the last frame.
        frames: Number of stored frames after the initial one, equally spaced.
        step: Largest time step; the next smaller one that divides the time between frames is taken.
        alpha: Smoothness of the initial field `amplitude N(0, tau^(2 alpha - 1) (-Laplace + tau^2)^(-alpha))`, where
            the interval has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        amplitude: Factor of the initial field; its square times `tau^(2 alpha - 1) = 125` is 625.
        viscosity: Diffusivity, length^2 / time; or the ends of a range from which each sample draws, uniform in the
            logarithm. Small ones need more points.
    """

    degree: ClassVar[int] = 2
    logarithmic: ClassVar[tuple[str, ...]] = ("viscosity",)

    amplitude: float = math.sqrt(5)
    viscosity: Setting = 0.1

    def linear(self, k: Float[np.ndarray, " modes"]) -> Float[np.ndarray | Array, " modes"]:
        """`-viscosity k^2`."""
        return -number(self.viscosity) * k**2

    def factor(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray, " modes"]:
        """`-i k / 2`: minus the derivative of half the square."""
        return -0.5j * k

    def residual(self, u: Float[Array, "1 time x"]) -> Float[Array, "1 time-2 x"]:
        """`u_t + u u_x - viscosity u_xx` at all times of a space-time field but the first and the last.

        Central differences in time (second order), Fourier derivatives in space; a loss without data as in Li et al.,
        Physics-Informed Neural Operator (2021).

        Args:
            u: Field at equally spaced times from 0 to `time`, both included, and at equally spaced points of the
                interval, of any number.

        Raises:
            ValueError: If there are fewer than 3 times, or if the viscosity is a range.
        """
        if u.shape[1] < 3:
            raise ValueError(f"A central difference in time needs at least 3 times, got {u.shape[1]}.")
        (k,) = wavenumbers(u.shape[2:], (self.length,))
        modes = jnp.fft.rfft(u[:, 1:-1])
        first, second = (
            jnp.fft.irfft(modes * jnp.asarray(power, modes.dtype).reshape(1, 1, -1), u.shape[2])
            for power in (1j * k, -(k**2))
        )
        rate = (u[:, 2:] - u[:, :-2]) * ((u.shape[1] - 1) / (2 * self.time))
        return rate + u[:, 1:-1] * first - number(self.viscosity) * second


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdV(AbstractSemilinear):
    """The Korteweg-de Vries equation `u_t + advection u u_x + dispersion u_xxx = 0` on a periodic interval.

    The default coefficients are those of the data of Raissi et al., Physics-informed neural networks (2019), where the
    interval is [-1, 1] and the initial field is `cos(pi x)`; here the initial fields are random.

    Args:
        resolution: Number of points.
        length: Length of the interval.
        time: Time of the last frame.
        frames: Number of stored frames after the initial one, equally spaced.
        step: Largest time step; the next smaller one that divides the time between frames is taken.
        alpha: Smoothness of the initial field `amplitude N(0, tau^(2 alpha - 1) (-Laplace + tau^2)^(-alpha))`, where
            the interval has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        amplitude: Factor of the initial field.
        advection: Coefficient of `u u_x`.
        dispersion: Coefficient of `u_xxx`.
    """

    degree: ClassVar[int] = 2

    length: float = 2.0
    alpha: float = 4.0
    advection: float = 1.0
    dispersion: float = 0.0025

    def linear(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray, " modes"]:
        """`i dispersion k^3`."""
        return 1j * self.dispersion * k**3

    def factor(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray, " modes"]:
        """`-i advection k / 2`."""
        return -0.5j * self.advection * k


@dataclasses.dataclass(frozen=True, kw_only=True)
class KuramotoSivashinsky(AbstractSemilinear):
    """`u_t + advection u u_x + production u_xx + dissipation u_xxxx = 0` on a periodic interval.

    Waves longer than `2 pi sqrt(dissipation / production)` grow and are limited by the advection. On intervals of many
    such waves, as by default, the solution is chaotic: differences, those of rounding too, grow exponentially in time.

    Args:
        resolution: Number of points.
        length: Length of the interval.
        time: Time of the last frame.
        frames: Number of stored frames after the initial one, equally spaced.
        step: Largest time step; the next smaller one that divides the time between frames is taken.
        alpha: Smoothness of the initial field `amplitude N(0, tau^(2 alpha - 1) (-Laplace + tau^2)^(-alpha))`, where
            the interval has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        amplitude: Factor of the initial field.
        advection: Coefficient of `u u_x`.
        production: Coefficient of `u_xx`, length^2 / time.
        dissipation: Coefficient of `u_xxxx`, length^4 / time.
    """

    degree: ClassVar[int] = 2

    length: float = 64.0
    time: float = 20.0
    step: float = 0.05
    alpha: float = 4.0
    tau: float = 20.0
    amplitude: float = 2.0
    advection: float = 1.0
    production: float = 1.0
    dissipation: float = 1.0

    def linear(self, k: Float[np.ndarray, " modes"]) -> Float[np.ndarray, " modes"]:
        """`production k^2 - dissipation k^4`."""
        return self.production * k**2 - self.dissipation * k**4

    def factor(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray, " modes"]:
        """`-i advection k / 2`."""
        return -0.5j * self.advection * k


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllenCahn(AbstractSemilinear):
    """The Allen-Cahn equation `u_t = diffusivity u_xx + rate (u - u^3)` on a periodic interval.

    Walls of thickness `sqrt(2 diffusivity / rate)` form between the phases -1 and 1. The coefficients of Raissi et al.,
    Physics-informed neural networks (2019), are diffusivity 1e-4 and rate 5 on [-1, 1], with walls that need 1024
    points; the default walls are three times as thick.

    Args:
        resolution: Number of points.
        length: Length of the interval.
        time: Time of the last frame.
        frames: Number of stored frames after the initial one, equally spaced.
        step: Largest time step; the next smaller one that divides the time between frames is taken.
        alpha: Smoothness of the initial field `amplitude N(0, tau^(2 alpha - 1) (-Laplace + tau^2)^(-alpha))`, where
            the interval has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        amplitude: Factor of the initial field.
        diffusivity: Coefficient of `u_xx`, length^2 / time.
        rate: Coefficient of the reaction, 1 / time.
    """

    degree: ClassVar[int] = 3

    resolution: int = 512
    length: float = 2.0
    step: float = 5e-3
    tau: float = 10.0
    diffusivity: float = 1e-3
    rate: float = 5.0

    def linear(self, k: Float[np.ndarray, " modes"]) -> Float[np.ndarray, " modes"]:
        """`rate - diffusivity k^2`."""
        return self.rate - self.diffusivity * k**2

    def factor(self, k: Float[np.ndarray, " modes"]) -> Float[np.ndarray, " modes"]:
        """`-rate`."""
        return np.full(k.shape, -self.rate)
