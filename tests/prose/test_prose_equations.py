"""Written equations: reading, errors, residuals and constants, against loops and exact solutions."""

import math

import jax
import numpy as np
import pytest

from sciml import prose, symbolic, systems
from sciml.prose._equations.equations import refined

ODE = symbolic.ode_vocabulary(3)
X, Y, Z = symbolic.states(3)
LORENZ = (10.0 * Y + -10.0 * X, 28.0 * X - X * Z - Y, X * Y + -2.67 * Z)
OSCILLATOR = (Y, -1.0 * X)


def row(text, length=40):
    ids = ODE.encode(text.split())
    return np.concatenate((ids, np.full(length - len(ids), ODE.eos)))


def lorenz(x, y, z, s=10.0, r=28.0, b=2.67):
    return np.stack((s * y - s * x, r * x - x * z - y, x * y - b * z))


def test_equations_are_read_up_to_their_end():
    text = " ".join(symbolic.system_to_tokens(LORENZ))
    behind = row(text)
    behind[-1] = ODE.word_to_id["add"]  # never read
    trailing, unfinished = row("u_0 u_1"), row("add u_0")
    full = np.tile(ODE.encode(["neg"]), 40)  # no end
    batch = np.stack((behind, trailing, unfinished, full)).reshape(2, 2, 40)
    assert prose.equations(batch, ODE) == [LORENZ, None, None, None]
    lenient = prose.equations(batch, ODE, symbolic.system_from_tokens_as_published)
    assert lenient == [LORENZ, (X,), None, None]


def test_the_equations_of_a_data_set_are_read():
    texts = tuple(" ".join(symbolic.system_to_tokens(system)) for system in (LORENZ, OSCILLATOR))
    states = np.zeros((2, 1, 4, 3), np.float32)
    part = systems.Trajectories(
        np.arange(4.0), states, equations=texts, families=("a", "b"), tried=np.ones(2, np.int32)
    )
    data = prose.EquationData([part], ODE, guess=prose.skeleton_equations)
    read = prose.equations(data[:].equation[:, 1:], ODE)
    assert read == [LORENZ, OSCILLATOR]
    assert prose.equation_errors(read, read).mean == 0


def test_errors_of_equations():
    wrong = (9.0 * Y + -9.0 * X, *LORENZ[1:])
    infinite = (LORENZ[0] + 1e-9 / (X - X), *LORENZ[1:])
    foreign = (symbolic.Variable("pow"), *LORENZ[1:])
    placeholder = (symbolic.PLACEHOLDER, *LORENZ[1:])
    flat = (1.0 * X, 2.0 * Y)
    written = [LORENZ, wrong, None, infinite, LORENZ[:2], foreign, placeholder, flat]
    truth = [LORENZ] * 7 + [(1.5 * X, 2.0 * Y)]
    with jax.enable_x64(True):
        result = prose.equation_errors(written, truth, points=50, bound=5.0, seed=3)
        again = prose.equation_errors(written[:2], truth[:2], points=50, bound=5.0, seed=3)
    where = np.random.default_rng(3).uniform(-5, 5, (3, 50))
    exact, other = lorenz(*where), lorenz(*where)
    other[0] *= 0.9
    expected = np.sqrt(np.sum((other - exact) ** 2) / (np.sum(exact**2) + 1e-6))
    x, y, _ = where
    small = np.sqrt(np.sum((0.5 * x) ** 2) / (np.sum((1.5 * x) ** 2 + (2 * y) ** 2) + 1e-6))
    np.testing.assert_array_equal(result.valid, [True, True, *[False] * 5, True])
    np.testing.assert_allclose(result.errors, [0, expected, *[np.nan] * 5, small], rtol=1e-13)
    np.testing.assert_array_equal(again.errors, result.errors[:2])
    assert result.valid_fraction == 3 / 8
    assert result.mean == pytest.approx((expected + small) / 3, rel=1e-13)
    assert math.isnan(prose.equation_errors([None], [LORENZ]).mean)
    with pytest.raises(ValueError, match="as many written systems as true ones, got 1 and 2"):
        prose.equation_errors([None], [LORENZ, LORENZ])


def test_equations_in_text_have_six_digits():
    assert prose.equation_text((10.0 * X, 1.0 / 3.0 * Y)) == "10.0 * u_0 | 0.333333 * u_1"
    assert prose.equation_text(None) == "no equation"


def test_values_beyond_single_precision_are_not_valid():
    large = (1e30 * symbolic.exp(10.0 * X), *LORENZ[1:])
    assert not prose.equation_errors([large], [LORENZ]).valid[0]


def test_the_residual_of_an_integral():
    ts = np.sort(np.random.default_rng(0).uniform(0, 2, 17))
    t = symbolic.Variable("t")
    ys = np.stack((ts, ts**3), axis=1)
    residual = prose.integral_residual(ts, ys)
    assert residual((symbolic.Real(1.0), 3.0 * (t * t))) < 1e-14  # Simpson's rule is exact
    scaled = [symbolic.Real(1.3), 3.0 * (t * t)]
    assert residual(tuple(scaled)) == pytest.approx(0.3 / math.sqrt(2), rel=1e-12)  # 0.3 deviations in one of two
    still = (symbolic.Real(0.0), symbolic.Real(0.0))
    assert residual(still) == pytest.approx(1, rel=1e-12)
    for without in ((t,), (t, Z), (t, symbolic.PLACEHOLDER), (t, 1.0 / (t - t)), (1e308 * t, t)):
        assert residual(without) == math.inf
    with pytest.raises(ValueError, match="Expected increasing times"):
        prose.integral_residual(ts[::-1], ys)


def oscillation(noise):
    """The exact solution of the oscillator, and noise relative to it."""
    ts = np.linspace(0, 4, 41)
    ys = np.stack((np.sin(ts), np.cos(ts)), axis=1)
    return ts, ys * (1 + noise * np.random.default_rng(0).normal(size=ys.shape))


def test_hypotheses_are_ranked_by_their_residual():
    ts, ys = oscillation(0.02)
    others = [(Y, -1.2 * X), None, (Y, 1.0 * X), (Y, X - 2.0 * X), OSCILLATOR, (Y,)]
    ranked = prose.reranked(others, prose.integral_residual(ts, ys))
    assert [each.position for each in ranked] == [3, 4, 0, 2, 5]  # 3 and 4 are equal
    assert ranked[1].system == OSCILLATOR
    assert 0.015 < ranked[0].residual == ranked[1].residual < 0.03  # states are about as large as their deviations
    assert ranked[-1].residual == math.inf


def test_constants_are_refined_and_the_best_hypothesis_found():
    ts, ys = oscillation(0.02)
    with jax.enable_x64(True):
        first = [(Y, -0.9 * X + -0.1 * Y), (1.1 * Y, 0.5 * Y)]
        best, other = refined(first, ts, ys)
        assert (best.position, other.position) == (0, 1)
        constants = symbolic.parameters(best.system)
        np.testing.assert_allclose(constants, [-1, 0], atol=0.01)  # noise of 1.4 %, 82 numbers
        before = [symbolic.refine(system, ts, ys).before for system in first]
        assert best.residual < 0.03 < 0.1 < before[0]
        assert other.residual <= before[1]
