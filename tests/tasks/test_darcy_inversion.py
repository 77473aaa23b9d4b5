"""The experiment that inverts with a surrogate: its parts, and the smoke preset."""

import dataclasses
import io
import json
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from sciml import experiment

FILE = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "darcy_inversion.py"


@pytest.fixture(scope="module")
def module():
    return experiment.load_file(FILE)


class Shifted(eqx.Module):
    """A surrogate that is wrong by a constant factor."""

    darcy: object = eqx.field(static=True)

    def __call__(self, x):
        return 1.1 * self.darcy.pressure(x[0].astype(jnp.float64))[None]


def test_the_inverse_problem_of_a_config(module):
    config = module.PRESETS["smoke"]
    with jax.enable_x64(True):
        found = module.inverse(config, Shifted(config.problem))
        clean = module.Solver(config.problem, found.exact.forward.observe)(found.truth)
        assert found.points.shape == (9, 2)
        np.testing.assert_allclose(found.cheap.forward(found.truth), 1.1 * clean, rtol=1e-6)  # float32 permeability
        np.testing.assert_allclose(found.exact.noise, 0.05 * float(jnp.sqrt(jnp.mean(clean**2))), rtol=1e-12)
        assert (jnp.abs(found.exact.whitened(found.truth)) < 4).all()


@pytest.mark.slow  # trains, and compiles two chains
def test_the_smoke_preset_inverts(module, tmp_path):
    config = module.PRESETS["smoke"]
    config = dataclasses.replace(config, source=dataclasses.replace(config.source, data=str(tmp_path / "data")))
    experiment.run_file(module, config, tmp_path / "run", console=Console(file=io.StringIO()))
    figures = tmp_path / "run" / "figures"
    assert (figures / "inversion.png").stat().st_size > 10_000
    (written,) = json.loads((figures / "inversion.json").read_text()).values()
    assert 1 < written["solves"] <= 4 * 23  # the start, 2 steps before the draws, 20 draws
    assert all(np.isfinite(value) for value in written.values())


def test_another_model_is_refused(module):
    with pytest.raises(ValueError, match="Expected a model of"):
        module.build(dataclasses.replace(module.PRESETS["smoke"], model="other"))
