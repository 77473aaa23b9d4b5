"""Flax networks under the same interface as every other operator, and operators as modules of Flax."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from sciml import cut
from sciml.nn import partition
from sciml.operators._base import AbstractOperator, takes_any_field


class FlaxOperator(AbstractOperator):
    """A Flax (Linen) network that maps `(batch, *space, channels)` to the same layout, as an operator on one sample.

    It trains, saves, resumes and is benchmarked like the operators of this package. An NNX network enters through
    `flax.nnx.bridge.to_linen`.

    Args:
        module: The `flax.linen.Module`; its `__call__` takes one array. `pip install 'sciml-jax[flax]'`
            installs Flax.
        example: An input `(channels, *space)`, or a `jax.ShapeDtypeStruct` of one, to initialise for.
        key: For the initial parameters.

    Raises:
        ValueError: If the network has state besides parameters (batch statistics, caches): operators have none.
    """

    module: Any = eqx.field(static=True)
    parameters: PyTree

    def __init__(self, module: Any, example: Any, *, key: Key[Array, ""]):
        self.module = module
        batch = jnp.zeros((1, *example.shape[1:], example.shape[0]), example.dtype)
        variables = dict(module.init(key, batch))
        self.parameters = variables.pop("params", {})
        if variables:
            raise ValueError(
                f"The network keeps state in {sorted(variables)}; an operator is a pure function of its input. "
                "Use layers without running statistics, for example GroupNorm or LayerNorm for BatchNorm."
            )

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The network's output for one sample."""
        cut.refuse(x, x.ndim - 1, "A Flax network")
        y = self.module.apply({"params": self.parameters}, jnp.moveaxis(x, 0, -1)[None])
        return jnp.moveaxis(jnp.asarray(y)[0], -1, 0)


def nnx_module(operator: AbstractOperator) -> Any:
    """The operator as a `flax.nnx.Module`, to be trained by NNX's optimisers or to be a part of an NNX model.

    `module(x)` is `operator(x)`, on one sample `(channels, *space)`: use `nnx.vmap` or `jax.vmap` for batches.
    Trainable arrays are `nnx.Param`, named by their place in the operator, others plain `nnx.Variable`.
    `module.operator()` is the operator with the arrays that the module then has.

    Args:
        operator: Any.

    Raises:
        ModuleNotFoundError: If Flax is not installed.
    """
    trainable, rest = partition(operator)
    return _nnx_class()(trainable, *eqx.partition(rest, eqx.is_array))


@functools.cache
def _nnx_class() -> Any:
    try:
        from flax import nnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "A module of Flax NNX needs Flax, which is not installed: pip install 'sciml-jax[flax]'."
        ) from error

    class OperatorModule(nnx.Module):
        """An operator of sciml."""

        def __init__(self, trainable: PyTree, arrays: PyTree, rest: PyTree):
            self.parameters = nnx.Dict({name: nnx.Param(leaf) for name, leaf in _by_name(trainable).items()})
            self.constants = nnx.Dict({name: nnx.Variable(leaf) for name, leaf in _by_name(arrays).items()})
            structures = jax.tree.structure(trainable), jax.tree.structure(arrays)
            self.form = nnx.static((tuple(_by_name(trainable)), tuple(_by_name(arrays)), *structures, rest))

        def operator(self) -> Any:
            """The operator with the arrays of this module."""
            names, constants, structure, other, rest = self.form
            trainable = jax.tree.unflatten(structure, [self.parameters[name][...] for name in names])
            arrays = jax.tree.unflatten(other, [self.constants[name][...] for name in constants])
            return eqx.combine(trainable, arrays, rest)

        def __call__(self, x: Array) -> Array:
            return self.operator()(x)

    return OperatorModule


def _by_name(tree: PyTree) -> dict[str, Array]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
