"""Test metrics of predictions that are not finite, or where there is nothing to take a mean of, are defined."""

import jax.numpy as jnp
import numpy as np
import pytest

from sciml import data, tasks
from sciml.grid import Grid
from sciml.tasks._field_errors import defined

SAMPLES, POINTS = 3, 8
GRID = Grid((POINTS,))


def fields(*values):
    """One field for each value, of one channel."""
    return np.stack(
        [np.full((1, POINTS), value, np.float32) * np.linspace(1, 2, POINTS, dtype=np.float32) for value in values]
    )


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_a_field_that_is_not_finite_has_an_infinite_error(value):
    pairs = data.Pairs(fields(1, 2, 4), fields(1, 2, 4), grid=GRID)
    good = tasks.relative_errors(lambda x: 1.5 * x, pairs)
    assert good["relative_l2"] == pytest.approx(0.5, rel=1e-6)
    bad = tasks.relative_errors(lambda x: jnp.where(x[0, 0] > 3, value, x), pairs)  # the last sample alone
    assert bad == {"relative_l2": np.inf, "relative_h1": np.inf}


def test_an_exact_prediction_of_zero_has_no_error():
    pairs = data.Pairs(fields(0, 0, 1), fields(0, 0, 1), grid=GRID)
    assert tasks.relative_errors(lambda x: x, pairs) == {"relative_l2": 0, "relative_h1": 0}
    assert tasks.relative_errors(lambda x: x + 1, pairs)["relative_l2"] == np.inf
    errors = defined(
        jnp.array([jnp.nan, jnp.nan, 0.5]), jnp.array([[0.0], [1.0], [1.5]]), jnp.array([[0.0], [0.0], [1.0]])
    )
    assert errors.tolist() == [0, np.inf, 0.5]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_rollout_that_grows_beyond_all_numbers_has_an_infinite_error():
    frames = np.stack([fields(1, 1, 1, 1), fields(1, 1, 1, 1)])  # (trajectories, frames, channels, points)
    windows = data.Windows(frames, history=1, horizon=3)
    found = tasks.rollout_errors(lambda x: x * 1e18, windows)  # 1e18, 1e36, infinite
    assert found["relative_l2"] == found["each_frame"] == np.inf
    assert found["first_frame"] == pytest.approx(1e18, rel=1e-5)
    exact = tasks.rollout_errors(lambda x: x, windows)
    assert exact == {"relative_l2": 0, "each_frame": 0, "first_frame": 0}


def test_gaps_are_judged_where_there_are_some():
    true, seen = np.zeros((2, 6, 1), np.float32), np.zeros((2, 6, 1), bool)
    seen[:, :4] = True
    assert tasks.gap_errors(jnp.ones((2, 6, 1)), true, seen) == {"mse": 1, "mse_after": 1}
    seen[:, 2] = False
    assert tasks.gap_errors(jnp.ones((2, 6, 1)), true, seen) == {"mse": 1, "mse_between": 1, "mse_after": 1}
    assert tasks.gap_errors(jnp.full((2, 6, 1), jnp.nan), true, seen)["mse"] == np.inf


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_forecast_that_ends_has_an_infinite_error(value):
    series = tasks.Series(np.arange(4.0), np.array([[1.0], [2.0], [1.0], [2.0]]), 2)
    found = tasks.forecast_errors(series, {"model": np.array([[1.0], [value]])})
    assert found["model"] == found["model_log"] == np.inf
    assert found["persistence"] == pytest.approx(np.sqrt(0.5))


def test_scores_that_are_no_numbers_are_wrong():
    scores = jnp.array([[2.0, 0.0], [jnp.nan, 0.0]])
    assert tasks.class_metrics(scores, np.array([0, 0])) == {"error": 0.5, "accuracy": 0.5, "cross_entropy": np.inf}
