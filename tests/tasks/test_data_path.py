"""What a surrogate chooses from its data: task, split, boundaries, statistics; and what it refuses."""

import dataclasses
import json

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_formats import darcy, flow, single, values

from sciml import data, experiment, tasks, train, zoo
from sciml.cli import main
from sciml.grid import Neumann, Periodic
from sciml.operators import FiLM, Increments, NextFrames
from sciml.tasks._data_path import resolved, split_of
from sciml.tasks._surrogate_errors import errors_between


@pytest.fixture
def path(tmp_path):
    single(tmp_path / "a.hdf5", samples=21, frames=12, space=(16,))
    return str(tmp_path / "a.hdf5")


def viscous(path, samples=12):
    """Trajectories with a parameter of each sample."""
    problem = data.GENERATORS["burgers"](resolution=16, frames=5, viscosity=(0.01, 0.2), step=1e-2)
    data.generate(problem, path, n=samples, seed=0)
    return str(path)


def split(path, **options):
    chosen, found, _ = resolved(tasks.DataPath(path, **options))
    return split_of(chosen, found)


def rows(part):
    return part.rows.tolist()


def test_the_official_split_keeps_the_published_test_samples(path):
    parts = split(path)
    assert parts.how == "official"
    assert rows(parts.test) == [0, 1]  # PDEBench: the first tenth
    assert sorted(rows(parts.train) + rows(parts.validation)) == list(range(2, 21))
    assert len(parts.validation) == 2  # a tenth of the others


def test_an_own_split_holds_every_sample_once_and_depends_on_its_seed(path):
    parts, others = split(path, split="own"), split(path, split="own", split_seed=1)
    assert sorted(rows(parts.train) + rows(parts.validation) + rows(parts.test)) == list(range(21))
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [17, 2, 2]
    assert rows(parts.test) != rows(others.test)


def test_a_single_trajectory_is_split_in_time(tmp_path):
    flow(tmp_path / "a.hdf5", samples=None, frames=20, space=(16,))
    parts = split(str(tmp_path / "a.hdf5"))
    assert [one.layout.frames for one in (parts.train, parts.validation, parts.test)] == [14, 3, 3]
    known = data.open_data(tmp_path / "a.hdf5")[:]["frames"]
    np.testing.assert_array_equal(parts.test[:]["frames"], known[:, 17:])
    with pytest.raises(
        ValueError, match="Expected more than 3 frames, which the model sees, for validation and test, got 3"
    ):
        built(str(tmp_path / "a.hdf5"), tasks.Stepping(history=3))


def test_a_range_of_a_parameter_is_held_out_and_warned_of(tmp_path):
    where = viscous(tmp_path / "b.h5")
    known = data.open_data(where).parameters(np.arange(12))[:, 0]
    middle = float(np.median(known))
    parts = split(where, hold_out=f"viscosity={middle:.6f}:1")
    assert (parts.test.parameters(np.arange(len(parts.test))) >= middle - 1e-6).all()
    assert len(parts.test) == (known >= middle - 1e-6).sum()
    card = tasks.data_card(tasks.DataPath(where), parts)
    low, high = card["parameter_ranges"]["viscosity"]
    assert card["warnings"] == [
        f"{len(parts.test)} of {len(parts.test)} test samples have viscosity outside of the training range {low:g} to "
        f"{high:g}: their errors are errors of extrapolation."
    ]


def test_boundaries_frames_points_and_channels_are_options(path):
    parts = split(path, boundary=("wall",), every=2, stride=3, limit=2)
    assert parts.train.grid.sides[0][0] == Neumann(0.25)  # a cell centre, of cells of twice the size
    assert parts.train.layout.shape == (2, 4, 1, 8)
    known = data.open_data(path)
    assert isinstance(known.grid.sides[0][0], Periodic)
    np.testing.assert_array_equal(parts.test[:]["frames"], known[:2]["frames"][:, ::3, :, ::2])


