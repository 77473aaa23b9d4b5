"""Shared parts of the generators on periodic boxes: flows of several fields, semilinear equations for one field."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Key

from sciml.grid import Grid, Periodic
from sciml.pdes._etd import count_steps, dealias_mask, etdrk4, evolve, wavenumbers
from sciml.pdes._random_fields import check_double, check_field, periodic_field


def check_sizes(resolution: int, frames: int, *, least: int = 8, unit: str = "points") -> None:
    """Raises ValueError unless there are enough points and frames."""
    if resolution < least or frames < 1:
        raise ValueError(
            f"Expected at least {least} {unit} and 1 frame, got resolution {resolution} and frames {frames}."
        )


def check_positive(**settings: float) -> None:
    """Raises ValueError unless all settings are positive."""
    if min(settings.values()) <= 0:
        *names, last = settings
        *values, end = (f"{name} {value}" for name, value in settings.items())
        raise ValueError(f"Expected positive {', '.join(names)} and {last}, got {', '.join(values)} and {end}.")


class AbstractFlow(abc.ABC):
    """Several fields on a periodic square: a sample is a state at time 0 and the frames after it.

    A subclass is a frozen dataclass with `frames`, the number of frames after time 0, and `interval`, the time between
    them.

    Attributes:
        names: Names of the fields.
    """

    names: ClassVar[tuple[str, ...]]
    frames: int
    interval: float

    @abc.abstractmethod
    def initial(self, key: Key[Array, ""]) -> Float[Array, "fields x y"]:
        """A random state at time 0, in JAX's default precision."""

    @abc.abstractmethod
    def solve(self, start: Float[Array, "fields x y"]) -> Float[Array, "frames fields x y"]:
        """The frames after a state at time 0."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the channels of each stored frame, with its time."""
        times = (f"{i * self.interval:g}" for i in range(1, self.frames + 1))
        return tuple(f"{name} t={time}" for time in times for name in self.names)

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "fields x y"], Float[Array, "later x y"]]:
        """A state at time 0 and the later frames, computed in float64, returned in float32.

        The caller switches float64 on, as for `Darcy.sample`.

        Raises:
            ValueError: If float64 is switched off.
        """
        start = self.initial(key)
        check_double(start)
        frames = self.solve(start).astype(jnp.float32)
        return start.astype(jnp.float32), frames.reshape(-1, *frames.shape[2:])


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractSemilinear(abc.ABC):
    """An equation `u_t = L u + M u^degree` for a real field, with operators `L`, `M` of Fourier multipliers.

    Pseudo-spectral in space, without aliasing: the state has the modes `|m| < resolution / (degree + 1)`, those of the
    initial field beyond are dropped. ETDRK4 in time. A subclass gives the multipliers and documents the fields.
    """

    inputs: ClassVar[tuple[str, ...]] = ("u t=0",)
    degree: ClassVar[int]

    resolution: int = 256
    length: float = 1.0
    time: float = 1.0
    frames: int = 1
    step: float = 1e-3
    alpha: float = 2.0
    tau: float = 5.0
    amplitude: float = 1.0

    @abc.abstractmethod
    def linear(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray, " modes"]:
        """Multipliers of `L` at the wave numbers `k`."""

    @abc.abstractmethod
    def factor(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray, " modes"]:
        """Multipliers of `M` at the wave numbers `k`."""

    def __post_init__(self) -> None:
        check_sizes(self.resolution, self.frames)
        check_positive(length=self.length, time=self.time, step=self.step)
        check_field(self.alpha, self.tau, 1)
        (k,) = wavenumbers((self.resolution,), (self.length,))
        shortest = k[dealias_mask((self.resolution,), self.degree)][-1:]
        growth = float(np.real(self.linear(shortest))[0])
        if growth > 0:
            raise ValueError(
                f"The shortest wave, {2 * math.pi / shortest[0]:.3g}, grows at the linear rate {growth:.3g}. "
                "The highest derivative must damp it: use another sign of its coefficient, or more points."
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The name of each stored frame, with its time."""
        return tuple(f"u t={i * self.time / self.frames:g}" for i in range(1, self.frames + 1))

    @property
    def grid(self) -> Grid:
        """The points `i length / resolution`."""
        return Grid((self.resolution,), self.length, Periodic())

    def solve(self, u: Float[Array, " x"]) -> Float[Array, "frames x"]:
        """The solution at the times `time / frames`, ..., `time` from an initial field on `grid`, in its precision.

        Raises:
            ValueError: If the field does not live on the grid.
        """
        self.grid.check(u[None])
        (k,) = wavenumbers(u.shape, (self.length,))
        keep = dealias_mask(u.shape, self.degree)
        modes = jnp.fft.rfft(u) * jnp.asarray(keep)
        factor = jnp.asarray(self.factor(k) * keep, modes.dtype)

        def field(v: Array) -> Array:
            return jnp.fft.irfft(v, u.shape[0])

        interval = self.time / self.frames
        steps = count_steps(interval, self.step)
        nonlinear = lambda v: factor * jnp.fft.rfft(field(v) ** self.degree)
        step = etdrk4(self.linear(k) * keep, nonlinear, interval / steps)
        return evolve(step, modes, frames=self.frames, steps=steps, observe=field)

    def initial(self, key: Key[Array, ""]) -> Float[Array, " x"]:
        """A Gaussian field cut to the modes that the solver keeps, in JAX's default precision."""
        u = self.amplitude * periodic_field(key, (self.resolution,), alpha=self.alpha, tau=self.tau)
        return jnp.fft.irfft(jnp.fft.rfft(u) * jnp.asarray(dealias_mask(u.shape, self.degree)), self.resolution)

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "1 x"], Float[Array, "frames x"]]:
        """An initial field and the later frames on `grid`, computed in float64, returned in float32.

        The caller switches float64 on, as for `Darcy.sample`.

        Raises:
            ValueError: If float64 is switched off.
        """
        u = self.initial(key)
        check_double(u)
        return u[None].astype(jnp.float32), self.solve(u).astype(jnp.float32)
