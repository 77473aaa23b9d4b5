"""Samples that the devices of all processes compute, each its share, without waiting for one another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from sciml import cut
from sciml.parallel._arrays import gathered
from sciml.parallel._layout import Layout
from sciml.parallel._processes import devices as all_devices
from sciml.parallel._processes import several


class Shares:
    """Which of some samples each device computes: equal shares, as `Layout().on(size)` cuts a batch.

    Each process computes what its devices would compute in one process that has all of them, so that the numbers are
    those of such a process.

    Args:
        size: Number of samples.
        devices: Devices to choose from, by default those of all processes.

    Attributes:
        mesh: The devices of this process that compute.
    """

    def __init__(self, size: int, devices: Sequence[Any] | None = None) -> None:
        mesh = shared_by(size, all_devices() if devices is None else devices)
        owners = [device.process_index for device in mesh.devices.flat]
        self._each = size // mesh.size  # samples of a device
        self._counts = [owners.count(one) for one in range(jax.process_count())] if several() else []
        here = [i for i, owner in enumerate(owners) if owner == jax.process_index()]
        self._here = here or [0]  # a process without a device in the mesh computes what another one does, for its shape
        own = [mesh.devices.flat[i] for i in here] or jax.local_devices()[:1]
        self.mesh = shared_by(len(own) * self._each, own) if self._counts else mesh

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Those of as many rows as there are samples that this process computes."""
        by_device = rows.reshape(len(rows) // self._each, self._each, *rows.shape[1:])[self._here]
        return by_device.reshape(len(by_device) * self._each, *rows.shape[1:])

    def joined(self, tree: PyTree) -> PyTree:
        """Arrays of all samples in NumPy, on all processes, from those that each process has computed."""
        if not self._counts:
            return jax.tree.map(np.asarray, tree)
        return jax.tree.map(self._in_order, gathered(jax.tree.map(self._by_device, tree)))

    def _by_device(self, output: Any) -> np.ndarray:
        """Samples by device, as many devices as the process with the most has."""
        found = np.asarray(output).reshape(len(output) // self._each, self._each, *output.shape[1:])
        missing = max(self._counts) - len(found)
        return np.pad(found, [(0, missing), *[(0, 0)] * (found.ndim - 1)])

    def _in_order(self, outputs: np.ndarray) -> np.ndarray:
        """Samples in their order, from those of each process by device."""
        found = np.concatenate([part[:count] for part, count in zip(outputs, self._counts, strict=True)])
        return found.reshape(len(found) * self._each, *found.shape[2:])


def drawing_devices(*, own: bool = False) -> list[Any]:
    """Devices that solve equations to draw samples: all, but of the CPU of a process one.

    Several devices of one CPU that each solve their share can wait for one another's threads for ever (jax 0.10.2).

    Args:
        own: Whether those of other processes are left out.
    """
    found = jax.local_devices() if own else all_devices()
    if found[0].platform != "cpu":
        return found
    owners = [one.process_index for one in found]
    return [one for i, one in enumerate(found) if owners[i] not in owners[:i]]


def shared_by(size: int, devices: Sequence[Any]) -> Mesh:
    """As many of these devices as can share so many samples equally; one if there are none."""
    return Layout().on(max(1, size), devices=devices).mesh


def on_shares(function: Callable[..., PyTree], mesh: Mesh, *, common: tuple[PyTree, ...] = ()) -> Callable[..., PyTree]:
    """A function of arrays whose first axis counts samples, of which each device of a mesh computes its share.

    Nothing is exchanged, so that a loop ends on each device with the samples that the device has.

    Args:
        function: `(*arrays, *common) -> arrays`, all but the common ones with such a first axis. It need not know of
            meshes: JAX does not note what varies from device to device (`check_vma=False`), since nothing is summed.
        mesh: From `Shares` or `shared_by`.
        common: What all devices have.
    """
    if mesh.size == 1:
        return lambda *arrays: function(*arrays, *common)
    whole, share = PartitionSpec(), PartitionSpec(cut.BATCH)
    on_all = jax.shard_map(
        lambda arrays, common: function(*arrays, *common),
        mesh=mesh,
        in_specs=(share, whole),
        out_specs=share,
        check_vma=False,
    )
    return lambda *arrays: on_all(arrays, common)