def test_samples_are_left_out_by_number(path):
    whole, parts = split(path), split(path, exclude=(1, 4, 5))
    assert rows(parts.test) == [0]
    assert rows(parts.train) == [row for row in rows(whole.train) if row not in (4, 5)]
    assert parts.how == "official, without the samples 1, 4, 5"
    with pytest.raises(ValueError, match="Expected samples for test, got none besides those of --exclude"):
        split(path, exclude=(0, 1))


def test_a_sample_with_nan_is_named_and_can_be_left_out(path):
    with h5py.File(path, "r+") as file:
        file["tensor"][4, 2, 3] = np.nan
    with pytest.raises(
        ValueError, match=r"1 of \d+ samples, the first is sample 4\. Leave it out: --exclude 4 of sciml"
    ):
        built(path)
    made = built(path, exclude=(4,))
    assert np.isfinite(made.train[np.arange(len(made.train))]["frames"]).all()
    assert len(made.train.trajectories) + len(made.validation) == 18  # of 19 official ones


def test_one_of_two_long_trajectories_can_be_left_out(tmp_path):
    single(tmp_path / "a.hdf5", samples=2, frames=12, space=(16,))
    parts = split(str(tmp_path / "a.hdf5"), split="own", exclude=(0,))
    assert [rows(one) for one in (parts.train, parts.validation, parts.test)] == [[1]] * 3
    assert parts.how == "in time: the first 6 frames for training, the last 3 for tests, without the samples 0"


def test_what_is_chosen_is_said(path):
    options, _, said = resolved(tasks.DataPath(path))
    assert (options.task, options.split, len(options.fingerprint)) == ("step", "official", 64)
    assert said[0].startswith("format: PDEBench (single array), because of")
    assert "task: step, because there are 12 frames" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "both"}, "Expected --task map or step, got 'both'"),
        ({"split": "mine"}, "Expected --split official or own, got 'mine'"),
        ({"boundary": ("round",)}, "Expected --boundary periodic or wall, once or for each of 1 axes, got round"),
        ({"boundary": ("wall", "wall")}, "once or for each of 1 axes, got wall wall"),
        ({"channels": ("w",)}, "Expected channels of tensor, got w"),
        ({"hold_out": "mu=0:1"}, "Expected --hold-out NAME=LOW:HIGH with a parameter of"),
        ({"fingerprint": "0" * 64}, "are not those that the run was made with: fingerprint"),
        ({"axes": ("sample", "time", "x")}, "expected x and y, frames, or u with t and x, got"),
    ],
)
def test_what_does_not_fit_is_refused(path, options, message):
    with pytest.raises(ValueError, match=message):
        split(path, **options)


def test_too_few_samples_are_refused(tmp_path):
    single(tmp_path / "a.hdf5", samples=2, frames=5, space=(16,))
    with pytest.raises(ValueError, match="Expected at least 3 samples, or a trajectory of at least 10 frames"):
        split(str(tmp_path / "a.hdf5"), split="own")
    with pytest.raises(ValueError, match="Expected data: sciml train PATH"):
        split("")


def built(path, stepping=None, **options):
    source, stepping = tasks.DataPath(path, **options), tasks.Stepping() if stepping is None else stepping
    return tasks.surrogate(zoo.MODELS["convnet"], source, stepping, experiment.Training(steps=2, batch=2))


def test_statistics_are_those_of_the_training_samples(path):
    made = built(path)
    known = split(path).train[:]["frames"]
    model = made.model
    assert isinstance(model.output, Increments)
    np.testing.assert_allclose(model.frames.mean.value.ravel(), known.mean(), rtol=1e-5, atol=1e-7)  # of float32 values
    np.testing.assert_allclose(model.frames.deviation.value.ravel(), known.std(ddof=1), rtol=1e-5)
    steps = np.diff(known, axis=1)
    np.testing.assert_allclose(model.output.step.deviation.value.ravel(), steps.std(ddof=1), rtol=1e-5)


