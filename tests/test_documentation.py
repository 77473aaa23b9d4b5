"""The code of the documentation runs as it stands."""

import pathlib
import re

import jax
import jaxtyping
import numpy as np
import pytest

from sciml import experiment, train, uq

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def code_of(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks, f"{page} has no Python code"
    return "\n".join(blocks)


@pytest.mark.parametrize("shape", [(2, 9, 12), pytest.param((1, 15), marks=pytest.mark.slow)])
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
    error = experiment.read_metrics("runs/mine").test["relative_l2"]
    assert error < 0.3  # a multiple of the input is learned in 100 steps; the prediction zero has 1


def test_the_readme_begins_with_the_same_code():
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block == code_of("your_own_data.md")


@pytest.mark.slow  # `make docs` runs the page too
def test_cheap_neural_odes(capsys):
    found: dict = {}
    exec(compile(code_of("cheap_neural_odes.md"), "cheap_neural_odes.md", "exec"), found)
    assert found["evaluations"]["penalised"] < found["evaluations"]["plain"] / 2
    assert "the gradient of a penalty over all steps would silently be zero" in capsys.readouterr().out


@pytest.mark.slow  # `make docs` runs it too; the parts have quick tests in uq and symbolic
def test_inverse_problems(capsys):
    found: dict = {}
    try:
        exec(compile(code_of("inverse_problems.md"), "inverse_problems.md", "exec"), found)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert found["cost"]["delayed"] < found["cost"]["plain"]
    assert (uq.rhat(found["samples"]) < 1.05).all()
    assert "solves per effective draw" in capsys.readouterr().out


@pytest.mark.slow  # `make docs` runs it too; tests/export has quick tests of the same calls
def test_use_it_in_your_solver(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # annotations say int, and symbolic sizes are none
    exec(compile(code_of("use_it_in_your_solver.md"), "use_it_in_your_solver.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["True", "('cpu', 'cuda', 'tpu') (2, 1, 40, 64)"]


@pytest.mark.slow  # `make docs` runs it too; the losses and models have quick tests
def test_time_dependent(capsys):
    found: dict = {}
    exec(compile(code_of("time_dependent.md"), "time_dependent.md", "exec"), found)
    assert found["errors"].shape == (8,)
    assert found["errors"][-1] < 0.3  # fields that decay by up to exp(-16): the first frame, kept, has far more
    assert "384 windows" in capsys.readouterr().out


@pytest.mark.slow  # `make docs` runs it too; tests/uq and tests/experiment/test_ensembles.py are the quick ones
def test_uncertainty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(code_of("uncertainty.md"), "uncertainty.md", "exec"), found)
    assert found["low"].shape == found["high"].shape == (40, 1, 16, 16)
    assert 0.6 <= found["bands"].covers(found["mean"], found["test"].y, found["scale"]).mean() <= 1  # 0.9 by 1,000 to 1


@pytest.mark.slow  # `make docs` runs it too; test_your_own_data is the quick test of the same calls
def test_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(code_of("quickstart.md"), "quickstart.md", "exec"), found)
    # A prediction of zero has 1; interpolation of a smooth pressure adds less than training left
    assert found["result"]["test"]["relative_l2"] < 0.1
    assert found["errors"]["relative_l2"] < 0.1
    assert "200, 1, 16, 16" in capsys.readouterr().out


@pytest.mark.slow  # `make docs` runs it too; tests/uq has quick tests of the same calls
def test_a_surrogate_with_a_guarantee(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(code_of("surrogate_with_a_guarantee.md"), "surrogate_with_a_guarantee.md", "exec"), found)
    assert found["share"] == 0  # no network keeps 1e-6, so that all fields are corrected
    assert found["all_of_them"].bound.max() <= 1e-6
    assert found["width"](found["closer"]) < found["width"](found["bound"])
    assert "its operator is indefinite" in capsys.readouterr().out


@pytest.mark.slow  # `make docs` runs it too; tests/interop has quick tests of the same calls
def test_coming_from_neuraloperator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code_of("coming_from_neuraloperator.md"), "coming_from_neuraloperator.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "['pressure', 'flux'] True" in printed
    assert "NeuraloperatorFNO PublishedSpectralConv" in printed


@pytest.mark.slow  # `make docs` runs it too; tests/interop/test_foundation.py is the quick test of the same calls
def test_fine_tune_a_foundation_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found: dict = {"__name__": "page"}
    exec(compile(code_of("fine_tune_a_foundation_model.md"), "fine_tune_a_foundation_model.md", "exec"), found)
    assert found["result"]["test"]["relative_l2"] < 0.5  # the difference of two inputs, one of them shifted


def test_each_formula_of_the_bounds_names_a_test():
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "bounds.md").read_text()))
    written = "".join(path.read_text() for path in (ROOT / "tests" / "uq").glob("*.py"))
    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in written} == set()


def test_the_road_from_an_experiment_to_a_trained_model_is_short():
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## From an experiment file")[2].partition("\n## ")[0]
    files = re.findall(r"^\d\. \[(\S+)\]\(\1\)", text, re.MULTILINE)
    assert files[0] == "experiments/darcy.py"
    assert len(files) <= 9
    assert sum(len((ROOT / file).read_text().splitlines()) for file in files) <= 1420


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\((?!https?://)([^)#\s]+)", prose)
    assert [target for target in targets if not (page.parent / target).is_file()] == []


def test_navigation_has_every_page_once():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\nvalidation:\n")[0]
    listed = re.findall(r"\S+\.md$", navigation, re.MULTILINE)
    # README.md and CONTRIBUTING.md are pages under these names, by docs/hooks.py
    assert sorted(listed) == sorted(["index.md", "contributing.md", *(page.name for page in DOCS.glob("*.md"))])
