"""Run folders that were damaged, tampered with, or are in use: nothing is wrong silently, and nothing is executed."""

import dataclasses
import errno
import io
import json
import pathlib
import shutil
import subprocess
import sys
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from sciml import data, experiment, train
from sciml.files import Damaged, locked

FILE = """
import dataclasses
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import data, experiment, train

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "mlp"
    rate: float = 1e-2

PRESETS = {"short": Config()}
MODELS = {"mlp": lambda key: eqx.nn.MLP(1, 1, 8, 1, activation=jnp.tanh, key=key)}

def pairs(n, seed):
    x = np.random.default_rng(seed).uniform(-1, 1, (n, 1, 1)).astype(np.float32)
    return data.Pairs(x, np.sin(3 * x))

def loss(model, batch, keys):
    return jnp.mean((jax.vmap(model)(batch[0][..., 0]) - batch[1][..., 0]) ** 2), {}

def evaluate(model, pairs):
    return {"rmse": float(np.sqrt(np.mean((train.predict(model, pairs.x[..., 0]) - pairs.y[..., 0]) ** 2)))}

def figures(models, folder):
    folder.mkdir(exist_ok=True)
    (folder / "note.txt").write_text(" ".join(models))

def build(config):
    return experiment.Experiment(
        model=MODELS[config.model](jax.random.key(0)), loss=loss, optimiser=optax.adam(config.rate),
        train=pairs(40, 0), validation=pairs(10, 1), test=pairs(10, 2), evaluate=evaluate, metric="rmse",
        steps=6, batch=10, every=2, save_seconds=0.0, figures=figures)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment file, its module and a finished run of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.py").write_text(FILE)
    module = experiment.load_file(folder / "small.py")
    experiment.run_file(module, module.Config(), folder / "run", console=Console(file=io.StringIO()))
    return folder / "small.py", module, folder / "run"


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the run that a test may damage."""
    shutil.copytree(made[2], tmp_path / "run")
    return tmp_path / "run"


def weights(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


def go_on(module, folder, **options):
    stream = io.StringIO()
    experiment.run_file(module, module.Config(), folder, console=Console(file=stream, width=300), **options)
    return stream.getvalue()


def flip(path, byte, bit=0):
    content = bytearray(path.read_bytes())
    content[byte % len(content)] ^= 1 << bit
    path.write_bytes(content)


def array_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name in ("d", "model"))


