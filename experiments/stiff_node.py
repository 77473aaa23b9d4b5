"""A stiff equation learned from sparse observations: stability, not accuracy, limits the steps of an explicit solver.

    sciml train experiments/stiff_node.py --penalty stiffness --out runs/stiff/stiffness
    python benchmarks/penalties.py experiments/stiff_node.py --quality rmse --out runs/penalties-stiff

A slow point x turns on a circle, a fast one y is drawn to a function of it:

    x1' = -x2,   x2' = x1,   y' = -k (y - x1 x2),   k = 100,

whose solution is known in closed form. It is observed at distances of 0.1, after each of which nothing is left of how
y started. The data hence ask for a fast attraction but not for how fast, and a penalty may slow it down.
`stability` in the metrics is the mean of |h| S / (stability bound of the solver) over the steps of the test
(`nde.Stiffness`), which is near 1 where stability limits them, as it does without a penalty.

This is the case for which `nde.StiffnessPenalty` is made. It lowers the evaluations of the field, more than
`nde.ErrorPenalty` does, and costs accuracy, too: table in docs/results.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import losses, nde, train
from sciml.experiment import Experiment, chosen, float_type, timed

# Name -> the regulariser and the first of its coefficients, which fall to a tenth in the course of the training.
PENALTIES: dict[str, tuple[nde.AbstractRegulariser, float]] = {
    "vanilla": (nde.Unregularised(), 0.0),
    "error": (nde.Penalised(nde.ErrorPenalty()), 1e-5),
    "error2": (nde.Penalised(nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0))), 1e-6),
    "stiffness": (nde.Penalised(nde.StiffnessPenalty()), 1e-4),
    "stiffest": (nde.Penalised(nde.StiffnessPenalty(reduce=nde.step_max)), 1e-4),
    "local": (nde.Penalised(nde.LocalErrorPenalty()), 1e-4),
    "steer": (nde.Steered(), 0.0),
    "taynode": (nde.Integrated(nde.per_dimension(nde.taylor(2))), 1e-8),
    "rnode": (nde.KineticJacobian(), 1e-7),
}
# Of the first coefficient, for benchmarks/penalties.py.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "error": (1e-6, 1e-5, 1e-4),
    "error2": (1e-7, 1e-6, 1e-5),
    "stiffness": (1e-5, 1e-4, 1e-3),
    "stiffest": (1e-5, 1e-4, 1e-3),
    "local": (1e-5, 1e-4, 1e-3),
    "taynode": (1e-9, 1e-8, 1e-7),
    "rnode": (1e-8, 1e-7, 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "node"
    """One of MODELS."""
    penalty: str = "vanilla"
    """One of PENALTIES."""
    coefficient: float | None = None
    """First coefficient of the penalty; by default the one of PENALTIES."""
    tolerance: float = 1e-3
    """Relative and absolute tolerance of the solver."""
    attraction: float = 100.0
    """The rate k of the true equation."""
    scale: float = 100.0
    """Rate of the fast entry of the model before training, about; that of the slow entries is 1."""
    hidden: int = 32
    """Hidden units in each of the two layers of the vector field."""
    steps: int = 1000
    """Optimiser steps."""
    batch: int = 64
    """Trajectories in a batch."""
    rate: float = 5e-3
    """Learning rate of Adam at the beginning; it falls to zero as a cosine."""
    judge: str = "test"
    """Trajectories that the finished run is judged on: test, or validation to choose a coefficient."""
    seed: int = 0
    """Seed of the initial weights, of the order of the trajectories and of what a penalty draws."""


PRESETS = {"full": Config(), "smoke": Config(attraction=20.0, scale=5.0, hidden=8, steps=4, batch=16)}
JUDGES = {"test": 1, "validation": 2}  # seeds of the trajectories
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
    controller = diffrax.PIDController(rtol=config.tolerance, atol=config.tolerance)
    network = eqx.nn.MLP(3, 3, config.hidden, depth=2, activation=jnp.tanh, key=key)
    solve = nde.Jointly(nde.Solve(diffrax.Tsit5(), controller, max_steps=2048))
    return nde.NeuralODE(Relaxation(network, (1.0, 1.0, config.scale)), solve)


MODELS = {"node": node}


def trajectories(count: int, seed: int, k: float, dtype: Any) -> np.ndarray:
    """States (count, times, 3) at TIMES from random ones: x between 0.5 and 1.5 from the origin, y between -1 and 1.

    With x = r (cos(t + a), sin(t + a)) the attracting function is x1 x2 = r^2 / 2 sin(2 (t + a)), and
    y = p(t) + (y(0) - p(0)) e^(-k t) with p = k r^2 / 2 (k sin(2 (t + a)) - 2 cos(2 (t + a))) / (k^2 + 4).
    """
    rng = np.random.default_rng(seed)
    r, a = rng.uniform(0.5, 1.5, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
    start = rng.uniform(-1, 1, (count, 1))
    at = TIMES + a
    p = k * r**2 / 2 * (k * np.sin(2 * at) - 2 * np.cos(2 * at)) / (k**2 + 4)
    y = p + (start - p[:, :1]) * np.exp(-k * TIMES)
    return np.stack((r * np.cos(at), r * np.sin(at), y), axis=-1).astype(dtype)


def evaluate(model: nde.NeuralODE, y: np.ndarray) -> Mapping[str, float]:
    """Error over all states, evaluations of the field, steps and their stability, seconds of a prediction."""
    y0, ts = jnp.asarray(y[:, 0]), jnp.asarray(TIMES, y.dtype)
    predict = eqx.filter_jit(lambda model: model.solution(y0, ts))
    (states, aux), seconds = timed(lambda: predict(model))
    limit = nde.StiffnessPenalty(nde.Stiffness(dt_power=1))  # of the same steps, as their mean
    _, measured = predict(dataclasses.replace(model, solve=nde.with_penalty(model.solve, limit)))
    error = np.asarray(states).swapaxes(0, 1) - y
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "nfe": int(nde.nfe(aux.stats, diffrax.Tsit5())),
        "steps": int(aux.stats["num_steps"]),
        "stability": float(measured.penalty),
        "predict_seconds": seconds,
    }


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    regulariser, first = chosen("a penalty", config.penalty, PENALTIES)
    make = chosen("a model", config.model, MODELS)
    dtype = float_type(config.tolerance)
    first = first if config.coefficient is None else config.coefficient
    coefficient = optax.exponential_decay(first, config.steps, 0.1)
    judged = trajectories(200, chosen("a judge", config.judge, JUDGES), config.attraction, dtype)

    def at(step: jax.Array) -> losses.Loss:
        def loss(model: nde.NeuralODE, batch: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            ts = jnp.asarray(TIMES, batch.dtype)
            states, penalty = regulariser(model.solve, model.field, batch[:, 0], ts, key=key)
            error = jnp.mean((states - batch.swapaxes(0, 1)) ** 2)
            return error + coefficient(step) * penalty, {"squared_error": error, "penalty": penalty}

        return loss

    return Experiment(
        model=make(config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(config.rate, config.steps)),
        train=trajectories(1024, 0, config.attraction, dtype),
        steps=config.steps,
        batch=config.batch,
        evaluate=evaluate,
        test=lambda resolution: judged,
        metric="rmse",
        split_batches=False,
        seed=config.seed,
    )
