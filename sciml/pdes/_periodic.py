"""Shared parts of the generators in time: flows of several fields, periodic boxes, semilinear equations."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Key

from sciml.grid import Grid, Periodic
from sciml.pdes._etd import count_steps, dealias_mask, etdrk4, evolve, wavenumbers
from sciml.pdes._parameters import AbstractParametrised
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


def check_damping(shortest: float, growth: float) -> None:
    """Raises ValueError if the wave of the largest wave number grows."""
    if growth > 0:
        raise ValueError(
            f"The shortest wave, {2 * math.pi / shortest:.3g}, grows at the linear rate {growth:.3g}. "
            "The highest derivative must damp it: use another sign of its coefficient, or more points."
        )


class AbstractFlow(AbstractParametrised, abc.ABC):
    """Several fields on a box: a sample is a state at time 0 and the frames after it.

    A subclass is a frozen dataclass with `frames`, the number of frames after time 0, and `interval`, the time between
    them.

    Attributes:
        names: Names of the fields.
    """

    names: ClassVar[tuple[str, ...]]
    frames: int
    interval: float

    @abc.abstractmethod
    def initial(self, key: Key[Array, ""]) -> Float[Array, "fields *space"]:
        """A random state at time 0, in JAX's default precision."""

    @abc.abstractmethod
    def solve(self, start: Float[Array, "fields *space"]) -> Float[Array, "frames fields *space"]:
        """The frames after a state at time 0."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields of a state; those of the first dimensions where the class has names for more."""
        return self.names

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the fields at time 0."""
        return tuple(f"{name} t=0" for name in self.fields)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the channels of each stored frame, with its time."""
        times = (f"{i * self.interval:g}" for i in range(1, self.frames + 1))
        return tuple(f"{name} t={time}" for time in times for name in self.fields)

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "fields *space"], Float[Array, "later *space"]]:
        """A state at time 0 and the later frames, computed in float64, returned in float32.

        The caller switches float64 on, as for `Darcy.sample`.

        Raises:
            ValueError: If float64 is switched off.
        """
        problem = self.drawn(key)
        start = problem.initial(key)
        check_double(start)
        frames = problem.solve(start).astype(jnp.float32)
        return start.astype(jnp.float32), frames.reshape(-1, *frames.shape[2:])


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractBox(AbstractFlow):
    """Fields on a periodic box of one to three dimensions, equally long and with equally many points along each axis.

    A subclass documents the fields.

    Attributes:
        degree: Number of modal fields in a product: the state has the modes `|m| < resolution / (degree + 1)`.
    """

    degree: ClassVar[int] = 1

    dimensions: int = 1
    resolution: int = 128
    length: float = 1.0
    frames: int = 20
    interval: float = 0.05
    alpha: float = 4.0
    tau: float = 20.0

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2, 3):
            raise ValueError(f"Expected 1, 2 or 3 dimensions, got {self.dimensions}.")
        check_sizes(self.resolution, self.frames)
        check_positive(length=self.length, interval=self.interval)
        check_field(self.alpha, self.tau, self.dimensions)
        for problem in self.corners():
            problem.check()

    def check(self) -> None:
        """Raises ValueError unless the constants, all of them numbers, are possible."""

    @property
    def grid(self) -> Grid:
        """The points `i length / resolution`."""
        return Grid((self.resolution,) * self.dimensions, self.length, Periodic())

    def random_fields(self, key: Key[Array, ""], count: int) -> Float[Array, "count *space"]:
        """Independent Gaussian fields of the modes of the state, of mean 0 and largest absolute value 1."""
        keys, shape = jax.random.split(key, count), self.grid.shape
        drawn = jnp.stack([periodic_field(one, shape, alpha=self.alpha, tau=self.tau) for one in keys])
        return jnp.stack([field / jnp.max(jnp.abs(field)) for field in self.cut(drawn)])

    def cut(self, fields: Float[Array, "fields *space"]) -> Float[Array, "fields *space"]:
        """The fields without the modes that the state has not."""
        shape, axes = self.grid.shape, tuple(range(1, fields.ndim))
        keep = jnp.asarray(dealias_mask(shape, self.degree)[None])
        return jnp.fft.irfftn(jnp.fft.rfftn(fields, axes=axes) * keep, shape, axes)

    def waves(self) -> tuple[Float[np.ndarray, "..."], ...]:
        """The wave numbers along each axis, shaped to broadcast; 0 for modes that the state has not."""
        shape = self.grid.shape
        keep = dealias_mask(shape, self.degree)
        return tuple(k * keep for k in wavenumbers(shape, (self.length,) * self.dimensions))

    def squared_waves(self) -> Float[np.ndarray, "..."]:
        """The squares of the wave vectors: minus the multipliers of the Laplacian."""
        return np.sum([k**2 for k in self.waves()], axis=0)


def solve_pseudo_spectral(
    start: Float[Array, "fields *space"],
    linear: Inexact[np.ndarray | Array, "fields *modes"],
    nonlinear: Callable[[Float[Array, "fields *space"]], Float[Array, "fields *space"]],
    *,
    degree: int,
    interval: float,
    step: float,
    frames: int,
) -> Float[Array, "frames fields *space"]:
    """Frames of `u_t = L u + N(u)` on a periodic box, with multipliers `L` of the modes and `N` that acts on values.

    The state has the modes `|m| < n / (degree + 1)` along each axis, those of the initial fields beyond are dropped, so
    that a polynomial `N` of this degree has no aliases. ETDRK4 in time.

    Args:
        start: Fields at time 0; their precision is that of the solution.
        linear: `L`, a JAX array if it depends on traced constants.
        nonlinear: `N`.
        degree: Degree of `N`.
        interval: Time between frames.
        step: Largest time step; the next smaller one that divides the interval is taken.
        frames: Number of frames.
    """
    shape, axes = start.shape[1:], tuple(range(1, start.ndim))
    keep = jnp.asarray(dealias_mask(shape, degree)[None])

    def modes(fields: Array) -> Array:
        return jnp.fft.rfftn(fields, axes=axes) * keep

    def fields(v: Array) -> Array:
        return jnp.fft.irfftn(v, shape, axes)

    steps = count_steps(interval, step)
    advance = etdrk4(linear, lambda v: modes(nonlinear(fields(v))), interval / steps)
    return evolve(advance, modes(start), frames=frames, steps=steps, observe=fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractSemilinear(AbstractParametrised, abc.ABC):
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
    def linear(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray | Array, " modes"]:
        """Multipliers of `L` at the wave numbers `k`."""

    @abc.abstractmethod
    def factor(self, k: Float[np.ndarray, " modes"]) -> Inexact[np.ndarray | Array, " modes"]:
        """Multipliers of `M` at the wave numbers `k`."""

    def __post_init__(self) -> None:
        check_sizes(self.resolution, self.frames)
        check_positive(length=self.length, time=self.time, step=self.step)
        check_field(self.alpha, self.tau, 1)
        (k,) = wavenumbers((self.resolution,), (self.length,))
        shortest = k[dealias_mask((self.resolution,), self.degree)][-1:]
        for problem in self.corners():
            check_damping(float(shortest[0]), float(np.real(problem.linear(shortest))[0]))

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
        return u[None].astype(jnp.float32), self.drawn(key).solve(u).astype(jnp.float32)
