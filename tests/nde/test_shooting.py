"""Multiple shooting: zero on the exact solution, and its parts by hand elsewhere."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sciml import nde

A = np.array([[-0.1, 2.0], [-2.0, -0.1]])
TS = np.linspace(0, 2, 13)
YS = np.stack([scipy.linalg.expm(t * A) @ [1.0, 0.5] for t in TS])


def flow(rate):
    """The exact solution of y' = rate A y."""
    return lambda y0, ts: jax.vmap(lambda t: jax.scipy.linalg.expm(rate * (t - ts[0]) * A) @ y0)(ts)


def test_the_loss_vanishes_on_the_exact_solution():
    with jax.enable_x64(True):
        solve = nde.Solve(controller=dfx.PIDController(rtol=1e-9, atol=1e-9))
        model = nde.NeuralODE(nde.Autonomous(jax.tree_util.Partial(jnp.matmul, jnp.asarray(A))), solve)
        with_key = lambda y0, ts, *, key: model.solution(y0, ts, key=key)[0]
        data, options = (jnp.asarray(TS), jnp.asarray(YS)), {"segments": 4}
        loss, parts = nde.multiple_shooting(model, *data, **options)
        again, _ = nde.multiple_shooting(with_key, *data, **options, key=jax.random.key(0))
        assert again == loss
        assert loss < 1e-14  # squares of errors at tolerance 1e-9
        assert set(parts) == {"error", "gap"}


@pytest.mark.parametrize("segments", [1, 3, 12])
def test_error_and_gaps_by_hand(segments):
    with jax.enable_x64(True):
        length = 12 // segments
        starts = YS[:-1:length] + 0.1 * np.random.default_rng(0).normal(size=(segments, 2))
        loss, parts = nde.multiple_shooting(
            flow(0.7), jnp.asarray(TS), jnp.asarray(YS), segments=segments, continuity=5.0, initial=jnp.asarray(starts)
        )
        loss, error, gap = float(loss), float(parts["error"]), float(parts["gap"])
    errors, gaps = [], []
    for k, start in enumerate(starts):
        times = TS[k * length : (k + 1) * length + 1]
        path = np.stack([scipy.linalg.expm(0.7 * (t - times[0]) * A) @ start for t in times])
        errors.append((path - YS[k * length : (k + 1) * length + 1]) ** 2)
        gaps += [(path[-1] - starts[k + 1]) ** 2] if k + 1 < segments else []
    np.testing.assert_allclose(error, np.mean(errors), rtol=1e-10)
    np.testing.assert_allclose(gap, np.mean(gaps) if gaps else 0, rtol=1e-10)
    np.testing.assert_allclose(loss, error + 5 * gap, rtol=1e-12)


def test_initial_states_are_the_data_unless_given():
    with jax.enable_x64(True):
        arguments = flow(0.7), jnp.asarray(TS), jnp.asarray(YS)
        default, _ = nde.multiple_shooting(*arguments, segments=3)
        given, _ = nde.multiple_shooting(*arguments, segments=3, initial=jnp.asarray(YS[:-1:4]))
        assert default == given > 1e-3


def test_intervals_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match=r"12 intervals between 13 times cannot be cut into 5.*Choose a divisor"):
        nde.multiple_shooting(flow(1.0), jnp.asarray(TS), jnp.asarray(YS), segments=5)
