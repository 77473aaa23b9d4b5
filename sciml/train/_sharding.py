"""A batch that the devices of one or several processes share: a copy of the state each, a part of the samples."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from sciml import cut, parallel
from sciml.nn import acts_on_modes

Gradient = Callable[..., tuple[tuple[Array, PyTree], PyTree]]
"""`(trainable, rest, step, key, source, item) -> ((loss, logs), gradient)` of one batch."""

_NO_MEMORY = ("RESOURCE_EXHAUSTED", "YNNPACK operation failed")  # the latter on CPUs, for some operations


def mesh_for(size: int, devices: Sequence[Any] | None = None) -> Mesh:
    """The largest mesh whose devices share a batch of `size` samples equally: a batch of 50 uses 2 of 4 devices.

    Args:
        size: Number of samples in a batch.
        devices: Devices to choose from, by default all local ones.
    """
    devices = jax.local_devices() if devices is None else devices
    count = next(n for n in range(min(size, len(devices)), 0, -1) if size % n == 0)
    return jax.make_mesh((count,), (cut.BATCH,), axis_types=(AxisType.Auto,), devices=devices[:count])


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Copies all arrays of a pytree to each device of a mesh, or to the default device without one.

    On several processes each one copies its own arrays to its own devices; that they are equal is not checked.
    """
    target = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    if target is not None and target.mesh.is_multi_process:
        return parallel.spread(tree, target)
    arrays, static = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, target), static)


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
    size = min(size, len(jax.tree.leaves(inputs)[0]))
    while True:
        found = None
        try:
            found = _in_batches(model, inputs, size)
        except jax.errors.JaxRuntimeError as error:
            if size == 1 or not any(sign in str(error) for sign in _NO_MEMORY):
                raise
        if found is not None:
            return found
        size = -(-size // 2)


def _in_batches(model: Callable[..., Any], inputs: tuple[PyTree, ...], size: int) -> PyTree | None:
    """The outputs, or on several processes None if one of the others has too little memory."""
    count = len(jax.tree.leaves(inputs)[0])
    mesh = mesh_for(size, parallel.devices())
    share = _Shares(mesh, size)
    arrays, static = eqx.partition(parallel.own(model), eqx.is_array)
    arrays = replicate(arrays, share.mesh)
    parts = []
    for start in range(0, count, size):
        wanted = share.of(np.minimum(np.arange(start, start + size), count - 1))
        batch = jax.tree.map(lambda array, wanted=wanted: np.asarray(array[wanted]), inputs)
        found = share.everywhere(lambda batch=batch: _apply(arrays, static, batch, share.mesh))
        if found is None:
            return None
        parts.append(found)
    return jax.tree.map(lambda *outputs: np.concatenate(outputs)[:count], *parts)


class _Shares:
    """What each process computes of a batch: what the devices that it has in a mesh would.

    So that the numbers are those of one process with all of these devices.
    """

    def __init__(self, mesh: Mesh, size: int):
        owners = [device.process_index for device in mesh.devices.flat]
        self._each = size // mesh.size  # samples of a device
        self._counts = [owners.count(one) for one in range(jax.process_count())] if parallel.several() else []
        here = [i for i, owner in enumerate(owners) if owner == jax.process_index()]
        self._here = here or [0]  # a process without a device in the mesh computes what another one does, for its shape
        own = [mesh.devices.flat[i] for i in here] or jax.local_devices()[:1]
        self.mesh = mesh_for(len(own) * self._each, own) if self._counts else mesh

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch that this process computes."""
        return rows.reshape(-1, self._each)[self._here].ravel() if self._counts else rows

    def everywhere(self, compute: Callable[[], PyTree]) -> PyTree | None:
        """The outputs of the whole batch, from those of each process; None if one of them has too little memory."""
        if not self._counts:
            return jax.tree.map(np.asarray, compute())
        found, error = None, None
        try:
            found = jax.tree.map(self._padded, compute())
        except jax.errors.JaxRuntimeError as one:
            if not any(sign in str(one) for sign in _NO_MEMORY):
                raise
            error = one
        if parallel.gathered(np.int32(error is not None)).any():
            if error is not None:
                raise error
            return None
        return jax.tree.map(self._joined, parallel.gathered(found))

    def _padded(self, output: Any) -> np.ndarray:
        """Samples by device, as many devices as the process with the most has."""
        by_device = np.asarray(output).reshape(-1, self._each, *output.shape[1:])
        missing = max(self._counts) - len(by_device)
        return np.pad(by_device, [(0, missing), *[(0, 0)] * (by_device.ndim - 1)])

    def _joined(self, outputs: np.ndarray) -> np.ndarray:
        """Samples in their order, from those of each process by device."""
        parts = [part[:count] for part, count in zip(outputs, self._counts, strict=True)]
        return np.concatenate(parts).reshape(-1, *outputs.shape[3:])


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


def shared(gradient: Gradient, mesh: Mesh, space: tuple[int, ...]) -> Gradient:
    """The same of a batch that the devices of a mesh share: each takes its part, and all get means and gradient.

    Args:
        gradient: Of a batch.
        mesh: Cuts the batch, and fields if it has axes of `cut.SPACE`.
        space: Shape of the grid of these fields.
    """

    def part(trainable: PyTree, rest: PyTree, *others: PyTree) -> tuple[tuple[Array, PyTree], PyTree]:
        return _sums(gradient(_own_copies(trainable, mesh), rest, *others))

    def on_all(trainable: PyTree, rest: PyTree, step: Array, key: Array, source: PyTree, item: PyTree) -> Any:
        arrays, static = eqx.partition(rest, eqx.is_array)
        everywhere = PartitionSpec()
        of_data = cut.specs(source, mesh, space, None), cut.specs(item, mesh, space, cut.BATCH)
        placed = ((everywhere,) * 4, *of_data)

        def run(common: tuple[PyTree, PyTree, Array, Array], source: PyTree, item: PyTree) -> Any:
            trainable, arrays, step, key = common
            return part(trainable, eqx.combine(arrays, static), step, key, source, item)

        on_parts = jax.shard_map(run, mesh=mesh, in_specs=placed, out_specs=everywhere, check_vma=True)
        return on_parts((trainable, arrays, step, key), source, item)

    return on_all


def _own_copies(trainable: PyTree, mesh: Mesh) -> PyTree:
    """Parameters whose gradient on a device is that of its part of the batch and of the field.

    Arrays that act on Fourier modes stay common to all parts of a field: the modes are sums over the parts already.
    """
    axes = frozenset(mesh.axis_names)
    leaves, structure = jax.tree.flatten(trainable)
    chosen = [axes - frozenset(cut.SPACE) if modes else axes for modes in acts_on_modes(trainable)]
    return jax.tree.unflatten(structure, [cut.cast(leaf, own) for leaf, own in zip(leaves, chosen, strict=True)])


def _check_sums(logs: PyTree) -> None:
    """Raises ValueError if a number differs from part to part of the fields: what it means for them is not known."""
    for name, value in logs.items():
        if cut.varying(value) & frozenset(cut.SPACE):
            raise ValueError(
                f"Expected the {name} of whole fields, got one of each part. Use an error of sciml.metrics, or finish "
                "sums and means over the points by cut.sum_over_parts and cut.mean_over_parts."
            )


def _sums(found: tuple[tuple[Array, PyTree], PyTree]) -> tuple[tuple[Array, PyTree], PyTree]:
    """Means over the devices of a loss and its logs, and the gradient of that mean.

    Everything of one type that varies along the same axes is sent together: each exchange makes the devices wait.
    """
    (value, logs), gradient = found
    _check_sums({"loss": value, **logs})
    means, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, (value, logs)))
    slopes, form = jax.tree.flatten(gradient)
    share = 1 / math.prod(jax.lax.axis_size(name) for name in cut.varying(value))
    leaves = [mean / math.prod(jax.lax.axis_size(name) for name in cut.varying(mean)) for mean in means]
    leaves += [slope * share for slope in slopes]
    groups: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault((leaf.dtype, tuple(sorted(cut.varying(leaf)))), []).append(i)
    for (_, axes), members in groups.items():
        if axes:
            sums = jax.lax.psum(jnp.concatenate([leaves[i].ravel() for i in members]), axes)
            ends = list(itertools.accumulate(leaves[i].size for i in members))
            for i, part in zip(members, jnp.split(sums, ends[:-1]), strict=True):
                leaves[i] = part.reshape(leaves[i].shape)
    value, logs = jax.tree.unflatten(structure, leaves[: len(means)])
    return (value, logs), jax.tree.unflatten(form, leaves[len(means) :])
