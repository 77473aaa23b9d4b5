import contextlib
import csv
import dataclasses
import io
import json
import math
import pathlib
import re
import sys

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from sciml import benchmark, experiment, train
from sciml.benchmark import _benchmark
from sciml.benchmark._board import Board
from sciml.benchmark._calibration import fitted, measure
from sciml.benchmark._report import curve, spread
from sciml.benchmark._table import table
from sciml.cli import main
from sciml.files import read_json
from sciml.parallel import Cut, Layout
from sciml.train import _loop

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
SAMPLES, BATCH = 20, 8

FILE = '''
"""A tiny experiment, for tests of benchmarks."""

import dataclasses, pathlib, time
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import experiment, train

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "narrow"
    epochs: float = 2.0
    rate: float = 1e-2
    seed: int = 0
    validate: bool = True
    folder: str = "."

PRESETS = {"small": Config()}
MODELS = {"narrow": 4, "wide": 9, "broken": 4, "diverging": 4, "quick": 4, "slow": 4}
PAUSE = {"quick": 1 / 128, "slow": 1 / 32}  # sums are exact
sleep = time.sleep

class Pairs:
    def __init__(self, n, seed):
        self.x = np.random.default_rng((5, seed)).normal(size=(n, 2)).astype(np.float32)
        self.y = np.sin(self.x[:, :1])
    def __len__(self):
        return len(self.x)
    def __getitem__(self, rows):
        return self.x[rows], self.y[rows]

def build(config):
    if config.model == "broken" and not pathlib.Path(config.folder, "repaired").exists():
        raise RuntimeError("out of memory\\nallocating 5 GiB")

    def wait(x):
        sleep(PAUSE[config.model])
        return np.float32(0)

    def loss(model, batch, keys):
        error = jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2)
        if config.model in PAUSE:
            error += jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.float32), batch[0])
        return error, {}

    def evaluate(model, pairs):
        error = train.predict(model, pairs.x) - pairs.y
        return {"error": np.sqrt(np.mean(error**2)), "largest": abs(error).max()}

    rate = 1e30 if config.model == "diverging" else config.rate
    steps = int(np.ceil(config.epochs * 20 / 8))
    network = eqx.nn.MLP(2, 1, MODELS[config.model], 1, activation=jax.nn.gelu, key=jax.random.key(config.seed))
    return experiment.Experiment(
        model=network, loss=loss, optimiser=optax.inject_hyperparams(optax.adam)(rate), train=Pairs(20, 0),
        steps=steps, batch=8, evaluate=evaluate,
        test=lambda resolution: Pairs(7, 2), validation=Pairs(5, 1) if config.validate else None, metric="error",
        every=max(2, steps // 4), seed=config.seed)
'''


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "small.py"
    path.write_text(FILE)
    loaded = experiment.load_file(path)
    yield loaded
    del sys.modules[loaded.__name__]


def compared(module, out, models=("narrow", "wide"), seeds=2, *, budget=None, target=None, **changes):
    """The content of benchmark.json and what was printed."""
    stream = io.StringIO()
    plan = benchmark.Plan(module, module.Config(**changes), models, seeds, budget, target)
    return benchmark.benchmark(plan, out, console=Console(file=stream, width=200)), stream.getvalue()


