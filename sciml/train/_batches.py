"""Where the batches of a run come from: arrays on the device, or batches sent by the host."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from sciml.train._memory import Ahead, Gathered, memory
from sciml.train._sharding import replicate

Rows = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches as a pure function of their number; `make_step` needs `fetch`, `fit` the rest.

    Attributes:
        item: What the host sends for batch k: the numbers of its samples, or the batch itself.
        source: Arrays that stay on the device.
        fetch: `(source, item) -> batch`, traced inside the compiled step.
    """

    item: Callable[[int], PyTree]
    source: PyTree = None
    fetch: Callable[[PyTree, PyTree], PyTree] = lambda source, item: item


def resident(data: Any, rows: Rows, *, mesh: Mesh | None = None) -> Batches:
    """Batches gathered on the device from a data set that is copied there once; the host sends only row numbers.

    Args:
        data: `len(data)` and `data[rows]`, a pytree of arrays with a leading batch axis; or `Gathered`.
        rows: Numbers of the samples of batch k.
        mesh: Devices that each get a copy; without it, the default device.
    """
    if isinstance(data, Gathered):
        return Batches(lambda k: data.item(rows(k)), replicate(data.source(), mesh), data.fetch)
    source = replicate(data[np.arange(len(data))], mesh)
    return Batches(
        item=lambda k: np.asarray(rows(k), np.int32),
        source=source,
        fetch=lambda source, item: jax.tree.map(lambda array: array[item], source),
    )


def streamed(data: Any, rows: Rows) -> Batches:
    """Batches that a thread of the host reads two ahead, sent to the device while it computes the step before."""
    return Batches(item=Ahead(lambda k: data[rows(k)]))


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
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    copies = 1 if mesh is None or device.platform != "cpu" else mesh.size  # the devices of a CPU share its memory
    fits = size * copies <= (memory(device) // 4 if limit is None else limit)
    return resident(data, rows, mesh=mesh) if fits else streamed(data, rows)
