"""The experiment that reads an equation out of a hybrid one: smoke preset, baselines by hand, refused settings."""

import dataclasses
import io
import json
import pathlib

import jax
import numpy as np
import pytest
from rich.console import Console

from sciml import experiment, symbolic

FILE = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "lotka_volterra.py"


@pytest.fixture(scope="module")
def module():
    return experiment.load_file(FILE)


@pytest.mark.slow  # its parts have tests in nde and symbolic
def test_the_smoke_preset_trains_forecasts_and_writes_equations(module, tmp_path):
    config = module.PRESETS["smoke"]
    with jax.enable_x64(True):
        series = module.read(config)
        quiet = Console(file=io.StringIO())
        metrics = experiment.run_file(module, config, tmp_path / "run", console=quiet)["test"]
    known, unknown = series.ys[: config.years], series.ys[config.years :]
    assert metrics["persistence"] == pytest.approx(np.sqrt(np.mean((known[-1] - unknown) ** 2)), rel=1e-6)
    assert metrics["mean_log"] == pytest.approx(np.sqrt(np.mean(np.log(known.mean(0) / unknown) ** 2)), rel=1e-6)
    assert metrics["fitted_log"] < 0.06  # the equation of the simulation, with 2 % of noise, also on its first state
    assert all(np.isfinite(metrics[name]) for name in ("forecast", "forecast_log", "symbolic", "symbolic_log"))
    figures = tmp_path / "run" / "figures"
    assert (figures / "forecast.png").stat().st_size > 10_000
    written = json.loads((figures / "equations.json").read_text())
    fitted = symbolic.system_from_text(written["fitted"]["text"])
    assert symbolic.skeleton(fitted) == symbolic.skeleton(module.SIMULATED)
    np.testing.assert_allclose(symbolic.parameters(fitted), symbolic.parameters(module.SIMULATED), rtol=0.05)
    assert len(written["read"]["latex"]) == 2
    constants = json.loads((figures / "constants.json").read_text())["constants"]
    for found, true in zip(constants, symbolic.parameters(module.SIMULATED), strict=True):
        assert found["interval"][0] < found["value"] < found["interval"][1]
        assert abs(found["value"] - true) < 5 * found["deviation"]


def test_the_constants_have_deviations(module):
    config = module.PRESETS["smoke"]
    with jax.enable_x64(True):
        found = module.uncertain(module.read(config), config)
    true = symbolic.parameters(module.SIMULATED)
    assert (np.abs(found.constants - true) < 4 * found.deviations).all()
    assert (found.deviations < 0.05 * np.abs(true)).all()  # 60 observations of two cycles with 2 % of noise


def test_the_observations(module, published_data):
    series = module.read(dataclasses.replace(module.PRESETS["full"], data=str(published_data)))
    np.testing.assert_array_equal(series.ts, np.arange(21))
    np.testing.assert_allclose(series.ys[[0, -1]], [[30.0, 4.0], [24.7, 8.6]], rtol=1e-6)
    assert series.known == 15


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"source": "lynx-hare"},
            FileNotFoundError,
            "Give its folder by --data or SCIML_DATA, or take --preset simulated",
        ),
        ({"source": "wolf"}, ValueError, "Expected a source of lynx-hare, simulated, got 'wolf'"),
        ({"years": 81}, ValueError, "window <= years < 81 observations, got a window of 9 and 81 years"),
        ({"model": "other"}, ValueError, "Expected a model of hybrid, got 'other'"),
    ],
)
def test_wrong_settings_are_refused(module, changes, error, message, tmp_path):
    config = dataclasses.replace(module.PRESETS["smoke"], data=str(tmp_path), **changes)
    with pytest.raises(error, match=message):
        module.build(config)
