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

from sciml import experiment, nde, systems, tasks

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
FILES = [path for path in sorted(EXPERIMENTS.glob("*.py")) if "\nPENALTIES" in path.read_text()]
SMOKE = {  # a penalty to train with, and the metrics beside those that all have
    "cde_classification": ("stiffness", {"error", "accuracy", "cross_entropy"}),
    "digits_node": ("local", {"error", "accuracy", "cross_entropy"}),
    "digits_sde": ("local", {"error", "accuracy", "cross_entropy"}),
    "flow_2d": ("steer", {"nll"}),
    "latent_ode": ("error2", {"mse", "mse_between", "mse_after", "nll"}),
    "spiral_ode": ("vanilla", {"rmse", "nfe_true"}),
    "spiral_sde": ("stiffness", {"mse"}),
    "stiff_node": ("stiffness", {"rmse", "stability"}),
}
by_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)


def smoke(file, **changes):
    module = experiment.load_file(file)
    return module, experiment.with_settings(module.PRESETS["smoke"], changes)


SLOW = (  # as another one in the kind of its model and in how it is judged
    "digits_sde",  # spiral_sde, digits_node
    "stiff_node",  # spiral_ode
    "digits_node",  # spiral_ode, cde_classification
    "flow_2d",  # spiral_ode, and the tests of nde.CNF
    "latent_ode",  # spiral_ode, and the tests of nde.LatentODE
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SMOKE]
)
def test_the_smoke_preset_trains(name, tmp_path):
    file = EXPERIMENTS / f"{name}.py"
    penalty, metrics = SMOKE[name]
    module, config = smoke(file, penalty=penalty)
    experiment.run_file(module, config, tmp_path / "run", console=Console(file=io.StringIO()))
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert set(found) == metrics | {"nfe", "steps", "predict_seconds"}
    assert np.isfinite(list(found.values())).all()
    # Tsit5's first stage is the last one of the step before; SPaRK has three stages; means over samples are rounded
    evaluations = 3 * found["steps"] if name.endswith("sde") else 6 * found["steps"] + 1
    assert found["nfe"] == pytest.approx(evaluations, rel=1e-6)
    if name == "flow_2d":
        assert (tmp_path / "run" / "figures" / "density.png").stat().st_size > 10_000


def test_the_coefficient_falls_from_the_given_one_to_a_tenth():
    module, config = smoke(EXPERIMENTS / "stiff_node.py", penalty="error", coefficient=3.0)
    built = module.build(config)
    batch = jnp.asarray(built.train[np.arange(config.run.batch)])
    keys = jax.random.split(jax.random.key(0), 1)
    value = eqx.filter_jit(lambda model, step: built.loss.at(step)(model, batch, keys))
    for step, coefficient in ((0, 3.0), (config.run.steps, 0.3)):
        loss, logs = value(built.model, jnp.asarray(step))
        penalty = logs.pop("penalty")
        (error,) = logs.values()
        assert penalty > 0.01
        np.testing.assert_allclose((loss - error) / penalty, coefficient, rtol=1e-3)  # a difference in float32


@by_file
def test_every_penalty_has_coefficients_to_choose_from(file):
    module, _ = smoke(file)
    assert module.PENALTIES["vanilla"] == tasks.Regularised(None, (0.0,))
    for name, one in module.PENALTIES.items():
        free = name in ("vanilla", "steer")  # whose penalty is 0
        assert len(set(one.coefficients)) == len(one.coefficients) > 0
        assert all((value == 0) if free else (value > 0) for value in one.coefficients)


@by_file
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty": "errors"}, "Expected a penalty of {penalties}, got 'errors'"),
        ({"model": "resnet"}, "Expected a model of {models}, got 'resnet'"),
        ({"split": "train"}, "Expected a split of (test, validation|validation, test), got 'train'"),
        ({"tolerance": 1e-9}, "A tolerance of 1e-09 is below what float32 resolves. Set JAX_ENABLE_X64=1"),
    ],
)
def test_wrong_settings_are_refused_with_the_known_ones(file, changes, message):
    module, config = smoke(file)
    message = message.format(penalties=", ".join(module.PENALTIES), models=", ".join(module.MODELS))
    with pytest.raises(ValueError, match=message):
        module.build(experiment.with_settings(config, changes))


