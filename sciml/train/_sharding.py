"""A batch that the devices of one or several processes share: a copy of the state each, a part of the samples."""

import contextlib
import contextvars
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from sciml import cut, parallel
from sciml.nn import acts_on_modes
from sciml.parallel import Placement

Gradient = Callable[..., tuple[tuple[Array, PyTree], PyTree]]
"""`(trainable, rest, step, key, source, item) -> ((loss, logs), gradient)` of one batch."""

_NO_MEMORY = ("RESOURCE_EXHAUSTED", "YNNPACK operation failed")  # the latter on CPUs, for some operations


def place(tree: PyTree, placement: Placement | None) -> PyTree:
    """The arrays of a state on each device of a placement, in parts where it says so, or on the default device.

    On several processes each one copies its own arrays to its own devices; that they are equal is not checked.
    """
    arrays, static = eqx.partition(tree, eqx.is_array)
    placed = jax.device_put(arrays) if placement is None else placement.put(arrays, placement.of_state(arrays))
    return eqx.combine(placed, static)


def predict(model: Callable[..., Any], *inputs: PyTree, size: int = 64) -> PyTree:
    """Maps a model of one sample over many, in batches shared by the devices of all processes.

    All processes call it with the same inputs, of which each one reads its share.

    Args:
        model: Takes one sample.
        inputs: The arguments of the model: arrays with a leading axis of samples.
        size: Number of samples in a batch, halved as often as the memory of the devices asks for. The last batch is
            filled up, so that there is one compilation.

    Returns:
        The outputs as NumPy arrays with a leading axis of samples, on all processes.
    """
    size, placement = min(size, len(jax.tree.leaves(inputs)[0])), _PLACEMENT.get()
    while True:
        found = None
        try:
            if placement is not None and placement.cuts_space:
                return _on_parts(model, inputs, size, placement)
            found = _in_batches(model, inputs, size)
        except jax.errors.JaxRuntimeError as error:
            if size == 1 or not any(sign in str(error) for sign in _NO_MEMORY):
                raise
        if found is not None:
            return found
        size = -(-size // 2)


_PLACEMENT: contextvars.ContextVar[Placement | None] = contextvars.ContextVar("placement", default=None)


@contextlib.contextmanager
def predicting_on(placement: Placement | None) -> Iterator[None]:
    """In the block, `predict` gives each device its part of fields that the placement cuts."""
    token = _PLACEMENT.set(placement)
    try:
        yield
    finally:
        _PLACEMENT.reset(token)


def _on_parts(model: Callable[..., Any], inputs: tuple[PyTree, ...], size: int, placement: Placement) -> PyTree:
    """The outputs of fields that are cut, in batches that fill the devices."""
    count, devices = len(jax.tree.leaves(inputs)[0]), placement.mesh.shape[cut.BATCH]
    size = -(-size // devices) * devices
    arrays, static = eqx.partition(parallel.own(model), eqx.is_array)
    arrays = placement.put(arrays, jax.tree.map(lambda _: PartitionSpec(), arrays))
    parts = []
    for start in range(0, count, size):
        wanted = np.minimum(np.arange(start, start + size), count - 1)
        batch = jax.tree.map(lambda array, wanted=wanted: np.asarray(array[wanted]), inputs)
        placed = placement.put(batch, placement.of_fields(batch, cut.BATCH))
        parts.append(jax.tree.map(np.asarray, parallel.own(_apply_on_parts(arrays, static, placed, placement))))
    return jax.tree.map(lambda *outputs: np.concatenate(outputs)[:count], *parts)


@eqx.filter_jit
def _apply_on_parts(arrays: PyTree, static: PyTree, batch: PyTree, placement: Placement) -> PyTree:
    def part(arrays: PyTree, batch: PyTree) -> PyTree:
        return jax.tree.map(jnp.asarray, jax.vmap(eqx.combine(arrays, static))(*batch))

    shapes = jax.eval_shape(part, arrays, batch)
    placed = PartitionSpec(), placement.of_fields(batch, cut.BATCH)
    out = placement.of_fields(shapes, cut.BATCH)
    return jax.shard_map(part, mesh=placement.mesh, in_specs=placed, out_specs=out, check_vma=True)(arrays, batch)


def _in_batches(model: Callable[..., Any], inputs: tuple[PyTree, ...], size: int) -> PyTree | None:
    """The outputs, or on several processes None if one of the others has too little memory."""
    count = len(jax.tree.leaves(inputs)[0])
    share = parallel.Shares(size)
    arrays, static = eqx.partition(parallel.own(model), eqx.is_array)
    arrays = place(arrays, Placement(share.mesh))
    parts = []
    for start in range(0, count, size):
        wanted = share.of(np.minimum(np.arange(start, start + size), count - 1))
        batch = jax.tree.map(lambda array, wanted=wanted: np.asarray(array[wanted]), inputs)
        own = _unless_one_lacks_memory(lambda batch=batch: _apply(arrays, static, batch, share.mesh))
        if own is None:
            return None
        parts.append(share.joined(own))
    return jax.tree.map(lambda *outputs: np.concatenate(outputs)[:count], *parts)


def _unless_one_lacks_memory(compute: Callable[[], PyTree]) -> PyTree | None:
    """What a function computes; of several processes, None on those that could while another has too little memory."""
    if not parallel.several():
        return jax.tree.map(np.asarray, compute())
    found, error = None, None
    try:
        found = jax.tree.map(np.asarray, compute())
    except jax.errors.JaxRuntimeError as one:
        if not any(sign in str(one) for sign in _NO_MEMORY):
            raise
        error = one
    if parallel.gathered(np.int32(error is not None)).any():
        if error is not None:
            raise error
        return None
    return found


@eqx.filter_jit
def _apply(arrays: PyTree, static: PyTree, batch: PyTree, mesh: Mesh) -> PyTree:
    def part(arrays: PyTree, batch: PyTree) -> PyTree:
        return jax.tree.map(jnp.asarray, jax.vmap(eqx.combine(arrays, static))(*batch))

    if mesh.size == 1:
        return part(arrays, batch)
    split = PartitionSpec(mesh.axis_names)
    return jax.shard_map(part, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=True)(
        arrays, batch
    )


def shared(gradient: Gradient, placement: Placement) -> Gradient:
    """The same of a batch that devices share: each takes its part, and all get means, and the gradient of the state.

    Args:
        gradient: Of a batch; calls `whole` of its parameters inside of what it differentiates.
        placement: What each device has.
    """
    mesh, everywhere = placement.mesh, PartitionSpec()

    def on_all(trainable: PyTree, rest: PyTree, step: Array, key: Array, source: PyTree, item: PyTree) -> Any:
        arrays, static = eqx.partition(rest, eqx.is_array)
        of_state = placement.of_state(trainable)
        placed = of_state, everywhere, placement.of_fields(source), placement.of_fields(item, cut.BATCH)

        def part(trainable: PyTree, common: tuple[PyTree, Array, Array], source: PyTree, item: PyTree) -> Any:
            arrays, *numbers = common
            own, whole = _own_copies(trainable, of_state, mesh), lambda tree: _whole(tree, of_state)
            return _sums(gradient(own, eqx.combine(arrays, static), *numbers, source, item, whole=whole), of_state)

        out = (everywhere, of_state)
        on_parts = jax.shard_map(part, mesh=mesh, in_specs=placed, out_specs=out, check_vma=True)
        return on_parts(trainable, (arrays, step, key), source, item)

    return on_all


def _own_copies(trainable: PyTree, of_state: PyTree, mesh: Mesh) -> PyTree:
    """Parameters whose gradient on a device is that of its part of the batch and of the field.

    Arrays that act on Fourier modes stay common to all parts of a field: the modes are sums over the parts already.
    """
    leaves, structure = jax.tree.flatten(trainable)
    axes, space = frozenset(mesh.axis_names), frozenset(cut.SPACE)
    chosen = [axes - space if modes else axes for modes in acts_on_modes(trainable)]
    each = zip(leaves, chosen, _flat(of_state), strict=True)
    return jax.tree.unflatten(
        structure, [cut.cast(leaf, own - {cut.BATCH} if any(spec) else own) for leaf, own, spec in each]
    )


def _flat(of_state: PyTree) -> list[PartitionSpec]:
    return jax.tree.leaves(of_state, is_leaf=lambda node: isinstance(node, PartitionSpec))


def _whole(tree: PyTree, of_state: PyTree) -> PyTree:
    """Parameters put together from their parts. Its transpose sums the gradients and leaves each device its part."""
    leaves, structure = jax.tree.flatten(tree)
    each = zip(leaves, _flat(of_state), strict=True)
    found = [
        jax.lax.all_gather(x, cut.BATCH, axis=spec.index(cut.BATCH), tiled=True) if any(spec) else x for x, spec in each
    ]
    return jax.tree.unflatten(structure, found)


def _check_sums(logs: PyTree) -> None:
    """Raises ValueError if a number differs from part to part of the fields: what it means for them is not known."""
    for name, value in logs.items():
        if cut.varying(value) & frozenset(cut.SPACE):
            raise ValueError(
                f"Expected the {name} of whole fields, got one of each part. Use an error of sciml.metrics, or finish "
                "sums and means over the points by cut.sum_over_parts and cut.mean_over_parts."
            )


def _sums(found: tuple[tuple[Array, PyTree], PyTree], of_state: PyTree) -> tuple[tuple[Array, PyTree], PyTree]:
    """Means over the devices of a loss and its logs, and the gradient of that mean.

    Everything of one type that varies along the same axes is sent together: each exchange makes the devices wait. The
    gradients of parameters that are cut over the batch's axis are sums over it already.
    """
    (value, logs), gradient = found
    _check_sums({**logs, "loss": value})
    means, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, (value, logs)))
    slopes, form = jax.tree.flatten(gradient)
    share = 1 / math.prod(jax.lax.axis_size(name) for name in cut.varying(value))
    leaves = [mean / math.prod(jax.lax.axis_size(name) for name in cut.varying(mean)) for mean in means]
    leaves += [slope * share for slope in slopes]
    done = [()] * len(means) + [tuple(spec) for spec in _flat(of_state)]
    groups: dict[Any, list[int]] = {}
    for i, (leaf, summed) in enumerate(zip(leaves, done, strict=True)):
        groups.setdefault((leaf.dtype, tuple(sorted(cut.varying(leaf) - frozenset(summed)))), []).append(i)
    for (_, axes), members in groups.items():
        if axes:
            sums = jax.lax.psum(jnp.concatenate([leaves[i].ravel() for i in members]), axes)
            ends = list(itertools.accumulate(leaves[i].size for i in members))
            for i, part in zip(members, jnp.split(sums, ends[:-1]), strict=True):
                leaves[i] = part.reshape(leaves[i].shape)
    value, logs = jax.tree.unflatten(structure, leaves[: len(means)])
    return (value, logs), jax.tree.unflatten(form, leaves[len(means) :])
