"""The timer of the benchmarks, with contenders that do nothing."""

import importlib.util
import itertools
import pathlib
import sys

import pytest

CONTENDERS = """
import pathlib

def steady(settings):
    return {"forward": lambda: None}

def failing(settings):
    counter = pathlib.Path(settings["counter"])
    start = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(start + 1))

    def call():
        if start == settings["fails_in"]:
            raise RuntimeError("no more")

    return {"forward": call}
"""


@pytest.fixture
def timer(monkeypatch):
    path = pathlib.Path(__file__).resolve().parent.parent / "benchmarks" / "timer.py"
    spec = importlib.util.spec_from_file_location("timer", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "timer", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    return module


def compared(timer, folder, names, fails_in):
    (folder / "idle.py").write_text(CONTENDERS)
    env = {"PYTHONPATH": str(folder)}
    contenders = [timer.Contender(name, f"idle:{name}", env=env) for name in names]
    return timer.compare(contenders, {"counter": str(folder / "count"), "fails_in": fails_in}, 3, 1, starts=3)


def test_rounds_of_all_starts_count(timer, tmp_path):
    rows = compared(timer, tmp_path, ("steady", "failing"), None)
    assert (tmp_path / "count").read_text() == "3"
    assert rows["steady"]["forward"]["ratio"] == 1
    assert rows["failing"]["forward"]["ratio"] > 0


@pytest.mark.parametrize("fails_in", [0, 1, 2])
@pytest.mark.parametrize("names", [("steady", "failing"), ("failing", "steady")])
def test_who_fails_once_is_not_measured_and_no_other_row_is_lost(timer, tmp_path, names, fails_in):
    rows = compared(timer, tmp_path, names, fails_in)
    assert rows["failing"] == {"not_measured": "RuntimeError: no more"}
    assert rows["steady"]["forward"]["seconds"] > 0
    assert ("ratio" in rows["steady"]["forward"]) == (names[0] == "steady")


def test_nobody_follows_himself(timer):
    class Recorder:
        failure = ""

        def __init__(self, name):
            self.contender, self.info = timer.Contender(name, ""), {"targets": ["forward", "step"]}

        def ask(self, request):
            calls.append((self.contender.name, request["time"]))
            return {"seconds": 1.0}

    calls, seconds = [], {}
    timer._time([Recorder(name) for name in "abc"], 50, timer.random.Random(0), seconds)
    assert {len(found) for found in seconds.values()} == {50}
    assert all(one[0] != other[0] for one, other in itertools.pairwise(calls))
    first = [calls[6 * number][0] for number in range(50)]
    assert min(first.count(name) for name in "abc") > 5  # each begins a third of the rounds
