"""Evaluates many different systems in one compiled program: prefix expressions as arrays, and their interpreter."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sciml.symbolic._evaluate import OPERATIONS
from sciml.symbolic._tree import ARITY, AbstractExpression, Apply, Integer, Real, Variable, fold, walk

_CONSTANT, _COPY, _FIRST_OPERATOR = 0, 1, 2


class Program(eqx.Module):
    """A system as arrays of instructions. `programs` stacks the programs of several systems for `jax.vmap`.

    Instruction i is node i of the expressions in prefix order. The interpreter runs from the last instruction to the
    first, over one array of values: those of all nodes, a zero, the time, and the state. The first argument of the
    operator i is the value i + 1; its second argument is the value at index `operand[i]`.

    Each instruction evaluates every operator in `operators`, since the systems of a batch differ in it, and selects one
    result. Forward and reverse derivatives are those of the selected operator. The derivative of `pow` in its exponent
    is set to zero where the base is not positive.

    Attributes:
        operation: Code of each instruction: constant, copy of the time or of a state, or an operator.
        operand: Index of the second argument of an operator, or of the value that is copied.
        value: The constants, 0 for other instructions.
        roots: Index of the value of each component.
        operators: Names of the operators.
    """

    operation: Int[Array | np.ndarray, " length"]
    operand: Int[Array | np.ndarray, " length"]
    value: Float[Array | np.ndarray, " length"]
    roots: Int[Array | np.ndarray, " components"]
    operators: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, t: Any, u: Float[Array, " variables"], args: Any = None) -> Float[Array, " components"]:
        """The derivative du/dt at time `t`, in the data type of `u`; zero in components that the system lacks.

        The call signature is that of a diffrax vector field; `args` is not used.
        """
        length = self.value.shape[0]
        constants = jnp.asarray(self.value).astype(u.dtype)
        zero_and_time = jnp.stack([jnp.zeros((), u.dtype), jnp.asarray(t, u.dtype)])
        start = jnp.concatenate([constants, zero_and_time, u])

        def step(values: Array, instruction: tuple[Array, Array, Array]) -> tuple[Array, None]:
            position, operation, operand = instruction
            first, second = values[position + 1], values[operand]
            result = jnp.where(operation == _COPY, second, values[position])
            for code, name in enumerate(self.operators, start=_FIRST_OPERATOR):
                chosen = operation == code
                # If another operator is chosen, the arguments are set to 1, so that no NaN enters the derivatives.
                safe = [jnp.where(chosen, x, 1) for x in (first, second)[: ARITY[name]]]
                result = jnp.where(chosen, OPERATIONS[name](jnp, *safe), result)
            return values.at[position].set(result), None

        instructions = (jnp.arange(length), jnp.asarray(self.operation), jnp.asarray(self.operand))
        values, _ = jax.lax.scan(step, start, instructions, reverse=True)
        return values[jnp.asarray(self.roots)]


def programs(
    systems: Sequence[Sequence[AbstractExpression]],
    variables: Sequence[str],
    *,
    length: int | None = None,
    components: int | None = None,
    operators: Sequence[str] | None = None,
) -> Program:
    """A `Program` whose arrays have a leading axis of systems: `jax.vmap(lambda f, u: f(t, u))(programs(...), u)`.

    Args:
        systems: The systems, without placeholders; shorter ones are padded.
        variables: Names of the components of u; `t` is the time.
        length: Number of instructions; by default the largest number of nodes of a system. With a fixed length, later
            batches use the same compiled program.
        components: Number of results; by default the largest number of components.
        operators: The supported operators; by default those that occur.

    Raises:
        ValueError: If a system has too many nodes or components, a placeholder, or an unknown operator or variable.
    """
    nodes = [[node for tree in system for node in walk(tree)] for system in systems]
    occurring = {node.operator for system in nodes for node in system if isinstance(node, Apply)}
    operators = tuple(name for name in ARITY if name in occurring) if operators is None else tuple(operators)
    length = max(map(len, nodes), default=0) if length is None else length
    components = max(map(len, systems), default=0) if components is None else components
    rows = [
        _assembled(system, tuple(variables), length=length, components=components, operators=operators)
        for system in systems
    ]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *rows)


def _numbered(tree: AbstractExpression) -> list[tuple[AbstractExpression, int]]:
    """Each node in prefix order, with the number of nodes of its first argument."""

    def below(node: AbstractExpression, parts: Sequence[Any]) -> list[tuple[AbstractExpression, int]]:
        return [(node, len(parts[0]) if parts else 0)] + [entry for part in parts for entry in part]

    return fold(tree, below)


def _assembled(
    system: Sequence[AbstractExpression],
    variables: tuple[str, ...],
    *,
    length: int,
    components: int,
    operators: tuple[str, ...],
) -> Program:
    parts = [_numbered(tree) for tree in system]
    nodes = [entry for part in parts for entry in part]
    if len(nodes) > length or len(parts) > components:
        raise ValueError(
            f"Expected at most {length} nodes and {components} components, got {len(nodes)} and {len(parts)}. "
            "Give programs a larger length or number of components."
        )
    operation, operand = np.zeros(length, np.int32), np.zeros(length, np.int32)
    value = np.zeros(length, jnp.result_type(float))
    for i, (node, skipped) in enumerate(nodes):
        if isinstance(node, Apply) and node.operator in operators:
            operation[i], operand[i] = _FIRST_OPERATOR + operators.index(node.operator), i + 1 + skipped
        elif isinstance(node, Real | Integer):
            operation[i] = _CONSTANT
            with np.errstate(over="ignore"):  # numbers written by a model may exceed the range of float32
                value[i] = node.value
        elif isinstance(node, Variable) and node.name in ("t", *variables):
            operation[i], operand[i] = _COPY, length + 1 + ("t", *variables).index(node.name)
        else:
            known = ", ".join((*operators, "t", *variables))
            raise ValueError(f"Expected numbers and {known} in a program, got {node.head!r}.")
    starts = np.cumsum([0, *(len(part) for part in parts)])[: len(parts)]
    roots = np.full(components, length, np.int32)
    roots[: len(parts)] = starts
    return Program(operation, operand, value, roots, operators)