@pytest.fixture(scope="module")
def finished(module, tmp_path_factory):
    """A benchmark of two models with two seeds: its folder, its result, what it printed."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    return out, *compared(module, out)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_terminal_has_the_errors_that_fit_and_names_the_others(finished):
    content = json.loads(json.dumps(finished[1]))  # a copy
    names = [f"error_{i}" for i in range(9)]
    for one in content["summary"]:
        found = next(iter(one["test"].values()))
        one["test"] = dict.fromkeys(names, found)
    stream = io.StringIO()
    Console(file=stream, width=80).print(table(content))
    shown = " ".join(stream.getvalue().split())  # the line below the table may wrap
    assert "…" not in shown
    left = [name for name in names if name.replace("_", " ") in shown.partition("In table.md:")[2]]
    assert 1 < len(left) < len(names)
    assert left == names[-len(left) :]
    for one in content["summary"]:
        one["test"] = {}
    assert table(content).caption is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("300", 300), ("300s", 300), ("5m", 300), ("1.5h", 5400), (".5 m", 30), ("90.s", 90)]
)
def test_durations(text, seconds):
    assert benchmark.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5d", "m", "-5s", "0", "1e3", "5m 3s", "five"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"Expected a positive time such as 300s, 5m or 1\.5h, got "):
        benchmark.duration(text)


def test_targets():
    assert benchmark.target("relative_l2=2e-2") == ("relative_l2", 0.02)
    for text in ("relative_l2", "=1", "error=small", "error=nan"):
        with pytest.raises(ValueError, match=r"Expected the name and the value of an error, such as relative_l2=0\.02"):
            benchmark.target(text)


def test_seeds_are_the_outer_loop_so_that_a_cut_benchmark_has_complete_rounds(module):
    plan = benchmark.Plan(module, module.Config(seed=4), ("wide", "narrow"), 2)
    assert plan.runs == [(4, "wide"), (4, "narrow"), (5, "wide"), (5, "narrow")]


def test_a_layout_is_a_condition_of_a_benchmark(module):
    plan = benchmark.Plan(module, module.Config(), ("wide",))
    assert "layout" not in plan.settings()  # as in benchmarks of versions that knew no other
    other = dataclasses.replace(plan, layout=Layout(space=(2, 2), state=Cut()))
    assert other.settings() == {**plan.settings(), "layout": "space=2x2,state=cut"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("narrow", "fno")}, r"Expected models of .*small\.py \(narrow, wide, .*\), got fno"),
        ({"models": ()}, r"Expected models of .*, got none"),
        ({"models": ("wide", "wide")}, "Expected each model once, got wide, wide"),
        ({"seeds": 0}, "Expected at least 1 seed, got 0"),
        ({"budget": -1.0}, r"Expected a budget of more than 0 seconds, got -1\.0"),
    ],
)
def test_wrong_plans_are_refused(module, changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark.Plan(**({"module": module, "config": module.Config(), "models": ("narrow",)} | changes))


def test_a_config_without_handles_is_refused(tmp_path):
    path = tmp_path / "bare.py"
    head = "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Config:\n    model: str = 'a'\n"
    tail = "PRESETS = {'one': Config()}\nMODELS = {'a': 1}\nbuild = print\n"
    path.write_text(head + tail)
    with pytest.raises(ValueError, match=r"the Config of .*bare\.py has no seed, epochs\. Add the field, or"):
        benchmark.check_fields(experiment.load_file(path))
    path.write_text(head + "    seed: int = 0\n    epochs: int = 3\n" + tail)
    bare = experiment.load_file(path)
    benchmark.Plan(bare, bare.Config(), ("a",))
    with pytest.raises(ValueError, match=r"Config\.epochs of .*bare\.py is no float\. Make it one"):
        benchmark.Plan(bare, bare.Config(), ("a",), budget=3.0)


def test_all_runs_have_equal_epochs_and_their_own_folder(finished):
    out, content, printed = finished
    assert [run["run"] for run in content["runs"]] == ["narrow-seed0", "wide-seed0", "narrow-seed1", "wide-seed1"]
    for run in content["runs"]:
        log = train.read_log(out / run["run"] / "log.jsonl")
        assert (run["steps"], run["epochs"], log[-1]["step"]) == (5, 5 * BATCH / SAMPLES, 5)  # 2 epochs of 2.5 steps
        config = json.loads((out / run["run"] / "config.json").read_text())
        assert f"{config['model']}-seed{config['seed']}" == run["run"]
        assert run["training_seconds"] == log[-1]["training_seconds"] <= log[-1]["seconds"]
        assert run["seconds_per_epoch"] == pytest.approx(run["training_seconds"] / 2)
        assert run["failure"] is run["of_budget"] is None
    assert "step" not in printed.split("small.py")[0]  # no progress where there is no terminal


def test_the_statistics_are_those_of_numpy(finished):
    out, content, printed = finished
    for one, width in zip(content["summary"], (4, 9), strict=True):
        metrics = [json.loads((out / f"{one['model']}-seed{k}" / "metrics.json").read_text()) for k in (0, 1)]
        for name in ("error", "largest"):
            values = np.array([found["test"][name] for found in metrics])
            np.testing.assert_allclose(one["test"][name]["mean"], values.mean(), rtol=1e-12)
            np.testing.assert_allclose(one["test"][name]["std"], values.std(ddof=1), rtol=1e-12)
            assert f"{values.mean():#.3g}±{values.std(ddof=1):.2g}" in printed
        assert one["parameters"] == 2 * width + width + width + 1
        assert (one["finished"], one["failures"]) == (2, {})
    assert spread([]) is None
    assert spread([3.0]) == {"mean": 3.0, "std": None}


def test_every_run_reaches_the_default_target_and_its_time_is_the_first_one(finished):
    out, content, _ = finished
    last = {}
    for run in content["runs"]:
        records = [one for one in train.read_log(out / run["run"] / "log.jsonl") if "validation" in one]
        assert [one["step"] for one in records] == [2, 4, 5]
        last[run["run"]] = records[-1]["validation"]["error"]
        first = next(one for one in records if one["validation"]["error"] <= content["target"]["value"])
        assert run["seconds_to_target"] == first["training_seconds"]
    assert content["target"] == {"metric": "error", "value": max(last.values()), "given": False}
    assert all(one["reached_target"] == 2 for one in content["summary"])


def test_the_first_dispatch_counts_like_the_mean_where_the_log_gives_it_no_time():
    log = [{"step": step, "training_seconds": time} for step, time in ((1, 0.0), (2, 1.0), (4, 3.0))]
    log = [{**one, "validation": {"error": value}} for one, value in zip(log, (5.0, None, 2.0), strict=True)]
    assert curve(log, "error") == [(0.75, 5.0), (3.0, 2.0)]


def test_json_and_csv_hold_the_same_runs(finished):
    out, content, _ = finished
    assert read_json(out / "benchmark.json") == content
    with (out / "benchmark.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line, run in zip(lines, content["runs"], strict=True):
        for name in ("run", "model"):
            assert line[name] == run[name]
        for name in ("seed", "parameters", "steps", "epochs", "training_seconds", "seconds_to_target"):
            assert float(line[name]) == run[name]
        assert float(line["test_error"]) == run["test"]["error"]
        assert float(line["validation_largest"]) == run["validation"]["largest"]
        assert line["failure"] == line["of_budget"] == ""
    assert {"platform", "kind", "count"} == set(content["device"])
    assert content["versions"]["jax"] == jax.__version__
    assert content["settings"]["rate"] == 0.01
    assert not {"model", "seed"} & set(content["settings"])
    markdown = (out / "table.md").read_text()
    assert "| wide | 37 | " in markdown
    assert "small.py, 2 epochs, 2 seeds." in markdown


def test_figures_are_drawn(finished):
    out, _, _ = finished
    for name in ("accuracy_cost.png", "losses.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_a_finished_benchmark_trains_nothing_again_and_grows_by_models_and_seeds(module, finished):
    out, content, _ = finished
    runs = {path for path in out.iterdir() if path.is_dir()}
    before = {path: times(path) for path in runs}
    again, printed = compared(module, out)
    assert (again["runs"], again["summary"]) == (content["runs"], content["summary"])
    assert printed.count("is finished") == 4
    compared(module, out, ("narrow",), 3)
    assert {path: times(path) for path in runs} == before
    assert {path.name for path in out.iterdir() if path.is_dir()} - {path.name for path in runs} == {"narrow-seed2"}


def test_a_cut_benchmark_goes_on(module, tmp_path, monkeypatch):
    trained, original = [], experiment.run_file

    def cut(module, config, folder, **options):
        if len(trained) == 3:
            raise KeyboardInterrupt("Run the same command again to go on.")
        trained.append(folder.name)
        return original(module, config, folder, **options)

    monkeypatch.setattr(experiment, "run_file", cut)
    with pytest.raises(KeyboardInterrupt):
        compared(module, tmp_path / "out")
    assert [run["run"] for run in json.loads((tmp_path / "out" / "benchmark.json").read_text())["runs"]] == trained
    monkeypatch.setattr(experiment, "run_file", original)
    content, printed = compared(module, tmp_path / "out")
    assert printed.count("is finished") == 3
    assert [one["finished"] for one in content["summary"]] == [2, 2]


def test_other_settings_and_other_files_are_refused(module, finished, tmp_path):
    out, _, _ = finished
    with pytest.raises(ValueError, match=r"was started with epochs=2\.0, now epochs=3\.0; use another folder"):
        compared(module, out, epochs=3.0)
    with pytest.raises(ValueError, match=r"budget=None, epochs=2\.0, rate=0\.01, now budget=9\.0, epochs=None, rate="):
        compared(module, out, budget=9.0, rate=0.5)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(note\.txt\)"):
        compared(module, tmp_path)


def test_a_failing_model_does_not_lose_the_others_and_is_tried_again(module, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = ("--models", "broken", "diverging", "narrow", "--seeds", "1")
    command = ("benchmark", str(module.__file__), *models, "--epochs", "2", "--out", "out")
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "2 of 3 runs failed, the same command tries them again:" in captured.err
    assert "broken-seed0: RuntimeError: out of memory\n" in captured.err
    assert re.search(r"diverging-seed0: FloatingPointError: The loss is (nan|inf) at step \d", captured.err)
    content = json.loads(pathlib.Path("out/benchmark.json").read_text())
    assert [one["finished"] for one in content["summary"]] == [0, 0, 1]
    assert content["runs"][0]["failure"] == "RuntimeError: out of memory"
    assert "allocating 5 GiB" in pathlib.Path("out/broken-seed0.failure.txt").read_text()
    assert "| broken |  |  |  |  |  |  |  |  | 1 of 1 |" in pathlib.Path("out/table.md").read_text()
    assert "- broken-seed0 failed: RuntimeError: out of memory" in pathlib.Path("out/table.md").read_text()
    with pathlib.Path("out/benchmark.csv").open(newline="") as file:
        assert [line["failure"][:12] for line in csv.DictReader(file)] == ["RuntimeError", "FloatingPoin", ""]
    pathlib.Path("repaired").touch()
    before = times(pathlib.Path("out/narrow-seed0"))
    assert main(command) == 1
    assert "1 of 3 runs failed" in capsys.readouterr().err
    assert not pathlib.Path("out/broken-seed0.failure.txt").exists()
    assert times(pathlib.Path("out/narrow-seed0")) == before


def test_a_benchmark_of_failures_alone_ends_without_figures(module, tmp_path):
    content, printed = compared(module, tmp_path / "out", ("broken",), 1, folder=str(tmp_path))
    assert content["target"] is None
    assert "broken" in printed
    assert not list((tmp_path / "out").glob("*.png"))


class Clock:
    """Time that passes in steps of the slow and the quick model alone, so that what is measured is known."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(module, monkeypatch):
    found = Clock()
    monkeypatch.setattr(module, "sleep", found.sleep)
    monkeypatch.setattr(_loop, "time", found)
    return found


