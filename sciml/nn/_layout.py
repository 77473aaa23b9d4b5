"""Functions of one sample whose code sees the whole batch."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from sciml import cut


def fold_vmap(function: Callable[[Any, Array], Array], parameters: PyTree, x: Array) -> Array:
    """`function(parameters, x[None])[0]`, where `jax.vmap` over `x` lengthens the leading axis instead of adding one.

    A network written for one sample and vmapped leaves the place of the batch axis to the batching rules of single
    operations. Here `function` sees the batch and lays it out as the hardware likes; one sample is a batch of one, and
    nested vmaps fold into the same axis. Every transformation of JAX works. A derivative taken inside the vmap,
    `vmap(grad(f))`, and a vmap over the parameters are batched operation by operation, as without this function.

    Args:
        function: Maps parameters and a batch `(batch, ...)` to a batch `(batch, ...)`; samples must not interact.
        parameters: Any pytree; what is not an array in it must be hashable.
        x: One sample.

    Returns:
        The result for one sample.
    """
    arrays, rest = eqx.partition(parameters, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    others, other_structure = jax.tree.flatten(rest)
    static = (function, structure, tuple(others), other_structure)
    everywhere = frozenset().union(*(cut.varying(leaf) for leaf in leaves))
    return FOLDED.bind(cut.cast(x[None], everywhere), *leaves, static=static)[0]


def check_field(x: Array, channels: int, dimensions: int) -> None:
    """Refuses all but one field with that number of channels and of axes.

    Raises:
        ValueError: If `x` has another number of either.
    """
    if x.ndim != dimensions + 1 or x.shape[0] != channels:
        raise ValueError(
            f"Expected a field ({channels}, {dimensions} axes of space), got {x.shape}. "
            "Fields are (channels, *space) without a batch axis: use jax.vmap for batches."
        )


def along_last(x: Float[Array, " channels"], ndim: int) -> Float[Array, "*ones channels"]:
    """`x` with `ndim` axes, the first ones of size 1, to multiply or add to fields with the channels last."""
    return x.reshape((1,) * (ndim - 1) + x.shape)


def explicit_axes(leaf: Any) -> tuple[str, ...]:
    """The axes of the mesh of an array, if it has one, whose type is `AxisType.Explicit`."""
    if not isinstance(leaf, jax.Array):
        return ()
    mesh = jax.typeof(leaf).sharding.mesh
    return tuple(name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit)


def called(x: Array, *leaves: Array, static: tuple[Any, ...]) -> Array:
    """What the primitive `FOLDED` computes."""
    function, structure, others, other_structure = static

    def apply(x: Array, *leaves: Array) -> Array:
        arrays = jax.tree.unflatten(structure, leaves)
        return function(eqx.combine(arrays, jax.tree.unflatten(other_structure, others)), x)

    placed = [leaf for leaf in (x, *leaves) if explicit_axes(leaf)]
    if not placed:
        return apply(x, *leaves)
    # On such a mesh each operation would have to say how its result is cut. Batch and space are cut as those of x.
    batch, _, *space = (*jax.typeof(x).sharding.spec, *(None,) * x.ndim)[: x.ndim]
    mesh = jax.typeof(placed[0]).sharding.mesh
    cut_as = NamedSharding(mesh, PartitionSpec(batch, None, *space))
    inside: Any = jax.sharding.auto_axes(apply, axes=explicit_axes(placed[0]), out_sharding=cut_as)
    return inside(x, *leaves)


def _jvp(primals: tuple, tangents: tuple, *, static: tuple[Any, ...]) -> tuple[Array, Array]:
    # Ordinary operations from here on; inputs without a tangent (data, frozen weights) cost nothing.
    live = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def of_live(*values: Array) -> Array:
        arguments = list(primals)
        for i, value in zip(live, values, strict=True):
            arguments[i] = value
        return called(*arguments, static=static)

    return jax.jvp(of_live, [primals[i] for i in live], [tangents[i] for i in live])


def _fold(arguments: tuple, axes: tuple, *, static: tuple[Any, ...]) -> tuple[Array, int]:
    x, *leaves = arguments
    if axes[0] is None or any(axis is not None for axis in axes[1:]):
        call = lambda *values: called(*values, static=static)
        return jax.vmap(call, in_axes=axes)(*arguments), 0
    x = jnp.moveaxis(x, axes[0], 0)
    outer, inner = x.shape[:2]
    cut_as, where = jax.typeof(x).sharding, (None, None)
    if explicit_axes(x):
        where = (cut_as.update(spec=PartitionSpec(cut_as.spec[0], *cut_as.spec[2:])), cut_as)
    x = jax.lax.reshape(x, (outer * inner, *x.shape[2:]), out_sharding=where[0])
    out = FOLDED.bind(x, *leaves, static=static)
    return jax.lax.reshape(out, (outer, inner, *out.shape[1:]), out_sharding=where[1]), 0


def _abstract(x: Any, *leaves: Any, static: tuple[Any, ...]) -> Any:
    out = jax.eval_shape(lambda *values: called(*values, static=static), x, *leaves)
    return x.update(
        shape=out.shape, dtype=out.dtype, weak_type=False, manual_axis_type=out.manual_axis_type or x.manual_axis_type
    )


FOLDED = Primitive("fold_vmap")
FOLDED.def_impl(jax.jit(called, static_argnames="static"))
FOLDED.def_abstract_eval(_abstract)
ad.primitive_jvps[FOLDED] = _jvp
batching.primitive_batchers[FOLDED] = _fold
mlir.register_lowering(FOLDED, mlir.lower_fun(called, multiple_results=False))
