"""A run is killed or asked to end at random moments, on 1 to 4 processes, and goes on as if nothing had happened."""

import random
import shutil
import signal
import time

import equinox as eqx
import jax
import numpy as np
import pytest
from process_groups import EXPERIMENT, group, until

from sciml import experiment

STEPS = 60  # of the experiment's preset


def trained(folder, name, count, devices, **more):
    (folder / "sums.py").write_text(EXPERIMENT)
    arguments = ["train", folder / "sums.py", "--out", folder / name]
    return group(folder, f"{name}-{time.monotonic_ns()}", count, devices, arguments, **more)


def parameters(folder):
    return jax.tree.leaves(eqx.filter(experiment.load(folder, step=STEPS), eqx.is_array))


def finished(folder, name, count, devices):
    with trained(folder, name, count, devices) as one:
        assert one.wait() == [0] * count, one.texts()


@pytest.mark.slow  # 20 starts of processes
@pytest.mark.parametrize("seed", [0, 1])
def test_four_devices_in_2_or_4_processes_are_one_run(tmp_path, seed):
    draw = random.Random(seed)
    finished(tmp_path, "whole", 2, 2)  # one process of 4 devices adds their gradients in another order
    run = tmp_path / "run"
    for count, devices in draw.sample([(4, 1), (2, 2), (4, 1), (2, 2)], 4):
        with trained(tmp_path, "run", count, devices, PAUSE="0.1") as one:
            begin = (run / "log.jsonl").read_text() if (run / "log.jsonl").exists() else ""
            until(lambda begin=begin: (run / "log.jsonl").exists() and (run / "log.jsonl").read_text() != begin, one)
            time.sleep(draw.uniform(0, 1.5))
            rank, number = draw.randrange(count), draw.choice([signal.SIGTERM, signal.SIGKILL])
            one.send(rank, number)
            codes = one.wait(60)
            if number == signal.SIGTERM:
                assert codes == [0] * count, one.texts()
            else:  # without process 0, JAX itself may end the others before they have noticed: by SIGABRT
                assert codes[rank] == -signal.SIGKILL
                assert all(code in (1, -signal.SIGABRT) for i, code in enumerate(codes) if i != rank), one.texts()
    shutil.copytree(run, tmp_path / "on one device")
    finished(tmp_path, "run", 2, 2)
    finished(tmp_path, "on one device", 1, 1)
    for array, other, expected in zip(
        parameters(run), parameters(tmp_path / "on one device"), parameters(tmp_path / "whole"), strict=True
    ):
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order
    tests = [experiment.read_metrics(folder).test for folder in (run, tmp_path / "whole")]
    assert tests[0] == tests[1]
