"""How operators are judged in experiments: rollouts and other grids."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import data, experiment
from sciml.grid import Dirichlet, Grid
from sciml.operators import FNO, MgNO, Normalised, Resampled, per_channel


class Decay(eqx.Module):
    """The mean of the frames that it sees, halved."""

    def __call__(self, x):
        return 0.5 * jnp.mean(x, axis=0, keepdims=True)


def test_rollout_errors_equal_those_of_a_loop():
    frames = np.random.default_rng(0).normal(size=(3, 7, 1, 4, 6)).astype(np.float32)
    windows = data.Windows(frames, inputs=2, outputs=4, stop=6)
    found = experiment.rollout_errors(Decay(), windows)
    whole, each = [], []
    for one in frames:
        seen, error = list(one[:2]), []
        for truth in one[2:6]:
            seen.append(0.25 * (seen[-1] + seen[-2]))
            error.append(seen[-1] - truth)
        whole.append(np.linalg.norm(error) / np.linalg.norm(one[2:6]))
        each.append([np.linalg.norm(e) / np.linalg.norm(t) for e, t in zip(error, one[2:6], strict=True)])
    assert found["relative_l2"] == pytest.approx(np.mean(whole), rel=1e-5)
    assert found["each_frame"] == pytest.approx(np.mean(each), rel=1e-5)
    assert found["first_frame"] == pytest.approx(np.mean(each, axis=0)[0], rel=1e-5)


def test_an_operator_is_taken_to_another_grid_as_it_allows(getkey):
    own, other = Grid((8, 8), boundary=Dirichlet()), Grid((16, 16), boundary=Dirichlet())
    mgno = MgNO(1, 1, grid=own, width=3, depth=1, levels=2, key=getkey())
    fno = FNO(1, 1, modes=(4, 4), width=4, depth=1, grid=own, key=getkey())
    samples = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    same, note = experiment.on_grid(mgno, own, own, native=False)
    assert same is mgno
    assert note.startswith("native")
    assert experiment.on_grid(fno, own, other, native=True)[0] is fno
    for trained in (mgno, Normalised(mgno, per_channel(samples), per_channel(samples))):
        moved, note = experiment.on_grid(trained, own, other, native=False)
        assert isinstance(moved, Resampled)
        assert note.startswith("resampled: cubic splines to (8, 8)")
        assert moved(jax.random.normal(getkey(), (1, 16, 16))).shape == (1, 16, 16)
