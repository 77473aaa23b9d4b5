"""The experiment on PROSE-FD: sizes, schedule, families that are weighted alike, settings that are refused."""

import dataclasses
import io
import json
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import size_of
from rich.console import Console

from sciml import experiment, prose, symbolic
from sciml.prose._model.optimiser import warm_stable_decay
from sciml.tasks._prose import Lazy, Split

FILE = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "prose_fd.py"


@pytest.fixture(scope="module")
def module():
    return experiment.load_file(FILE)


@pytest.fixture(scope="module")
def folder(module, tmp_path_factory):
    """The data, and the finished run of the smoke preset."""
    where = tmp_path_factory.mktemp("fd")
    config = experiment.with_settings(module.PRESETS["smoke"], {"data": str(where / "data")})
    experiment.run_file(module, config, where / "run", console=Console(file=io.StringIO()))
    return where


@pytest.mark.slow  # as prose_ode, with frames
def test_the_smoke_preset_trains_and_draws(folder):
    found = json.loads((folder / "run" / "metrics.json").read_text())["test"]
    assert set(found) == {
        *("relative_l2", "last_frame", "repeated"),
        *("dam_break_relative_l2", "vortices_relative_l2"),
    }
    assert np.isfinite(list(found.values())).all()
    assert found["relative_l2"] == pytest.approx((found["dam_break_relative_l2"] + found["vortices_relative_l2"]) / 2)
    assert (folder / "run" / "figures" / "predictions.png").stat().st_size > 10_000


@pytest.mark.parametrize(("model", "guess"), [("data-only", "known"), ("fno", "known"), ("prose", "skeleton")])
def test_the_loss_fits_every_model(module, folder, model, guess):
    changes = {"model": model, "guess": guess, "weights": (2, 1), "data": str(folder / "data")}
    config = experiment.with_settings(module.PRESETS["smoke"], changes)
    made = module.build(config)
    batch = made.train[:2]
    value, logs = eqx.filter_eval_shape(made.loss, made.model, batch, jax.random.split(jax.random.key(0), 2))
    assert value.shape == ()
    assert set(logs) == {"data"}
    assert len(made.train) == 3 * 4 // 2 * 2 == len(made.train.made)
    words = symbolic.fluid_vocabulary().decode(batch.tokens[0][batch.tokens_mask[0]])
    assert (symbolic.PLACEHOLDER.head in words) == (guess == "skeleton")


@pytest.mark.parametrize(("model", "count"), [("prose", 165_267_652), ("data-only", 164_106_436)])
def test_the_paper_preset_has_the_published_sizes(module, model, count):
    config = dataclasses.replace(module.PRESETS["paper"], model=model)
    assert size_of(lambda: module.MODELS[model](config, jax.random.key(0))) == count
    assert config.run.steps_for(len(config.task.training)) == pytest.approx(160_000, rel=1e-3)


def test_the_learning_rate_rises_stays_and_falls():
    rates = np.array([warm_stable_decay(0.3, 50)(step) for step in range(50)])
    np.testing.assert_allclose(rates[:5], 0.3 * np.arange(1, 6) / 5, rtol=1e-6)
    np.testing.assert_allclose(rates[5:41], 0.3, rtol=1e-6)
    np.testing.assert_allclose(rates[40:], 0.3 * (1 - np.arange(10) / 10), rtol=1e-5)
    for steps in (1, 3):  # the smoke run
        assert np.isfinite([float(warm_stable_decay(0.3, steps)(step)) for step in range(steps)]).all()


class Recorded:
    """Samples of two families with known errors: the model repeats the last given frame."""

    families = ("dam_break", "vortices")

    def __init__(self):
        states = np.ones((5, 5, 4, 6, 6), np.float32)
        states[:, 3:] *= np.array([2.0, 2.0, 2.0, 4.0, 4.0]).reshape(-1, 1, 1, 1, 1)
        family = np.array([0, 0, 0, 1, 1])
        zero = np.zeros((5, 0), np.int32)
        times = np.zeros((5, 5), np.float32)
        present = np.ones((5, 4), bool)
        self.sample = prose.Sample(times, states, present, zero, zero > 0, zero, zero > 0, family, family, family)

    def __len__(self):
        return 5

    def __getitem__(self, rows):
        return jax.tree.map(lambda array: array[rows], self.sample)


def last_two(x):
    """Two later frames like the last given one."""
    return jnp.concatenate((x[-4:], x[-4:]))


def test_each_family_counts_alike(module):
    model = prose.FieldForecast(last_two, prose.Unscaled())
    task = dataclasses.replace(module.PRESETS["smoke"].task, history=3, horizon=2)
    found = task.evaluate(model, Split(Lazy(5, Recorded), seed=0))
    # Each truth is 2 or 4 where 1 is predicted: errors 1/2 and 3/4, whatever the numbers of samples.
    assert found["dam_break_relative_l2"] == pytest.approx(0.5, rel=1e-6)
    assert found["vortices_relative_l2"] == pytest.approx(0.75, rel=1e-6)
    for name in ("relative_l2", "last_frame", "repeated"):
        assert found[name] == pytest.approx(0.625, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "unet"}, "Expected a model of prose, data-only, fno, got 'unet'"),
        ({"guess": "unknown"}, "Expected a guess of known, skeleton, got 'unknown'"),
        ({"precision": "float16"}, "Expected a precision of float32, bfloat16, got 'float16'"),
        ({"weights": (1, 2, 3)}, r"Expected a weight for each of .*, or none, got \(1, 2, 3\)"),
        ({"flows": (8, 1, 4)}, r"at least one flow of each of .*, got the numbers \(8, 1, 4\)"),
        ({"model": "fno", "precision": "bfloat16"}, "Fourier transforms have no bfloat16. Train fno with"),
    ],
)
def test_wrong_settings_are_refused(module, changes, message):
    with pytest.raises(ValueError, match=message):
        module.build(experiment.with_settings(module.PRESETS["smoke"], changes))
