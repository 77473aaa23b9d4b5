"""Hares and lynxes of the Hudson Bay, 1900 to 1920: an equation known in part, a network for the rest, read out.

    JAX_ENABLE_X64=1 sciml train experiments/lotka_volterra.py --out runs/lynx-hare
    JAX_ENABLE_X64=1 sciml train experiments/lotka_volterra.py --preset simulated --out runs/lotka-volterra

dh/dt = a h + h N_1(h, l) and dl/dt = -d l + l N_2(h, l) with positive rates a, d and a network N, a universal
differential equation (Rackauckas et al., arXiv:2001.04385), trained on windows of the first years, in the logarithm of
the populations. `metrics.json` has root mean square errors in thousand pelts (`_log`: of the logarithm) of forecasts
from the last year of training: of the hybrid (`forecast`), of the equation that was read out of it and refined
(`symbolic`), of a Lotka-Volterra equation fitted to the same years (`fitted`), and of the last state (`persistence`)
and the mean (`mean`). The equations are in `figures/`; `constants.json` there has the constants of the fitted equation
with their standard deviations (`symbolic.posterior`), and `forecast.png` its 90 % band for new observations. Both take
the noise for additive, and the equation for true.

Pelts are not animals, and 15 years are one and a half cycles: a forecast from them says little about any method.
Data: lynx_hare of real_timeseries.npz, in the folder SCIML_DATA. The preset `simulated` needs none.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import nde, plot, symbolic, tasks
from sciml.experiment import Count, Experiment, NonNegative, Training, chosen
from sciml.parallel import Alone

hare, lynx = symbolic.states(2)
SIMULATED = (0.55 * hare + -0.028 * (hare * lynx), -0.8 * lynx + 0.026 * (hare * lynx))
FIRST = (0.5 * hare + -0.02 * (hare * lynx), -0.5 * lynx + 0.02 * (hare * lynx))


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "hybrid"
    """One of MODELS."""
    source: str = "lynx-hare"
    """lynx-hare, or simulated."""
    years: Count = 15
    """Observations to train on, the rest is forecast."""
    window: Count = 6
    """Observations in a window, solved from the first of them."""
    hidden: Count = 16
    """Hidden units of both layers of the network."""
    decay: NonNegative = 1e-2
    """Weight decay of AdamW."""
    threshold: NonNegative = 0.1
    """Terms of the read-out that contribute less are left out."""
    degree: Count = 2
    """Of the monomials that the read-out chooses from."""
    data: str = dataclasses.field(default_factory=lambda: os.environ.get("SCIML_DATA", "../shared/data"))
    """Folder of real_timeseries.npz."""
    run: Training = Training(steps=1500, batch=10000, lr=1e-2)
    """Length and learning rate of the training, in batches of all windows; its seed is also that of simulated noise."""


_SIMULATED = Config(source="simulated", years=60, window=9)
_SHORT = dataclasses.replace(_SIMULATED.run, steps=20)
PRESETS = {"full": Config(), "simulated": _SIMULATED, "smoke": dataclasses.replace(_SIMULATED, hidden=4, run=_SHORT)}


def read(config: Config) -> tasks.Series:
    """The observations, in years since the first."""
    dtype = jnp.zeros(()).dtype
    chosen("a source", config.source, dict.fromkeys(("lynx-hare", "simulated")))
    if config.source == "simulated":
        ts = np.arange(81) / 4
        path = tasks.solved(symbolic.VectorField(SIMULATED), jnp.array([30.0, 4.0]), jnp.asarray(ts, dtype))
        noise = np.random.default_rng(config.run.seed).normal(size=path.shape)
        ts, ys = ts.astype(dtype), np.asarray(path * np.exp(0.02 * noise), dtype)
    else:
        table = tasks.real_series(config.data, "lynx_hare").astype(dtype)
        ts, ys = table[:, 0] - table[0, 0], table[:, [2, 1]]
    return tasks.Series(ts, ys, config.years)


class Interaction(eqx.Module):
    """h N_1, l N_2: the network's part of the equation, with its input divided by typical populations."""

    network: eqx.nn.MLP
    scale: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, t: Any, y: jax.Array, args: Any = None) -> jax.Array:
        """The part at populations y."""
        return y * self.network(y / jnp.asarray(self.scale, y.dtype))


class Hybrid(eqx.Module):
    """Growth of the hares and decay of the lynxes at rates exp(log_rates), and what the network adds."""

    log_rates: jax.Array
    interaction: Interaction

    def __init__(self, scale: tuple[float, ...], hidden: int, key: jax.Array) -> None:
        """Draws the weights; the rates begin with 0.5 per year."""
        self.log_rates = jnp.log(jnp.array([0.5, 0.5]))
        self.interaction = Interaction(eqx.nn.MLP(2, 2, hidden, 2, jnp.tanh, key=key), scale)

    @property
    def rates(self) -> jax.Array:
        """The two linear coefficients, a and -d."""
        return jnp.exp(self.log_rates) * jnp.array([1.0, -1.0], self.log_rates.dtype)

    def __call__(self, t: Any, y: jax.Array, args: Any = None) -> jax.Array:
        """The right-hand side."""
        return self.rates * y + self.interaction(t, y)


