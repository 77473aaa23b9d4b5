"""Vector fields that are not finite everywhere."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree


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