def test_a_budget_gives_all_models_the_same_time(module, tmp_path, clock):
    budget = 0.8
    content, printed = compared(module, tmp_path / "out", ("slow", "quick"), 1, budget=budget)
    known = read_json(tmp_path / "out" / "calibration.json")
    for run, pause in zip(content["runs"], (1 / 32, 1 / 128), strict=True):
        found = known[run["model"]]
        assert found["seconds_per_step"] == pause  # compilation, the data and the hooks are not in it
        assert found["timed_steps"] >= 3
        assert run["steps"] == found["steps"] == int(budget / found["seconds_per_step"])
        assert f"{run['model']}: {1000 * found['seconds_per_step']:.4g} ms a step, {run['steps']} steps" in printed
        assert run["of_budget"] == run["training_seconds"] / budget
        assert run["training_seconds"] == pytest.approx(run["steps"] * pause, abs=5e-4)  # rounded to milliseconds
    before = times(tmp_path / "out" / "slow-seed0")
    again, _ = compared(module, tmp_path / "out", ("slow", "quick"), 1, budget=budget)
    assert again["runs"] == content["runs"]
    assert times(tmp_path / "out" / "slow-seed0") == before
    assert read_json(tmp_path / "out" / "calibration.json") == known
    with pytest.raises(ValueError, match=r"started with budget=0\.8, now budget=0\.9; use another folder"):
        compared(module, tmp_path / "out", ("slow",), 1, budget=0.9)


