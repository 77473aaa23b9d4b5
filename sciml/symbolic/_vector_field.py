"""A system of expressions as the right-hand side of an ODE."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.symbolic._evaluate import evaluate_with, parameters, replace_leaves
from sciml.symbolic._tree import PLACEHOLDER, AbstractExpression, Placeholder, Real, System, states, walk


class VectorField(eqx.Module):
    """The right-hand side du/dt = f(t, u) of a system, with its `Real` constants as one vector of parameters.

    It has the call signature of a diffrax vector field. The structure is static and does not contain the constants, so
    that systems that differ only in constants share compiled programs. The gradient with respect to the module is the
    gradient with respect to the constants. `sciml.symbolic.with_parameters(system, field.constants)` converts back to
    expressions.

    Args:
        system: One expression per component, in the variables and in the time `t`.
        variables: Names of the components of u; by default `u_0`, `u_1`, ...

    Raises:
        ValueError: If an expression has placeholders, or, when called, unknown variables or a state of another size.
    """

    constants: Float[Array, " constants"]
    structure: System = eqx.field(static=True)
    variables: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, system: Sequence[AbstractExpression], variables: Sequence[str] | None = None):
        nodes = [node for tree in system for node in walk(tree)]
        if any(isinstance(node, Placeholder) for node in nodes):
            raise ValueError("Expected a system without placeholders. Fill them with with_parameters first.")
        with np.errstate(over="ignore"):  # numbers written by a model may exceed the range of float32
            self.constants = jnp.asarray(parameters(system).astype(jnp.result_type(float)))
        self.structure = tuple(
            replace_leaves(tree, lambda leaf: PLACEHOLDER if isinstance(leaf, Real) else leaf) for tree in system
        )
        default = tuple(variable.name for variable in states(len(system)))
        self.variables = default if variables is None else tuple(variables)

    def __call__(self, t: Any, u: Float[Array, " variables"], args: Any = None) -> Float[Array, " components"]:
        """The derivative du/dt at time `t`, in the data type of `u`; `args` is not used."""
        if u.shape[0] != len(self.variables):
            raise ValueError(f"Expected a state {self.variables}, got the shape {u.shape}.")
        values = {"t": jnp.asarray(t, u.dtype)} | dict(zip(self.variables, u, strict=True))
        constants = iter(self.constants.astype(u.dtype))
        rows = [evaluate_with(tree, values, constants, jnp) for tree in self.structure]
        return jnp.stack([jnp.asarray(row, u.dtype) for row in rows])
