"""Pages about runs and benchmarks: what stands on them, hostile content, real browsers, commands that mean the same."""

import base64
import dataclasses
import html.parser
import json
import pathlib
import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from sciml import benchmark, experiment, plot, report
from sciml.cli import main
from sciml.cli._options import experiment_options, packaged_experiments
from sciml.cli._train import _BENCHMARK, _DEFAULTS, _TRAIN, _TRAIN_DEFAULTS
from sciml.files import Damaged, read_json, sealed, write_json
from sciml.report._commands import options
from sciml.report._html import plain, size, text

HOSTILE = '<script>alert("x")</script>&\'<img src=x onerror=alert(1)>'
DATA = {
    "format": "PDEBench",
    "why": "the keys tensor and x-coordinate",
    "path": "some where/burgers.hdf5",
    "task": "step",
    "channels": ["u", HOSTILE],
    "fixed": [],
    "parameters": ["nu"],
    "parameter_ranges": {"nu": [0.001, 0.1]},
    "points": [128, 64],
    "boundary": ["periodic", "periodic"],
    "times": {"first": 0.0, "last": 2.0, "count": 41},
    "samples": {"train": 80, "validation": 10, "test": 12},
    "split": "official",
    "normalisation": "per channel",
    "bytes": 3 * 2**20,
    "notes": ["The t-coordinate has one entry more than there are frames."],
    "warnings": ["3 of 12 test samples have nu out of the training range 0.001 to 0.1."],
}


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, page):
        html.parser.HTMLParser.__init__(self)
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def pictures(self):
        return [attributes["src"] for tag, attributes in self.tags if tag in ("img", "video")]


def write_errors(folder, last, *, diverged=0, seed_steps=(1, 2, 4)):
    curve = lambda values: {"relative_l2": {"median": values, "low": [0.01, 0.02, 0.03], "high": [0.5, None, None]}}
    models = {"model": curve([0.1, 0.2, last]), "persistence": curve([0.3, 0.4, 0.5])}
    counts = {"model": diverged, "persistence": 2}
    write_json(folder / "errors.json", {"steps": list(seed_steps), "models": models, "diverged": counts})


FILE = '''
"""A quick experiment with figures and settings of all kinds, for tests of reports."""

import dataclasses
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import data, experiment, plot

@dataclasses.dataclass(frozen=True)
class Config:
    model: str = "narrow"
    samples: tuple[int, int, int] = (20, 5, 7)
    noise: float | None = 0.1
    centred: bool = True
    run: experiment.Training = experiment.Training(epochs=2, batch=8)

PRESETS = {"full": Config(), "small": Config(noise=None, centred=False, samples=(24, 6, 9))}
MODELS = {"narrow": 3, "wide": 5}

def pairs(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, 1, 5)).astype(np.float32)
    return data.Pairs(x, np.sin(x))

def apply(model, pairs):
    return np.stack([np.asarray(model(one[0]))[None] for one in pairs.x])

def build(config):
    def figures(models, folder):
        plot.save(plot.fields(test.x[:1], test.y[:1], {"model": test.y[:1]}), folder / "predictions.png")

    run, (train, validation, test) = config.run, map(pairs, config.samples, (0, 1, 2))
    return experiment.Experiment(
        model=eqx.nn.MLP(5, 5, MODELS[config.model], 1, key=jax.random.key(run.seed)),
        loss=lambda model, batch, keys: (jnp.mean((jax.vmap(model)(batch[0][:, 0]) - batch[1][:, 0]) ** 2), {}),
        optimiser=optax.sgd(0.1), train=train, validation=validation, test=test, figures=figures, metric="rmse",
        evaluate=lambda model, known: {"rmse": float(np.sqrt(np.mean((apply(model, known) - known.y) ** 2)))},
        steps=run.steps_for(len(train)), batch=run.batch, seed=run.seed)
'''


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "quick.py"
    path.write_text(FILE)
    return experiment.load_file(path)


