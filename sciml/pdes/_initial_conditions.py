"""Random initial fields on an interval, each a function of a key."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def _centres(n: int) -> Float[Array, " x"]:
    """The centres of `n` cells of the unit interval, in JAX's default precision."""
    return (jnp.arange(n, dtype=float) + 0.5) / n


def _rescaled(u: Float[Array, " x"], low: float, high: float) -> Float[Array, " x"]:
    """The field with its smallest value at `low` and its largest at `high`."""
    smallest = jnp.min(u)
    return low + (high - low) * (u - smallest) / (jnp.max(u) - smallest)


def _check_order(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"Expected low < high, got low {low} and high {high}.")


@dataclasses.dataclass(frozen=True)
class InitialSines:
    """The sum of two sines with random wave numbers, amplitudes and phases, rescaled to an interval.

    `A sin(2 pi k x + phase)` on the unit interval with integer `k` from 1 to `waves`, `A ~ U(0, 1)` and uniform
    phases; sometimes its absolute value; with a random sign; sometimes times a window that rises within the first
    half and falls within the second one. The recipe of the data of Sun et al., PROSE-PDE (2024), where a line through
    the values at both ends is subtracted too, which does nothing to a periodic function; the width of the window's
    flanks is not stated there.

    Args:
        waves: Largest wave number.
        low: Smallest value of each field.
        high: Largest value of each field.
        absolute: Probability of the absolute value.
        windowed: Probability of the window.
        flank: Width of its flanks, `(1 + tanh(x / flank)) / 2`, relative to the interval.
    """

    waves: int = 4
    low: float = 0.0
    high: float = 1.0
    absolute: float = 0.1
    windowed: float = 0.1
    flank: float = 0.02

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.waves < 1 or self.flank <= 0:
            raise ValueError(f"Expected waves >= 1 and flank > 0, got waves {self.waves} and flank {self.flank}.")

    def __call__(self, key: Key[Array, ""], n: int) -> Float[Array, " x"]:
        """The field at the centres of `n` cells; another `n` sees the same function, up to the rescaling."""
        keys = jax.random.split(key, 7)
        x = _centres(n)
        k = jax.random.randint(keys[0], (2, 1), 1, self.waves + 1)
        amplitude = jax.random.uniform(keys[1], (2, 1), float)
        phase = jax.random.uniform(keys[2], (2, 1), float, 0, 2 * math.pi)
        u = jnp.sum(amplitude * jnp.sin(2 * math.pi * k * x.reshape(1, n) + phase), axis=0)
        u = jnp.where(jax.random.bernoulli(keys[3], self.absolute), jnp.abs(u), u)
        u = jnp.where(jax.random.bernoulli(keys[4]), u, -u)
        rise, fall = jax.random.uniform(keys[5], (2,), float, 0.1, 0.45)
        window = (jnp.tanh((x - rise) / self.flank) + jnp.tanh((1 - fall - x) / self.flank)) / 2
        u = jnp.where(jax.random.bernoulli(keys[6], self.windowed), window * u, u)
        return _rescaled(u, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class InitialBump:
    """One Gaussian bump `height exp(-(x - centre)^2 / (2 width^2))` on the unit interval, summed over its periods.

    Args:
        centre: Smallest and largest place, relative to the interval.
        width: Smallest and largest standard deviation, relative to the interval.
        height: Smallest and largest height.
    """

    centre: tuple[float, float] = (0.25, 0.75)
    width: tuple[float, float] = (0.05, 0.1)
    height: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        if not 0 < self.width[0] <= self.width[1] <= 0.25:
            raise ValueError(f"Expected widths in (0, 0.25], smallest first, got {self.width}.")

    def __call__(self, key: Key[Array, ""], n: int) -> Float[Array, " x"]:
        """The field at the centres of `n` cells."""
        ranges = jnp.asarray((self.centre, self.width, self.height), float)
        centre, width, height = jax.random.uniform(key, (3,), float, ranges[:, 0], ranges[:, 1])
        x = _centres(n).reshape(1, n) - jnp.arange(-2.0, 3.0, dtype=float).reshape(5, 1)
        return height * jnp.sum(jnp.exp(-(((x - centre) / width) ** 2) / 2), axis=0)


@dataclasses.dataclass(frozen=True)
class InitialField:
    """A periodic Gaussian field with the covariance `exp(-d^2 / (2 correlation^2))` summed over periods, rescaled.

    Args:
        correlation: Correlation length relative to the interval.
        low: Smallest value of each field.
        high: Largest value of each field.
    """

    correlation: float = 0.2
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if not 0.005 <= self.correlation <= 0.5:
            raise ValueError(f"Expected a correlation length in [0.005, 0.5], got {self.correlation}.")

    def __call__(self, key: Key[Array, ""], n: int) -> Float[Array, " x"]:
        """The field at the centres of `n` cells; another `n` sees the same function, up to the rescaling."""
        m = jnp.arange(1, math.ceil(1.3 / self.correlation) + 1)  # beyond, the spread is below exp(-8 pi^2 / 5) = 1e-7
        spread = jnp.exp(-((math.pi * self.correlation * m.astype(float)) ** 2))
        a, b = jax.random.normal(key, (2, m.size), float) * spread.reshape(1, -1)
        angle = 2 * math.pi * _centres(n).reshape(n, 1) * m.reshape(1, -1)
        return _rescaled(jnp.cos(angle) @ a + jnp.sin(angle) @ b, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class InitialStep:
    """A Riemann problem: two constant values, with a jump between them.

    Args:
        low: Smallest value.
        high: Largest value.
        jump: Smallest and largest place of the jump, relative to the interval.
    """

    low: float = 0.0
    high: float = 2.0
    jump: tuple[float, float] = (0.2, 0.8)

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def __call__(self, key: Key[Array, ""], n: int) -> Float[Array, " x"]:
        """The averages over `n` cells."""
        levels, jumps = jax.random.split(key)
        left, right = jax.random.uniform(levels, (2,), float, self.low, self.high)
        jump = jax.random.uniform(jumps, (), float, *self.jump)
        before = jnp.clip(jump * n - jnp.arange(n, dtype=float), 0, 1)  # part of each cell before the jump
        return right + (left - right) * before
