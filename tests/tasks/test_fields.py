"""How operators are judged in experiments: rollouts and other grids."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import data, tasks, train, zoo
from sciml.experiment import Training
from sciml.grid import Dirichlet, Grid
from sciml.nn import Rematerialised
from sciml.operators import FNO, InPrecision, MgNO, Normalised, Patched, Resampled
from sciml.tasks._fields import optimiser_of


class Decay(eqx.Module):
    """The mean of the frames that it sees, halved."""

    def __call__(self, x):
        return 0.5 * jnp.mean(x, axis=0, keepdims=True)


def test_rollout_errors_equal_those_of_a_loop():
    frames = np.random.default_rng(0).normal(size=(3, 7, 1, 4, 6)).astype(np.float32)
    windows = data.Windows(frames, history=2, horizon=4, stop=6)
    found = tasks.rollout_errors(Decay(), windows)
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


def _pairs(n):
    rng, grid = np.random.default_rng(0), Grid((n, n), boundary=Dirichlet())
    return data.Pairs(rng.normal(size=(4, 1, n, n)), rng.normal(size=(4, 2, n, n)), grid=grid)


@pytest.mark.parametrize("name", train.OPTIMISERS)
def test_each_architecture_is_trained_by_its_optimiser(name):
    make = functools.partial(MgNO, width=4, depth=1, levels=1)
    architecture = zoo.Architecture(make, 1e-2, optimiser=name)
    built = tasks.fields(architecture, tasks.Parts(_pairs(8), None, _pairs(8)), Training(steps=7, batch=2, lr=1e-2))
    weights = eqx.filter(built.model, eqx.is_inexact_array)
    gradients = jax.tree.map(jnp.ones_like, weights)
    ours, expected = (
        one.update(gradients, one.init(weights), weights)[0]
        for one in (built.optimiser, train.OPTIMISERS[name](1e-2, steps=7))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize(
    ("name", "steps", "factor"), [("muon", 2000, 1), ("muon", 250, 2), ("muon", 7, 4), ("adamw", 7, 1)]
)
def test_fewer_steps_of_muon_have_a_higher_rate(name, steps, factor, monkeypatch):
    seen = []

    def spied(peak, *, steps):
        seen.append((peak, steps))
        return optax.identity()

    monkeypatch.setitem(train.OPTIMISERS, name, spied)
    architecture = zoo.Architecture(FNO, 1e-2, optimiser=name)
    for lr in (None, 5e-3):
        optimiser_of(architecture, Training(epochs=1, lr=lr), steps)
    assert seen == [(pytest.approx(factor * 1e-2), steps), (5e-3, steps)]


def test_an_architecture_in_patches_has_a_quarter_of_the_points():
    make = functools.partial(FNO, modes=(4, 4), width=4, depth=1)
    whole = zoo.Architecture(make, 1e-3, any_resolution=True)
    assert whole.in_patches(1) is whole
    halves = whole.in_patches(2)
    model = halves.make(1, 2, grid=Grid((8, 8)), key=jax.random.key(0))
    assert isinstance(model, Patched)
    assert (model.patch, halves.any_resolution, halves.lr) == ((2, 2), False, 1e-3)


def test_activations_are_kept_as_an_architecture_is_told():
    mgno = zoo.Architecture(functools.partial(MgNO, width=3, depth=1, levels=2), 1e-3)
    assert tasks.Activations().of(mgno) is mgno
    changed = tasks.Activations(rematerialise=True, precision="bfloat16").of(mgno)
    model = changed.make(1, 2, grid=Grid((8, 8)), key=jax.random.key(0))
    assert isinstance(model, InPrecision)
    assert model.dtype == jnp.bfloat16
    assert isinstance(model.operator.layers[0], Rematerialised)
    assert changed.lr == 1e-3
    with pytest.raises(ValueError, match="Expected a precision of float32, bfloat16, got 'float16'"):
        tasks.Activations(precision="float16")
    deeponet = tasks.Activations(rematerialise=True).of(zoo.MODELS["deeponet"])
    with pytest.raises(ValueError, match="Expected an operator with layers that repeat, got DeepONet"):
        deeponet.make(1, 1, grid=Grid((8, 8)), key=jax.random.key(0))


def test_an_operator_is_taken_to_another_grid_as_it_allows():
    mgno = zoo.Architecture(functools.partial(MgNO, width=3, depth=1, levels=2), 1e-3)
    fno = zoo.Architecture(functools.partial(FNO, modes=(4, 4), width=4, depth=1), 1e-3, any_resolution=True)
    parts = tasks.Parts(_pairs(8), None, lambda resolution: _pairs(resolution or 8))
    for architecture, kind in ((mgno, Resampled), (fno, Normalised)):
        built = tasks.fields(architecture, parts, Training(epochs=1, batch=2))
        assert built.at_resolution(built.model, 8)[0] is built.model
        moved, note = built.at_resolution(built.model, 16)
        assert isinstance(moved, kind)
        assert note.startswith("native" if architecture is fno else "resampled: cubic splines to (8, 8)")
        assert moved(jnp.ones((1, 16, 16), jnp.float64 if jax.config.jax_enable_x64 else jnp.float32)).shape == (
            2,
            16,
            16,
        )
