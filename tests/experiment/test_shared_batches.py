"""How devices share the batches of an experiment: what it says, and what a layout may ask of it."""

import dataclasses
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import data, experiment
from sciml.experiment._guards import placement_of
from sciml.parallel import Alone, Automatic, Layout, Mapped


def pairs(n):
    x = np.random.default_rng(n).normal(size=(n, 2, 8)).astype(np.float32)
    return data.Pairs(x, np.sin(x[:, :1]))


def loss(model, batch, keys):
    x, y = batch
    return jnp.mean((jax.vmap(jax.vmap(model, 1, 1))(x) - y) ** 2), {}


def made(**changes):
    built = experiment.Experiment(
        model=eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0)),
        loss=loss,
        optimiser=optax.adam(1e-2),
        train=pairs(16),
        steps=6,
        batch=8,
        evaluate=lambda model, pairs: {"error": float(loss(model, (pairs.x, pairs.y), None)[0])},
        test=pairs(5),
        metric="error",
    )
    return dataclasses.replace(built, **changes)


def test_one_device_computes_all_batches_unless_a_layout_is_given():
    alone = made(parallel=Alone())
    assert placement_of(alone, Layout()) is None
    placement = placement_of(alone, Layout(data=1))
    assert placement.automatic


@pytest.mark.parametrize("parallel", [Mapped(), Automatic()])
def test_the_parts_of_a_device_are_divided_too(parallel):
    placement = placement_of(made(parallel=parallel, accumulate=8), Layout())
    assert placement.mesh.size == 1  # one sample at a time is left
    assert placement.automatic == isinstance(parallel, Automatic)
    with pytest.raises(ValueError, match=r"divides the batch of 4 samples, .* got data=8"):
        placement_of(made(parallel=parallel, accumulate=2), Layout(data=8))


def test_parts_that_do_not_divide_a_batch_are_refused():
    with pytest.raises(ValueError, match=re.escape("Expected a batch that 3 parts divide (accumulate), got 8.")):
        made(accumulate=3)
    with pytest.raises(ValueError, match="Expected accumulate from 1"):
        made(accumulate=0)


def test_parts_one_after_another_train_as_the_whole_batch_does(tmp_path):
    losses = []
    for name, changes in (("whole", {}), ("parts", {"accumulate": 4}), ("by XLA", {"parallel": Automatic()})):
        one = made(**changes)
        experiment.run(one, tmp_path / name)
        losses.append(experiment.read_metrics(tmp_path / name).test["error"])
        (start,) = experiment.read_run(tmp_path / name).starts
        assert start.layout == placement_of(one, Layout()).words()
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
