"""Pictures of a page: files of the folders, and figures that are drawn from numbers, all as data URIs."""

import base64
import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sciml import plot
from sciml.report._contents import Contents, Curve, RunContents
from sciml.report._html import Html, label, text

LARGEST_PICTURE = 8 << 20
LARGEST_PAGE = 64 << 20
"""Bytes of all pictures together; those that do not fit are named in the notes."""
BASELINES = ("persistence", "mean")

_DRAWN_AGAIN = "error_over_time"  # by `errors_over_time`, with all runs in one figure
_CAPTIONS = {
    "accuracy_cost": "Error against seconds of training: lines are validation errors of each seed, points test errors, "
    "mean and standard deviation over the seeds.",
    "losses": "Training loss and validation error against the step.",
    "predictions": "Test samples: input, truth, prediction, and error with its relative L2 norm.",
    "resolutions": "Test error against the resolution.",
    "samples": "Test samples with the lowest, the median and the largest error.",
    "spectra": "Energy spectra of truth and model, means over the test samples.",
    "rollout": "A rollout of a test sample over time: truth, prediction and error.",
    "errors": "Error over time: median over the test samples and band between the quartiles.",
}


class Pictures:
    """Collects the pictures of a page, and what had to be left out.

    Attributes:
        left_out: Why a picture is not on the page, one sentence each.
    """

    def __init__(self):
        self.left_out: list[str] = []
        self._bytes = 0

    def of_folder(self, folder: pathlib.Path, *, about: str = "") -> list[Html]:
        """The PNG, GIF and MP4 files of a folder; a video only if no GIF has the same name."""
        if not folder.is_dir():
            return []
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".gif", ".mp4"))
        paths = [path for path in paths if path.stem != _DRAWN_AGAIN]
        animated = {path.stem for path in paths if path.suffix.lower() == ".gif"}
        chosen = [path for path in paths if path.suffix.lower() != ".mp4" or path.stem not in animated]
        return [shown for path in chosen for shown in self._file(path, about)]

    def drawn(self, figure: Figure, caption: str) -> Html:
        """A figure as a PNG."""
        content = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(content, dpi=110, format="png")
        self._bytes += len(content.getvalue())
        return _figure(content.getvalue(), "image/png", caption)

    def _file(self, path: pathlib.Path, about: str) -> list[Html]:
        length = path.stat().st_size
        if length > LARGEST_PICTURE or self._bytes + length > LARGEST_PAGE:
            self.left_out.append(
                f"{path} is not shown: it has {length / 2**20:.1f} MiB, and a picture may have "
                f"{LARGEST_PICTURE >> 20} MiB, all together {LARGEST_PAGE >> 20} MiB."
            )
            return []
        content = path.read_bytes()
        kind = _kind(content)
        if kind is None:
            self.left_out.append(f"{path} is not shown: it is no PNG, GIF or MP4 file.")
            return []
        self._bytes += length
        return [_figure(content, kind, f"{_caption(path.stem)} {about}".strip())]


def _caption(stem: str) -> str:
    """What a picture shows, by the name of its file, whose end may be the number of a page."""
    name, _, page = stem.rpartition("-")
    if not page.isdecimal():
        name, page = stem, ""
    words = _CAPTIONS.get(name, f"{label(name)[:1].upper()}{label(name)[1:200]}.")
    return f"{words} Part {page}." if page else words


