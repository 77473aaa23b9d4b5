"""A batch that the devices of one or several processes share: a copy of the state each, a part of the samples."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from sciml import cut
from sciml.nn import acts_on_modes
from sciml.parallel import Placement
from sciml.train._gradient import Gradient


def place(tree: PyTree, placement: Placement | None) -> PyTree:
    """The arrays of a state on each device of a placement, in parts where it says so, or on the default device.

    On several processes each one copies its own arrays to its own devices; that they are equal is not checked.
    """
    arrays, static = eqx.partition(tree, eqx.is_array)
    placed = jax.device_put(arrays) if placement is None else placement.put(arrays, placement.of_state(arrays))
    return eqx.combine(placed, static)


def shared(gradient: Gradient, placement: Placement) -> Gradient:
    """The same of a batch that devices share: each takes its part, and all get means, and the gradient of the state.

    Args:
        gradient: Of a batch; calls `whole` of its parameters inside of what it differentiates.
        placement: What each device has.
    """
    if placement.automatic:
        return _by_xla(gradient, placement)
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


def _by_xla(gradient: Gradient, placement: Placement) -> Gradient:
    """The same of a batch whose samples, and fields, XLA is told to cut."""

    def on_all(trainable: PyTree, rest: PyTree, step: Array, key: Array, source: PyTree, item: PyTree) -> Any:
        item = placement.held(item, placement.of_fields(item, cut.BATCH))
        found, slopes = gradient(trainable, rest, step, key, source, item)
        return found, placement.held(slopes, placement.of_state(trainable))

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
