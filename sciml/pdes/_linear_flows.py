"""Linear equations in one to three dimensions, whose frames are exact: advection, heat, waves."""

import abc
import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Inexact, Key

from sciml.pdes._etd import dealias_mask
from sciml.pdes._parameters import Setting, number
from sciml.pdes._periodic import AbstractBox

Multipliers = Inexact[np.ndarray | Array, "..."]


class AbstractLinearFlow(AbstractBox):
    """Fields whose modes are at each time linear in those at time 0, with a formula: no time steps.

    The state has the modes `|m| < resolution / 2`; the derivative of the wave of two points is not determined.
    """

    @abc.abstractmethod
    def moved(self, modes: Complex[Array, "fields *modes"], t: Float[Array, ""]) -> Complex[Array, "fields *modes"]:
        """The modes at a time."""

    def initial(self, key: Key[Array, ""]) -> Float[Array, "fields *space"]:
        """Independent Gaussian fields of mean 0 and largest absolute value 1, in JAX's default precision."""
        return self.random_fields(key, len(self.fields))

    def solve(self, start: Float[Array, "fields *space"]) -> Float[Array, "frames fields *space"]:
        """The stored frames from fields at time 0, in their precision.

        Raises:
            ValueError: If the fields do not live on the grid, or if a constant is a range.
        """
        self.grid.check(start)
        shape, axes = self.grid.shape, tuple(range(1, start.ndim))
        modes = jnp.fft.rfftn(start, axes=axes) * jnp.asarray(dealias_mask(shape, self.degree)[None])
        times = jnp.asarray(self.interval * np.arange(1, self.frames + 1), start.dtype)
        return jax.lax.map(lambda t: jnp.fft.irfftn(self.moved(modes, t), shape, axes), times)

    def _times(self, modes: Complex[Array, "*modes"], factor: Multipliers) -> Complex[Array, "*modes"]:
        """A product in the precision of the modes."""
        kind = modes.dtype if jnp.iscomplexobj(factor) else modes.real.dtype
        return modes * jnp.asarray(factor, kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advection(AbstractLinearFlow):
    """Advection `u_t + speed (u_x1 + ... + u_xd) = 0` on a periodic box: fields move along its diagonal.

    In one dimension the equation of the advection data of PDEBench (Takamoto et al. 2022, arXiv:2210.07182), whose
    initial fields are sums of two sines. Exact in Fourier space: there are no time steps.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of points along each axis.
        length: Length of each axis.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        alpha: Smoothness of the initial field, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        speed: Velocity along each axis, length / time; or the ends of a range from which each sample draws, uniform.
    """

    names: ClassVar[tuple[str, ...]] = ("u",)
    uniform: ClassVar[tuple[str, ...]] = ("speed",)

    speed: Setting = 1.0

    def moved(self, modes: Complex[Array, "1 *modes"], t: Float[Array, ""]) -> Complex[Array, "1 *modes"]:
        """`exp(-i speed (k1 + ... + kd) t)` times the modes."""
        along = functools.reduce(np.add, self.waves())[None]
        return self._times(modes, jnp.exp(-1j * (number(self.speed) * t) * along))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heat(AbstractLinearFlow):
    """The heat equation `u_t = diffusivity Laplace u` on a periodic box.

    Exact in Fourier space: there are no time steps.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of points along each axis.
        length: Length of each axis.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        alpha: Smoothness of the initial field, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        diffusivity: In length^2 / time; or the ends of a range from which each sample draws, uniform in the logarithm.
    """

    names: ClassVar[tuple[str, ...]] = ("temperature",)
    logarithmic: ClassVar[tuple[str, ...]] = ("diffusivity",)

    diffusivity: Setting = 2e-3

    def check(self) -> None:
        """Raises ValueError if the diffusivity is negative."""
        if number(self.diffusivity) < 0:
            raise ValueError(f"Expected diffusivity >= 0, got {self.diffusivity}.")

    def moved(self, modes: Complex[Array, "1 *modes"], t: Float[Array, ""]) -> Complex[Array, "1 *modes"]:
        """`exp(-diffusivity |k|^2 t)` times the modes."""
        return self._times(modes, jnp.exp(-(number(self.diffusivity) * t) * self.squared_waves()[None]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wave(AbstractLinearFlow):
    """The wave equation `u_tt = speed^2 Laplace u` on a periodic box, as `u_t = v` and `v_t = speed^2 Laplace u`.

    Exact in Fourier space: there are no time steps. The initial velocity is independent of the displacement and has
    about the same energy in each wave, so that all frames of a sample are alike.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of points along each axis.
        length: Length of each axis.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        alpha: Smoothness of the initial displacement, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial displacement, in the same unit.
        speed: In length / time; or the ends of a range from which each sample draws, uniform in the logarithm.
    """

    names: ClassVar[tuple[str, ...]] = ("displacement", "velocity")
    logarithmic: ClassVar[tuple[str, ...]] = ("speed",)

    speed: Setting = 1.0

    def check(self) -> None:
        """Raises ValueError if the speed is not positive."""
        if number(self.speed) <= 0:
            raise ValueError(f"Expected a positive speed, got {self.speed}.")

    def initial(self, key: Key[Array, ""]) -> Float[Array, "2 *space"]:
        """A displacement of mean 0 and largest absolute value 1 and a velocity, in JAX's default precision."""
        displacement, other = self.random_fields(key, 2)
        modes = self._times(jnp.fft.rfftn(other), number(self.speed) * np.sqrt(self.squared_waves()))
        return jnp.stack((displacement, jnp.fft.irfftn(modes, self.grid.shape)))

    def moved(self, modes: Complex[Array, "2 *modes"], t: Float[Array, ""]) -> Complex[Array, "2 *modes"]:
        """The rotation of displacement and velocity of each wave; the mean displacement moves by the mean velocity."""
        k = np.sqrt(self.squared_waves())
        angle = number(self.speed) * k * t
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        over = jnp.where(k > 0, sin / (number(self.speed) * np.where(k > 0, k, 1)), t)
        u, v = modes
        moved_u = self._times(u, cos) + self._times(v, over)
        return jnp.stack((moved_u, self._times(v, cos) - self._times(u, number(self.speed) * k * sin)))