def test_every_flipped_bit_of_a_checkpoint_is_noticed(copied):
    step = experiment.read_metrics(copied).checkpoint
    checkpoint = copied / "checkpoints" / str(step)
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.parent != checkpoint]
    files.append(checkpoint / "SHA256SUMS")
    rng = np.random.default_rng(0)
    before = weights(experiment.load(copied))
    for path in files:
        content = path.read_bytes()
        flip(path, int(rng.integers(len(content))), int(rng.integers(8)))
        with pytest.raises(Damaged, match=str(checkpoint)):
            experiment.load(copied)
        path.write_bytes(content)
    for one, other in zip(before, weights(experiment.load(copied)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_or_an_additional_file_of_a_checkpoint_is_noticed(copied):
    step = experiment.read_metrics(copied).checkpoint
    checkpoint = copied / "checkpoints" / str(step)
    shutil.copytree(checkpoint / "model", checkpoint / "average")  # would be taken for the mean of the parameters
    with pytest.raises(Damaged, match=r"average/\S+ is not among the files of SHA256SUMS"):
        experiment.load(copied)
    shutil.rmtree(checkpoint / "average")
    (checkpoint / "metrics" / "metrics").unlink()  # once, another checkpoint was returned then
    with pytest.raises(Damaged, match="metrics/metrics is missing"):
        experiment.load(copied)
    (copied / "metrics.json").unlink()
    with pytest.raises(Damaged, match=r"metrics/metrics is missing\. The last intact checkpoint is of step \d"):
        experiment.load(copied)


def test_a_checkpoint_under_the_number_of_another_one_is_noticed(copied):
    checkpoints = copied / "checkpoints"
    for name, new in (("4", "aside"), ("6", "4"), ("aside", "6")):
        (checkpoints / name).rename(checkpoints / new)
    with pytest.raises(Damaged, match=r"checkpoints/\d is the checkpoint of another step, see .*STEP\. No other"):
        experiment.load(copied)


def test_a_damaged_checkpoint_prints_nothing_beside_its_error(copied):
    code = f"from sciml import experiment; experiment.load({str(copied)!r})"
    step = experiment.read_metrics(copied).checkpoint
    flip(max(array_files(copied / "checkpoints" / str(step)), key=lambda path: path.stat().st_size), 300)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("sciml.files._plain.Damaged: ")
    assert len(lines) < 20  # the traceback of this call alone


def test_a_run_goes_on_from_the_last_good_checkpoint(made, copied, tmp_path):
    _, module, reference = made
    (copied / "metrics.json").unlink()
    flip(max(array_files(copied / "checkpoints" / "6"), key=lambda path: path.stat().st_size), 200)
    with pytest.raises(Damaged, match=r"checkpoint is of step 4\. Go on from there with --from 4 \(start=4 in"):
        go_on(module, copied)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 5 in .*, only \[4, 6\]"):
        go_on(module, copied, start=5)
    with pytest.raises(Damaged, match=r"checkpoints/6/.* is damaged"):
        go_on(module, copied, start=6)
    printed = go_on(module, copied, start=4)
    assert "goes on from step 4; the checkpoints 6 are in set_aside/" in printed
    assert (copied / "set_aside" / "6").is_dir()
    for one, other in zip(weights(experiment.load(reference)), weights(experiment.load(copied)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_of_version_0_1_goes_on_and_gets_digests(made, copied):
    for path in copied.rglob("SHA256SUMS"):
        path.unlink()
    for path in copied.glob("*.json"):
        content = json.loads(path.read_text())
        for name in ("sha256", "format"):
            content.pop(name, None)
        path.write_text(json.dumps(content["model"] if path.name == "model.json" else content))
    lines = [json.loads(line) for line in (copied / "log.jsonl").read_text().splitlines()]
    (copied / "log.jsonl").write_text("".join(json.dumps({**one, "sha256": 0}) + "\n" for one in lines))
    (copied / "log.jsonl").write_text((copied / "log.jsonl").read_text().replace(', "sha256": 0', ""))
    before = weights(experiment.load(copied))
    (copied / "metrics.json").unlink()
    shutil.rmtree(copied / "checkpoints" / "6")
    assert "goes on at step 4" in go_on(made[1], copied)
    assert all((step / "SHA256SUMS").exists() for step in (copied / "checkpoints").iterdir() if step.name != ".removed")
    assert len(train.read_log(copied / "log.jsonl")) == len(lines)
    for one, other in zip(before, weights(experiment.load(copied)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_without_an_intact_checkpoint_has_nowhere_to_go_on_from(made, copied):
    (copied / "metrics.json").unlink()
    for step in (copied / "checkpoints").iterdir():
        flip(step / "SHA256SUMS", 10)
    with pytest.raises(Damaged, match=r"No other is intact\.$") as found:
        go_on(made[1], copied)
    assert found.value.good is None


@pytest.mark.parametrize("name", ["run.json", "model.json", "config.json", "metrics.json"])
def test_damaged_json_files_are_named(made, copied, name):
    _, module, _ = made
    rng = np.random.default_rng(1)
    content = (copied / name).read_bytes()
    expected = json.loads(content)
    calls = {"config.json": lambda: experiment.read_config(copied, module)}
    read = calls.get(name, lambda: (experiment.load(copied), experiment.read_metrics(copied)))
    for _ in range(40):
        (copied / name).write_bytes(content)
        flip(copied / name, int(rng.integers(len(content))), int(rng.integers(8)))
        try:
            same = json.loads((copied / name).read_bytes()) == expected  # a blank for another one changes nothing
        except ValueError:
            same = False
        if not same:
            with pytest.raises((Damaged, ValueError), match=name.replace(".", r"\.")):
                read()
    for text in ("[1", '{"steps": []}', "[" * 100_000, "\xff", ""):
        (copied / name).write_text(text, encoding="latin-1")
        with pytest.raises((Damaged, ValueError), match=name.replace(".", r"\.")):
            read()


def test_texts_that_are_no_unicode_are_refused(copied):
    content = json.loads((copied / "metrics.json").read_text()) | {"test": "\ud800"}
    del content["sha256"]
    (copied / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"metrics\.json holds something else than expected: .*surrogates"):
        experiment.read_metrics(copied)


def test_a_damaged_line_of_the_log_loses_itself_alone(made, copied):
    before = train.read_log(copied / "log.jsonl")
    lines = (copied / "log.jsonl").read_text().splitlines(keepends=True)
    for damaged in ("{garbage\n", lines[1].replace("0.", "1.", 1), '{"step": 2}\n', "\x00\n"):
        (copied / "log.jsonl").write_text("".join([lines[0], damaged, *lines[2:]]))
        with pytest.warns(UserWarning, match=r"Line 2 of .*log\.jsonl is damaged and left out"):
            assert train.read_log(copied / "log.jsonl") == [before[0], *before[2:]]
    (copied / "log.jsonl").write_text("".join([lines[0], *lines]))
    with pytest.warns(UserWarning, match=r"Line 2 of .*log\.jsonl is damaged and left out"):
        assert train.read_log(copied / "log.jsonl") == before
    (copied / "log.jsonl").write_text("".join(lines) + lines[0][:20])  # cut off by a kill
    assert train.read_log(copied / "log.jsonl") == before


def test_a_folder_in_use_is_refused(made, copied):
    _, module, _ = made
    (copied / "metrics.json").unlink()
    code = f"""
import pathlib, sys
from sciml.files import locked
with locked(pathlib.Path({str(copied)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError, match=rf"run is in use by process {holder.pid} since 20.*Wait until it ends"):
        go_on(module, copied)
    holder.kill()  # a killed process holds nothing
    holder.communicate()
    assert "goes on at step 6" in go_on(module, copied)


def test_a_failed_start_leaves_no_folder(made, tmp_path):
    _, module, _ = made
    mine = module.build(module.Config())
    complex_model = eqx.nn.Linear(1, 1, key=jax.random.key(0), dtype=jnp.complex64)
    for change in ({"model": lambda x: x}, {"model": complex_model}):
        with pytest.raises(ValueError, match=r"Expected real parameters|has no name"):
            experiment.run(dataclasses.replace(mine, **change), tmp_path / "new")
        assert not (tmp_path / "new").exists(), change


def test_links_in_a_run_folder_are_refused(made, copied, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text((copied / "metrics.json").read_text())
    for name in ("metrics.json", "log.jsonl", "figures"):
        path = copied / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(secret)
        with pytest.raises(ValueError, match=f"{name} is a symbolic link, which could lead anywhere"):
            experiment.load(copied)
        with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
            go_on(made[1], copied)
        path.unlink()


def planted(path):
    """An experiment file that notes its execution."""
    path.write_text(f"import pathlib\npathlib.Path({str(path)!r} + '.executed').touch()\n{FILE}")
    return path


def executed(path):
    return pathlib.Path(f"{path}.executed").exists()


def test_code_is_executed_with_consent_alone(made, copied, tmp_path):
    file, _, _ = made
    calls = (
        lambda **named: experiment.evaluate(copied, **named),
        lambda **named: experiment.compare([copied], tmp_path / "out", **named),
        lambda **named: experiment.prediction(copied, **named),
    )

    def pointed_at(path, digest):
        content = json.loads((copied / "run.json").read_text())
        content |= {"experiment": str(path), "digest": digest}
        content.pop("sha256", None)
        (copied / "run.json").write_text(json.dumps(content))

    from sciml.files import digest_of

    inside, outside = planted(copied / "own.py"), planted(tmp_path / "evil.py")
    for path, digest, message in (
        (inside, digest_of(inside), "own.py, a file inside of the run folder. If you trust it, name it: --file"),
        (outside, None, "evil.py, which is not recorded with its digest"),
        (outside, "0" * 64, "evil.py, which is not the file that made the run"),
    ):
        pointed_at(path, digest)
        for call in calls:
            with pytest.raises(PermissionError, match=message):
                call()
        assert not executed(path)
    pointed_at("evil.py\n", "0" * 64)
    with pytest.raises(ValueError, match=r"run\.json names 'evil\.py\\n' as the experiment file\. Give the file\."):
        experiment.evaluate(copied)
    with pytest.raises(ValueError, match="has no `predict`"):
        experiment.prediction(copied, file=outside)  # named, hence executed
    assert executed(outside)
    pointed_at(file, digest_of(file))
    assert experiment.evaluate(copied)["test"]


def test_functions_that_an_experiment_file_imports_are_not_the_runs(made, copied):
    content = json.loads((copied / "model.json").read_text())
    assert content["model"]["class"] == "equinox.nn.MLP"
    content["model"]["fields"]["activation"] = {"name": "shutil.rmtree"}
    del content["sha256"]
    (copied / "model.json").write_text(json.dumps(content))
    module = made[1]
    module.rmtree = shutil.rmtree
    try:
        from sciml.experiment._trained import load_with

        with pytest.raises(ValueError, match=r"shutil\.rmtree, which is not in the table"):
            load_with(copied, module)
    finally:
        del module.rmtree


def small(**changes):
    pairs = data.Pairs(np.ones((8, 1, 1), np.float32), np.ones((8, 1, 1), np.float32))
    return experiment.Experiment(
        **{
            "model": eqx.nn.Linear(1, 1, key=jax.random.key(0)),
            "loss": lambda model, batch, keys: (jnp.mean(jax.vmap(model)(batch[0][..., 0]) ** 2), {}),
            "optimiser": optax.sgd(0.1),
            "train": pairs,
            "test": pairs,
            "validation": pairs,
            "evaluate": lambda model, known: {"error": 1.0},
            "metric": "error",
            "steps": 4,
            "batch": 4,
            "every": 2,
            **changes,
        }
    )


def test_metrics_that_are_missing_or_not_finite_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"Expected the metric rmse from `evaluate`, .* got error\. Set Experiment"):
        experiment.run(small(metric="rmse"), tmp_path / "missing")
    with pytest.raises(FloatingPointError, match=r"error was not finite in any of 2 evaluations, .* of step 4"):
        experiment.run(small(evaluate=lambda model, known: {"error": float("nan")}), tmp_path / "nan")
    never = lambda model, known: {"error": 1.0, "other": float("inf")}
    with pytest.raises(FloatingPointError, match=r"The test error other of .*inf is inf\. .* model is kept"):
        experiment.run(small(evaluate=never), tmp_path / "inf")
    assert isinstance(experiment.load(tmp_path / "inf"), eqx.nn.Linear)
    assert not (tmp_path / "inf" / "metrics.json").exists()


def test_a_run_is_finished_after_its_figures_alone(tmp_path):
    calls = []

    def figures(models, folder):
        calls.append(folder)
        assert not (folder.parent / "metrics.json").exists()
        if len(calls) == 1:
            raise RuntimeError("killed while drawing")

    with pytest.raises(RuntimeError, match="killed"):
        experiment.run(small(figures=figures), tmp_path / "run")
    assert experiment.run(small(figures=figures), tmp_path / "run")["test"] == {"error": 1.0}
    assert len(calls) == 2


def test_other_precision_is_refused_and_other_devices_are_noted(tmp_path, capsys):
    experiment.run(small(), tmp_path / "run")
    with jax.enable_x64(True):
        with pytest.raises(
            ValueError, match=r"was made without 64-bit numbers, now they are on\. Set JAX_ENABLE_X64=0"
        ):
            experiment.load(tmp_path / "run")
        experiment.run(small(), tmp_path / "double")
    with pytest.raises(ValueError, match=r"was made with 64-bit numbers, now they are off\. Set JAX_ENABLE_X64=1"):
        experiment.load(tmp_path / "double")
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    content["starts"][0]["device"]["count"] = 7
    del content["sha256"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    (tmp_path / "run" / "metrics.json").unlink()
    experiment.run(small(), tmp_path / "run")
    assert f"goes on with {jax.local_device_count()} devices, before with 7" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", without)
    message = r"could not be locked \(No locks available\)\. Use a folder on another file system"
    with pytest.raises(OSError, match=message), locked(tmp_path):
        pass


def test_locks_end_with_their_block(tmp_path):
    with locked(tmp_path), pytest.raises(BlockingIOError, match="in use by process"), locked(tmp_path):
        pass
    with locked(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("error")
