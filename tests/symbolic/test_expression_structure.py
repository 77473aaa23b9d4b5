"""Skeletons, canonical order, simplification, and edits of the terms of sums."""

import numpy as np
import pytest
from expression_strategies import (
    NAMES,
    SMOOTH,
    beartype_draws,
    integers,
    repeatable,
    rounded_reals,
    rounding,
    trees,
    variables,
)
from hypothesis import given
from hypothesis import strategies as st

from sciml.symbolic import (
    PLACEHOLDER,
    Apply,
    Integer,
    LeftNested,
    Real,
    RightNested,
    Sum,
    Term,
    candidate_terms,
    canonical,
    cos,
    delete_term,
    equivalent,
    evaluate,
    insert_term,
    inv,
    perturb_terms,
    product,
    simplified,
    sin,
    skeleton,
    states,
    system_to_text,
    to_text,
    whole_components,
)

pytestmark = beartype_draws

x, y, z = states(3)
P = PLACEHOLDER
points = st.lists(st.floats(-2, 2), min_size=4, max_size=4)
smooth_trees = trees(rounded_reals, integers, variables, operators=SMOOTH, most=10)


@given(smooth_trees, points)
@repeatable
def test_canonical_order_and_simplification_keep_the_value(tree, numbers):
    values = dict(zip(("t", *NAMES), numbers, strict=True))
    for changed in (canonical(tree), simplified(tree)):
        assert abs(evaluate(changed, values, np) - evaluate(tree, values, np)) <= 2 * rounding(tree, values)
    assert canonical(canonical(tree)) == canonical(tree)
    assert simplified(simplified(tree)) == simplified(tree)


@given(smooth_trees, st.randoms(use_true_random=False))
@repeatable
def test_swapped_arguments_are_equivalent(tree, random):
    def swapped(node):
        below = [swapped(child) for child in getattr(node, "arguments", ())]
        if node.head in ("add", "mul") and random.random() < 0.5:
            below.reverse()
        return Apply(node.head, tuple(below)) if below else node

    assert equivalent(tree, swapped(tree))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (x + y + z, z + (y + x), True),
        (x - y - z, x - (z + y), True),
        (-x - y, -(y + x), True),
        (x - (y - z), z + x - y, True),
        (2.0 * (x * y), x * y * 2.0, True),
        (sin(x * y) + 1.0, 1.0 + sin(y * x), True),
        (x - y, y - x, False),
        (x / y, y / x, False),
        (x * 2.0, x * 2, False),
        (x * x, x**2, False),
    ],
)
def test_equality_up_to_order_and_nesting(a, b, same):
    assert equivalent(a, b) == same


@pytest.mark.parametrize(
    ("tree", "simple"),
    [
        (Real(2.0) * 3.0 * x + (1.0 - Real(1.0)), 6.0 * x),
        (Integer(2) ** 3 - Integer(5), Integer(3)),
        (Integer(1) / Integer(4), Real(0.25)),
        (1 * (x * 1.0) / 1 + 0.0 - 0, x),
        (0 + Apply("neg", (-x,)), x),
        (Real(1.0) / 0.0, Real(1.0) / 0.0),
        (0.0 * x, 0.0 * x),
        (x - x, x - x),
        (inv(cos(Integer(0))) * y, y),
        (P * 2.0 * 1.0, P * 2.0),
    ],
)
def test_simplification(tree, simple):
    assert simplified(tree) == simple


def test_a_skeleton_has_no_numbers():
    assert skeleton((2.5 * x + 3 * y**2, Integer(1) + z)) == (P * x + P * y**2, P + z)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, "PLACEHOLDER - u_0 - u_1 + u_2"),
        (1, "-u_0 + PLACEHOLDER - u_1 + u_2"),
        (2, "-u_0 - u_1 + PLACEHOLDER + u_2"),
        (3, "-u_0 - u_1 + u_2 + PLACEHOLDER"),
    ],
)
def test_a_term_is_added_at_any_position(position, expected):
    system = (x, -x - y + z)
    assert system_to_text(insert_term(system, Sum(1), position, P)) == "u_0 | " + expected


