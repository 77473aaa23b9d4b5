"""Equinox modules of other packages as operators: the engine, the wrappers and rollouts ask for a call alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import data, experiment, interop, rollout, structure, tasks, zoo
from sciml.grid import Grid
from sciml.operators import InPrecision, Normalised, Normaliser, Resampled, Residual, WithFields

KEY = jax.random.key(0)
SIZE = 12


class Plain(eqx.Module):
    """A module that knows nothing of this package: two convolutions along one axis, and an int that is no array."""

    first: eqx.nn.Conv1d
    second: eqx.nn.Conv1d
    dimensions: int

    def __init__(self, into, out, *, key):
        first, second = jax.random.split(key)
        self.first = eqx.nn.Conv1d(into, 5, 3, padding="SAME", padding_mode="CIRCULAR", key=first)
        self.second = eqx.nn.Conv1d(5, out, 1, key=second)
        self.dimensions = 1

    def __call__(self, x, *, key=None):
        return self.second(jax.nn.gelu(self.first(x)))


def plain(in_channels, out_channels, *, grid, key):
    return Plain(in_channels, out_channels, key=key)


def fields(channels):
    return np.random.default_rng(0).normal(size=(20, channels, SIZE)).astype(np.float32)


def trained(make, folder):
    x = fields(1)
    kept, held = data.split(data.Pairs(x, 2 * x, grid=Grid((SIZE,))), (0.8, 0.2), seed=0)
    architecture = zoo.Architecture(make, 1e-2, optimiser="adamw")
    task = tasks.fields(architecture, tasks.Parts(kept, None, held), experiment.Training(steps=30, batch=4))
    return experiment.run(task, folder)["test"]


def test_an_experiment_trains_saves_and_loads_it(tmp_path):
    errors = trained(plain, tmp_path / "run")
    assert errors["relative_l2"] < 0.9
    with pytest.raises(ValueError, match=r"Plain, which is not in the table.*structure.modules_of\(package\)"):
        experiment.load(tmp_path / "run")
    model = experiment.load(tmp_path / "run", classes=(Plain,))
    assert isinstance(model, Normalised)
    assert isinstance(model.operator, Plain)
    states = rollout.rollout(model, jnp.asarray(fields(1)[0]), 3)
    np.testing.assert_allclose(states[1], model(model(jnp.asarray(fields(1)[0]))), rtol=1e-5)


def test_wrappers_take_it():
    x, grid = jnp.asarray(fields(2)[0]), Grid((SIZE,))
    model = Plain(2, 2, key=KEY)
    one = Normaliser(jnp.ones((2, 1)), 2 * jnp.ones((2, 1)))
    np.testing.assert_allclose(Normalised(model, one, one)(x), 2 * model((x - 1) / 2) + 1, rtol=1e-5)
    np.testing.assert_allclose(Residual(model)(x), x + model(x), rtol=1e-6)
    wider = Plain(3, 2, key=KEY)
    np.testing.assert_allclose(WithFields(wider, x[:1])(x), wider(jnp.concatenate((x, x[:1]))), rtol=1e-6)
    np.testing.assert_allclose(InPrecision(model, jnp.bfloat16)(x), model(x), atol=0.05)  # 8 bits
    np.testing.assert_allclose(Resampled(model, grid)(x), model(x), rtol=1e-5)


def test_its_arrays_go_into_safetensors(tmp_path):
    model = Plain(2, 3, key=KEY)
    interop.write_safetensors(tmp_path / "a", model)
    again, _ = interop.read_safetensors(tmp_path / "a", like=Plain(2, 3, key=jax.random.key(1)))
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_modules_of_a_package():
    found = structure.modules_of(eqx.nn)
    assert {eqx.nn.Conv1d, eqx.nn.MLP} <= set(found)
    assert not any(item.__module__.startswith("jax") for item in found)


def test_pdequinox(tmp_path):
    pdequinox = pytest.importorskip("pdequinox", reason="pdequinox is not installed")

    def make(in_channels, out_channels, *, grid, key):
        sizes = {"hidden_channels": 6, "num_modes": 4, "num_blocks": 1, "key": key}
        return pdequinox.arch.ClassicFNO(len(grid.shape), in_channels, out_channels, **sizes)

    assert np.isfinite(trained(make, tmp_path / "run")["relative_l2"])
    model = experiment.load(tmp_path / "run", classes=structure.modules_of(pdequinox))
    assert isinstance(model.operator, pdequinox.arch.ClassicFNO)
    assert rollout.rollout(model, jnp.asarray(fields(1)[0]), 3).shape == (3, 1, SIZE)


def test_exponax():
    exponax = pytest.importorskip("exponax", reason="exponax is not installed")
    stepper = exponax.stepper.Burgers(1, 1.0, SIZE, 0.01)
    x = jnp.asarray(fields(1)[0])
    with jax.numpy_rank_promotion("allow"):
        states = rollout.rollout(stepper, x, 3)
        np.testing.assert_allclose(states[1], stepper(stepper(x)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(Residual(stepper)(x), x + stepper(x), rtol=1e-5, atol=1e-6)
