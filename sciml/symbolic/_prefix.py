"""Converts expressions to prefix tokens (Polish notation) and back."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence

from sciml.symbolic._numbers import THREE_DIGITS, NumberCodec
from sciml.symbolic._tree import ARITY, PLACEHOLDER, AbstractExpression, Apply, Integer, Real, System, Variable, walk
from sciml.symbolic._vocabulary import SEPARATOR, SPECIAL, Vocabulary

_Leaf = Callable[[Sequence[str], int], tuple[AbstractExpression, int]]


def to_tokens(tree: AbstractExpression, codec: NumberCodec = THREE_DIGITS) -> list[str]:
    """The prefix tokens of an expression: three tokens for a `Real`, one for every other node.

    Raises:
        ValueError: If a number is too large for the codec, or not finite.
    """
    tokens = []
    for node in walk(tree):
        tokens += codec.encode(node.value) if isinstance(node, Real) else [node.head]
    return tokens


def system_to_tokens(system: Sequence[AbstractExpression], codec: NumberCodec = THREE_DIGITS) -> list[str]:
    """The prefix tokens of all components, with the token `|` between components.

    Raises:
        ValueError: As `to_tokens`.
    """
    parts = [to_tokens(tree, codec) for tree in system]
    return [token for i, part in enumerate(parts) for token in ((SEPARATOR, *part) if i else part)]


def from_tokens(tokens: Sequence[str], codec: NumberCodec = THREE_DIGITS) -> AbstractExpression:
    """The expression of prefix tokens.

    Raises:
        ValueError: As `system_from_tokens`, or if there are several components.
    """
    system = system_from_tokens(tokens, codec)
    if len(system) != 1:
        raise ValueError(f"Expected one expression, got {len(system)} components. Use system_from_tokens.")
    return system[0]


def system_from_tokens(tokens: Sequence[str], codec: NumberCodec = THREE_DIGITS) -> System:
    """The components of a system from prefix tokens with `|` between them.

    Raises:
        ValueError: If the tokens are malformed. The message names the position, and the expected and the found token.
    """
    components, position = [], 0
    while True:
        tree, position = _grow(tokens, position, ARITY, functools.partial(_leaf, codec=codec))
        components.append(tree)
        if position == len(tokens):
            return tuple(components)
        if tokens[position] != SEPARATOR:
            raise ValueError(
                f"Position {position}: the expression is complete, expected {SEPARATOR!r} or no further token, "
                f"got {tokens[position]!r:.80}. Cut the sequence there, or write the missing operator."
            )
        position += 1


def system_from_tokens_as_published(tokens: Sequence[str], vocabulary: Vocabulary) -> System | None:
    """Parses generated tokens like the published PROSE code; None if that code counts them as invalid.

    It is more lenient than `system_from_tokens`:

    - In each component, tokens after a complete expression are ignored.
    - A sign takes the next two tokens as its mantissa and exponent, whatever they are. If both consist of `E`, `N`, `+`
      or `-` and an integer, they give a number (`+ E1 N100` is 1e100), otherwise NaN.
    - Words of the vocabulary that are not operators become variables, such as `pow` in the ODE vocabulary. Such an
      expression can be parsed, but evaluating it raises ValueError.
    """
    arity = {name: ARITY[name] for name in vocabulary.operators}
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(token)
    try:
        leaf = functools.partial(_published_leaf, words=frozenset(vocabulary.words))
        return tuple(_grow(part, 0, arity, leaf)[0] for part in parts)
    except ValueError:
        return None


def _grow(
    tokens: Sequence[str], position: int, arity: Mapping[str, int], leaf: _Leaf
) -> tuple[AbstractExpression, int]:
    """The expression that begins at `position`, and the position after its last token."""
    unfinished: list[tuple[str, list[AbstractExpression]]] = []
    while True:
        if position >= len(tokens):
            after = f" as argument {len(unfinished[-1][1]) + 1} of {unfinished[-1][0]!r}" if unfinished else ""
            raise ValueError(f"Position {position}: expected an expression{after}, the tokens end. Append the rest.")
        token = tokens[position]
        if token in arity:
            unfinished.append((token, []))
            position += 1
            continue
        node, length = leaf(tokens, position)
        position += length
        while unfinished:
            operator, arguments = unfinished[-1]
            arguments.append(node)
            if len(arguments) < arity[operator]:
                break
            node = Apply(operator, tuple(arguments))
            unfinished.pop()
        else:
            return node, position


def _leaf(tokens: Sequence[str], position: int, codec: NumberCodec) -> tuple[AbstractExpression, int]:
    token = tokens[position]
    if token in ("+", "-"):
        try:
            return Real(codec.decode(tokens[position : position + 3])), 3
        except ValueError as error:
            raise ValueError(f"Position {position}: {error}") from None
    if token == PLACEHOLDER.head:
        return PLACEHOLDER, 1
    if _is_integer(token):
        return Integer(int(token)), 1
    if token.isidentifier() and not codec.owns(token):
        return Variable(token), 1
    remedy = " Strip special words first." if token in SPECIAL else ""
    raise ValueError(
        f"Position {position}: expected an operator, a variable, a number (its sign, an integer) or "
        f"{PLACEHOLDER.head}, got {token!r:.80}.{remedy}"
    )


def _published_leaf(tokens: Sequence[str], position: int, words: frozenset[str]) -> tuple[AbstractExpression, int]:
    token = tokens[position]
    if token in ("+", "-"):
        return Real(_published_number(tokens[position : position + 3])), 3
    if _is_integer(token):
        return Integer(int(token)), 1
    if token in words and token.isidentifier():
        return Variable(token), 1
    raise ValueError(f"{token!r} is not a leaf.")


def _published_number(tokens: Sequence[str]) -> float:
    if len(tokens) < 3 or any(token[:1] not in ("+", "-", "E", "N") for token in tokens):
        return float("nan")
    try:
        exponent = max(-400, min(400, int(tokens[2][1:])))  # beyond it nothing changes, and the power takes long
        return float((1 if tokens[0] == "+" else -1) * int(tokens[1][1:]) * 10**exponent)
    except (ValueError, OverflowError):
        return float("nan")


def _is_integer(token: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", token) is not None