def test_options_of_time_reach_the_model(tmp_path):
    stepping = tasks.Stepping(history=2, bundle=2, unroll=2, increments=False, conditioning="film", strides=(1, 2))
    where = viscous(tmp_path / "a.h5", samples=6)
    problem = data.GENERATORS["burgers"](resolution=16, frames=12, viscosity=(0.01, 0.2), step=1e-2)
    data.generate(problem, where, n=6, seed=0, overwrite=True)
    made = built(where, stepping)
    assert isinstance(made.model.output, NextFrames)
    assert isinstance(made.model.operator, FiLM)
    assert (made.model.history, made.model.bundle, made.model.numbers.size) == (2, 2, 2)  # viscosity and log dt
    assert made.model.numbers.logarithms == (0,)  # a range of a factor of 20
    batch = made.train[np.arange(2)]
    assert batch["frames"].shape == (2, 6, 1, 16)  # two seen, two bundles of two
    assert np.isfinite(made.loss(made.model, batch, jax.random.split(jax.random.key(0), 2))[0])


def test_data_are_streamed_where_memory_is_short_and_the_run_keeps_it(path, monkeypatch):
    resolve = lambda **options: tasks.resolve(
        tasks.DataPath(path, **options), tasks.Stepping(), experiment.Training(batch=2)
    )
    assert resolve()[0].load == "memory"
    monkeypatch.setattr(train, "host_memory", lambda: 4000)
    source, _, said = resolve()
    assert source.load == "stream"
    assert said[-1].startswith("load: stream, because ")
    assert said[-1].endswith(" bytes of training data are more than 1,000")
    assert isinstance(built(path).train, data.Streamed)
    assert isinstance(built(path, load="memory").train, data.TrajectoryWindows)
    monkeypatch.undo()
    assert isinstance(built(path, load=source.load).train, data.Streamed)
    with pytest.raises(ValueError, match="Expected --load auto, memory or stream, got 'disk'"):
        resolve(load="disk")


def test_a_map_sees_its_fixed_fields(tmp_path):
    darcy(tmp_path / "a.hdf5", samples=12, space=(12, 16))
    made = built(str(tmp_path / "a.hdf5"))
    assert (made.model.history, made.test.steps) == (0, 1)
    batch = made.train[np.arange(2)]
    assert {name: array.shape for name, array in batch.items()}["fixed"] == (2, 1, 12, 16)
    found = tasks.rollout_metrics(made.model, made.test)
    assert found.keys() == {"relative_l2", "nrmse", "vrmse", "diverged"}


@pytest.mark.parametrize("option", [{"bundle": 2}, {"unroll": 2}, {"history": 2}, {"strides": (1, 2)}, {"noise": 0.1}])
def test_a_map_has_no_options_of_steps(path, option):
    with pytest.raises(ValueError, match=f"Expected no --{next(iter(option))} for a map, which predicts one frame"):
        built(path, tasks.Stepping(**option), task="map")


def test_a_trajectory_as_a_map_is_its_first_and_last_frame(path):
    parts = split(path, task="map")
    known = data.open_data(path)
    np.testing.assert_array_equal(parts.test[:]["frames"], known[:2]["frames"][:, [0, 11]])
    assert built(path, task="map").model.history == 1


class Growing:
    """A model whose frames grow by a factor in each step."""

    history, factor = 1, 1e10

    def __call__(self, frames, conditions):
        return frames[-1:] * self.factor


def test_a_frame_that_hardly_varies_is_no_divergence():
    """A VRMSE divides by the variance over the points, so that it can exceed the bound where a prediction is close."""
    truth = np.ones((2, 3, 1, 16), np.float32)
    truth[..., ::2] += 1e-3
    prediction = truth.copy()
    prediction[0, 1] += 0.9  # relative error .9, VRMSE over 1000
    found = errors_between(prediction, truth)
    assert found.diverged == 0
    assert found.variance[0, :, 0].tolist() == [0, 100, 0]
    np.testing.assert_allclose(found.whole, [0.9 / np.sqrt(3), 0], rtol=1e-3)  # a third of the frames, of size 1
    prediction[0, 1] += 1000
    found = errors_between(prediction, truth)
    assert found.diverged == 1
    assert found.whole.tolist() == [100, 0]
    assert found.steps.tolist() == [[0, 100, 100], [0, 0, 0]]
    assert found.channels[..., 0].tolist() == [[0, 100, 100], [0, 0, 0]]