@pytest.fixture(scope="module")
def run(module, tmp_path_factory):
    """A finished run of the small preset."""
    folder = tmp_path_factory.mktemp("run") / "a run"
    experiment.run_file(module, module.PRESETS["small"], folder)
    return folder


@pytest.fixture(scope="module")
def compared(module, tmp_path_factory):
    """A benchmark of two models with two seeds, data and errors over time in three of its four runs."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    found = benchmark.benchmark(benchmark.Plan(module, module.PRESETS["small"], ("narrow", "wide"), 2), out)
    assert [one["failure"] for one in found["runs"]] == [None] * 4
    for name, last, diverged in (("narrow-seed0", 0.4, 0), ("wide-seed0", None, 3), ("wide-seed1", 0.8, 0)):
        write_errors(out / name, last, diverged=diverged)
        write_json(out / name / "data.json", DATA)
    return out


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the run that a test may change."""
    return pathlib.Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_run_has_results_figures_commands_and_versions(run, tmp_path):
    page = Page(report.report(run, tmp_path / "pages" / "a.html").read_text())
    metrics, record = experiment.read_metrics(run), experiment.read_run(run)
    for words in (
        "quick: narrow",
        f"{metrics.test['rmse']:.4g}",
        f"{metrics.parameters:,}",
        "24 samples for training, 6 for validation, 9 for the test",
        record.data["sha256"],
        str(record.starts[0].commit),
        f"jax {record.starts[0].versions['jax']}",
        "rmse on the validation data chooses the checkpoint",
        f"--out {shlex.quote(str(run))}",
    ):
        assert words in page.text
    assert "Notes" not in page.text  # there is nothing to note
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["a.html"]
    files = sorted((run / "figures").glob("*.png"))
    assert [base64.b64decode(one.partition(",")[2]) for one in page.pictures()] == [one.read_bytes() for one in files]


