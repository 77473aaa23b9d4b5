"""Flax networks under the same interface as every other operator."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from sciml import cut
from sciml.operators._base import AbstractOperator


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

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The network's output for one sample."""
        cut.refuse(x, x.ndim - 1, "A Flax network")
        y = self.module.apply({"params": self.parameters}, jnp.moveaxis(x, 0, -1)[None])
        return jnp.moveaxis(jnp.asarray(y)[0], -1, 0)
