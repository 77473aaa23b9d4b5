"""Vector fields `(t, y, args) -> dy/dt` given by neural networks."""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


@final
class MLPField(eqx.Module):
    """A multilayer perceptron that appends the time to the input of every layer: y <- s(W [y, t] + b).

    The regularised neural ODEs of the source have two layers, each followed by tanh
    (`MLPField(784, widths=(100,), last=jnp.tanh, key=key)`). Source: Pal, Ma, Shah, Rackauckas, "Opening the
    blackbox", 2021, arXiv:2105.03918.

    Attributes:
        layers: The linear layers, in order.
        activation: Elementwise activation after every layer except the last.
        last: Activation after the last layer.
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
        """Draws W and b uniformly from +-1 / sqrt(number of inputs of the layer).

        Args:
            size: Length of y.
            out_size: Length of the result, `size` if not given.
            widths: Sizes of the hidden layers.
            activation: Activation after the hidden layers.
            last: Activation after the last layer.
            key: Random key for the weights.
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
    """A field that depends on the state only, not on time or `args`: dy/dt = network(y).

    Attributes:
        network: Maps the state to its derivative, such as `equinox.nn.MLP`.
    """

    network: Callable[[PyTree], PyTree]

    def __call__(self, t: Any, y: PyTree, args: PyTree = None) -> PyTree:
        """The field at y."""
        return self.network(y)


@final
class Guarded(eqx.Module):
    """A vector field whose derivatives are set to zero where its value is NaN or infinite; it is unchanged elsewhere.

    An adaptive solver that tries too long a step may leave the region where the field is defined (square root of a
    negative number, division by zero). The solver rejects the step and continues, but the gradient becomes NaN, because
    the backward pass multiplies the rejected step by zero and 0 * NaN is NaN. Zero derivatives there are exact, since
    the solution does not depend on a rejected step. Differentiation evaluates the field once more, unless the compiler
    merges both evaluations.

    Attributes:
        field: `(t, y, args) -> dy/dt`.
    """

    field: Callable[..., PyTree]

    def __call__(self, t: Any, y: PyTree, args: PyTree = None) -> PyTree:
        """The value of the field."""
        # arrays in the closure of the field become arguments, which custom derivatives require
        return _evaluate(eqx.filter_closure_convert(self.field, t, y, args), t, y, args)


@eqx.filter_custom_jvp
def _evaluate(field: Callable[..., PyTree], t: Any, y: PyTree, args: PyTree) -> PyTree:
    return field(t, y, args)


@_evaluate.def_jvp
def _evaluate_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    value = _evaluate(*primals)
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(value)]))
    # The gate on the inputs is for reverse mode, the gate on the output for forward mode.
    gate = lambda tree: jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), tree)
    _, tangent = eqx.filter_jvp(lambda field, t, y, args: field(t, y, args), primals, gate(tangents))
    return value, gate(tangent)
