"""The benchmark of GPUs, on the CPU: its list of pieces, how it goes on, and a smoke run of all its rows."""

import ast
import importlib
import json
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
SLEEPER = """
import time

def quick(settings):
    return {"forward": lambda: None}

def stuck(settings):
    time.sleep(600)
"""


@pytest.fixture
def gpu(monkeypatch):
    """The script, imported as when Python runs it from its folder, on a machine whose device is said to be a GPU."""
    monkeypatch.syspath_prepend(str(FOLDER))
    known = set(sys.modules)
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module, "device", lambda smoke: {"platform": "gpu", "name": "NVIDIA H200", "driver": "1"})
    monkeypatch.setattr(module, "versions", lambda peer: {"jax": "1"})
    yield module
    for name in {file.stem for file in FOLDER.glob("*.py")} & (set(sys.modules) - known):
        del sys.modules[name]


class Counted:
    """A piece that notes its runs and returns what it is given, or raises it."""

    row = "steps"

    def __init__(self, name, *answers):
        self.name, self.answers, self.calls = name, list(answers), []

    def run(self, seconds, known):
        self.calls.append(seconds)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


DONE = {"state": "done"}


@pytest.fixture
def command(gpu, monkeypatch, tmp_path):
    """Runs the command with the given pieces; returns the exit status and the results."""

    def run(*pieces, options=()):
        monkeypatch.setattr(gpu.gpu_pieces, "pieces", lambda *_: list(pieces))
        code = gpu.main(["--out", str(tmp_path), *options])
        file = tmp_path / "nvidia-h200.json"
        return code, json.loads(file.read_text()) if file.exists() else None

    return run


