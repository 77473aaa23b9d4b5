"""Expressions in LaTeX."""

import math
import re
from collections.abc import Sequence

from sciml.symbolic._tree import AbstractExpression, Apply, Integer, Real, Variable, fold

_SUM, _PRODUCT, _ATOM = range(3)  # precedence of the outermost operator, for parentheses


def to_latex(tree: AbstractExpression) -> str:
    r"""The expression in LaTeX math, without dollar signs.

    Numbers have six significant digits. `u_0` becomes u_{0}, a derivative `uxx_0` becomes \partial_{xx} u_{0}, and the
    placeholder becomes a box. `a + -b` is written as `a - b`.
    """
    return fold(tree, _written)[0]


def _written(node: AbstractExpression, below: Sequence[tuple[str, int]]) -> tuple[str, int]:
    if isinstance(node, Real | Integer):
        return _number(node.value)
    if isinstance(node, Variable):
        return _name(node.name), _ATOM
    if not isinstance(node, Apply):
        return r"\square", _ATOM
    texts = [text for text, _ in below]
    match node.operator:
        case "add" if texts[1].startswith("-"):
            return f"{texts[0]} - {texts[1][1:]}", _SUM
        case "add":
            return f"{texts[0]} + {texts[1]}", _SUM
        case "sub":
            return f"{texts[0]} - {_after_minus(below[1])}", _SUM
        case "neg":
            return f"-{_after_minus(below[0])}", _SUM
        case "mul":
            return _times(below[0], below[1]), _PRODUCT
        case "div":
            return rf"\frac{{{texts[0]}}}{{{texts[1]}}}", _ATOM
        case "inv":
            return rf"\frac{{1}}{{{texts[0]}}}", _ATOM
        case "pow2" | "pow3":
            return f"{_base(node.arguments[0], below[0])}^{{{node.operator[3]}}}", _PRODUCT
        case "pow":
            return f"{_base(node.arguments[0], below[0])}^{{{texts[1]}}}", _PRODUCT
        case "sqrt":
            return rf"\sqrt{{{texts[0]}}}", _ATOM
        case "abs":
            return rf"\left|{texts[0]}\right|", _ATOM
    return rf"\{node.operator}\left({texts[0]}\right)", _ATOM


def _parenthesised(text: str) -> str:
    return rf"\left({text}\right)"


def _after_minus(part: tuple[str, int]) -> str:
    text, level = part
    return _parenthesised(text) if level == _SUM or text.startswith("-") else text


def _times(left: tuple[str, int], right: tuple[str, int]) -> str:
    first = _parenthesised(left[0]) if left[1] == _SUM else left[0]
    second = _after_minus(right)
    return rf"{first} \cdot {second}" if second[0].isdigit() else rf"{first} \, {second}"


def _base(node: AbstractExpression, part: tuple[str, int]) -> str:
    plain = isinstance(node, Variable) and part[0].find("partial") < 0
    number = isinstance(node, Real | Integer) and re.fullmatch(r"[0-9.]+", part[0]) is not None
    return part[0] if plain or number else _parenthesised(part[0])


def _number(value: float | int) -> tuple[str, int]:
    if not math.isfinite(value):
        return (r"\mathrm{nan}" if math.isnan(value) else r"\infty" if value > 0 else r"-\infty"), _ATOM
    mantissa, _, exponent = f"{value:.6g}".partition("e")
    return (rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa), _ATOM


def _name(name: str) -> str:
    derivative = re.fullmatch(r"([a-zA-Z])([txyz]*)_([0-9]+)", name)
    if derivative:
        letter, by, index = derivative.groups()
        return (rf"\partial_{{{by}}} " if by else "") + f"{letter}_{{{index}}}"
    return name if len(name) == 1 else rf"\mathrm{{{name}}}".replace("_", r"\_")
