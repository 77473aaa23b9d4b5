"""Evaluates expressions in JAX or NumPy, and gets and sets their constants."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml.symbolic._tree import (
    AbstractExpression,
    Apply,
    Integer,
    Placeholder,
    Real,
    System,
    Variable,
    arguments,
    fold,
    walk,
)


def _power(xp: Any, a: Any, b: Any) -> Any:
    """a**b with a zero derivative in b where a <= 0. That derivative would be NaN, and so would then the one in a."""
    if xp is not jnp:
        return xp.power(a, b)
    positive = jnp.asarray(a) > 0
    base_with_slope, base_without = jnp.where(positive, a, 1), jnp.where(positive, 1, a)
    return jnp.where(positive, jnp.power(base_with_slope, b), jnp.power(base_without, jax.lax.stop_gradient(b)))


# The function of each operator. Its first argument is the array namespace: jax.numpy, numpy, or the SymPy namespace of
# `_sympy.py`. The 1 of `inv` is an integer, because SymPy keeps 1.0 as an inexact coefficient.
OPERATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "add": lambda xp, a, b: xp.add(a, b),
        "sub": lambda xp, a, b: xp.subtract(a, b),
        "mul": lambda xp, a, b: xp.multiply(a, b),
        "div": lambda xp, a, b: xp.divide(a, b),
        "pow": lambda xp, a, b: _power(xp, a, b),
        "neg": lambda xp, a: xp.negative(a),
        "inv": lambda xp, a: xp.divide(1, a),
        "pow2": lambda xp, a: xp.square(a),
        "pow3": lambda xp, a: xp.multiply(xp.square(a), a),
        "sin": lambda xp, a: xp.sin(a),
        "cos": lambda xp, a: xp.cos(a),
        "exp": lambda xp, a: xp.exp(a),
        "log": lambda xp, a: xp.log(a),
        "sqrt": lambda xp, a: xp.sqrt(a),
        "tanh": lambda xp, a: xp.tanh(a),
        "abs": lambda xp, a: xp.abs(a),
    }
)


def evaluate(tree: AbstractExpression, values: Mapping[str, Any], namespace: Any = jnp) -> Any:
    """The value of an expression.

    Undefined operations give infinities and NaN, as in the namespace. The data type is that of the values.

    Args:
        tree: The expression, without placeholders.
        values: For the name of each variable a number, or an array; all arrays have one shape.
        namespace: `jax.numpy`, or `numpy` to compute a few values without compilation.

    Raises:
        ValueError: If a variable has no value, or if the expression has placeholders.
    """
    with np.errstate(all="ignore"):
        return evaluate_with(tree, values, iter(()), namespace)


def evaluate_with(tree: AbstractExpression, values: Mapping[str, Any], constants: Iterator[Any], namespace: Any) -> Any:
    """As `evaluate`, with the next items of `constants` as the values of the placeholders, left to right."""

    def value(node: AbstractExpression, below: Sequence[Any]) -> Any:
        if isinstance(node, Apply):
            return OPERATIONS[node.operator](namespace, *below)
        if isinstance(node, Real | Integer):
            return float(node.value)
        if isinstance(node, Placeholder):
            return _next(constants)
        if isinstance(node, Variable) and node.name in values:
            return values[node.name]
        known = ", ".join(values)
        raise ValueError(f"Expected values of all variables, got those of {known}: {node.head!r} has none.")

    return fold(tree, value)


def _next(constants: Iterator[Any]) -> Any:
    for constant in constants:
        return constant
    raise ValueError("The expression has placeholders without a value. Fill them with with_parameters first.")


def evaluate_system(system: Sequence[AbstractExpression], values: Mapping[str, Any], namespace: Any = jnp) -> Any:
    """The values of all components, stacked on a new first axis.

    Args:
        system: The expressions, without placeholders.
        values: As in `evaluate`. A component without variables is broadcast to the shape of the arrays.
        namespace: As in `evaluate`.

    Raises:
        ValueError: As `evaluate`.
    """
    rows = [evaluate(tree, values, namespace) for tree in system]
    shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
    dtype = namespace.result_type(1.0, *values.values())
    with np.errstate(all="ignore"):
        return namespace.stack([namespace.broadcast_to(namespace.asarray(row, dtype), shape) for row in rows])


def parameters(system: Sequence[AbstractExpression]) -> np.ndarray:
    """The values of all `Real` constants in prefix order, float64. Integers are structure and are left out."""
    return np.array([node.value for tree in system for node in walk(tree) if isinstance(node, Real)], np.float64)


def with_parameters(
    system: Sequence[AbstractExpression], values: Sequence[float | int] | np.ndarray | jax.Array
) -> System:
    """The system with the given values for all `Real` constants and placeholders, in prefix order.

    Raises:
        ValueError: If the number of values differs from the number of `Real` constants and placeholders.
    """
    slots = sum(isinstance(node, Real | Placeholder) for tree in system for node in walk(tree))
    if slots != len(values):
        raise ValueError(f"Expected one value for each of {slots} constants and placeholders, got {len(values)}.")
    rest = iter(values)
    return tuple(
        replace_leaves(tree, lambda leaf: Real(float(next(rest))) if isinstance(leaf, Real | Placeholder) else leaf)
        for tree in system
    )


def replace_leaves(
    tree: AbstractExpression, function: Callable[[AbstractExpression], AbstractExpression]
) -> AbstractExpression:
    """The expression with `function` applied to each leaf, left to right."""

    def rebuilt(node: AbstractExpression, below: Sequence[AbstractExpression]) -> AbstractExpression:
        return Apply(node.head, tuple(below)) if arguments(node) else function(node)

    return fold(tree, rebuilt)
