"""The interface of every neural operator."""

import abc
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sciml.nn import explicit_axes, fold_vmap

Call = TypeVar("Call", bound=Callable[..., Array])


def takes_any_field(call: Call) -> Call:
    """A `__call__` that takes fields of any type and on any mesh.

    The field is converted to the common type of field and parameters. On a mesh whose axes are `AxisType.Explicit`, the
    default of `jax.make_mesh`, each operation has to say how its result is cut over the devices: `nn.fold_vmap` leaves
    that to XLA.
    """

    def batched(operator: Any, batch: Array) -> Array:
        return jax.vmap(functools.partial(call, operator))(batch)

    @functools.wraps(call)
    def wrapped(self: Any, x: Array) -> Array:
        leaves = [leaf for leaf in jax.tree.leaves(self) if eqx.is_array(leaf)]
        common = jnp.result_type(x, *(leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)))
        x = jnp.asarray(x, common)
        return fold_vmap(batched, self, x) if any(map(explicit_axes, (x, *leaves))) else call(self, x)

    return cast(Call, wrapped)


class AbstractOperator(eqx.Module):
    """Maps fields to fields on one sample: no batch axis, no key, no state.

    Batches are the caller's `jax.vmap`. Training, evaluation, wrappers and the command line ask for nothing else: any
    Equinox module with such a call is an operator for them, also one of another package, and need not inherit from this
    class. On a mesh that cuts fields such a module is refused unless it has the attribute `acts_on_parts`.
    """

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields for the input fields `x`."""

    def repeated(self) -> tuple[PyTree, ...]:
        """The parts that `rematerialised` puts into `nn.Rematerialised`, such as the layers; none by default.

        An operator that names some runs them as functions or by `nn.apply_layer`, and reads their sizes by `nn.bare`.
        """
        return ()
