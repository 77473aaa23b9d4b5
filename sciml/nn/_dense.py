"""Dense layers that act on the last axis, whatever the others mean."""

import math
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nn._activations import gelu
from sciml.nn._matmul import matmul
from sciml.nn._matrices import MatrixAxes

Initializer = Callable[..., Array]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""


@final
class Dense(eqx.Module):
    """y = x W + b on the last axis: one matrix product for all rows.

    Attributes:
        weight: W. PyTorch's layout `(out, in)` is its transpose.
        bias: b, or None.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"] | None

    def __init__(
        self, in_size: int, out_size: int, *, bias: bool = True, init: Initializer | None = None, key: PRNGKeyArray
    ) -> None:
        """Draws W and b uniformly in +-1 / sqrt(in_size), or W by `init` and b = 0.

        Args:
            in_size: Length of the last axis of the input.
            out_size: Length of the last axis of the output.
            bias: Whether there is a b.
            init: Initial values of W, such as `jax.nn.initializers.glorot_normal()`.
            key: Of the random initial values.
        """
        bound = 1 / math.sqrt(in_size)
        uniform = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        weight_key, bias_key = jax.random.split(key)
        self.weight = (uniform if init is None else init)(weight_key, (in_size, out_size))
        start = uniform(bias_key, (out_size,)) if init is None else jnp.zeros(out_size)
        self.bias = start if bias else None

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix."""
        return {"weight": MatrixAxes((-2,), (-1,))}

    def __call__(
        self, x: Float[Array, "batch *points in"], extra: Float[Array | np.ndarray, "*points more"] | None = None
    ) -> Float[Array, "batch *points out"]:
        """The layer applied to the rows of `x`, or to [x, extra] where `extra` is the same for the whole batch."""
        own = x.shape[-1]
        y = matmul(x.reshape(-1, own), self.weight[:own] if extra is not None else self.weight)
        y = y.reshape(*x.shape[:-1], -1)
        if extra is not None:
            y = y + (jnp.asarray(extra, x.dtype) @ self.weight[own:])[None]
        return y if self.bias is None else y + jnp.broadcast_to(self.bias, y.shape)


@final
class MLP(eqx.Module):
    """Dense layers with a nonlinearity between them, none after the last.

    Attributes:
        layers: The layers in their order.
        activation: The nonlinearity, elementwise.
    """

    layers: tuple[Dense, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[Array], Array] = gelu,
        init: Initializer | None = None,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            sizes: Lengths of the last axis: input, hidden layers, output.
            activation: The nonlinearity.
            init: As in `Dense`, for every layer.
            key: Of the random initial values.
        """
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            Dense(into, out, init=init, key=key) for into, out, key in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.activation = activation

    def __call__(
        self, x: Float[Array, "batch *points in"], extra: Float[Array | np.ndarray, "*points more"] | None = None
    ) -> Float[Array, "batch *points out"]:
        """The network applied to the rows of `x`, or of [x, extra] as in `Dense`."""
        first, *rest = self.layers
        x = first(x, extra)
        for layer in rest:
            x = layer(self.activation(x))
        return x
