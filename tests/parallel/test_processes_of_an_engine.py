"""The engine on 2 processes of one device, against one process of 2 devices: the same program, the same numbers."""

import numpy as np
import pytest
from process_groups import explicit, group

PROGRAM = """
import pathlib, sys, time
from sciml import parallel
parallel.join(heartbeat=10, shutdown=10, patience=60)
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import train

folder, rank, several = pathlib.Path(sys.argv[1]), jax.process_index(), jax.process_count() > 1
x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
y = np.sin(x[:, :2] + x[:, 1:])

class Samples:
    read = []
    def __len__(self): return len(x)
    def __getitem__(self, rows):
        self.read.append(np.asarray(rows))
        return x[rows], y[rows]

def loss(model, batch, key):
    return jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2), {}

model = eqx.nn.MLP(3, 2, 16, 2, activation=jnp.tanh, key=jax.random.key(0))
optimiser = optax.chain(optax.clip_by_global_norm(0.3), optax.adam(1e-2), train.ema(0.9))
placement = parallel.Layout().on(8)
mesh = placement.mesh
assert mesh.size == 2 == len(jax.devices())
rows = lambda k: np.random.default_rng(k).permutation(64)[:8]

def trained(batches, steps, hooks=()):
    state = train.place(parallel.broadcast_arrays(train.init(model, optimiser)), placement)
    step = train.make_step(loss, optimiser, fetch=batches.fetch, placement=placement)
    return train.fit(state, step, batches, steps=steps, hooks=hooks)

def plain(name, tree):
    leaves = jax.tree.leaves(eqx.filter(parallel.own(tree), eqx.is_array))
    return {f"{name}{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}

found = plain("resident", trained(train.resident(Samples(), rows, placement=placement), 12))
Samples.read.clear()
found |= plain("streamed", trained(train.streamed(Samples(), rows, placement=placement), 12))
found["read"] = np.stack(Samples.read[:12])

# Clocks: process 1 is slower, and would save and stop at other steps
saved, seen = [], []
checkpoints = train.Checkpoints(folder / "checkpoints")
def slow(event): time.sleep(0.02 + 0.05 * rank)
def late(event):
    seen.append(event.metrics["clock"])
    if event.step >= (13 if rank == 0 else 7): raise train.Stop("the time is over")
hooks = [slow, lambda event: {"clock": time.perf_counter()}, train.checkpointing(checkpoints, seconds=0.1), late]
state = trained(train.resident(Samples(), rows, placement=placement), 40, [train.every(1, hook) for hook in hooks])
checkpoints.close()
found |= {"stopped": int(state.step), "saved": checkpoints.steps, "seen": np.array(seen)}
back = checkpoints.restore(state)
found |= plain("restored", back)

# Predictions: an uneven number of samples, a process with little memory, process 0 by itself
inputs = x[:17]
found["predicted"] = train.predict(model, inputs, size=6)
apply = train._predict._apply
def narrow(arrays, static, batch, placement):
    if len(batch[0]) > 2: raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: for this test")
    return apply(arrays, static, batch, placement)
if rank == 1: train._predict._apply = narrow
found["with little memory"] = train.predict(model, inputs, size=16)
train._predict._apply = apply
found["a single one"] = train.predict(model, inputs, size=1)
found["alone"] = parallel.by_first(lambda: float(train.predict(model, inputs).sum()))

# What process 0 has
found["agreed"] = parallel.broadcast([rank, float("nan"), 2.5])
found["sum"] = sum(parallel.broadcast(rank + i) for i in range(2500))
if several:
    from jax._src.distributed import global_state
    parallel.barrier("all have added")
    found["left"] = len(global_state.client.key_value_dir_get_bytes("sciml/value/"))
same = parallel.broadcast_arrays({"key": jax.random.key(rank), "x": jnp.full(3, rank), "name": f"of {rank}"})
found |= {"key": jax.random.key_data(same["key"]), "x": same["x"], "name": same["name"]}
spread = train.place({"key": jax.random.key(5), "y": jnp.arange(4)}, placement)
assert spread["y"].sharding.is_fully_replicated and len(spread["y"].sharding.device_set) == 2
found |= {"spread": jax.random.key_data(parallel.own(spread["key"]))}
try:
    parallel.by_first(lambda: 1 / 0)
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
parallel.barrier("end", seconds=30)
np.savez(folder / f"{rank}.npz", **found)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By process: what 2 processes have found, and what one of 2 devices has."""
    folder = tmp_path_factory.mktemp("engine")
    found = []
    for name, count in (("two", 2), ("one", 1)):
        (folder / name).mkdir()
        with group(folder, name, count, 2 // count, [folder / name], program=PROGRAM, variables=explicit) as processes:
            assert processes.wait() == [0] * count, processes.texts()
        found += [dict(np.load(folder / name / f"{rank}.npz")) for rank in range(count)]
    return found


def numbered(found, name):
    return [found[key] for key in sorted(found) if key.startswith(name) and key[len(name) :].isdecimal()]


@pytest.mark.parametrize("batches", ["resident", "streamed"])
def test_two_processes_train_like_two_devices_bit_for_bit(results, batches):
    *two, one = (numbered(found, batches) for found in results)
    assert len(one) > 10
    for found in two:
        assert len(found) == len(one)
        for array, expected in zip(found, one, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_each_process_reads_the_rows_of_its_devices(results):
    first, second, whole = (found["read"] for found in results)
    assert first.shape == second.shape == (12, 4)
    np.testing.assert_array_equal(np.concatenate((first, second), axis=1), whole)


def test_the_clock_of_process_0_decides(results):
    first, second, _ = results
    assert first["stopped"] == second["stopped"] == 13
    np.testing.assert_array_equal(first["saved"], second["saved"])
    np.testing.assert_array_equal(first["seen"], second["seen"])
    assert len(first["saved"]) >= 2
    for array, expected in zip(numbered(first, "restored"), numbered(second, "restored"), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", ["predicted", "with little memory", "a single one"])
def test_predictions_are_shared_and_known_to_all(results, name):
    first, second, one = (found[name] for found in results)
    assert one.shape == (17, 2)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, one, rtol=2e-6, atol=1e-6)  # other batches: float32 sums of 16 numbers
    np.testing.assert_allclose(one, results[2]["predicted"], rtol=2e-6, atol=1e-6)


def test_process_0_decides_for_all(results):
    first, second, one = results
    for found in (first, second):
        np.testing.assert_array_equal(found["agreed"], [0, np.nan, 2.5])
        np.testing.assert_allclose(found["alone"], one["alone"], rtol=1e-5)
        np.testing.assert_array_equal(found["key"], one["key"])
        np.testing.assert_array_equal(found["spread"], one["spread"])
        np.testing.assert_array_equal(found["x"], np.zeros(3))
    assert first["sum"] == second["sum"] == sum(range(2500))
    assert first["left"] == second["left"] <= 1000  # what was agreed on does not fill the memory of process 0
    assert first["error"] == "ZeroDivisionError: division by zero"
    assert second["error"] == "RuntimeError: Process 0: division by zero"
    assert (first["name"], second["name"]) == ("of 0", "of 1")  # what is no array stays
