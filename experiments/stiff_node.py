"""A stiff equation learned from sparse observations: stability, not accuracy, limits the steps of an explicit solver.

    sciml train experiments/stiff_node.py --penalty stiffness --out runs/stiff/stiffness
    python benchmarks/penalties.py experiments/stiff_node.py --quality rmse --out runs/penalties-stiff

A slow point x turns on a circle, a fast one y is drawn to a function of it:

    x1' = -x2,   x2' = x1,   y' = -k (y - x1 x2),   k = 100,

whose solution is known in closed form. It is observed at distances of 0.1, after each of which nothing is left of how
y started. The data hence ask for a fast attraction but not for how fast, and a penalty may slow it down.
`stability` in the metrics is the mean of |h| S / (stability bound of the solver) over the steps of the test
(`nde.Stiffness`), which is near 1 where stability limits them, as it does without a penalty.

This is the case for which `nde.StiffnessPenalty` is made: it lowers the evaluations of the field, more than
`nde.ErrorPenalty` does, but costs accuracy. Table: docs/results.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import nde, systems, tasks
from sciml.experiment import Count, Experiment, Positive, Training

PENALTIES = tasks.penalties(
    error=(1e-5, 1e-6, 1e-4),
    error2=(1e-6, 1e-7, 1e-5),
    stiffness=(1e-4, 1e-5, 1e-3),
    stiffest=(1e-4, 1e-5, 1e-3),
    local=(1e-4, 1e-5, 1e-3),
    steer=(0.0,),
    taynode=(1e-8, 1e-9, 1e-7),
    rnode=(1e-7, 1e-8, 1e-6),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "node"
    """One of MODELS."""
    tolerance: Positive = 1e-3
    """Relative and absolute tolerance of the solver."""
    attraction: Positive = 100.0
    """The coefficient k of the true equation."""
    scale: Positive = 100.0
    """Attraction of the fast entry of the model before training, about; that of the slow entries is 1."""
    hidden: Count = 32
    """Hidden units in each of the two layers of the vector field."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=1000, batch=64, lr=5e-3)
    """Length and learning rate of the training."""


_SHORT = Training(steps=4, batch=16, lr=5e-3)
PRESETS = {"full": Config(), "smoke": Config(attraction=20.0, scale=5.0, hidden=8, run=_SHORT)}
TIMES = np.linspace(0, 2, 21)


class Relaxation(eqx.Module):
    """The field rates * (network(y) - y), entry by entry: attracted before training, by any rate after it."""

    network: eqx.nn.MLP
    rates: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, t: Any, y: jax.Array, args: Any = None) -> jax.Array:
        """The field at y."""
        return jnp.array(self.rates, y.dtype) * (self.network(y) - y)


def node(config: Config, key: jax.Array) -> nde.NeuralODE:
    """The model, of batches of initial states."""
    network = eqx.nn.MLP(3, 3, config.hidden, depth=2, activation=jnp.tanh, key=key)
    solve = nde.Jointly(tasks.ode_solve(config.tolerance, 2048))
    return nde.NeuralODE(Relaxation(network, (1.0, 1.0, config.scale)), solve)


MODELS = {"node": node}


def evaluate(model: nde.NeuralODE, y: np.ndarray) -> Mapping[str, float]:
    """Error over all states, costs of the one solve, and how near its steps are to the bound of stability."""
    predict, metrics = tasks.state_metrics(model, y, TIMES)
    limit = nde.StiffnessPenalty(nde.Stiffness(dt_power=1))  # of the same steps, as their mean
    return metrics | {"stability": float(predict(nde.regularised(model, limit))[1].penalty)}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    make = lambda count, seed: systems.relaxation(TIMES, count, seed, config.attraction)
    parts = tasks.drawn(make, train=(1024, 0), validation=(200, 2), test=(200, 1))
    return tasks.dynamics(config, MODELS, PENALTIES, parts, tasks.state_task(TIMES), evaluate, metric="rmse")
