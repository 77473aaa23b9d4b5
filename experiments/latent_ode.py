"""A real time series with gaps by a latent ODE that is cheap to solve: filled between observations and continued.

    sciml train experiments/latent_ode.py --penalty error --out runs/latent/error
    sciml train experiments/latent_ode.py --preset simulated --out runs/latent/simulated
    python benchmarks/penalties.py experiments/latent_ode.py --quality mse --out runs/penalties-latent

The series (`--series`) is `elnino`, the monthly temperature of the sea off Peru (NINO 1+2) from 1950 to 2010, from
real_timeseries.npz in the folder of `--data`, or `simulated`, which needs no file: two harmonics of slowly changing
phases and amplitudes, and a drift. It is cut into all windows of `times` values by `tasks.windows_with_gaps`.

Of the first two thirds of a window a share of `seen` is observed, irregularly and new in each optimiser step; the rest
is to be filled in (`mse_between`), and the last third to be foretold (`mse_after`). `mse` is over both, `nll` the
negative log density of one such value in the mean of 16 draws from the posterior, in nats.

Model: Rubanova, Chen, Duvenaud, 2019, arXiv:1907.03907, with the recurrent encoder, and penalties of Pal, Ma, Shah,
Rackauckas, "Opening the blackbox", ICML 2021, arXiv:2105.03918. Their data, PhysioNet 2012, are not used;
the likelihood in training is that of all values of the window, also of those that the encoder did not see.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import data, nde, systems, tasks
from sciml.experiment import Count, Experiment, Positive, Share, Training, chosen

PENALTIES = tasks.penalties(
    error=(0.03, 0.01, 0.1),
    error2=(0.01, 0.003, 0.03),
    stiffness=(0.1, 0.01, 1.0),
    local=(0.03, 0.01, 0.1),
    steer=(0.0,),
    taynode=(0.001, 0.0001, 0.01),
    rnode=(0.001, 0.0001, 0.01),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "latent_ode"
    """One of MODELS."""
    series: str = "elnino"
    """One of SERIES."""
    times: Count = 36
    """Values in a window."""
    seen: Share = 0.5
    """Share of the values in the first two thirds of a window that are observed."""
    noise: Positive = 0.3
    """Standard deviation of an observation, in deviations of the series."""
    tolerance: Positive = 1e-5
    """Relative and absolute tolerance of the solver."""
    latent: Count = 8
    """Entries of the latent state."""
    hidden: Count = 40
    """Units of the recurrent state and of the two hidden layers of the field."""
    data: str = dataclasses.field(default_factory=lambda: os.environ.get("SCIML_DATA", "../shared/data"))
    """Folder of real_timeseries.npz; not read for the simulated series."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=2000, batch=64, lr=1e-2)
    """Length and learning rate of the training; its seed is also that of the gaps in training."""


_SHORT = Training(steps=4, batch=16, lr=1e-2)
PRESETS = {
    "full": Config(),
    "simulated": Config(series="simulated"),
    "smoke": Config(series="simulated", times=12, tolerance=1e-2, latent=3, hidden=6, run=_SHORT),
}
SPAN = 3.0  # of a window, in units of the field's time
DRAWS = 16  # of the posterior, for its predictive density


def series(config: Config) -> np.ndarray:
    """All values of the series, equally spaced in time."""
    if config.series == "simulated":
        return systems.seasonal(720)
    return tasks.real_series(config.data, config.series)[:, 1:].reshape(-1)  # twelve months after the year


SERIES = ("elnino", "simulated")


def latent_ode(config: Config, key: jax.Array) -> nde.LatentODE:
    """The model, of batches of windows."""
    encoder_key, field_key, decoder_key = jax.random.split(key, 3)
    return nde.LatentODE(
        nde.GRUEncoder(1, config.latent, hidden=config.hidden, key=encoder_key),
        nde.MLPField(config.latent, widths=(config.hidden,) * 2, key=field_key),
        eqx.nn.Linear(config.latent, 1, key=decoder_key),
        nde.Jointly(tasks.ode_solve(config.tolerance, 512)),
        noise=config.noise,
    )


MODELS = {"latent_ode": latent_ode}


def times(x: Any) -> jax.Array:
    """The times of windows (n, times, 1)."""
    return jnp.linspace(0, SPAN, x.shape[1], dtype=x.dtype)


@eqx.filter_jit
def predict(model: nde.LatentODE, x: jax.Array, where: jax.Array) -> tuple[jax.Array, nde.Aux]:
    """The values (n, times, 1) for the posterior's mean, and what came with the one solve."""
    mean, _ = model.encode(times(x), jnp.where(where, x, jnp.nan))
    return model.decode(mean, times(x))


def evaluate(model: nde.LatentODE, part: data.Arrays) -> Mapping[str, float]:
    """Errors of values not observed, and costs of the one solve."""
    true, seen = part[:]
    x, where = jnp.asarray(true), jnp.asarray(seen)
    values, costs = tasks.solve_metrics(model, lambda: predict(model, x, where))
    density = eqx.filter_jit(lambda model: model.log_predictive(times(x), x, where, draws=DRAWS, key=jax.random.key(0)))
    nll = tasks.or_infinite(-np.asarray(density(model))[~seen].mean())
    return tasks.gap_errors(values, true, seen) | {"nll": nll} | costs


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    chosen("a series", config.series, dict.fromkeys(SERIES))

    def task(model: nde.LatentODE, batch: Any, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        x, (gap_key, draw_key) = batch[0], jax.random.split(key)
        where = tasks.observed(jax.random.uniform(gap_key, x.shape), config.seen)
        bound = model.elbo(times(x), x, observed=where, key=draw_key)
        return bound.loss.mean() / x[0].size, bound.aux

    parts = functools.partial(tasks.windows_with_gaps, series(config), config.times, config.seen)
    return tasks.dynamics(config, MODELS, PENALTIES, parts, task, evaluate, metric="mse")
