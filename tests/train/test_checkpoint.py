import os
import pathlib
import subprocess

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import train
from sciml.nn import Frozen


class Noisy(eqx.Module):
    """A linear map with everything a checkpoint may meet: a key, integers, no elements, static parts."""

    weight: jax.Array
    key: jax.Array
    count: jax.Array
    nothing: jax.Array
    statistics: Frozen
    name: str = "noisy"
    activation: object = jnp.tanh


def noisy(out=2):
    weight = jax.random.normal(jax.random.key(5), (out, 3))
    statistics = Frozen(np.arange(3.0, dtype=np.float32))
    return Noisy(weight, jax.random.key(9), jnp.arange(4), jnp.zeros((0, 3)), statistics)


def loss(model, batch, keys):
    x = batch + jax.random.normal(keys[0], batch.shape) + jax.random.normal(model.key, batch.shape)
    return jnp.mean(model.activation(x @ model.weight.T + model.count[2]) ** 2), {}


def optimiser():
    schedule = optax.cosine_decay_schedule(1e-2, 20)
    return optax.MultiSteps(optax.chain(optax.inject_hyperparams(optax.adamw)(schedule), train.ema(0.9)), 2)


def leaves(tree):
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    arrays = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]
    return [np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in arrays]


def assert_equal(one, other):
    for first, second in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(first, second)


def trained(folder, steps, *, restore=False):
    """The state after `steps`, saved every 3 steps; optionally going on from the last checkpoint."""
    checkpoints = train.Checkpoints(folder)
    state = train.init(noisy(), optimiser())
    if restore:
        state = checkpoints.restore(state)
    batches = train.Batches(lambda k: np.random.default_rng(k).normal(size=(4, 3)).astype(np.float32))
    step = train.make_step(loss, optimiser(), seed=1)
    state = train.fit(state, step, batches, steps=steps, hooks=[train.every(3, train.checkpointing(checkpoints))])
    checkpoints.close()
    return state


def linear(value=0.0, steps=0, size=3):
    state = train.init({"weight": jnp.full((2, size), float(value))}, optax.adam(1e-3))
    return eqx.tree_at(lambda state: state.step, state, jnp.int32(steps))


@pytest.fixture
def checkpoints(tmp_path):
    opened = train.Checkpoints(tmp_path / "checkpoints", metric="error", keep=2)
    yield opened
    opened.close()


def test_going_on_from_a_checkpoint_ends_bit_for_bit_where_one_run_ends(tmp_path):
    whole = trained(tmp_path / "whole", 12)
    trained(tmp_path / "parts", 7)  # odd: in the middle of an accumulation
    resumed = trained(tmp_path / "parts", 12, restore=True)
    assert_equal(resumed, whole)
    assert resumed.model.name == "noisy"


def test_restored_models_have_averaged_parameters_if_there_are_any(tmp_path):
    state = trained(tmp_path, 12)
    checkpoints = train.Checkpoints(tmp_path)
    assert_equal(checkpoints.restore_model(noisy()), train.ema_model(state))
    assert not np.array_equal(train.ema_model(state).weight, state.model.weight)
    checkpoints.close()


def test_saves_within_the_pause_are_left_out_unless_the_state_is_the_best_so_far(checkpoints):
    hook = train.checkpointing(checkpoints, seconds=1000.0)
    errors = {1: {"error": 3.0}, 2: {"error": 4.0}, 3: {"error": 2.0}, 4: {"error": float("nan")}, 5: {}}
    for step, metrics in errors.items():
        hook(train.Event(step, 9, linear(step, step), {}, metrics))
    checkpoints.wait()
    saved = sorted(int(path.name) for path in checkpoints.folder.iterdir())
    assert saved == [1, 3]
    opened = train.Checkpoints(checkpoints.folder, metric="error")  # a resumed run knows what is the lowest
    assert (opened.is_best({"error": 2.5}), opened.is_best({"error": 1.5})) == (False, True)
    opened.close()


def test_the_best_and_the_last_two_are_kept_also_by_another_process(checkpoints):
    for step, error in enumerate([3.0, 1.0, 2.0, 5.0, 4.0, float("nan")], 1):
        checkpoints.save(linear(step, step), {"error": error})
    checkpoints.wait()
    for opened in (checkpoints, train.Checkpoints(checkpoints.folder, metric="error")):
        assert (opened.best, opened.latest) == (2, 6)
        assert opened.metrics(5) == {"error": 4.0}
        np.testing.assert_array_equal(opened.restore(linear(), opened.best).model["weight"], 2.0)
    assert sorted(path.name for path in checkpoints.folder.iterdir() if path.name.isdigit()) == ["2", "5", "6"]


def test_without_a_metric_the_last_is_the_best(tmp_path):
    checkpoints = train.Checkpoints(tmp_path)
    assert checkpoints.latest is None
    assert checkpoints.best is None
    for step in range(1, 4):
        checkpoints.save(linear(step, step))
        checkpoints.save(linear(-1.0, step))  # a step that is already there is left alone
    checkpoints.wait()
    assert checkpoints.best == 3
    np.testing.assert_array_equal(checkpoints.restore(linear()).model["weight"], 3.0)
    checkpoints.close()


