"""A run in two processes: asked to end, started twice, killed, and gone on with on other devices."""

import json
import shutil
import signal
import time

import equinox as eqx
import jax
import numpy as np
import pytest
from process_groups import EXPERIMENT, explicit, group, slurm, until

from sciml import experiment, train

STEPS = 60  # of the experiment's preset


def saved(folder):
    place = folder / "checkpoints"
    return [int(one.name) for one in place.iterdir() if one.name.isdecimal()] if place.is_dir() else []


def latest(folder):
    return max(saved(folder), default=0)


def trained(folder, name, count, devices, *, variables=explicit, **more):
    """Processes that train the experiment into the run `name`."""
    (folder / "sums.py").write_text(EXPERIMENT)
    arguments = ["train", folder / "sums.py", "--out", folder / name]
    return group(folder, f"{name}-{time.monotonic_ns()}", count, devices, arguments, variables=variables, **more)


def parameters(folder, step=STEPS):
    return jax.tree.leaves(eqx.filter(experiment.load(folder, step=step), eqx.is_array))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What became of one run, from launch to launch. Its two processes have other clocks all the time."""
    folder, found = tmp_path_factory.mktemp("run"), {}
    run = folder / "run"
    with trained(folder, "run", 2, 1, variables=slurm, PAUSE="0.05") as one:
        until(lambda: latest(run) >= 10, one)
        one.send(1, signal.SIGTERM)
        found["asked to end"] = one.wait(), one.texts(), saved(run), (run / "metrics.json").exists()
    with trained(folder, "run", 2, 1, PAUSE="0.4") as one:  # slow enough to be there until it is killed
        before = latest(run)
        until(lambda: latest(run) > before, one)
        with trained(folder, "run", 2, 1) as other:
            found["started twice"] = other.wait(), other.errors()
        assert [process.poll() for process in one.processes] == [None, None], one.texts()
        one.send(1, signal.SIGKILL)
        start = time.monotonic()
        found["killed"] = one.wait(30), one.errors(), time.monotonic() - start, latest(run)
    for name, count, devices in (("again", 1, 2), ("on one device", 1, 1)):
        shutil.copytree(run, folder / name)
        with trained(folder, name, count, devices) as one:
            assert one.wait() == [0], one.texts()
            found[name] = one.texts()[0]
    with trained(folder, "whole", 1, 2) as one:
        assert one.wait() == [0], one.texts()
    return folder, found


def test_a_signal_to_one_process_ends_all_at_one_step(story):
    codes, texts, steps, finished = story[1]["asked to end"]
    assert codes == [0, 0]
    assert f"was asked to end and is saved; the same command goes on at step {max(steps)}" in texts[0]
    assert "goes on" not in texts[1]
    assert max(steps) >= 10
    assert not finished


def test_a_folder_in_use_is_refused_for_all_processes_of_a_second_launch(story):
    codes, errors = story[1]["started twice"]
    assert codes == [1, 1]
    reason = "run is in use by process"
    assert [len(lines) for lines in errors] == [1, 1]
    assert all(reason in lines[0] for lines in errors), errors


def test_a_killed_process_ends_the_others_with_a_word(story):
    codes, errors, seconds, _ = story[1]["killed"]
    assert codes == [1, -signal.SIGKILL]
    assert seconds < 20  # a broken connection is noticed at once, silence after 10 s of missing heartbeats
    assert errors[1] == []
    assert len(errors[0]) == 1
    assert "Another process has ended, the same command goes on from the last checkpoint" in errors[0][0]


def test_a_run_that_was_ended_and_killed_goes_on_bit_for_bit(story):
    folder, found = story
    step = found["killed"][-1]
    assert step > max(found["asked to end"][2])
    assert f"goes on at step {step}" in found["again"]
    assert f"goes on at step {step}" in found["on one device"]
    assert "goes on with 1 devices, before with 2" in found["on one device"]
    whole = parameters(folder / "whole")
    assert len(whole) > 4
    for array, other, expected in zip(
        parameters(folder / "again"), parameters(folder / "on one device"), whole, strict=True
    ):
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_allclose(
            other, expected, rtol=1e-4, atol=1e-5
        )  # float32 sums in another order, 50 steps of Adam


def test_one_record_of_all_launches(story):
    folder, found = story
    started = experiment.read_run(folder / "again").starts
    assert [one.device.count for one in started] == [2, 2, 2]
    assert [one.layout for one in started] == ["data=2"] * 3
    assert [one.step for one in started] == [0, max(found["asked to end"][2]), found["killed"][-1]]
    log, whole = (train.read_log(folder / name / "log.jsonl") for name in ("again", "whole"))
    assert [one["step"] for one in log if "validation" in one] == list(range(5, STEPS + 1, 5))
    assert [one["loss"] for one in log if one["step"] == STEPS] == [whole[-1]["loss"]]
    tests = [json.loads((folder / name / "metrics.json").read_text())["test"] for name in ("again", "whole")]
    assert tests[0] == tests[1]


def test_an_error_of_one_process_ends_all(tmp_path):
    with trained(tmp_path, "run", 2, 1, FAILS="1") as processes:
        assert processes.wait() == [1, 1], processes.texts()
        first, second = processes.errors()
    assert second == ["sciml: No space left on device"]
    assert first == ["sciml: process 1 ended: No space left on device"]


COMMANDS = """
import pathlib, sys
from sciml import parallel
parallel.join(heartbeat=10, shutdown=10, patience=60)
from sciml.cli import main
folder = pathlib.Path(sys.argv[1])
assert main(["evaluate", f"{folder}/whole", "--condition", "batch=16"]) == 0
assert main(["predict", f"{folder}/whole", f"{folder}/x.npy", "--out", f"{folder}/predicted"]) == 0
from sciml import benchmark, experiment
experiment.compare([folder / "whole", folder / "again"], folder / "compared")
module = experiment.load_file(folder / "sums.py")
config = experiment.with_settings(module.PRESETS["full"], {"epochs": 1})
found = benchmark.benchmark(benchmark.Plan(module, config, ("wrong", "mlp"), 1, None, None), folder / "benchmark")
print([(one["run"], one["failure"] is None) for one in found["runs"]])
"""


def test_commands_on_a_finished_run_and_a_benchmark(story):
    folder = story[0]
    x = np.random.default_rng(3).normal(size=(11, 3)).astype(np.float32)
    np.save(folder / "x.npy", x)
    with group(folder, "commands", 2, 1, [folder], program=COMMANDS) as processes:
        assert processes.wait() == [0, 0], processes.texts()
        first, second = processes.texts()
    metrics = experiment.read_metrics(folder / "whole")
    assert metrics.conditions["batch=16"] == metrics.test  # the test data do not depend on the batch
    model = experiment.load(folder / "whole")
    np.testing.assert_allclose(np.load(folder / "predicted/y.npy"), jax.vmap(model)(x), rtol=2e-6, atol=1e-6)
    assert "11 sums, of which 2 processes have computed their share" in first
    assert json.loads((folder / "compared/table.json").read_text())[1]["run"] == "again"
    assert (folder / "benchmark/wrong-seed0.failure.txt").exists()
    runs = "[('wrong-seed0', False), ('mlp-seed0', True)]"
    assert runs in first
    said = [line for line in second.splitlines() if "Gloo" not in line]
    assert said == [runs]
