"""Vector fields made of networks, `(t, y, args) -> dy/dt`."""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


@final
class MLPField(eqx.Module):
    """A network of dense layers with the time appended to the input of each: y <- s(W [y, t] + b).

    The dynamics of the experiments with regularised neural ODEs: two layers with tanh behind both
    (`MLPField(784, widths=(100,), last=jnp.tanh, key=key)`) in Pal, Ma, Shah, Rackauckas, "Opening the blackbox", 2021,
    arXiv:2105.03918.

    Attributes:
        layers: The layers in their order.
        activation: Behind all layers but the last, elementwise.
        last: Behind the last layer.
    """

    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)
    last: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        out_size: int | None = None,
        *,
        widths: Sequence[int] = (64, 64),
        activation: Callable[[Array], Array] = jnp.tanh,
        last: Callable[[Array], Array] = jax.nn.identity,
        key: PRNGKeyArray,
    ) -> None:
        """Draws W and b uniformly in +-1 / sqrt(inputs).

        Args:
            size: Length of y.
            out_size: Length of the result, `size` if not given.
            widths: Sizes of the hidden layers.
            activation: Behind the hidden layers.
            last: Behind the last layer.
            key: Of the random initial values.
        """
        sizes = (size, *widths, size if out_size is None else out_size)
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(into + 1, out, key=key) for into, out, key in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.activation = activation
        self.last = last

    def __call__(self, t: Any, y: Float[Array, " size"], args: PyTree = None) -> Float[Array, " out"]:
        """The field at (t, y); `args` is not used."""
        t = jnp.asarray(t, y.dtype).reshape(1)
        for layer in self.layers[:-1]:
            y = self.activation(layer(jnp.concatenate((y, t))))
        return self.last(self.layers[-1](jnp.concatenate((y, t))))


@final
class Autonomous(eqx.Module):
    """The field of a network that knows neither time nor `args`: dy/dt = network(y).

    Attributes:
        network: From the state to its derivative, such as `equinox.nn.MLP`.
    """

    network: Callable[[PyTree], PyTree]

    def __call__(self, t: Any, y: PyTree, args: PyTree = None) -> PyTree:
        """The field at y."""
        return self.network(y)
