"""Predictions of many samples, in batches that the devices of all processes share."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from sciml import cut, parallel
from sciml.parallel import Layout, Placement
from sciml.train._sharding import place

_NO_MEMORY = ("RESOURCE_EXHAUSTED", "YNNPACK operation failed")  # the latter on CPUs, for some operations


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
        parts.append(jax.tree.map(np.asarray, parallel.own(_apply(arrays, static, placed, placement))))
    return jax.tree.map(lambda *outputs: np.concatenate(outputs)[:count], *parts)


def _in_batches(model: Callable[..., Any], inputs: tuple[PyTree, ...], size: int) -> PyTree | None:
    """The outputs, or on several processes None if one of the others has too little memory."""
    count = len(jax.tree.leaves(inputs)[0])
    share = _Shares(_shared_by(size, parallel.devices()), size)
    arrays, static = eqx.partition(parallel.own(model), eqx.is_array)
    placement = Placement(share.mesh)
    arrays = place(arrays, placement)
    parts = []
    for start in range(0, count, size):
        wanted = share.of(np.minimum(np.arange(start, start + size), count - 1))
        batch = jax.tree.map(lambda array, wanted=wanted: np.asarray(array[wanted]), inputs)
        found = share.everywhere(lambda batch=batch: _apply(arrays, static, batch, placement))
        if found is None:
            return None
        parts.append(found)
    return jax.tree.map(lambda *outputs: np.concatenate(outputs)[:count], *parts)


def _shared_by(size: int, devices: Sequence[Any]) -> Mesh:
    return Layout().on(size, devices=devices).mesh


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
        self.mesh = _shared_by(len(own) * self._each, own) if self._counts else mesh

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
def _apply(arrays: PyTree, static: PyTree, batch: PyTree, placement: Placement) -> PyTree:
    """The outputs of a batch, on the devices of a placement in the parts that it says."""

    def part(arrays: PyTree, batch: PyTree) -> PyTree:
        return jax.tree.map(jnp.asarray, jax.vmap(eqx.combine(arrays, static))(*batch))

    if placement.mesh.size == 1:
        return part(arrays, batch)
    placed = placement.of_fields(batch, cut.BATCH)
    out = placement.of_fields(jax.eval_shape(part, arrays, batch), cut.BATCH)
    if placement.automatic:
        return placement.held(part(arrays, placement.held(batch, placed)), out)
    specs = PartitionSpec(), placed
    return jax.shard_map(part, mesh=placement.mesh, in_specs=specs, out_specs=out, check_vma=True)(arrays, batch)
