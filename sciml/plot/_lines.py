"""Lines: loss against step, error against resolution, error over time with bands."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

_DASHES = ["-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1))]
"""One for each model beside its colour, for those who do not tell colours apart."""


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
    axes.set(xlabel=x, ylabel=y, title=title)
    logarithmic(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    return figure


def quartiles(errors: Float[np.ndarray, "samples steps"]) -> Float[np.ndarray, "quartiles steps"]:
    """Lower quartile, median and upper quartile of the errors over the samples, at each step.

    Each is the error of one of the samples (the inverse of the empirical distribution, no interpolation), so that a
    diverged sample, whose error is infinite or NaN, counts as the largest and changes a quartile only if it reaches it.
    """
    ordered = np.where(np.isnan(errors), np.inf, errors)
    return np.quantile(ordered, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")


def error_over_time(
    steps: Sequence[int | float] | np.ndarray,
    by_model: Mapping[str, np.ndarray],
    *,
    y: str,
    x: str = "step",
    notes: Mapping[str, str] | None = None,
    baselines: Collection[str] = (),
    windows: Sequence[tuple[int | float, int | float]] = (),
) -> Figure:
    """Median errors as lines and their quartiles as bands on a logarithmic axis, one colour per model.

    A line ends where it is not finite.

    Args:
        steps: Step, or time, of each error.
        by_model: Lower quartile, median and upper quartile by model name, see `quartiles`.
        y: Label of the vertical axis.
        x: Label of the horizontal axis.
        notes: What the legend adds to the name of a model, such as the number of diverged rollouts.
        baselines: Names that are drawn in grey, such as that of the prediction that nothing changes.
        windows: First and last step of windows; vertical lines mark them.

    Raises:
        ValueError: If the errors of a model are not three for each step.
    """
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for first, last in windows:
        axes.axvspan(first, last, color="0.5", alpha=0.09, linewidth=0)
        for edge in {first, last}:
            axes.axvline(edge, color="0.5", linewidth=0.8, linestyle=":")
    models = [name for name in by_model if name not in baselines]
    others = [name for name in by_model if name in baselines]
    for name, values in by_model.items():
        if values.shape != (3, len(steps)):
            raise ValueError(f"Expected 3 quartiles for {len(steps)} steps of {name}, got {values.shape}.")
        low, middle, high = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        known = name in models
        colour = f"C{models.index(name) % 10}" if known else "0.35"
        dashes = _DASHES[(models.index(name) if known else 3 + others.index(name)) % len(_DASHES)]
        label = f"{name} ({notes[name]})" if notes and name in notes else name
        axes.fill_between(steps, low, high, color=colour, alpha=0.18 if known else 0.1, linewidth=0)
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, middle, color=colour, linestyle=dashes, label=label, linewidth=1.6, marker=marker)
    axes.set(xlabel=x, ylabel=y)
    logarithmic(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def logarithmic(axis: Axis) -> None:
    """A logarithmic axis with numbers at 1, 2 and 5 times the powers of ten if it spans few decades."""
    axis.axes.set_yscale("log")
    low, high = sorted(axis.get_view_interval())
    if low > 0 and high / low < 1e3:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