def test_a_checkpoint_is_of_the_state_that_was_saved_although_training_goes_on(tmp_path):
    """The next steps overwrite the donated buffers while 40 MB are being written."""
    optimiser = optax.sgd(1.0)
    grow = train.make_step(lambda model, batch, keys: (-jnp.sum(model), {}), optimiser)
    state = train.init(jnp.zeros((10, 1_000_000)), optimiser)
    checkpoints = train.Checkpoints(tmp_path)
    state, _ = grow(state, None, np.zeros(1))
    checkpoints.save(state)
    for _ in range(5):
        state, _ = grow(state, None, np.zeros(1))
    np.testing.assert_array_equal(checkpoints.restore(train.init(jnp.ones((10, 1_000_000)), optimiser), 1).model, 1.0)
    checkpoints.close()


def test_a_checkpoint_of_another_model_is_refused_with_the_arrays_that_differ(checkpoints):
    checkpoints.save(linear(1.0, 1))
    checkpoints.wait()
    with pytest.raises(ValueError, match=r"another model\. model\['weight'\]: expected \(2, 4\) float32, got \(2, 3\)"):
        checkpoints.restore(linear(size=4))
    sgd = train.init({"weight": jnp.ones((2, 3))}, optax.sgd(1e-3, momentum=0.9))
    message = (
        r"another optimiser\. optimiser\[0\]\.trace\['weight'\]: expected \(2, 3\) float32, got nothing; .* and \d"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(sgd)
    with pytest.raises(ValueError, match="settings of that run, or use another folder"):
        checkpoints.restore_model({"bias": jnp.ones(2)})


def test_a_missing_checkpoint_is_named(checkpoints):
    with pytest.raises(FileNotFoundError, match="There is no checkpoint in"):
        checkpoints.restore(linear())
    checkpoints.save(linear(1.0, 1))
    checkpoints.wait()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 in .*only \[1\]"):
        checkpoints.restore(linear(), 7)


def test_a_state_that_is_not_finite_is_never_saved(checkpoints):
    with pytest.raises(FloatingPointError, match="not finite after step 4, so this state is not saved"):
        checkpoints.save(linear(jnp.nan, 4))
    assert checkpoints.latest is None


def test_half_written_checkpoints_of_a_killed_run_are_removed(checkpoints):
    leftover = checkpoints.folder / "5.orbax-checkpoint-tmp"
    (leftover / "model").mkdir(parents=True)
    assert train.Checkpoints(checkpoints.folder).latest is None
    assert leftover.exists()  # reading does not disturb a run that is going on
    checkpoints.save(linear(1.0, 5))
    checkpoints.wait()
    assert not leftover.exists()
    assert checkpoints.latest == 5


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    folder: pathlib.Path = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not permit to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_reported_and_earlier_checkpoints_survive(small_disk):
    weight = jax.random.normal(jax.random.key(0), (1000, 200))  # 0.8 MB that do not compress
    state = train.init(weight, optax.sgd(0.1))
    checkpoints = train.Checkpoints(small_disk / "checkpoints", keep=1)
    checkpoints.save(state)
    checkpoints.wait()
    (small_disk / "other").write_bytes(bytes(900_000))
    checkpoints.save(eqx.tree_at(lambda state: state.step, state, jnp.int32(1)))
    message = r"disk is full: the checkpoint of step 1 could not be saved.*steps \[0\] are intact; free some space"
    with pytest.raises(OSError, match=message):
        checkpoints.wait()
    checkpoints.close()
    again = train.Checkpoints(small_disk / "checkpoints")
    assert again.latest == 0
    np.testing.assert_array_equal(again.restore(train.init(jnp.zeros_like(weight), optax.sgd(0.1))).model, weight)
    (small_disk / "other").unlink()
    again.save(eqx.tree_at(lambda state: state.step, state, jnp.int32(1)))
    again.close()
    assert again.latest == 1


def test_a_save_that_takes_too_long_is_one_line_and_leaves_the_others(tmp_path, monkeypatch):
    """Orbax measures its time limits by the clock of the machine, which may jump."""
    checkpoints = train.Checkpoints(tmp_path)
    checkpoints.save(train.init(noisy(), optimiser()))
    checkpoints.wait()

    def late(*arguments, **options):
        raise TimeoutError("Timeout waiting for key 'x'")

    monkeypatch.setattr(checkpoints._orbax, "save", late)
    later = eqx.tree_at(lambda state: state.step, train.init(noisy(), optimiser()), jnp.int32(5))
    message = r"or the clock of the machine has jumped: the checkpoint of step 5 .* steps \[0\] are intact; go on from"
    with pytest.raises(TimeoutError, match=message):
        checkpoints.save(later)
