"""Inputs, truth, predictions and errors of fields in one to three dimensions."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from sciml.plot._text import LARGEST_PAGE, check_names, check_shapes, finite_range, relative_error, wrapped


def _image(
    figure: Figure, axes: Axes, field: np.ndarray, *, title: str, colours: str, limits: tuple[float, float]
) -> None:
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
    _check_dimensions(x, y)
    shown = list(range(y.shape[1])) if channels is None else list(channels)
    titles = [names[channel] if names else f"channel {channel}" for channel in shown] if len(shown) > 1 else []
    return _draw(x, y, by_model, shown, titles * len(x))


def _check_dimensions(x: np.ndarray, y: np.ndarray) -> None:
    if x.ndim != y.ndim or not 3 <= y.ndim <= 5:
        raise ValueError(
            f"Expected fields (samples, channels, *space) in one to three dimensions, got inputs {x.shape} and truth "
            f"{y.shape}. Add a missing channel axis with x[:, None]."
        )


def _draw(
    x: np.ndarray,
    y: np.ndarray,
    by_model: Mapping[str, np.ndarray],
    channels: Sequence[int],
    titles: Sequence[str],
    reference: str = "truth",
) -> Figure:
    """A row for each sample and each of some channels, with its title."""
    check_shapes(y, by_model)
    flat = lambda array: array[..., array.shape[-1] // 2] if array.ndim == 5 else array
    rows = lambda array, chosen: flat(array)[:, chosen].reshape(-1, *flat(array).shape[2:])
    draw = profiles if y.ndim == 3 else predictions
    inputs = [min(channel, x.shape[1] - 1) for channel in channels]
    predicted = {name: rows(array, channels) for name, array in by_model.items()}
    titles = titles if any(titles) else []
    return draw(rows(x, inputs), rows(y, channels), predicted, titles=titles, reference=reference)


def predictions(
    x: np.ndarray,
    y: np.ndarray,
    by_model: Mapping[str, np.ndarray],
    *,
    titles: Sequence[str] = (),
    reference: str = "truth",
) -> Figure:
    """Input, truth, and each model's prediction and error, one row per sample.

    Predictions share the colour scale of the truth and errors share one scale, so that panels can be compared.

    Args:
        x: Inputs `(samples, n, m)`, one channel, first index along the horizontal axis.
        y: True outputs, same shape.
        by_model: Predictions by model name, same shape.
        titles: Text at the left of each row, such as the name of the channel; nothing by default.
        reference: What `y` is, where no truth is known and it is a forecast.

    Raises:
        ValueError: If a prediction has another shape than the truth, or the fields are not two-dimensional.
    """
    check_shapes(y, by_model)
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
        _image(figure, row[0], x[i], title="input", colours="Greys", limits=finite_range(x[i]))
        low, high = finite_range(y[i])
        limits = (min(0.0, low), high)
        _image(figure, row[1], y[i], title=reference, colours="viridis", limits=limits)
        largest = max((finite_range(np.abs(one[i] - y[i]))[1] for one in by_model.values()), default=1.0)
        for j, (name, prediction) in enumerate(by_model.items()):
            error = prediction[i] - y[i]
            _image(figure, row[2 + 2 * j], prediction[i], title=name, colours="viridis", limits=limits)
            title = f"{name} error ({relative_error(prediction[i], y[i])})"
            _image(figure, row[3 + 2 * j], error, title=title, colours="RdBu_r", limits=(-largest, largest))
    return figure


def profiles(
    x: np.ndarray,
    y: np.ndarray,
    by_model: Mapping[str, np.ndarray],
    *,
    titles: Sequence[str] = (),
    reference: str = "truth",
) -> Figure:
    """Left the input, truth and predictions of fields in one dimension, right their errors; one row per sample.

    Args:
        x: Inputs `(samples, n)`, one channel.
        y: True outputs, same shape.
        by_model: Predictions by model name, same shape.
        titles: What is written above each row, such as equations; nothing by default.
        reference: What `y` is, as in `predictions`.

    Raises:
        ValueError: If a prediction has another shape than the truth.
    """
    check_shapes(y, by_model)
    columns = 2 if by_model else 1  # without predictions there are no errors
    figure = Figure(figsize=(4.5 * columns, 2.5 * len(x)), layout="constrained")
    for i, row in enumerate(figure.subplots(len(x), columns, squeeze=False)):
        fields, errors = row[0], row[-1]
        at = np.linspace(0, 1, x.shape[1])
        fields.plot(at, x[i], color="0.7", label="input")
        fields.plot(at, y[i], color="black", label=reference)
        for name, prediction in by_model.items():
            relative = relative_error(prediction[i], y[i])
            (line,) = fields.plot(at, prediction[i], "--", label=name)
            errors.plot(at, prediction[i] - y[i], color=line.get_color(), label=f"{name} ({relative})")
        if by_model:
            errors.set_title("error", fontsize=9)
        if titles:
            fields.set_title(wrapped(titles[i], 75), loc="left", fontsize=6, parse_math=False)
        for axes in row:
            axes.grid(visible=True, alpha=0.25)
            axes.legend(frameon=False, fontsize=8)
    return figure


def all_fields(
    x: Float[np.ndarray, "samples in *space"],
    y: Float[np.ndarray, "samples out *space"],
    by_model: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] = (),
    reference: str = "truth",
) -> list[Figure]:
    """`fields` with every channel of the output: a figure for each four of them, so that rows stay readable.

    Args:
        x: Inputs.
        y: True outputs.
        by_model: Predictions by model name.
        names: Name of each output channel.
        reference: What `y` is, as in `predictions`.

    Raises:
        ValueError: As `fields`, and if there are names, but not one for each channel.
    """
    _check_dimensions(x, y)
    known, count = check_names(names, y.shape[1]), y.shape[1]
    pages = [range(first, min(first + LARGEST_PAGE, count)) for first in range(0, count, LARGEST_PAGE)]
    titles = lambda page: [known[channel] for channel in page] * len(y)
    return [_draw(x, y, by_model, page, titles(page), reference) for page in pages]


def best_to_worst(
    x: Float[np.ndarray, "samples in *space"],
    y: Float[np.ndarray, "samples out *space"],
    by_model: Mapping[str, np.ndarray],
    *,
    errors: np.ndarray,
    names: Sequence[str] = (),
    numbers: Sequence[int] | None = None,
) -> list[Figure]:
    """`all_fields` of the samples with the lowest, the median and the largest error, see `ranks`.

    Args:
        x: Inputs of all samples.
        y: True outputs.
        by_model: Predictions by model name.
        errors: The error that chooses the samples, such as the relative L2 error of one of the models.
        names: Name of each output channel.
        numbers: Number of each sample in the titles; by default they are counted from 0.

    Raises:
        ValueError: As `all_fields`, and if there is not one error for each sample.
    """
    _check_dimensions(x, y)
    if len(errors) != len(y):
        raise ValueError(f"Expected an error for each of {len(y)} samples, got {len(errors)}.")
    chosen = ranks(errors)
    known, rows = check_names(names, y.shape[1]), list(chosen.values())
    few = {name: one[rows] for name, one in by_model.items()}
    pages = [range(first, min(first + 2, y.shape[1])) for first in range(0, y.shape[1], 2)]
    number = range(len(y)) if numbers is None else numbers
    title = lambda rank, row, channel: f"{rank}: sample {number[row]}\n{known[channel]}".rstrip()
    titles = lambda page: [title(rank, row, channel) for rank, row in chosen.items() for channel in page]
    return [_draw(x[rows], y[rows], few, page, titles(page)) for page in pages]


def ranks(errors: Float[np.ndarray, " samples"]) -> dict[str, int]:
    """The rows of the samples with the lowest (`best`), the `median` and the largest error (`worst`).

    Errors that are not finite are the largest. A sample stands there once: of two samples there is no median.

    Raises:
        ValueError: If there are no errors.
    """
    if not len(errors):
        raise ValueError("Expected the error of at least one sample, got none.")
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    found = {"best": order[0], "median": order[(len(order) - 1) // 2], "worst": order[-1]}
    if len(order) == 2:
        del found["median"]
    return {name: int(row) for name, row in list(found.items())[: len(order)]}
