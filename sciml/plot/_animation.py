"""Rollouts as animations: GIF by Pillow, MP4 by imageio-ffmpeg."""

import dataclasses
import importlib.util
import io
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from sciml.files import write_bytes
from sciml.plot._save import numbered, remove_later
from sciml.plot._text import LARGEST_PAGE, check_names, check_shapes, finite_range, relative_error

MOST_FRAMES = 60
MOST_BYTES = 3_000_000
_TRIES = ((100, 1), (80, 1), (80, 2), (80, 3), (64, 3), (64, 5), (50, 5), (50, 10), (50, 20))
"""Dots per inch, and every how many frames; the smallest are for fields without structure, which do not compress."""
_SECONDS = 0.1  # that a frame is shown
_PLANES = ((2, "x1-x2"), (1, "x1-x3"), (0, "x2-x3"))


def can_write_mp4() -> bool:
    """Whether imageio-ffmpeg is installed (extra `video`), so that `animation` writes MP4."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def animation(
    truth: Float[np.ndarray, "time channels *space"],
    by_model: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] = (),
    times: Sequence[float] | np.ndarray | None = None,
    first: int = 1,
    reference: str = "truth",
) -> list[pathlib.Path]:
    """Writes one sample's rollout over time: the truth, each model, and its error, for every channel.

    Colours and axes are those of the true range over all times, so that frames can be compared; errors share one scale,
    which is at most the width of that range. Fields in three dimensions are cut in the middle of each axis. What is not
    finite is grey. At most 60 frames, equally spaced, are drawn, the last one among them, and a GIF gets fewer dots
    and fewer frames until it has at most 3 MB.

    Args:
        truth: The true rollout in one to three dimensions.
        by_model: Rollouts by model name.
        path: A file `.gif`, or `.mp4` if `can_write_mp4()`. More than four channels, or more than one in three
            dimensions, need several files: `<stem>-2.gif` and so on.
        names: Name of each channel.
        times: Time of each frame; by default frames are numbered.
        first: Number of the first frame, without times.
        reference: What `truth` is, where no truth is known and it is a forecast.

    Returns:
        The files.

    Raises:
        ValueError: If a rollout has another shape than the truth, there are no frames, or the path ends otherwise.
        ImportError: If imageio-ffmpeg is missing for an MP4.
    """
    path = pathlib.Path(path)
    check_shapes(truth, by_model)
    if not 3 <= truth.ndim <= 5 or not len(truth):
        raise ValueError(f"Expected a rollout (time, channels, *space) in one to three dimensions, got {truth.shape}.")
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"Expected a file .gif or .mp4 for an animation, got {path}.")
    write = _write_gif if path.suffix == ".gif" else _mp4_writer()
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        dataclasses.replace(one, reference=reference)
        for one in _rows(truth, by_model, check_names(names, truth.shape[1]))
    ]
    chosen = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), MOST_FRAMES)).round().astype(int)).tolist()
    captions = [
        _caption(truth, by_model, t, f"step {t + first}" if times is None else f"t = {times[t]:.4g}") for t in chosen
    ]
    size = LARGEST_PAGE if truth.ndim < 5 else len(_PLANES)
    pages = [rows[start : start + size] for start in range(0, len(rows), size)]
    paths = [numbered(path, k) for k in range(len(pages))]
    for page, one in zip(pages, paths, strict=True):
        write(_Movie(*(_lines if truth.ndim == 3 else _images)(page, captions), chosen, captions), one)
    remove_later(path, len(paths))
    return paths


@dataclasses.dataclass(frozen=True)
class _Row:
    """One channel of a rollout, or one plane of it: truth and predictions `(time, n)` or `(time, n, m)`."""

    title: str
    truth: np.ndarray
    by_model: dict[str, np.ndarray]
    reference: str = "truth"

    def limits(self) -> tuple[float, float]:
        """The range of the truth over all times."""
        low, high = finite_range(self.truth)
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def largest_error(self) -> float:
        """End of the scale of errors: the largest one, at most the width of the true range."""
        low, high = self.limits()
        errors = [finite_range(np.abs(one - self.truth))[1] for one in self.by_model.values()]
        return min(max(errors, default=1.0) or 1.0, high - low)


def _rows(truth: np.ndarray, by_model: Mapping[str, np.ndarray], names: Sequence[str]) -> list[_Row]:
    def row(title: str, cut: Callable[[np.ndarray], np.ndarray]) -> _Row:
        return _Row(title, cut(truth), {name: cut(one) for name, one in by_model.items()})

    found = []
    for channel, name in enumerate(names):
        if truth.ndim < 5:
            found.append(row(name, lambda array, c=channel: array[:, c]))
            continue
        for axis, plane in _PLANES:
            middle = truth.shape[2 + axis] // 2
            cut = lambda array, c=channel, a=axis, m=middle: np.take(array[:, c], m, axis=1 + a)
            found.append(row(f"{name} {plane}".strip(), cut))
    return found


def _caption(truth: np.ndarray, by_model: Mapping[str, np.ndarray], t: int, when: str) -> str:
    errors = [f"{name} {relative_error(one[t], truth[t])}" for name, one in by_model.items()]
    return "     ".join([when, *errors])


Draw = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class _Movie:
    """A figure whose moving parts are set to a frame by `show` and drawn on a fixed background."""

    figure: Figure
    moving: Sequence[Artist]
    show: Draw
    chosen: Sequence[int]
    captions: Sequence[str]

    def frames(self, dots_per_inch: int, every: int = 1) -> Iterator[np.ndarray]:
        """Pixels `(height, width, 3)` of each frame, or of every so many and the last one."""
        self.figure.set_dpi(dots_per_inch)
        canvas: Any = FigureCanvasAgg(self.figure)
        caption = self.figure.texts[0]
        for artist in (*self.moving, caption):
            artist.set_animated(True)
        canvas.draw()
        background = canvas.copy_from_bbox(self.figure.bbox)
        count = len(self.chosen)
        for k in sorted({*range(0, count, every), count - 1}):
            canvas.restore_region(background)
            self.show(self.chosen[k])
            caption.set_text(self.captions[k])
            for artist in (*self.moving, caption):
                (artist.axes or self.figure).draw_artist(artist)
            yield np.array(canvas.buffer_rgba())[..., :3]


def _canvas(
    rows: Sequence[_Row], captions: Sequence[str], columns: int, width: float, height: float
) -> tuple[Figure, Any]:
    """A figure with room for a caption at its lower end."""
    wide = max(width * columns, max(map(len, captions)) * 0.075 + 0.3)  # inches, of which the caption takes so many
    high = height * len(rows) + 0.35
    engine = ConstrainedLayoutEngine(rect=(0, 0.3 / high, 1, 1 - 0.3 / high))
    figure = Figure(figsize=(wide, high), layout=engine)
    figure.text(0.012, 0.09 / high, "", fontsize=8, parse_math=False)
    return figure, figure.subplots(len(rows), columns, squeeze=False)


def _images(rows: Sequence[_Row], captions: Sequence[str]) -> tuple[Figure, Sequence[Artist], Draw]:
    """A row of images for each channel: truth, then prediction and error of each model."""
    columns = [rows[0].reference, *(title for name in rows[0].by_model for title in (name, f"{name} error"))]
    figure, grid = _canvas(rows, captions, len(columns), 2.0, 1.9)
    fields, errors = (matplotlib.colormaps[name].with_extremes(bad="0.6") for name in ("viridis", "RdBu_r"))
    images = []
    for i, (row, line) in enumerate(zip(rows, grid, strict=True)):
        low, high = row.limits()
        largest = row.largest_error()
        shown = [row.truth, *(part for one in row.by_model.values() for part in (one, one - row.truth))]
        for j, (axes, values) in enumerate(zip(line, shown, strict=True)):
            error = j > 0 and j % 2 == 0
            ends = (-largest, largest) if error else (low, high)
            colours = errors if error else fields
            image = axes.imshow(
                _upright(values[0]),
                origin="lower",
                cmap=colours,
                vmin=ends[0],
                vmax=ends[1],
                interpolation="nearest",
                extent=_extent(values[0]),
            )
            axes.set(xticks=[], yticks=[])
            if i == 0:
                axes.set_title(columns[j], fontsize=9, parse_math=False)
            if j == 0 or error:
                bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
                bar.ax.tick_params(labelsize=6)
                bar.ax.yaxis.get_offset_text().set_fontsize(6)
            images.append((image, values))
        line[0].set_ylabel(row.title, fontsize=8, parse_math=False)

    def show(t: int) -> None:
        for image, values in images:
            image.set_data(_upright(values[t]))

    frames = [spine for axes in grid.flat for spine in axes.spines.values()]  # over the images
    return figure, [*(image for image, _ in images), *frames], show


def _upright(field: np.ndarray) -> np.ndarray:
    """The first axis to the right, and what is not finite masked."""
    return np.ma.masked_invalid(field.T)


def _extent(field: np.ndarray) -> tuple[float, float, float, float]:
    """Sides of an image in proportion to the points, at most 4 to 1."""
    n, m = field.shape
    longest = max(n, m)
    return (0.0, max(n / longest, 0.25), 0.0, max(m / longest, 0.25))


def _lines(rows: Sequence[_Row], captions: Sequence[str]) -> tuple[Figure, Sequence[Artist], Draw]:
    """A row for each channel: left truth and predictions, right the errors."""
    figure, grid = _canvas(rows, captions, 2 if rows[0].by_model else 1, 4.0, 2.1)
    moving, sources = [], []
    for row, line in zip(rows, grid, strict=True):
        fields, errors = line[0], line[-1]  # without predictions there are no errors
        (low, high), largest = row.limits(), row.largest_error()
        margin = 0.2 * (high - low)
        at = (np.arange(row.truth.shape[1]) + 0.5) / row.truth.shape[1]
        fields.set(xlim=(0, 1), ylim=(low - margin, high + margin))
        if row.by_model:
            errors.set(xlim=(0, 1), ylim=(-1.1 * largest, 1.1 * largest))
        lines = [(fields, row.truth, row.reference, {"color": "black", "linewidth": 1.8})]
        for j, (name, values) in enumerate(row.by_model.items()):
            colour = f"C{j % 10}"
            lines.append((fields, values, name, {"color": colour, "linestyle": "--"}))
            lines.append((errors, values - row.truth, name, {"color": colour}))
        for axes, values, name, style in lines:
            moving += axes.plot(at, np.full(len(at), np.nan), label=name, **style)
            sources.append(values)
        for axes, title in zip(line, (row.title, f"{row.title} error".strip()), strict=False):
            axes.set_title(title, fontsize=9, parse_math=False)
            axes.tick_params(labelsize=7)
            axes.grid(visible=True, alpha=0.25)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=6, loc="outside upper center")

    def show(t: int) -> None:
        for line, values in zip(moving, sources, strict=True):
            line.set_ydata(np.where(np.isfinite(values[t]), values[t], np.nan))

    return figure, moving, show


def _write_gif(movie: _Movie, path: pathlib.Path) -> None:
    """Writes a GIF of at most `MOST_BYTES`: fewer dots and fewer frames, in turn."""
    content, per_dot = b"", 0.0
    for dots, every in _TRIES:
        if 0.8 * per_dot * dots**2 / every > MOST_BYTES and (dots, every) != _TRIES[-1]:
            continue  # the size of an earlier try says that this one is too large as well
        content = _gif(list(movie.frames(dots, every)), every)
        per_dot = len(content) * every / dots**2
        if len(content) <= MOST_BYTES:
            break
    write_bytes(path, content)


def _gif(frames: Sequence[np.ndarray], every: int) -> bytes:
    """Frames with one palette, undithered, so that they compress well."""
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette().tobytes())
    images = [Image.fromarray(one).quantize(palette=palette, dither=Image.Dither.NONE) for one in frames]
    pauses = [round(1000 * _SECONDS * every)] * (len(images) - 1) + [1500]  # milliseconds; the last frame stays
    content = io.BytesIO()
    images[0].save(content, format="GIF", save_all=True, append_images=images[1:], duration=pauses, loop=0)
    return content.getvalue()


def _palette() -> np.ndarray:
    """255 colours: those of fields, of errors and of lines, and greys."""
    maps = [matplotlib.colormaps[name](np.linspace(0, 1, 96))[:, :3] for name in ("viridis", "RdBu_r")]
    lines = matplotlib.colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]
    paler = [np.array(lines) * share + 1 - share for share in (1.0, 0.7, 0.4)]
    greys = np.linspace(0, 1, 33)[:, None].repeat(3, axis=1)
    return np.round(255 * np.concatenate((*maps, *paler, greys))).astype(np.uint8)


def _mp4_writer() -> Callable[[_Movie, pathlib.Path], None]:
    """Writes H.264 that browsers play.

    Raises:
        ImportError: If imageio-ffmpeg is not installed.
    """
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("MP4 files need imageio-ffmpeg: pip install 'sciml-jax[video]', or write a .gif.") from error

    def write(movie: _Movie, path: pathlib.Path) -> None:
        frames = [one[: len(one) // 2 * 2, : one.shape[1] // 2 * 2] for one in movie.frames(_TRIES[0][0])]
        height, width = frames[0].shape[:2]
        # The program itself: the package's own functions fork, of which JAX warns.
        given = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {1 / _SECONDS:g} -i -"
        wanted = "-vcodec libx264 -pix_fmt yuv420p -crf 23 -movflags +faststart"  # what browsers play
        with tempfile.TemporaryDirectory() as folder:
            part = pathlib.Path(folder) / "movie.mp4"
            program = [
                imageio_ffmpeg.get_ffmpeg_exe(),
                "-loglevel",
                "error",
                *given.split(),
                *wanted.split(),
                str(part),
            ]
            done = subprocess.run(program, input=b"".join(one.tobytes() for one in frames), capture_output=True)
            if done.returncode:
                raise RuntimeError(f"ffmpeg could not write {path}: {' '.join(done.stderr.decode().split())[:500]}.")
            write_bytes(path, part.read_bytes())

    return write
