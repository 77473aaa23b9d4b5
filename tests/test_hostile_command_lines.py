"""Wrong command lines, broken experiment files and interrupts end with one line, no traceback and nothing on disk."""

import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from sciml import experiment
from sciml.cli import _errors, main

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"


def run(capsys, *arguments):
    """Exit code, and what a command says on stderr, without frames."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr().err
    assert len(said.splitlines()) <= 25  # the parser says for each member of a union what is wrong
    assert "Traceback" not in said
    return code, " ".join(word for word in said.split() if not set(word) <= set("│╭╮╰╯─"))


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


COUNT, STEPS = "from 1 to 100000000, a whole number, got", "from 1 to 2147483647, a whole number, got"
SETTINGS = [
    ("darcy", "--epochs 1e12", "Expected --epochs above 0 and up to 2147483647, got 1000000000000.0"),
    ("darcy", "--epochs inf", "Expected --epochs above 0 and up to 2147483647, got inf"),
    ("darcy", "--epochs nan", "Expected --epochs above 0 and up to 2147483647, got nan"),
    ("darcy", "--epochs 0", "Expected --epochs above 0 and up to 2147483647, got 0"),
    ("darcy", "--epochs -1", "Expected --epochs above 0 and up to 2147483647, got -1"),
    ("darcy", "--epochs many", "many"),
    ("darcy", "--steps 0", f"Expected --steps {STEPS} 0"),
    ("darcy", "--steps -1", f"Expected --steps {STEPS} -1"),
    ("darcy", "--steps 2147483648", f"Expected --steps {STEPS} 2147483648"),
    ("darcy", "--steps 1.5", "1.5"),
    ("darcy", "--steps " + "9" * 5000, "Expected options of up to 4096 characters, got one of 5000"),
    ("darcy", "--batch 0", f"Expected --batch {COUNT} 0"),
    ("darcy", "--batch -1", f"Expected --batch {COUNT} -1"),
    ("darcy", "--lr nan", "Expected --lr above 0, got nan"),
    ("darcy", "--lr inf", "Expected --lr above 0, got inf"),
    ("darcy", "--lr 0", "Expected --lr above 0, got 0"),
    ("darcy", "--lr -1e-3", "Expected --lr above 0, got -0.001"),
    ("darcy", "--seed -1", "Expected --seed from 0 to 4294967295, a whole number, got -1"),
    ("darcy", "--seed 9223372036854775808", "Expected --seed from 0 to 4294967295, a whole number"),
    ("darcy", "--data-seed -1", "Expected --data-seed from 0 to"),
    ("darcy", "--width 0", f"Expected --width {COUNT} 0"),
    ("darcy", "--width -1", f"Expected --width {COUNT} -1"),
    ("darcy", "--width 1000000000", f"Expected --width {COUNT} 1000000000"),
    ("darcy", "--levels 0", "Expected --levels from 1 to 1000, a whole number, got 0"),
    ("darcy", "--depth 0", "Expected --depth from 1 to 1000, a whole number, got 0"),
    ("darcy", "--modes 0", f"Expected --modes {COUNT} 0"),
    ("darcy", "--modes", "--modes"),
    ("darcy", "--samples 0 8 8", f"Expected --samples {COUNT} 0"),
    ("darcy", "--samples 8 8 -1", f"Expected --samples {COUNT} -1"),
    ("darcy", "--samples 8 8", "--samples"),
    ("darcy", "--resolution 0", "resolution"),
    ("darcy", "--resolution -8", "resolution"),
    ("darcy", "--resolution 1000000", "do not fit into any memory. Use a lower resolution"),
    ("darcy", "--physics nan", "Expected --physics of at least 0, got nan"),
    ("darcy", "--tau nan", "Expected --tau to be a finite number, got nan"),
    ("darcy", "--model mgn", "There is no model 'mgn' in darcy, only mgno"),
    ("darcy", "--model", "--model"),
    ("darcy", "--recipe none", "Expected a recipe of ours, published, got 'none'"),
    ("darcy", "--preset smok", "There is no preset 'smok' in darcy, only demo, smoke"),
    ("darcy", "--nonsense 1", "--nonsense"),
    ("darcy", "--from -1", "Expected --from STEP, the step of a checkpoint of the run, got -1"),
    ("darcy", "--from last", "last"),
    ("helmholtz", "--width 0", f"Expected --width {COUNT} 0"),
    ("helmholtz", "--levels 0", "Expected --levels from 1 to 1000, a whole number, got 0"),
    ("spiral_ode", "--hidden -1", f"Expected --hidden {COUNT} -1"),
    ("spiral_ode", "--points 0", f"Expected --points {COUNT} 0"),
    ("spiral_ode", "--tolerance 0", "Expected --tolerance above 0, got 0.0"),
    ("prose_ode", "--systems 0 1 1", f"Expected --systems {COUNT} 0"),
    ("prose_ode", "--noise inf", "Expected --noise of at least 0, got inf"),
    ("prose_ode", "--targets 0", f"Expected --targets {COUNT} 0"),
    ("prose_ode", "--points 90000000", "do not fit into any machine. Use fewer samples, times or points"),
    ("prose_ode", "--width 0", "Expected widths, heads and positions from 1 to 1000000"),
    ("prose_ode", "--heads 3", "Expected a width that the heads divide, got --width 16 --heads 3"),
    ("prose_ode", "--data-encoder 1000000000", "Expected from 0 to 1000 layers of each kind"),
    ("prose_ode", "--hidden 1000000 --width 1000000", "do not fit into the memory that this process may use"),
    ("prose_pde", "--initial-conditions 1", "expected at least 2 of each in validation and test, got 1"),
]


@pytest.mark.parametrize(("name", "options", "message"), SETTINGS, ids=lambda one: str(one)[:40])
def test_impossible_settings_are_refused_before_anything_is_made(name, options, message, empty, capsys):
    code, said = run(capsys, "train", name, "--preset", "smoke", *options.split(" "), "--out", "run")
    assert code in (1, 2)
    assert message in said
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train", "file of an experiment first, got nothing"),
        ("train /nothing/here.py --out run", "There is no experiment file /nothing/here.py"),
        ("train darcy", "--out"),
        ("evaluate nothing --resolution -1", "is not the folder of a run"),
        ("evaluate nothing --file darsy", "no experiment of the name darsy. Did you mean darcy"),
        ("compare --out table", "Expected at least one finished run to compare, got none"),
        ("compare nothing --file darsy --out table", "no experiment of the name darsy"),
        ("predict nothing x.csv --out out", "is not the folder of a run"),
        ("predict nothing x.csv --file darsy --out out", "no experiment of the name darsy"),
        ("benchmark darcy --models mgno --budget 0s --out b", "Expected a positive time"),
        ("benchmark darcy --models mgno --budget 1e5s --out b", "Expected a positive time"),
        ("benchmark darcy --models mgno mgn --epochs 1 --out b", "Expected models of"),
        ("benchmark darcy --models mgno --epochs 1 --seeds 0 --out b", "Expected at least 1 seed, got 0"),
        ("benchmark darcy --models mgno --epochs -1 --out b", "Expected --epochs above 0"),
        ("benchmark darcy --models mgno --epochs 1 --seed 4294967295 --out b", "Expected seeds up to 4294967295"),
        (
            "benchmark darcy --models mgno --epochs 1 --target relative_l2=nan --out b",
            "Expected the name and the value",
        ),
        ("generate darcy --n -1 --out x.h5", "Expected n >= 1"),
        ("generate darcy --n 1000000000000000 --out x.h5", "do not fit into any memory"),
        ("generate darcy --seed 9223372036854775808 --out x.h5", "seed >= 0, of up to 63 bits"),
        ("generate darcy --batch 0 --out x.h5", "batch >= 1"),
        ("generate darcy --resolution 3 --out x.h5", "resolution"),
        ("fly\n\nme  there", "There is no command 'fly"),
    ],
)
def test_wrong_command_lines_are_refused_before_anything_is_made(arguments, message, empty, capsys):
    code, said = run(capsys, *(arguments.split(" ") if "\n" not in arguments else [arguments]))
    assert code in (1, 2)
    assert message in said
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", r"quick\.py, line 1: SyntaxError: '\(' was never closed"),
        ("\nimport nothing_of_this_name", r"quick\.py, line 2: ModuleNotFoundError: No module named 'nothing_of"),
        ("\n\nprint(unknown)", r"quick\.py, line 3: NameError: name 'unknown' is not defined"),
        ("import sys\nsys.exit(3)", r"quick\.py, line 2: the file ends the process \(sys\.exit\)"),
        ("def f():\n    f()\nf()", r"quick\.py, line 2: RecursionError: maximum recursion depth"),
        ("raise AssertionError", r"quick\.py, line 1: AssertionError"),
        ("Config = PRESETS = MODELS = build = 3", "must map at least one name to a Config"),
        ("", "has no Config, PRESETS, MODELS, build"),
        ("\0", "SyntaxError|null bytes"),
    ],
)
def test_errors_in_an_experiment_file_name_its_line(text, message, empty, capsys):
    (empty / "quick.py").write_text(text)
    code, said = run(capsys, "train", "quick.py", "--out", "run")
    assert code in (1, 2)
    assert re.search(message, said)
    assert [one for one in empty.iterdir() if one.name not in ("quick.py", "__pycache__")] == []


BUILD = """
import dataclasses, sys
@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 1
PRESETS = {"one": Config()}
MODELS = {}
def build(config):
    ERROR
