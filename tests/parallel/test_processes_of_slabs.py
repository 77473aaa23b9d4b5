"""Fields that are cut over 2 processes: each reads its half of them, and nothing else changes."""

import numpy as np
import pytest
from process_groups import explicit, group

from sciml import data
from sciml.grid import Grid

SAMPLES, FRAMES, X, Y = 9, 5, 8, 6

PROGRAM = """
import pathlib, sys
from sciml import parallel
parallel.join(heartbeat=10, shutdown=10, patience=60)
import equinox as eqx, h5py, jax, numpy as np, optax
from sciml import data, metrics, operators, train

folder, rank, batch = pathlib.Path(sys.argv[1]), jax.process_index(), 4
read, asked = h5py.Dataset.__getitem__, []

def counted(self, index, **rest):
    values = read(self, index, **rest)
    asked.append(np.asarray(values).nbytes)
    return values

h5py.Dataset.__getitem__ = counted
windows = data.TrajectoryWindows(data.open_data(folder / "data.h5"))
streamed = data.Streamed(windows, group=4000)
placement = parallel.Layout(space=(2,)).on(batch, windows.grid.shape)
assert placement.mesh.size == 2 == len(jax.devices())
x = np.random.default_rng(0).normal(size=(12, 3, *windows.grid.shape)).astype(np.float32)

class Undivided:
    def __init__(self, data): self.data = data
    def __len__(self): return len(self.data)
    def __getitem__(self, rows): return self.data[rows]

pairs = data.Pairs(x, -x[:, :1], grid=windows.grid)
order = lambda k: np.random.default_rng(k).permutation(12)[:batch]
of_windows = lambda k: streamed.batch_rows(batch, 0, k)
found = {}  # before a thread reads ahead
asked.clear()
train.resident(windows, of_windows, placement=placement)
found["half"] = sum(asked)
asked.clear()
windows.source()
found["all"] = sum(asked)
asked.clear()
assert train.batches(streamed, of_windows, placement=placement, limit=windows.nbytes - 1).source is None
found["to choose"] = sum(asked)

for known, rows, make in (
    (pairs, order, train.resident),
    (pairs, order, train.streamed),
    (Undivided(pairs), order, train.streamed),
    (windows, of_windows, train.resident),
    (windows, of_windows, train.streamed),
    (streamed, of_windows, train.streamed),
):
    batches = make(known, rows, placement=placement)
    placed, expected = batches.source, windows.source() if known is windows else known[np.arange(len(known))]
    if make is train.streamed:
        placed = batches.together([batches.item(0), batches.item(1)])
        expected = jax.tree.map(lambda *parts: np.stack(parts), known[rows(0)], known[rows(1)])
    halves = 0
    for one, whole in zip(jax.tree.leaves(placed), jax.tree.leaves(expected), strict=True):
        assert one.shape == whole.shape and one.dtype == whole.dtype
        for shard in one.addressable_shards:
            np.testing.assert_array_equal(shard.data, whole[shard.index])
        halves += 2 * shard.data.size == whole.size
    assert halves == 2, halves

def loss(model, batch, keys):
    frames = batch["frames"]
    return jax.numpy.mean(jax.vmap(metrics.relative_l2)(jax.vmap(model)(frames[:, 0]), frames[:, 1])), {}

model = operators.FNO(1, 1, modes=(4, 4), width=4, depth=1, grid=windows.grid, key=jax.random.key(0))
optimiser = optax.adam(1e-2)
for name, known in (("halves", streamed), ("whole", Undivided(streamed))):
    state = train.place(parallel.broadcast_arrays(train.init(model, optimiser)), placement)
    batches = train.streamed(known, of_windows, placement=placement)
    step = train.make_step(loss, optimiser, fetch=batches.fetch, placement=placement)
    state = train.fit(state, step, batches, steps=3)
    leaves = jax.tree.leaves(eqx.filter(parallel.own(state), eqx.is_array))
    found |= {f"{name}{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
np.savez(folder / f"{rank}.npz", **found)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each process has found."""
    folder, rng = tmp_path_factory.mktemp("slabs"), np.random.default_rng(1)
    channels, fixed = (data.Channel("u"),), (data.Channel("mask"),)
    layout = data.Layout("a", "b", SAMPLES, FRAMES, channels, Grid((X, Y)), fixed=fixed, parameters=("nu", "k"))
    frames, mask = rng.normal(size=layout.shape), rng.normal(size=(SAMPLES, 1, X, Y))
    made = data.InMemory(frames, layout, fixed=mask, parameters=rng.normal(size=(SAMPLES, 2)))
    data.convert(data.Trajectories(made), folder / "data.h5")
    with group(folder, "halves", 2, 1, [folder], program=PROGRAM, variables=explicit) as processes:
        assert processes.wait() == [0, 0], processes.texts()
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def test_each_process_asks_for_its_half_of_the_fields(results):
    first, second = results
    fields, numbers = 4 * SAMPLES * (FRAMES + 1) * X * Y, 4 * SAMPLES * 2
    assert first["all"] == fields + numbers
    assert first["half"] == second["half"] == fields // 2 + numbers
    assert first["to choose"] == second["to choose"] == 0


def test_training_is_the_same_bit_for_bit(results):
    names = [name for name in results[0] if name.startswith("whole")]
    assert len(names) > 4
    for found in results:
        for name in names:
            np.testing.assert_array_equal(found[name.replace("whole", "halves")], found[name])
            np.testing.assert_array_equal(found[name], results[0][name])
