"""Data parallelism over the devices of one or several processes: one copy of the state each, a part of each batch."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from sciml import parallel

_NO_MEMORY = ("RESOURCE_EXHAUSTED", "YNNPACK operation failed")  # the latter on CPUs, for some operations


def mesh_for(size: int, devices: Sequence[Any] | None = None) -> Mesh:
    """The largest mesh whose devices share a batch of `size` samples equally: a batch of 50 uses 2 of 4 devices.

    Args:
        size: Number of samples in a batch.
        devices: Devices to choose from, by default all local ones.
    """
    devices = jax.local_devices() if devices is None else devices
    count = next(n for n in range(min(size, len(devices)), 0, -1) if size % n == 0)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


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
    return jax.shard_map(part, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False)(
        arrays, batch
    )


def mean_over(values: PyTree, axes: tuple[str, ...]) -> PyTree:
    """Means over the mesh axes, of all arrays of one type together: each exchange makes the devices wait."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, values))
    groups: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault(leaf.dtype, []).append(i)
    for members in groups.values():
        means = jax.lax.pmean(jnp.concatenate([leaves[i].ravel() for i in members]), axes)
        ends = list(itertools.accumulate(leaves[i].size for i in members))
        for i, part in zip(members, jnp.split(means, ends[:-1]), strict=True):
            leaves[i] = part.reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, leaves)
