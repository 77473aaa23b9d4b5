"""Batches and fields that are cut into parts, one for each device of a mesh.

Inside of `jax.shard_map` the type of an array says along which axes of the mesh it varies (`check_vma=True`). A batch
that varies along `BATCH` is a part of a batch; a field that varies along `SPACE[i]` is a part of a field that is cut
along its axis i of space. Layers, metrics and losses read this from what they are given and ask the other devices for
what they lack, so that a cut needs no other form of a model. Outside of `shard_map`, and on whole fields, all of these
functions do nothing.
"""

import contextlib
import contextvars
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int, Key, PyTree

BATCH = "data"
"""Axis of a mesh whose devices have different samples of a batch."""

SPACE = ("space0", "space1", "space2")
"""Axes of a mesh whose devices have different parts of the fields' axes 0, 1 and 2 of space."""


def varying(x: Any) -> frozenset[str]:
    """Axes of the mesh along which an array differs from device to device."""
    return jax.typeof(x).manual_axis_type.varying


def cast(x: Array, axes: frozenset[str] | tuple[str, ...]) -> Array:
    """`x` as an array that varies along these axes too, which sends nothing.

    Its transpose is the sum over the devices that the gradient of an array needs which they all share.
    """
    missing = tuple(sorted(frozenset(axes) - varying(x)))
    return lax.pcast(x, missing, to="varying") if missing else x


def zeros(shape: jax.ShapeDtypeStruct) -> Array:
    """Zeros like the array of which `jax.eval_shape` tells the shape, and that vary along the same axes."""
    kind = shape.manual_axis_type  # None outside of `shard_map`
    return cast(jnp.zeros(shape.shape, shape.dtype), () if kind is None else kind.varying)


def like(a: Array, b: Any) -> Array:
    """`a` as an array that varies along all axes along which `b` does; primitives of our own need such operands."""
    return cast(a, varying(b))


@contextlib.contextmanager
def whole_fields() -> Iterator[None]:
    """In the block, fields are whole although they vary along the axes of space: each device holds all of their points.

    To be entered inside of the function that is traced, not around it: JAX may trace a function later.
    """
    token = _WHOLE.set(True)
    try:
        yield
    finally:
        _WHOLE.reset(token)


_WHOLE = contextvars.ContextVar("sciml_whole_fields", default=False)


def axes(x: Any, dimensions: int) -> tuple[str | None, ...]:
    """For each axis of space, the axis of the mesh along which the field is cut, or None."""
    along = frozenset() if _WHOLE.get() else varying(x)
    return tuple(name if name in along else None for name in SPACE[:dimensions])


def _all_axes(x: Any) -> tuple[str, ...]:
    return tuple(name for name in axes(x, len(SPACE)) if name is not None)


def parts(name: str | None) -> int:
    """Number of parts of an axis that is cut along this axis of the mesh, 1 without one."""
    return 1 if name is None else lax.axis_size(name)


def whole_shape(shape: tuple[int, ...], names: tuple[str | None, ...]) -> tuple[int, ...]:
    """Sizes of the whole axes from those of a part."""
    return tuple(n * parts(name) for n, name in zip(shape, names, strict=True))


def refuse(x: Any, dimensions: int, what: str) -> None:
    """Raises ValueError if a field is cut, for what needs the whole one."""
    if any(axes(x, dimensions)):
        raise ValueError(f"{what} needs whole fields, got parts. Cut the batch over the devices, not its fields.")


def check_model(model: PyTree) -> None:
    """Raises ValueError if a model has a module that may need whole fields, before it is given parts.

    Modules of this package act on parts or refuse them. Others are trusted if their class says `acts_on_parts = True`:
    what they compute at a point then depends on other points through layers of this package alone.
    """
    is_module = lambda node: isinstance(node, eqx.Module)
    foreign = {type(node) for node in _modules(model, is_module) if not _is_known(type(node))}
    if foreign:
        names = ", ".join(sorted(f"{one.__module__}.{one.__qualname__}" for one in foreign))
        raise ValueError(
            f"Fields are cut over devices, and {names} may need whole ones. Cut the batch alone, or set "
            "acts_on_parts = True in a class that acts at each point or through layers of sciml.nn."
        )


