"""Interpolations of series against exact solutions and SciPy, with gaps of each channel's own."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from sciml.nde import hermite_control, linear_control, natural_cubic_control, rectilinear_control

TIMES = np.array([0.0, 0.3, 0.5, 1.1, 1.2, 2.0, 2.9, 3.0])
BETWEEN = np.linspace(0.0, 3.0, 61)
# Rows x channels: complete, gaps inside, two observations alone.
GAPS = np.ones((8, 3), bool)
GAPS[[1, 3, 4], 1] = False
GAPS[1:7, 2] = False
ALL = [linear_control, hermite_control, natural_cubic_control, rectilinear_control]


def with_gaps(values, seen=GAPS):
    return np.where(seen, values, np.nan)


def evaluate(control, ts, xs, at):
    """Values and derivatives of the path at the times `at`."""

    @jax.jit
    def run(ts, xs, at):
        path = control(ts, xs).path
        return jax.vmap(path.evaluate)(at), jax.vmap(path.derivative)(at)

    return run(jnp.asarray(ts), jnp.asarray(xs), jnp.asarray(at))


@pytest.mark.parametrize("control", [linear_control, hermite_control, natural_cubic_control])
def test_linear_data_are_reproduced_over_gaps(control):
    slopes, starts = np.array([2.0, -1.0, 0.5]), np.array([0.0, 3.0, 1.0])
    line = lambda t: np.concatenate([t[:, None], starts + slopes * t[:, None]], axis=1)
    with jax.enable_x64(True):
        values, derivatives = evaluate(control, TIMES, with_gaps(line(TIMES)[:, 1:]), BETWEEN[1:-1])
    np.testing.assert_allclose(values, line(BETWEEN[1:-1]), atol=1e-13)
    np.testing.assert_allclose(derivatives, np.tile([1, *slopes], (59, 1)), atol=1e-12)


@pytest.mark.parametrize("control", [linear_control, hermite_control, natural_cubic_control])
def test_a_channel_takes_its_first_and_last_observation_where_it_is_missing_at_the_ends(control):
    seen = np.ones((8, 2), bool)
    seen[[0, 1, 6, 7], 1] = False
    values = np.random.default_rng(1).normal(size=(8, 2))
    filled = values.copy()
    filled[0, 1], filled[7, 1] = values[2, 1], values[5, 1]
    with jax.enable_x64(True):
        got = evaluate(control, TIMES, with_gaps(values, seen), BETWEEN)
        seen[[0, 7], 1] = True
        expected = evaluate(control, TIMES, with_gaps(filled, seen), BETWEEN)
    np.testing.assert_array_equal(got[0], expected[0])


def observed_splines(values, make):
    """Value and derivative of a SciPy spline through the observations of each channel."""
    splines = [make(TIMES[seen], column[seen]) for seen, column in zip(GAPS.T, values.T, strict=True)]
    return [np.stack([spline(BETWEEN, order) for spline in splines], axis=1) for order in (0, 1)]


def test_natural_splines_against_scipy():
    values = np.random.default_rng(2).normal(size=(8, 3))
    with jax.enable_x64(True):
        got = evaluate(natural_cubic_control, TIMES, with_gaps(values), BETWEEN)
    expected = observed_splines(values, lambda t, y: CubicSpline(t, y, bc_type="natural"))
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours[:, 1:], theirs, atol=1e-12)
    np.testing.assert_allclose(got[0][:, 0], BETWEEN, atol=1e-13)


def test_diffrax_splines_have_corners_behind_gaps():
    # The reason for an own fit; when this fails, diffrax's can be used.
    ts, xs = jnp.arange(4.0), jnp.asarray([0.0, 1.0, jnp.nan, 0.0])
    ts, xs = jnp.append(ts, 4.0), jnp.append(xs, 1.0)
    path = dfx.CubicInterpolation(ts, dfx.backward_hermite_coefficients(ts, xs))
    assert abs(path.derivative(3.0, left=True) - path.derivative(3.0, left=False)) > 0.1
    ours = hermite_control(ts, xs[:, None]).path
    np.testing.assert_allclose(ours.derivative(3.0, left=True), ours.derivative(3.0, left=False), atol=1e-6)


def test_a_natural_spline_of_two_rows_is_a_line():
    with jax.enable_x64(True):
        values, _ = evaluate(natural_cubic_control, [0.0, 2.0], [[1.0], [5.0]], [0.0, 0.5, 2.0])
    np.testing.assert_allclose(values, [[0, 1], [0.5, 2], [2, 5]], atol=1e-14)


def test_hermite_splines_have_backward_differences_as_slopes():
    def make(t, y):
        slopes = np.diff(y) / np.diff(t)
        return CubicHermiteSpline(t, y, np.concatenate([slopes[:1], slopes]))

    values = np.random.default_rng(3).normal(size=(8, 3))
    with jax.enable_x64(True):
        got = evaluate(hermite_control, TIMES, with_gaps(values), BETWEEN)
    for ours, theirs in zip(got, observed_splines(values, make), strict=True):
        np.testing.assert_allclose(ours[:, 1:], theirs, atol=1e-12)


def test_a_rectilinear_path_moves_in_time_and_then_in_its_values():
    xs = np.array([[1.0, 4.0], [np.nan, 5.0], [3.0, np.nan]])
    ts = np.array([0.0, 0.5, 2.0])
    corners, _ = evaluate(rectilinear_control, ts, xs, np.arange(5.0))
    np.testing.assert_allclose(corners, [[0, 1, 4], [0.5, 1, 4], [0.5, 1, 5], [2, 1, 5], [2, 3, 5]])
    control = rectilinear_control(jnp.asarray(ts), jnp.asarray(xs))
    np.testing.assert_array_equal(control.knots, [0, 2, 4])


@pytest.mark.parametrize("control", [linear_control, natural_cubic_control])
def test_a_batch_is_its_samples(control):
    rng = np.random.default_rng(4)
    xs = np.where(rng.random((5, 8, 2)) < 0.3, np.nan, rng.normal(size=(5, 8, 2))).astype(np.float32)
    path = jax.jit(lambda x: jax.vmap(control(jnp.asarray(TIMES), x).path.evaluate)(jnp.asarray(BETWEEN)))
    batch = jax.jit(jax.vmap(path))(xs)
    np.testing.assert_allclose(batch, [path(x) for x in xs], atol=1e-5)  # rounding of float32


@pytest.mark.parametrize("control", ALL)
def test_refused_series(control):
    ts, xs = jnp.arange(4.0), jnp.ones((4, 2))
    empty = xs.at[:, 1].set(jnp.nan)
    with pytest.raises(ValueError, match="at least two times"):
        control(ts[:1], xs[:1])
    with pytest.raises(ValueError, match="strictly increasing times"):
        control(ts.at[2].set(1.0), xs)
    with pytest.raises(ValueError, match="nothing but NaN"):
        control(ts, empty)
    compiled = eqx.filter_jit(lambda ts, xs: control(ts, xs).path.evaluate(0.5))
    with pytest.raises(RuntimeError, match="strictly increasing times"):
        compiled(ts.at[2].set(1.0), xs)
    with pytest.raises(RuntimeError, match="nothing but NaN"):
        compiled(ts, empty)


def test_a_rectilinear_path_refuses_an_incomplete_first_row():
    with pytest.raises(ValueError, match="complete first row"):
        rectilinear_control(jnp.arange(3.0), jnp.asarray([[jnp.nan], [1.0], [2.0]]))
