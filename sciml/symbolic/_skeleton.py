"""Skeletons without numbers, canonical order, and elementary simplification."""

import math
from collections.abc import Sequence

import numpy as np

from sciml.symbolic._evaluate import evaluate, replace_leaves
from sciml.symbolic._tree import (
    PLACEHOLDER,
    AbstractExpression,
    Apply,
    Integer,
    Real,
    System,
    fold,
    product,
    walk,
)


def skeleton(system: Sequence[AbstractExpression]) -> System:
    """The system with a placeholder for every `Real` and every `Integer`."""
    return tuple(
        replace_leaves(tree, lambda leaf: PLACEHOLDER if isinstance(leaf, Real | Integer) else leaf) for tree in system
    )


def canonical(tree: AbstractExpression) -> AbstractExpression:
    """A canonical form: equal for expressions that differ only in the order and the nesting of sums and products.

    A sum is flattened through `add`, `sub` and `neg`. Its terms are sorted by their prefix words, added terms before
    subtracted ones, and nested to the left. Factors are sorted and nested to the right. Equal terms are not collected.
    The value stays the same up to rounding.
    """
    return fold(tree, _ordered)


def equivalent(a: AbstractExpression, b: AbstractExpression) -> bool:
    """Whether two expressions are equal up to the order and the nesting of sums and products."""
    return canonical(a) == canonical(b)


def simplified(tree: AbstractExpression) -> AbstractExpression:
    """The expression with constants folded and neutral elements removed.

    Operators whose arguments are all numbers are evaluated in double precision, if the result is finite. Integers stay
    `Integer` under `add`, `sub`, `mul`, `neg`, `pow2` and `pow3`. The expressions x + 0, 0 + x, x - 0, x * 1, 1 * x,
    x / 1 and -(-x) become x. Simplifications that could change the domain of the expression are not made: 0 * x stays.
    """
    return fold(tree, _reduced)


def _words(tree: AbstractExpression) -> tuple[str, ...]:
    return tuple(node.head for node in walk(tree))


def _ordered(node: AbstractExpression, below: Sequence[AbstractExpression]) -> AbstractExpression:
    if not below:
        return node
    tree = Apply(node.head, tuple(below))
    if node.head == "mul":
        return product(*sorted(_factors(tree), key=_words))
    if node.head not in ("add", "sub", "neg"):
        return tree
    terms = _signed_terms(tree)
    added = sorted((term for term, sign in terms if sign > 0), key=_words)
    subtracted = sorted((term for term, sign in terms if sign < 0), key=_words)
    total, *added = added or [-subtracted.pop(0)]
    for term in added:
        total = total + term
    for term in subtracted:
        total = total - term
    return total


def _factors(tree: AbstractExpression) -> list[AbstractExpression]:
    factors, stack = [], [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply) and node.operator == "mul":
            stack.extend(node.arguments)
        else:
            factors.append(node)
    return factors


def _signed_terms(tree: AbstractExpression) -> list[tuple[AbstractExpression, int]]:
    terms, stack = [], [(tree, 1)]
    while stack:
        node, sign = stack.pop()
        if isinstance(node, Apply) and node.operator in ("add", "sub", "neg"):
            last = sign if node.operator == "add" else -sign
            stack.extend((argument, sign) for argument in node.arguments[:-1])
            stack.append((node.arguments[-1], last))
        else:
            terms.append((node, sign))
    return terms


def _reduced(node: AbstractExpression, below: Sequence[AbstractExpression]) -> AbstractExpression:
    if not below:
        return node
    tree = Apply(node.head, tuple(below))
    if all(isinstance(argument, Real | Integer) for argument in below):
        return _computed(tree)
    first, last = below[0], below[-1]
    if node.head in ("add", "sub") and _is_number(last, 0):
        return first
    if node.head in ("mul", "div") and _is_number(last, 1):
        return first
    if (node.head == "add" and _is_number(first, 0)) or (node.head == "mul" and _is_number(first, 1)):
        return last
    if node.head == "neg" and isinstance(first, Apply) and first.operator == "neg":
        return first.arguments[0]
    return tree


def _is_number(tree: AbstractExpression, value: int) -> bool:
    return isinstance(tree, Real | Integer) and tree.value == value


def _computed(tree: Apply) -> AbstractExpression:
    exact = tree.operator in ("add", "sub", "mul", "neg", "pow2", "pow3")
    value = float(evaluate(tree, {}, np))
    if not math.isfinite(value):
        return tree
    if exact and all(isinstance(argument, Integer) for argument in tree.arguments) and abs(value) < 2**53:
        return Integer(int(value))
    return Real(value)
