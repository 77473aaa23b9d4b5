"""Random expressions, the published fixtures' notation, and how far rounding can carry a value."""

import json
import re

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sciml.symbolic import ARITY, PLACEHOLDER, Apply, Integer, NumberCodec, Real, Variable, fold, walk

# Repeatable, and without a folder of found examples; the first example includes compilation.
repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=60)

# Beartype checks one item of a tuple, which it draws: hypothesis sees that where it builds expressions.
beartype_draws = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

NAMES = ("u_0", "u_1", "u_2")
SMOOTH = ("add", "sub", "mul", "neg", "pow2", "pow3", "sin", "cos", "tanh")  # without poles and branch points
rounded_reals = st.floats(-2, 2).map(NumberCodec().rounded).map(Real)
any_reals = st.floats(allow_nan=False, allow_infinity=False).map(Real)
integers = st.integers(-10, 10).map(Integer)
variables = st.sampled_from(("t", *NAMES)).map(Variable)


def trees(*leaves, operators=tuple(ARITY), most=8):
    def larger(children):
        return st.sampled_from(operators).flatmap(
            lambda name: st.tuples(*[children] * ARITY[name]).map(lambda below: Apply(name, below))
        )

    return st.recursive(st.one_of(*leaves), larger, max_leaves=most)


def systems(*leaves, operators=tuple(ARITY)):
    return st.lists(trees(*leaves, operators=operators, most=5), min_size=1, max_size=3).map(tuple)


placeholders = st.just(PLACEHOLDER)


def read_json(folder, name):
    return json.loads((folder / "prose" / name).read_text())


def from_published_prefix(text):
    """The fixtures' notation: `add,u_0,-0.16,|,u_1`."""

    def grow(words):
        word = next(words)
        if word in ARITY:
            return Apply(word, tuple([grow(words) for _ in range(ARITY[word])]))
        if re.fullmatch("-?[0-9]+", word):
            return Integer(int(word))
        return Variable(word) if word.startswith("u_") else Real(float(word))

    return tuple(grow(iter(part.split(","))) for part in text.split(",|,"))


def to_published_prefix(system):
    return ",|,".join(",".join(node.head for node in walk(tree)) for tree in system)


def numbers(rows):
    """An array of values in which NaN and infinities are written as text."""
    return np.array([[float(value) for value in row] for row in rows])


def rounding(tree, values):
    """A bound of the rounding error of an expression of `SMOOTH` operators.

    Every operator errs by its result's last digits and passes errors on by at most its slope, both of which are bounded
    by the expression with all signs positive and 1 + |x| in place of bounded functions.
    """

    def largest(node, below):
        match node.head, below:
            case (("add" | "sub"), _):
                return below[0] + below[1]
            case "mul", _:
                return below[0] * below[1]
            case "pow2", _:
                return below[0] ** 2
            case "pow3", _:
                return below[0] ** 3
            case "pow", _:  # SymPy's, with an integer
                return below[0] ** node.arguments[1].value
            case (("sin" | "cos" | "tanh"), _):
                return 1 + below[0]
            case "neg", _:
                return below[0]
        return 1 + abs(values[node.head] if isinstance(node, Variable) else node.value)

    operations = sum(1 for _ in walk(tree))
    return 4 * operations * np.finfo(np.float64).eps * fold(tree, largest)
