"""Two moons by a continuous normalising flow that is cheap to solve.

    sciml train experiments/flow_2d.py --penalty error --out runs/flow/error
    python benchmarks/penalties.py experiments/flow_2d.py --quality nll --slack 0.02 --out runs/penalties-flow

The flow carries the data to the normal distribution by dy/dt = f(t, y) on [0, 1], f a network with two hidden layers
whose divergence is computed exactly; its loss is the negative log density (`nll`, in nats). As for a classifier, only
the end of the solution matters, so that the path is free to become a cheap one.

Sources: Grathwohl et al., "FFJORD", 2019, arXiv:1810.01367; its regularisation `rnode`: Finlay et al., 2020,
arXiv:2002.02798, whose coefficients are the default here. Both solve without the random end times of `steer`.
"""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import nde, systems, tasks
from sciml.experiment import Count, Experiment, Positive, Training

PENALTIES = tasks.penalties(
    error=(0.1, 0.03, 0.3),
    error2=(0.01, 0.003, 0.03),
    stiffness=(0.1, 0.01, 1.0),
    local=(0.1, 0.03, 0.3),
    steer=(0.0,),
    taynode=(0.01, 0.001, 0.1),
    rnode=(0.01, 0.001, 0.1),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "cnf"
    """One of MODELS."""
    tolerance: Positive = 1e-5
    """Relative and absolute tolerance of the solver."""
    hidden: Count = 64
    """Hidden units in each of the two layers of the vector field."""
    samples: Count = 8000
    """Number of training samples."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=1000, batch=256, lr=3e-3)
    """Length and learning rate of the training."""


_SHORT = Training(steps=4, batch=16, lr=3e-3)
PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-3, hidden=8, samples=64, run=_SHORT)}


def flow(config: Config, key: jax.Array) -> nde.CNF:
    """The model, of batches of samples."""
    field = nde.MLPField(2, widths=(config.hidden, config.hidden), key=key)
    return nde.CNF(field, 2, solve=nde.Jointly(tasks.ode_solve(config.tolerance, 512)))


MODELS = {"cnf": flow}


def task(model: nde.CNF, x: jax.Array, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
    """Mean negative log density."""
    log_prob, aux = model.solution(x, key=key)
    return -jnp.mean(log_prob), aux


density = eqx.filter_jit(lambda model, x: model.solution(x))


def evaluate(model: nde.CNF, x: np.ndarray) -> Mapping[str, float]:
    """Mean negative log density, and costs of the one solve."""
    at = jnp.asarray(x)
    log_prob, costs = tasks.solve_metrics(model, lambda: density(model, at))
    return {"nll": tasks.or_infinite(-jnp.mean(log_prob)), **costs}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    parts = tasks.drawn(systems.two_moons, train=(config.samples, 0), validation=(4800, 2), test=(4800, 1))
    built = tasks.dynamics(config, MODELS, PENALTIES, parts, task, evaluate, metric="nll")
    return dataclasses.replace(built, figures=lambda models, to: tasks.draw_densities(models, built.test, to))
