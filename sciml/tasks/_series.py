"""Observed series of real time, and the forecasts of several equations drawn together with them."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from sciml import data, nde, symbolic
from sciml.tasks._field_errors import or_infinite


@dataclasses.dataclass(frozen=True)
class Series:
    """Times, states (times, size), and how many of them are for training."""

    ts: np.ndarray
    ys: np.ndarray
    known: int

    @property
    def last(self) -> np.ndarray:
        """The last state of the training."""
        return self.ys[self.known - 1]

    def windows(self, length: int) -> data.Arrays:
        """All windows of consecutive observations for training: times (n, length) and states (n, length, size).

        Raises:
            ValueError: If there are fewer observations than asked for.
        """
        if not 2 <= length <= self.known < len(self.ts):
            raise ValueError(
                f"Expected 2 <= window <= years < {len(self.ts)} observations, got a window of {length} and "
                f"{self.known} years."
            )
        rows = np.arange(self.known - length + 1)[:, None] + np.arange(length)
        return data.Arrays(self.ts[rows], self.ys[rows])


def real_series(folder: str, name: str) -> np.ndarray:
    """A table of real_timeseries.npz.

    Raises:
        FileNotFoundError: If the file is not in the folder.
    """
    path = pathlib.Path(folder) / "real_timeseries.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"The series {name} is in real_timeseries.npz, which is not in {folder}. Give its folder by --data or "
            "SCIML_DATA, or take --preset simulated, which needs no file."
        )
    return data.read_arrays(path, name)[0]


_CONTROLLER = diffrax.PIDController(rtol=1e-5, atol=1e-5)


@eqx.filter_jit
def solved(field: Any, y0: jax.Array, ts: jax.Array) -> jax.Array:
    """The states at the times; infinite from where an equation, such as one that was read out, has no solution."""
    problem = (diffrax.ODETerm(field), diffrax.Tsit5(), ts[0], ts[-1], None, y0)
    saveat = diffrax.SaveAt(ts=ts)
    found = diffrax.diffeqsolve(*problem, saveat=saveat, stepsize_controller=_CONTROLLER, max_steps=1024, throw=False)
    assert found.ys is not None
    return found.ys


def log_loss(model: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared error of the logarithms of positive states over the windows, solved from the first of each."""
    ts, ys = batch
    solve = nde.Solve(diffrax.Tsit5(), _CONTROLLER, max_steps=1024)
    paths = jax.vmap(lambda ts, ys: solve(model, ys[0], ts)[0])(ts, ys)
    return jnp.mean((jnp.log(jnp.maximum(paths, 1e-3)) - jnp.log(ys)) ** 2), {}


def write_equations(found: Mapping[str, symbolic.System], path: pathlib.Path) -> None:
    """Writes systems by name, each as text and as LaTeX, into a JSON file."""
    latex = {name: [symbolic.to_latex(tree) for tree in one] for name, one in found.items()}
    written = {name: {"text": symbolic.system_to_text(one), "latex": latex[name]} for name, one in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=1) + "\n")


def forecast_errors(series: Series, forecasts: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Root mean square errors of forecasts of positive states after the training, and (`_log`) of their logarithms.

    Added are the forecasts `persistence`, the last state of the training, and `mean`, the mean of the training. The
    errors of a forecast that is not finite are infinite.
    """
    truth, errors = series.ys[series.known :], {}
    simple = {"persistence": series.last, "mean": series.ys[: series.known].mean(0)}
    for name, path in {**forecasts, **simple}.items():
        with np.errstate(over="ignore", invalid="ignore"):
            errors[name] = or_infinite(np.sqrt(np.mean((path - truth) ** 2)))
            errors[f"{name}_log"] = or_infinite(np.sqrt(np.mean(np.log(np.maximum(path, 1e-3) / truth) ** 2)))
    return errors


def draw_forecasts(
    series: Series,
    solutions: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]],
    labels: Sequence[tuple[str, str]],
    band: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Observations, solutions from the first of them (dashed), and forecasts from the last state of the training.

    Args:
        series: The observations.
        solutions: By name, `(y0, ts) -> states`.
        labels: Of each component, the label of its axis and the title of its panel.
        band: Lower and upper ends (times, size) of intervals from the last time of the training on, drawn grey.
    """
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    first, border, end = series.ts[[0, series.known - 1, -1]]
    before, after = (np.linspace(*span, 200, dtype=series.ts.dtype) for span in ((first, border), (border, end)))
    paths = {name: (solve(series.ys[0], before), solve(series.last, after)) for name, solve in solutions.items()}
    panels = figure.subplots(len(labels), sharex=True)
    for i, (axes, (label, title)) in enumerate(zip(panels, labels, strict=True)):
        axes.plot(series.ts, series.ys[:, i], "k.", label="observed")
        axes.axvline(border, color="grey", linewidth=0.8)
        if band is not None:
            low, high = (end[:, i] for end in band)
            axes.fill_between(series.ts[series.known - 1 :], low, high, color="0.9", label="90 % of observations")
        for number, (name, (fitted, forecast)) in enumerate(paths.items()):
            axes.plot(before, fitted[:, i], f"C{number}--", linewidth=0.8)
            axes.plot(after, forecast[:, i], f"C{number}", label=name)
        axes.set(ylim=(0, 1.2 * series.ys[:, i].max()), ylabel=label, title=title)
        axes.legend(fontsize="small", frameon=False)
    panels[-1].set(xlabel="years")
    return figure
