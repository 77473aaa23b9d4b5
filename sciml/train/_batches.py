"""Where the batches of a run come from: arrays on the device, or batches sent by the host."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from sciml import cut, parallel
from sciml.parallel import Placement
from sciml.train._memory import Ahead, memory
from sciml.train._reading import Gathered, bytes_of, on_devices, own_reading

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


def resident(data: Any, rows: Rows, *, placement: Placement | None = None) -> Batches:
    """Batches gathered on the device from a data set that is copied there once; the host sends only row numbers.

    On several processes each one copies the data set to its own devices; of fields that are cut it reads no more than
    these have, if the data set is `Parted`.

    Args:
        data: `len(data)` and `data[rows]`, a pytree of arrays with a leading batch axis; or `Gathered`.
        rows: Numbers of the samples of batch k.
        placement: Devices that each get a copy, or their parts of all fields; without it, the default device.
    """
    if isinstance(data, Gathered):
        item, fetch = lambda k: data.item(rows(k)), data.fetch
    else:
        item = lambda k: np.asarray(rows(k), np.int32)
        fetch = lambda source, item: jax.tree.map(lambda array: array[item], source)
    together = _stacked if placement is None else _together(placement)
    return Batches(item, on_devices(data, placement), fetch, together)


def _together(placement: Placement) -> Callable[[Sequence[PyTree]], PyTree]:
    """Stacks items that all processes have alike, and gives each device its part."""
    if not placement.mesh.is_multi_process and not placement.cuts_space:
        return _stacked  # the compiled step takes parts of it
    return lambda items: placement.put(stacked := _stacked(items), placement.of_fields(stacked, None, cut.BATCH))


def streamed(data: Any, rows: Rows, *, placement: Placement | None = None) -> Batches:
    """Batches that a thread of the host reads two ahead, sent to the device while it computes the step before.

    Args:
        data: As in `resident`.
        rows: As in `resident`.
        placement: Devices that share each batch. Of several processes each one reads the rows of its own devices alone,
            and of fields that are cut no more than these have, if the data set is `Parted`.
    """
    if placement is None or not placement.mesh.is_multi_process:
        item = Ahead(lambda k: data[rows(k)])
        return Batches(item) if placement is None else Batches(item, together=_together(placement))
    read, whole = own_reading(data, placement)
    item = Ahead(lambda k: read(placement.own_rows(rows(k))))
    return Batches(item, together=lambda items: placement.united(_stacked(items), whole))


def batches(data: Any, rows: Rows, *, placement: Placement | None = None, limit: int | None = None) -> Batches:
    """`resident` if the data take at most `limit` bytes, otherwise `streamed`.

    Args:
        data: As in `resident`.
        rows: Numbers of the samples of batch k.
        placement: As in `resident`.
        limit: By default a quarter of the memory of a device.
    """
    size = bytes_of(data, placement)
    devices = jax.local_devices()[:1] if placement is None else placement.mesh.local_devices
    device = devices[0]
    copies = len(devices) if device.platform == "cpu" else 1  # the devices of a CPU share its memory
    fits = parallel.broadcast(size * copies <= (memory(device) // 4 if limit is None else limit))
    return resident(data, rows, placement=placement) if fits else streamed(data, rows, placement=placement)
