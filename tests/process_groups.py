"""Groups of processes over loopback, as a launcher starts them. None of them outlives its block."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

LIMIT = 100  # s, of everything that waits for processes

PROGRAM = """
import sys
from sciml import parallel
parallel.join(heartbeat=10, shutdown=10, patience=60)
from sciml.cli import main
sys.exit(main())
"""
"""The command line, whose processes notice sooner that another one died."""

EXPERIMENT = '''
"""Two sums of three numbers, some of whose runs are slow, or fail on one process."""
import dataclasses, os, time
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import data, experiment, train

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "mlp"  # One of MODELS.
    run: experiment.Training = experiment.Training(steps=60, batch=8, lr=1e-2)

PRESETS = {"full": Config()}
MODELS = {
    "mlp": lambda key: eqx.nn.MLP(3, 2, 16, 2, activation=jnp.tanh, key=key),
    "wrong": lambda key: eqx.nn.MLP(7, 2, 16, 2, activation=jnp.tanh, key=key),  # its loss cannot be computed
}

def pairs(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, 3, 1)).astype(np.float32)
    return data.Pairs(x, np.sin(x[:, :2] + x[:, 1:]))

def loss(model, batch, key):
    x, y = batch
    return jnp.mean((jax.vmap(model)(x[..., 0]) - y[..., 0]) ** 2), {}

def evaluate(model, pairs):
    error = train.predict(model, pairs.x[..., 0], size=6) - pairs.y[..., 0]
    return {"rmse": float(np.sqrt(np.mean(error**2)))}

@dataclasses.dataclass(frozen=True)
class Nothing:
    """Apply the model to the numbers of a file."""

def apply(model, path, out, options):
    out.mkdir()
    found = train.predict(model, np.load(path), size=6)
    np.save(out / "y.npy", found)
    return [f"{len(found)} sums, of which {jax.process_count()} processes have computed their share"]

def build(config):
    def slow(event):  # process 1 twice as slow as process 0
        time.sleep(float(os.environ.get("PAUSE", "0")) * (1 + jax.process_index()))
        if event.step == 3 and os.environ.get("FAILS") == str(jax.process_index()):
            raise OSError(28, "No space left on device")

    return experiment.Experiment(
        model=MODELS[config.model](jax.random.key(0)), loss=loss, optimiser=optax.adam(1e-2),
        train=pairs(64, 0), validation=pairs(17, 1), test=pairs(23, 2), evaluate=evaluate, metric="rmse",
        steps=config.run.steps_for(64), batch=config.run.batch, seed=config.run.seed, save_seconds=0.2, every=5,
        predict=experiment.Prediction(Nothing, apply),
        hooks=lambda folder: [train.every(1, slow)])
'''


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def explicit(rank: int, count: int, port: int) -> dict[str, str]:
    return {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "SCIML_PROCESSES": f"{count}", "SCIML_RANK": f"{rank}"}


def slurm(rank: int, count: int, port: int) -> dict[str, str]:
    """What `srun` sets; JAX makes a port of the number of the job unless it is given one."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": f"{count}",
        "SLURM_PROCID": f"{rank}",
        "SLURM_LOCALID": f"{rank}",
        "JAX_COORDINATOR_PORT": f"{port}",
    }


class Group:
    """Processes that run `python -c PROGRAM arguments`, each with its output in a file."""

    def __init__(self, folder: pathlib.Path, name: str, count: int, devices: int, program, arguments, variables, more):
        self.outputs = [folder / f"{name}-{rank}.txt" for rank in range(count)]
        port = free_port()
        self.processes = []
        for rank, output in enumerate(self.outputs):
            own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": f"{devices}", "PYTHONUNBUFFERED": "1"} | more
            if count > 1:
                own |= variables(rank, count, port)
            with output.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", program, *map(str, arguments)],
                        env=os.environ | own, stdout=file, stderr=subprocess.STDOUT, cwd=folder,
                    )
                )  # fmt: skip

    def wait(self, limit: float = LIMIT) -> list[int]:
        """The exit codes of all."""
        end = time.monotonic() + limit
        return [one.wait(max(0.1, end - time.monotonic())) for one in self.processes]

    def send(self, rank: int, number: signal.Signals) -> None:
        self.processes[rank].send_signal(number)

    def texts(self) -> list[str]:
        return [path.read_text() for path in self.outputs]

    def errors(self) -> list[list[str]]:
        """The lines by which the command line says what is wrong."""
        return [[line for line in text.splitlines() if line.startswith("sciml: ")] for text in self.texts()]


@contextlib.contextmanager
def group(folder, name, count, devices, arguments, *, program=PROGRAM, variables=explicit, **more):
    """Processes with `devices` each, and further variables of the environment."""
    one = Group(folder, name, count, devices, program, arguments, variables, more)
    try:
        yield one
    finally:
        for process in one.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def until(condition, processes: Group, limit: float = LIMIT) -> None:
    """Waits until a condition holds, or fails with what the processes have said."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, processes.texts()
        assert None in [one.poll() for one in processes.processes], processes.texts()
        time.sleep(0.05)