def test_the_shorter_of_two_times_counts_and_a_failure_of_the_second_is_one_of_the_model(module, tmp_path, monkeypatch):
    times = iter([1 / 4, 1 / 16, 1 / 16])  # narrow, wide, narrow again; then wide fails

    def measured(made, budget, layout):
        try:
            return {"steps_per_epoch": SAMPLES / BATCH, "step_bytes": None, "seconds_per_step": next(times)}
        except StopIteration:
            raise RuntimeError("no memory is left") from None

    monkeypatch.setattr(_benchmark, "measure", measured)
    content, printed = compared(module, tmp_path / "out", seeds=1, budget=1.0)
    assert [(run["model"], run["steps"]) for run in content["runs"] if not run["failure"]] == [("narrow", 16)]
    assert "62.5 ms a step, 16 steps" in printed
    assert content["runs"][1]["failure"] == "RuntimeError: no memory is left"
    assert not (tmp_path / "out" / "wide-seed0").exists()


def test_steps_are_timed_at_the_cadence_at_which_a_run_looks_at_its_losses(module, clock):
    built = dataclasses.replace(module.build(module.Config(model="quick")), every=20)
    found = measure(built, 0.5)  # 64 steps; the log has a line each 2 or more steps
    assert found["timed_steps"] >= 6
    assert found["timed_steps"] % 2 == 0
    assert found["seconds_per_step"] == 1 / 128


