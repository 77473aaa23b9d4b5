"""Predictions of many samples, in batches that the devices of all processes share."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from sciml import cut, parallel
from sciml.parallel import Placement
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
    share = parallel.Shares(size)
    arrays, static = eqx.partition(parallel.own(model), eqx.is_array)
    placement = Placement(share.mesh)
    arrays = place(arrays, placement)
    parts = []
    for start in range(0, count, size):
        wanted = share.of(np.minimum(np.arange(start, start + size), count - 1))
        batch = jax.tree.map(lambda array, wanted=wanted: np.asarray(array[wanted]), inputs)
        own = _unless_one_lacks_memory(lambda batch=batch: _apply(arrays, static, batch, placement))
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
