"""Two-dimensional turbulence: the vorticity of a forced incompressible flow on the unit torus."""

import dataclasses
import enum
import functools
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Key

from sciml.grid import Grid, Periodic
from sciml.pdes._etd import count_steps, crank_nicolson_euler, dealias_mask, etdrk4, evolve, wavenumbers
from sciml.pdes._parameters import AbstractParametrised, Setting, number
from sciml.pdes._random_fields import check_double, check_field, periodic_field


class Scheme(enum.StrEnum):
    """Time-stepping rules of `NavierStokes`; a text, so that files and the command line can hold it."""

    EULER = "EULER"
    """Crank-Nicolson for diffusion and explicit Euler for advection: first order, the published rule."""

    ETDRK4 = "ETDRK4"
    """Exact diffusion and four stages for advection: fourth order, with steps a hundred times as long."""


_STEPPERS = {Scheme.EULER: crank_nicolson_euler, Scheme.ETDRK4: etdrk4}


@dataclasses.dataclass(frozen=True)
class NavierStokes(AbstractParametrised):
    """Vorticity `w` of an incompressible flow on the unit torus: `w_t + u w_x + v w_y = viscosity Laplace w + f`.

    The velocity is `(u, v) = (psi_y, -psi_x)` with `-Laplace psi = w`, the forcing is
    `f = forcing (sin 2 pi (x + y) + cos 2 pi (x + y))`, and `w` begins as a sample of
    `N(0, tau^(2 alpha - 2) (-Laplace + tau^2)^(-alpha))` with mean zero at time 0, which is not stored. The files of
    Li et al., Fourier Neural Operator (2021), section 5.3, for viscosity 1e-5 are
    `NavierStokes(resolution=256, every=4, scheme=Scheme.EULER, step=1e-4)`.

    Pseudo-spectral with the modes `|m| < resolution / 3` along each axis, that is dealiased by the 2/3 rule, in the
    form `u w_x + v w_y = (d_xx - d_yy)(u v) + d_xy(v^2 - u^2)`, which takes two transforms in each direction and equals
    the usual form, because nothing is aliased. Differs from the source in that the initial field is cut to these modes
    too: beyond them it would not move, and yet advect the others.

    Channels are stored frames: the first is the input, the later ones are the output; `sciml.data.joined_frames` joins
    them.

    Args:
        resolution: Number of points along each axis for the solver.
        every: Store only each `every`-th value along each axis, beginning with the first.
        frames: Number of stored frames, at the times `interval`, `2 interval`, ...
        interval: Time between frames.
        viscosity: Kinematic viscosity, length^2 / time; or the ends of a range from which each sample draws, uniform in
            the logarithm.
        forcing: Amplitude of the forcing, 1 / time^2.
        scheme: Time-stepping rule.
        step: Largest time step; the next smaller one that divides the interval is taken. Advection by velocities with
            `|u| + |v| <= c` is stable in ETDRK4 up to `2.83 / (k c) = 1.35 / (resolution c)` for the largest wave
            number `k`; here `c` grows to 0.7 at time 20, so that 64 points allow steps of 0.02.
        alpha: Smoothness of the initial field.
        tau: Inverse correlation length of the initial field.
    """

    inputs: ClassVar[tuple[str, ...]] = ("vorticity",)
    logarithmic: ClassVar[tuple[str, ...]] = ("viscosity",)

    resolution: int = 64
    every: int = 1
    frames: int = 20
    interval: float = 1.0
    viscosity: Setting = 1e-5
    forcing: float = 0.1
    scheme: Scheme = Scheme.ETDRK4
    step: float = 5e-3
    alpha: float = 2.5
    tau: float = 7.0

    def __post_init__(self) -> None:
        if self.resolution < 4 or self.every < 1 or self.resolution % self.every:
            raise ValueError(
                "Expected at least 4 points and a divisor of them as every, "
                f"got resolution {self.resolution} and every {self.every}."
            )
        if self.frames < 2:
            raise ValueError(f"Expected at least 2 frames, the input and one of the output, got {self.frames}.")
        lowest = min(number(problem.viscosity) for problem in self.corners())
        if min(self.interval, self.step) <= 0 or lowest < 0:
            raise ValueError(
                "Expected a positive interval and step, and viscosity >= 0, "
                f"got interval {self.interval}, step {self.step} and viscosity {self.viscosity}."
            )
        check_field(self.alpha, self.tau, 2)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The name of each later frame, with its time."""
        return tuple(f"vorticity t={i * self.interval:g}" for i in range(2, self.frames + 1))

    @property
    def grid(self) -> Grid:
        """Where the stored values are: `i every / resolution`."""
        return Grid((self.resolution // self.every,) * 2, 1.0, Periodic())

    def forcing_field(self) -> Float[np.ndarray, "1 n n"]:
        """Sin 2 pi (x + y) + cos 2 pi (x + y) on the grid: the forcing in units of its amplitude, a channel."""
        x, y = np.meshgrid(*self.grid.points(), indexing="ij")
        wave = np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y))
        return wave[None].astype(np.float32)

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "1 x y"], Float[Array, "later x y"]]:
        """The first frame and the later ones on `grid`, computed in float64, returned in float32.

        The caller switches float64 on, as for `Darcy.sample`.

        Raises:
            ValueError: If float64 is switched off.
        """
        w = periodic_field(key, (self.resolution,) * 2, alpha=self.alpha, tau=self.tau)
        check_double(w)
        stored = self.drawn(key).vorticity(w).astype(jnp.float32)
        return stored[:1], stored[1:]

    def vorticity(
        self,
        w: Float[Array, "n n"],
        *,
        viscosity: Float[Array, ""] | float | None = None,
        forcing: Float[Array, ""] | float | None = None,
    ) -> Float[Array, "frames x y"]:
        """The stored frames for a field at time 0 on all points of the solver, in its precision.

        Args:
            w: The field.
            viscosity: In place of the setting; may be traced, for trajectories that differ in it.
            forcing: In place of the setting, as the viscosity.

        Raises:
            ValueError: If the field has another number of points, or if no viscosity is given and the setting is a
                range.
        """
        shape = (self.resolution,) * 2
        if w.shape != shape:
            raise ValueError(f"Expected a field on the points of the solver, {shape}, got {w.shape}.")
        keep = dealias_mask(shape, 2)
        modes = jnp.fft.rfft2(w - w.mean()) * jnp.asarray(keep)

        def stored(v: Array) -> Array:
            return jnp.fft.irfft2(v, shape)[:: self.every, :: self.every]

        steps = count_steps(self.interval, self.step)
        nu = number(self.viscosity if viscosity is None else viscosity)
        linear = -nu * (sum(k**2 for k in wavenumbers(shape, (1.0, 1.0))) * keep)
        rate = functools.partial(self._rate, self.forcing if forcing is None else forcing)
        step = _STEPPERS[self.scheme](linear, rate, self.interval / steps)
        return evolve(step, modes, frames=self.frames, steps=steps, observe=stored)

    def _rate(self, forcing: Float[Array, ""] | float, modes: Complex[Array, "n half"]) -> Complex[Array, "n half"]:
        """Fourier modes of `f - u w_x - v w_y`."""
        shape = (self.resolution,) * 2
        kx, ky = wavenumbers(shape, (1.0, 1.0))
        keep = dealias_mask(shape, 2)
        squared = np.where(kx**2 + ky**2 == 0, np.inf, kx**2 + ky**2)

        def factor(values: np.ndarray) -> Array:
            return jnp.asarray(values, modes.dtype if np.iscomplexobj(values) else modes.real.dtype)

        u = jnp.fft.irfft2(factor(1j * ky / squared) * modes, shape)
        v = jnp.fft.irfft2(factor(-1j * kx / squared) * modes, shape)
        advection = factor((ky**2 - kx**2) * keep) * jnp.fft.rfft2(u * v)
        advection += factor(-kx * ky * keep) * jnp.fft.rfft2((v - u) * (v + u))
        return forcing * factor(self._wave()) - advection

    def _wave(self) -> Complex[np.ndarray, "n half"]:
        phase = 2 * np.pi * np.add.outer(*[np.arange(self.resolution) / self.resolution] * 2)
        return np.fft.rfft2(np.sin(phase) + np.cos(phase)) * dealias_mask(phase.shape, 2)


def velocity(w: Float[Array, "n m"]) -> Float[Array, "2 n m"]:
    """The velocity `(psi_y, -psi_x)` with `-Laplace psi = w` of a vorticity on the unit torus; both have mean zero.

    The highest frequency of an even number of points is dropped, as its derivative is not determined.
    """
    kx, ky = wavenumbers(w.shape, (1.0, 1.0))
    squared = np.where(kx**2 + ky**2 == 0, np.inf, kx**2 + ky**2)
    keep = dealias_mask(w.shape, 1)
    modes = jnp.fft.rfft2(w)
    factors = (1j * keep * k / squared for k in (ky, -kx))
    return jnp.stack([jnp.fft.irfft2(jnp.asarray(factor, modes.dtype) * modes, w.shape) for factor in factors])
