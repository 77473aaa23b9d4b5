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


@final
class Guarded(eqx.Module):
    """A vector field whose derivatives are zero where its value is nan or infinite, and which is unchanged elsewhere.

    An adaptive solver that tries too long a step may leave the region where the field is defined: sqrt of a negative
    number, a division by zero. It rejects the step and goes on, yet the gradient becomes nan, because the rejected
    step is multiplied by zero on the way back and 0 * nan is nan. Zero derivatives there are exact: the
    solution does not depend on a rejected step. The field is evaluated once more when it is differentiated, unless the
    compiler sees that both evaluations are the same.

    Attributes:
        field: `(t, y, args) -> dy/dt`.
    """

    field: Callable[..., PyTree]

    def __call__(self, t: Any, y: PyTree, args: PyTree = None) -> PyTree:
        """The value of the field."""
        # what a closure holds becomes an argument, since custom derivatives allow no other way in
        return _evaluate(eqx.filter_closure_convert(self.field, t, y, args), t, y, args)


@eqx.filter_custom_jvp
def _evaluate(field: Callable[..., PyTree], t: Any, y: PyTree, args: PyTree) -> PyTree:
    return field(t, y, args)


@_evaluate.def_jvp
def _evaluate_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    value = _evaluate(*primals)
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(value)]))
    # On the way in for the reverse mode, on the way out for the forward mode.
    gate = lambda tree: jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), tree)
    _, tangent = eqx.filter_jvp(lambda field, t, y, args: field(t, y, args), primals, gate(tangents))
    return value, gate(tangent)
