"""Converts expressions to and from SymPy, which is imported on first use."""

import importlib
import operator
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from sciml.symbolic._evaluate import OPERATIONS
from sciml.symbolic._tree import (
    AbstractExpression,
    Apply,
    Integer,
    Placeholder,
    Real,
    Variable,
    fold,
    inv,
    product,
    sqrt,
)


def _sympy() -> Any:
    try:
        return importlib.import_module("sympy")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Converting from and to SymPy needs SymPy, which is not installed: pip install 'sciml-jax[symbolic]'."
        ) from error


def _namespace(sympy: Any) -> SimpleNamespace:
    """SymPy's functions under their NumPy names, for `OPERATIONS`."""
    return SimpleNamespace(
        add=operator.add,
        subtract=operator.sub,
        multiply=operator.mul,
        divide=operator.truediv,
        power=operator.pow,
        negative=operator.neg,
        square=lambda a: a**2,
        **{name: getattr(sympy, name) for name in ("sin", "cos", "exp", "log", "sqrt", "tanh")},
        abs=sympy.Abs,
    )


def to_sympy(tree: AbstractExpression) -> Any:
    """Converts to SymPy, which reorders and simplifies the expression. Variables become real symbols.

    Raises:
        ValueError: If the expression has placeholders; SymPy would treat them as equal and cancel them.
        ModuleNotFoundError: If SymPy is not installed.
    """
    sympy = _sympy()
    namespace = _namespace(sympy)

    def converted(node: AbstractExpression, below: Sequence[Any]) -> Any:
        if isinstance(node, Apply):
            return OPERATIONS[node.operator](namespace, *below)
        if isinstance(node, Placeholder):
            raise ValueError("SymPy has no unknown numbers. Fill the placeholders with with_parameters first.")
        if isinstance(node, Real):
            return sympy.Float(node.value)
        return sympy.Integer(node.value) if isinstance(node, Integer) else sympy.Symbol(node.head, real=True)

    return fold(tree, converted)


def from_sympy(expression: Any) -> AbstractExpression:
    """Converts from SymPy, with numbers in double precision.

    - Sums are nested to the left in SymPy's printing order; terms with a negative coefficient are subtracted.
    - Products are nested to the right, with the coefficient first.
    - Negative powers become `inv` or `div`.
    - Rational numbers and constants such as pi become `Real`.

    Raises:
        ValueError: If a part has no counterpart in `sciml.symbolic`. The message names the part.
        ModuleNotFoundError: If SymPy is not installed.
    """
    return _converted(expression, _sympy())


def _converted(expression: Any, sympy: Any) -> AbstractExpression:
    if expression.is_Symbol:
        return Variable(expression.name)
    if expression.is_Integer:
        return Integer(int(expression))
    if (expression.is_Float or expression.is_Rational or expression.is_NumberSymbol) and expression.is_finite:
        return Real(float(expression))
    if expression.is_Add:
        return _sum(expression, sympy)
    if expression.is_Mul:
        return _product(expression, sympy)
    if expression.is_Pow:
        return _power(expression.base, expression.exp, sympy)
    names = {sympy.sin: "sin", sympy.cos: "cos", sympy.exp: "exp", sympy.log: "log"}
    names |= {sympy.tanh: "tanh", sympy.Abs: "abs"}
    if expression.func in names and len(expression.args) == 1:
        return Apply(names[expression.func], (_converted(expression.args[0], sympy),))
    raise ValueError(
        f"Expected sums, products, powers, {', '.join(names.values())}, symbols and finite numbers, got {expression}. "
        "Rewrite that part in SymPy first."
    )


def _sum(expression: Any, sympy: Any) -> AbstractExpression:
    first, *rest = expression.as_ordered_terms()
    total = _converted(first, sympy)
    for term in rest:
        if term.as_coeff_Mul()[0].is_negative:
            total = total - _converted(-term, sympy)
        else:
            total = total + _converted(term, sympy)
    return total


def _product(expression: Any, sympy: Any) -> AbstractExpression:
    coefficient, rest = expression.as_coeff_Mul()
    above, below = [], []
    for factor in sympy.Mul.make_args(rest):
        if factor.is_Pow and factor.exp.is_number and factor.exp.is_negative:
            below.append(_power(factor.base, -factor.exp, sympy))
        else:
            above.append(_converted(factor, sympy))
    if coefficient == -1 and above:
        return -_quotient(above, below)
    if coefficient != 1:
        above.insert(0, _converted(coefficient, sympy))
    return _quotient(above, below)


def _quotient(above: Sequence[AbstractExpression], below: Sequence[AbstractExpression]) -> AbstractExpression:
    if not below:
        return product(*above)
    return product(*above) / product(*below) if above else inv(product(*below))


def _power(base: Any, exponent: Any, sympy: Any) -> AbstractExpression:
    converted = _converted(base, sympy)
    if exponent == 1:
        return converted
    if exponent.is_number and exponent.is_negative:
        return inv(_power(base, -exponent, sympy))
    if exponent == sympy.Rational(1, 2):
        return sqrt(converted)
    return converted ** (int(exponent) if exponent.is_Integer else _converted(exponent, sympy))
