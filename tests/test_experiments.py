"""The smoke presets of the experiment files: train, evaluate elsewhere, load, compare."""

import dataclasses
import io
import json
import pathlib

import jax
import numpy as np
import pytest
from rich.console import Console

from sciml import comparison, experiment
from sciml.operators import Resampled

EXPERIMENTS = pathlib.Path(__file__).resolve().parent.parent / "experiments"


def finished(file, folder, **changes):
    module = experiment.load_file(EXPERIMENTS / file)
    config = dataclasses.replace(module.PRESETS["smoke"], **changes)
    console = Console(file=io.StringIO())
    return experiment.run(module.build, config, folder, file=EXPERIMENTS / file, console=console)


@pytest.fixture(scope="module")
def darcy_runs(tmp_path_factory):
    where = tmp_path_factory.mktemp("darcy")
    for model in ("mgno", "fno"):
        finished("darcy.py", where / model, model=model, data=str(where / "data"))
        experiment.evaluate(where / model, (16, 8))
    return where


@pytest.mark.parametrize(("model", "note"), [("mgno", "resampled"), ("fno", "native")])
def test_darcy_trains_and_says_how_it_was_evaluated(darcy_runs, model, note):
    metrics = json.loads((darcy_runs / model / "metrics.json").read_text())
    assert metrics["model"] == model
    assert set(metrics["test"]) == {"relative_l2", "relative_h1"}
    # the resolution of the training data is the test itself
    assert metrics["resolutions"]["16"]["relative_l2"] == pytest.approx(metrics["test"]["relative_l2"], rel=1e-5)
    assert metrics["resolutions"]["16"]["note"].startswith("native")
    assert metrics["resolutions"]["8"]["note"].startswith(note)
    figures = {path.name for path in (darcy_runs / model / "figures").iterdir()}
    assert figures == {"losses.png", "predictions.png", "resolutions.png"}
    x = jax.random.normal(jax.random.key(0), (1, 16, 16))
    assert np.isfinite(experiment.load(darcy_runs / model)(x)).all()


def test_compare_draws_all_runs_and_writes_their_table(darcy_runs, tmp_path):
    stream = io.StringIO()
    folders = [darcy_runs / "mgno", darcy_runs / "fno"]
    rows = comparison.compare(folders, tmp_path / "out", console=Console(file=stream, width=200))
    assert [row["run"] for row in rows] == ["mgno", "fno"]
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == rows
    for row in rows:
        assert f"{row['test']['relative_l2']:.4f}" in stream.getvalue()
        assert f"{row['resolutions']['8']['relative_l2']:.4f}" in stream.getvalue()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"table.json", "losses.png", "predictions.png", "resolutions.png"}


def test_compare_refuses_what_it_cannot_compare_and_leaves_nothing(darcy_runs, tmp_path):
    with pytest.raises(ValueError, match="at least one finished run"):
        comparison.compare([], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        comparison.compare([darcy_runs / "mgno", tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_darcy_refuses_a_resolution_that_the_solver_does_not_hold(darcy_runs):
    with pytest.raises(ValueError, match=r"of which 12 are not an equally spaced part\. Give a divisor"):
        experiment.evaluate(darcy_runs / "fno", (12,))


def test_the_small_darcy_set_at_both_resolutions(published_data, tmp_path):
    finished("darcy_small.py", tmp_path / "run", model="fno", data=str(published_data))
    metrics = experiment.evaluate(tmp_path / "run", (16, 32))
    assert set(metrics["resolutions"]) == {"16", "32"}
    assert metrics["test"]["relative_l2"] < 0.8  # below 1, the error of the prediction zero, after 8 steps
    module = experiment.load_file(EXPERIMENTS / "darcy_small.py")
    config = dataclasses.replace(module.PRESETS["smoke"], data=str(published_data))
    built = module.build(config)
    model, note = built.at_resolution(built.model, 32)
    assert isinstance(model, Resampled)
    assert note.startswith("resampled")
    assert np.isfinite(model(jax.numpy.asarray(built.test(32).x[0]))).all()
