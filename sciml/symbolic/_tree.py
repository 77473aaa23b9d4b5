"""Expression trees: immutable, hashable, built with Python's operators."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

_BINARY: tuple[str, ...] = ("add", "sub", "mul", "div", "pow")
_UNARY: tuple[str, ...] = ("neg", "inv", "pow2", "pow3", "sin", "cos", "exp", "log", "sqrt", "tanh", "abs")
ARITY: Mapping[str, int] = MappingProxyType({**dict.fromkeys(_BINARY, 2), **dict.fromkeys(_UNARY, 1)})
"""The number of arguments of each operator."""

Result = TypeVar("Result")


class AbstractExpression(abc.ABC):
    """A node of an expression tree and its subtrees. Two expressions are equal if their trees are equal.

    The operators `+ - * /`, `abs` and unary minus build a node as written: nothing is reordered or simplified, so that
    `a + b + c` is nested to the left and `a * (b * c)` to the right. A Python float becomes `Real`, an int `Integer`;
    `x**2` and `x**3` with the ints 2 and 3 are `pow2` and `pow3`, any other exponent makes `pow`.
    """

    __array_ufunc__ = None  # a NumPy number on the left then leaves the operation to this class

    @property
    @abc.abstractmethod
    def head(self) -> str:
        """The operator, or the leaf, as one word; numbers as printed by Python's `repr`."""

    def __add__(self, other: "Operand") -> "Apply":
        return _apply("add", self, other)

    def __radd__(self, other: "Operand") -> "Apply":
        return _apply("add", other, self)

    def __sub__(self, other: "Operand") -> "Apply":
        return _apply("sub", self, other)

    def __rsub__(self, other: "Operand") -> "Apply":
        return _apply("sub", other, self)

    def __mul__(self, other: "Operand") -> "Apply":
        return _apply("mul", self, other)

    def __rmul__(self, other: "Operand") -> "Apply":
        return _apply("mul", other, self)

    def __truediv__(self, other: "Operand") -> "Apply":
        return _apply("div", self, other)

    def __rtruediv__(self, other: "Operand") -> "Apply":
        return _apply("div", other, self)

    def __pow__(self, other: "Operand") -> "Apply":
        if type(other) is int and other in (2, 3):
            return _apply(f"pow{other}", self)
        return _apply("pow", self, other)

    def __rpow__(self, other: "Operand") -> "Apply":
        return _apply("pow", other, self)

    def __neg__(self) -> "Apply":
        return _apply("neg", self)

    def __abs__(self) -> "Apply":
        return _apply("abs", self)


Operand = AbstractExpression | float | int | np.floating | np.integer


@dataclasses.dataclass(frozen=True)
class Apply(AbstractExpression):
    """An operator of `ARITY` applied to its arguments.

    Raises:
        ValueError: If there is no such operator, or if it takes another number of arguments.
    """

    operator: str
    arguments: tuple[AbstractExpression, ...]

    def __post_init__(self) -> None:
        if self.operator not in ARITY:
            raise ValueError(f"Expected one of the operators {', '.join(ARITY)}, got {self.operator!r}.")
        if len(self.arguments) != ARITY[self.operator]:
            raise ValueError(f"{self.operator} takes {ARITY[self.operator]} arguments, got {len(self.arguments)}.")

    @property
    def head(self) -> str:
        """The operator."""
        return self.operator