def test_a_budget_of_a_few_steps_is_refused(module, tmp_path, clock):
    message = r"at least 10 steps, but slow takes 0\.0312 s for one and makes 3 in 0\.1 s\. Give 0\.312 s or more"
    with pytest.raises(ValueError, match=message):
        compared(module, tmp_path / "out", ("slow",), 1, budget=0.1)
    assert not (tmp_path / "out" / "slow-seed0").exists()


@pytest.mark.parametrize("rounding", [math.ceil, round])
def test_the_epochs_of_a_budget_make_its_number_of_steps(rounding):
    for per_epoch in (0.3, 2.5, 62.5, 1000 / 3, 12345.0):
        for steps in (10, 11, 137, 50001):
            found = fitted("any", {"seconds_per_step": 0.5, "steps_per_epoch": per_epoch}, 0.5 * steps)
            assert (found["steps"], rounding(found["epochs"] * per_epoch)) == (steps, steps)


def test_the_memory_of_a_step_holds_state_and_data(module):
    """Against the sizes of all arrays; temporaries of these models are smaller than 8 activations of the batch."""
    for model in ("narrow", "wide"):
        built = module.build(module.Config(model=model))
        state = train.init(built.model, built.optimiser)
        size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))
        least = size(state) + sum(array.nbytes for array in built.train[np.arange(SAMPLES)])
        found = measure(built, None)
        assert least < found["step_bytes"] < least + 8 * 4 * BATCH * 2 * module.MODELS[model] + 4096
        assert found["steps_per_epoch"] == SAMPLES / BATCH


