"""The code of the documentation runs as it stands."""

import pathlib
import re

import numpy as np
import pytest

from sciml import experiment, train

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"


def code_of(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks, f"{page} has no Python code"
    return "\n".join(blocks)


@pytest.mark.parametrize("shape", [(2, 9, 12), (1, 15)], ids=["two dimensions", "one dimension"])
def test_your_own_data(shape, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, *shape)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", x)
    np.save(tmp_path / "outputs.npy", 3 * x[:, :1] - 1)
    monkeypatch.chdir(tmp_path)
    code = code_of("your_own_data.md")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    exec(compile(code, "your_own_data.md", "exec"), {})
    model = experiment.load("runs/mine")
    assert train.predict(model, x).shape == (30, 1, *shape[1:])
    error = experiment.read_json(pathlib.Path("runs/mine/metrics.json"))["test"]["relative_l2"]
    assert error < 0.3  # a multiple of the input is learned in 100 steps; the prediction zero has 1


def test_cheap_neural_odes(capsys):
    found: dict = {}
    exec(compile(code_of("cheap_neural_odes.md"), "cheap_neural_odes.md", "exec"), found)
    assert found["evaluations"]["penalised"] < found["evaluations"]["plain"] / 2
    assert "the gradient of a penalty over all steps would silently be zero" in capsys.readouterr().out
