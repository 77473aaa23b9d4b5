"""One valid original of each kind of file, and what lies outside of it."""

import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
from typing import ClassVar

import h5py
import jax
import numpy as np
from rich.console import Console

from sciml import data, experiment, symbolic, systems
from sciml.grid import Dirichlet, Grid, Periodic

SECRET = b"the planted secret 7c1e5a"
"""What no result and no message may hold."""

EXPERIMENT = '''
"""A small experiment."""
import dataclasses
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import data, experiment, train

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "mlp"
    rate: float = 1e-2
    noise: float = 0.0
    sizes: tuple[int, ...] = (8, 4)

PRESETS = {"short": Config()}
MODELS = {"mlp": lambda key: eqx.nn.MLP(1, 1, 48, 2, activation=jnp.tanh, key=key)}

def pairs(n, seed):
    x = np.random.default_rng(seed).uniform(-1, 1, (n, 1, 1)).astype(np.float32)
    return data.Pairs(x, np.sin(3 * x))

def loss(model, batch, keys):
    return jnp.mean((jax.vmap(model)(batch[0][..., 0]) - batch[1][..., 0]) ** 2), {}

def evaluate(model, pairs):
    return {"rmse": float(np.sqrt(np.mean((train.predict(model, pairs.x[..., 0]) - pairs.y[..., 0]) ** 2)))}

def build(config):
    return experiment.Experiment(
        model=MODELS[config.model](jax.random.key(0)), loss=loss, optimiser=optax.adam(config.rate),
        train=pairs(40, 0), validation=pairs(10, 1), test=pairs(10, 2), evaluate=evaluate, metric="rmse",
        steps=6, batch=10, every=2, save_seconds=0.0)
'''

TEXTS = (
    "10.0 * u_1 + -10.0 * u_0 | 28.0 * u_0 - u_0 * u_2 - u_1 | u_0 * u_1 + -2.67 * u_2",
    "sin(u_0)**2 + inv(1.0 + u_0**3) | exp(neg(u_1)) / (2 + cos(u_0 * 3.5))",
    "PLACEHOLDER * u_0 - sqrt(u_1**4) | log(u_0) - -1.5e-3 | tanh(u_2)**u_1",
    "u_0",
    "-1.0 * u_1 | u_0 * (1.0 - u_0 * u_0) - 0.5 * u_1",
)
"""Systems of equations."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """A problem of white noise on 6 x 5 points."""

    level: float = 2.0
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    outputs: ClassVar[tuple[str, ...]] = ("c",)

    @property
    def grid(self):
        return Grid((6, 5), (2.0, 1.0), (Periodic(), Dirichlet(0.0)))

    def sample(self, key):
        return jax.random.normal(key, (2, 6, 5)), self.level * jax.random.normal(key, (1, 6, 5))


@dataclasses.dataclass(frozen=True)
class World:
    """The originals in one folder.

    Attributes:
        root: That folder.
        own: Name of what lies outside, so that several processes do not notice one another.
    """

    root: pathlib.Path
    own: str = "outside"

    @property
    def experiment(self):
        """The experiment file of both runs."""
        return self.root / "experiment" / "small.py"

    @property
    def outside(self):
        """A folder that nothing may be read from."""
        return self.root / self.own

    def __getitem__(self, name):
        """The folder of one original, such as `finished` or `pairs`."""
        return self.root / "originals" / name


def make(root):
    """Makes all originals below a folder that is empty or does not exist."""
    world = World(pathlib.Path(root).resolve())
    world.experiment.parent.mkdir(parents=True)
    world.experiment.write_text(EXPERIMENT)
    _runs(world)
    _hdf5(world)
    _arrays(world)
    _old(world)
    plant(world)
    return world


def tokens(text):
    """The prefix tokens of a system of equations."""
    return symbolic.system_to_tokens(symbolic.system_from_text(text))


def canary(path):
    """An experiment file that notes its execution in a file beside it."""
    mark = f"import pathlib\npathlib.Path({str(path)!r} + '.executed').touch()\n"
    path.write_text(mark + EXPERIMENT)
    return path


def _runs(world):
    module = experiment.load_file(world.experiment)
    folder = world["finished"] / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        experiment.run_file(module, module.Config(), folder, console=Console(file=io.StringIO()))
    shutil.rmtree(folder / "figures", ignore_errors=True)
    shutil.copytree(folder, world["unfinished"] / "run")
    (world["unfinished"] / "run" / "metrics.json").unlink()


def _hdf5(world):
    data.generate(Noise(), world["pairs"] / "a.h5", n=4, seed=1)
    few = systems.Solutions(initial_conditions=2, candidates=8, points=21, end=1.0)
    source = systems.Mixture(families=("lorenz_96_5d",), solutions=few)
    systems.generate_trajectories(source, world["shards"] / "set", count=3, seed=7, per_shard=1, lanes=4)


def _old(world):
    """Files of version 0.1, whose digests cover less or nothing."""
    tests = pathlib.Path(__file__).resolve().parents[1]
    for name in ("old_pairs", "old_shards", "old_run"):
        world[name].mkdir()
    shutil.copyfile(tests / "data" / "pairs_version_1.h5", world["old_pairs"] / "a.h5")
    (world["old_shards"] / "set").mkdir()
    shutil.copyfile(tests / "systems" / "trajectories_version_1.h5", world["old_shards"] / "set" / "00000-of-00001.h5")
    shutil.copytree(tests / "experiment" / "runs_of_0_1" / "latent", world["old_run"] / "run")


def _arrays(world):
    rng = np.random.default_rng(3)
    world["npz"].mkdir()
    np.savez(world["npz"] / "a.npz", x=rng.normal(size=(3, 6, 5)), y=rng.normal(size=(3, 6, 5)))
    world["packed"].mkdir()
    np.savez_compressed(world["packed"] / "a.npz", x=rng.integers(9, size=(3, 6)), y=rng.integers(9, size=(3, 6)))
    times, states = np.linspace(0, 2, 21), rng.normal(size=(21, 2))
    world["trajectory"].mkdir()
    np.savez(world["trajectory"] / "a.npz", t=times, u=states)
    world["csv"].mkdir()
    table = np.column_stack((times, states))
    np.savetxt(world["csv"] / "a.csv", table, fmt="%.9g", delimiter=",", header="t,u_0,u_1", comments="")
    world["csv_plain"].mkdir()
    np.savetxt(world["csv_plain"] / "a.csv", table, fmt="%.17g", delimiter=",")


def plant(world):
    """Makes what lies outside of the folders of all cases."""
    world.outside.mkdir()
    (world.outside / "secret.txt").write_bytes(SECRET * 400)
    (world.outside / "secret.json").write_text(json.dumps({"secret": SECRET.decode(), "test": {SECRET.decode(): 1.0}}))
    (world.outside / "secret.csv").write_text("t,u_0\n0,7.2531e5\n1,7.2531e5\n")
    (world.outside / "folder").mkdir()
    (world.outside / "folder" / "secret.txt").write_bytes(SECRET)
    with h5py.File(world.outside / "secret.h5", "w") as file:
        file["x"] = np.frombuffer((SECRET * 400)[:2880], np.float32).reshape(4, 6, 30)
    canary(world.outside / "canary.py")