"""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("return 1 / 0", "make no experiment: ZeroDivisionError: division by zero"),
        ("return {}['a']", "make no experiment: KeyError: 'a'"),
        ("raise MemoryError", r"make no experiment: MemoryError\. Use smaller sizes"),
        ("raise ValueError('Expected\\n  more.')", r"^sciml: Expected more\. \(SCIML_TRACEBACK=1"),
        ("return 3", "Expected an Experiment from build of .*, got int"),
    ],
)
def test_settings_that_make_no_experiment_are_one_error(error, message, empty, capsys, monkeypatch):
    def built(module, config, folder, layout):
        experiment.build_with(module, config)

    monkeypatch.setattr(experiment, "run_file", built)
    (empty / "quick.py").write_text(BUILD.replace("ERROR", error))
    code, said = run(capsys, "train", "quick.py", "--out", "run")
    assert code == 1
    assert re.search(message, said)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("sys.exit(3)", r"does not end the process, got sys\.exit\(3\) \(.*quick\.py, line 9\)"),
        (
            "raise TypeError('of\\nint')",
            r"^sciml: TypeError: of int \(.*quick\.py, line 9\)\. This is a mistake in the",
        ),
        ("raise MemoryError", r"^sciml: MemoryError \(.*, line 9\)\. There is not enough memory .* smaller"),
        ("raise RecursionError('deep')", "^sciml: RecursionError: deep .* nested too deeply"),
        ("assert not config", r"^sciml: AssertionError \(.*quick\.py, line 9\)"),
        ("raise KeyboardInterrupt('Go on.')", r"^sciml: Interrupted\. Go on\.$"),
        ("raise OSError(28, 'No space left on device')", "^sciml: No space left on device"),
        ("open('/nothing/here')", "^sciml: /nothing/here: No such file or directory"),
        ("raise BaseException('odd')", "^sciml: BaseException: odd"),
    ],
)
def test_errors_that_are_not_ours_are_reported_with_type_and_place(error, message, empty, capsys, monkeypatch):
    monkeypatch.setattr(experiment, "run_file", lambda module, config, folder, layout: module.build(config))
    (empty / "quick.py").write_text(BUILD.replace("ERROR", error))
    code, said = run(capsys, "train", "quick.py", "--out", "run")
    assert code == (130 if "Interrupt" in error else 1)
    assert re.search(message, said)
    if code == 1:
        monkeypatch.setenv("SCIML_TRACEBACK", "1")
        with pytest.raises(BaseException, match=r".*"):
            main(["train", "quick.py", "--out", "run"])


def test_of_a_message_with_a_traceback_only_the_last_line_is_left():
    text = 'INTERNAL: error:\nTraceback (most recent call last):\n  File "x", line 1\n    f()\nValueError: odd\n\n'
    assert _errors.one_line(text) == "INTERNAL: error: ValueError: odd"
    solver = 'Above is the stack.\n  File "x", line 1\nequinox.EquinoxRuntimeError: Too many\n steps.\n\n' + "-" * 20
    assert _errors.one_line(solver + "\nAn error occurred") == "Too many steps."


@pytest.mark.filterwarnings("default")
def test_warnings_threads_finalisers_and_tasks_get_one_line_each(capsys):
    class Odd:
        def __del__(self):
            raise ValueError("in a\nfinaliser")

    async def fails():
        raise TypeError("in a task")

    async def forgets():
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0)
        del task

    before = threading.excepthook, sys.unraisablehook, warnings.showwarning, logging.getLogRecordFactory()
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("asyncio").addHandler(handler)
    with _errors.one_line_each(process=False):
        warnings.warn("a\nwarning", stacklevel=1)
        thread = threading.Thread(target=lambda: [].pop())
        thread.start()
        thread.join()
        Odd()
        asyncio.run(forgets())
        gc.collect()
    logging.getLogger("asyncio").removeHandler(handler)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    lines = said.splitlines()
    assert lines[0] == "sciml: UserWarning: a warning"
    assert lines[1].startswith("sciml: in a thread: IndexError: pop from empty list.")
    assert lines[2] == "sciml: ignored: in a finaliser"
    assert "Task exception was never retrieved" in lines[3]
    assert len(lines) == 4
    assert before == (threading.excepthook, sys.unraisablehook, warnings.showwarning, logging.getLogRecordFactory())


def process(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT} | options
    return subprocess.Popen([sys.executable, "-m", "sciml", *arguments], **pipes)


def test_an_interrupt_while_modules_are_imported_is_one_line():
    started = process("info", env={**os.environ, "PYTHONPATH": str(ROOT)})
    time.sleep(0.5)  # it imports JAX for a second or more
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert said in ("sciml: Interrupted.\n", "")  # nothing if it had finished
    assert started.returncode in (130, -signal.SIGINT, 0)


def test_output_that_nobody_reads_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    started = process("--help", stdout=writer)
    os.close(writer)
    assert started.communicate(timeout=60)[1] == ""
    assert started.returncode == 1


def test_a_full_disk_is_one_line():
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    with pathlib.Path("/dev/full").open("w") as full:
        started = process("--version", stdout=full)
        said = started.communicate(timeout=60)[1]
    assert said.splitlines()[0] == "sciml: No space left on device"
    assert started.returncode == 1


BAD = ("0", "nan", "1000000000")


@pytest.mark.slow  # quick cases of a few settings are above
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.py")), ids=lambda file: file.stem)
def test_every_setting_is_built_or_refused(file, empty, capsys, monkeypatch, published_data):
    monkeypatch.setenv("SCIML_DATA", str(published_data))
    monkeypatch.setattr(
        experiment, "run_file", lambda module, config, folder: experiment.build_with(module, config) and 0
    )
    preset = experiment.load_file(file).PRESETS["smoke"]
    equation = vars(preset).get("problem")  # its solver may take for ever, which is no error
    skipped = {"data", "epochs", "steps", *(dict(experiment.settings(equation)) if equation else ())}
    for name, value in experiment.settings(preset):
        if isinstance(value, bool) or name in skipped - {"resolution", "elements"}:
            continue
        for bad in BAD:
            values = [bad] * len(value) if isinstance(value, tuple) else [bad]
            option = f"--{name.replace('_', '-')}"
            code, said = run(capsys, "train", file, "--preset", "smoke", option, *values, "--out", "run")
            assert code in (0, 1, 2), (option, bad, said)
    with contextlib.suppress(FileNotFoundError):
        assert not (empty / "run").exists()
