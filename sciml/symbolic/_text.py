"""Converts expressions to text in Python's notation and back."""

import ast
from collections.abc import Sequence

from sciml.symbolic._tree import (
    ARITY,
    PLACEHOLDER,
    AbstractExpression,
    Apply,
    Integer,
    Placeholder,
    Real,
    System,
    Variable,
    fold,
)
from sciml.symbolic._vocabulary import SEPARATOR

_UNKNOWN = "PLACEHOLDER"
_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)  # precedence of the outermost operator, for parentheses
_INFIX = {"add": (" + ", _SUM), "sub": (" - ", _SUM), "mul": (" * ", _PRODUCT), "div": (" / ", _PRODUCT)}
_BINARY: dict[type[ast.AST], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}


def to_text(tree: AbstractExpression) -> str:
    """The expression in Python's notation, with the parentheses that `from_text` needs to restore the same tree.

    Operators without a symbol are written as functions, such as `inv(x)`. The negation of a number is `neg(2.0)`, since
    `-2.0` is a constant.
    """
    return fold(tree, _written)[0]


def system_to_text(system: Sequence[AbstractExpression]) -> str:
    """The components with ` | ` between them."""
    return f" {SEPARATOR} ".join(to_text(tree) for tree in system)


def from_text(text: str) -> AbstractExpression:
    """Parses an expression in Python's notation, without executing it.

    The text may contain `+ - * / **`, the operators of `ARITY` as functions, numbers (`3` is an `Integer`, `3.0` a
    `Real`), and names. Names become variables, except PLACEHOLDER, which becomes the placeholder. `x**2` and `x**3`
    become `pow2` and `pow3`.

    Raises:
        ValueError: If the text is not such an expression. The message names the part and its column, counted from 0.
    """
    try:
        return _read(ast.parse(text.strip(), mode="eval").body, text.strip())
    except SyntaxError as error:
        raise ValueError(f"{text!r:.200} is not an expression in Python's notation: {error.msg}.") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"The text of {len(text)} characters is nested too deeply. Split it into parts.") from error


def system_from_text(text: str) -> System:
    """Parses the components of a system, with `|` between components.

    Raises:
        ValueError: As `from_text`.
    """
    return tuple(from_text(part) for part in text.split(SEPARATOR))


def _written(node: AbstractExpression, below: Sequence[tuple[str, int]]) -> tuple[str, int]:
    if isinstance(node, Placeholder):
        return _UNKNOWN, _ATOM
    if not isinstance(node, Apply):
        return node.head, _SIGN if node.head.startswith("-") else _ATOM
    if node.operator in _INFIX:
        symbol, level = _INFIX[node.operator]
        return f"{_within(below[0], level)}{symbol}{_within(below[1], level + 1)}", level
    number = isinstance(node.arguments[0], Real | Integer)
    if node.operator == "neg" and not number:
        return f"-{_within(below[0], _SIGN)}", _SIGN
    if node.operator in ("pow2", "pow3"):
        return f"{_within(below[0], _ATOM)} ** {node.operator[3]}", _POWER
    if node.operator == "pow" and node.arguments[1] not in (Integer(2), Integer(3)):
        return f"{_within(below[0], _ATOM)} ** {_within(below[1], _SIGN)}", _POWER
    return f"{node.operator}({', '.join(text for text, _ in below)})", _ATOM


def _within(part: tuple[str, int], level: int) -> str:
    text, own = part
    return text if own >= level else f"({text})"


def _read(node: ast.expr, text: str) -> AbstractExpression:
    match node:
        case ast.Constant(value=int(value)) if type(value) is int:
            return Integer(value)
        case ast.Constant(value=float(value)):
            return Real(value)
        case ast.Name(id=name) if name == _UNKNOWN:
            return PLACEHOLDER
        case ast.Name(id=name) if name not in ARITY:
            return Variable(name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))) if type(value) is int:
            return Integer(-value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float(value))):
            return Real(-value)
        case ast.UnaryOp(op=ast.USub()):
            return -_read(node.operand, text)
        case ast.BinOp(op=ast.Pow()):
            base, exponent = _read(node.left, text), _read(node.right, text)
            return base**exponent.value if isinstance(exponent, Integer) else base**exponent
        case ast.BinOp() if type(node.op) in _BINARY:
            return Apply(_BINARY[type(node.op)], (_read(node.left, text), _read(node.right, text)))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in ARITY:
            return Apply(name, tuple(_read(argument, text) for argument in node.args))
    part = ast.get_source_segment(text, node) or text
    raise ValueError(
        f"Column {node.col_offset}: expected numbers, variables, + - * / ** and the functions {', '.join(ARITY)}, "
        f"got {part!r:.200}."
    )
