import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from rich.console import Console

from sciml import data, experiment, train
from sciml.grid import Grid

FILE = '''
"""A tiny experiment, for tests."""

import dataclasses
import pathlib
import time
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import data, experiment, train

@dataclasses.dataclass(frozen=True)
class Part:
    width: int = 8
    """Number of hidden channels."""

@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the tiny experiment."""

    model: str = "mlp"
    """One of MODELS."""
    rate: float = 1e-2
    """Learning rate at the beginning."""
    steps: int = 40
    """Number of optimiser steps."""
    part: Part = Part()
    levels: tuple[int, ...] = (1, 2)
    validate: bool = True
    patience: int | None = None
    pause: float = 0.0
    """Seconds to wait at each evaluation."""

PRESETS = {"full": Config(), "short": Config(steps=8), "bad": Config(rate=1e30)}
MODELS = {"mlp": lambda part, key: eqx.nn.MLP(2, 1, part.width, 2, activation=jax.nn.gelu, key=key)}

class Pairs:
    def __init__(self, n, seed):
        self.x = np.random.default_rng((11, seed)).normal(size=(n, 2)).astype(np.float32)
        self.y = np.sin(self.x[:, :1])
    def __len__(self):
        return len(self.x)
    def __getitem__(self, rows):
        return self.x[rows], self.y[rows]

def loss(model, batch, keys):
    x = batch[0] + 0.01 * jax.vmap(lambda key: jax.random.normal(key, batch[0].shape[1:]))(keys)
    return jnp.mean((jax.vmap(model)(x) - batch[1]) ** 2), {}

def build(config):
    def evaluate(model, pairs):
        time.sleep(config.pause)
        error = train.predict(model, pairs.x) - pairs.y
        return {"error": np.sqrt(np.mean(error**2)), "largest": abs(error).max()}

    def figures(models, folder):
        (folder / "note.txt").write_text(" ".join(models))

    schedule = optax.cosine_decay_schedule(config.rate, config.steps)
    optimiser = optax.chain(optax.inject_hyperparams(optax.adam)(schedule), train.ema(0.9))
    return experiment.Experiment(
        model=MODELS[config.model](config.part, jax.random.key(0)), loss=loss, optimiser=optimiser,
        train=Pairs(60, 0), steps=config.steps, batch=12, evaluate=evaluate,
        test=lambda resolution: Pairs(10 if resolution is None else resolution, 2),
        validation=Pairs(20, 1) if config.validate else None, metric="error", every=4, save_seconds=0.0,
        figures=figures,
        patience=config.patience, seed=1,
        at_resolution=lambda model, resolution: (model, f"sampled at {resolution}"),
    )
'''

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def module(file):
    loaded = experiment.load_file(file)
    yield loaded
    del sys.modules[loaded.__name__]


def run(module, folder, config=None, **changes):
    """Runs the short preset; returns its metrics and what it printed."""
    stream = io.StringIO()
    config = dataclasses.replace(config or module.PRESETS["short"], **changes)
    console = Console(file=stream, width=300)
    return experiment.run_file(module, config, folder, console=console), stream.getvalue()


