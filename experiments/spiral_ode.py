"""A spiral learned from one noisy trajectory by a neural ODE that is cheap to solve.

    JAX_ENABLE_X64=1 sciml train experiments/spiral_ode.py --penalty error --out runs/spiral/error

The data are the points of dy/dt = A y^3 (cubes of the entries), A = [[-0.1, 2], [-2, -0.1]], from y(0) = (2, 0), an
example that the papers on neural ODEs share since Chen et al., 2018, arXiv:1806.07366. The field is a network of the
cubes with one layer of 50 hidden units, trained on short pieces of the trajectory, and tested on longer trajectories
from other states in the region that the data go through.

The equation is identified here, which penalties are not made for: whatever it costs to solve beyond the true equation
(`nfe_true` in the metrics, of the same solve) is the network's, the rest cannot be saved without an error. Compare
experiments/digits_node.py, where only the end of the solution matters. Tolerances of 1e-7 and less need float64,
`JAX_ENABLE_X64=1`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.integrate import solve_ivp

from sciml import losses, nde, train
from sciml.experiment import Experiment, chosen, float_type, timed

# Name -> the regulariser and the first of its coefficients, which fall to a tenth in the course of the training.
PENALTIES: dict[str, tuple[nde.AbstractRegulariser, float]] = {
    "vanilla": (nde.Unregularised(), 0.0),
    "error": (nde.Penalised(nde.ErrorPenalty()), 1e-3),
    "error2": (nde.Penalised(nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0))), 1e-4),
    "stiffness": (nde.Penalised(nde.StiffnessPenalty()), 1e-3),
    "local": (nde.Penalised(nde.LocalErrorPenalty()), 1e-3),
    "steer": (nde.Steered(), 0.0),
    "taynode": (nde.Integrated(nde.per_dimension(nde.taylor(2))), 1e-6),
    "rnode": (nde.KineticJacobian(), 1e-5),
}
# Of the first coefficient, for benchmarks/penalties.py.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "error": (1e-4, 1e-3, 1e-2),
    "error2": (1e-5, 1e-4, 1e-3),
    "stiffness": (1e-4, 1e-3, 1e-2),
    "local": (1e-4, 1e-3, 1e-2),
    "taynode": (1e-7, 1e-6, 1e-5),
    "rnode": (1e-6, 1e-5, 1e-4),
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
    tolerance: float = 1e-8
    """Relative and absolute tolerance of the solver."""
    hidden: int = 50
    """Hidden units of the vector field."""
    noise: float = 0.01
    """Standard deviation of the noise on the trajectory; the test data have none."""
    points: int = 1000
    """Points of the trajectory, equally spaced in [0, 20]."""
    piece: int = 25
    """Points of a piece, the first of which is its initial state."""
    steps: int = 1500
    """Optimiser steps."""
    batch: int = 64
    """Pieces in a batch."""
    rate: float = 1e-2
    """Learning rate of Adam at the beginning; it falls to zero as a cosine."""
    judge: str = "test"
    """Trajectories that the finished run is judged on: test, or validation to choose a coefficient."""
    seed: int = 0
    """Seed of the initial weights, of the noise, of the order of the pieces and of what a penalty draws."""


PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-3, hidden=8, points=100, piece=5, steps=4, batch=16)}
END, TEST_TIMES = 20.0, np.linspace(0, 5, 101)
JUDGES = {"test": 1, "validation": 2}  # seeds of the trajectories
MATRIX = np.array([[-0.1, 2.0], [-2.0, -0.1]])


class Cubes(eqx.Module):
    """The field dy/dt = network(y^3), with the cubes of the entries."""

    network: Callable[[jax.Array], jax.Array]

    def __call__(self, t: Any, y: jax.Array, args: Any = None) -> jax.Array:
        """The field at y."""
        return self.network(y**3)


def true_field(t: Any, y: jax.Array, args: Any = None) -> jax.Array:
    """The equation that the data come from."""
    return jnp.asarray(MATRIX, y.dtype) @ y**3


def node(config: Config, key: jax.Array) -> nde.NeuralODE:
    """The model, of batches of initial states."""
    controller = diffrax.PIDController(rtol=config.tolerance, atol=config.tolerance)
    network = eqx.nn.MLP(2, 2, config.hidden, depth=1, activation=jnp.tanh, key=key)
    return nde.NeuralODE(Cubes(network), nde.Jointly(nde.Solve(diffrax.Tsit5(), controller, max_steps=1024)))


MODELS = {"node": node}


def solution(y0: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """The true states (times, 2)."""
    field = lambda t, y: MATRIX @ y**3
    return solve_ivp(field, (ts[0], ts[-1]), y0, method="DOP853", t_eval=ts, rtol=1e-11, atol=1e-11).y.T


def pieces(config: Config, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times (piece,) and states (n, piece, 2) of all pieces of the one trajectory, with noise."""
    ts = np.linspace(0, END, config.points)
    y = solution(np.array([2.0, 0.0]), ts)
    y = y + config.noise * np.random.default_rng(config.seed).normal(size=y.shape)
    cut = np.lib.stride_tricks.sliding_window_view(y, config.piece, axis=0).transpose(0, 2, 1)
    return ts[: config.piece].astype(dtype), cut.astype(dtype)


def unseen(seed: int, dtype: Any, count: int = 40) -> np.ndarray:
    """States (count, times, 2) at TEST_TIMES, from random states, whose distance from 0 is between 1 and 2."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(1, 2, count)
    y = [solution(y0, TEST_TIMES) for y0 in (radius * np.array([np.cos(angle), np.sin(angle)])).T]
    return np.stack(y).astype(dtype)


def evaluate(model: nde.NeuralODE, y: np.ndarray) -> Mapping[str, float]:
    """Error over all states, evaluations of the field and steps of the one solve, seconds of a prediction."""
    y0, ts = jnp.asarray(y[:, 0]), jnp.asarray(TEST_TIMES, y.dtype)
    predict = eqx.filter_jit(lambda model: model.solution(y0, ts))
    (states, aux), seconds = timed(lambda: predict(model))
    _, true = predict(dataclasses.replace(model, field=true_field))
    error = np.asarray(states).swapaxes(0, 1) - y
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "nfe": int(nde.nfe(aux.stats, diffrax.Tsit5())),
        "nfe_true": int(nde.nfe(true.stats, diffrax.Tsit5())),
        "steps": int(aux.stats["num_steps"]),
        "predict_seconds": seconds,
    }


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    regulariser, first = chosen("a penalty", config.penalty, PENALTIES)
    make = chosen("a model", config.model, MODELS)
    dtype = float_type(config.tolerance)
    first = first if config.coefficient is None else config.coefficient
    coefficient = optax.exponential_decay(first, config.steps, 0.1)
    times, known = pieces(config, dtype)
    judged = unseen(chosen("a judge", config.judge, JUDGES), dtype)

    def at(step: jax.Array) -> losses.Loss:
        def loss(model: nde.NeuralODE, batch: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            ts = jnp.asarray(times)
            states, penalty = regulariser(model.solve, model.field, batch[:, 0], ts, key=key)
            error = jnp.mean((states - batch.swapaxes(0, 1)) ** 2)
            return error + coefficient(step) * penalty, {"squared_error": error, "penalty": penalty}

        return loss

    rate = optax.cosine_decay_schedule(config.rate, config.steps)
    return Experiment(
        model=make(config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adam)(rate),
        train=known,
        steps=config.steps,
        batch=config.batch,
        evaluate=evaluate,
        test=lambda resolution: judged,
        metric="rmse",
        split_batches=False,
        seed=config.seed,
    )
