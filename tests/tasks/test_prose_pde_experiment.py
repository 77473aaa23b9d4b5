"""The experiment on PROSE-PDE: smoke preset, frames, settings, published sizes."""

import dataclasses
import io
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import size_of
from rich.console import Console

from sciml import experiment, prose, symbolic, systems

FILE = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "prose_pde.py"
GIVEN, FRAMES, POINTS = 3, 12, 16  # of the smoke preset
FIELDS = {"relative_l2", "r2"}
EQUATIONS = {f"{kind}{part}" for kind in ("", "grammar_") for part in ("valid", "expression_error", "structure")} | {
    "nominal_expression_error"
}


def smoke(**changes):
    module = experiment.load_file(FILE)
    return module, experiment.with_settings(module.PRESETS["smoke"], changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of the data, which whoever needs them first generates."""
    return str(tmp_path_factory.mktemp("prose") / "data")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The finished run of the smoke preset."""
    folder = tmp_path_factory.mktemp("run") / "run"
    module, config = smoke(data=data)
    experiment.run_file(module, config, folder, console=Console(file=io.StringIO()))
    return folder


@pytest.mark.slow  # as prose_ode and prose_fd
def test_the_smoke_preset_trains_and_judges(run):
    found = json.loads((run / "metrics.json").read_text())["test"]
    undefined = set() if found["valid"] else {"expression_error"}  # of no valid equation
    assert set(found) == (FIELDS | EQUATIONS | {"token_error"}) - undefined
    assert 0 < found["relative_l2"] < 1  # 1 is the error of the prediction zero
    assert found["r2"] < 1
    assert found["grammar_valid"] > 0
    assert 0 < found["nominal_expression_error"] < 0.1  # the constants are within a tenth of them
    for name in ("predictions.png", "frames.png"):
        assert (run / "figures" / name).stat().st_size > 10_000
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    validation = [one["validation"] for one in records if "validation" in one]
    assert set(validation[0]) == FIELDS | {"token_error"}  # cheap: nothing is written in it


def judged(model, /, **changes):
    """The test of a model with changed settings."""
    module, config = smoke(**changes)
    made = module.build(config)
    return made.evaluate(model, made.test)


@pytest.mark.slow  # as fewer given times of prose_ode
def test_fewer_given_frames_are_evaluated(run, data):
    model = experiment.load(run)
    known = json.loads((run / "metrics.json").read_text())["test"]
    whole, one = (judged(model, data=data, decoded=0, sensors=count) for count in (GIVEN, 1))
    assert whole["relative_l2"] == pytest.approx(known["relative_l2"], rel=1e-5)
    assert one["relative_l2"] != pytest.approx(known["relative_l2"], rel=1e-4)
    with pytest.raises(ValueError, match="Expected from 1 to 3 sensors, every other frame of the first half, got 4"):
        smoke(sensors=4)


@pytest.mark.parametrize("frames", [12, 64])
def test_frames_that_are_given_trained_and_judged(frames):
    task = smoke(frames=frames)[1].task
    half = frames // 2
    np.testing.assert_array_equal(task.given_frames, np.arange(0, half, 2))
    np.testing.assert_array_equal(dataclasses.replace(task, sensors=2).given_frames, [0, half - 2])
    np.testing.assert_array_equal(task.later_frames(0), np.arange(half, frames, 2))
    np.testing.assert_array_equal(task.later_frames(1), np.arange(half + 1, frames, 2))


def test_without_noise_the_loss_is_that_of_the_frames(data):
    module, config = smoke(data=data, noise=0.0)
    made = module.build(config)
    batch, keys = jax.tree.map(jnp.asarray, made.train[:3]), jax.random.split(jax.random.key(0), 3)
    model = module.untrained(dataclasses.replace(config, model="data-only"))
    even = prose.thinned(batch, np.arange(0, FRAMES, 2))
    exact = prose.prose_loss(history=GIVEN, squares=prose.relative_to_inputs)
    values = [jax.jit(loss)(model, some, keys)[0] for loss, some in ((made.loss, batch), (exact, even))]
    np.testing.assert_allclose(*values, rtol=1e-5)  # the noise of level 0 is added to the states


def test_other_constants_in_the_test_alone(data):
    module, config = smoke(data=data, spread=0.2)
    one, other = (
        smoke(data=data)[0].build(experiment.with_settings(config, {"spread": 0.1})),
        module.build(config),
    )
    equal = lambda a, b: np.array_equal(a[:].equation, b[:].equation)
    assert equal(one.train, other.train)
    assert not equal(one.test.data, other.test.data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "fno"}, "Expected a model of prose, 2to1, data-only, got 'fno'"),
        ({"guess": "unknown"}, "Expected a guess of known, skeleton, got 'unknown'"),
        ({"precision": "float16"}, "Expected a precision of float32, bfloat16, got 'float16'"),
        ({"sensors": 0}, "Expected from 1 to 3 sensors, .* got 0"),
        ({"recipe": "other"}, "Expected a recipe of ours, published, got 'other'"),
        ({"families": ("thomas",)}, "There is no family thomas. Choose from heat"),
    ],
)
def test_wrong_settings_are_refused(data, changes, message):
    with pytest.raises(ValueError, match=message):
        judged(None, data=data, **changes)


def test_the_paper_presets_have_the_published_sizes():
    module = experiment.load_file(FILE)
    for name in ("paper-known", "paper-skeleton"):
        config = module.PRESETS[name]
        configs = [dataclasses.replace(config, model=model) for model in module.MODELS]
        sizes = [size_of(lambda one=one: module.untrained(one)) for one in configs]
        assert sizes == [105_575_124, 71_373_440, 32_974_464]
        assert [count * config.task.initial_conditions for count in config.task.systems] == [512_000, 10_000, 102_400]
        assert config.run.steps_for(512_000) == 60_000


def test_the_longest_equation_can_be_written():
    module = experiment.load_file(FILE)
    longest = max(len(symbolic.system_to_tokens(family.system())) for family in systems.PDE_FAMILIES.values())
    assert longest < module.PRESETS["small"].task.max_tokens


def test_the_published_rate():
    made = prose.pde_optimiser(1e-4, steps=100)
    state = made.init(jnp.zeros(2))
    sizes = []
    update = jax.jit(made.update)
    for _ in range(100):
        # A constant gradient, clipped to the norm 1: the step of Adam is the rate.
        step, state = update(jnp.array([3.0, 4.0]), state, jnp.zeros(2))
        sizes.append(-float(step[0]))
    after = np.arange(100)
    expected = np.where(after < 10, after / 10, (1 + np.cos(np.pi * (after - 10) / 90)) / 2)
    np.testing.assert_allclose(sizes, 1e-4 * expected, atol=2e-9)  # epsilon is 1e-6 of a gradient of 0.6
