"""The scripts of benchmarks/ go with the library as it is: each one is imported, what two of them share trains."""

import importlib
import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close

from sciml import data, losses, train
from sciml.grid import Grid, Periodic

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = sorted(file.stem for file in FOLDER.glob("*.py"))


@pytest.fixture
def script(monkeypatch):
    """Imports a script as it is imported when Python runs it from its folder; what it imports is forgotten again."""
    monkeypatch.syspath_prepend(str(FOLDER))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(SCRIPTS) & (set(sys.modules) - known):
        del sys.modules[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_can_be_imported(script, name):
    try:
        assert script(name).__doc__
    except ModuleNotFoundError as error:
        if error.name in {"sciml", *SCRIPTS} or (error.name or "").startswith("sciml."):
            raise
        pytest.skip(f"{error.name} is not installed")


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_the_search_trains_with_the_optimisers_of_the_library(script, name):
    """Theirs have peak and steps as constants; their schedules bend at whole steps, as ours do with 20 steps."""
    params, steps = {"weight": jnp.ones((4, 6)), "bias": jnp.ones(3)}, 20
    make = {"muon": train.muon, "adamw": train.clipped_adamw}[name]
    found = []
    for one in (script("search").optimiser(name, 1e-2, steps), make(1e-2, steps=steps)):
        state, update, moved = one.init(params), jax.jit(one.update), params
        for k in range(steps):
            gradient = jax.tree.map(lambda leaf, k=k: jnp.cos(k + jnp.arange(leaf.size).reshape(leaf.shape)), params)
            updates, state = update(gradient, state, moved)
            moved = optax.apply_updates(moved, updates)
        found.append(moved)
    assert_trees_close(*found, rtol=1e-5)


def test_forecasts_are_trained_and_judged(script):
    forecasts, unrolled = script("forecast_training"), script("unrolled")
    frames = np.random.default_rng(0).normal(size=(4, 6, 1, 16)).astype(np.float32)
    layout = data.Layout("pairs", "array y", 4, 6, (data.Channel("u"),), Grid((16,), boundary=Periodic()))
    known = data.Trajectories(data.InMemory(frames, layout))
    untrained = unrolled.model_for("increment", known, 0)
    windows = data.TrajectoryWindows(known, horizon=2)
    model, seconds = forecasts.trained(untrained, losses.Unrolled(2), windows, steps=2, batch=2, lr=1e-3, seed=0)
    leaves = [jax.tree.leaves(eqx.filter(one, eqx.is_inexact_array)) for one in (untrained, model)]
    assert any(not np.array_equal(a, b) for a, b in zip(*leaves, strict=True))
    assert seconds > 0
    assert np.isfinite(forecasts.rollout_errors(model, known)).all()
    assert forecasts.rollout_errors(model, known).shape == (4, 5)
