"""Trees, vector fields and programs compute the same, and what the formula says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from expression_strategies import NAMES, SMOOTH, beartype_draws, repeatable, rounded_reals, rounding, trees, variables
from hypothesis import given
from hypothesis import strategies as st

from sciml import structure
from sciml.symbolic import (
    ARITY,
    PLACEHOLDER,
    Apply,
    Variable,
    VectorField,
    as_expression,
    cos,
    evaluate,
    evaluate_system,
    exp,
    inv,
    log,
    parameters,
    programs,
    sin,
    skeleton,
    sqrt,
    states,
    with_parameters,
)

pytestmark = beartype_draws

x, y, z = states(3)
t = Variable("t")
LORENZ = (10.0 * y + -10.0 * x, 28.0 * x - x * z - y, x * y + -2.5 * z)
ROSSLER = (-y - z, x + 0.25 * y, 0.5 + x * z + -14.0 * z)
FORCED = (y, 8.0 * cos(0.5 * t) - x**3)
FORMULAS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "inv": lambda a: 1 / a,
    "pow2": lambda a: a**2,
    "pow3": lambda a: a**3,
    "sin": np.sin,
    "cos": np.cos,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "abs": np.abs,
}
SPECIAL = np.array([-1.5, -0.0, 0.5, 2.0, 800.0])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def lorenz(u, c):
    x, y, z = u
    return jnp.stack([c[0] * y + c[1] * x, c[2] * x - x * z - y, x * y + c[3] * z])


def test_every_operator_in_numpy_in_jax_and_in_a_program():
    assert set(FORMULAS) == set(ARITY)
    systems = [(Apply(name, (x, y)[: ARITY[name]]),) for name in ARITY]
    pairs = np.stack(np.meshgrid(SPECIAL, SPECIAL), -1).reshape(-1, 2)
    stack = programs(systems, ("u_0", "u_1"))
    together = jax.jit(jax.vmap(jax.vmap(lambda f, u: f(0.0, u), (None, 0)), (0, None)))(stack, pairs)
    for name, (tree,), results in zip(ARITY, systems, together, strict=True):
        with np.errstate(all="ignore"):
            expected = FORMULAS[name](*pairs.T[: ARITY[name]])
        values = {"u_0": pairs[:, 0], "u_1": pairs[:, 1]}
        np.testing.assert_allclose(evaluate(tree, values, np), expected, rtol=4e-16, err_msg=name)
        # XLA's own functions err by a few last digits
        np.testing.assert_allclose(evaluate(tree, jax.tree.map(jnp.asarray, values)), expected, rtol=2e-15)
        np.testing.assert_allclose(results[:, 0], expected, rtol=2e-15, err_msg=name)


interpreted = jax.jit(lambda program, t, u: jax.vmap(program, (None, 0))(t, u))


@given(
    st.lists(trees(rounded_reals, variables, operators=SMOOTH), min_size=1, max_size=2),
    st.lists(st.floats(-2, 2), min_size=7, max_size=7),
)
@repeatable
def test_programs_equal_trees(system, numbers):
    u = np.array(numbers[1:]).reshape(2, 3)
    stack = programs([system], NAMES, length=60, components=3, operators=SMOOTH)
    found = interpreted(jax.tree.map(lambda array: array[0], stack), numbers[0], u)
    for row, point in zip(found, u, strict=True):
        values = {"t": numbers[0]} | dict(zip(NAMES, point, strict=True))
        for value, tree in zip(row, system, strict=False):
            assert abs(value - evaluate(tree, values, np)) <= rounding(tree, values)
        assert not row[len(system) :].any()


def test_a_batch_of_systems_in_one_program_and_its_derivatives(getkey):
    stack = programs([LORENZ, ROSSLER, FORCED], NAMES)
    u = jax.random.normal(getkey(), (3, 3))
    time = 0.75
    fields = [VectorField(LORENZ), VectorField(ROSSLER), VectorField(FORCED, ("u_0", "u_1", "u_2"))]
    both = lambda f, v: (f(time, v), jax.jacfwd(f, 1)(time, v), jax.jacrev(f, 1)(time, v))
    found = jax.jit(jax.vmap(both))(stack, u)
    for i, field in enumerate(fields):
        value, forward, backward = (np.asarray(part[i])[: len(field.structure)] for part in found)
        np.testing.assert_allclose(value, field(time, u[i]), rtol=1e-13)
        exact = jax.jacfwd(field, 1)(time, u[i])
        np.testing.assert_allclose(forward, exact, atol=1e-13)
        np.testing.assert_allclose(backward, exact, atol=1e-13)


def test_derivatives_of_a_program_see_the_chosen_operator_alone():
    """At zero the slopes of log, sqrt and inv are infinite, and 0 times infinity would be NaN."""
    trees = [sin(x), sqrt(x + 4.0), exp(x) / (1.0 - x), log(1.0 + x), inv(x - 2.0), (x - 1.0) ** 3, (x - 1.0) ** 2.0]
    slopes = lambda f, u: (jax.jacrev(f, 1)(0.0, u)[0, 0], jax.jacfwd(f, 1)(0.0, u)[0, 0])
    found = jax.jit(jax.vmap(slopes))(programs([(tree,) for tree in trees], ("u_0",)), jnp.zeros((7, 1)))
    for mode in found:
        np.testing.assert_allclose(mode, [1.0, 0.25, 2.0, 1.0, -0.25, 3.0, -2.0], rtol=1e-15)


def test_a_field_is_the_formula_and_differentiable_in_state_and_constants(getkey):
    field = VectorField(LORENZ)
    u = jax.random.normal(getkey(), (5, 3))
    c = jnp.array([10.0, -10.0, 28.0, -2.5])
    np.testing.assert_array_equal(field.constants, c)
    loss = lambda field, u: jnp.sum(jnp.sin(jax.vmap(field, (None, 0))(0.0, u)))
    exact = lambda c, u: jnp.sum(jnp.sin(jax.vmap(lorenz, (0, None))(u, c)))
    in_constants, in_state = eqx.filter_jit(jax.grad(loss, (0, 1)))(field, u)
    np.testing.assert_allclose(in_constants.constants, jax.grad(exact)(c, u), rtol=1e-12)
    np.testing.assert_allclose(in_state, jax.grad(exact, 1)(c, u), rtol=1e-12)


def test_constants_are_no_structure():
    other = tuple(with_parameters(LORENZ, [9.0, 1.0, 2.0, 3.0]))
    fields = VectorField(LORENZ), VectorField(other)
    assert jax.tree.structure(fields[0]) == jax.tree.structure(fields[1])
    assert with_parameters(fields[0].structure, fields[1].constants) == other
    np.testing.assert_array_equal(parameters(other), [9.0, 1.0, 2.0, 3.0])
    assert with_parameters(skeleton(LORENZ), parameters(LORENZ)) == LORENZ
    assert parameters((2 * x,)).shape == (0,)


def test_time_names_and_data_type():
    forced = VectorField((8.0 * cos(0.5 * t) - Variable("v"), as_expression(1.0)), ("q", "v"))
    for dtype in (jnp.float32, jnp.float64):
        rate = forced(np.pi, jnp.array([3.0, 2.0], dtype))
        assert rate.dtype == dtype
        np.testing.assert_allclose(rate, [-2.0, 1.0], atol=1e-6)
    constant = evaluate_system((2.0 * x, as_expression(1.0)), {"u_0": np.arange(3, dtype=np.float32)}, np)
    assert constant.dtype == np.float32
    np.testing.assert_array_equal(constant, [[0, 2, 4], [1, 1, 1]])


def test_numbers_beyond_single_precision_become_infinite():
    huge = (1e100 * x,)
    with jax.enable_x64(False):
        u = jnp.ones(1)
        stack = programs([huge], ("u_0",))
        found = [
            VectorField(huge)(0.0, u)[0],
            jax.vmap(lambda f: f(0.0, u))(stack)[0, 0],
            evaluate(*huge, {"u_0": u[0]}),
        ]
    np.testing.assert_array_equal(found, np.inf)


def test_powers_of_negative_numbers_have_derivatives():
    for exponent, slope in ((2, -3.0), (-1, -4 / 9), (4, -13.5)):
        field = VectorField((Apply("pow", (x, as_expression(float(exponent)))),))
        in_constants, in_state = jax.grad(lambda f, u: f(0.0, u)[0], (0, 1))(field, jnp.array([-1.5]))
        assert in_state[0] == pytest.approx(slope, rel=1e-14)
        assert in_constants.constants == 0  # the slope in the exponent does not exist there
        plain = jax.grad(lambda a, n=exponent: evaluate(Apply("pow", (x, as_expression(n))), {"u_0": a}))(-1.5)
        assert plain == pytest.approx(slope, rel=1e-14)


def test_a_field_can_be_described_by_the_engine():
    rebuilt = structure.rebuild(structure.describe(VectorField(LORENZ)))
    assert jax.tree.structure(rebuilt) == jax.tree.structure(VectorField(LORENZ))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evaluate(x + z, {"u_0": 1.0, "u_1": 2.0}, np), "got those of u_0, u_1: 'u_2' has none"),
        (lambda: evaluate(x + PLACEHOLDER, {"u_0": 1.0}, np), "placeholders without a value. Fill them"),
        (lambda: VectorField((x + PLACEHOLDER,)), "Expected a system without placeholders. Fill them"),
        (lambda: VectorField(LORENZ)(0.0, jnp.zeros(4)), "Expected a state .* got the shape .4,"),
        (lambda: with_parameters(LORENZ, [1.0]), "one value for each of 4 constants and placeholders, got 1"),
        (lambda: programs([(x + PLACEHOLDER,)], NAMES), "Expected numbers and add, t, u_0, .* got '<PLACEHOLDER>'"),
        (lambda: programs([(x + y,)], ("u_0",)), "Expected numbers and add, t, u_0 in a program, got 'u_1'"),
        (lambda: programs([(x + y,)], NAMES, operators=("sub",)), "Expected numbers and sub, .* got 'add'"),
        (lambda: programs([(x + y,)], NAMES, length=2), "at most 2 nodes and 1 components, got 3 and 1. Give"),
        (lambda: programs([(x, y)], NAMES, components=1), "at most 2 nodes and 1 components, got 2 and 2"),
    ],
)
def test_what_cannot_be_evaluated(make, message):
    with pytest.raises(ValueError, match=message):
        make()
