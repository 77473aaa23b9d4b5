"""Run folders that version 0.1 wrote are read by this one: the stored ones hold what `load` needs."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from sciml import experiment, structure, train

RUNS = pathlib.Path(__file__).resolve().parent / "runs_of_0_1"
ROOT = RUNS.parents[2]


def test_an_operator_predicts_what_it_predicted():
    x = np.sin(np.arange(256, dtype=np.float32)).reshape(1, 16, 16) * 2 + 4
    expected = np.load(RUNS / "predictions.npz")["darcy"]
    found = experiment.load(RUNS / "darcy-mgno")(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())  # float32, another compilation


def test_a_latent_ode_predicts_what_it_predicted():
    ts, xs = jnp.linspace(0, 3, 12), jnp.sin(jnp.arange(36.0)).reshape(3, 12, 1)
    expected = np.load(RUNS / "predictions.npz")["latent"]
    found = experiment.load(RUNS / "latent").predict(ts, xs, ts)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())  # the solver's tolerance is 1e-2


@pytest.mark.parametrize("path", sorted(RUNS.glob("models/*.json")), ids=lambda path: path.stem)
def test_a_model_is_rebuilt(path):
    description = json.loads(path.read_text())
    model = structure.rebuild(description)
    assert structure.describe(structure.rebuild(structure.describe(model))) == structure.describe(model)
    assert train.parameters(model) > 0


@pytest.mark.parametrize(("run", "file"), [("darcy-mgno", "darcy.py"), ("latent", "latent_ode.py")])
def test_the_config_is_read_into_the_option_groups_of_today(run, file):
    module = experiment.load_file(ROOT / "experiments" / file)
    config = experiment.read_config(RUNS / run, module)
    saved = json.loads((RUNS / run / "config.json").read_text())
    found = dict(experiment.settings(config))
    assert (found["batch"], found["seed"]) == (saved["batch"], saved["seed"])
    assert found["lr"] == saved["rate"]
    assert experiment.to_json(found["data"]) == saved["data"]