def _is_known(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "sciml" or getattr(kind, "acts_on_parts", False)


def _modules(tree: PyTree, is_module: Callable[[Any], bool]) -> Iterator[Any]:
    """All modules in a tree, those inside of others as well."""
    for node in jax.tree.leaves(tree, is_leaf=is_module):
        if is_module(node):
            yield node
            for field in dataclasses.fields(node):
                yield from _modules(getattr(node, field.name, None), is_module)


_RECEIVED = "received"

KEEPS_RECEIVED = jax.checkpoint_policies.save_only_these_names(_RECEIVED)
"""A policy of `jax.checkpoint` that keeps what came from other devices, so that it is not sent again."""


def kept(x: PyTree) -> PyTree:
    """What came from other devices, marked for `KEEPS_RECEIVED`."""
    return checkpoint_name(x, _RECEIVED)


def offset(name: str | None, size: int) -> Int[Array, ""] | int:
    """Number of the first of `size` points of this device on an axis that is cut into equal parts."""
    return 0 if name is None else lax.axis_index(name) * size


def own_part(x: Array, names: tuple[str | None, ...], axis: int = 0) -> Array:
    """This device's part of a whole array whose axes from `axis` on are cut along these axes of the mesh."""
    for i, name in enumerate(names, start=axis):
        if name is not None:
            size = x.shape[i] // lax.axis_size(name)
            x = lax.dynamic_slice_in_dim(x, lax.axis_index(name) * size, size, axis=i)
    return x


def joined(x: Array, names: tuple[str | None, ...], axis: int = 0) -> Array:
    """The whole array from the parts of all devices, which all of them get: the inverse of `own_part`."""
    for i, name in enumerate(names, start=axis):
        if name is not None:
            x = kept(lax.all_gather(x, name, axis=i, tiled=True))
    return x


def received(
    fields: Sequence[Array], name: str, axis: int, widths: Sequence[int], *, towards: int, ring: bool
) -> list[Array]:
    """The values next to this part that the neighbour has, of several fields in one message: a halo exchange.

    At the ends of an axis that is no ring these are zeros.

    Args:
        fields: Parts of fields.
        name: Axis of the mesh along which `axis` is cut.
        axis: An axis of each field.
        widths: Number of values of each field.
        towards: 1 for the values before this part, from the device before; -1 for those after it.
        ring: Whether the last part and the first one are neighbours.

    Raises:
        ValueError: If a part has fewer values than that.
    """
    devices, faces = lax.axis_size(name), []
    for x, width in zip(fields, widths, strict=True):
        n = x.shape[axis]
        if width > n:
            raise ValueError(
                f"A stencil reaches {width} points beyond a part of {n} points of the axis cut along {name!r}. "
                "Cut this axis into fewer parts."
            )
        faces.append(lax.slice_in_dim(x, *((n - width, n) if towards > 0 else (0, width)), axis=axis))
    pairs = [(i, (i + towards) % devices) for i in range(devices) if ring or 0 <= i + towards < devices]
    if len(faces) == 1:
        return [kept(lax.ppermute(faces[0], name, pairs))]
    sent = kept(lax.ppermute(jnp.concatenate([face.ravel() for face in faces]), name, pairs))
    ends = list(itertools.accumulate(face.size for face in faces))[:-1]
    return [part.reshape(face.shape) for part, face in zip(jnp.split(sent, ends), faces, strict=True)]


def sum_over_parts(x: Array) -> Array:
    """The sum over the parts of the fields, for sums over the points of one part."""
    return kept(lax.psum(x, cuts)) if (cuts := _all_axes(x)) else x


def sums_over_parts(*sums: Float[Array, ""]) -> tuple[Float[Array, ""], ...]:
    """`sum_over_parts` of several numbers, which are sent together if they are sums over the same parts."""
    together = len({varying(one) for one in sums}) == 1 and _all_axes(sums[0])
    return tuple(sum_over_parts(jnp.stack(sums))) if together else tuple(map(sum_over_parts, sums))


def mean_over_parts(x: Array) -> Array:
    """The mean over the parts of the fields, which have equal sizes, for means over the points of one part."""
    return kept(lax.pmean(x, cuts)) if (cuts := _all_axes(x)) else x


def mean_over_batch(x: Array) -> Array:
    """The mean over the parts of the batch, which have equal sizes, for means over the samples of one part."""
    return lax.pmean(x, BATCH) if BATCH in varying(x) else x


def sample_keys(key: Key[Array, ""], batch: PyTree) -> Key[Array, " samples"]:
    """A key for each sample of a batch, or of this device's part of it: the same on every mesh.

    Args:
        key: The same on all devices.
        batch: The leading axis of its first array counts the samples.
    """
    arrays = [leaf for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)]
    count = arrays[0].shape[0] if arrays else 1
    name = BATCH if arrays and BATCH in varying(arrays[0]) else None
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(offset(name, count) + jnp.arange(count))


def normal(key: Key[Array, ""], fields: Array, dimensions: int) -> Array:
    """Normal numbers of the shape of fields whose last axes are those of space; parts get those of the whole field.

    Each row along the last axis has a key of its own, so that a device draws its own rows alone, as whole ones.
    """
    names = axes(fields, dimensions)
    leading, own = fields.shape[: fields.ndim - dimensions], fields.shape[fields.ndim - dimensions :]
    row = jnp.zeros((), jnp.uint32)
    for name, n in zip(names[:-1], own[:-1], strict=True):  # the number of a row in the whole field
        row = row[..., None] * (n * parts(name)) + (offset(name, n) + jnp.arange(n)).astype(jnp.uint32)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(row.ravel())
    length = own[-1] * parts(names[-1])
    rows = jax.vmap(lambda one: jax.random.normal(one, (*leading, length), fields.dtype), out_axes=-2)(keys)
    return own_part(rows.reshape(*leading, *own[:-1], length), names[-1:], fields.ndim - 1)


def mean_square(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The mean of the squares of a field over channels and points, of all of its parts."""
    return mean_over_parts(jnp.mean(x**2))