@dataclasses.dataclass(frozen=True)
class Variable(AbstractExpression):
    """A named leaf: a state `u_0`, the time `t`, a coordinate `x`, or a derivative such as `ut_0` and `uxx_0`.

    Raises:
        ValueError: If the name is not an identifier.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"Expected letters, digits and underscores as the name of a variable, got {self.name!r}.")

    @property
    def head(self) -> str:
        """The name."""
        return self.name


@dataclasses.dataclass(frozen=True)
class Real(AbstractExpression):
    """A floating-point constant. It becomes three prefix tokens."""

    value: float

    @property
    def head(self) -> str:
        """The shortest decimal number that rounds to the value."""
        return repr(self.value)


@dataclasses.dataclass(frozen=True)
class Integer(AbstractExpression):
    """An integer constant. It becomes one prefix token."""

    value: int

    @property
    def head(self) -> str:
        """The decimal digits."""
        return repr(self.value)


@dataclasses.dataclass(frozen=True)
class Placeholder(AbstractExpression):
    """A constant whose value is not known."""

    @property
    def head(self) -> str:
        """The special token for the placeholder."""
        return "<PLACEHOLDER>"


PLACEHOLDER = Placeholder()
System = tuple[AbstractExpression, ...]


def as_expression(value: Any) -> AbstractExpression:
    """Converts an int to `Integer` and a float to `Real`; an expression is returned unchanged.

    Raises:
        TypeError: If `value` is none of these.
    """
    if isinstance(value, AbstractExpression):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return Integer(int(value))
    if isinstance(value, float | np.floating):
        return Real(float(value))
    raise TypeError(f"Expected an expression or a number, got {value!r}. Convert arrays with float(...) first.")


def _apply(operator: str, *arguments: Any) -> Apply:
    return Apply(operator, tuple(as_expression(argument) for argument in arguments))


def variables(names: str) -> tuple[Variable, ...]:
    """One variable for each name in a text with spaces between names, such as `t x u_0`."""
    return tuple(Variable(name) for name in names.split())


def states(dimension: int) -> tuple[Variable, ...]:
    """The state variables `u_0`, `u_1`, ... of a system."""
    return tuple(Variable(f"u_{i}") for i in range(dimension))


def product(*factors: Operand) -> AbstractExpression:
    """The product of the factors, nested to the right as a * (b * c), as in the published ODE families.

    Raises:
        ValueError: If there is no factor.
    """
    if not factors:
        raise ValueError("Expected at least one factor, got none.")
    tree = as_expression(factors[-1])
    for factor in reversed(factors[:-1]):
        tree = _apply("mul", factor, tree)
    return tree


def inv(x: Operand) -> Apply:
    """The reciprocal 1 / x as one node."""
    return _apply("inv", x)


def sin(x: Operand) -> Apply:
    """Sine of an angle in radians."""
    return _apply("sin", x)


def cos(x: Operand) -> Apply:
    """Cosine of an angle in radians."""
    return _apply("cos", x)


def exp(x: Operand) -> Apply:
    """Exponential function."""
    return _apply("exp", x)


def log(x: Operand) -> Apply:
    """Natural logarithm."""
    return _apply("log", x)


def sqrt(x: Operand) -> Apply:
    """Square root."""
    return _apply("sqrt", x)


def tanh(x: Operand) -> Apply:
    """Hyperbolic tangent."""
    return _apply("tanh", x)


def arguments(node: AbstractExpression) -> tuple[AbstractExpression, ...]:
    """The children of a node; none for a leaf."""
    return node.arguments if isinstance(node, Apply) else ()


def walk(tree: AbstractExpression) -> Iterator[AbstractExpression]:
    """All nodes in prefix order: parents first, arguments from left to right."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(arguments(node)))


def fold(tree: AbstractExpression, function: Callable[[AbstractExpression, Sequence[Any]], Result]) -> Result:
    """Reduces a tree from the leaves to the root: calls `function(node, results of its arguments)` at each node.

    Leaves are visited from left to right. There is no recursion, so that trees may have any depth.

    Returns:
        The result at the root.
    """
    results: list[Any] = []
    stack = [(tree, False)]
    while stack:
        node, below_is_done = stack.pop()
        below = arguments(node)
        if below and not below_is_done:
            stack.append((node, True))
            stack.extend((argument, False) for argument in reversed(below))
            continue
        first = len(results) - len(below)
        results[first:] = [function(node, results[first:])]
    return results[0]


def size(tree: AbstractExpression) -> int:
    """Number of nodes."""
    return sum(1 for _ in walk(tree))


def depth(tree: AbstractExpression) -> int:
    """Number of nodes on the longest path from the root to a leaf."""
    return fold(tree, lambda node, below: 1 + max(below, default=0))
