"""Layers whose intermediate values are computed again in the backward pass, in place of being kept until then."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from sciml import cut


@final
class Rematerialised(eqx.Module):
    """A layer of which a gradient keeps the inputs alone; in the backward pass its values are computed once more.

    Value and gradients are those of the layer. A training step does the layer's forward work twice and holds the
    intermediate values of one such layer at a time (`jax.checkpoint`). Of a field that is cut over devices, also what
    the layer received from other devices is kept, so that nothing is sent twice.

    XLA's compiler for CPUs drops the barriers that keep a layer from being computed once, and orders operations so that
    many can run at once: a program for CPUs takes as much memory with such layers as without, or more, unless it is
    compiled with the flags of `benchmarks/big_fields.py`. What a gradient keeps is seen without compiling: the arrays
    in `jax.eval_shape` of `jax.vjp`.

    Attributes:
        layer: A layer, or any group of layers that is run by `apply_layer`.
    """

    layer: PyTree

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the layer returns for these arguments."""
        return apply_layer(lambda layer, args, options: layer(*args, **options), self, args, options)


def apply_layer(function: Callable[..., Any], layer: PyTree, *args: Any) -> Any:
    """`function(layer, *args)`, and for a `Rematerialised` layer the same of the layer inside of it.

    It is for layers that are no functions themselves, such as a tuple of them, or whose method has another name.

    Args:
        function: Gets all arrays that it differentiates as its arguments.
        layer: The layer or group of layers.
        args: Arrays, trees of them, or any other values.
    """
    if not isinstance(layer, Rematerialised):
        return function(layer, *args)
    arrays, rest = eqx.partition((layer.layer, args), lambda leaf: isinstance(leaf, jax.Array))

    def apply(arrays: PyTree[Array]) -> Any:
        inner, given = eqx.combine(arrays, rest)
        return function(inner, *given)

    return jax.checkpoint(apply, policy=cut.KEEPS_RECEIVED)(_held_together(arrays))


def _held_together(arrays: PyTree[Array]) -> PyTree[Array]:
    """The arrays behind a barrier, whose transpose is one for their gradients.

    Those of the parameters are then computed before those of the layers in front, and do not keep this layer's values
    until the end. Arrays that vary along other axes of a mesh have a barrier of their own: one for all would make all
    vary alike, and parameters that act on Fourier modes are common to all parts of a field.
    """
    leaves, structure = jax.tree.flatten(arrays)
    groups: dict[frozenset[str], list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault(cut.varying(leaf), []).append(i)
    for members in groups.values():
        held = jax.lax.optimization_barrier([leaves[i] for i in members])
        for i, leaf in zip(members, held, strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def bare(layer: PyTree) -> Any:
    """The layer inside of a `Rematerialised` layer, and any other as it is, to read its sizes."""
    return layer.layer if isinstance(layer, Rematerialised) else layer