def test_a_target_is_given_or_refused(module, finished):
    out, content, _ = finished
    value = content["target"]["value"]
    given, printed = compared(module, out, target=("largest", 1e-6))
    assert given["target"] == {"metric": "largest", "value": 1e-6, "given": True}
    assert [one["reached_target"] for one in given["summary"]] == [0, 0]
    assert "(2 never)" in printed
    given, _ = compared(module, out, target=("error", value))
    assert [run["seconds_to_target"] for run in given["runs"]] == [run["seconds_to_target"] for run in content["runs"]]
    message = r"The target rmse is no validation error of .*narrow-seed0, only error, largest would be\. Finished runs"
    with pytest.raises(ValueError, match=message):
        compared(module, out, target=("rmse", 0.1))


def test_without_validation_there_is_no_target(module, tmp_path):
    content, printed = compared(module, tmp_path / "out", ("narrow",), 1, validate=False)
    assert content["target"] is None
    assert content["runs"][0]["seconds_to_target"] is content["runs"][0]["validation"] is None
    assert "target" not in printed
    assert (tmp_path / "out" / "accuracy_cost.png").exists()


def test_the_board_has_a_line_per_model_on_a_terminal_and_none_elsewhere():
    state = train.init(np.zeros(2, np.float32), optax.sgd(0.1))
    event = lambda step: train.Event(step, 10, state, {"loss": np.full(2, 0.5)}, {"error": 0.25})
    for terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=100, height=30, color_system=None)
        with Board(("narrow", "wide"), 2, console) as board, board.progress_of("wide", 1)("wide-seed1") as show:
            show(event(4))
            show(event(6))
            board.say("narrow", "failed", 2)
        printed = stream.getvalue()
        assert ("seed 2/2  step 6/10" in printed) == terminal
        assert bool(re.search(r"0:00:\d\d left  loss 0\.5  error 0\.25", printed)) == terminal
        assert bool(re.search(r"narrow .*failed", printed)) == terminal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "1", "--budget", "5m"), "Expected either --budget TIME, equal training time, or --epochs N"),
        ((), "Expected either --budget TIME"),
        (("--budget", "5d"), "Expected a positive time such as 300s, 5m or 1.5h, got '5d'"),
        (("--epochs", "1", "--models", "fno"), "narrow, wide, broken, diverging, quick, slow), got fno"),
        (("--epochs", "1", "--seeds", "0"), "Expected at least 1 seed, got 0"),
        (("--epochs", "1", "--model", "wide"), "Give --models NAME ... instead of --model"),
        (("--epochs", "1", "--target", "small"), "Expected the name and the value of an error"),
        (("--epochs", "1", "--preset", "huge"), "There is no preset 'huge'"),
        (("--epochs", "1", "--mesh", "space=a"), "--mesh space=a: Expected words like data=8"),
    ],
)
def test_wrong_command_lines_are_named(module, tmp_path, capsys, options, message):
    command = ["benchmark", str(module.__file__), "--out", str(tmp_path / "out"), *options]
    assert main(command if "--models" in options else [*command, "--models", "narrow"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_help_names_the_options_and_the_fields(module, capsys):
    with contextlib.suppress(SystemExit):
        main(["benchmark", str(module.__file__), "--help"])
    printed = capsys.readouterr().out
    for part in ("--models", "--budget", "--seeds", "--target", "--epochs", "--rate"):
        assert part in printed
    assert main(["benchmark"]) == 2


@pytest.mark.slow  # the other tests benchmark a small experiment in the same way
def test_a_benchmark_of_the_darcy_experiment(tmp_path):
    module = experiment.load_file(EXPERIMENTS / "darcy.py")
    config = experiment.with_settings(module.PRESETS["smoke"], {"data": str(tmp_path / "data")})
    plan = benchmark.Plan(module, config, ("fno",), seeds=1)
    content = benchmark.benchmark(plan, tmp_path / "out", console=Console(file=io.StringIO()))
    (run,), (one,) = content["runs"], content["summary"]
    assert (run["steps"], run["epochs"]) == (3, 1)
    assert {name: found["mean"] for name, found in one["test"].items()} == run["test"]
    assert set(run["test"]) == {"relative_l2", "relative_h1"}