@pytest.mark.parametrize(("position", "expected"), [(0, "-u_1 + u_2"), (1, "u_0 + u_2"), (2, "u_0 - u_1")])
def test_a_term_is_deleted_at_any_position(position, expected):
    assert system_to_text(delete_term((x - y + z,), Sum(0), position)) == expected


def test_sums_inside_of_an_expression():
    system = (x, (x + (-y + (x - z))) / (2.0 - cos(x)))
    place = Sum(1, (0,), RightNested())
    assert [to_text(term.tree) for term in place.terms(system)] == ["u_0", "-u_1", "u_0 - u_2"]
    assert insert_term(system, place, 2, P)[1].arguments[0] == x + (-y + (P + (x - z)))
    assert insert_term(system, place, 0, P)[1].arguments[0] == P + (x + (-y + (x - z)))
    assert insert_term(system, place, 3, P)[1].arguments[0] == x + (-y + ((x - z) + P))
    assert delete_term(system, place, 0) == (x, (-y + (x - z)) / (2.0 - cos(x)))
    assert delete_term(system, Sum(1, (1,)), 0) == (x, system[1].arguments[0] / -cos(x))


@pytest.mark.parametrize("nesting", [LeftNested(), RightNested()])
@given(tree=smooth_trees)
@repeatable
def test_splitting_and_joining_a_sum(nesting, tree):
    assert nesting.join(nesting.split(tree)) == tree


def test_subtracted_terms_in_sums_nested_to_the_right():
    assert RightNested().join([Term("sub", x), Term("sub", y)]) == -x + -y


def test_candidates_are_all_products_of_up_to_two_states():
    u = states(2)
    assert set(candidate_terms(2)) == {P, P * u[0], P * u[1], P * (u[0] * u[0]), P * (u[0] * u[1]), P * (u[1] * u[1])}
    assert [len(candidate_terms(d)) for d in (3, 4, 5)] == [10, 15, 21]
    assert product(P, x, z) in candidate_terms(3)


def test_all_slots_and_candidates_are_drawn():
    system = skeleton((x + y, 2.0 * z))
    rng = np.random.default_rng(1)
    drawn = {perturb_terms(system, rng, candidates=(P, P * x), adding=1.0, deleting=0.0) for _ in range(200)}
    # 200 draws miss a given one of the 10 with probability 7e-10
    places = [
        (place, i) for place, count in zip(whole_components(system), (2, 1), strict=True) for i in range(count + 1)
    ]
    assert drawn == {insert_term(system, *slot, term) for slot in places for term in (P, P * x)}
    drawn = {perturb_terms(system, rng, candidates=(), adding=0.0, deleting=1.0) for _ in range(50)}
    assert drawn == {(x, P * z), (y, P * z)}
    assert perturb_terms(system, rng, candidates=(), adding=0.0, deleting=0.0) is system


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: insert_term((x + y,), Sum(0), 3, P), "a position from 0 to 2, got 3"),
        (lambda: delete_term((x + y,), Sum(0), 2), "a position among them, got 2 terms and position 2"),
        (lambda: delete_term((x * y,), Sum(0), 0), "at least 2 terms and .* got 1 terms and position 0"),
        (lambda: Sum(1).terms((x,)), "a component below 1, got 1"),
        (lambda: Sum(0, (0, 1)).terms((sin(x) + y,)), r"The path \(0, 1\) leads to argument 1 of 'sin'"),
        (
            lambda: perturb_terms((x,), np.random.default_rng(), candidates=(P,), adding=0.7, deleting=0.4),
            "sum is at most 1, got 0.7 to add, 0.4 to delete",
        ),
    ],
)
def test_edits_that_are_not_possible(make, message):
    with pytest.raises(ValueError, match=message):
        make()
