"""A run on streamed windows of a file is killed and goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from trajectory_data import trajectories

from sciml import data, experiment

SCRIPT = """
import sys
import jax, optax
from sciml import data, experiment, operators, train
import numpy as np

file, out, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
windows = data.Streamed(data.TrajectoryWindows(data.open_data(file)), group=20_000)
found = train.batches(windows, lambda k: windows.batch_rows(4, 0, k), limit=windows.nbytes - 1)
assert found.source is None

def loss(model, batch, keys):
    frames = batch["frames"] - 5
    return jax.numpy.mean((jax.vmap(model)(frames[:, 0]) - frames[:, 1]) ** 2), {}

def evaluate(model, rest):
    errors = [loss(model, {"frames": one["frames"]}, None)[0] for one, _ in data.in_pieces(rest, limit=10_000)]
    return {"relative_l2": float(np.mean(errors))}

if __name__ == "__main__":
    # The engine keeps small data on the device; here they do not count as small
    train._batches.memory = lambda device: 4
    made = experiment.Experiment(
        model=operators.FNO(3, 3, modes=(4, 4), width=4, depth=1, grid=windows.grid, key=jax.random.key(0)),
        loss=loss, optimiser=optax.adam(1e-3), train=windows, steps=steps, batch=4, evaluate=evaluate,
        test=windows.windows.trajectories, every=10, save_seconds=0.0,
    )
    experiment.run(made, out)
"""


def saved(folder):
    place = folder / "checkpoints"
    return [int(one.name) for one in place.iterdir() if one.name.isdecimal()] if place.is_dir() else []


def trained(tmp_path, name, kill_at=None):
    """Trains in a process of its own, which is killed once it has a checkpoint of more than `kill_at` steps."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "data.h5"), str(tmp_path / name), "120"]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"})
        while process.poll() is None:
            if kill_at is not None and any(step > kill_at for step in saved(tmp_path / name)):
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
    assert process.returncode == (0 if kill_at is None else -signal.SIGKILL), (tmp_path / "output").read_text()[-3000:]


@pytest.mark.slow  # three processes that import JAX and compile
def test_a_killed_run_on_streamed_data_goes_on_bit_for_bit(tmp_path):
    data.convert(trajectories(), tmp_path / "data.h5")
    trained(tmp_path, "whole")
    trained(tmp_path, "killed", kill_at=30)
    assert 30 < max(saved(tmp_path / "killed")) < 120
    trained(tmp_path, "killed")
    whole, killed = (jax.tree.leaves(experiment.load(tmp_path / name, step=120)) for name in ("whole", "killed"))
    assert len(whole) == len(killed) > 4
    for one, other in zip(whole, killed, strict=True):
        np.testing.assert_array_equal(one, other)
