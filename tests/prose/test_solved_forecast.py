"""Forecasts by fitted equations, against exact solutions and SciPy."""

import numpy as np
import pytest
import scipy.integrate

from sciml import prose, symbolic

X, Y, Z = symbolic.states(3)
LORENZ = (10.0 * Y + -10.0 * X, 28.0 * X - X * Z - Y, X * Y + -2.67 * Z)
TS, QUERY = np.linspace(0, 2, 64), np.linspace(2, 3, 33)[1:]


def lorenz(times):
    field = lambda t, u: [10 * (u[1] - u[0]), 28 * u[0] - u[0] * u[2] - u[1], u[0] * u[1] - 2.67 * u[2]]
    return scipy.integrate.solve_ivp(field, (0, 3), [1.0, 2.0, 20.0], t_eval=times, rtol=1e-10, atol=1e-10).y.T


def test_a_chaotic_system_is_followed_from_wrong_constants():
    wrong = tuple(symbolic.with_parameters(LORENZ, 1.05 * np.asarray(symbolic.parameters(LORENZ))))
    found = prose.solved_forecast(wrong, TS, lorenz(TS), QUERY, spread=0.05)
    np.testing.assert_allclose(symbolic.parameters(found.fit.system), symbolic.parameters(LORENZ), rtol=1e-5)
    np.testing.assert_allclose(found.states, lorenz(QUERY), atol=1e-3)


def test_noise_leaves_little_open():
    noise = 0.02 * np.sqrt(np.mean(lorenz(TS) ** 2)) * np.random.default_rng(0).normal(size=(64, 3))
    known = prose.solved_forecast(LORENZ, TS, lorenz(TS) + noise, QUERY, spread=1e-3)
    error = np.linalg.norm(known.states - lorenz(QUERY)) / np.linalg.norm(lorenz(QUERY))
    assert 1e-4 < error < 0.02
    assert known.fit.noise == pytest.approx(noise.std(0), rel=0.3)


def test_float32_outside_makes_no_difference():
    ys = lorenz(TS).astype(np.float32)
    found = prose.solved_forecast(LORENZ, TS.astype(np.float32), ys, QUERY.astype(np.float32), spread=1e-3)
    assert found.states.dtype == np.float64
    np.testing.assert_allclose(found.states, lorenz(QUERY), atol=1e-2)


@pytest.mark.parametrize(
    "system", [(1.0 * X * X,), pytest.param((1.0 * symbolic.exp(9.0 * X),), marks=pytest.mark.slow)]
)
def test_solutions_that_leave_are_none(system):
    times = np.linspace(0, 0.9, 10)
    found = prose.solved_forecast(system, times, 1 / (1 - times[:, None]), np.array([0.95, 1.2]), spread=1e-3)
    assert found.states is None


def test_few_times_make_few_segments():
    times = np.array([0.0, 0.5, 1.0])
    found = prose.solved_forecast((-0.9 * X,), times, np.exp(-times)[:, None], np.array([1.0, 2.0]), spread=None)
    np.testing.assert_allclose(found.states, np.exp([[-1.0], [-2.0]]), rtol=1e-6)


@pytest.mark.parametrize("query", [np.array([0.0, 1.0]), np.array([2.0, 1.0]), np.array([])])
def test_query_times_that_do_not_follow_are_refused(query):
    with pytest.raises(ValueError, match="Expected increasing query times behind 0, the first given one"):
        prose.solved_forecast(LORENZ, TS, lorenz(TS), query, spread=None)


def test_of_many_structures_the_rarest_say_nothing():
    times = np.linspace(0, 2, 8, dtype=np.float32)
    states = np.stack([np.exp(-times)] * 4)[:, :, None]
    system = symbolic.ode_vocabulary(1).encode(["u_0"])
    tokens = np.tile(system, (4, 1))
    sample = prose.Sample(
        np.tile(times, (4, 1)), states, np.ones((4, 1), bool), tokens, tokens > 0, tokens, tokens > 0, *np.zeros((3, 4))
    )
    text = symbolic.system_from_text
    systems = [text("-0.9 * u_0"), text("sin(u_0)"), text("-1.1 * u_0"), text("u_0 | u_0")]
    found = prose.solved_forecasts(systems, sample, 0 * states[:, 5:], 5, spreads=[0.1] * 4, structures=1)
    assert found.solved.tolist() == [True, False, True, False]
    np.testing.assert_allclose(found.states[[0, 2]], states[[0, 2], 5:], atol=1e-4)
    assert (found.states[[1, 3]] == 0).all()
    assert [symbolic.skeleton(one) for one in found.systems] == [symbolic.skeleton(one) for one in systems]


def test_what_was_copied():
    text = symbolic.system_from_text
    system = text("0.5 * u_0 - 2.0 * u_1 | u_0")
    for same in ("0.5 * u_0 - 2.0 * u_1 | u_0", "-2.0 * u_1 + 0.5 * u_0 | u_0", "0.5002 * u_0 - 2.0 * u_1 | u_0"):
        assert prose.copied(system, text(same))
    for other in (
        "0.51 * u_0 - 2.0 * u_1 | u_0",
        "0.5 * u_0 + 2.0 * u_1 | u_0",
        "0.5 * u_0 - PLACEHOLDER * u_1 | u_0",
        "u_0 | u_0",
        "0.5 * u_0",
    ):
        assert not prose.copied(system, text(other))
    assert not prose.copied(None, system)
    assert not prose.copied(system, None)
    assert prose.copied(text("u_1 | u_0"), text("u_1 | u_0"))  # nothing is open
