"""Errors of fields and of residuals, against loops and exact derivatives."""

import math

import numpy as np
import pytest

from sciml import prose, symbolic, systems

SAMPLES, TIMES, POINTS = 5, 3, 4
U, UX, UT = symbolic.variables("u_0 ux_0 ut_0")


def fields(seed):
    return np.random.default_rng(seed).normal(size=(SAMPLES, TIMES, 1, POINTS)).astype(np.float32)


def test_relative_errors_of_fields():
    one, truth = fields(0), fields(1)
    truth[2] = 0
    found = prose.relative_l2_of_fields(one, truth)
    for i in range(SAMPLES):
        expected = np.linalg.norm(one[i] - truth[i]) / (np.linalg.norm(truth[i]) + 1e-7)
        np.testing.assert_allclose(found[i], expected, rtol=1e-6)


def test_the_coefficient_of_determination():
    one, truth = fields(0).reshape(SAMPLES, -1), fields(1).reshape(SAMPLES, -1)
    truth[:, 0] = one[:, 0] = 2.0  # known exactly
    truth[:, 1] = 3.0  # the same in all samples, and missed
    scores = []
    for prediction, exact in zip(one.T.astype(float), truth.T.astype(float), strict=True):
        spread = sum((value - exact.mean()) ** 2 for value in exact)
        error = sum((a - b) ** 2 for a, b in zip(prediction, exact, strict=True))
        scores.append(1 - error / spread if spread else float(error == 0))
    assert scores[:2] == [1, 0]
    shape = (SAMPLES, TIMES, 1, POINTS)
    found = prose.coefficient_of_determination(one.reshape(shape), truth.reshape(shape))
    assert found == pytest.approx(np.mean(scores), rel=1e-12)
    mean = np.broadcast_to(truth.mean(axis=0, keepdims=True), truth.shape)
    assert prose.coefficient_of_determination(mean, truth) == pytest.approx(1 / 6, abs=1e-6)  # 2 constants of 12
    with pytest.raises(ValueError, match="expected at least 2, got 1"):
        prose.coefficient_of_determination(one[:1], truth[:1])


TIMES_OF_FIELD, POINTS_OF_FIELD = np.arange(7) / 3.5, (np.arange(9) + 0.5) / 4.5
VALUES = prose.trial_field(TIMES_OF_FIELD, POINTS_OF_FIELD, seed=3)


def test_a_trial_field_is_a_polynomial_with_its_derivatives():
    exact, variables = VALUES, ("t", "x")
    assert set(exact) == {"t", "x", "u_0", "ut_0", "utt_0", "ux_0", "uxx_0", "uxxx_0", "uxxxx_0"}
    assert all(values.shape == (7, 9) for values in exact.values())
    t, x = (exact[name].reshape(-1) for name in variables)
    powers = [(i, j) for i in range(3) for j in range(5)]
    terms = np.stack([t**i * x**j for i, j in powers], axis=1)
    coefficients, rest, rank, _ = np.linalg.lstsq(terms, exact["u_0"].reshape(-1))
    assert rank == 15
    assert rest < 1e-18 * np.sum(exact["u_0"] ** 2)  # it is in their span
    table = coefficients.reshape(3, 5)
    assert np.linalg.matrix_rank(table, tol=1e-8 * np.abs(table).max()) == 1  # a product
    assert np.abs(table).max() <= 25
    slope = lambda order_t, order_x: np.sum(
        [
            c * math.perm(i, order_t) * t ** max(i - order_t, 0) * math.perm(j, order_x) * x ** max(j - order_x, 0)
            for c, (i, j) in zip(coefficients, powers, strict=True)
        ],
        axis=0,
    )
    for name, order_t, order_x in (("ut_0", 1, 0), ("utt_0", 2, 0), ("ux_0", 0, 1), ("uxx_0", 0, 2), ("uxxx_0", 0, 3)):
        expected = slope(order_t, order_x)
        np.testing.assert_allclose(exact[name].reshape(-1), expected, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(exact["uxxxx_0"].reshape(-1), slope(0, 4), atol=1e-9 * np.abs(exact["uxxxx_0"]).max())
    assert not np.array_equal(prose.trial_field(TIMES_OF_FIELD, POINTS_OF_FIELD, seed=4)["u_0"], exact["u_0"])


def test_errors_of_residuals():
    true = (1.0 * UT + 0.5 * UX,)
    wrong = (1.0 * UT + 0.6 * UX,)
    far = (1.0 * UT + 1e4 * UX,)
    infinite = (true[0] + 1.0 / (U - U),)
    foreign = (true[0] + symbolic.Variable("v_0"),)
    unknown = (true[0] + symbolic.PLACEHOLDER,)
    constant = (symbolic.Real(0.0),)
    written = [true, wrong, constant, None, far, infinite, foreign, unknown, (*true, *true)]
    found = prose.residual_errors(written, [true] * len(written), VALUES)
    scale = np.linalg.norm(VALUES["ut_0"] + 0.5 * VALUES["ux_0"])
    expected = [0, 0.1 * np.linalg.norm(VALUES["ux_0"]) / scale, 1]
    np.testing.assert_allclose(found.errors, expected + [np.nan] * 6, rtol=1e-9)
    assert found.valid.tolist() == [True] * 3 + [False] * 6
    assert prose.residual_errors([far], [true], VALUES, largest=1e6).valid.all()
    metrics = prose.equation_metrics(written, [true] * len(written), found)
    assert metrics["valid"] == pytest.approx(3 / 9)
    assert metrics["structure"] == pytest.approx(3 / 9)  # true, wrong, far
    assert metrics["expression_error"] == pytest.approx(np.mean(expected), rel=1e-9)
    for first, second in ((written, [true]), ([], [])):
        with pytest.raises(ValueError, match="as many written equations as true ones"):
            prose.residual_errors(first, second, VALUES)


def test_true_residuals_of_all_families_have_values():
    truth = [family.system() for family in systems.PDE_FAMILIES.values()]
    found = prose.residual_errors(truth, truth, VALUES)
    assert found.valid.all()
    assert found.mean == 0
    others = prose.residual_errors(truth[1:] + truth[:1], truth, VALUES)
    assert (others.errors[others.valid] > 1e-3).all()
