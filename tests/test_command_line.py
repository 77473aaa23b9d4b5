import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from sciml import data, experiment
from sciml.cli import _info, _process, main
from sciml.cli._options import experiment_file, packaged_experiments

ROOT = pathlib.Path(__file__).resolve().parent.parent

FILE = '''
"""A quick experiment, for tests of the command line."""

import dataclasses
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import experiment

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "linear"
    """One of MODELS."""
    rate: float = 1e-2
    """Learning rate, constant."""
    steps: int = 4
    """Number of optimiser steps."""
    size: float = 1.0
    """Of the test points."""

@dataclasses.dataclass(frozen=True)
class Options:
    """Apply the linear map to each row of a CSV file."""
    digits: int = 3
    """Digits after the point."""

def apply(model, path, out, options):
    y = jax.vmap(model)(np.loadtxt(path, delimiter=",", dtype=np.float32))
    out.mkdir()
    np.savetxt(out / "y.csv", y, fmt=f"%.{options.digits}f")
    return [f"{len(y)} rows"]

PRESETS = {"small": Config(), "large": Config(steps=6)}
MODELS = {"linear": lambda: eqx.nn.Linear(2, 1, key=jax.random.key(0))}

class Points:
    def __init__(self, size=1.0):
        self.size = size
    def __len__(self):
        return 8
    def __getitem__(self, rows):
        return np.full((8, 2), self.size, np.float32)[rows]

def build(config):
    return experiment.Experiment(
        model=MODELS[config.model](), loss=lambda model, x, key: (jnp.mean(jax.vmap(model)(x) ** 2), {}),
        optimiser=optax.sgd(config.rate), train=Points(), steps=config.steps, batch=4,
        evaluate=lambda model, points: {"size": float(abs(jax.vmap(model)(points[:])).mean())},
        test=lambda resolution: Points(config.size), metric="size", predict=experiment.Prediction(Options, apply))
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "quick.py"
    path.write_text(FILE)
    return str(path)


def exit_code(*arguments):
    """The exit code of a command, also if the parser ends the process."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:
        return error.code


def words(text):
    """Text without frames and line breaks."""
    return " ".join(word for word in text.split() if not set(word) & set("│╭╮╰╯─┃━"))


def test_a_run_is_trained_finished_and_evaluated(file, tmp_path, capsys):
    train = ("train", file, "--preset", "large", "--rate", "0.1", "--out", tmp_path / "run")
    assert exit_code(*train) == 0
    assert "step 6/6" in capsys.readouterr().out
    assert exit_code(*train) == 0
    assert "is finished: size" in capsys.readouterr().out
    assert exit_code("evaluate", tmp_path / "run", "--resolution", "8", "16") == 0
    printed = words(capsys.readouterr().out)
    assert "linear, 3 parameters" in printed
    assert "16" in printed
    assert "the trained model itself" in printed


@pytest.fixture
def run(file, tmp_path):
    assert exit_code("train", file, "--steps", "1", "--out", tmp_path / "run") == 0
    return tmp_path / "run"


def test_a_run_is_evaluated_under_other_conditions(run, capsys):
    assert exit_code("evaluate", run, "--condition", "size=0.5", "rate=1,size=2") == 0
    assert "size=0.5 rate=1.0 size=2.0" in words(capsys.readouterr().out)
    metrics = experiment.read_metrics(run).as_json()
    sizes = {name: found["size"] for name, found in metrics["conditions"].items()}
    assert set(sizes) == {"size=0.5", "rate=1.0 size=2.0"}
    weight, bias = (np.asarray(part) for part in (experiment.load(run).weight, experiment.load(run).bias))
    for name, size in (("size=0.5", 0.5), ("rate=1.0 size=2.0", 2)):
        assert sizes[name] == pytest.approx(abs(weight.sum() * size + bias[0]), rel=1e-6)
    for condition in ("size", "=3"):
        assert exit_code("evaluate", run, "--condition", condition) == 2
        assert f"Expected --condition FIELD=VALUE, such as noise=0.1, got '{condition}'" in capsys.readouterr().err
    for condition, message in (("colour=red", "--colour"), ("size=big", "size"), ("steps=2.5", "steps")):
        assert exit_code("evaluate", run, "--condition", condition) == 2
        assert message in words(capsys.readouterr().err)
    assert set(experiment.read_metrics(run).conditions) == set(sizes)


def test_a_run_predicts_from_a_file_with_the_options_of_its_experiment(run, tmp_path, capsys):
    given, out = tmp_path / "x.csv", tmp_path / "out"
    given.write_text("1,2\n3,4\n")
    assert exit_code("predict", run, given, "--digits", "1", "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 rows"
    expected = [f"{experiment.load(run)(np.array(x, np.float32))[0]:.1f}" for x in ([1, 2], [3, 4])]
    assert (out / "y.csv").read_text().split() == expected
    assert exit_code("predict", run, "--help") == 0
    printed = words(capsys.readouterr().out)
    assert "Apply the linear map to each row of a CSV file." in printed
    assert "--digits INT Digits after the point. (default: 3)" in printed
    assert exit_code("predict", "--help") == 0
    assert "lists the options of its experiment" in words(capsys.readouterr().out)
    assert exit_code("predict", "--out", "x") == 2


def test_a_run_that_predicts_nothing_from_files_says_so(file, tmp_path, capsys):
    pathlib.Path(file).write_text(FILE.replace(", predict=experiment.Prediction(Options, apply)", ""))
    assert exit_code("train", file, "--steps", "1", "--out", tmp_path / "run") == 0
    assert exit_code("predict", tmp_path / "run", "x.csv", "--out", tmp_path / "out") == 1
    assert "has no `predict`" in capsys.readouterr().err


def test_help_lists_every_field_with_meaning_and_default(file, capsys):
    assert exit_code("train", file, "--help") == 0
    printed = words(capsys.readouterr().out)
    assert "A quick experiment, for tests of the command line." in printed
    for part in (
        "--model STR One of MODELS. (default: linear)",
        "--rate FLOAT Learning rate, constant. (default: 0.01)",
        "--steps INT Number of optimiser steps. (default: 4)",
        "Default of all other fields: small, large. (default: small)",
        "an interrupted run in it goes on. (required)",
    ):
        assert part in printed
    assert exit_code("train", file, "--preset=large", "--help") == 0
    assert "--steps INT Number of optimiser steps. (default: 6)" in words(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--help",), "sciml COMMAND --help lists all options"),
        (("train", "-h"), "usage: sciml train [-h] [OPTIONS] EXPERIMENT"),
        (("benchmark", "--help"), "--seeds INT Runs of each model"),
        (
            ("train", "--help"),
            "--track {None,tensorboard,wandb,mlflow} Tool for which logs and metrics are written too",
        ),
        (("report", "--help"), "Write one self-contained page about a run or a benchmark"),
        (("evaluate", "--help"), "--resolution"),
        (("generate", "--help"), "PROBLEM is one of: darcy"),
        (("info", "--help"), "Versions and devices."),
        (("list", "--help"), "Experiments that come with sciml"),
    ],
)
def test_help_is_that_of_the_command(arguments, part, capsys):
    assert exit_code(*arguments) == 0
    printed = words(capsys.readouterr().out)
    assert part in printed
    assert ("sciml COMMAND ..." in printed) == (arguments == ("--help",))


def test_the_version_is_printed_and_is_that_of_the_distribution(capsys):
    assert exit_code("--version") == 0
    version = capsys.readouterr().out.removeprefix("sciml ").strip()
    described = (ROOT / "pyproject.toml").read_text()
    assert 'name = "sciml-jax"' in described
    assert f'version = "{version}"' in described


def test_the_list_shows_experiments_presets_models_and_generators(monkeypatch, tmp_path, capsys):
    for name in ("spiral_ode.py", "darcy_small.py"):
        shutil.copy(ROOT / "experiments" / name, tmp_path)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    found = {path.stem: path for path in sorted(tmp_path.glob("*.py"))}
    monkeypatch.setattr(_info, "packaged_experiments", lambda: found)
    assert exit_code("list") == 0
    lines = capsys.readouterr().out.splitlines()
    reason = f"{tmp_path / 'broken.py'}, line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"
    assert f"broken: cannot be imported ({reason})" in lines
    assert "    presets full, choose, smoke; models mgno, fno" in lines
    assert any(line.startswith("spiral_ode: A spiral") for line in lines)
    assert any(line.startswith("helmholtz: Standing waves") for line in lines)  # a generator
    assert {"darcy", "prose_ode", "digits_node"} <= set(packaged_experiments())


def test_experiments_are_found_by_name_and_by_path(file):
    assert experiment_file("darcy").samefile(ROOT / "experiments" / "darcy.py")
    assert str(experiment_file(file)) == file


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "huge"), "There is no preset 'huge' in .*quick.py, only small, large"),
        (("--model", "fno"), "There is no model 'fno' in .*quick.py, only linear"),
        (("--learning", "1"), "Unrecognized options: --learning"),
        (("--rate", "fast"), "fast"),
    ],
)
def test_wrong_options_are_named(file, tmp_path, capsys, options, message):
    assert exit_code("train", file, *options, "--out", tmp_path / "run") == 2
    captured = capsys.readouterr()
    assert re.search(message, words(captured.err))
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, ""),
        (("fly",), 2, "There is no command 'fly', only list, train, evaluate"),
        (("train",), 2, "file of an experiment first, got nothing. Try sciml list, or sciml train --help"),
        (("benchmark", "--out", "x"), 2, "file of an experiment first, got --out."),
        (("train", "nothing.py", "--out", "x"), 2, "There is no experiment file nothing.py. `sciml list` shows"),
        (("train", "darsy", "--out", "x"), 2, "no experiment of the name darsy. Did you mean darcy or darcy_small?"),
        (("evaluate", "nothing"), 1, "nothing is not the folder of a run: it has no run.json"),
        (("evaluate",), 2, "Required options"),
        (("generate", "weather"), 2, "Expected one of the problems darcy"),
        (("generate", "darcy", "--n", "0", "--out", "x.h5"), 1, "Expected n >= 1"),
    ],
)
def test_wrong_commands_get_a_message_without_a_traceback(arguments, code, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert exit_code(*arguments) == code
    errors = words(capsys.readouterr().err)
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_config_is_refused(file, tmp_path, capsys, monkeypatch):
    assert exit_code("train", file, "--out", tmp_path / "run") == 0
    other = ("train", file, "--rate", "0.5", "--out", tmp_path / "run")
    assert exit_code(*other) == 1
    assert "was started with rate=0.01, now rate=0.5; use another folder." in capsys.readouterr().err
    monkeypatch.setenv("SCIML_TRACEBACK", "1")
    with pytest.raises(ValueError, match="use another folder"):
        main([str(part) for part in other])


def test_a_config_field_that_hides_an_option_is_refused(file, tmp_path, capsys):
    pathlib.Path(file).write_text(FILE.replace("rate: float", "out: float").replace("config.rate", "config.out"))
    assert exit_code("train", file, "--out", tmp_path / "run") == 2
    assert "Config must not have the field out" in capsys.readouterr().err


def test_data_are_generated_and_never_overwritten_by_accident(tmp_path, capsys):
    path = tmp_path / "data" / "darcy.h5"
    command = ("generate", "darcy", "--n", "3", "--resolution", "8", "--seed", "4", "--batch", "2", "--out", path)
    assert exit_code(*command) == 0
    assert "100%" in capsys.readouterr().out
    assert data.read(path).x.shape == (3, 1, 8, 8)
    assert exit_code(*command) == 1
    assert "exists and is kept" in capsys.readouterr().err
    assert exit_code(*command, "--overwrite") == 0


def test_info_shows_versions_and_devices(capsys):
    assert exit_code("info") == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("jax", "equinox", "device 0"))


def test_settings_of_the_user_are_kept():
    wide = "flags: sse avx512f avx2"
    fresh = _process.environment({"HOME": "x", "XDG_CACHE_HOME": "cache"}, wide)
    assert fresh["XLA_FLAGS"] == f"--xla_cpu_prefer_vector_width=512 {_process.COMPILER}"
    assert fresh["JAX_COMPILATION_CACHE_DIR"] == str(pathlib.Path("cache/sciml/compiled"))
    assert _process.environment({}, "flags: avx2")["XLA_FLAGS"] == _process.COMPILER
    assert "XLA_FLAGS" not in _process.environment({}, "flags: avx2", gpu=True)
    both = _process.environment({"XLA_FLAGS": "--xla_dump_to=x"}, wide, gpu=True)
    assert both["XLA_FLAGS"] == "--xla_dump_to=x --xla_cpu_prefer_vector_width=512"
    own = {
        "XLA_FLAGS": "--xla_cpu_prefer_vector_width=256 --xla_backend_optimization_level=1",
        "JAX_COMPILATION_CACHE_DIR": "own",
        "JAX_NUM_CPU_DEVICES": "3",
    }
    assert not set(_process.environment(own, wide)) & set(own)
    assert _process.environment({"SCIML_CPU_DEVICES": "5"}, "")["JAX_NUM_CPU_DEVICES"] == "5"
    assert int(_process.environment({"SCIML_CPU_DEVICES": "0"}, "")["JAX_NUM_CPU_DEVICES"]) >= 1  # one per core


IMPORT = """
import os, sys
before = dict(os.environ)
import sciml
assert dict(os.environ) == before and "jax" not in sys.modules
"""


def test_an_import_changes_nothing_and_does_not_start_jax():
    subprocess.run([sys.executable, "-c", IMPORT], check=True)


FAULTS = """
import resource, sys
from sciml.cli import _process
if sys.argv[1] == "prepared":
    _process.prepare(restart=True)
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.cumsum(jax.lax.optimization_barrier(x.T * 0.5), 1))
x = jnp.ones((1024, 1024))
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        x = step(x).block_until_ready()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="these are settings of glibc")
def test_a_restarted_process_keeps_freed_memory_so_that_steps_take_no_page_faults():
    plain = {name: value for name, value in os.environ.items() if name not in _process.FEW_ARENAS}

    def faults(mode):
        command = [sys.executable, "-c", FAULTS, mode]
        done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
        return [int(count) for count in done.stdout.split()]

    # Once the process has the memory it needs there are none; a buffer of 4 MB is 1024 pages.
    assert min(faults("prepared")) < 100
    assert max(faults("plain")) > 1000


def test_the_allocator_is_left_alone_where_the_user_has_set_it_or_there_is_no_glibc(tmp_path):
    wanted = _process.LARGE_HEAPS
    assert _process.allocator({}, wanted) == wanted
    assert _process.allocator({"MALLOC_TOP_PAD_": "1"}, wanted) == {}
    assert _process.allocator({"MALLOC_ARENA_MAX": "1"}, wanted) == {}
    assert _process.allocator(wanted, wanted) == {}  # the restarted process starts no other
    assert _process.allocator({}, wanted, limited=True) == {}
    (tmp_path / "hugepages-1048576kB").mkdir()
    assert _process.allocator_settings("glibc 2.36", tmp_path) == _process.LARGE_HEAPS
    assert _process.allocator_settings("glibc 2.36", tmp_path / "none") == _process.FEW_ARENAS
    assert _process.allocator_settings("glibc 2.34", tmp_path) == _process.FEW_ARENAS
    assert _process.allocator_settings(" ", tmp_path) == {}


@pytest.mark.skipif(_process.allocator_settings() != _process.LARGE_HEAPS, reason="glibc has no large heaps here")
def test_a_buffer_larger_than_usual_heaps_is_kept_in_every_thread():
    program = """
import ctypes, resource, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
size, found = 200 << 20, []
def work():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        buffer = libc.malloc(ctypes.c_size_t(size))
        ctypes.memset(buffer, 1, size)
        libc.free(buffer)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(*found)
"""

    def faults(settings):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
        return [int(count) for count in done.stdout.split()]

    first, *later = faults(_process.LARGE_HEAPS)
    assert first > 1000
    assert max(later) < 100
    assert min(faults(_process.FEW_ARENAS)) > 50  # pages of 2 MB, at every turn


def test_a_limit_of_the_memory_of_the_process_is_noticed(monkeypatch):
    resource = pytest.importorskip("resource")
    for limited in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        limits = lambda kind, limited=limited: (1 << 30 if kind == limited else resource.RLIM_INFINITY,) * 2
        monkeypatch.setattr(resource, "getrlimit", limits)
        assert _process._limited()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert not _process._limited()


def test_a_system_without_processor_flags_gets_no_option_for_them(tmp_path):
    assert _process.processor_flags(tmp_path / "cpuinfo") == ""
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu avx512f\n")
    assert "avx512f" in _process.processor_flags(tmp_path / "cpuinfo")


def test_a_number_of_devices_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"SCIML_CPU_DEVICES is a number of devices, .* got 'two'"):
        _process.environment({"SCIML_CPU_DEVICES": "two"}, "")
