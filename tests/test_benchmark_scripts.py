"""The scripts of benchmarks/ go with the library as it is: each one is imported, what two of them share trains."""

import importlib
import pathlib
import sys

import equinox as eqx
import jax
import numpy as np
import pytest

from sciml import data, losses
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
