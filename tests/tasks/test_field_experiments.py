"""The smoke presets of the experiment files: train, evaluate elsewhere, load, compare."""

import dataclasses
import functools
import io
import json
import pathlib

import jax
import numpy as np
import pytest
from rich.console import Console

from sciml import data, experiment, pdes, tasks, uq
from sciml.cli import main
from sciml.data import Pairs
from sciml.operators import Resampled

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"


def finished(file, folder, **changes):
    module = experiment.load_file(EXPERIMENTS / file)
    config = experiment.with_settings(module.PRESETS["smoke"], changes)
    return experiment.run_file(module, config, folder, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def darcy_runs(tmp_path_factory):
    where = tmp_path_factory.mktemp("darcy")
    for model in ("mgno", "fno"):
        train_darcy(where, model)
    return where


def train_darcy(where, model):
    finished("darcy.py", where / model, model=model, data=str(where / "data"))
    experiment.evaluate(where / model, (16, 8))


UNET = pytest.param("unet", "resampled", marks=pytest.mark.slow)  # as mgno


@pytest.mark.parametrize(("model", "note"), [("mgno", "resampled"), ("fno", "native"), UNET])
def test_darcy_trains_and_says_how_it_was_evaluated(darcy_runs, model, note):
    if model == "unet":
        train_darcy(darcy_runs, model)
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


def test_predictions_of_darcy_are_certified(darcy_runs, capsys):
    assert main(["evaluate", str(darcy_runs / "mgno"), "--certify", "100", "1e-6"]) == 0
    assert "certified 1e-06" in " ".join(capsys.readouterr().out.split())
    found = experiment.read_metrics(darcy_runs / "mgno").conditions
    assert found["certified 100"]["accepted"] == 1  # an error of 100 times the pressure is kept by any model
    assert found["certified 100"]["iterations"] == 0
    assert found["certified 1e-06"]["accepted"] == 0
    assert 3 < found["certified 1e-06"]["iterations"] < 60
    assert 0 < found["certified 1e-06"]["bound"] <= 1e-6
    with pytest.raises(ValueError, match="Expected a tolerance of at least"):
        experiment.evaluate(darcy_runs / "mgno", certify=[1e-20])


def test_written_fields_keep_a_tolerance(darcy_runs, capsys, monkeypatch):
    config = experiment.load_file(EXPERIMENTS / "darcy.py").PRESETS["smoke"]
    data.generate(config.problem, darcy_runs / "own.h5", n=3, seed=5)
    known = data.read(darcy_runs / "own.h5")
    call = ["predict", str(darcy_runs / "fno"), str(darcy_runs / "own.h5"), "--certify", "1e-6"]
    assert main([*call, "--out", str(darcy_runs / "kept.npz")]) == 0
    assert "0 of 3 predictions accepted, the others corrected by the solver" in capsys.readouterr().out
    kept = np.load(darcy_runs / "kept.npz")["frames"]
    np.testing.assert_allclose(kept[:, 0], known.y, atol=3e-6 * np.abs(known.y).max())  # both in single precision
    assert main([*call, "--band", "0.5", "--out", str(darcy_runs / "both.npz")]) == 1
    assert "Expected --band or --certify, got both" in capsys.readouterr().err
    monkeypatch.setattr(uq, "certify_all", functools.partial(missing, uq.certify_all))
    assert main([*call, "--out", str(darcy_runs / "missed.npz")]) == 1
    assert "The solver did not reach --certify 1e-06 for 1 of 3 samples. Nothing was written" in capsys.readouterr().err
    assert not (darcy_runs / "missed.npz").exists()


def missing(certify, *arguments):
    """Certificates of which the last one was not met, as after the largest number of iterations."""
    found = certify(*arguments)
    found.bound[-1], found.field[-1] = np.inf, np.nan
    return found


def test_problems_without_a_bound_are_not_certified():
    fields = Pairs(np.ones((2, 1, 8, 8), np.float32), np.ones((2, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match="store every cell"):
        tasks.Guarantee(pdes.Darcy(resolution=16, every=2))(lambda x: x, fields, 1e-2)
    with pytest.raises(ValueError, match="MultiscaleDarcy have no rigorous bound"):
        tasks.Guarantee(pdes.MultiscaleDarcy(resolution=15))(lambda x: x, fields, 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mgno", "fno"])
def test_a_run_with_other_activations_has_almost_the_errors_of_the_plain_one(darcy_runs, model, tmp_path):
    plain = json.loads((darcy_runs / model / "metrics.json").read_text())["test"]["relative_l2"]
    data = str(darcy_runs / "data")
    for changes, tolerance in (({"rematerialise": True}, 1e-4), ({"precision": "bfloat16"}, 0.05)):
        folder = tmp_path / next(iter(changes))
        finished("darcy.py", folder, model=model, data=data, **changes)
        found = json.loads((folder / "metrics.json").read_text())["test"]["relative_l2"]
        assert found == pytest.approx(plain, rel=tolerance)  # rounding: of float32, of 8 bits in a run of three steps
    x = jax.random.normal(jax.random.key(0), (1, 16, 16))
    assert np.isfinite(experiment.load(folder)(x)).all()


def test_compare_draws_all_runs_and_writes_their_table(darcy_runs, tmp_path):
    stream = io.StringIO()
    folders = [darcy_runs / "mgno", darcy_runs / "fno"]
    rows = experiment.compare(folders, tmp_path / "out", console=Console(file=stream, width=200))
    assert [row["run"] for row in rows] == ["mgno", "fno"]
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == rows
    for row in rows:
        assert f"{row['test']['relative_l2']:.4f}" in stream.getvalue()
        assert f"{row['resolutions']['8']['relative_l2']:.4f}" in stream.getvalue()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"table.json", "losses.png", "predictions.png", "resolutions.png"}


def test_compare_refuses_what_it_cannot_compare_and_leaves_nothing(darcy_runs, tmp_path):
    with pytest.raises(ValueError, match="at least one finished run"):
        experiment.compare([], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        experiment.compare([darcy_runs / "mgno", tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_darcy_refuses_a_resolution_that_the_solver_does_not_hold(darcy_runs):
    with pytest.raises(ValueError, match=r"of which 12 are not an equally spaced part\. Give a divisor"):
        experiment.evaluate(darcy_runs / "fno", (12,))


def test_darcy_moves_training_samples_on_the_grid_of_the_solver(tmp_path):
    module = experiment.load_file(EXPERIMENTS / "darcy.py")
    problem = module.Darcy(resolution=16, every=2)
    changes = {"problem": problem, "data": str(tmp_path), "samples": (8, 2, 2)}
    plain, moving = (
        module.build(experiment.with_settings(module.PRESETS["smoke"], changes | {"symmetries": value}))
        for value in (False, True)
    )
    fine, stored = moving.train[np.arange(8)], plain.train[np.arange(8)]
    assert fine[0].shape == (8, 1, 16, 16)
    np.testing.assert_array_equal(fine[0][:, :, ::2, ::2], stored[0])
    keys = jax.random.split(jax.random.key(0), 1)
    moved = [np.rot90(array, k, axes=(2, 3)) for array in fine for k in range(4)]
    batches = [(moved[k], moved[4 + k]) for k in range(4)] + [
        (np.swapaxes(moved[k], 2, 3), np.swapaxes(moved[4 + k], 2, 3)) for k in range(4)
    ]
    known = [float(plain.loss(plain.model, (x[:1, :, ::2, ::2], y[:1, :, ::2, ::2]), keys)[0]) for x, y in batches]
    assert len({round(value, 5) for value in known}) == 8
    for seed in range(3):
        batch = tuple(jax.numpy.asarray(array[:1]) for array in fine)
        value = float(moving.loss(plain.model, batch, jax.random.split(jax.random.key(seed), 1))[0])
        assert min(abs(value - other) for other in known) < 1e-5


@pytest.mark.slow  # trains and resamples as the Darcy runs above; tests/data reads the published files
def test_the_small_darcy_set_at_both_resolutions(published_data, tmp_path):
    finished("darcy_small.py", tmp_path / "run", model="fno", data=str(published_data))
    metrics = experiment.evaluate(tmp_path / "run", (16, 32))
    assert set(metrics["resolutions"]) == {"16", "32"}
    assert metrics["test"]["relative_l2"] < 0.8  # below 1, the error of the prediction zero, after 8 steps
    module = experiment.load_file(EXPERIMENTS / "darcy_small.py")
    built = module.build(experiment.with_settings(module.PRESETS["smoke"], {"data": str(published_data)}))
    model, note = built.at_resolution(built.model, 32)
    assert isinstance(model, Resampled)
    assert note.startswith("resampled")
    assert np.isfinite(model(jax.numpy.asarray(built.test(32).x[0]))).all()


@pytest.mark.parametrize(
    ("file", "model", "metrics"),
    [
        ("navier_stokes.py", "mgno", {"relative_l2", "each_frame", "first_frame"}),
        # as darcy.py, with other data
        pytest.param("burgers.py", "fno", {"relative_l2", "relative_h1"}, marks=pytest.mark.slow),
        pytest.param("helmholtz.py", "mgno", {"relative_l2", "relative_h1"}, marks=pytest.mark.slow),
    ],
)
def test_the_smoke_preset_trains_and_draws(file, model, metrics, tmp_path):
    finished(file, tmp_path / "run", model=model, data=str(tmp_path / "data"))
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(found["test"]) == metrics
    assert np.isfinite(list(found["test"].values())).all()
    assert (tmp_path / "run" / "figures" / "predictions.png").stat().st_size > 10_000


@pytest.mark.slow  # as the smoke preset, with other figures
def test_the_map_of_burgers_to_the_last_time_is_drawn_as_lines(tmp_path):
    module = experiment.load_file(EXPERIMENTS / "burgers.py")
    problem = dataclasses.replace(module.PRESETS["smoke"].problem, frames=1)
    finished("burgers.py", tmp_path / "run", model="fno", problem=problem, physics=0.0, data=str(tmp_path / "data"))
    assert (tmp_path / "run" / "figures" / "predictions.png").stat().st_size > 10_000


def test_the_published_burgers_pairs(published_data, tmp_path):
    module = experiment.load_file(EXPERIMENTS / "burgers.py")
    changes = {"model": "fno", "samples": (64, 16, 32), "epochs": 2, "data": str(published_data)}
    built = module.build(experiment.with_settings(module.PRESETS["published"], changes))
    assert built.train.x.shape == (64, 1, 17, 16)
    np.testing.assert_array_equal(built.train.x[:, :, 3], built.train.y[:, :, 0])
    experiment.run(built, tmp_path / "run", console=Console(file=io.StringIO()))
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["test"]["relative_l2"] < 0.8  # below 1, the error of the prediction zero, after 7 steps


@pytest.mark.parametrize("preset", ["paper-smooth", "paper-rough", "paper-rough20", "paper-multiscale"])
def test_the_paper_presets_of_darcy_have_the_published_sizes(preset):
    module = experiment.load_file(EXPERIMENTS / "darcy.py")
    config = module.PRESETS[preset]
    problem = module.problem(config)
    assert problem.grid.shape == ((211,) * 2 if preset == "paper-smooth" else (256,) * 2)
    make = functools.partial(module.MODELS[config.model].make, 1, 1, grid=problem.grid)
    model = jax.eval_shape(lambda key: make(key=key), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(model)) == (678_093 if preset == "paper-smooth" else 572_661)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("darcy.py", {"recipe": "other"}, "Expected a recipe of ours, published, got 'other'"),
        ("darcy.py", {"normalise": "none"}, "Expected statistics of channel, point, output, got 'none'"),
        ("darcy.py", {"model": "resnet"}, "Expected a model of mgno, .*, got 'resnet'"),
        ("navier_stokes.py", {"horizon": 9}, "1 frames seen and 9 predicted need 10, the problem has 4"),
        ("navier_stokes.py", {"recipe": "other"}, "Expected a recipe of ours, published, got 'other'"),
        ("navier_stokes.py", {"model": "resnet"}, "Expected a model of mgno, .*, got 'resnet'"),
        ("burgers.py", {"model": "resnet"}, "Expected a model of mgno, .*, got 'resnet'"),
        ("helmholtz.py", {"model": "resnet"}, "Expected a model of mgno, .*, got 'resnet'"),
    ],
)
def test_wrong_settings_are_refused(file, changes, message, tmp_path):
    module = experiment.load_file(EXPERIMENTS / file)
    config = experiment.with_settings(module.PRESETS["smoke"], {"data": str(tmp_path), **changes})
    with pytest.raises(ValueError, match=message):
        module.build(config)


def test_published_pairs_that_do_not_fit_the_problem_are_refused(published_data):
    module = experiment.load_file(EXPERIMENTS / "burgers.py")
    config = experiment.with_settings(module.PRESETS["smoke"], {"published": True, "data": str(published_data)})
    with pytest.raises(ValueError, match=r"hold \(frames, points\) \(16, 16\), the problem \(4, 16\)"):
        module.build(config)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_setting_is_an_option_of_its_own(path, capsys):
    """The command line prints the help of each file, which needs names that are unique over nested settings."""
    with pytest.raises(SystemExit) as end:
        main(["train", str(path), "--help"])
    assert end.value.code == 0
    assert "--seed" in capsys.readouterr().out


def test_a_setting_that_is_named_twice_is_refused(tmp_path):
    text = """
import dataclasses
@dataclasses.dataclass(frozen=True)
class Inner:
    size: int = 1
@dataclasses.dataclass(frozen=True)
class Config:
    problem: Inner = Inner()
    size: int = 2
PRESETS = {"full": Config()}
MODELS = {}
def build(config): ...
"""
    (tmp_path / "twice.py").write_text(text)
    with pytest.raises(ValueError, match=r"more than one field size, .*Rename the Config's own"):
        experiment.load_file(tmp_path / "twice.py")
