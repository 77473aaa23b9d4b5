"""Grids and boundaries: where the unknowns are, how a stencil continues."""

import abc
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import cut


class AbstractBoundary(abc.ABC):
    """What lies beyond one side of one axis. Subclasses are frozen, hashable dataclasses.

    Attributes:
        gap: Distance from the wall to the nearest unknown, in grid spacings: 0 if a value is stored on the wall,
            1 if the wall is the first node that is not stored, 1/2 for cell centres.
    """

    gap: float

    @abc.abstractmethod
    def beyond(self, x: Array, width: int) -> Array:
        """Values that continue `x` (axis 0 leads inward from the wall) beyond the wall, nearest last."""


@dataclasses.dataclass(frozen=True)
class Periodic(AbstractBoundary):
    """The axis closes on itself; the far end repeats the near one and is not stored."""

    gap: float = 0.0

    def beyond(self, x: Array, width: int) -> Array:
        """The last `width` values of the axis."""
        return x[-width:]


@dataclasses.dataclass(frozen=True)
class Dirichlet(AbstractBoundary):
    """Homogeneous Dirichlet condition: the field continues with zeros."""

    gap: float = 1.0

    def beyond(self, x: Array, width: int) -> Array:
        """Zeros."""
        return jnp.zeros((width, *x.shape[1:]), x.dtype)


@dataclasses.dataclass(frozen=True)
class Neumann(AbstractBoundary):
    """Homogeneous Neumann condition: the field is mirrored at the wall."""

    gap: float = 0.0

    def beyond(self, x: Array, width: int) -> Array:
        """The mirror image; a value on the wall (`gap` 0) is not repeated.

        Raises:
            ValueError: If the axis has too few values to mirror.
        """
        first = 0 if self.gap else 1
        if first + width > x.shape[0]:
            raise ValueError(
                f"Mirroring {width} values at a Neumann wall needs at least {first + width} values, "
                f"got {x.shape[0]}. Use fewer levels or a finer grid."
            )
        return x[first : first + width][::-1]


Sides = tuple[AbstractBoundary, AbstractBoundary]
"""The boundaries at the low and the high side of one axis."""

Boundaries = AbstractBoundary | Sequence[AbstractBoundary | Sides]
"""One boundary for all sides, or for each axis one boundary or a pair (low side, high side)."""


def per_side(boundary: Boundaries, dimensions: int) -> tuple[Sides, ...]:
    """One boundary for each side of each axis.

    Args:
        boundary: For all sides, for each axis, or for each side.
        dimensions: Number of axes.

    Returns:
        A pair (low side, high side) for each axis.

    Raises:
        ValueError: If the number of axes differs, or if only one side of an axis is periodic.
    """
    given = (boundary,) * dimensions if isinstance(boundary, AbstractBoundary) else tuple(boundary)
    if len(given) != dimensions:
        raise ValueError(f"Expected one boundary, or one for each of {dimensions} axes, got {len(given)}.")
    sides: list[Sides] = []
    for axis, one in enumerate(given):
        pair = (one, one) if isinstance(one, AbstractBoundary) else tuple(one)
        if len(pair) != 2:
            raise ValueError(f"Axis {axis} has 2 sides, got {len(pair)} boundaries: give (low, high).")
        if isinstance(pair[0], Periodic) != isinstance(pair[1], Periodic):
            raise ValueError(
                f"Axis {axis} is periodic on one side only ({pair}): make both sides Periodic() or neither."
            )
        sides.append((pair[0], pair[1]))
    return tuple(sides)


def continuation(x: Array, axis: int, sides: Sides, widths: tuple[int, int], name: str | None) -> tuple[Array, Array]:
    """What continues `x` before and after an axis: of a part, the values of its neighbours or beyond the walls.

    Args:
        x: A field or a part of one.
        axis: An axis of `x`.
        sides: The boundaries of the axis.
        widths: Number of values (before, after).
        name: Axis of the mesh along which the axis is cut, or None.
    """
    found = []
    for boundary, width, towards in zip(sides, widths, (1, -1), strict=True):
        if not width:
            found.append(jax.lax.slice_in_dim(x, 0, 0, axis=axis))
        elif name is None:
            found.append(_beyond(x, axis, boundary, width, towards))
        else:
            ring = isinstance(boundary, Periodic)
            (values,) = cut.received((x,), name, axis, (width,), towards=towards, ring=ring)
            found.append(at_wall(values, x, axis, boundary, name, towards))
    return found[0], found[1]