def test_diverged_rollouts_are_counted_and_count(path):
    rollouts = tasks.Rollouts(split(path).test, 1, 11)
    found = tasks.rollout_metrics(Growing(), rollouts)
    assert found["diverged"] == 2
    assert found["relative_l2"] == 100
    assert found["vrmse_1"] == 100
    perfect = dataclasses.replace(rollouts, steps=1)
    persistent = type("Persistent", (), {"history": 1, "__call__": lambda self, frames, conditions: frames[-1:]})()
    expected = perfect.read(np.arange(2))
    error = np.linalg.norm(expected[0] - expected[2], axis=(-1, -2)) / np.linalg.norm(expected[2], axis=(-1, -2))
    np.testing.assert_allclose(tasks.rollout_metrics(persistent, perfect)["relative_l2"], error.mean(), rtol=1e-5)


@pytest.mark.slow  # trains twice
def test_a_run_belongs_to_its_data(tmp_path, capsys):
    viscous(tmp_path / "a.h5")
    train = ["train", str(tmp_path / "a.h5"), "--preset", "smoke", "--model", "convnet", "--out", str(tmp_path / "run")]
    assert main(train) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["source"]["path"] == str(tmp_path / "a.h5")
    assert main(train) == 0
    assert "is finished" in capsys.readouterr().out
    viscous(tmp_path / "a.h5.new", samples=13)
    (tmp_path / "a.h5.new").rename(tmp_path / "a.h5")
    assert main(train) == 1
    assert "fingerprint" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert "are not those that the run was made with: fingerprint" in capsys.readouterr().err


@pytest.mark.slow  # trains four models
def test_a_benchmark_of_a_path_has_baselines(tmp_path, capsys):
    viscous(tmp_path / "a.h5")
    options = ("--preset", "smoke", "--models", "convnet", "fno", "--epochs", "2", "--seeds", "2")
    assert main(["benchmark", str(tmp_path / "a.h5"), *options, "--out", str(tmp_path / "b")]) == 0
    table, shown = (tmp_path / "b/table.md").read_text(), capsys.readouterr().out
    assert "vrmse 1, diverged" in " ".join(shown.split())
    assert "vrmse 1 | diverged" in table
    assert "| persistence |" in table
    assert "| mean |" in table
    found = json.loads((tmp_path / "b/benchmark.json").read_text())
    assert found["baselines"]["persistence"]["relative_l2"] > 0
    assert main(["report", str(tmp_path / "b"), "--out", str(tmp_path / "b.html")]) == 0
    assert "persistence" in (tmp_path / "b.html").read_text()


@pytest.mark.slow  # trains
def test_any_operator_run_predicts_files(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(["train", "darcy", "--preset", "smoke", "--model", "fno", "--out", str(out), "--data", str(tmp_path)]) == 0
    )
    file = next(tmp_path.glob("darcy-*.h5"))
    assert main(["predict", str(out), str(file), "--samples", "2", "--out", str(tmp_path / "found.npz")]) == 0
    known = data.read(file)
    model = experiment.load(out)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(
            found["frames"][:, 0], np.stack([model(jnp.asarray(one)) for one in known.x[:2]]), rtol=1e-4, atol=1e-6
        )
    (tmp_path / "mine.png").write_bytes(b"a picture")
    assert main(["predict", str(out), str(file), "--samples", "2", "--out", str(tmp_path / "mine.npz")]) == 1
    assert "mine.png exists and is kept" in capsys.readouterr().err
    assert (tmp_path / "mine.png").read_bytes() == b"a picture"
    np.savez(tmp_path / "other.npz", x=values(0, 3, 5), y=values(1, 3, 5))
    assert main(["predict", str(out), str(tmp_path / "other.npz"), "--out", str(tmp_path / "none.npz")]) == 1
    assert "Expected data that the model of the run maps, got 1 fixed fields" in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()
