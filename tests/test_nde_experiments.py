"""Experiments with penalties on neural differential equations: smoke presets, coefficients, refused settings."""

import dataclasses
import io
import json
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from sciml import experiment

EXPERIMENTS = pathlib.Path(__file__).resolve().parent.parent / "experiments"
FILES = [path for path in sorted(EXPERIMENTS.glob("*.py")) if "\nPENALTIES" in path.read_text()]
SMOKE = {  # a penalty to train with, and the metrics beside those that all have
    "digits_node": ("local", {"error", "accuracy", "cross_entropy"}),
    "flow_2d": ("steer", {"nll"}),
    "spiral_ode": ("vanilla", {"rmse", "nfe_true"}),
    "stiff_node": ("stiffness", {"rmse", "stability"}),
}
by_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)


def smoke(file, **changes):
    module = experiment.load_file(file)
    return module, dataclasses.replace(module.PRESETS["smoke"], **changes)


@pytest.mark.parametrize("name", SMOKE)
def test_the_smoke_preset_trains(name, tmp_path):
    file = EXPERIMENTS / f"{name}.py"
    penalty, metrics = SMOKE[name]
    module, config = smoke(file, penalty=penalty)
    experiment.run(module.build, config, tmp_path / "run", file=file, console=Console(file=io.StringIO()))
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert set(found) == metrics | {"nfe", "steps", "predict_seconds"}
    assert np.isfinite(list(found.values())).all()
    assert found["nfe"] == 6 * found["steps"] + 1  # Tsit5's first stage is the last one of the step before
    if name == "flow_2d":
        assert (tmp_path / "run" / "figures" / "density.png").stat().st_size > 10_000


def test_the_coefficient_falls_from_the_given_one_to_a_tenth():
    module, config = smoke(EXPERIMENTS / "stiff_node.py", penalty="error", coefficient=3.0)
    built = module.build(config)
    batch = jnp.asarray(built.train[np.arange(config.batch)])
    value = eqx.filter_jit(lambda model, step: built.loss.at(step)(model, batch, jax.random.key(0)))
    for step, coefficient in ((0, 3.0), (config.steps, 0.3)):
        loss, logs = value(built.model, jnp.asarray(step))
        penalty = logs.pop("penalty")
        (error,) = logs.values()
        assert penalty > 0.01
        np.testing.assert_allclose((loss - error) / penalty, coefficient, rtol=1e-3)  # a difference in float32


@by_file
def test_every_penalty_has_a_coefficient_among_its_candidates(file):
    module, _ = smoke(file)
    assert set(module.CANDIDATES) <= set(module.PENALTIES)
    assert module.PENALTIES["vanilla"][1] == 0
    for name, candidates in module.CANDIDATES.items():
        assert module.PENALTIES[name][1] in candidates
        assert all(candidate > 0 for candidate in candidates)


@by_file
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty": "errors"}, "Expected a penalty of {penalties}, got 'errors'"),
        ({"model": "resnet"}, "Expected a model of {models}, got 'resnet'"),
        ({"judge": "train"}, "Expected to judge on test or validation, got 'train'"),
        ({"tolerance": 1e-9}, "A tolerance of 1e-09 is below what float32 resolves. Set JAX_ENABLE_X64=1"),
    ],
)
def test_wrong_settings_are_refused_with_the_known_ones(file, changes, message):
    module, config = smoke(file)
    if not changes.keys() <= {field.name for field in dataclasses.fields(config)}:
        pytest.skip(f"{file.stem} has no {', '.join(changes)}")
    message = message.format(penalties=", ".join(module.PENALTIES), models=", ".join(module.MODELS))
    with pytest.raises(ValueError, match=message):
        module.build(dataclasses.replace(config, **changes))


def test_the_stiff_data_solve_their_equation():
    module, _ = smoke(EXPERIMENTS / "stiff_node.py")
    k, h = 3.0, 1e-5

    def states(ts):
        module.TIMES = ts
        return module.trajectories(4, 0, k, np.float64).y

    ts = np.array([0.0, 0.3, 1.1])
    x1, x2, y = np.moveaxis(states(ts), -1, 0)
    ends = [states(np.append(0.0, ts[1:] + sign * h)) for sign in (1, -1)]
    slope = (ends[0] - ends[1])[:, 1:] / (2 * h)
    field = np.stack((-x2, x1, -k * (y - x1 * x2)), axis=-1)[:, 1:]
    np.testing.assert_allclose(slope, field, atol=1e-8)  # h^2 / 6 times a third derivative below k^3


def test_the_spiral_turns_as_its_equation_says():
    module, _ = smoke(EXPERIMENTS / "spiral_ode.py")
    y = module.solution(np.array([2.0, 0.0]), np.array([0.0, 0.1, 0.3]))
    np.testing.assert_allclose(module.MATRIX @ y[0] ** 3, (-0.8, -16.0))
    assert np.all(np.diff(np.sum(y**4, axis=1)) < 0)  # d/dt (y1^4 + y2^4) = -0.4 (y1^6 + y2^6)