MODELS = {"hybrid": Hybrid}


def equations(model: Hybrid, series: tasks.Series, config: Config) -> dict[str, symbolic.System]:
    """What is read out of the network and of the whole right-hand side, the latter refined, and Lotka and Volterra's.

    Data do not tell how the linear terms are shared between the known part and the network, hence the whole. The
    library has no constant: where there is no animal, none is born.
    """
    ts, ys = series.ts[: series.known], series.ys[: series.known]
    fine = jnp.linspace(ts[0], ts[-1], 400, dtype=ts.dtype)
    states = np.concatenate((np.asarray(tasks.solved(model, jnp.asarray(ys[0]), fine)), ys))
    library = nde.polynomials((hare, lynx), config.degree)[1:]
    network, whole = (
        nde.read_out(field, states, library, thresholds=(config.threshold,)) for field in (model.interaction, model)
    )
    segments = _segments(series, config)
    refined, fitted = (symbolic.refine(system, ts, ys, segments=segments).system for system in (whole, FIRST))
    return {"network": network, "read": whole, "symbolic": refined, "fitted": fitted}


def _segments(series: tasks.Series, config: Config) -> int:
    return max(1, (series.known - 1) // (config.window - 1))


def uncertain(series: tasks.Series, config: Config) -> symbolic.Posterior:
    """Lotka and Volterra's equations with the uncertainty of their constants."""
    ts, ys = series.ts[: series.known], series.ys[: series.known]
    return symbolic.posterior(FIRST, ts, ys, segments=_segments(series, config))


def write_constants(found: symbolic.Posterior, path: pathlib.Path) -> None:
    """Writes constants with their standard deviations and 90 % intervals, and the noise, as JSON."""
    low, high = found.interval(0.9)
    written = {
        "equations": symbolic.system_to_text(found.system),
        "constants": [
            {"value": value, "deviation": deviation, "interval": [below, above]}
            for value, deviation, below, above in zip(
                *(one.tolist() for one in (found.constants, found.deviations, low, high)), strict=True
            )
        ],
        "noise": found.noise.tolist(),
    }
    path.write_text(json.dumps(written, indent=1) + "\n")


def solutions(model: Hybrid, found: Mapping[str, symbolic.System]) -> dict[str, Callable[[Any, Any], np.ndarray]]:
    """`(y0, ts) -> populations` of the hybrid, of what was read out and refined, and of Lotka and Volterra."""
    fields = {"forecast": model, **{name: symbolic.VectorField(found[name]) for name in ("symbolic", "fitted")}}
    solve = lambda field, y0, ts: np.asarray(tasks.solved(field, jnp.asarray(y0), jnp.asarray(ts)))
    return {name: functools.partial(solve, field) for name, field in fields.items()}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    make, training, series = chosen("a model", config.model, MODELS), config.run, read(config)
    windows = series.windows(config.window)
    scale = tuple(float(value) for value in series.ys[: series.known].mean(0))
    steps = training.steps_for(len(windows))
    adamw = tasks.cosine(optax.adamw, training, steps, weight_decay=config.decay)

    def evaluate(model: Hybrid, series: tasks.Series) -> Mapping[str, float]:
        found, ts = equations(model, series, config), series.ts[series.known - 1 :]
        paths = {name: solve(series.last, ts)[1:] for name, solve in solutions(model, found).items()}
        return tasks.forecast_errors(series, paths)

    def figures(models: Mapping[str, Hybrid], folder: pathlib.Path) -> None:
        (model,) = models.values()
        found = equations(model, series, config)
        tasks.write_equations(found, folder / "equations.json")
        titles = [f"$du_{i}/dt = {symbolic.to_latex(tree)}$" for i, tree in enumerate(found["symbolic"])]
        labels = list(zip(("hare (thousands)", "lynx (thousands)"), titles, strict=True))
        known = uncertain(series, config)
        write_constants(known, folder / "constants.json")
        band = symbolic.linearised_band(known, series.ts[series.known - 1 :])
        drawn = tasks.draw_forecasts(series, solutions(model, found), labels, (band.observed_low, band.observed_high))
        plot.save(drawn, folder / "forecast.png")

    return Experiment(
        model=tasks.within_memory(lambda: make(scale, config.hidden, jax.random.key(training.seed))),
        loss=tasks.log_loss,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), adamw),
        train=windows,
        steps=steps,
        batch=min(training.batch, len(windows)),
        accumulate=training.accumulate,
        evaluate=evaluate,
        test=series,
        metric="forecast",
        figures=figures,
        parallel=Alone(),
        seed=training.seed,
    )
