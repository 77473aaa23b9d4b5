"""Constants fitted to trajectories: against the truth, against SciPy, and what the linearised problem promises."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from sciml import symbolic
from sciml.symbolic import Variable, VectorField, cut, exp, fit_constants, parameters, refine, states, with_parameters

u, v = states(2)
TRUE = (1.5 * u + -1.0 * (u * v), -3.0 * v + 1.0 * (u * v))
GUESS = tuple(with_parameters(TRUE, [1.3, -0.9, -2.6, 1.1]))
TS = np.concatenate((np.linspace(0, 1, 14), np.linspace(1.2, 3, 9)))  # not equally spaced


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def path(constants, start, ts=TS):
    a, b, c, d = constants
    field = lambda t, y: [a * y[0] + b * y[0] * y[1], c * y[1] + d * y[0] * y[1]]
    return scipy.integrate.solve_ivp(field, (ts[0], ts[-1]), start, t_eval=ts, rtol=1e-11, atol=1e-12).y.T


@pytest.fixture(scope="module")
def exact():
    return np.stack([path(parameters(TRUE), start) for start in ([2.0, 1.0], [4.0, 0.5], [1.0, 3.0])])


@pytest.fixture(scope="module")
def noisy(exact):
    return exact[0] + 0.1 * np.random.default_rng(0).normal(size=exact[0].shape)


def test_pieces_hold_every_datum_once_and_end_where_the_next_one_starts(exact):
    pieces = cut(TS, exact, 5)
    assert pieces.ts.shape == (15, 6)
    assert pieces.trajectories == 3
    kept = np.asarray(pieces.weights) == 1
    for k, rows in enumerate(np.split(np.arange(15), 3)):
        np.testing.assert_array_equal(np.asarray(pieces.ts)[rows][kept[rows]], TS)
        np.testing.assert_array_equal(np.asarray(pieces.ys)[rows][kept[rows]], exact[k])
        np.testing.assert_array_equal(pieces.ts[rows[:-1], -1], pieces.ts[rows[1:], 0])
        np.testing.assert_array_equal(pieces.ys[rows[:-1], -1], pieces.ys[rows[1:], 0])
    np.testing.assert_allclose(pieces.scale, exact.std((0, 1)), rtol=1e-14)


def test_data_without_noise_give_the_constants(exact):
    found = refine(GUESS, TS, exact, segments=3)
    np.testing.assert_allclose(parameters(found.system), parameters(TRUE), rtol=1e-6)  # solved to 1e-8
    assert found.after < 1e-7 < 1e-2 < found.before
    assert symbolic.skeleton(found.system) == symbolic.skeleton(TRUE)


def test_noisy_data_give_what_scipy_finds(noisy):
    scale = noisy.std(0)
    residual = lambda x: ((path(x[:4], x[4:]) - noisy) / scale).reshape(-1)
    other = scipy.optimize.least_squares(residual, [*parameters(GUESS), *noisy[0]], xtol=1e-12, ftol=1e-12, gtol=1e-12)
    found = refine(GUESS, TS, noisy, segments=1)
    np.testing.assert_allclose(parameters(found.system), other.x[:4], rtol=1e-4)  # SciPy's differences err by 1e-6
    rows = other.fun.size
    assert found.after == pytest.approx(np.sqrt(2 * other.cost / rows), rel=1e-6)
    np.testing.assert_allclose(found.noise, np.sqrt(np.mean(other.fun.reshape(-1, 2) ** 2, 0)) * scale, rtol=1e-4)
    covariance = np.linalg.inv(other.jac.T @ other.jac) * 2 * other.cost / (rows - 4)
    np.testing.assert_allclose(found.errors, np.sqrt(np.diag(covariance))[:4], rtol=1e-3)


@pytest.mark.parametrize("segments", [1, 4])
def test_a_spread_holds_constants_to_the_given_ones_as_scipy_finds(segments):
    deviations, spread, given = np.array([0.02, 0.3]), 0.02, np.asarray(parameters(GUESS))
    clean = path(parameters(TRUE), [2.0, 1.0])
    noisy = clean + deviations * np.random.default_rng(3).normal(size=clean.shape)
    free = refine(GUESS, TS, noisy, segments=segments)
    found = refine(GUESS, TS, noisy, segments=segments, spread=spread)
    weights = 1 / (free.noise * np.sqrt(noisy.size / (noisy.size - 4 - 2)))
    residual = lambda x: np.concatenate(
        (((path(x[:4], x[4:]) - noisy) * weights).reshape(-1), (x[:4] / given - 1) / spread)
    )
    other = scipy.optimize.least_squares(residual, [*given, *noisy[0]], xtol=1e-12, ftol=1e-12, gtol=1e-12)
    np.testing.assert_allclose(parameters(found.system), other.x[:4], rtol=1e-4)  # SciPy's differences err by 1e-6
    np.testing.assert_allclose(found.initial_conditions, [other.x[4:]], rtol=1e-3)
    errors = (path(other.x[:4], other.x[4:]) - noisy) / noisy.std(0)
    assert found.after == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert free.after < found.after < found.before


def test_data_without_noise_leave_the_spread_without_weight(exact):
    found = refine(GUESS, TS, exact, segments=3, spread=0.02)
    np.testing.assert_allclose(parameters(found.system), parameters(TRUE), rtol=1e-5)
    np.testing.assert_allclose(found.initial_conditions, exact[:, 0], rtol=1e-5)


def test_a_spread_is_positive(noisy):
    with pytest.raises(ValueError, match="Expected a positive spread or None, got 0"):
        refine(GUESS, TS, noisy, spread=0.0)


def test_joined_pieces_are_one_solution(noisy):
    whole, pieces = refine(GUESS, TS, noisy), refine(GUESS, TS, noisy, segments=4)
    # gaps weigh 1e3, so that what they leave is about 1e-6 of the squares
    np.testing.assert_allclose(parameters(pieces.system), parameters(whole.system), rtol=1e-4)
    assert pieces.after == pytest.approx(whole.after, rel=1e-4)


def test_the_linearised_problem_predicts_the_sum_of_squares(exact):
    ys = exact[:2] + 0.1 * np.random.default_rng(1).normal(size=exact[:2].shape)
    pieces = cut(TS, ys, 3)
    fitted = fit_constants(VectorField(GUESS), pieces, free=np.array([True, True, True, False]))
    assert fitted.constants[3] == 1.1
    assert fitted.squares == pytest.approx(np.sum(fitted.residual**2), rel=1e-9)
    slope = fitted.jacobian.T @ fitted.residual
    assert np.abs(slope[:3]).max() < 1e-4 * np.abs(slope[3])  # a minimum in the free constants alone
    step = np.array([2e-3, -1e-3, 3e-3, 1e-3])
    moved = eqx.tree_at(lambda f: f.constants, VectorField(GUESS), jnp.asarray(fitted.constants + step))
    there = fit_constants(moved, pieces, free=np.zeros(4, bool))
    predicted = np.sum((fitted.residual + fitted.jacobian @ step) ** 2)
    change = there.squares - fitted.squares
    assert change == pytest.approx(predicted - fitted.squares, rel=0.02)  # third order, steps of 1e-3


def test_the_residual_never_increases(noisy):
    rng = np.random.default_rng(2)
    for _ in range(4):
        wrong = with_parameters(TRUE, parameters(TRUE) * rng.uniform(-1, 3, 4))
        found = refine(wrong, TS, noisy)
        assert found.after <= found.before
        again = refine(found.system, TS, noisy)
        assert again.after <= again.before * (1 + 1e-9)


def test_a_system_that_cannot_be_solved_comes_back(noisy):
    explosive = (1.0 * exp(9.0 * u), 1.0 * exp(9.0 * v))
    found = refine(explosive, TS, noisy)
    assert found.system == explosive
    assert found.before == found.after == np.inf
    assert not np.isfinite(found.errors).any()


def test_constants_inside_of_terms_other_names_and_none(noisy):
    t = Variable("t")
    times = np.linspace(0, 2, 21)
    ys = np.stack((np.sin(3 * times), np.exp(-0.5 * times)), 1)
    q, r = symbolic.variables("q r")
    system = (2.8 * symbolic.cos(2.9 * t), -0.4 * r + 0.0 * q)
    found = refine(system, times, ys, variables=("q", "r"))
    np.testing.assert_allclose(parameters(found.system), [3, 3, -0.5, 0], atol=1e-6)
    fixed = refine((-v, u), TS, noisy)
    assert fixed.system == (-v, u)
    assert fixed.after == fixed.before > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ys: refine(TRUE, TS[::-1], ys), "Expected increasing times. Sort the data"),
        (lambda ys: refine(TRUE, TS, np.where(ys > 4, np.nan, ys)), r"Expected finite states, got \d+ that are not"),
        (lambda ys: refine(TRUE, TS[:-1], ys), r"Expected at least 2 times and states .* got \(22,\) and \(23, 2\)"),
        (lambda ys: refine(TRUE, TS, ys, segments=23), "23 times cannot be cut into 23 segments. Use between 1 and 22"),
        (lambda ys: refine(TRUE, TS, ys[:, :1]), "states of 2 components, one per equation, got 1"),
    ],
)
def test_wrong_data_are_refused(make, message, noisy):
    with pytest.raises(ValueError, match=message):
        make(noisy)