def test_nothing_is_loaded_and_nothing_runs(compared):
    page = Page(report.page(compared))
    policy = [found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"]
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"} == set()
    assert all(source.startswith("data:image/") for source in page.pictures())
    assert not [name for _, found in page.tags for name in found if name.startswith("on") or name == "href"]


def test_a_benchmark_has_means_over_seeds_costs_baselines_and_notes(compared):
    page = Page(report.page(compared, "r.html")).text
    content = json.loads((compared / "benchmark.json").read_text())
    assert page.count("Diverged rollouts of persistence") == 1  # which is the same in all runs
    for one in content["summary"]:
        found = one["test"]["rmse"]
        assert f"{found['mean']:.4g} ± {found['std']:.2g}" in page
        assert f"{one['training_seconds']['mean']:.4g} ± {one['training_seconds']['std']:.2g}" in page
        assert f"{one['parameters']:,}" in page
    for words in (
        "burgers: narrow, wide",
        "2 seeds, 4 runs finished",
        "3 of 12 test samples have nu out of the training range 0.001 to 0.1.",
        "The t-coordinate has one entry more than there are frames.",
        "Diverged rollouts of wide in wide-seed0: 3",
        "Diverged rollouts of persistence: 2",
        "nu 0.001 to 0.1",
        "128 x 64",
        "3 MiB",
        "train 80; validation 10; test 12",
        "narrow, seed 0 relative l2 0.1 [0.01, 0.5] 0.2 [0.02, not finite] 0.4 [0.03, not finite] 0",
        "wide, seed 0 relative l2 0.1 [0.01, 0.5] 0.2 [0.02, not finite] not finite [0.03, not finite] 3",
        "persistence relative l2 0.3 [0.01, 0.5]",
        "means over the seeds",
        HOSTILE,
    ):
        assert words in page
    assert page.count("persistence relative l2") == 1
    # two of the benchmark, one of the errors over time, two of each run
    assert len(Page(report.page(compared)).pictures()) == 2 + 1 + 4 * 2


def test_errors_over_time_are_means_over_seeds_and_end_where_they_are_not_finite(compared, monkeypatch):
    drawn = {}
    original = plot.error_over_time
    keep = lambda steps, curves, **options: (
        drawn.update(curves=curves, steps=steps, **options) or original(steps, curves, **options)
    )
    monkeypatch.setattr(plot, "error_over_time", keep)
    report.page(compared)
    assert list(drawn["curves"]) == ["narrow", "wide", "persistence"]
    np.testing.assert_allclose(drawn["curves"]["narrow"][1], [0.1, 0.2, 0.4])
    np.testing.assert_allclose(drawn["curves"]["wide"], [[0.01, 0.02, 0.03], [0.1, 0.2, np.nan], [0.5, np.nan, np.nan]])
    assert (drawn["steps"], drawn["notes"]) == ([1, 2, 4], {"persistence": "2 diverged", "wide": "3 diverged"})


def test_baselines_among_the_conditions_are_rows(copied):
    metrics = experiment.read_metrics(copied)
    metrics.conditions["persistence"] = {"rmse": 0.875}
    metrics.conditions["noise=0.1"] = {"rmse": 0.625}
    write_json(copied / "metrics.json", metrics.as_json())
    page = report.page(copied)
    assert re.search(r'<tr class="baseline"><td>persistence</td>.*<td class="number">0\.875</td>', page)
    assert "noise=0.1</td>" in page


def test_hostile_names_are_text(copied):
    metrics = experiment.read_metrics(copied)
    metrics.model, metrics.test = HOSTILE, {HOSTILE: 0.5}
    metrics.resolutions["8"] = {HOSTILE: 1.0, "note": HOSTILE}
    write_json(copied / "metrics.json", metrics.as_json())
    write_json(copied / "config.json", {HOSTILE: HOSTILE, "bell": "\x07\u202e"})
    write_json(
        copied / "data.json", {**DATA, HOSTILE: {HOSTILE: [HOSTILE]}, "warnings": HOSTILE, "path": f"{HOSTILE}\n"}
    )
    shutil.copy(copied / "figures" / "losses.png", copied / "figures" / "a'><script>b.png")
    page = report.page(copied)
    found = Page(page)
    assert {tag for tag, _ in found.tags} & {"script", "svg"} == set()
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert all(source.startswith("data:") for source in found.pictures())
    assert "<script" not in page
    assert "\x07" not in page
    assert "\u202e" not in page
    assert found.text.count('<script>alert("x")</script>') > 5
    assert text("a\x00\u202eb<") == "a\\x00\\u202eb&lt;"


def test_files_that_are_no_pictures_or_too_large_are_named(copied, monkeypatch):
    (copied / "figures" / "page.png").write_bytes(b"<svg onload=alert(1)>")
    Image.new("RGB", (64, 48)).save(copied / "figures" / "roll-2.gif")
    (copied / "figures" / "film.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom")
    (copied / "figures" / "roll-2.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom")
    page = Page(report.page(copied))
    assert f"{copied / 'figures' / 'page.png'} is not shown: it is no PNG, GIF or MP4 file." in page.text
    kinds = sorted(source.partition(";")[0] for source in page.pictures())
    assert kinds == ["data:image/gif", "data:image/png", "data:image/png", "data:video/mp4"]
    (sides,) = [found for _, found in page.tags if found.get("src", "").startswith("data:image/gif")]
    assert (sides["width"], sides["height"], sides["alt"]) == ("64", "48", "Roll. Part 2.")
    monkeypatch.setattr("sciml.report._pictures.LARGEST_PICTURE", 1000)
    assert "predictions.png is not shown: it has" in Page(report.page(copied)).text


def test_an_unfinished_run_shows_how_far_it_is(copied):
    (copied / "metrics.json").unlink()
    shutil.rmtree(copied / "figures")
    page = Page(report.page(copied))
    assert "not finished, 6 steps" in page.text
    assert "copy is not finished." in page.text
    assert "Training loss against the step, so far." in page.text
    assert len(page.pictures()) == 1


def test_failed_and_missing_runs_of_a_benchmark_are_named(compared, tmp_path):
    folder = pathlib.Path(shutil.copytree(compared, tmp_path / "b"))
    content = json.loads((folder / "benchmark.json").read_text())
    content["runs"][0]["failure"] = "RuntimeError: <b>"
    del content["runs"][3]
    write_json(folder / "benchmark.json", {name: one for name, one in content.items() if name != "sha256"})
    page = Page(report.page(folder)).text
    assert "2 seeds, 2 runs finished, 1 not yet run" in page
    assert "narrow-seed0 failed: RuntimeError: <b>" in page


def test_damaged_and_foreign_folders_are_refused(copied, compared, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder of a run and none of a benchmark: it has no run\.json"):
        report.page(tmp_path)
    for name in ("../elsewhere", "..", "", "/etc"):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        content = json.loads((compared / "benchmark.json").read_text())
        content["runs"][0]["run"] = name
        write_json(other / "benchmark.json", {key: one for key, one in content.items() if key != "sha256"})
        with pytest.raises(ValueError, match="as a run, which is no folder in it"):
            report.page(other)
    write_errors(copied, 0.5, seed_steps=(1, 2))
    with pytest.raises(ValueError, match=r"expected 2 values of relative_l2 of model, one for each step, got 3"):
        report.page(copied)
    (copied / "errors.json").write_text(json.dumps({**sealed({"steps": []}), "steps": [1]}))
    with pytest.raises(Damaged, match=r"errors\.json is damaged"):
        report.page(copied)
    (copied / "errors.json").write_text('{"steps": "many", "models": {}}')
    with pytest.raises(ValueError, match=r"errors\.json holds something else than expected"):
        report.page(copied)
    (copied / "errors.json").unlink()
    (copied / "figures" / "link.png").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="is a symbolic link"):
        report.page(copied)


def test_the_command_writes_the_page_and_keeps_existing_files(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    out.write_text("mine")
    assert main(["report", str(run), "--out", str(out)]) == 1
    assert f"{out} exists. Choose another file, or replace it with --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["report", str(run), "--out", str(out), "--overwrite"]) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert main(["report", str(run), "--out", str(tmp_path)]) == 1
    assert "is a folder. Give a file for the page" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "b.html")]) == 1
    assert "no folder of a run and none of a benchmark" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def words_of(page):
    """The commands of a page, each as words of a shell."""
    block = html.unescape(re.search(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)[1])
    return [shlex.split(command.replace("\\\n", " ")) for command in block.split("\n\n")]


