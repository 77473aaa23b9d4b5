"""Hooks for trackers: the packages that they need, what they write, that nothing leaves the machine by default."""

import importlib.util
import os
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import experiment, train
from sciml.cli import main
from sciml.files import check_tree
from sciml.train import Event

CONFIG = {"model": "fno", "run": {"lr": None, "steps": [1, 2]}}
STEPS = 6


def event(step, **metrics):
    logs = {"loss": np.array([1.0, 2.0]) / step, "largest": np.array([float(step)])}
    return Event(step, STEPS, train.init(jnp.zeros(2), optax.sgd(0.1)), logs, metrics)


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.mark.parametrize(
    ("hook", "package", "extra"),
    [
        (train.tensorboard, "tensorboardX", "track"),
        (train.wandb, "wandb", "wandb"),
        (train.mlflow, "sqlalchemy", "mlflow"),
    ],
)
def test_missing_packages_are_named(hook, package, extra, monkeypatch, tmp_path):
    for variable in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(variable, "set")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'sciml-jax\[{extra}\]'"):
        hook(tmp_path / "run")


def test_tensorboard_gets_config_logs_and_metrics(monkeypatch, tmp_path):
    written = {}

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert (folder, purge_step) == (str(tmp_path), 4)

        def add_scalar(self, name, value, step):
            written[name, step] = value

        def add_text(self, name, value, step):
            written[name, step] = value

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "tensorboardX", type("module", (), {"SummaryWriter": SummaryWriter}))
    hook = train.tensorboard(tmp_path, config=CONFIG)
    hook(event(4, error=0.25))
    assert written == {
        ("config", 4): "    model: fno\n    run.lr: None\n    run.steps: [1, 2]",
        ("training/loss", 4): 0.375,
        ("training/largest", 4): 4.0,
        ("validation/error", 4): 0.25,
    }
    train.tensorboard(tmp_path)(event(4))
    assert ("config", 4) in written


class FakeRun:
    """Of wandb: what is logged, and whether the run is over; it leaves a link, as the real one does."""

    def __init__(self, folder):
        self.folder, self.logged, self.over = pathlib.Path(folder), [], False
        (self.folder / "wandb").mkdir(exist_ok=True)
        (self.folder / "wandb" / "debug.log").symlink_to("/nowhere")

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.over = True


def fake_wandb(monkeypatch):
    started = []

    def init(**options):
        started.append((options, FakeRun(options["dir"])))
        return started[-1][1]

    module = type("module", (), {"Settings": staticmethod(lambda **options: options), "init": staticmethod(init)})
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return started


def test_wandb_is_offline_unless_the_user_says_otherwise(monkeypatch, tmp_path):
    started = fake_wandb(monkeypatch)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "a" / "run"
    hook = train.wandb(folder, config=CONFIG)
    assert not folder.exists()  # before the first call nothing is written
    hook(event(2, error=0.25))
    (options, run), *_ = started
    assert (options["mode"], options["project"], options["name"]) == ("offline", "sciml", "run")
    assert (options["config"], options["dir"], run.over) == (CONFIG, str(folder), False)
    assert run.logged == [(2, {"training/loss": 0.75, "training/largest": 2.0, "validation/error": 0.25})]
    check_tree(folder)  # the link is gone
    hook(event(STEPS))
    assert (run.over, len(run.logged), len(started)) == (True, 2, 1)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    train.wandb(folder)(event(4))
    assert (started[1][0]["mode"], started[1][0]["project"]) == ("online", "mine")
    assert started[1][0]["id"] == options["id"]  # a run that goes on is the same there
    train.wandb(tmp_path / "b" / "run")(event(4))
    assert started[2][0]["id"] != options["id"]


