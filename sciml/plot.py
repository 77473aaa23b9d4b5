"""Figures from arrays. Each function returns a matplotlib figure; `save` writes it whole or not at all."""

import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter


def _image(figure: Figure, axes, field: np.ndarray, *, title: str, colours: str, limits: tuple[float, float]) -> None:
    image = axes.imshow(field.T, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1], extent=(0, 1, 0, 1))
    axes.set(title=title, xticks=[], yticks=[])
    colorbar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    colorbar.ax.tick_params(labelsize=7)
    colorbar.formatter = ScalarFormatter()
    colorbar.formatter.set_powerlimits((-2, 3))


def fields(
    x: np.ndarray,
    y: np.ndarray,
    by_model: Mapping[str, np.ndarray],
    *,
    channels: Sequence[int] | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """`profiles` or `predictions` of fields with channels in one, two or three dimensions.

    There is a row for each channel of the output of each sample. Beside it stands the channel of the input with the
    same number, or the last one if the input has fewer channels. Fields in three dimensions are cut in the middle of
    the last axis.

    Args:
        x: Inputs `(samples, channels, *space)`.
        y: True outputs `(samples, channels, *space)`.
        by_model: Predictions by model name, of the same shape as `y`.
        channels: Numbers of the output channels that are drawn; all by default.
        names: Name of each output channel.

    Raises:
        ValueError: If a prediction has another shape than the truth, if the input has another number of axes, or if
            there are more than three dimensions.
    """
    _check_shapes(y, by_model)
    if x.ndim != y.ndim or not 3 <= y.ndim <= 5:
        raise ValueError(
            f"Expected fields (samples, channels, *space) in one to three dimensions, got inputs {x.shape} and truth "
            f"{y.shape}. Add a missing channel axis with x[:, None]."
        )
    shown = list(range(y.shape[1])) if channels is None else list(channels)
    flat = lambda array: array[..., array.shape[-1] // 2] if array.ndim == 5 else array
    rows = lambda array, chosen: flat(array)[:, chosen].reshape(-1, *flat(array).shape[2:])
    draw = profiles if y.ndim == 3 else predictions
    inputs = [min(channel, x.shape[1] - 1) for channel in shown]
    predicted = {name: rows(array, shown) for name, array in by_model.items()}
    titles = [names[channel] if names else f"channel {channel}" for channel in shown] if len(shown) > 1 else []
    return draw(rows(x, inputs), rows(y, shown), predicted, titles=titles * len(x))


def predictions(
    x: np.ndarray, y: np.ndarray, by_model: Mapping[str, np.ndarray], *, titles: Sequence[str] = ()
) -> Figure:
    """Input, truth, and each model's prediction and error, one row per sample.

    Predictions share the colour scale of the truth and errors share one scale, so that panels can be compared.

    Args:
        x: Inputs `(samples, n, m)`, one channel, first index along the horizontal axis.
        y: True outputs, same shape.
        by_model: Predictions by model name, same shape.

        titles: Text at the left of each row, such as the name of the channel; nothing by default.

    Raises:
        ValueError: If a prediction has another shape than the truth, or the fields are not two-dimensional.
    """
    _check_shapes(y, by_model)
    if x.ndim != 3 or y.ndim != 3:
        raise ValueError(
            f"Expected images (samples, n, m), got inputs {x.shape} and truth {y.shape}. Draw fields with channels or "
            "in three dimensions by plot.fields."
        )
    samples, columns = len(x), 2 + 2 * len(by_model)
    figure = Figure(figsize=(2.5 * columns, 2.3 * samples), layout="constrained")
    axes = figure.subplots(samples, columns, squeeze=False)
    for i, row in enumerate(axes):
        if titles:
            row[0].set_ylabel(titles[i], fontsize=8)
        _image(figure, row[0], x[i], title="input", colours="Greys", limits=(float(x[i].min()), float(x[i].max())))
        limits = (min(0.0, float(y[i].min())), float(y[i].max()))
        _image(figure, row[1], y[i], title="truth", colours="viridis", limits=limits)
        largest = max((float(np.abs(one[i] - y[i]).max()) for one in by_model.values()), default=1.0)
        for j, (name, prediction) in enumerate(by_model.items()):
            error = prediction[i] - y[i]
            relative = np.linalg.norm(error) / np.linalg.norm(y[i])
            _image(figure, row[2 + 2 * j], prediction[i], title=name, colours="viridis", limits=limits)
            title = f"{name} error ({relative:.2%})"
            _image(figure, row[3 + 2 * j], error, title=title, colours="RdBu_r", limits=(-largest, largest))
    return figure


def profiles(x: np.ndarray, y: np.ndarray, by_model: Mapping[str, np.ndarray], *, titles: Sequence[str] = ()) -> Figure:
    """Left the input, truth and predictions of fields in one dimension, right their errors; one row per sample.

    Args:
        x: Inputs `(samples, n)`, one channel.
        y: True outputs, same shape.
        by_model: Predictions by model name, same shape.
        titles: What is written above each row, such as equations; nothing by default.

    Raises:
        ValueError: If a prediction has another shape than the truth.
    """
    _check_shapes(y, by_model)
    figure = Figure(figsize=(9, 2.5 * len(x)), layout="constrained")
    for i, (fields, errors) in enumerate(figure.subplots(len(x), 2, squeeze=False)):
        at = np.linspace(0, 1, x.shape[1])
        fields.plot(at, x[i], color="0.7", label="input")
        fields.plot(at, y[i], color="black", label="truth")
        for name, prediction in by_model.items():
            relative = np.linalg.norm(prediction[i] - y[i]) / np.linalg.norm(y[i])
            (line,) = fields.plot(at, prediction[i], "--", label=name)
            errors.plot(at, prediction[i] - y[i], color=line.get_color(), label=f"{name} ({relative:.2%})")
        errors.set_title("error", fontsize=9)
        if titles:
            fields.set_title(_wrapped(titles[i], 75), loc="left", fontsize=6, parse_math=False)
        for axes in (fields, errors):
            axes.grid(visible=True, alpha=0.25)
            axes.legend(frameon=False, fontsize=8)
    return figure


def densities(
    points: np.ndarray,
    by_model: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    extent: tuple[float, float, float, float],
) -> Figure:
    """Points of the data, and each model's density and samples, in panels of the same axes.

    Args:
        points: Data `(n, 2)`.
        by_model: Density `(k, l)` at equally spaced points, first index along the horizontal axis, and samples
            `(m, 2)`, by model name.
        extent: Left, right, lower and upper end of the axes, and of the density's points.
    """
    columns = 1 + 2 * len(by_model)
    figure = Figure(figsize=(2.7 * columns, 2.4), layout="constrained")
    data, *others = figure.subplots(1, columns, squeeze=False)[0]
    clouds = [(data, points, "data")]
    for (name, (density, samples)), left, right in zip(by_model.items(), others[::2], others[1::2], strict=True):
        left.imshow(density.T, origin="lower", cmap="viridis", vmin=0, extent=extent)
        left.set_title(f"{name} density")
        clouds.append((right, samples, f"{name} samples"))
    for axes, cloud, title in clouds:
        axes.scatter(*cloud.T, s=2, alpha=0.4, linewidths=0)
        axes.set(title=title, xlim=extent[:2], ylim=extent[2:], aspect="equal")
    for axes in (data, *others):
        axes.set(xticks=[], yticks=[])
    return figure


def trajectories(
    given: Sequence[tuple[np.ndarray, np.ndarray]],
    truth: Sequence[tuple[np.ndarray, np.ndarray]],
    by_model: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    titles: Sequence[str],
) -> Figure:
    """Given states as points, true and predicted ones as lines, one row per trajectory and one colour per component.

    Args:
        given: Times `(n,)` and states `(n, components)` that the models see, for each trajectory.
        truth: True times and states of the first trajectories; the others are drawn without.
        by_model: Predicted times and states by model name; each model has its own dashes.
        titles: What is written above each row, such as equations.
    """
    count = len(given)
    figure = Figure(figsize=(9, count * 2.8), layout="constrained")
    dashes = ["--", ":", "-.", (0, (5, 1))]
    for i, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
        colours = [f"C{k}" for k in range(given[i][1].shape[1])]
        for k, colour in enumerate(colours):
            axes.plot(given[i][0], given[i][1][:, k], ".", color=colour, markersize=4, label=f"u_{k}")
            for times, states in truth[i : i + 1]:
                axes.plot(times, states[:, k], color=colour, linewidth=1, alpha=0.5)
            for j, lines in enumerate(by_model.values()):
                axes.plot(lines[i][0], lines[i][1][:, k], color=colour, linestyle=dashes[j % len(dashes)])
        for j, name in enumerate(by_model):
            axes.plot([], [], color="black", linestyle=dashes[j % len(dashes)], label=name)
        axes.set_title(_wrapped(titles[i], 140), loc="left", fontsize=7, parse_math=False)
        axes.grid(visible=True, alpha=0.25)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _wrapped(text: str, width: int) -> str:
    """A text with its lines broken after `width` characters."""
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in text.splitlines())


def _check_shapes(y: np.ndarray, by_model: Mapping[str, np.ndarray]) -> None:
    for name, prediction in by_model.items():
        if prediction.shape != y.shape:
            raise ValueError(f"The prediction of {name} has shape {prediction.shape}, the truth has {y.shape}.")


def curves(
    series: Mapping[str, tuple[Sequence[int | float], Sequence[int | float]]],
    *,
    x: str,
    y: str,
    title: str = "",
    marker: str = "",
) -> Figure:
    """Lines on a logarithmic vertical axis, one per name: loss against step, error against resolution.

    Args:
        series: (abscissae, ordinates) by name.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        title: Of the figure.
        marker: Matplotlib marker of the points; none by default.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, (abscissae, ordinates) in series.items():
        dashed = "--" if name.endswith("validation") else "-"
        axes.plot(abscissae, ordinates, dashed, label=name, marker=marker or None, linewidth=1.3)
    axes.set(xlabel=x, ylabel=y, title=title, yscale="log")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes a PNG of 130 dots per inch through a temporary file, so that no half-written figure is ever left."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    FigureCanvasAgg(figure)
    figure.savefig(part, dpi=130, format="png")
    part.replace(path)
    return path