def test_the_commands_make_the_same_again(run, compared, module):
    train, again = words_of(report.page(run, "x y.html"))
    assert again == ["sciml", "report", str(run), "--out", "x y.html"]
    assert train[:3] == ["sciml", "train", str(module.__file__)]
    found = experiment_options(module, train[2:], "train", _TRAIN, _TRAIN_DEFAULTS)
    assert (found.config, found.out) == (module.PRESETS["small"], run)
    bench = words_of(report.page(compared))[0]
    assert bench[:3] == ["sciml", "benchmark", DATA["path"]]  # the data, where they are known
    found = experiment_options(module, bench[2:], "benchmark", _BENCHMARK, _DEFAULTS)
    assert (found.models, found.seeds, found.out, found.budget) == (("narrow", "wide"), 2, compared, None)
    plan = benchmark.Plan(module, found.config, found.models, found.seeds)
    assert plan.settings() == read_json(compared / "config.json")


def test_a_run_that_was_made_in_python_has_no_command(module, tmp_path):
    experiment.run(module.build(module.PRESETS["small"]), tmp_path / "run")
    page = report.page(tmp_path / "run")
    assert "The run was made in Python by sciml.experiment.run; no command line makes it." in page
    assert [words[1] for words in words_of(page)] == ["report"]


@pytest.mark.slow
def test_a_field_experiment_has_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where its data are kept
    darcy = experiment.load_file(packaged_experiments()["darcy"])
    experiment.run_file(darcy, darcy.PRESETS["smoke"], tmp_path / "run")
    page = Page(report.page(tmp_path / "run"))
    assert "darcy: mgno" in page.text
    assert len(page.pictures()) == 2
    given = words_of(report.page(tmp_path / "run"))[0][2:]
    assert experiment_options(darcy, given, "train", _TRAIN, _TRAIN_DEFAULTS).config == darcy.PRESETS["smoke"]


