"""Where the batches of a run come from: arrays on the device, or batches sent by the host."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from sciml import parallel
from sciml.train._memory import Ahead, Gathered, memory
from sciml.train._sharding import replicate

Rows = Callable[[int], np.ndarray]


def _stacked(items: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *parts: np.stack(parts), *items)


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches as a pure function of their number; `make_step` needs `fetch`, `fit` the rest.

    Attributes:
        item: What the host sends for batch k: the numbers of its samples, or the batch itself; of several processes
            each has the part for its own devices, or all of them have the same.
        source: Arrays that stay on the device.
        fetch: `(source, item) -> batch`, traced inside the compiled step.
        together: What the step takes of the items of successive batches, along a new leading axis.
    """

    item: Callable[[int], PyTree]
    source: PyTree = None
    fetch: Callable[[PyTree, PyTree], PyTree] = lambda source, item: item
    together: Callable[[Sequence[PyTree]], PyTree] = _stacked


def resident(data: Any, rows: Rows, *, mesh: Mesh | None = None) -> Batches:
    """Batches gathered on the device from a data set that is copied there once; the host sends only row numbers.

    On several processes each one copies the data set to its own devices.

    Args:
        data: `len(data)` and `data[rows]`, a pytree of arrays with a leading batch axis; or `Gathered`.
        rows: Numbers of the samples of batch k.
        mesh: Devices that each get a copy; without it, the default device.
    """
    if isinstance(data, Gathered):
        return Batches(lambda k: data.item(rows(k)), replicate(data.source(), mesh), data.fetch, _spread_over(mesh))
    source = replicate(data[np.arange(len(data))], mesh)
    return Batches(
        item=lambda k: np.asarray(rows(k), np.int32),
        source=source,
        fetch=lambda source, item: jax.tree.map(lambda array: array[item], source),
        together=_spread_over(mesh),
    )


def _spread_over(mesh: Mesh | None) -> Callable[[Sequence[PyTree]], PyTree]:
    if mesh is None or not mesh.is_multi_process:
        return _stacked
    return lambda items: parallel.divided(_stacked(items), mesh)


def streamed(data: Any, rows: Rows, *, mesh: Mesh | None = None) -> Batches:
    """Batches that a thread of the host reads two ahead, sent to the device while it computes the step before.

    Args:
        data: As in `resident`.
        rows: As in `resident`.
        mesh: Devices that share each batch. Of several processes each one reads the rows of its own devices alone.
    """
    if mesh is None or not mesh.is_multi_process:
        return Batches(item=Ahead(lambda k: data[rows(k)]))
    item = Ahead(lambda k: data[parallel.share_of(rows(k), mesh)])
    return Batches(item, together=lambda items: parallel.united(_stacked(items), mesh))


def batches(data: Any, rows: Rows, *, mesh: Mesh | None = None, limit: int | None = None) -> Batches:
    """`resident` if the data take at most `limit` bytes, otherwise `streamed`.

    Args:
        data: As in `resident`.
        rows: Numbers of the samples of batch k.
        mesh: As in `resident`.
        limit: By default a quarter of the memory of a device.
    """
    one = () if isinstance(data, Gathered) else jax.tree.leaves(data[np.arange(1)])
    size = data.nbytes if isinstance(data, Gathered) else len(data) * sum(array.nbytes for array in one)
    devices = jax.local_devices()[:1] if mesh is None else mesh.local_devices
    device = devices[0]
    copies = len(devices) if device.platform == "cpu" else 1  # the devices of a CPU share its memory
    fits = parallel.agreed(size * copies <= (memory(device) // 4 if limit is None else limit))
    return resident(data, rows, mesh=mesh) if fits else streamed(data, rows, mesh=mesh)