def test_the_stiff_data_solve_their_equation():
    k, h = 3.0, 1e-5
    states = lambda ts: systems.relaxation(ts, 4, 0, k)
    ts = np.array([0.0, 0.3, 1.1])
    x1, x2, y = np.moveaxis(states(ts), -1, 0)
    ends = [states(np.append(0.0, ts[1:] + sign * h)) for sign in (1, -1)]
    slope = (ends[0] - ends[1])[:, 1:] / (2 * h)
    field = np.stack((-x2, x1, -k * (y - x1 * x2)), axis=-1)[:, 1:]
    np.testing.assert_allclose(slope, field, atol=1e-8)  # h^2 / 6 times a third derivative below k^3


def test_the_spiral_turns_as_its_equation_says():
    y = systems.spiral(np.array([2.0, 0.0]), np.array([0.0, 0.1, 0.3]))
    np.testing.assert_allclose(systems.SPIRAL @ y[0] ** 3, (-0.8, -16.0))
    assert np.all(np.diff(np.sum(y**4, axis=1)) < 0)  # d/dt (y1^4 + y2^4) = -0.4 (y1^6 + y2^6)


def test_spirals_begin_in_a_ring_and_follow_the_equation():
    ts = np.array([0.0, 0.2, 0.5])
    found = systems.spirals(ts, 40, seed=3)
    radius = np.linalg.norm(found[:, 0], axis=1)
    assert 1 <= radius.min() < radius.max() <= 2
    np.testing.assert_allclose(found[7], systems.spiral(found[7, 0], ts), atol=1e-12)
    assert not np.array_equal(found, systems.spirals(ts, 40, seed=4))


TIMES = np.linspace(0, 1, 30)


def test_the_noisy_spiral_is_the_spiral_without_noise():
    true = systems.spiral(np.array([2.0, 0.0]), TIMES)
    paths = lambda n: systems.noisy_spiral(TIMES, 1, 0, noise=0.0, substeps=n)[0]
    errors = [np.abs(paths(n) - true).max() for n in (40, 80)]
    assert errors[1] < 0.05
    assert 1.8 < errors[0] / errors[1] < 2.2  # Euler's method, of order 1


def test_the_noise_of_the_spiral_is_that_of_ito():
    c, count = 0.2, 20000
    u = systems.noisy_spiral(TIMES, count, 0, drift=np.zeros((2, 2)), substeps=4)  # leaves du = c u dW
    means, variances = u.mean(axis=0), u.var(axis=0, ddof=1)
    true = 4 * np.expm1(c**2 * TIMES)
    np.testing.assert_array_equal(means[:, 1], 0)
    np.testing.assert_array_less(np.abs(means[1:, 0] - 2), 4 * np.sqrt(true[1:] / count))  # 4 standard errors
    np.testing.assert_allclose(variances[1:, 0], true[1:], rtol=0.06)  # 4 standard errors, 0.05, and Milstein's


@pytest.mark.slow  # thousands of paths
def test_many_paths_together_have_the_moments_of_the_process():
    """The model with the process's own drift, in the sense of Stratonovich, and diffusion."""
    module, config = smoke(EXPERIMENTS / "spiral_sde.py", tolerance=1e-2)
    model, c = module.sde(config, jax.random.key(0)), 0.2
    drift = lambda t, u, args: jnp.asarray(systems.SPIRAL, u.dtype) @ u**3 - c**2 / 2 * u
    model = dataclasses.replace(
        model, drift=nde.Together(drift, 2), diffusion=nde.Together(lambda t, u, args: c * u, 2)
    )
    found = module.evaluate(model, (systems.noisy_spiral(TIMES, 4000, 0).astype(np.float32), 2000))
    assert found["mse"] < 0.0015  # 0.0005 found, as between two draws of the process; 0.003 with the drift of Ito