def _kind(content: bytes) -> str | None:
    """The type of a picture, by its first bytes."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return "video/mp4" if content[4:8] == b"ftyp" else None


def _figure(content: bytes, kind: str, caption: str) -> Html:
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    words = text(caption)
    if kind.startswith("video"):
        shown = f'<video controls loop muted playsinline src="{source}" title="{words}"></video>'
    else:
        shown = f'<img src="{source}" alt="{words}"{_sides(content, kind)}>'
    return Html(f"<figure>{shown}<figcaption>{words}</figcaption></figure>")


def _sides(content: bytes, kind: str) -> str:
    """Width and height as attributes, so that a browser knows the room that a picture takes."""
    if kind == "image/png":
        sides = content[16:20], content[20:24]
        order = "big"
    else:
        sides = content[6:8], content[8:10]
        order = "little"
    width, height = (int.from_bytes(one, order) for one in sides)
    return f' width="{width}" height="{height}"' if 0 < width < 10**5 and 0 < height < 10**5 else ""


def errors_over_time(contents: Contents, pictures: Pictures) -> list[Html]:
    """A figure for each metric of the `errors.json` files: the models of all runs and the baselines."""
    known = [one for one in contents.runs if one.errors is not None]
    found = []
    metrics = dict.fromkeys(metric for one in known for by_metric in _models(one).values() for metric in by_metric)
    for metric in metrics:
        curves, steps = _curves(known, metric)
        if not curves:
            continue
        drawn = {name: _mean(one) for name, one in curves.items()}
        figure = plot.error_over_time(steps, drawn, y=label(metric), notes=_notes(known), baselines=BASELINES)
        words = f"{label(metric)} over time: median over the test samples and band between the quartiles"
        several = any(len(one) > 1 for one in curves.values())
        words += f"{', means over the seeds' if several else ''}. Lines and bands end where a value is not finite."
        found.append(pictures.drawn(figure, words))
        others = [one.folder.name for one in known if list(_steps(one)) != steps]
        if others:
            pictures.left_out.append(f"{', '.join(others)}: errors over other steps are not in the figure of {metric}.")
    return found


def _models(run: RunContents) -> dict[str, dict[str, Curve]]:
    return {} if run.errors is None else run.errors.models


def _steps(run: RunContents) -> list[float]:
    return [] if run.errors is None else run.errors.steps


def named(run: RunContents, name: str) -> str:
    """The name of a row of `errors.json` in a comparison: that of the model for `model`."""
    return run.model if name == "model" else name


def _curves(known: Sequence[RunContents], metric: str) -> tuple[dict[str, list[np.ndarray]], list[float]]:
    """Quartiles by name, of each seed, and their steps, those of the first run. The baselines are those of that run."""
    steps: list[float] = []
    found: dict[str, list[np.ndarray]] = {}
    for run in known:
        for name, by_metric in _models(run).items():
            shown = named(run, name)
            steps = steps or _steps(run)
            if metric not in by_metric or _steps(run) != steps or (name != "model" and shown in found):
                continue
            curve = by_metric[metric]
            rows = [
                [math.nan if one is None else one for one in part] for part in (curve.low, curve.median, curve.high)
            ]
            found.setdefault(shown, []).append(np.array(rows, np.float64).reshape(3, -1))
    order = sorted(found, key=lambda name: name in BASELINES)
    return {name: found[name] for name in order}, steps


def _mean(curves: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(np.stack(curves), axis=0)


def _notes(known: Sequence[RunContents]) -> dict[str, str]:
    """What the legend adds to a name: the numbers of diverged rollouts, of each seed. Baselines have none."""
    found: dict[str, list[str]] = {}
    for run in known:
        for name, count in (run.errors.diverged if run.errors is not None else {}).items():
            if isinstance(count, int | float) and count and not (name in BASELINES and name in found):
                found.setdefault(named(run, name), []).append(f"{count:g}")
    return {name: f"{', '.join(counts)} diverged" for name, counts in found.items()}


def losses(run: RunContents, pictures: Pictures) -> list[Html]:
    """The losses so far, of a run that has no figure of them yet."""
    points = [(one["step"], one["loss"]) for one in run.log if isinstance(one.get("loss"), int | float)]
    if not points or (run.folder / "figures" / "losses.png").is_file():
        return []
    steps, values = zip(*points, strict=True)
    figure = plot.curves({"training loss": (list(steps), list(values))}, x="step", y="loss")
    return [pictures.drawn(figure, "Training loss against the step, so far.")]
