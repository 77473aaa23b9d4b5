"""Positions of tokens and points, as features or as a rotation."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sciml.grid import Grid


@final
class Rotary(eqx.Module):
    """Rotates entry j and entry j + size / 2 of a query or key at position p by the angle p / base^(2 j / size).

    The product of a rotated query and a rotated key depends on the difference of their positions alone.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2, which rotates neighbouring entries instead.

    Attributes:
        base: Base of the wave lengths.
    """

    base: float = eqx.field(static=True, default=10_000.0)

    def __call__(self, x: Float[Array, "*batch n size"], positions: Int[Array, " n"]) -> Float[Array, "*batch n size"]:
        """The rotated vectors.

        Raises:
            ValueError: If their number of entries is odd.
        """
        half, odd = divmod(x.shape[-1], 2)
        if odd:
            raise ValueError(f"Rotary positions need heads of even size, got {x.shape[-1]}. Change width or heads.")
        frequencies = jnp.asarray(self.base ** (-np.arange(half) / half), jnp.promote_types(x.dtype, jnp.float32))
        angles = positions.astype(frequencies.dtype)[:, None] * frequencies[None]
        cos, sin = (jnp.broadcast_to(f(angles).astype(x.dtype), (*x.shape[:-1], half)) for f in (jnp.cos, jnp.sin))
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate((a * cos - b * sin, a * sin + b * cos), axis=-1)


@final
class FourierFeatures(eqx.Module):
    """The features t, sin(2 pi f t), cos(2 pi f t) of a number t, for frequencies f in geometric progression.

    Attributes:
        count: Number of frequencies.
        lowest: The first frequency, in periods per unit of t.
        highest: The last one.
    """

    count: int = eqx.field(static=True)
    lowest: float = eqx.field(static=True)
    highest: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        """Number of features."""
        return 1 + 2 * self.count

    def __call__(self, t: Float[Array, " n"]) -> Float[Array, "n size"]:
        """The features of each number."""
        frequencies = jnp.asarray(np.geomspace(self.lowest, self.highest, self.count), t.dtype)
        angles = 2 * np.pi * t[:, None] * frequencies[None]
        return jnp.concatenate((t[:, None], jnp.sin(angles), jnp.cos(angles)), axis=1)


@final
class PlainFeature(eqx.Module):
    """A number as its own and only feature."""

    @property
    def size(self) -> int:
        """Number of features."""
        return 1

    def __call__(self, t: Float[Array, " n"]) -> Float[Array, "n 1"]:
        """`t` as a column."""
        return t[:, None]


def sinusoidal_table(length: int, width: int) -> np.ndarray:
    """Entry (p, j) is sin(p / 10000^(j / width)) for even j and cos(p / 10000^((j - 1) / width)) for odd j.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    j = np.arange(width)
    angles = np.arange(length)[:, None] / 10_000 ** (2 * (j // 2) / width)
    return np.where(j % 2 == 0, np.sin(angles), np.cos(angles))


def unit_coordinates(grid: Grid, shape: tuple[int, ...]) -> Float[np.ndarray, "*space dimensions"]:
    """Coordinates in units of the extent, at the points of a grid of `shape` on the same box with the same boundaries.

    A point of the domain has the same coordinates at every resolution.
    """
    axes = [x / length for x, length in zip(grid.with_shape(shape).points(), grid.lengths, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
