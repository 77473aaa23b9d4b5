"""The command writes what the functions write, with a card; the card says what is known of a run."""

import json
import pathlib
import shutil
import sys

import exported_models
import jax
import numpy as np
import pytest

from sciml import experiment, export
from sciml.cli import main
from sciml.files import read_json, write_json

pytest.importorskip("onnx", reason="the extra `export` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

RUN = pathlib.Path(__file__).resolve().parents[1] / "experiment" / "runs_of_0_1" / "darcy-mgno"
N = 16


def run(*words):
    return main(["export", *map(str, words)])


@pytest.fixture
def later(tmp_path):
    """The run with the records of a surrogate's run, of later versions: its data, their shapes and other results."""
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder)
    record, metrics = read_json(folder / "run.json"), read_json(folder / "metrics.json")
    shapes = [[1, N, N], [1, N, N]]
    record["data"] = {"samples": 24, "shapes": shapes, "dtypes": ["float32"] * 2, "sha256": "0" * 64}
    metrics["conditions"] = {"noise=0.1": {"relative_l2": 0.6}, "certified 0.01": {"accepted": 0.25, "bound": 0.01}}
    metrics["bands"] = {"0.9": {"coverage": 0.91, "width": 0.3}}
    data = {"channels": ["pressure"], "points": [N, N], "lengths": [1.0, 2.0], "boundary": ["Dirichlet, Neumann"] * 2}
    for name, content in (("run", record), ("metrics", metrics), ("data", {**data, "path": "darcy.h5"})):
        write_json(folder / f"{name}.json", content)
    return folder


def test_onnx_with_a_card(tmp_path, capsys):
    assert run(RUN, "--to", "onnx", "--shape", 1, N, N, "--out", tmp_path / "out") == 0
    assert sorted(capsys.readouterr().out.split()) == [
        str(tmp_path / "out" / name) for name in ("card.json", "model.onnx")
    ]
    x = np.random.default_rng(0).normal(size=(3, 1, N, N)).astype(np.float32)
    (found,) = ort.InferenceSession(str(tmp_path / "out" / "model.onnx")).run(None, {"x": x})
    model = experiment.load(RUN)
    expected = np.asarray(jax.jit(jax.vmap(lambda x: model(x)))(x))
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)
    card = read_json(tmp_path / "out" / "card.json")
    assert card["inputs"] == {"x": {"axes": ["channels", "x", "y"], "shape": [1, N, N]}}
    assert card["output"] == card["inputs"]["x"]
    assert card["normalisation"]["inside"]
    assert card["normalisation"]["statistics"]["x"]["mean"] == [float(model.x.mean.value[0, 0, 0])]
    assert card["errors"]["test"] == {"relative_l2": 0.5212240219116211, "relative_h1": 0.8142852783203125}
    assert card["grid"] == {"shape": [N, N], "lengths": [1.0, 1.0], "boundary": ["Dirichlet, Dirichlet"] * 2}


def test_a_card_says_what_the_records_of_a_run_say(later):
    card = export.card(later, units={"pressure": "Pa"}).as_json()
    assert json.loads(json.dumps(card)) == card
    assert card["grid"] == {"shape": [N, N], "lengths": [1.0, 2.0], "boundary": ["Dirichlet, Neumann"] * 2}
    assert card["training_data"] == {"samples": 24, "shapes": [[1, N, N]] * 2, "sha256": "0" * 64, "path": "darcy.h5"}
    assert card["errors"]["conditions"] == {"noise=0.1": {"relative_l2": 0.6}}
    assert card["bounds"]["certified"] == {"certified 0.01": {"accepted": 0.25, "bound": 0.01}}
    assert card["bounds"]["bands"] == {"0.9": {"coverage": 0.91, "width": 0.3}}
    assert card["units"] == {"pressure": "Pa"}
    assert card["versions"]["jax"] == "0.10.2"
    with pytest.raises(ValueError, match=r"Expected units of pressure, got one of force"):
        export.card(later, units={"force": "N"})


@pytest.mark.parametrize(
    ("package", "write"),
    [
        ("onnx", lambda folder: export.onnx(lambda x: x, (1, 4), folder / "m")),
        ("torch", lambda folder: export.torch_module(lambda x: x)),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(package, write, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r"not installed: pip install 'sciml-jax\[(export|torch)\]'"):
        write(tmp_path)


def test_the_card_of_a_step_names_its_inputs():
    model = exported_models.conditioned(8, 12)
    names = {"frames": ["u", "v"], "fixed": ["mask"], "parameters": ["viscosity"]}
    card = export.card_of(model, (2, 8, 12), channels=names)
    assert card.inputs["frames"] == {
        "axes": ["time", "channels", "x", "y"], "shape": [3, 2, 8, 12], "channels": ["u", "v"]
    }  # fmt: skip
    assert card.inputs["parameters"] == {"axes": ["parameters"], "shape": [1], "channels": ["viscosity"]}
    assert card.output["shape"] == [2, 2, 8, 12]
    assert set(card.normalisation["statistics"]) == {"frames", "fixed", "parameters", "increments"}
    with pytest.raises(ValueError, match="Expected frames of 2 channels as in the statistics, got 3"):
        export.card_of(model, (3, 8, 12))


def test_the_other_formats(later, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(later, "--to", "c", "--unit", "pressure=Pa") == 0
    names = {"Makefile", "card.json", "main.c", "main.f90", "model.onnx", "sciml_model.c", "sciml_model.f90"}
    assert {path.name for path in (tmp_path / "run-c").iterdir()} == {*names, "sciml_model.h"}
    assert run(later, "--to", "stablehlo") == 0
    assert {path.name for path in (tmp_path / "run-stablehlo").iterdir()} == {"card.json", "model.stablehlo"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([RUN, "--to", "tensorflow"], 2, "Expected --to stablehlo, onnx, c, got 'tensorflow'."),
        ([RUN, "--to", "onnx", "--unit", "a"], 2, "Expected --unit CHANNEL=UNIT, such as velocity_x=m/s, got 'a'."),
        ([RUN, "--to", "onnx"], 1, "does not say which fields the model takes"),
        ([RUN, "--to", "onnx", "--shape", 1, "n", "n"], 1, "Expected a shape of numbers, got (1, 'n', 'n')"),
        ([RUN, "--to", "onnx", "--shape", 2, N, N], 1, "Expected 1 input channels as in the statistics, got 2"),
        ([RUN, "--to", "onnx", "--shape", 1, N, 2 * N], 1, "Expected a field (channels, 16, 16)"),
        ([RUN, "--to", "stablehlo", "--shape", 1, "n", "n"], 1, "whose sizes have names"),
        (["nothing", "--to", "onnx"], 1, "nothing is not the folder of a run"),
        ([RUN, "--to", "onnx", "--shape", 1, N, N, "--out", RUN], 1, "exists and is kept"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