def command(file, folder, *options):
    """A training process; the options come after the file."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    arguments = [sys.executable, "-m", "sciml", "train", str(file), *options, "--out", str(folder)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process, folder, step):
    deadline = time.monotonic() + 90
    while not (folder / "checkpoints" / str(step)).is_dir():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_leaves_everything_in_its_folder(module, tmp_path):
    folder = tmp_path / "run"
    metrics, printed = run(module, folder)
    names = {"config.json", "run.json", "model.json", "log.jsonl", "metrics.json", "checkpoints", "figures", ".lock"}
    assert {path.name for path in folder.iterdir()} == names
    assert experiment.read_metrics(folder).as_json() == metrics
    assert set(metrics) == {"model", "parameters", "seconds", "train_seconds", "steps", "checkpoint", "test"}
    assert (metrics["model"], metrics["steps"]) == ("mlp", 8)
    assert metrics["parameters"] == 2 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert set(metrics["test"]) == {"error", "largest"}
    config = json.loads((folder / "config.json").read_text())
    assert config["part"] == {"width": 8}
    assert config["levels"] == [1, 2]
    started = json.loads((folder / "run.json").read_text())
    assert started["experiment"] == module.__file__
    assert started["starts"][0]["versions"]["jax"] == jax.__version__
    assert started["starts"][0]["device"]["platform"] == jax.default_backend()
    log = train.read_log(folder / "log.jsonl")
    assert [record["step"] for record in log] == list(range(1, 9))
    assert [record["step"] for record in log if "validation" in record] == [4, 8]
    assert log[0]["learning_rate"] == pytest.approx(1e-2)
    assert "step 8/8" in printed
    assert (folder / "figures" / "losses.png").exists()
    assert (folder / "figures" / "note.txt").read_text() == "mlp"


def test_a_finished_run_says_so_and_does_nothing(module, tmp_path):
    before, _ = run(module, tmp_path / "run")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    after, printed = run(module, tmp_path / "run")
    assert after == before
    assert "is finished: error" in printed
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == times


def test_the_model_is_loaded_in_one_line_without_the_experiment_file(module, file, tmp_path):
    metrics, _ = run(module, tmp_path / "run")
    file.unlink()
    model = experiment.load(tmp_path / "run")
    data = module.Pairs(10, 2)
    error = np.sqrt(np.mean((jax.vmap(model)(data.x) - data.y) ** 2))
    np.testing.assert_allclose(error, metrics["test"]["error"], rtol=1e-5)  # another batch size rounds differently


def test_the_config_of_a_run_comes_back(module, tmp_path):
    run(module, tmp_path / "run", steps=7)
    assert experiment.read_config(tmp_path / "run", module).steps == 7
    with pytest.raises(FileNotFoundError):
        experiment.read_config(tmp_path, module)


def test_the_best_on_the_validation_data_is_tested_or_the_last_without_them(module, tmp_path):
    unstable = {"rate": 0.3, "steps": 40}
    metrics, _ = run(module, tmp_path / "best", **unstable)
    log = train.read_log(tmp_path / "best" / "log.jsonl")
    errors = {record["step"]: record["validation"]["error"] for record in log if "validation" in record}
    assert metrics["checkpoint"] == min(errors, key=lambda step: errors[step])
    metrics, _ = run(module, tmp_path / "last", validate=False, **unstable)
    assert metrics["checkpoint"] == 40
    assert not any("validation" in record for record in train.read_log(tmp_path / "last" / "log.jsonl"))


def test_a_run_ends_early_without_improvement(module, tmp_path):
    metrics, _ = run(module, tmp_path / "run", steps=400, rate=0.0, patience=2)
    assert metrics["steps"] == 12  # the first evaluation and two without improvement


def test_other_resolutions_are_added_to_the_metrics(module, tmp_path):
    before, _ = run(module, tmp_path / "run")
    after = experiment.evaluate(tmp_path / "run", [5, 10])
    assert {name: after[name] for name in before} == before
    assert after["resolutions"]["5"]["note"] == "sampled at 5"
    assert after["resolutions"]["5"]["error"] != before["test"]["error"]
    # resolution 10 makes the very pairs of the test
    assert after["resolutions"]["10"]["error"] == pytest.approx(before["test"]["error"], rel=1e-5)
    assert experiment.read_metrics(tmp_path / "run").as_json() == after


def test_an_experiment_is_run_without_a_file_and_refuses_other_data(module, tmp_path):
    mine, folder = module.build(module.PRESETS["short"]), tmp_path / "run"
    stream = io.StringIO()
    metrics = experiment.run(mine, folder, console=Console(file=stream, width=300))
    assert "run: MLP, 105 parameters, trains on 60 samples of shape (2,), (1,)" in stream.getvalue()
    assert experiment.run(mine, folder, console=Console(file=io.StringIO())) == metrics
    other = module.Pairs(60, 0)
    other.x = other.x.copy()
    other.x[7, 1] += 1e-3
    message = r"run was started with other training data: sha256 \w+, now \w+\. Use another folder"
    with pytest.raises(ValueError, match=message):
        experiment.run(dataclasses.replace(mine, train=other), folder)
    with pytest.raises(ValueError, match=r"was started with steps=8, now steps=9; use another folder"):
        experiment.run(dataclasses.replace(mine, steps=9), folder)
    with pytest.raises(ValueError, match=r"was not made from an experiment file\. Give the file"):
        experiment.evaluate(folder)


def test_an_experiment_of_one_resolution_refuses_others(module, file, tmp_path):
    run(module, tmp_path / "run")
    file.write_text(
        FILE.replace("test=lambda resolution: Pairs(10 if resolution is None else resolution, 2)", "test=Pairs(10, 2)")
    )
    with pytest.raises(ValueError, match=r"have one resolution, got 5\. Evaluate without a resolution"):
        experiment.evaluate(tmp_path / "run", (5,), file=file)


def test_an_experiment_without_bounds_certifies_nothing(module, tmp_path):
    run(module, tmp_path / "run")
    with pytest.raises(ValueError, match="has no `certify`: the errors of its predictions have no bound"):
        experiment.evaluate(tmp_path / "run", certify=[1e-2])


def test_a_test_function_that_ignores_the_resolution_is_noticed(module, tmp_path):
    mine = module.build(module.PRESETS["short"])
    pairs = data.Pairs(np.ones((3, 1, 8, 8)), np.ones((3, 1, 8, 8)), grid=Grid((8, 8)))
    ignoring = dataclasses.replace(mine, test=lambda resolution: pairs)
    from sciml.experiment._definition import held_out

    assert held_out(ignoring, 8) is pairs
    with pytest.raises(ValueError, match=r"at the resolution 16, got a grid of 8 x 8 points: Experiment\.test ignored"):
        held_out(ignoring, 16)


def test_other_settings_make_other_test_data(module, tmp_path):
    before, _ = run(module, tmp_path / "run")
    after = experiment.evaluate(tmp_path / "run", conditions=({"width": 8}, {"levels": (3,), "pause": 0.01}))
    assert set(after["conditions"]) == {"width=8", "levels=(3,) pause=0.01"}
    assert after["conditions"]["width=8"] == pytest.approx(before["test"], rel=1e-5)
    with pytest.raises(ValueError, match=r"Expected settings of model, rate, .*, got depth"):
        experiment.evaluate(tmp_path / "run", conditions=({"depth": 8},))


def test_predictions_belong_to_the_experiment(module, file, tmp_path):
    run(module, tmp_path / "run")
    with pytest.raises(ValueError, match=r"has no `predict`, so that it predicts nothing from files"):
        experiment.prediction(tmp_path / "run")
    hook = """
