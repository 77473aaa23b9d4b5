"""A spiral learned from one noisy trajectory by a neural ODE that is cheap to solve.

    JAX_ENABLE_X64=1 sciml train experiments/spiral_ode.py --penalty error --out runs/spiral/error

The data are the points of dy/dt = A y^3 (cubes of the entries), A = [[-0.1, 2], [-2, -0.1]], from y(0) = (2, 0), an
example that the papers on neural ODEs share since Chen et al., 2018, arXiv:1806.07366. The field is a network of the
cubes with one layer of 50 hidden units, trained on short pieces of the trajectory, and tested on longer trajectories
from other states in the region that the data go through.

The equation is identified here, which penalties are not made for: whatever it costs to solve beyond the true equation
(`nfe_true` in the metrics) is the network's, the rest cannot be saved without an error. In experiments/digits_node.py
only the end of the solution matters. Tolerances of 1e-7 and less need float64, `JAX_ENABLE_X64=1`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import nde, systems, tasks
from sciml.experiment import Count, Experiment, NonNegative, Positive, Training
from sciml.tasks import Cubes

PENALTIES = tasks.penalties(
    error=(1e-3, 1e-4, 1e-2),
    error2=(1e-4, 1e-5, 1e-3),
    stiffness=(1e-3, 1e-4, 1e-2),
    local=(1e-3, 1e-4, 1e-2),
    steer=(0.0,),
    taynode=(1e-6, 1e-7, 1e-5),
    rnode=(1e-5, 1e-6, 1e-4),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "node"
    """One of MODELS."""
    tolerance: Positive = 1e-8
    """Relative and absolute tolerance of the solver."""
    hidden: Count = 50
    """Hidden units of the vector field."""
    noise: NonNegative = 0.01
    """Standard deviation of the noise on the trajectory; the test data have none."""
    points: Count = 1000
    """Points of the trajectory, equally spaced in [0, 20]."""
    piece: Count = 25
    """Points of a piece, the first of which is its initial state."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=1500, batch=64, lr=1e-2)
    """Length and learning rate of the training; its seed is also that of the noise."""


_SHORT = Training(steps=4, batch=16, lr=1e-2)
PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-3, hidden=8, points=100, piece=5, run=_SHORT)}
END, TEST_TIMES = 20.0, np.linspace(0, 5, 101)


def true_field(t: Any, y: jax.Array, args: Any = None) -> jax.Array:
    """The equation that the data come from."""
    return jnp.asarray(systems.SPIRAL, y.dtype) @ y**3


def node(config: Config, key: jax.Array) -> nde.NeuralODE:
    """The model, of batches of initial states."""
    network = eqx.nn.MLP(2, 2, config.hidden, depth=1, activation=jnp.tanh, key=key)
    return nde.NeuralODE(Cubes(network), nde.Jointly(tasks.ode_solve(config.tolerance, 1024)))


MODELS = {"node": node}


def pieces(config: Config, ts: np.ndarray) -> np.ndarray:
    """States (n, piece, 2) of all pieces of the one trajectory, with noise."""
    y = systems.spiral(np.array([2.0, 0.0]), ts)
    y = y + config.noise * np.random.default_rng(config.run.seed).normal(size=y.shape)
    return np.lib.stride_tricks.sliding_window_view(y, config.piece, axis=0).transpose(0, 2, 1)


def evaluate(model: nde.NeuralODE, y: np.ndarray) -> Mapping[str, float]:
    """Error over all states, and costs of the one solve, for the network and for the true equation."""
    predict, metrics = tasks.state_metrics(model, y, TEST_TIMES)
    _, true = predict(dataclasses.replace(model, field=true_field))
    return metrics | {"nfe_true": float(nde.nfe(true.stats, diffrax.Tsit5()))}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    times = np.linspace(0, END, config.points)

    def parts(dtype: np.dtype) -> dict[str, np.ndarray]:
        unseen = {name: systems.spirals(TEST_TIMES, 40, seed) for name, seed in (("validation", 2), ("test", 1))}
        return {name: y.astype(dtype) for name, y in {"train": pieces(config, times), **unseen}.items()}

    task = tasks.state_task(times[: config.piece])
    return tasks.dynamics(config, MODELS, PENALTIES, parts, task, evaluate, metric="rmse")
