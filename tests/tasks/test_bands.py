"""Coverage and width of bands: of fields and rollouts, in metrics.json and in the table of a benchmark."""

import json

import jax
import numpy as np
import pytest

from sciml import cli, data, experiment, operators, tasks, train, uq, zoo
from sciml.grid import Grid, Periodic

GRID = Grid((8, 12), boundary=Periodic())


def pairs(seed, samples):
    x = np.random.default_rng(seed).normal(size=(samples, 1, *GRID.shape)).astype(np.float32)
    return data.Pairs(x, np.concatenate((x, x**2), axis=1), grid=GRID)


def fields(validation, test):
    make = lambda into, out, *, grid, key: operators.FNO(into, out, modes=(3, 3), width=4, depth=1, key=key)
    parts = tasks.Parts(pairs(0, 6), validation, test)
    return tasks.fields(zoo.Architecture(make, 1e-2), parts, experiment.Training(steps=1, batch=2))


def test_bands_of_fields_are_those_of_conformal_prediction():
    known, new = pairs(1, 70), pairs(2, 30)  # more than are predicted at once
    built = fields(known, new)
    found = built.coverage(built.model, known, new, 0.9)
    predict = lambda part: np.asarray(train.predict(built.model, part.x))
    bands = uq.conformal(predict(known), known.y, level=0.9)
    assert found["coverage"] == bands.covers(predict(new), new.y).mean()
    assert found["calibration"] == 70
    assert found["width"] == pytest.approx(2 * bands.quantiles[0] / np.sqrt(np.mean(np.square(new.y, dtype=float))))


def test_bands_of_an_ensemble_are_scaled_by_its_spread():
    known, new = pairs(1, 20), pairs(2, 9)
    built = experiment.ensemble(fields(known, new), 3)
    found = built.coverage(built.model, known, new, 0.8)
    members = lambda part: np.asarray(train.predict(built.model.members, part.x))
    scale = lambda part: uq.spread(members(part), floor=1.0)
    mean = lambda part: members(part).mean(axis=1)
    bands = uq.conformal(mean(known), known.y, level=0.8, scale=scale(known))
    assert found["coverage"] == bands.covers(mean(new), new.y, scale(new)).mean()
    size = np.sqrt(np.mean(np.square(new.y, dtype=float)))
    assert found["width"] == pytest.approx(2 * bands.half_width(mean(new), scale(new)).mean() / size, rel=1e-4)


def test_a_prediction_that_diverges_is_a_miss_and_no_error():
    known, new = pairs(1, 20), pairs(2, 9)
    broken = fields(known, new)
    bad = lambda x: jax.numpy.where(x[0, 0, 0] > 0, jax.numpy.nan, 1.0) * jax.numpy.concatenate((x, x**2))
    found = broken.coverage(bad, known, new, 0.9)
    assert np.isfinite(list(found.values())).all()
    exact = broken.coverage(lambda x: jax.numpy.concatenate((x, x**2)), known, new, 0.9)
    assert found["width"] > exact["width"] == 0


def test_the_command_line_shows_bands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frames = np.cumsum(np.random.default_rng(0).normal(size=(60, 4, 1, 12)), axis=1).astype(np.float32)
    np.savez("known.npz", y=frames)
    known = ["known.npz", "--y", "y", "--axes", "sample,time,channel,x"]
    small = ["--model", "fno", "--steps", "2", "--batch", "4"]
    assert cli.main(["train", *known, *small, "--out", "run"]) == 0
    assert cli.main(["evaluate", "run", "--coverage", "0.6", "0.5"]) == 0
    bands = json.loads((tmp_path / "run" / "metrics.json").read_text())["bands"]
    assert list(bands) == ["0.6", "0.5"]
    assert 0 <= bands["0.5"]["coverage"] <= bands["0.6"]["coverage"] <= 1
    assert 0 < bands["0.5"]["width"] <= bands["0.6"]["width"]
    assert "bands at 0.6: hold for" in capsys.readouterr().out
    assert cli.main(["predict", "run", *known, "--steps", "2", "--band", "0.6", "--out", "f.npz"]) == 0
    assert "f-lower.npz and f-upper.npz: bounds that hold with probability 0.6" in capsys.readouterr().out
    low, middle, high = (np.load(f"f{name}.npz")["frames"] for name in ("-lower", "", "-upper"))
    assert middle.shape == (60, 2, 1, 12)
    np.testing.assert_allclose(high - middle, middle - low, atol=1e-5)
    assert np.ptp(high - low) < 1e-5
    assert cli.main(["predict", "run", *known, "--steps", "7", "--band", "0.6", "--out", "g.npz"]) == 1
    assert "Expected up to 3 predicted frames with --band" in capsys.readouterr().err
    assert cli.main(["predict", "run", *known, "--steps", "1", "--certify", "0.1", "--out", "g.npz"]) == 1
    assert "Expected an experiment whose predictions have bounds, such as darcy" in capsys.readouterr().err
    assert cli.main(["evaluate", "run", "--coverage", "0.99"]) == 1
    assert "Expected at least 99 calibration samples for the level 0.99, got" in capsys.readouterr().err


PLAIN = """
import dataclasses
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import data, experiment

@dataclasses.dataclass(frozen=True)
class Config:
    run: experiment.Training = experiment.Training(steps=1, batch=2)

PRESETS, MODELS = {"one": Config()}, {"linear": None}

def build(config):
    known = data.Pairs(np.ones((4, 1, 1), np.float32), np.ones((4, 1, 1), np.float32))
    return experiment.Experiment(
        model=eqx.nn.Linear(1, 1, key=jax.random.key(0)), optimiser=optax.sgd(1e-3), train=known, steps=1, batch=2,
        loss=lambda model, batch, keys: (jnp.mean(jax.vmap(model)(batch[0][..., 0]) ** 2), {}),
        evaluate=lambda model, pairs: {"relative_l2": 1.0}, test=known)
"""


def test_experiments_without_bands_or_members_say_what_they_lack(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text(PLAIN)
    assert cli.main(["train", "plain.py", "--out", "run"]) == 0
    assert cli.main(["evaluate", "run", "--coverage", "0.9"]) == 1
    assert "Expected an experiment with bands, and this one has no `coverage`" in capsys.readouterr().err
    assert cli.main(["train", "plain.py", "--members", "2", "--out", "more"]) == 1
    assert "this one has no `member`. Train one model (--members 1)" in capsys.readouterr().err


@pytest.mark.slow  # the same calls as above, in a benchmark
def test_a_benchmark_has_columns_of_coverage_and_width(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "darcy", "--preset", "smoke", "--models", "fno", "--epochs", "1", "--seeds", "2"]
    assert cli.main([*command, "--coverage", "0.8", "--out", "both"]) == 0
    content = json.loads((tmp_path / "both" / "benchmark.json").read_text())
    assert {"coverage_80%", "width_80%"} <= set(content["summary"][0]["test"])
    text = (tmp_path / "both" / "table.md").read_text()
    assert "coverage 80%" in text
    assert "Coverage: part of the test samples" in text
    with pytest.raises(SystemExit):
        cli.main([*command, "--coverage", "much", "--out", "both"])
    assert cli.main([*command, "--coverage", "1.5", "--out", "both"]) == 2
