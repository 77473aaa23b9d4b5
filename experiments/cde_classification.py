"""Handwritten digits read row by row, with gaps, by a neural CDE that is cheap to solve.

    sciml train experiments/cde_classification.py --penalty error --out runs/cde/error
    sciml train experiments/cde_classification.py --model log_ode --interpolation linear --out runs/cde/log_ode
    python benchmarks/penalties.py experiments/cde_classification.py --out runs/penalties-cde

A series has 8 times, the rows of a real image of 8x8 from scikit-learn, and 8 channels, of which a share `missing` of
the values was not observed. A path through what was observed drives the state of the equation, and a linear map of the
last state gives the ten classes. The first row takes the mean over the training images where it has gaps, which was
known in advance, so that every interpolation and channel has a value to start from. Each series is solved with steps of
its own (`jax.vmap`); numbers of evaluations and steps are means over the test images, as if each were solved alone.

`cde` follows Kidger, Morrill, Foster, Lyons, 2020, arXiv:2005.08926, with one of INTERPOLATIONS; piecewise linear paths
make a solver stop at each corner. `rde` and `log_ode` see the log-signatures of depth 2 over windows of two rows
instead: `rde` by a field with a column for each entry of a log-signature (Morrill, Salvi, Kidger, Foster, Lyons, 2021,
arXiv:2009.08295), `log_ode` by one with a column for each channel and their Lie brackets (Walker, McLeod, Qin, Cheng,
Li, Lyons, 2024, arXiv:2402.18512). The data are not those of the sources. The test images are a fixed part; the last
200 of the others choose coefficients.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import nde, tasks
from sciml.experiment import Count, Experiment, Positive, Share, Training, chosen

PENALTIES = tasks.penalties(
    error=(0.1, 0.03, 0.2),
    error2=(0.01, 0.003, 0.03),
    stiffness=(0.1, 0.01, 1.0),
    local=(0.1, 0.03, 0.2),
)
INTERPOLATIONS: dict[str, nde.Interpolation] = {
    "hermite": nde.hermite_control,
    "linear": nde.linear_control,
    "rectilinear": nde.rectilinear_control,
    "cubic": nde.natural_cubic_control,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "cde"
    """One of MODELS."""
    interpolation: str = "hermite"
    """One of INTERPOLATIONS, for the model cde."""
    missing: Share = 0.3
    """Share of the values that were not observed."""
    tolerance: Positive = 1e-4
    """Relative and absolute tolerance of the solver."""
    hidden: Count = 32
    """Entries of the state."""
    width: Count = 64
    """Units in the hidden layer of the field."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=500, batch=64, lr=5e-3)
    """Length and learning rate of the training; its seed is not that of the gaps."""


_SHORT = Training(steps=4, batch=16, lr=5e-3)
PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-2, hidden=4, width=8, run=_SHORT)}
TIMES = np.arange(8.0)
CHANNELS = 8
DEPTH, WINDOW = 2, 2  # of the log-signatures


def cde(config: Config, key: jax.Array) -> nde.NeuralCDE:
    """The equation driven by an interpolation of the series."""
    return _model(config, key, CHANNELS + 1, INTERPOLATIONS[config.interpolation])


def rde(config: Config, key: jax.Array) -> nde.NeuralCDE:
    """The equation driven by log-signatures, with a field of as many columns."""
    control = nde.LogSignatureControl(DEPTH, WINDOW)
    return _model(config, key, control.channels(CHANNELS), control)


def log_ode(config: Config, key: jax.Array) -> nde.NeuralCDE:
    """The equation driven by log-signatures, with the columns of the channels and their Lie brackets."""
    model = _model(config, key, CHANNELS + 1, nde.LogSignatureControl(DEPTH, WINDOW))
    return dataclasses.replace(model, field=nde.LieBracketField(model.field, CHANNELS + 1, DEPTH))


def _model(config: Config, key: jax.Array, columns: int, interpolation: nde.Interpolation) -> nde.NeuralCDE:
    initial_key, field_key, readout_key = jax.random.split(key, 3)
    return nde.NeuralCDE(
        eqx.nn.Linear(CHANNELS + 1, config.hidden, key=initial_key),
        nde.MatrixField(config.hidden, columns, width=config.width, depth=1, key=field_key),
        eqx.nn.Linear(config.hidden, 10, key=readout_key),
        interpolation,
        solve=tasks.ode_solve(config.tolerance, 512),
    )


MODELS = {"cde": cde, "rde": rde, "log_ode": log_ode}


def scores(model: nde.NeuralCDE, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, nde.Aux]:
    """Scores (batch, 10) of series (batch, 8, 8), and what came with the solve of each."""
    ts = jnp.asarray(TIMES, x.dtype)
    keys = None if key is None else jax.random.split(key, len(x))
    states, aux = jax.vmap(lambda x, key: model.solution(ts, x, key=key))(x, keys)
    return jax.vmap(model.readout)(states[:, -1]), aux


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    chosen("an interpolation", config.interpolation, INTERPOLATIONS)
    parts = functools.partial(tasks.digits_with_gaps, config.missing)
    task, evaluate = tasks.class_task(scores), tasks.class_evaluation(scores)
    return tasks.dynamics(config, MODELS, PENALTIES, parts, task, evaluate, metric="error")