def at_wall(values: Array, x: Array, axis: int, boundary: AbstractBoundary, name: str, towards: int) -> Array:
    """Values next to a part of a field, and at the end of the axis what continues it beyond the wall.

    Args:
        values: From the neighbour.
        x: The part.
        axis: The axis.
        boundary: At this end of the axis.
        name: Axis of the mesh along which the axis is cut.
        towards: 1 for values before the part, -1 for those after it.
    """
    if isinstance(boundary, Periodic):
        return values
    beyond = _beyond(x, axis, boundary, values.shape[axis], towards)
    return jnp.where(cut.offset(name, 1) == (0 if towards > 0 else cut.parts(name) - 1), beyond, values)


def _beyond(x: Array, axis: int, boundary: AbstractBoundary, width: int, towards: int) -> Array:
    inwards = jnp.moveaxis(x, axis, 0)[::towards]
    return jnp.moveaxis(boundary.beyond(inwards, width)[::towards], 0, axis)


def pad(x: Array, boundary: Sequence[Sides], width: int) -> Array:
    """Extends the leading axes of `x`, one for each pair in `boundary`, by `width` values at both sides.

    Axis by axis, so that a corner is the continuation along the last axis of the continuation along the first.
    """
    for axis, (sides, name) in enumerate(zip(boundary, cut.axes(x, len(boundary)), strict=True)):
        before, after = continuation(x, axis, sides, (width, width), name)
        x = jnp.concatenate((before, x, after), axis)
    return x


@dataclasses.dataclass(frozen=True)
class Grid:
    """A uniform grid on the box [0, L1] x ... x [0, Ld]: static and hashable, kept next to arrays, never around them.

    Args:
        shape: Number of stored unknowns along each axis.
        extent: Length of each axis, or one length for all, in the units of the problem.
        boundary: As in `per_side`.
    """

    shape: tuple[int, ...]
    extent: float | tuple[float, ...] = 1.0
    boundary: AbstractBoundary | tuple[AbstractBoundary | Sides, ...] = Periodic()

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        extent = (self.extent,) * len(shape) if isinstance(self.extent, int | float) else tuple(self.extent)
        if len(extent) != len(shape):
            raise ValueError(f"Expected one extent, or one for each of {len(shape)} axes, got {len(extent)}.")
        if min(shape, default=0) < 1 or min(extent) <= 0:
            raise ValueError(f"Sizes and extents must be positive, got shape {shape} and extent {extent}.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "extent", tuple(float(length) for length in extent))
        object.__setattr__(self, "boundary", per_side(self.boundary, len(shape)))

    @property
    def lengths(self) -> tuple[float, ...]:
        """Length of each axis."""
        assert isinstance(self.extent, tuple)
        return self.extent

    @property
    def sides(self) -> tuple[Sides, ...]:
        """The pair (low side, high side) of each axis."""
        return per_side(self.boundary, len(self.shape))  # a no-op after __post_init__ that states the type

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring unknowns along each axis."""
        return tuple(
            length / (n if isinstance(low, Periodic) else n - 1 + low.gap + high.gap)
            for n, length, (low, high) in zip(self.shape, self.lengths, self.sides, strict=True)
        )

    def points(self) -> tuple[np.ndarray, ...]:
        """Coordinates of the unknowns along each axis, float64."""
        return tuple(
            (np.arange(n) + low.gap) * h for n, h, (low, _) in zip(self.shape, self.spacing, self.sides, strict=True)
        )

    def with_shape(self, shape: tuple[int, ...]) -> "Grid":
        """The grid on the same box with the same boundaries and another number of unknowns."""
        return dataclasses.replace(self, shape=shape)

    def check(self, x: Float[Array | np.ndarray, "channels *space"]) -> None:
        """Raises ValueError if a field `(channels, *space)`, or what it is a part of, does not live on this grid."""
        names = cut.axes(x, len(self.shape)) if x.ndim == len(self.shape) + 1 else ()
        if (cut.whole_shape(x.shape[1:], names) if any(names) else x.shape[1:]) != self.shape:
            raise ValueError(
                f"Expected a field (channels, {', '.join(map(str, self.shape))}), got {x.shape}. "
                "Resample the data or wrap the operator in Resampled."
            )
