"""Samples drawn by 2 processes with 8 devices are those of one device, in one file that is complete or absent."""

import dataclasses
import pathlib
import types
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from process_groups import explicit, group

from sciml import data, systems
from sciml.data import _generated
from sciml.grid import Grid
from sciml.pdes import Burgers, Darcy

PROBLEMS = {
    "darcy": Darcy(resolution=8),  # conjugate gradients: a loop of its own length on each device
    "burgers": Burgers(resolution=16, frames=2, step=0.1, viscosity=(0.02, 0.5)),
}
N, SEED = 7, 3
SETS = {
    "evolutions": systems.PdeMixture(
        families=("heat",),
        evolutions=systems.Evolutions(initial_conditions=3, candidates=6, frames=4, points=16),
    ),
    "states": systems.Mixture(
        families=("lorenz_96_5d",),
        solutions=systems.Solutions(initial_conditions=3, candidates=12, points=21, end=1.0),
    ),
}

PROGRAM = """
import pathlib, sys
from sciml import parallel
parallel.join(heartbeat=10, shutdown=10, patience=60)
import types
import jax, numpy as np
sys.path[:0] = sys.argv[2:4]
import test_processes_of_generators as shared
from sciml import data, experiment, systems
from sciml.cli import main

folder, rank, found = pathlib.Path(sys.argv[1]), jax.process_index(), {}
for name, problem in shared.PROBLEMS.items():
    seen = []
    path = folder / "made" / f"{name}.h5"
    data.generate(problem, path, n=shared.N, seed=shared.SEED, batch=6, progress=lambda done, n: seen.append(done))
    assert path.exists()
    drawn = data.draw(problem, n=shared.N, seed=shared.SEED)
    found |= {f"{name}_x": drawn.x, f"{name}_y": drawn.y, f"{name}_seen": seen}
for name in sys.argv[4:]:
    (part,) = systems.stored_trajectories(shared.SETS[name], folder / "sets", count=2, seed=shared.SEED, lanes=8)
    found |= {f"{name}_states": part.states, f"{name}_tried": part.tried}

def failed(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

problem = shared.PROBLEMS["burgers"]
kept = folder / "made" / "burgers.h5"
found["there"] = failed(lambda: data.generate(problem, kept, n=shared.N, seed=shared.SEED))
bad = shared.Bad()
found["bad"] = failed(lambda: data.generate(bad, folder / "bad.h5", n=shared.N, seed=0, batch=2))
write = data._generated._write
def full(stored, piece, start):
    if start: raise OSError(28, "No space left on device")
    write(stored, piece, start)
data._generated._write = full
found["full"] = failed(lambda: data.generate(problem, folder / "full.h5", n=shared.N, seed=0, batch=2))
data._generated._write = write

# A build of an experiment: all processes at once, one file
builds = []
def build(config):
    builds.append(len(data.cached(problem, folder / "cached", n=shared.N, seed=0)))
    return experiment.Experiment(None, None, None, train=[0], steps=1, batch=1, evaluate=None, test=None)
module = types.SimpleNamespace(build=build, __file__="experiment.py")
experiment.build_with(module, shared.Nothing())
experiment.build_with(module, shared.Nothing())
found["builds"] = builds
command = ["generate", "burgers", "--n", "5", "--resolution", "16", "--step", "0.1", "--time", "0.1"]
assert main([*command, "--out", str(folder / "said.h5")]) == 0
parallel.barrier("end", seconds=30)
np.savez(folder / f"{rank}.npz", **found)
"""


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A config without settings."""


@dataclasses.dataclass(frozen=True)
class Bad:
    """Noise that is NaN where its mean is above the limit."""

    inputs: ClassVar[tuple[str, ...]] = ("noise",)
    outputs: ClassVar[tuple[str, ...]] = ("noise",)
    grid: ClassVar[Grid] = Grid((6,))
    limit: float = 0.2

    def sample(self, key):
        x = jax.random.normal(key, (1, 6), float)
        return x, jnp.where(jnp.mean(x) < self.limit, x, jnp.nan)


@pytest.fixture(
    scope="module",
    params=[(2, 4, "evolutions"), *(pytest.param((*one, *SETS), marks=pytest.mark.slow) for one in ((2, 1), (1, 8)))],
    ids="{0[0]} processes of {0[1]}".format,
)
def results(request, tmp_path_factory):
    """The folder, and what each process has found."""
    (count, devices, *sets), folder = request.param, tmp_path_factory.mktemp("generators")
    here = pathlib.Path(__file__).resolve().parent
    arguments = [folder, here, here.parent, *sets]
    with group(folder, "drawn", count, devices, arguments, program=PROGRAM, variables=explicit) as processes:
        assert processes.wait() == [0] * count, processes.texts()
    return folder, [dict(np.load(folder / f"{rank}.npz")) for rank in range(count)]


@pytest.mark.parametrize("name", PROBLEMS)
def test_samples_are_those_of_one_device(results, name):
    expected, (folder, every) = data.draw(PROBLEMS[name], n=N, seed=SEED), results
    stored = data.read(folder / "made" / f"{name}.h5")
    np.testing.assert_array_equal(stored.x, expected.x)
    assert stored.attributes == expected.attributes
    assert (stored.parameters is None) == (name == "darcy")
    for found in every:
        np.testing.assert_array_equal(found[f"{name}_x"], expected.x)
        for y in (found[f"{name}_y"], stored.y):
            np.testing.assert_allclose(y, expected.y, rtol=1e-6, atol=1e-7)  # computed in float64, stored in float32
        assert found[f"{name}_seen"].tolist() == [0, 6, 7]


def test_trajectories_are_those_of_one_device(results):
    names = [path.name for path in (results[0] / "sets").iterdir()]
    drawn = [name for name in SETS if f"{name}_states" in results[1][0]]
    assert len(names) == len(drawn) >= 1
    for name in drawn:
        expected = systems.draw_trajectories(SETS[name], range(2), seed=SEED, lanes=8)
        for found in results[1]:
            np.testing.assert_allclose(found[f"{name}_states"], expected.states, rtol=1e-5, atol=1e-5)  # of test_shards
            np.testing.assert_array_equal(found[f"{name}_tried"], expected.tried)


def test_errors_are_those_of_all_processes_and_leave_no_file(results):
    means = data.draw(Bad(limit=99.0), n=N, seed=0).x.mean(axis=(1, 2))
    first = int(np.argmax(means >= Bad.limit))
    assert means[first] >= Bad.limit
    bad = f"RuntimeError: Sample {first} of Bad(limit=0.2) with seed 0 is not finite"
    folder, every = results
    assert [path.name for path in folder.iterdir() if path.name.startswith(("bad", "full", "."))] == []
    for rank, found in enumerate(every):
        assert str(found["bad"]).startswith(bad)
        there, full = str(found["there"]), str(found["full"])
        assert there.startswith("RuntimeError: Process 0: " if rank else "FileExistsError: ")
        assert "burgers.h5 exists and is kept" in there
        assert full.startswith("RuntimeError: Process 0: " if rank else "OSError: ")
        assert "No space left on device" in full


def test_experiments_and_commands_draw_together(results):
    folder, every = results
    assert [found["builds"].tolist() for found in every] == [[N, N]] * len(every)
    assert len(list((folder / "cached").iterdir())) == 1
    assert len(data.read(folder / "said.h5")) == 5


@pytest.mark.parametrize(
    ("counts", "platform", "wanted", "most", "expected"),
    [
        ((1,), "cpu", 32, 1000, (32, 1)),
        ((2,), "cpu", 7, 1000, (7, 1)),  # one device of a CPU
        ((4,), "cpu", 32, 2, (2, 1)),
        ((4, 4), "cpu", 32, 6, (12, 2)),
        ((2, 1), "cpu", 32, 1, (2, 2)),
        ((8,), "gpu", 32, 1, (8, 8)),
        ((8,), "gpu", 5, 1000, (5, 5)),
        ((8,), "gpu", 33, 1000, (35, 7)),
    ],
)
def test_how_many_samples_are_drawn_at_once(monkeypatch, counts, platform, wanted, most, expected):
    devices = [
        types.SimpleNamespace(process_index=process, platform=platform)
        for process, count in enumerate(counts)
        for _ in range(count)
    ]
    monkeypatch.setattr("sciml.parallel._shares.all_devices", lambda: devices)
    size, used = _generated._at_once(wanted, most)
    assert (size, len(used)) == expected
    if len(counts) > 1 and most < max(counts):
        assert [one.process_index for one in used] == [0, 1]