@dataclasses.dataclass(frozen=True)
class Options:
    times: int = 2
def apply(model, path, out, options):
    return [str(model(jnp.asarray(np.loadtxt(path))) * options.times)]
"""
    text = FILE.replace("def build(config):", f"{hook}\ndef build(config):")
    file.write_text(text.replace("figures=figures,", "figures=figures, predict=experiment.Prediction(Options, apply),"))
    (tmp_path / "x.txt").write_text("1.0 2.0")
    found, model = experiment.prediction(tmp_path / "run", file=file)
    lines = found.apply(model, tmp_path / "x.txt", tmp_path, found.options(times=3))
    assert lines == [str(model(jax.numpy.asarray([1.0, 2.0])) * 3)]


def test_an_experiment_file_may_have_the_name_of_a_module(file):
    for name in ("json", "numpy"):
        other = file.with_name(f"{name}.py")
        other.write_text(FILE)
        before = sys.modules[name]
        loaded = experiment.load_file(other)
        assert sys.modules[name] is before
        assert loaded.build(loaded.Config(steps=2)).steps == 2


def test_a_folder_of_another_config_is_refused(module, tmp_path):
    folder = tmp_path / "run"
    run(module, folder)
    other = {"rate": 5e-4, "part": module.Part(9), "levels": (1,)}
    message = (
        r"run was started with rate=0.01, part.width=8, levels=\[1, 2\], now rate=0.0005, part.width=9, levels=\[1\]"
    )
    with pytest.raises(ValueError, match=message + "; use another folder"):
        run(module, folder, **other)


def test_a_folder_with_other_files_is_refused(module, tmp_path):
    with pytest.raises(ValueError, match=r"holds other files \((__pycache__, )?tiny\.py\)\. Use another folder"):
        run(module, tmp_path)
    with pytest.raises(ValueError, match=r"tiny\.py is a file\. Give a folder"):
        run(module, tmp_path / "tiny.py")
    (tmp_path / "empty").mkdir()
    run(module, tmp_path / "empty")


def test_folders_that_are_no_finished_run_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a run: it has no run\.json"):
        experiment.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a run: it has no run\.json"):
        experiment.evaluate(tmp_path)
    (tmp_path / "run.json").write_text('{"experiment": null, "metric": null, "starts": []}')
    with pytest.raises(ValueError, match=r"is not finished\. Run its command again first"):
        experiment.evaluate(tmp_path)


def test_a_moved_experiment_file_is_named(module, file, tmp_path):
    run(module, tmp_path / "run")
    file.rename(tmp_path / "moved.py")
    with pytest.raises(FileNotFoundError, match=r"The experiment file .*tiny\.py of .* is gone\. Name another one"):
        experiment.evaluate(tmp_path / "run")
    assert experiment.evaluate(tmp_path / "run", [5], file=tmp_path / "moved.py")["resolutions"]


def test_divergence_names_step_rate_and_last_checkpoint(module, tmp_path):
    message = r"The loss is (nan|inf) at step \d, learning rate 9.98459e\+29\. .* There is no checkpoint yet"
    with pytest.raises(FloatingPointError, match=message):
        run(module, tmp_path / "run", module.PRESETS["bad"])
    build = module.build

    def broken(config):
        built = build(config)
        poisoned = module.Pairs(60, 0)
        poisoned.x = np.where(np.arange(60)[:, None] == module_row, np.nan, poisoned.x)
        return dataclasses.replace(built, train=poisoned)

    from sciml.data import rows

    seen = [set(rows(60, 12, 1, k).tolist()) for k in range(5)]
    module_row = next(iter(seen[4]))  # first used in step 5, after the checkpoint of step 4
    module.build = broken
    message = r"The loss is nan at step 5, .* The last finite checkpoint is of step 4 in .*checkpoints"
    with pytest.raises(FloatingPointError, match=message):
        run(module, tmp_path / "poisoned")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PRESETS = {}", r"has no Config, MODELS, build\. See the docstring"),
        ("Config = int\nPRESETS = {'a': 'b'}\nMODELS = {}\nbuild = print", "must map at least one name to a Config"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path, text, message):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        experiment.load_file(tmp_path / "broken.py")
    (tmp_path / "data.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match="is not a Python file"):
        experiment.load_file(tmp_path / "data.txt")


def test_configs_survive_json():
    from sciml.experiment._folder import from_json, to_json

    @dataclasses.dataclass(frozen=True)
    class Config:
        path: pathlib.Path
        sizes: tuple[int, ...] | None
        pair: tuple[float, str]
        width: int | tuple[int, int]
        signal: signal.Signals

    for config in (
        Config(pathlib.Path("a/b"), (1, 2), (1.0, "x"), 3, signal.SIGINT),
        Config(pathlib.Path("c"), None, (2.0, "y"), (3, 4), signal.SIGTERM),
    ):
        assert from_json(Config, json.loads(json.dumps(to_json(config)))) == config
    with pytest.raises(ValueError, match="A Config holds numbers"):
        to_json(object())


def test_saved_settings_find_their_place_in_the_config():
    from sciml.experiment._folder import config_from_json, to_json

    @dataclasses.dataclass(frozen=True)
    class Solver:
        tolerance: float = 1e-3

    @dataclasses.dataclass(frozen=True)
    class Config:
        run: experiment.Training = experiment.Training()
        solver: Solver | None = None
        weights: dict[str, float] = dataclasses.field(default_factory=dict)

    config = Config(experiment.Training(steps=3, lr=0.1), Solver(1e-6), {"u": 2.0, "steps": 5.0})
    assert config_from_json(Config, json.loads(json.dumps(to_json(config)))) == config
    flat = {"rate": 0.5, "batch": 7}  # of an earlier version, without groups
    assert config_from_json(Config, flat) == Config(experiment.Training(batch=7, lr=0.5))
    with pytest.raises(ValueError, match=r"made with the settings depth, which the Config .* does not know"):
        config_from_json(Config, {"batch": 7, "depth": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "Expected --batch from 1 to 100000000, a whole number, got 0"),
        ({"epochs": 0}, "Expected --epochs above 0 and up to 2147483647, got 0"),
        ({"epochs": float("inf")}, "Expected --epochs above 0 .*, got inf"),
        ({"epochs": 1e9}, r"Expected up to 2147483647 optimiser steps, got 6250000000 for --epochs 1000000000\.0"),
        ({"steps": -1}, "Expected --steps from 1 .*, got -1"),
        ({"steps": 2**31}, "Expected --steps from 1 .*, got 2147483648"),
        ({"lr": float("nan")}, "Expected --lr above 0, got nan"),
        ({"seed": 2**32}, "Expected --seed from 0 to 4294967295, a whole number, got 4294967296"),
    ],
)
def test_a_training_without_steps_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        experiment.Training(**settings).steps_for(100)


def test_steps_cover_the_epochs_and_stand_in_for_them():
    assert experiment.Training(epochs=1.5, batch=16).steps_for(100) == 10  # 9.4 batches
    assert experiment.Training(epochs=1.5, steps=3).steps_for(100) == 3


@pytest.mark.slow  # starts three processes; tests/train/test_checkpoint.py resumes bit for bit within one
def test_a_killed_run_goes_on_and_ends_bit_for_bit_where_an_uninterrupted_one_ends(file, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = command(file, whole)
    process = command(file, killed, "--pause", "0.15")
    wait_for_checkpoint(process, killed, 8)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert uninterrupted.communicate()[1] == ""
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "metrics.json").exists()
    seconds = [record["seconds"] for record in train.read_log(killed / "log.jsonl")]
    again = command(file, killed, "--pause", "0.15")
    printed, errors = again.communicate()
    assert (again.returncode, errors) == (0, "")
    assert "goes on at step" in printed
    log = train.read_log(killed / "log.jsonl")
    assert [record["step"] for record in log] == list(range(1, 41))
    kept = [record["seconds"] for record in log]
    assert kept == sorted(kept)
    assert kept[:8] == seconds[:8]
    one, other = (experiment.load(folder) for folder in (whole, killed))
    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(first, second)
    losses = [[record["loss"] for record in train.read_log(folder / "log.jsonl")] for folder in (whole, killed)]
    assert losses[0] == losses[1]
    assert len(json.loads((killed / "run.json").read_text())["starts"]) == 2


def test_an_interrupt_leaves_a_run_that_goes_on_and_says_so(file, tmp_path):
    folder = tmp_path / "run"
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    process = command(file, folder, "--pause", "0.3")
    signal.signal(signal.SIGINT, inherited)
    wait_for_checkpoint(process, folder, 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Interrupted. The last saved checkpoint is of step" in errors
    assert "Run the same command again to go on." in errors
    assert "Traceback" not in errors


def test_a_run_that_is_asked_to_end_is_saved_and_goes_on(file, tmp_path):
    folder = tmp_path / "run"
    process = command(file, folder, "--pause", "0.3")
    wait_for_checkpoint(process, folder, 4)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    step = int(re.search(r"is saved; the same command goes on at step (\d+)", " ".join(printed.split()))[1])
    assert step >= 4
    assert (folder / "checkpoints" / str(step)).is_dir()
    assert not (folder / "metrics.json").exists()