FILE = """
import dataclasses
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import experiment

class Points:
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
    def __len__(self):
        return 8
    def __getitem__(self, rows):
        return self.x[rows]

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "linear"
    seed: int = 0
    epochs: float = 2.0

PRESETS = {"small": Config()}
MODELS = {"linear": None}

def build(config):
    return experiment.Experiment(
        model=eqx.nn.Linear(2, 1, key=jax.random.key(config.seed)),
        loss=lambda model, x, key: (jnp.mean((jax.vmap(model)(x) - x[:, :1]) ** 2), {}),
        optimiser=optax.sgd(0.1), train=Points(), steps=4, batch=4, every=2, validation=Points(), test=Points(),
        evaluate=lambda model, points: {"error": float(jnp.abs(jax.vmap(model)(points.x) - points.x[:, :1]).mean())},
        metric="error", seed=config.seed)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "quick.py"
    path.write_text(FILE)
    return path


def test_the_option_tracks_runs_and_changes_nothing_in_them(file, monkeypatch, tmp_path):
    started = fake_wandb(monkeypatch)
    assert main(["train", str(file), "--out", str(tmp_path / "plain")]) == 0
    assert started == []
    assert main(["train", str(file), "--track", "wandb", "--out", str(tmp_path / "tracked")]) == 0
    ((options, run),) = started
    log = train.read_log(tmp_path / "tracked" / "log.jsonl")
    assert [step for step, _ in run.logged] == [one["step"] for one in log]
    assert run.logged[-1][1]["validation/error"] == pytest.approx(log[-1]["validation"]["error"], rel=1e-8)
    assert options["config"] == {"model": "linear", "seed": 0, "epochs": 2.0}
    assert run.over
    kept = [experiment.read_metrics(tmp_path / name).test for name in ("plain", "tracked")]
    assert kept[0] == kept[1]
    assert experiment.load(tmp_path / "tracked").weight.shape == (1, 2)


def test_the_option_tracks_each_run_of_a_benchmark(file, monkeypatch, tmp_path):
    started = fake_wandb(monkeypatch)
    given = ["benchmark", str(file), "--models", "linear", "--epochs", "2", "--seeds", "2", "--track", "wandb"]
    assert main([*given, "--out", str(tmp_path / "out")]) == 0
    assert [options["name"] for options, _ in started] == ["linear-seed0", "linear-seed1"]
    assert [options["config"]["seed"] for options, _ in started] == [0, 1]


def test_a_missing_tracker_is_named_before_anything_is_made(file, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    for command in (["train", str(file)], ["benchmark", str(file), "--models", "linear", "--epochs", "1"]):
        assert main([*command, "--track", "tensorboard", "--out", str(tmp_path / "out")]) == 1
        assert "pip install 'sciml-jax[track]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", str(file), "--track", "paper", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@needs("tensorboardX")
def test_tensorboard_writes_into_the_folder_of_the_run(file, tmp_path):
    assert main(["train", str(file), "--track", "tensorboard", "--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out" / "tensorboard").iterdir()
    content = path.read_bytes()
    assert b"training/loss" in content
    assert b"validation/error" in content
    check_tree(tmp_path / "out")


@needs("wandb")
@pytest.mark.slow  # starts a process of its own
def test_wandb_writes_into_the_folder_of_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    hook = train.wandb(tmp_path / "run", config=CONFIG)
    for step in (2, 4, STEPS):
        hook(event(step, error=0.5))
    check_tree(tmp_path / "run")
    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert b"validation/error" in path.read_bytes()
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


@needs("mlflow", "sqlalchemy")
@pytest.mark.slow  # makes a database
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The ``noload``")
def test_mlflow_writes_into_the_folder_of_the_run_and_goes_on_there(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient

    folder = tmp_path / "run"
    first = train.mlflow(folder, config=CONFIG)
    assert not folder.exists()
    first(event(2, error=0.5))
    second = train.mlflow(folder, config=CONFIG)
    second(event(4))
    second(event(STEPS, error=0.25))
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("sciml").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {"model": "fno", "run.lr": "None", "run.steps": "[1, 2]"}
    history = client.get_metric_history(run.info.run_id, "validation/error")
    assert [(one.step, one.value) for one in history] == [(2, 0.5), (STEPS, 0.25)]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    check_tree(folder)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
