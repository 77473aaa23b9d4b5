"""Damaged and hostile inputs: the same result or an error in one line, and nothing else. `make fuzz` has 10,000."""

import json
import pathlib

import pytest
from fuzz import corpora, dying, kinds, oracle, planted, workers

from sciml.train import _stored

# Orbax leaves threads and coroutines behind when it fails to read arrays that no digest protects.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FEW = {"run that goes on": 2, "command lines": 6, "bit flips in arrays": 10}
MANY = 8


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return oracle.Oracle(corpora.make(tmp_path_factory.mktemp("fuzz") / "world"))


@pytest.mark.parametrize("name", [name for name, kind in kinds.KINDS.items() if not kind.hangs])
def test_nothing_is_wrong_silently(name, judge):
    for number in range(FEW.get(name, MANY)):
        verdict = judge(name, number, seed=1)
        assert verdict.outcome in oracle.FINE, f"{name}:{number} {verdict}"


@pytest.mark.parametrize("name", planted.PLANTED)
def test_what_is_planted_is_found(name, judge):
    outcome, kind = planted.PLANTED[name]
    folder = judge.world["npz"]
    expected = {"content": (folder / "a.npz").read_bytes()}
    with oracle.copied(kind, judge.world) as copy:
        verdict = judge.judged(kind, copy, name, expected)
    assert verdict.outcome == outcome, verdict
    assert sorted(path.name for path in judge.world.outside.iterdir()) == OUTSIDE


OUTSIDE = ["canary.py", "folder", "secret.csv", "secret.h5", "secret.json", "secret.txt"]


def test_what_is_right_is_not_reported(judge):
    same = planted.kind(lambda folder, *_: {"content": (folder / "a.npz").read_bytes()})
    noticed = planted.kind(lambda folder, *_: (_ for _ in ()).throw(ValueError(f"{folder}/a.npz is damaged")))
    expected = {"content": (judge.world["npz"] / "a.npz").read_bytes()}
    for kind, outcome in ((same, oracle.SAME), (noticed, oracle.NOTICED)):
        with oracle.copied(kind, judge.world) as copy:
            assert judge.judged(kind, copy, "", expected).outcome == outcome


def test_what_digests_prevent_is_found_without_them(judge, monkeypatch):
    judge("bit flips in arrays", 0)
    monkeypatch.setattr(_stored, "check_manifest", lambda *_, **__: None)
    outcomes = [judge("bit flips in arrays", number).outcome for number in range(30)]
    assert outcomes.count("silent difference") > 15


def test_lost_lines_of_a_log_need_a_warning(judge):
    lines = [b"1", b"2", b"3"]
    for found, said, fine in (
        ([b"1", b"3"], ["Line 2 is damaged"], True),
        ([b"1", b"3"], [], False),
        ([b"1", b"2"], [], True),  # a last line that a kill has cut off
        ([b"1", b"4", b"3"], ["Line 2 is damaged"], False),
        ([b"2", b"1"], ["Line 2 is damaged"], False),
    ):
        assert oracle.fewer({"log": found}, {"log": lines}, "log", said) == fine


def test_a_case_is_the_same_again(judge):
    for name in ("pairs", "checkpoint", "texts", "names in model.json"):
        assert judge(name, 3).what == judge(name, 3).what
        assert len({judge(name, number).what for number in range(4)}) > 1


def test_a_case_that_kills_its_process_or_hangs_is_reported(tmp_path):
    cases = [("fine", 0), ("crash", 1), ("fine", 2), ("hang", 3), ("fine", 4)]
    several = workers.Workers(dying.judge_of, (str(tmp_path),), count=1, seconds=2.0)
    found = {number: verdict for _, number, verdict in several(cases)}
    crash = found.pop(1)
    assert found == {0: "judged 0", 2: "judged 2", 3: "hang", 4: "judged 4"}
    assert crash.startswith("crash with exit code -11")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crash1", "fine0", "fine2", "fine4", "hang3"]


def test_the_results_are_those_of_the_command():
    path = pathlib.Path(__file__).with_name("results.json")
    found = json.loads(path.read_text())
    assert found["cases"] >= 10_000
    assert found["failures"] == []
    assert found["kinds"]["bit flips in arrays"] == {oracle.NOTICED: 200}
    assert set(found["kinds"]) == set(kinds.KINDS)
