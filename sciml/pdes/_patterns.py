"""Fields that react and diffuse in one to three dimensions: Fisher-KPP, Gray-Scott, Swift-Hohenberg."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sciml.pdes._parameters import Setting, number
from sciml.pdes._periodic import AbstractBox, check_damping, check_positive, solve_pseudo_spectral


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractReaction(AbstractBox):
    """Fields with `u_t = L u + N(u)`, `L` of Fourier multipliers and `N` a polynomial in the values.

    Pseudo-spectral and without aliases, `degree` being that of the polynomial; ETDRK4 in time. A subclass documents the
    fields.
    """

    step: float = 0.01

    @abc.abstractmethod
    def linear(self, squared: Float[np.ndarray, "..."]) -> tuple[Float[np.ndarray | Array, "..."], ...]:
        """The multipliers of `L` for each field at the squares of wave vectors."""

    @abc.abstractmethod
    def reaction(self, fields: Float[Array, "fields *space"]) -> Float[Array, "fields *space"]:
        """`N`, in the precision of the fields."""

    def check(self) -> None:
        """Raises ValueError if the step is not positive, or if the shortest wave grows."""
        check_positive(interval=self.interval, step=self.step)
        longest = np.max(self.waves()[-1])
        for multiplier in self.linear(np.asarray([longest**2])):
            check_damping(float(longest), float(multiplier[0]))

    def solve(self, start: Float[Array, "fields *space"]) -> Float[Array, "frames fields *space"]:
        """The stored frames from fields at time 0, in their precision; modes beyond those of the solver are dropped.

        Raises:
            ValueError: If the fields do not live on the grid, or if a constant is a range.
        """
        self.grid.check(start)
        multipliers = self.linear(self.squared_waves())
        traced = any(isinstance(multiplier, jax.Array) for multiplier in multipliers)
        linear = jnp.stack(multipliers) if traced else np.stack(multipliers)
        timing = {"interval": self.interval, "step": self.step, "frames": self.frames}
        return solve_pseudo_spectral(start, linear, self.reaction, degree=self.degree, **timing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FisherKPP(AbstractReaction):
    """The equation of Fisher, Kolmogorov, Petrovsky and Piskunov, `u_t = diffusivity Laplace u + rate u (1 - u)`.

    The density grows to 1 and spreads in fronts of width `sqrt(diffusivity / rate)` and speed
    `2 sqrt(diffusivity rate)` (Murray, Mathematical Biology I, 2002, section 13.2). In one dimension the equation of
    the reaction-diffusion data of PDEBench (Takamoto et al. 2022, arXiv:2210.07182), whose diffusivities from 0.5 on
    make fields on an interval of length 1 nearly constant.

    Pseudo-spectral with the modes `|m| < resolution / 3` along each axis, so that the square has no aliases; ETDRK4 in
    time, with the linear terms exact. Initial fields are Gaussian, rescaled to values from 0 to 1.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of points along each axis.
        length: Length of each axis.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        step: Largest time step; the next smaller one that divides the interval is taken.
        alpha: Smoothness of the initial field, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        diffusivity: In length^2 / time; or the ends of a range from which each sample draws, uniform in the logarithm.
        rate: In 1 / time; a number or a range, in the same way.
    """

    degree: ClassVar[int] = 2
    names: ClassVar[tuple[str, ...]] = ("density",)
    logarithmic: ClassVar[tuple[str, ...]] = ("diffusivity", "rate")

    diffusivity: Setting = 1e-3
    rate: Setting = 2.0

    def linear(self, squared: Float[np.ndarray, "..."]) -> tuple[Float[np.ndarray | Array, "..."], ...]:
        """`rate - diffusivity |k|^2`."""
        return (number(self.rate) - number(self.diffusivity) * squared,)

    def reaction(self, fields: Float[Array, "1 *space"]) -> Float[Array, "1 *space"]:
        """`-rate u^2`."""
        return -jnp.asarray(number(self.rate), fields.dtype) * fields**2

    def initial(self, key: Key[Array, ""]) -> Float[Array, "1 *space"]:
        """A Gaussian field, rescaled to values from 0 to 1, in JAX's default precision."""
        field = self.random_fields(key, 1)
        lowest = jnp.min(field)
        return (field - lowest) / (jnp.max(field) - lowest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrayScott(AbstractReaction):
    """The reaction `U + 2 V -> 3 V` of Gray and Scott in a fed medium: spots, stripes, spirals.

    `u_t = D_u Laplace u - u v^2 + feed (1 - u)` and `v_t = D_v Laplace v + u v^2 - (feed + kill) v`, for the substrate
    `u` and the activator `v` (Pearson, Science 261, 1993, whose diffusivities are the defaults). The pairs of feed and
    kill of the data of The Well (Ohana et al. 2024, arXiv:2412.00568) are (0.014, 0.054) gliders, (0.098, 0.057)
    bubbles, (0.029, 0.057) maze, (0.058, 0.065) worms, (0.018, 0.051) spirals and (0.03, 0.062) spots.

    Pseudo-spectral with the modes `|m| < resolution / 4` along each axis, so that the cube has no aliases; ETDRK4 in
    time, with the linear terms exact. Samples begin with `v = 1/4` and `u = 1/2` in smooth random regions and with the
    state of rest, `u = 1` and `v = 0`, elsewhere.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of points along each axis.
        length: Length of each axis.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        step: Largest time step; the next smaller one that divides the interval is taken.
        alpha: Smoothness of the initial regions, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial regions, in the same unit.
        substrate_diffusivity: `D_u`, length^2 / time.
        activator_diffusivity: `D_v`, length^2 / time.
        feed: In 1 / time; or the ends of a range from which each sample draws, uniform.
        kill: In 1 / time; a number or a range, in the same way.
    """

    degree: ClassVar[int] = 3
    names: ClassVar[tuple[str, ...]] = ("substrate", "activator")
    uniform: ClassVar[tuple[str, ...]] = ("feed", "kill")

    dimensions: int = 2
    length: float = 0.64
    interval: float = 50.0
    step: float = 2.0
    substrate_diffusivity: float = 2e-5
    activator_diffusivity: float = 1e-5
    feed: Setting = 0.029
    kill: Setting = 0.057

    def linear(self, squared: Float[np.ndarray, "..."]) -> tuple[Float[np.ndarray | Array, "..."], ...]:
        """`-feed - D_u |k|^2` and `-feed - kill - D_v |k|^2`."""
        feed, kill = number(self.feed), number(self.kill)
        return -feed - self.substrate_diffusivity * squared, -(feed + kill) - self.activator_diffusivity * squared

    def reaction(self, fields: Float[Array, "2 *space"]) -> Float[Array, "2 *space"]:
        """`feed - u v^2` and `u v^2`."""
        consumed = fields[0] * fields[1] ** 2
        return jnp.stack((jnp.asarray(number(self.feed), fields.dtype) - consumed, consumed))

    def initial(self, key: Key[Array, ""]) -> Float[Array, "2 *space"]:
        """Regions where a Gaussian field is above 0.4 of its largest absolute value, in JAX's default precision."""
        inside = jax.nn.sigmoid((self.random_fields(key, 1)[0] - 0.4) / 0.08)
        return self.cut(jnp.stack((1 - inside / 2, inside / 4)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwiftHohenberg(AbstractReaction):
    """The equation of Swift and Hohenberg, `u_t = control u - (1 + Laplace)^2 u + quadratic u^2 - u^3`.

    Waves of wave number 1 grow at the rate `control` from rest and settle in stripes, or in hexagons where the
    quadratic term prevails (Swift & Hohenberg, Phys. Rev. A 15, 1977).

    Pseudo-spectral with the modes `|m| < resolution / 4` along each axis, so that the cube has no aliases; ETDRK4 in
    time, with the linear terms exact. Initial fields are Gaussian.

    Args:
        dimensions: 1, 2 or 3.
        resolution: Number of points along each axis.
        length: Length of each axis; the stripes have wavelength `2 pi`.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        step: Largest time step; the next smaller one that divides the interval is taken.
        alpha: Smoothness of the initial field, as for `periodic_field`, where the box has length 1.
        tau: Inverse correlation length of the initial field, in the same unit.
        amplitude: Largest absolute value of the initial field.
        control: Growth rate of the fastest wave, 1 / time; or the ends of a range from which each sample draws,
            uniform.
        quadratic: Coefficient of the square; a number or a range, in the same way.
    """

    degree: ClassVar[int] = 3
    names: ClassVar[tuple[str, ...]] = ("u",)
    uniform: ClassVar[tuple[str, ...]] = ("control", "quadratic")

    dimensions: int = 2
    length: float = 50.0
    interval: float = 1.0
    step: float = 0.1
    tau: float = 50.0
    amplitude: float = 0.5
    control: Setting = 0.7
    quadratic: Setting = 0.0

    def linear(self, squared: Float[np.ndarray, "..."]) -> tuple[Float[np.ndarray | Array, "..."], ...]:
        """`control - (1 - |k|^2)^2`."""
        return (number(self.control) - (1 - squared) ** 2,)

    def reaction(self, fields: Float[Array, "1 *space"]) -> Float[Array, "1 *space"]:
        """`quadratic u^2 - u^3`."""
        return jnp.asarray(number(self.quadratic), fields.dtype) * fields**2 - fields**3

    def initial(self, key: Key[Array, ""]) -> Float[Array, "1 *space"]:
        """A Gaussian field of mean 0, in JAX's default precision."""
        return self.amplitude * self.random_fields(key, 1)
