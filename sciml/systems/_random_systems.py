"""Systems of random expressions, to test what was learnt on other structures than the trained ones."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from sciml.symbolic import (
    AbstractExpression,
    Apply,
    Program,
    Real,
    System,
    Variable,
    programs,
    states,
    walk,
)
from sciml.systems._draws import uniform
from sciml.systems._families import CODEC
from sciml.systems._integrate import Accuracy
from sciml.systems._solutions import AbstractOdeSystems, Solutions

_FEW_STEPS = Solutions(candidates=40, accuracy=Accuracy(steps=2000))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomSystems(AbstractOdeSystems):
    """Systems of 1 to `dimension` random expressions, each in at least one state, with bounded solutions.

    An expression has 1 to `operators` operators, all counts equally likely. Each is unary or binary with equal
    probability, and drawn from its kind; a binary one divides the rest among its arguments, all divisions equally
    likely. A leaf is a constant with probability `constants`, of random sign, uniform in [0.1, `scale`] and rounded to
    the three digits of its tokens, otherwise one of the states. A system without enough bounded solutions is
    drawn anew, so that tame systems are more frequent than they were drawn. Nothing is simplified, so that some are
    trivial: u_0 - u_0. One program, an interpreter, solves all.

    Attributes:
        solutions: How each system is solved; by default with few steps, which rejects stiff systems.
        states: Largest number of states; all numbers are equally likely.
        operators: Largest number of operators of an expression.
        unary: Names of the operators of one argument.
        binary: Names of the operators of two arguments.
        constants: Probability that a leaf is a constant.
        scale: Largest constant.
        bound: Solutions that reach this absolute value are rejected.

    Raises:
        ValueError: If a number is out of range.
    """

    solutions: Solutions = _FEW_STEPS
    states: int = 5
    operators: int = 6
    unary: tuple[str, ...] = ("neg", "sin", "cos", "pow2")
    binary: tuple[str, ...] = ("add", "sub", "mul")
    constants: float = 0.3
    scale: float = 5.0
    bound: float = 100.0

    def __post_init__(self) -> None:
        if min(self.states, self.operators) < 1 or not 0 <= self.constants < 1 or not self.unary or not self.binary:
            raise ValueError(
                "Expected states >= 1, operators >= 1, constants from 0 to less than 1, and operators of both kinds, "
                f"got states {self.states}, operators {self.operators}, constants {self.constants}, unary {self.unary} "
                f"and binary {self.binary}."
            )

    @property
    def dimension(self) -> int:
        """Largest number of states."""
        return self.states

    def place(self, number: int) -> tuple[str, int]:
        """All systems are of one family."""
        return "random", number

    def system(self, family: str, key: tuple[int, ...]) -> System:
        """A random system."""
        numbers = _numbers(key)
        dimension = 1 + _below(self.states, numbers)
        leaves = states(dimension)
        return tuple(self._expression(leaves, numbers) for _ in range(dimension))

    def _expression(self, leaves: tuple[Variable, ...], numbers: Iterator[float]) -> AbstractExpression:
        """An expression in which at least one state occurs."""
        while True:
            tree = self._tree(1 + _below(self.operators, numbers), leaves, numbers)
            if any(isinstance(node, Variable) for node in walk(tree)):
                return tree

    def _tree(self, operators: int, leaves: tuple[Variable, ...], numbers: Iterator[float]) -> AbstractExpression:
        if operators == 0:
            if next(numbers) >= self.constants:
                return leaves[_below(len(leaves), numbers)]
            size = 0.1 + (self.scale - 0.1) * next(numbers)
            return Real(CODEC.rounded(size if next(numbers) < 0.5 else -size))
        if next(numbers) < 0.5:
            name = self.unary[_below(len(self.unary), numbers)]
            return Apply(name, (self._tree(operators - 1, leaves, numbers),))
        name = self.binary[_below(len(self.binary), numbers)]
        left = _below(operators, numbers)
        parts = (left, operators - 1 - left)
        return Apply(name, tuple(self._tree(part, leaves, numbers) for part in parts))

    def fields(self, family: str, systems: Sequence[System]) -> Program:
        """Programs of one size."""
        return programs(
            systems,
            [state.name for state in states(self.states)],
            length=self.states * (2 * self.operators + 1),
            components=self.states,
            operators=(*self.unary, *self.binary),
        )

    def width(self, family: str) -> int:
        """The largest number of states; the others stay zero."""
        return self.states

    def largest(self, family: str) -> float:
        """The bound."""
        return self.bound


def _numbers(key: tuple[int, ...]) -> Iterator[float]:
    """Endless numbers in [0, 1)."""
    block = 0
    while True:
        yield from uniform((256,), (*key, block)).tolist()
        block += 1


def _below(count: int, numbers: Iterator[float]) -> int:
    """A whole number from 0 to `count - 1`."""
    return int(np.floor(count * next(numbers)))
