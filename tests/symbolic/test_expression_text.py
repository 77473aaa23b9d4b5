import sys

import numpy as np
import pytest
from expression_strategies import (
    NAMES,
    SMOOTH,
    any_reals,
    beartype_draws,
    integers,
    placeholders,
    repeatable,
    rounded_reals,
    rounding,
    systems,
    trees,
    variables,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.symbolic import (
    PLACEHOLDER,
    Apply,
    Integer,
    Real,
    Variable,
    cos,
    evaluate,
    exp,
    from_sympy,
    from_text,
    inv,
    log,
    product,
    sin,
    size,
    sqrt,
    states,
    system_from_text,
    system_to_text,
    tanh,
    to_latex,
    to_sympy,
    to_text,
)

pytestmark = beartype_draws

x, y, z = states(3)


@given(trees(any_reals, integers, placeholders, variables, most=12))
@repeatable
def test_text_makes_the_same_tree_again(tree):
    assert from_text(to_text(tree)) == tree


@given(systems(any_reals, variables))
@repeatable
def test_systems_go_through_text(system):
    assert system_from_text(system_to_text(system)) == system


@given(trees(rounded_reals, variables, operators=SMOOTH, most=12), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
@repeatable
def test_text_means_in_python_what_the_tree_means(tree, numbers):
    values = dict(zip(("t", *NAMES), map(np.float64, numbers), strict=True))
    functions = {"sin": np.sin, "cos": np.cos, "tanh": np.tanh, "neg": np.negative}
    value = eval(to_text(tree), {"__builtins__": {}}, functions | values)
    assert abs(evaluate(tree, values, np) - value) <= rounding(tree, values)


neg_x = -x
# (tree, text, LaTeX)
WRITTEN = [
    (10.0 * y + -10.0 * x, "10.0 * u_1 + -10.0 * u_0", r"10 \, u_{1} - 10 \, u_{0}"),
    (x - (y - z), "u_0 - (u_1 - u_2)", r"u_{0} - \left(u_{1} - u_{2}\right)"),
    (x * y / 3.0, "u_0 * u_1 / 3.0", r"\frac{u_{0} \, u_{1}}{3}"),
    (x * (y * z), "u_0 * (u_1 * u_2)", r"u_{0} \, u_{1} \, u_{2}"),
    (-(x**2), "-u_0 ** 2", r"-u_{0}^{2}"),
    ((-x) ** 3, "(-u_0) ** 3", r"\left(-u_{0}\right)^{3}"),
    (2.0 * (3.0 * x), "2.0 * (3.0 * u_0)", r"2 \cdot 3 \, u_{0}"),
    (x * -y, "u_0 * -u_1", r"u_{0} \, \left(-u_{1}\right)"),
    ((x + y) * z, "(u_0 + u_1) * u_2", r"\left(u_{0} + u_{1}\right) \, u_{2}"),
    (-Real(2.0), "neg(2.0)", r"-2"),
    (-neg_x, "--u_0", r"-\left(-u_{0}\right)"),
    (Apply("pow", (x, Integer(2))), "pow(u_0, 2)", r"u_{0}^{2}"),
    (x ** (y**-1), "u_0 ** u_1 ** -1", r"u_{0}^{u_{1}^{-1}}"),
    (inv(sqrt(abs(x))), "inv(sqrt(abs(u_0)))", r"\frac{1}{\sqrt{\left|u_{0}\right|}}"),
    (tanh(PLACEHOLDER * x), "tanh(PLACEHOLDER * u_0)", r"\tanh\left(\square \, u_{0}\right)"),
    (1.2345678e-05 * exp(Variable("t")), "1.2345678e-05 * exp(t)", r"1.23457 \times 10^{-5} \, \exp\left(t\right)"),
    (
        Variable("utt_0") - Variable("uxx_0") ** 2 + Variable("mu"),
        "utt_0 - uxx_0 ** 2 + mu",
        r"\partial_{tt} u_{0} - \left(\partial_{xx} u_{0}\right)^{2} + \mathrm{mu}",
    ),
    (Real(float("inf")) - Real(float("nan")), "inf - nan", r"\infty - \mathrm{nan}"),
]


@pytest.mark.parametrize(("tree", "text", "latex"), WRITTEN)
def test_text_and_latex(tree, text, latex):
    assert to_text(tree) == text
    assert to_latex(tree) == latex


def test_what_text_may_contain():
    assert from_text(" 3*x0 -(-2.5) ") == 3 * Variable("x0") - Real(-2.5)
    assert from_text("u_0**2 + u_0**3 - u_0**4 / u_0**2.0") == x**2 + x**3 - x**4 / x**2.0
    assert from_text("-2.0**2") == -(Real(2.0) ** 2)
    assert from_text("pow2(abs(neg(2)))") == abs(-Integer(2)) ** 2
    assert system_from_text("u_1 | -4 | PLACEHOLDER") == (y, Integer(-4), PLACEHOLDER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u_0 +", "'u_0 \\+' is not an expression in Python's notation: "),
        ("", "'' is not an expression"),
        ("u_0 + __import__('os').system('true')", r"Column 6: expected numbers, .* got \"__import__"),
        ("2.0 * u_0.real", "Column 6: .* got 'u_0.real'"),
        ("u_0[0]", "Column 0: .* got 'u_0"),
        ("max(u_0, 2)", "Column 0: .* got 'max"),
        ("sin(x=u_0)", "Column 0: .* got 'sin"),
        ("sin", "Column 0: .* got 'sin'"),
        ("sin(u_0, u_1)", "sin takes 1 arguments, got 2"),
        ("u_0 if u_1 else 2", "Column 0: "),
        ("u_0 // 2", "Column 0: .* got 'u_0 // 2'"),
        ("True * 2j", "Column 0: .* got 'True'"),
        ("1 + 2j", "Column 4: .* got '2j'"),
        ("+u_0", "Column 0: "),
        ("'a' + u_0", "Column 0: "),
    ],
)
def test_text_that_is_no_expression(text, message):
    with pytest.raises(ValueError, match=message):
        from_text(text)


@pytest.mark.parametrize("text", ["-" * 100_000 + "u_0", "u_0" + " + u_0" * 100_000])
def test_text_that_is_nested_too_deeply(text):
    with pytest.raises(ValueError, match=r"characters is nested too deeply|not an expression"):
        from_text(text)


@given(trees(rounded_reals, integers, variables, operators=SMOOTH), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
@settings(repeatable, max_examples=25)  # SymPy takes a tenth of a second for each
def test_sympy_keeps_values(tree, numbers):
    values = dict(zip(("t", *NAMES), numbers, strict=True))
    back = from_sympy(to_sympy(tree))
    # SymPy reorders sums and products, and computes with constants at 15 digits
    bound = 10 * (rounding(tree, values) + rounding(back, values))
    assert abs(evaluate(back, values, np) - evaluate(tree, values, np)) <= bound


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x - 2.5*y", Variable("x") - 2.5 * Variable("y")),
        ("-x*y", -(Variable("x") * Variable("y"))),
        ("3*x**2/y**3", 3 * Variable("x") ** 2 / Variable("y") ** 3),
        ("1/(x*y)", inv(Variable("x") * Variable("y"))),
        ("1/sqrt(x)", inv(sqrt(Variable("x")))),
        ("x**(3/2)", Variable("x") ** 1.5),
        ("x**(-y)", Variable("x") ** -Variable("y")),
        ("x/4 + pi", None),
        ("exp(-x) + log(y)*sin(x)*cos(y) + tanh(Abs(x))", None),
    ],
)
def test_forms_that_come_from_sympy(text, tree):
    sympy = pytest.importorskip("sympy")
    expression = sympy.sympify(text)
    found = from_sympy(expression)
    assert tree is None or found == tree
    values = {"x": 0.7, "y": 1.3}
    assert evaluate(found, values, np) == pytest.approx(float(expression.subs(values)), rel=1e-14)
    assert float(to_sympy(found).subs({s: values[s.name] for s in to_sympy(found).free_symbols})) == pytest.approx(
        float(expression.subs(values)), rel=1e-13
    )