@pytest.mark.parametrize("name", sorted(packaged_experiments()))
def test_settings_of_every_preset_are_options_that_mean_the_same(name):
    module = experiment.load_file(packaged_experiments()[name])
    for config in {id(one): one for one in module.PRESETS.values()}.values():
        given = [word for option in options(experiment.to_json(config)) for word in option]
        found = experiment_options(module, [name, *given, "--out", "x"], "train", _TRAIN, _TRAIN_DEFAULTS)
        assert found.config == config


def test_settings_of_all_kinds_are_options():
    @dataclasses.dataclass
    class Group:
        on: bool = False
        none: None = None

    settings = experiment.to_json({"lr_peak": 1e-5, "group": Group(), "pairs": ((1, 2), (3, 4)), "empty": ()})
    assert options(settings) == [
        ["--lr-peak", "1e-05"],
        ["--no-on"],
        ["--none", "None"],
        ["--pairs", "1", "2", "3", "4"],
        ["--empty"],
    ]


def test_values_are_words():
    assert plain({"a_b": [1, [2.5, None]], "c": True}) == "a b 1 | 2.5, none; c yes"
    assert [size(0), size(1023), size(1536), size(2**30)] == ["0 bytes", "1023 bytes", "1.5 KiB", "1 GiB"]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="neither Chromium nor Chrome is installed")


def browse(page, folder, *arguments):
    """What a browser writes on stdout and on stderr for a page."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0", *arguments, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_the_page_without_errors(compared, tmp_path):
    folder = pathlib.Path(shutil.copytree(compared, tmp_path / "b"))
    for name in ("narrow-seed0", "wide-seed0"):
        truth = np.random.default_rng(0).normal(size=(4, 1, 6, 5))
        plot.animation(truth, {"one": truth + 0.1}, folder / name / "figures" / "rollout.gif")
    page = report.report(folder, tmp_path / "page.html")
    shot = tmp_path / "shot.png"
    _, said = browse(page, tmp_path, f"--screenshot={shot}", "--window-size=1000,2600")
    assert "CONSOLE" not in said
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape[:2] == (2600, 1000)
    colourful = pixels.max(-1).astype(int) - pixels.min(-1) > 60  # lines and fields; text and lines of tables are grey
    assert colourful.sum() > 5000

    # A copy in which a script may run says of each picture whether it was decoded.
    script = (
        "<script>addEventListener('load', () => { document.title = [...document.images].map(one => one.complete && "
        "one.naturalWidth > 0 && one.naturalWidth == one.width_given).length + ' ' + [...document.images].filter(one "
        "=> one.naturalWidth == one.getAttribute('width') && one.naturalHeight == one.getAttribute('height')).length "
        "+ ' ' + (document.documentElement.scrollWidth <= innerWidth); });</script>"
    )
    probe = tmp_path / "probe.html"
    content = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text())
    for width in (1000, 500):
        probe.write_text(content.replace("</body>", f"{script}</body>"))
        dumped, said = browse(probe, tmp_path, "--dump-dom", f"--window-size={width},2000")
        assert "CONSOLE" not in said
        count, decoded, fits = re.search(r"<title>(\d+) (\d+) (true|false)</title>", dumped).groups()
        assert int(count) == int(decoded) == 2 + 1 + 4 * 2 + 2
        assert fits == "true"  # tables scroll by themselves, the page does not


@needs_browser
@pytest.mark.slow
def test_the_policy_of_the_page_stops_scripts_and_requests(run, tmp_path):
    page = report.report(run, tmp_path / "page.html").read_text()
    attack = "<script>document.title = 'run'</script><img src='http://127.0.0.1:9/x.png'>"
    path = tmp_path / "attacked.html"
    path.write_text(page.replace("</body>", f"{attack}</body>"))
    dumped, said = browse(path, tmp_path, "--dump-dom")
    assert "<title>quick: narrow</title>" in dumped
    assert said.count("Content Security Policy") >= 2