def test_windows_of_a_series_do_not_reach_into_another_part():
    _, config = smoke(EXPERIMENTS / "latent_ode.py")
    length, count = config.times, 200
    values = np.arange(count, dtype=float)  # each value says when it was
    parts = tasks.windows_with_gaps(values, length, config.seen, np.float64)
    deviation = np.arange(130).std()
    ends = [(part[:][0].min() * deviation + 64.5, part[:][0].max() * deviation + 64.5) for part in parts.values()]
    np.testing.assert_allclose(ends, [(0, 129), (130, 159), (160, 199)], atol=1e-9)
    assert [len(part) for part in parts.values()] == [130 - length + 1, 30 - length + 1, 40 - length + 1]
    observed = parts["train"][:][1][..., 0]
    assert observed[:, 0].all()
    assert not observed[:, 8:].any()  # two thirds of 12
    assert abs(observed[:, 1:8].mean() - config.seen) < 4 * 0.5 / np.sqrt(observed[:, 1:8].size)


def test_a_latent_ode_reads_a_real_series(published_data):
    module, config = smoke(EXPERIMENTS / "latent_ode.py", series="elnino", data=str(published_data))
    assert len(module.series(config)) == 12 * 61
    built = module.build(config)
    assert abs(built.train[:][0].mean()) < 0.1  # in deviations from the mean, of which windows count inner values more


def test_the_real_series_needs_its_file_and_windows_that_fit(tmp_path):
    module, config = smoke(EXPERIMENTS / "latent_ode.py", series="elnino", data=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"elnino is in real_timeseries.npz, .* --data or SCIML_DATA"):
        module.build(config)
    with pytest.raises(ValueError, match="Expected a series of elnino, simulated, got 'co2'"):
        module.build(dataclasses.replace(config, series="co2"))
    with pytest.raises(ValueError, match="Expected windows of 3 to 108 values, the shortest part, got 200"):
        module.build(dataclasses.replace(config, series="simulated", times=200))


@pytest.mark.parametrize(("model", "interpolation", "steps"), [("cde", "rectilinear", 14), ("log_ode", "linear", 4)])
def test_a_digit_with_gaps_is_read_corner_by_corner(model, interpolation, steps):
    module, config = smoke(EXPERIMENTS / "cde_classification.py", model=model, interpolation=interpolation)
    built = module.build(config)
    x = jnp.asarray(built.train[:3][0])
    scores, aux = eqx.filter_jit(module.scores)(built.model, x)
    assert scores.shape == (3, 10)
    assert np.isfinite(scores).all()
    assert np.all(aux.stats["num_steps"] >= steps)  # one at least for each straight piece of the path


def test_digits_miss_the_share_of_values_that_was_asked_for():
    module, config = smoke(EXPERIMENTS / "cde_classification.py", missing=0.4)
    x = module.build(config).train[:][0]
    assert np.isfinite(x[:, 0]).all()
    share = np.isnan(x[:, 1:]).mean()
    assert abs(share - 0.4) < 4 * 0.5 / np.sqrt(x[:, 1:].size)
    with pytest.raises(ValueError, match=r"share of missing values in \[0, 1\), got 1\.0"):
        module.build(dataclasses.replace(config, missing=1.0))
    with pytest.raises(ValueError, match=r"Expected an interpolation of hermite, .*, got 'spline'"):
        module.build(dataclasses.replace(config, interpolation="spline"))


def test_the_sde_sees_the_same_test_images_as_the_ode():
    (ode, first), (sde, second) = (smoke(EXPERIMENTS / f"digits_{kind}.py") for kind in ("node", "sde"))
    for one, other in zip(ode.build(first).test[:], sde.build(second).test[:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_trained_and_saved_has_no_regulariser():
    module, config = smoke(EXPERIMENTS / "digits_node.py", penalty="steer")
    built = module.build(config)
    assert built.model.solve.solve.regulariser is None
    batch = jax.tree.map(jnp.asarray, built.train[np.arange(16)])
    keys = [jax.random.split(jax.random.key(seed), 1) for seed in (0, 1)]
    losses = [float(built.loss.at(jnp.asarray(0))(built.model, batch, each)[0]) for each in keys]
    assert losses[0] != losses[1]  # at other times


def test_a_prediction_is_timed_after_its_first_call():
    model = nde.NeuralODE(lambda t, y, args: -y)
    calls = []

    def predict():
        calls.append(None)
        return model.solution(jnp.ones(2), jnp.array([0.0, 1.0]))

    values, metrics = tasks.solve_metrics(model, predict, repeats=3)
    assert len(calls) == 4
    assert metrics["predict_seconds"] > 0
    np.testing.assert_allclose(values[-1], np.exp(-1), rtol=1e-2)
