"""Arrays on the devices of several processes. Nothing here compares or sends what each process has already."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from sciml.parallel._processes import several


def broadcast_arrays(tree: PyTree) -> PyTree:
    """The arrays of process 0, on all processes, each on its own default device; everything else as it is.

    Processes that initialise a model alike differ in the last digits if their processors do.
    """
    if not several():
        return tree
    arrays, static = eqx.partition(tree, eqx.is_array)
    found = multihost_utils.broadcast_one_to_all(jax.tree.map(_plain, arrays))
    return eqx.combine(jax.tree.map(lambda one, like: _like(jax.numpy.asarray(one), like), found, arrays), static)


def spread(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Arrays that each process has whole, as arrays on the devices of all processes; others are left as they are.

    `jax.device_put` does the same, but sends each array to all processes to compare it.

    Args:
        tree: Arrays, equal on all processes.
        sharding: Where their parts go; each process takes those of its own devices from its arrays.
    """

    def one(array: Any) -> Any:
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return jax.device_put(array, sharding)
        plain = np.asarray(_plain(array))
        whole = sharding if plain.ndim == np.ndim(array) else NamedSharding(sharding.mesh, PartitionSpec())
        return _like(jax.make_array_from_callback(plain.shape, whole, lambda index: plain[index]), array)

    arrays, static = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(one, arrays), static)


def own(tree: PyTree) -> PyTree:
    """The copies that this process has of arrays on the devices of all, which are put together if they are cut."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if not leaf.is_fully_replicated:
            assert isinstance(leaf.sharding, NamedSharding)
            whole = NamedSharding(leaf.sharding.mesh, PartitionSpec())
            leaf = jax.jit(lambda array: array, out_shardings=whole)(leaf)
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)


def gathered(tree: PyTree) -> PyTree:
    """Arrays of one shape on all processes, stacked along a new leading axis, in NumPy and on all processes."""
    return multihost_utils.process_allgather(tree)


def _plain(leaf: Any) -> Any:
    """Keys of random numbers as their words; all else as it is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(array: Any, leaf: Any) -> Any:
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
