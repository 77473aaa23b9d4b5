"""The experiment on PROSE-ODE: smoke preset, settings, and forecasts by a trained run from the command line."""

import dataclasses
import functools
import io
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from helpers import size_of
from rich.console import Console

from sciml import experiment, prose, symbolic, train
from sciml.cli import main
from sciml.tasks import ForecastOptions, _files, _forecast, _guess
from sciml.tasks._prose_ode import mixed_guesses

FILE = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "prose_ode.py"
GIVEN, POINTS, VARIABLES = 8, 24, 3  # of the smoke preset
TIMES = np.linspace(0, 6, POINTS)
UNKNOWN = symbolic.PLACEHOLDER.head
WINDOWS = {
    f"{kind}{part}" for kind in ("", "clean_", "floor_") for part in ("relative_l2", "first_half", "second_half")
}
EQUATIONS = {f"{kind}{part}" for kind in ("", "grammar_") for part in ("valid", "expression_error", "structure")}


def smoke(**changes):
    module = experiment.load_file(FILE)
    return module, experiment.with_settings(module.PRESETS["smoke"], changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the data, and the finished run of the smoke preset."""
    where = tmp_path_factory.mktemp("prose")
    module, config = smoke(data=str(where / "data"))
    experiment.run_file(module, config, where / "run", console=Console(file=io.StringIO()))
    return where


def test_the_smoke_preset_trains_and_judges(runs):
    found = json.loads((runs / "run" / "metrics.json").read_text())["test"]
    assert found["valid"] == 0  # hence no error of the equations
    assert set(found) == WINDOWS | EQUATIONS - {"expression_error"} | {"token_error"}
    assert np.isfinite(list(found.values())).all()
    assert 0.01 < found["floor_relative_l2"] < 0.03  # the noise has 2 % of the norm of the whole trajectory
    assert found["grammar_valid"] == 1
    assert (runs / "run" / "figures" / "predictions.png").stat().st_size > 10_000
    records = [json.loads(line) for line in (runs / "run" / "log.jsonl").read_text().splitlines()]
    validation = [one["validation"] for one in records if "validation" in one]
    assert set(validation[0]) == WINDOWS | {"token_error"}  # cheap: nothing is written in it


@pytest.mark.slow  # tests/experiment/test_runs.py resumes a small run in the same way
def test_a_continued_run_ends_with_the_parameters_of_an_uninterrupted_one(runs, tmp_path):
    module, config = smoke(data=str(runs / "data"))

    def interrupted(event):
        if event.step == 2:
            raise KeyboardInterrupt

    def build(config):
        return dataclasses.replace(module.build(config), hooks=lambda folder: [train.every(1, interrupted)])

    quiet = {"console": Console(file=io.StringIO())}
    with pytest.raises(KeyboardInterrupt, match="Run the same command again"):
        experiment.run(build(config), tmp_path / "run", **quiet)
    experiment.run(module.build(config), tmp_path / "run", **quiet)
    for one, other in zip(*(jax.tree.leaves(experiment.load(path / "run")) for path in (tmp_path, runs)), strict=True):
        np.testing.assert_array_equal(one, other)


def judged(model, /, **changes):
    """The test of a model with changed settings."""
    module, config = smoke(**changes)
    made = module.build(config)
    return made.evaluate(model, made.test)


def test_building_reads_and_generates_no_data(tmp_path):
    module, config = smoke(data=str(tmp_path / "data"))
    made = module.build(config)
    assert len(made.train) == 6 * 4
    assert made.steps == 3
    assert not (tmp_path / "data").exists()


def test_fewer_given_times_are_evaluated_with_the_same_noise(runs):
    model = experiment.load(runs / "run")
    known = json.loads((runs / "run" / "metrics.json").read_text())["test"]
    whole, few = (judged(model, data=str(runs / "data"), decoded=0, sensors=count) for count in (GIVEN, 3))
    for name in WINDOWS | {"token_error"}:
        assert whole[name] == pytest.approx(known[name], rel=1e-5)
        if name.startswith("floor_"):
            assert few[name] == pytest.approx(whole[name], rel=1e-6)
    assert few["relative_l2"] != pytest.approx(whole["relative_l2"], rel=1e-3)
    found = experiment.evaluate(runs / "run", conditions=[{"sensors": 3}])["conditions"]["sensors=3"]
    assert found["relative_l2"] == pytest.approx(few["relative_l2"], rel=1e-5)
    with pytest.raises(ValueError, match="have one resolution, got 8"):
        experiment.evaluate(runs / "run", [8])


@pytest.fixture(scope="module")
def built(runs):
    module, config = smoke(
        data=str(runs / "data"), noise=0.0, guess="skeleton", blank_guesses=0.0, known_guesses=0.0, targets=None
    )
    return module, config, module.build(config)


def test_without_noise_the_loss_is_that_of_the_samples(built):
    module, config, made = built
    batch, keys = jax.tree.map(jnp.asarray, made.train[:3]), jax.random.split(jax.random.key(0), 3)
    model = module.untrained(dataclasses.replace(config, model="2to1"))
    values = [jax.jit(loss)(model, batch, keys)[0] for loss in (made.loss, prose.prose_loss(history=GIVEN))]
    np.testing.assert_allclose(*values, rtol=1e-5)  # the noise of level 0 is added to the states


def test_thinned_samples_keep_the_ends_of_the_given_part(built):
    _module, config, made = built
    np.testing.assert_array_equal(config.task._given_times, np.arange(GIVEN))
    few = dataclasses.replace(config.task, sensors=3)._given_times
    np.testing.assert_array_equal(few, [0, 4, 7])
    batch = made.train[:2]
    few = prose.thinned(batch, few)
    np.testing.assert_array_equal(few.times, np.tile(TIMES.astype(np.float32)[[0, 4, 7]], (2, 1)))
    np.testing.assert_array_equal(few.states, batch.states[:, [0, 4, 7]])


def test_some_guesses_say_nothing_and_some_everything(built):
    _module, _config, made = built
    vocabulary = symbolic.ode_vocabulary(VARIABLES)
    batch, size = made.train[np.zeros(400, int)], 400
    batch = batch._replace(components=np.arange(3).reshape(1, 3) < np.where(np.arange(size) % 2, 2, 3).reshape(-1, 1))
    keys = jax.random.split(jax.random.key(3), size)
    with_parts = lambda blank, known: mixed_guesses(batch, keys, vocabulary, blank=blank, known=known)
    assert with_parts(0.0, 0.0) is batch
    said = vocabulary.decode(batch.tokens[0][batch.tokens_mask[0]])
    true = vocabulary.decode(batch.equation[0][batch.equation_mask[0]])[1:-1]
    assert len(true) > len(said)  # numbers are three tokens each
    blank = {True: [UNKNOWN, "|", UNKNOWN], False: [UNKNOWN, "|", UNKNOWN, "|", UNKNOWN]}
    for parts in ((0.25, 0.0), (0.0, 0.25), (0.25, 0.5), (1.0, 0.0), (0.0, 1.0)):
        found = with_parts(*parts)
        rows = zip(np.asarray(found.tokens), np.asarray(found.tokens_mask), strict=True)
        words = [vocabulary.decode(row[mask]) for row, mask in rows]
        nothing = [row == blank[bool(i % 2)] for i, row in enumerate(words)]
        everything = [row == true for row in words]
        kept = sum(row == said for row in words)
        assert sum(nothing) + sum(everything) + kept == size
        for part, chosen in zip(parts, (nothing, everything), strict=True):
            assert abs(sum(chosen) - part * size) < 40  # four deviations or more


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "fno"}, "Expected a model of prose, prose-parity, 2to1, data-only, got 'fno'"),
        ({"guess": "wrong"}, "Expected a guess of known, skeleton, perturbed, got 'wrong'"),
        ({"precision": "float16"}, "Expected a precision of float32, bfloat16, got 'float16'"),
        ({"sensors": 1}, "Expected from 2 to 8 sensors, the history, got 1"),
        ({"targets": 17}, "as many targets as points are left, got history 8, 24 points and 17 targets"),
        ({"history": 24}, "Expected a history shorter than the points, .* got history 24"),
        ({"blank_guesses": 0.6}, "fractions of blank and known guesses that are at most 1 together, got 0.6 and 0.5"),
        ({"recipe": "other"}, "Expected a recipe of ours, published, got 'other'"),
        ({"families": ("lorentz",)}, "There is no family lorentz. Choose from thomas"),
    ],
)
def test_wrong_settings_are_refused(runs, changes, message):
    with pytest.raises(ValueError, match=message):
        judged(None, data=str(runs / "data"), **changes)


@pytest.mark.parametrize(
    ("preset", "parameters", "families"),
    [("paper-known", 104_357_427, 12), ("paper-skeleton", 104_357_427, 12), ("paper-unknown-multi", 104_361_527, 15)],
)
def test_the_paper_presets_have_the_published_sizes(preset, parameters, families):
    module = experiment.load_file(FILE)
    config = module.PRESETS[preset]
    assert size_of(lambda: module.untrained(config)) == parameters
    assert len(config.task.families) == families
    assert [count * config.task.initial_conditions for count in config.task.systems] == [512_000, 25_600, 102_400]
    assert config.run.steps_for(512_000) == 160_000


def test_fitted_equations_are_better_and_their_solutions_forecast(built):
    _module, config, made = built
    sample, vocabulary = made.test.data[:3], config.task.vocabulary
    truth = prose.equations(sample.equation[:, 1:], vocabulary)
    doubled = symbolic.with_parameters(truth[0], 1.2 * symbolic.parameters(truth[0]))
    unlike = truth[1][:2]
    forecasts = 1.1 * sample.states[:, GIVEN:]
    task = dataclasses.replace(config.task, constant_std=None)
    found = task.refined_errors([doubled, unlike, None], forecasts, sample, sample.states)
    assert found["unrefined_expression_error"] > 0.01
    assert found["refined_expression_error"] < 1e-3  # the clean states are solutions with a relative error of 1e-6
    assert found["solved"] == pytest.approx(1 / 3)
    for kind in ("", "clean_"):
        for window in ("relative_l2", "first_half", "second_half"):
            assert found[f"unrefined_{kind}{window}"] == pytest.approx(0.1, rel=1e-4)
            assert found[f"refined_{kind}{window}"] == pytest.approx(0.2 / 3, rel=1e-3)  # two are the network's


def test_numbers_that_were_known_are_not_fitted(built):
    _module, config, made = built
    data = made.test.data
    clean = data[:3].states
    noise = 0.02 * np.sqrt(np.mean(clean**2)) * np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    skeletons = data[:3]._replace(states=clean + noise)
    known = skeletons._replace(tokens=skeletons.equation[:, 1:-1], tokens_mask=skeletons.equation_mask[:, 2:])
    truth = prose.equations(known.equation[:, 1:], config.task.vocabulary)
    fitted, kept = (
        config.task.refined_errors(truth, clean[:, GIVEN:], sample, clean)["refined_expression_error"]
        for sample in (skeletons, known)
    )
    assert kept < 1e-3 < fitted


# Forecasts.


def trajectory(count=GIVEN, variables=VARIABLES, start=0.0):
    times = start + TIMES[:count]
    return times, np.sin(times.reshape(-1, 1) + np.arange(variables))


def as_csv(path, times, states, names=True):
    header = ",".join(("t", *(f"u_{i}" for i in range(states.shape[1])))) if names else ""
    np.savetxt(path, np.column_stack((times, states)), delimiter=",", header=header, comments="")
    return path


@pytest.fixture(scope="module")
def forecast_folder(runs):
    """What the command line writes for a trajectory that begins at t = 10."""
    path = as_csv(runs / "given.csv", *trajectory(start=10.0))
    assert main(["predict", str(runs / "run"), str(path), "--no-refine", "--out", str(runs / "out" / "csv")]) == 0
    return runs / "out" / "csv"


def test_a_forecast_is_written_as_the_model_makes_it(runs, forecast_folder):
    assert {path.name for path in forecast_folder.iterdir()} == {
        "forecast.csv",
        "forecast.png",
        "equation.txt",
        "equation.tex",
    }
    assert [path.name for path in forecast_folder.parent.iterdir()] == ["csv"]  # no temporary folder is left
    lines = (forecast_folder / "forecast.csv").read_text().splitlines()
    assert lines[0] == "t,u_0,u_1,u_2"
    table = np.loadtxt(lines[1:], delimiter=",")
    np.testing.assert_allclose(table[:, 0], 10 + TIMES[GIVEN:], rtol=1e-8)  # nine digits are written
    model = experiment.load(runs / "run")
    vocabulary = symbolic.ode_vocabulary(VARIABLES)
    tokens = jnp.asarray(vocabulary.encode([UNKNOWN, "|", UNKNOWN, "|", UNKNOWN]))
    times, states = trajectory()
    query = jnp.asarray(TIMES[GIVEN:], jnp.float32)
    states = np.sin(times.reshape(-1, 1) + 10 + np.arange(VARIABLES))
    arrays = (jnp.asarray(one, jnp.float32) for one in (times, states))
    expected, _ = jax.jit(lambda *given: model(*given, query, tokens))(*arrays)
    np.testing.assert_allclose(table[:, 1:], expected, atol=1e-5)  # float32, another order of sums


def test_the_written_equations_are_read_by_sympy(forecast_folder):
    lines = (forecast_folder / "equation.txt").read_text().splitlines()
    assert len(lines) == VARIABLES
    for line in lines:
        assert {str(symbol) for symbol in sympy.sympify(line).free_symbols} <= {"u_0", "u_1", "u_2"}
    tex = (forecast_folder / "equation.tex").read_text()
    assert [f"\\dot{{u}}_{{{i}}} &=" in tex for i in range(VARIABLES)] == [True] * VARIABLES
    assert tex.count("\\\\\n") == VARIABLES - 1
    assert (forecast_folder / "forecast.png").stat().st_size > 10_000


def test_fitted_equations_are_solved_beside_the_forecast(runs, capsys, monkeypatch):
    times, states = np.linspace(10, 11.5, GIVEN), np.exp(-np.linspace(0, 1.5, GIVEN))[:, None]
    path, out = as_csv(runs / "decay.csv", times, states), runs / "out" / "solved"
    monkeypatch.setattr(_forecast, "_equation", lambda *_: symbolic.system_from_text("-0.95 * u_0"))
    assert main(["predict", str(runs / "run"), str(path), "--until", "12", "--points", "4", "--out", str(out)]) == 0
    table = np.loadtxt(out / "solution.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 1], np.exp(10 - table[:, 0]), rtol=1e-5)
    assert np.loadtxt(out / "forecast.csv", delimiter=",", skiprows=1).shape == table.shape
    assert float((out / "equation.txt").read_text().split("*")[0]) == pytest.approx(-1, abs=1e-5)
    text = capsys.readouterr().out
    assert re.search(r"They fit the trajectory up to \S+e-\d+ of its deviation, and are solved", text)
    assert "Constants with 90 % intervals, if the structure is right: -1 (" in text
    assert (out / "intervals.csv").read_text().startswith("t,u_0_low,u_0_high\n")
    ends = np.loadtxt(out / "intervals.csv", delimiter=",", skiprows=1)
    assert np.all(ends[:, 1] <= table[:, 1] + 1e-8)
    assert np.all(table[:, 1] <= ends[:, 2] + 1e-8)


def test_intervals_are_as_wide_as_the_noise_makes_them(runs, monkeypatch):
    times = np.linspace(0, 1.5, GIVEN)
    noise = 0.01 * np.random.default_rng(0).normal(size=(GIVEN, 1))
    monkeypatch.setattr(_forecast, "_equation", lambda *_: symbolic.system_from_text("-0.95 * u_0"))
    states = np.exp(-times)[:, None] + noise
    found, wide = (forecast(runs, times, states, until=2.0, points=3, level=level) for level in (0.9, 0.999))
    low, high = found.posterior.interval(0.99)
    assert low < -1 < high < low + 0.2
    assert 0.005 < float(found.posterior.noise[0]) < 0.02
    np.testing.assert_allclose(found.band.states, found.solution, atol=1e-2)
    assert np.all(wide.band.high - wide.band.low > 1.5 * (found.band.high - found.band.low))
    assert forecast(runs, times, states, until=2.0, refine=False).band is None
    with pytest.raises(ValueError, match=r"Expected a level between 0 and 1, such as 0\.9, got 1\."):
        forecast(runs, times, states, level=1.0)


@pytest.mark.slow  # as tests/prose/test_solved_forecast.py
def test_equations_that_cannot_be_solved_so_far_are_written_alone(runs, capsys, monkeypatch):
    times = np.linspace(0, 0.9, GIVEN)
    path, out = as_csv(runs / "escape.csv", times, 1 / (1 - times[:, None])), runs / "out" / "unsolved"
    monkeypatch.setattr(_forecast, "_equation", lambda *_: symbolic.system_from_text("1.0 * u_0 * u_0"))
    assert main(["predict", str(runs / "run"), str(path), "--until", "2", "--out", str(out)]) == 0
    assert sorted(one.name for one in out.iterdir()) == ["equation.tex", "equation.txt", "forecast.csv", "forecast.png"]
    assert "but cannot be solved until the last time" in capsys.readouterr().out


def test_arrays_and_a_file_without_names_give_the_same_forecast(runs, forecast_folder):
    times, states = trajectory(start=10.0)
    np.savez(runs / "given.npz", t=times, u=states)
    for path in (runs / "given.npz", as_csv(runs / "plain.csv", times, states, names=False)):
        out = runs / "out" / path.stem / path.suffix[1:]
        assert main(["predict", str(runs / "run"), str(path), "--no-refine", "--out", str(out)]) == 0
        for name in ("forecast.csv", "equation.txt"):
            assert (out / name).read_text() == (forecast_folder / name).read_text()


def forecast(runs, times, states, **options):
    task = smoke()[1].task
    return task.forecast(_loaded(runs / "run").model, times, states, ForecastOptions(**options))


def test_a_guess_and_other_times(runs):
    times, states = trajectory()
    options = {"until": 5.0, "points": POINTS - GIVEN, "refine": False}
    found = forecast(runs, times, states, equation="u_1 | u_2 | u_0", **options)
    np.testing.assert_allclose(found.times, np.linspace(times[-1], 5, POINTS - GIVEN + 1)[1:])
    without = forecast(runs, times, states, **options)
    assert np.abs(found.states - without.states).max() > 1e-4
    assert len(found.system) == VARIABLES


def test_constants_are_shown_with_six_digits():
    system = symbolic.system_from_text("0.407000000000003 * u_0 | u_0 + 1234567.8")
    assert symbolic.system_to_text(_files.rounded(system)) == "0.407 * u_0 | u_0 + 1234570.0"


@functools.cache
def _loaded(run):
    return smoke()[1].task._trained(experiment.load(run))


def trained(runs, **changes):
    return dataclasses.replace(_loaded(runs / "run"), **changes)


def test_the_best_equation_is_chosen_and_its_constants_are_fitted(runs):
    vocabulary = symbolic.ode_vocabulary(VARIABLES)
    texts = ["3.0 * u_1 | -1.0 * u_0", "0.9 * u_1 | -1.2 * u_0", "u_0 * u_1 | 2.0"]
    rows = [vocabulary.encode(symbolic.system_to_tokens(symbolic.system_from_text(text))) for text in texts]
    written = np.full((3, 20), vocabulary.eos)
    for row, tokens in zip(written, rows, strict=True):
        row[: len(tokens)] = tokens
    times = np.linspace(5, 7, 12)
    states = np.stack((np.sin(times), np.cos(times)), axis=1)  # of u_0' = u_1, u_1' = -u_0
    chosen = _forecast._equation(trained(runs), written, times, states)
    assert symbolic.system_to_text(chosen) == texts[1]
    query = np.linspace(7, 9, 5)[1:]
    unsolved = _forecast.Forecast(query, np.zeros((4, 2)), None)
    found = _forecast._solved(unsolved, chosen, _forecast._spread(chosen, None), times, states)
    np.testing.assert_allclose(symbolic.parameters(found.system), [1, -1], atol=1e-4)
    np.testing.assert_allclose(found.solution, np.stack((np.sin(query), np.cos(query)), axis=1), atol=1e-4)
    assert found.misfit < 1e-4


def test_numbers_that_were_copied_from_a_guess_are_kept():
    times = np.linspace(0, 2, 12)
    states = np.exp(-times)[:, None] + 0.05 * np.cos(9 * times)[:, None]
    text = lambda text: symbolic.system_from_text(text)
    unsolved = _forecast.Forecast(np.array([3.0]), np.zeros((1, 1)), None)
    for guess, moved in (("-0.9 * u_0", 1e-3), ("-0.95 * u_0", 0.02), ("PLACEHOLDER * u_0", 0.02), (None, 0.02)):
        system = text("-0.9 * u_0")
        spread = _forecast._spread(system, guess and text(guess))
        found = _forecast._solved(unsolved, system, spread, times, states)
        change = abs(symbolic.parameters(found.system)[0] + 0.9) / 0.9
        assert (change <= moved) if moved < 0.01 else (change > moved)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2.0 * u_0 | u_1 - u_0**2", f"mul {UNKNOWN} u_0 | sub u_1 pow2 u_0"),
        ("u_1**3 | sin(u_0)", "mul u_1 mul u_1 u_1 | sin u_0"),
        (None, f"{UNKNOWN} | {UNKNOWN}"),
    ],
)
def test_a_guess_becomes_tokens_without_numbers(runs, text, words):
    found = np.asarray(_guess.tokens_of(trained(runs, some_known=False), text, 2))
    assert " ".join(symbolic.ode_vocabulary(VARIABLES).decode(found)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2.5 * u_0 | u_1", "mul + N250 E-2 u_0 | u_1"),
        ("2.5 * u_0 | PLACEHOLDER * u_1", f"mul {UNKNOWN} u_0 | mul {UNKNOWN} u_1"),  # no guess had both
    ],
)
def test_a_guess_keeps_its_numbers_if_guesses_in_the_training_had_some(runs, text, words):
    found = np.asarray(_guess.tokens_of(trained(runs), text, 2))
    assert " ".join(symbolic.ode_vocabulary(VARIABLES).decode(found)) == words
    if UNKNOWN not in words:
        always = _guess.tokens_of(trained(runs, known=True, some_known=False), text, 2)
        np.testing.assert_array_equal(always, found)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("u_0", {}, r"a right-hand side for each of 2 variables, with \| between them, got 1: 'u_0'"),
        ("u_0 | foo(u_1)", {}, r"Right-hand side 1 of the equation, 'foo\(u_1\)': Column 0: expected numbers"),
        ("u_0 | u_1 + tanh(u_0)", {}, r"Right-hand side 1 .*, column 6: the model does not know 'tanh', only add"),
        ("u_0**4 | u_1", {}, r"Right-hand side 0 .*, column 3: the model does not know 'pow'"),
        ("u_0 | u_1 * u_2", {}, r"column 6: expected the variables u_0, u_1, got 'u_2'. Rename it"),
        ("u_0 | u_1 +", {}, "Right-hand side 1 .* is not an expression in Python's notation"),
        ("u_0 | PLACEHOLDER", {"known": True}, "trained with numbers in the equations. Replace PLACEHOLDER"),
        (None, {"blank": False}, "was trained with a guess of the equations in every sample. Give one"),
    ],
)
def test_wrong_guesses_are_refused_with_their_place(runs, text, changes, message):
    with pytest.raises(ValueError, match=message):
        _guess.tokens_of(trained(runs, **changes), text, 2)


def test_a_model_without_equations_reads_none(runs):
    model = dataclasses.replace(experiment.load(runs / "run"), symbol_encoder=None, fusion=None, symbol_decoder=None)
    without = trained(runs, model=model)
    assert _guess.tokens_of(without, None, 2) is None
    with pytest.raises(ValueError, match="The model of this run reads no equation"):
        _guess.tokens_of(without, "u_0 | u_1", 2)


def changed(times, states, **changes):
    for name, (place, value) in changes.items():
        {"t": times, "u": states}[name][place] = value
    return times, states


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (trajectory(variables=4), {}, "The trajectory has 4 variables, the model takes up to 3. Leave some out"),
        (trajectory(count=17), {}, "The trajectory has 17 points, the model takes up to 8. Keep one of 3 points"),
        (trajectory(count=2), {}, "Expected a trajectory of at least 3 points, got 2"),
        (changed(*trajectory(), u=((2, 1), np.nan)), {}, "u_1 of point 2 is nan, the first being 0. Leave such points"),
        (changed(*trajectory(), t=(3, np.inf)), {}, "t of point 3 is inf"),
        (changed(*trajectory(), t=(5, 0.1)), {}, "Expected increasing times, got 0.1 after .* at point 5. Sort"),
        ((2 * trajectory()[0], trajectory()[1]), {}, "The trajectory lasts 3.65217, the model was trained with 1.826"),
        (trajectory(), {"until": 1.0}, "until a time after 1.82609, .* and up to 6, .*, got 1"),
        (trajectory(), {"until": 7.0}, "got 7"),
        (trajectory(), {"until": float("nan")}, "got nan"),
        (trajectory(), {"points": 0}, "Expected at least 1 point of the forecast, got 0"),
    ],
)
def test_trajectories_that_the_model_was_not_trained_for_are_refused(runs, given, options, message):
    with pytest.raises(ValueError, match=message):
        forecast(runs, *given, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "t,u_0\n0.0,1.0\n0.1,x\n", "line 3: expected 2 finite numbers, .* got '0.1,x'. Remove or complete"),
        ("a.csv", "0.0,1.0\n\n0.1,2.0,3.0\n", "line 3: expected 2 finite numbers"),
        ("a.csv", "t\n0.0\n0.1\n", "line 2: expected 2 finite numbers, a time and the states"),
        ("a.csv", "0,1\n1,nan\n", "line 2: expected 2 finite numbers, .* got '1,nan'"),
        ("a.csv", "0,1\n1,-inf\n", "line 2: expected 2 finite numbers, .* got '1,-inf'"),
        ("a.csv", "0,1\nnan,1\n", "line 2: expected 2 finite numbers, .* got 'nan,1'"),
        ("a.csv", "0,1\n1,1e999\n", "line 2: expected 2 finite numbers"),
        ("a.csv", "0,1\n1,1_0\n", "line 2: expected 2 finite numbers, .* got '1,1_0'"),
        ("a.csv", "0,1\n1,\n", "line 2: expected 2 finite numbers, .* got '1,'"),
        ("a.csv", "0,1\n1,2\0\n", r"line 2: expected 2 finite numbers, .* got '1,2\\x00'"),
        (
            "a.csv",
            "0,1\n1," + "2" * 10**5,
            "line 2: expected 2 finite numbers, .* got '1,2{58}' and 99942 more characters. Remove",
        ),
        ("a.csv", "0,1\n0,2\n", "line 2: expected a time after 0, got 0. Sort the lines by time and keep one of each"),
        ("a.csv", "u_0,t\r\n1,0\r\n\r\n2,3\r\n3,2\r\n", "line 5: expected a time after 3, got 2. Sort the lines"),
        ("a.csv", "0\v,1\n1\n", "line 2: expected 2 finite numbers"),
        (
            "a.csv",
            b"0,1\n1,2\n\xff\xfe\0",
            "line 3: expected text in UTF-8, got the byte 0xff. Save it as such",
        ),
        ("a.csv", "t,u_0,u_0\n0,1,2\n", "line 1: expected the columns t, u_0, u_1, got 't,u_0,u_0'. Rename them"),
        ("a.csv", "\ntime,x\n3,1\n", "line 2: expected the columns t, u_0, got 'time,x'. Rename them"),
        ("a.csv", "\x1f" + ",a" * 10**4, "line 1: expected the columns t, u_0, u_1, ..., u_9999, got '.{60,70}'"),
        ("a.csv", "nan,inf\n0,1\n", "line 1: expected the columns t, u_0, got 'nan,inf'"),
        ("a.txt", "0.0,1.0\n", "Expected a trajectory in a .csv or .npz file, got .*a.txt. Convert it"),
    ],
)
def test_files_that_are_no_trajectory_are_refused_with_the_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message if name == "a.txt" else f"^{tmp_path / name}, {message}") as found:
        _files.read_trajectory(tmp_path / name)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 400


def test_arrays_that_are_no_trajectory_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no trajectory file .*b.npz"):
        _files.read_trajectory(tmp_path / "b.npz")
    np.savez(tmp_path / "b.npz", t=np.zeros(3), x=np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"plain arrays t and u, but it holds .*, \['u'\] missing"):
        _files.read_trajectory(tmp_path / "b.npz")
    np.savez(tmp_path / "b.npz", t=np.array(["one", "two"]), u=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Expected real numbers in .*b.npz, got t of <U3 and u of float64"):
        _files.read_trajectory(tmp_path / "b.npz")
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"Expected .*b.npz to be an .npz file with the plain arrays t and u"):
        _files.read_trajectory(tmp_path / "b.npz")
    np.savez(tmp_path / "b.npz", t=np.zeros(3), u=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"and u of shape \(n, variables\) in .*, got \(3,\) and \(2, 3\)"):
        _files.read_trajectory(tmp_path / "b.npz")


def test_what_is_there_is_kept_and_nothing_is_left_of_a_failure(runs, tmp_path, capsys, monkeypatch):
    path = as_csv(tmp_path / "given.csv", *trajectory())
    command = ["predict", str(runs / "run"), str(path), "--no-refine", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(_files.plot, "save", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    assert main(command) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert {one.name for one in tmp_path.iterdir()} == {"given.csv"}
    (tmp_path / "out").mkdir()
    assert main(command) == 1
    assert "out exists and is kept. Choose another folder with --out" in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "trajectory.csv", "--out", str(tmp_path / "out")]) == 1
    assert "is not the folder of a run" in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_columns_are_read_by_their_names(tmp_path):
    (tmp_path / "a.csv").write_text("u_1,t,u_0\n3,1,2\n6,4,5\n")
    times, states = _files.read_trajectory(tmp_path / "a.csv")
    np.testing.assert_array_equal(times, [1, 4])
    np.testing.assert_array_equal(states, [[2, 3], [5, 6]])
    for names, order in (("u_0,t", [0, 1]), (" t , u_0", [1, 0]), ("\ufefft,u_0", [1, 0])):
        lines = [names, *(",".join(str(row[place]) for place in order) for row in ((7, 0.5), (9, 1.5)))]
        (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
        times, states = _files.read_trajectory(tmp_path / "a.csv")
        assert (times.tolist(), states.tolist()) == ([0.5, 1.5], [[7], [9]])