def functions_of(factory):
    module, name = factory.split(":")
    tree = ast.parse((FOLDER / f"{module.replace('.', '/')}.py").read_text())
    return name, {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("smoke", [False, True])
def test_all_rows_have_pieces_with_factories_that_exist(gpu, tmp_path, smoke):
    pieces = gpu.gpu_pieces.pieces("python", tmp_path, 480.0, smoke)
    assert len({piece.name for piece in pieces}) == len(pieces)
    assert list(dict.fromkeys(piece.row for piece in pieces if piece.row != "steps")) == list(gpu.ROWS[1:])
    assert pieces[0].row == "steps"
    for piece in pieces:
        for contender in getattr(piece, "contenders", ()):
            name, known = functions_of(contender.factory)
            assert name in known
            assert contender.settings.keys().isdisjoint(piece.settings)


def test_list_prints_the_pieces_and_their_states(command, capsys):
    command(Counted("first", DONE), Counted("second", RuntimeError("out of memory")))
    code, _ = command(*(Counted(name) for name in ("first", "second", "third")), options=["--list"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  steps")]
    assert code == 0
    assert [line[:3] for line in lines] == [["steps", "first", "done"], ["steps", "second", "failed"], [
        "steps", "third", "missing"
    ]]  # fmt: skip
    assert lines[1][3:] == ["RuntimeError:", "out", "of", "memory"]


def test_a_piece_that_is_done_is_not_run_again_and_a_failed_one_comes_last(command):
    command(Counted("fails", ValueError("no")), Counted("done", DONE))
    order = []
    fails, done, new = Counted("fails", DONE), Counted("done"), Counted("new", DONE)
    for piece in (fails, new):
        piece.calls = Order(order, piece.name)
    code, results = command(fails, done, new)
    assert (code, order, done.calls) == (0, ["new", "fails"], [])
    assert {one["state"] for one in results["pieces"].values()} == {"done"}
    again = Counted("done", DONE)
    command(again, options=["--again"])
    assert len(again.calls) == 1


class Order:
    """A list to append to that notes a name in the list of all."""

    def __init__(self, order, name):
        self.order, self.name = order, name

    def append(self, _):
        self.order.append(self.name)


def test_an_interrupted_piece_leaves_the_earlier_results_whole(command, tmp_path, capsys):
    _, before = command(Counted("first", {**DONE, "number": 3}))
    code, after = command(Counted("first"), Counted("second", KeyboardInterrupt()))
    assert code == 130
    assert after == before
    assert "interrupted" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["nvidia-h200.json"]


def test_an_unfinished_piece_goes_on_until_the_time_is_over(gpu, command, monkeypatch):
    piece = Counted("slices", *({"state": "unfinished", "slice": i} for i in range(2)), DONE)
    code, results = command(piece, options=["--minutes", "3"])
    assert (code, piece.calls, results["pieces"]["slices"]["state"]) == (0, [180.0] * 3, "done")
    late = Counted("late", DONE)
    command(late, options=["--total", "1"])
    assert late.calls == []


def test_a_machine_without_gpu_is_one_line_and_status_2(gpu, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(gpu, "answer", lambda *_, **__: {"platform": "cpu", "name": "cpu"})
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == (
        "gpu.py: no GPU: JAX sees only a CPU. `--smoke` runs tiny cases on the CPU.\n"
    )  # fmt: skip
    assert gpu.main(["--only", "nothing"]) == 2
    assert "expected rows or pieces of --list, got nothing" in capsys.readouterr().err


def test_seconds_and_ratios_are_those_of_one_call(gpu):
    rows = {
        "theirs": {"repeat": {"step": 2}, "compile_seconds": {"step": 1.0}, "step": {"seconds": 4.0, "ratio": 1.0}},
        "ours": {"repeat": {"step": 8}, "compile_seconds": {"step": 3.0}, "step": {"seconds": 8.0, "ratio": 2.0}},
        "absent": {"not_measured": "ModuleNotFoundError: No module named 'torch'"},
    }
    for row in (rows["theirs"], rows["ours"]):
        row["step"]["ratio_quartiles"] = [row["step"]["ratio"]] * 2
    found = importlib.import_module("repeated").per_call(rows)
    assert found["theirs"]["step"]["seconds"] == 2.0
    assert found["ours"]["step"] == {
        "seconds": 1.0, "ratio": 0.5, "ratio_quartiles": [0.5, 0.5], "first_call_seconds": 3.0
    }  # fmt: skip


def test_the_fraction_of_the_roofline_is_the_larger_bound_over_the_time(gpu):
    seconds = {"float32": 4.0, "tf32": 2.0, "bf16": 1.0, "bandwidth": 2.0}
    rates = {"state": "done", "settings": {"size": 10, "length": 100}}
    rates["contenders"] = {"JAX": {name: {"seconds": value} for name, value in seconds.items()}}
    cost = {"forward": {"flops": 5000.0, "bytes": 100.0, "loops": 0}, "step": {"flops": 1.0, "bytes": 1.0, "loops": 1}}
    row = {"cost": cost, "forward": {"seconds": 10.0}, "step": {"seconds": 1.0}}
    piece = {"state": "done", "settings": {"precision": "tf32"}, "contenders": {"sciml": row}}
    found = gpu.gpu_pieces.roofline({"rates": rates, "case": piece})
    assert found["rates"] == {"float32": 500.0, "tf32": 1000.0, "bf16": 2000.0, "bandwidth": 400.0}
    assert found["programs"] == {"case, sciml, forward": {"least_seconds": 5.0, "bound": "flops", "fraction": 0.5}}
    assert gpu.gpu_pieces.roofline({"case": piece}) == {"rates": {}, "programs": {}}


def test_a_contender_that_does_not_answer_is_ended_and_the_others_are_measured(gpu, tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    here = {"PYTHONPATH": str(tmp_path)}
    contenders = [gpu.timer.Contender(name, f"sleeper:{name}", env=here) for name in ("quick", "stuck")]
    rows = gpu.timer.compare(contenders, {}, 2, 1, limit=12.0)
    assert rows["stuck"] == {"not_measured": f"it was ended {gpu.gpu_pieces.LATE}, without an answer"}
    assert rows["quick"]["forward"]["ratio"] == 1


def test_a_training_goes_on_in_slices_until_it_has_test_errors(gpu, tmp_path, monkeypatch):
    training = gpu.gpu_pieces.Training("paper", "paper", ("darcy",), tmp_path / "run", {})
    lines = []

    def slice(self, seconds):
        step = 10 * (len(lines) + 1)
        (self.folder / "checkpoints" / str(step)).mkdir(parents=True)
        lines.append(json.dumps({"step": step, "validation": {"relative_l2": 1 / step}}))
        (self.folder / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 99, "vali')
        if len(lines) == 2:
            (self.folder / "metrics.json").write_text(json.dumps({"test": {"relative_l2": 0.04}, "steps": step}))
        return (0 if len(lines) == 2 else None), ""

    monkeypatch.setattr(gpu.gpu_pieces.Training, "slice", slice)
    first = training.run(60.0, {})
    second = training.run(60.0, first)
    assert (first["state"], first["step"], first["best"]) == ("unfinished", 10, {"relative_l2": 0.1})
    assert (second["state"], second["test"]) == ("done", {"relative_l2": 0.04})
    assert [(one["from"], one["to"]) for one in second["slices"]] == [(0, 10), (10, 20)]


@pytest.mark.parametrize(("code", "error"), [(1, "the last line"), (None, "no checkpoint in two slices")])
def test_a_training_that_fails_or_reaches_nothing_is_a_failure(gpu, tmp_path, monkeypatch, code, error):
    training = gpu.gpu_pieces.Training("paper", "paper", ("darcy",), tmp_path / "run", {})
    monkeypatch.setattr(gpu.gpu_pieces.Training, "slice", lambda self, seconds: (code, "the last line"))
    found = training.run(60.0, {})
    if code is None:
        assert found["state"] == "unfinished"  # the first slice makes the data
        found = training.run(60.0, found)
    assert found["state"] == "failed"
    assert error in found["error"]


@pytest.mark.slow  # starts JAX in five processes and trains in another
def test_the_smoke_run_measures_every_row_of_ours_once(tmp_path):
    command = [sys.executable, str(FOLDER / "gpu.py"), "--smoke", "--out", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / "smoke.json").read_text())
    assert {name: one["state"] for name, one in results["pieces"].items()} == dict.fromkeys(results["pieces"], "done")
    assert {one["row"] for one in results["pieces"].values()} == {"steps", "roofline", "graphs", "paper"}
    ours = [
        row
        for piece in results["pieces"].values()
        for name, row in piece.get("contenders", {}).items()
        if name.startswith(("sciml", "JAX"))
    ]
    assert [row.get("not_measured") for row in ours] == [None] * 5
    assert all(cost["flops"] > 0 for row in ours for cost in row.get("cost", {}).values())
    assert results["pieces"]["paper-tiny"]["test"]["relative_l2"] > 0
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0
    assert json.loads((tmp_path / "smoke.json").read_text()) == results
