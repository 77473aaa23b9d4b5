"""Stencils on parts of fields with ghost layers: values of the neighbours, sent once for several stencils in a row.

Fields are `(batch, *space, channels)` and cut along some axes of space. There, and there alone, an array with g ghost
layers has g points more at both ends than the part. Beyond the walls of the whole field the ghost layers are what the
boundary says; a stencil computes something else there, which `at_walls` puts right.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from sciml import cut
from sciml.grid import Periodic, Sides, at_wall
from sciml.nn._conv import Conv, Prolongation, extend
from sciml.nn._stencils import Stencil, correlation


def exchanged(fields: Sequence[Array], sides: Sequence[Sides], widths: Sequence[int]) -> list[Array]:
    """The fields with so many ghost layers each, from one message to each neighbour."""
    for axis, (pair, name) in enumerate(zip(sides, cut.axes(fields[0], len(sides)), strict=True), start=1):
        if name is None:
            continue
        low, high = [
            cut.received(fields, name, axis, widths, towards=towards, ring=isinstance(pair[0], Periodic))
            for towards in (1, -1)
        ]
        fields = [jnp.concatenate(parts, axis) for parts in zip(low, fields, high, strict=True)]
    return [at_walls(x, sides, width) for x, width in zip(fields, widths, strict=True)]


def at_walls(x: Array, sides: Sequence[Sides], width: int) -> Array:
    """The field with ghost layers that continue it beyond the walls as the boundaries say."""
    if not width:
        return x
    for axis, (pair, name) in enumerate(zip(sides, cut.axes(x, len(sides)), strict=True), start=1):
        n = x.shape[axis]
        for boundary, towards, start in zip(pair, (1, -1), (0, n - width), strict=True):
            if name is not None and not isinstance(boundary, Periodic):
                inside = lax.slice_in_dim(x, width, n - width, axis=axis)
                layers = lax.slice_in_dim(x, start, start + width, axis=axis)
                layers = at_wall(layers, inside, axis, boundary, name, towards)
                x = lax.dynamic_update_slice_in_dim(x, layers, start, axis)
    return x


def without(x: Array, dimensions: int, less: int, high: int | None = None) -> Array:
    """The field with so many ghost layers less at the ends of each axis that is cut, or `high` less at the high end."""
    for axis, name in enumerate(cut.axes(x, dimensions), start=1):
        if name is not None:
            x = lax.slice_in_dim(x, less, x.shape[axis] - (less if high is None else high), axis=axis)
    return x


def convolved(conv: Conv, x: Array) -> Array:
    """A stencil of 3 points along each axis and stride 1, whose result has one ghost layer less."""
    each = [0 if name is not None else 1 for name in cut.axes(x, len(conv.sides))]
    coarse = tuple(n if one else n - 2 for n, one in zip(x.shape[1:-1], each, strict=True))
    return _correlated(conv, x, tuple(each), tuple(each), coarse)


def restricted(conv: Conv, x: Array, ghosts: int) -> Array:
    """A stencil of 3 points and stride 2 of a field with ghost layers; the result has none."""
    x = without(x, len(conv.sides), ghosts - 1, ghosts)
    each = [0 if name is not None else 1 for name in cut.axes(x, len(conv.sides))]
    coarse = tuple((n + one) // 2 for n, one in zip(x.shape[1:-1], each, strict=True))
    return _correlated(conv, x, tuple(each), tuple(each), coarse)


def _correlated(
    conv: Conv, x: Array, before: tuple[int, ...], after: tuple[int, ...], coarse: tuple[int, ...]
) -> Array:
    padded, low = extend(x, conv.sides, before, after)
    kernel = conv.weight.shape[:-2]
    y = correlation.forward(
        padded, conv.weight, Stencil(kernel, (conv.stride,) * len(kernel), low, padded.shape[1:-1], coarse)
    )
    return y if conv.bias is None else y + jnp.broadcast_to(conv.bias, y.shape)


def prolonged(prolongation: Prolongation, x: Array, ghosts: int) -> Array:
    """The fine field with 0 or 1 ghost layers from the coarse one with 1."""
    x = at_walls(x, prolongation.sides, 1)
    names, kernel = cut.axes(x, len(prolongation.fine)), prolongation.weight.shape[:-2]
    each = tuple(0 if name is not None else 1 for name in names)
    padded, missing = extend(x, prolongation.sides, each, each)
    low = tuple(1 + 2 * (1 - left) if name is None else 3 - ghosts for left, name in zip(missing, names, strict=True))
    fine = tuple(
        n // cut.parts(name) + (2 * ghosts if name is not None else 0)
        for n, name in zip(prolongation.fine, names, strict=True)
    )
    stencil = Stencil(kernel, (2,) * len(kernel), low, fine, padded.shape[1:-1])
    return correlation.input_gradient(padded, prolongation.weight, stencil)


def own_part(whole: Array, names: tuple[str | None, ...], ghosts: int) -> Array:
    """This device's part of a whole field, with ghost layers as on a ring."""
    for axis, name in enumerate(names, start=1):
        if name is not None:
            n = whole.shape[axis]
            ends = [lax.slice_in_dim(whole, *end, axis=axis) for end in ((n - ghosts, n), (0, ghosts))]
            size = n // cut.parts(name)
            ring = jnp.concatenate((ends[0], whole, ends[1]), axis)
            whole = lax.dynamic_slice_in_dim(ring, cut.offset(name, size), size + 2 * ghosts, axis)
    return whole
