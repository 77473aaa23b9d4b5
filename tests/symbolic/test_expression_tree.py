import doctest

import numpy as np
import pytest
from expression_strategies import any_reals, beartype_draws, repeatable, trees, variables
from hypothesis import given

from sciml import symbolic
from sciml.symbolic import Apply, Integer, Real, Variable, as_expression, depth, fold, product, size, states, walk

pytestmark = beartype_draws

x, y, z = states(3)


def heads(tree):
    return [node.head for node in walk(tree)]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (x + y + z, "add add u_0 u_1 u_2"),
        (x * (y * z), "mul u_0 mul u_1 u_2"),
        (product(2.5, x, y, z), "mul 2.5 mul u_0 mul u_1 u_2"),
        (product(x), "u_0"),
        (-0.5 * x - 3, "sub mul -0.5 u_0 3"),
        (-x / (1.0 - y), "div neg u_0 sub 1.0 u_1"),
        (2.0 / x + (4 - y) + 1.5, "add add div 2.0 u_0 sub 4 u_1 1.5"),
        (x**2 + x**3 - x**4 * x**2.0, "sub add pow2 u_0 pow3 u_0 mul pow u_0 4 pow u_0 2.0"),
        (2.0**x + abs(y), "add pow 2.0 u_0 abs u_1"),
        (5.0 + x * 2.0, "add 5.0 mul u_0 2.0"),
        (3 * symbolic.inv(symbolic.sin(x)), "mul 3 inv sin u_0"),
        (symbolic.cos(symbolic.exp(1.5)), "cos exp 1.5"),
        (symbolic.log(symbolic.sqrt(symbolic.tanh(y))), "log sqrt tanh u_1"),
    ],
)
def test_expressions_are_kept_as_written(tree, words):
    assert " ".join(heads(tree)) == words


@pytest.mark.parametrize("two", [np.float64(2), np.float32(2)])
def test_numpy_numbers_on_either_side(two):
    assert two * x - two == 2.0 * x - 2.0
    assert np.int64(2) * x == 2 * x != 2.0 * x


def test_expressions_are_values():
    assert len({x + y, Variable("u_0") + Variable("u_1"), y + x}) == 2
    with pytest.raises(AttributeError):
        (x + y).operator = "sub"
    t, derivative = symbolic.variables("t uxx_0")
    assert heads(t * derivative) == ["mul", "t", "uxx_0"]


def test_size_and_depth_of_a_tree_and_of_one_deeper_than_the_stack():
    tree = symbolic.sin(x + 2.0 * y) - z
    assert (size(tree), depth(tree), size(x), depth(x)) == (8, 5, 1, 1)
    for _ in range(5000):
        tree = -tree
    assert (size(tree), depth(tree)) == (5008, 5005)
    assert symbolic.to_tokens(tree)[:5001] == ["neg"] * 5000 + ["sub"]
    assert size(symbolic.from_tokens(symbolic.to_tokens(tree))) == 5008


@given(trees(any_reals, variables))
@repeatable
def test_fold_visits_as_recursion_does(tree):
    def recursive(node):
        return [part for child in getattr(node, "arguments", ()) for part in recursive(child)] + [node.head]

    assert fold(tree, lambda node, below: [part for parts in below for part in parts] + [node.head]) == recursive(tree)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Apply("times", (x, y)), "one of the operators add, sub, .* got 'times'"),
        (lambda: Apply("add", (x,)), "add takes 2 arguments, got 1"),
        (lambda: Variable("u 0"), "as the name of a variable, got 'u 0'"),
        (lambda: product(), "at least one factor, got none"),
    ],
)
def test_what_is_no_expression(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", ["u_0", True, 1j, np.ones(2)])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"an expression or a number, got .* Convert arrays with float"):
        as_expression(value)


def test_numbers_become_constants():
    assert as_expression(3) == Integer(3)
    assert as_expression(3.0) == Real(3.0)
    assert as_expression(x) is x


def test_the_example_of_the_documentation():
    result = doctest.testmod(symbolic, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 10
    assert result.failed == 0
