"""Ensembles: each member trains as it would alone, in one run folder that resumes exactly and is loaded again."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import data, experiment, losses, metrics, operators, tasks, train, zoo
from sciml.grid import Grid, Periodic

MEMBERS, SEED, STEPS, BATCH = 3, 5, 4, 6
GRID = Grid((12, 16), boundary=Periodic())


def pairs(seed=0, samples=18):
    x = np.random.default_rng(seed).normal(size=(samples, 1, *GRID.shape)).astype(np.float32)
    return data.Pairs(x, np.concatenate((0.5 * np.roll(x, 1, 2), x**2 - 1), axis=1), grid=GRID)


def fno(into, out, *, grid, key):
    return operators.FNO(into, out, modes=(4, 4), width=6, depth=2, key=key)


def mgno(into, out, *, grid, key):
    return operators.MgNO(into, out, grid=grid, width=4, depth=1, levels=2, key=key)


def fields(make=fno, optimiser=None, **options):
    known, held = pairs(), pairs(1, 7)
    training = experiment.Training(steps=STEPS, batch=BATCH, seed=SEED)
    architecture = zoo.Architecture(make, 1e-2, any_resolution=True, optimiser="muon")
    parts = tasks.Parts(known, held, pairs(2, 5))
    return tasks.fields(architecture, parts, training, optimiser=optimiser, every=2, save_seconds=0.0, **options)


def trained(one):
    state, step, batches = experiment.prepare(one)
    return train.fit(state, step, batches, steps=one.steps)


def arrays(model):
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


def assert_close(found, expected):
    """Differences of rounding; a mixed gradient or a common norm would change the steps by tenths of themselves."""
    for a, b in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * max(1e-3, float(jnp.abs(b).max())))


OPTIMISERS = {
    "muon and ema": lambda: optax.chain(train.muon(1e-2, steps=STEPS), train.ema(0.9)),
    "clipped adamw": lambda: train.clipped_adamw(1e-2, steps=STEPS),
    "accumulated": lambda: optax.MultiSteps(optax.inject_hyperparams(optax.adam)(1e-2), 2),
}


SLOW = pytest.mark.slow  # the same with another optimiser or operator
CASES = [
    (fno, "muon and ema"),
    pytest.param(fno, "clipped adamw", marks=SLOW),
    pytest.param(fno, "accumulated", marks=SLOW),
    pytest.param(mgno, "muon and ema", marks=SLOW),
]


@pytest.mark.parametrize(("make", "name"), CASES)
def test_each_member_trains_as_it_would_alone(make, name):
    single = fields(make, OPTIMISERS[name]())
    together = trained(experiment.ensemble(single, MEMBERS))
    for k in (0, MEMBERS - 1):
        alone = trained(dataclasses.replace(single, model=single.member(jax.random.key(SEED + k))))
        assert_close(together.model.member(k), alone.model)
        assert_close(train.ema_model(together).member(k), train.ema_model(alone))
    first, last = (together.model.member(k) for k in (0, MEMBERS - 1))
    assert any(not np.allclose(a, b, atol=1e-3) for a, b in zip(arrays(first), arrays(last), strict=True))


def test_the_loss_is_the_mean_and_its_gradient_that_of_each_member():
    single = fields()
    both = experiment.ensemble(single, 2)
    x, y = single.train[np.arange(4)]
    keys = jax.random.split(jax.random.key(0), 4)
    value, logs = both.loss(both.model, (x, y), keys)
    each = [single.loss(both.model.member(k), (x, y), keys)[0] for k in range(2)]
    assert float(value) == pytest.approx(float(jnp.mean(jnp.stack(each))), rel=1e-5)
    assert logs == {}


def test_losses_that_change_are_those_of_members():
    model = operators.ensemble_of([jnp.asarray(1.0), jnp.asarray(3.0)])
    loss = lambda member, batch, keys: (member * jnp.mean(batch), {"size": member})
    single = dataclasses.replace(fields(), member=lambda key: None)
    scheduled = dataclasses.replace(single, model=jnp.asarray(1.0), loss=train.Scheduled(lambda step: loss))
    scheduled = dataclasses.replace(scheduled, member=lambda key: jnp.asarray(3.0))
    found = experiment.ensemble(scheduled, 2).loss.at(jnp.asarray(0))(
        model, jnp.ones(4), jax.random.split(jax.random.key(0), 4)
    )
    assert [float(found[0]), float(found[1]["size"])] == [2.0, 2.0]
    curriculum = losses.Curriculum([(3, losses.Unrolled(2)), (1, losses.Unrolled(4))])
    changed = experiment.ensemble(dataclasses.replace(scheduled, loss=curriculum), 2).loss
    assert (changed.starts, changed.horizon(2), changed.history) == (curriculum.starts, 8, 1)


def test_a_run_has_the_errors_of_the_mean_and_of_the_members_and_resumes_exactly(tmp_path):
    built = experiment.ensemble(fields(), MEMBERS)
    found = experiment.run(built, tmp_path / "whole")
    model = experiment.load(tmp_path / "whole")
    assert isinstance(model, operators.Ensemble)
    x, y = (np.asarray(part) for part in built.test[np.arange(5)])
    each = train.predict(model.members, x)
    assert each.shape == (5, MEMBERS, *y.shape[1:])
    np.testing.assert_allclose(train.predict(model, x), each.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(train.predict(model.spread, x), each.std(axis=1, ddof=1), atol=1e-5)
    error = lambda prediction: float(jax.vmap(metrics.relative_l2)(prediction, y).mean())
    assert found["test"]["relative_l2"] == pytest.approx(error(each.mean(axis=1)), rel=1e-4)
    own = [error(each[:, k]) for k in range(MEMBERS)]
    assert found["test"]["member_relative_l2"] == pytest.approx(np.mean(own), rel=1e-4)
    assert found["test"]["relative_l2"] < np.mean(own)  # the norm of a mean is at most the mean of the norms
    assert found["parameters"] == MEMBERS * train.parameters(fields().model)
    assert np.isfinite([record["loss"] for record in train.read_log(tmp_path / "whole" / "log.jsonl")]).all()

    def stop(event):
        if event.step == 2:
            raise KeyboardInterrupt

    cut = dataclasses.replace(built, hooks=lambda folder: [train.every(1, stop)])
    with pytest.raises(KeyboardInterrupt):
        experiment.run(cut, tmp_path / "cut")
    assert train.Checkpoints(tmp_path / "cut" / "checkpoints").steps == [2]
    experiment.run(built, tmp_path / "cut")
    for a, b in zip(arrays(experiment.load(tmp_path / "cut")), arrays(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow  # the next tests have all of its parts but the options
def test_the_command_line_trains_evaluates_and_resumes_members(tmp_path, monkeypatch, capsys):
    from sciml import cli

    monkeypatch.chdir(tmp_path)
    command = ["train", "darcy", "--preset", "smoke", "--model", "fno", "--members", "2", "--out", "run"]
    assert cli.main(command) == 0
    assert cli.main(["evaluate", "run", "--resolution", "8"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"relative_l2", "member_relative_l2"} <= set(metrics["resolutions"]["8"])
    assert cli.main([*command[:-4], "--members", "3", "--out", "run"]) == 1
    assert "members=2, now run.members=3" in capsys.readouterr().err


def test_surrogates_are_averaged_over_their_rollouts(tmp_path):
    frames = np.cumsum(np.random.default_rng(0).normal(size=(8, 5, 1, 16)), axis=1).astype(np.float32)
    np.savez(tmp_path / "known.npz", y=frames)
    architecture = zoo.Architecture(
        lambda into, out, *, grid, key: operators.FNO(into, out, modes=(4,), width=4, depth=1, key=key), 1e-2
    )
    source = tasks.DataPath(path=str(tmp_path / "known.npz"), y="y", axes=("sample", "time", "channel", "x"))
    training = experiment.Training(steps=2, batch=4)
    source, training, _ = tasks.resolve(source, tasks.Stepping(), training)
    single = tasks.surrogate(architecture, source, tasks.Stepping(), training)
    both = experiment.ensemble(single, 2)
    found = both.evaluate(both.model, both.test)
    given, conditions, truth = both.test.read(np.arange(len(both.test)))
    rollouts = []
    for member in operators.members_of(both.model):
        seen, each = given, []
        for _ in range(both.test.steps):
            seen = train.predict(member, seen, conditions)
            each.append(seen)
        rollouts.append(np.concatenate(each, axis=1))
    shape = (len(truth), -1, 1)
    error = jax.vmap(metrics.relative_l2)(np.mean(rollouts, axis=0).reshape(shape), truth.reshape(shape))
    assert found["relative_l2"] == pytest.approx(float(jnp.minimum(error, 100).mean()), rel=1e-5)
    assert operators.members_of(single.model) == [single.model]


def test_impossible_ensembles_are_refused():
    single = fields()
    with pytest.raises(ValueError, match=r"for 2 members, and this one has no `member`. Train one model"):
        experiment.ensemble(dataclasses.replace(single, member=None), 2)
    with pytest.raises(ValueError, match=r"Expected at least 1 member, of seeds up to .*, got 0 from the seed 5"):
        experiment.ensemble(single, 0)
    assert experiment.ensemble(single, 1) is single
    plateau = optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau())
    with pytest.raises(ValueError, match=r"Expected an optimiser that reads gradients and parameters alone"):
        trained(experiment.ensemble(dataclasses.replace(single, optimiser=plateau), 2))
    with pytest.raises(ValueError, match=r"Expected at least one model for an ensemble, got none"):
        operators.ensemble_of([])
    with pytest.raises(ValueError, match=r"got arrays of other shapes in model 1 than in model 0"):
        operators.ensemble_of([jnp.zeros(2), jnp.zeros(3)])
    with pytest.raises(ValueError, match=r"Expected a member from 0 to 1, got 2"):
        operators.ensemble_of([jnp.zeros(2), jnp.ones(2)]).member(2)