def test_every_operator_has_a_sympy_form():
    tree = inv(x) / sqrt(y) - abs(z) ** 2 + tanh(x) ** 3 * exp(y) ** -z + log(y) + sin(-x) * cos(y) + x**y
    values = {"u_0": 0.3, "u_1": 1.7, "u_2": -0.8}
    assert evaluate(from_sympy(to_sympy(tree)), values, np) == pytest.approx(evaluate(tree, values, np), rel=1e-14)


def test_sympy_collects_and_differentiates():
    tree = product(2.0, x, y) + 3.0 * (x * y)
    assert size(from_sympy(to_sympy(tree))) == 5
    assert from_sympy(to_sympy(sin(x)).diff(to_sympy(x))) == cos(x)
    assert from_sympy(to_sympy(log(exp(x)))) == x  # symbols are real


def test_what_sympy_cannot_take_or_give(monkeypatch):
    sympy = pytest.importorskip("sympy")
    with pytest.raises(ValueError, match=r"no unknown numbers\. Fill the placeholders"):
        to_sympy(PLACEHOLDER * x)
    for expression in (sympy.gamma(sympy.Symbol("x")), sympy.oo, sympy.I * 2, sympy.nan):
        with pytest.raises(ValueError, match=r"finite numbers, got .* Rewrite that part in SymPy first"):
            from_sympy(expression)
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sciml-jax\[symbolic\]'"):
        to_sympy(x)
