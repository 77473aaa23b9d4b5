"""Figures of points in the plane and of trajectories of few components."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from sciml.plot._text import wrapped


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
        axes.set_title(wrapped(titles[i], 140), loc="left", fontsize=7, parse_math=False)
        axes.grid(visible=True, alpha=0.25)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
