"""A spiral with noise, learned from its moments by a neural SDE that is cheap to solve.

    sciml train experiments/spiral_sde.py --penalty error --out runs/spiral-sde/error
    python benchmarks/penalties.py experiments/spiral_sde.py --quality mse --out runs/penalties-spiral-sde

The process is, in the sense of Ito,

    du1 = (-a u1^3 + b u2^3) dt + c u1 dW1,   du2 = (-b u1^3 - a u2^3) dt + c u2 dW2,   u(0) = (2, 0),

with a = 0.1, b = 2, c = 0.2, of which the means and variances of 10000 paths at 30 times in [0, 1] are known. The model
has the drift W2 tanh(W1 u^3 + b1) + b2 with 50 hidden units and a linear diffusion with diagonal noise, and the loss
compares the moments of its paths with the known ones (`nde.moment_matching`). All paths of a batch are solved as one
equation with one step size. `mse` in the metrics is the mean over times and entries of both squared differences, for
4000 paths of the model and moments that it has not seen.

Setting: Pal, Ma, Shah, Rackauckas, "Opening the blackbox", ICML 2021, arXiv:2105.03918. Differs from it
in: SPaRK instead of SOSRI, which diffrax does not have, so that the model is an equation in the sense of Stratonovich,
whose drift is another one; the stiffness along the step (`nde.DirectionalStiffness`), since no two stages of SPaRK
share a time; more optimiser steps, with a learning rate that falls to zero; coefficients, which fall to a tenth.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import nde, tasks
from sciml.experiment import Experiment, Training, chosen, float_type
from sciml.tasks import Cubes

PENALTIES = tasks.penalties(
    error=(3.0, 1.0, 10.0),
    error2=(0.1, 0.03, 0.3),
    stiffness=tasks.Regularised(nde.StiffnessPenalty(nde.DirectionalStiffness()), (0.1, 0.01, 1.0)),
    local=(3.0, 1.0, 10.0),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "sde"
    """One of MODELS."""
    tolerance: float = 3e-3
    """Relative and absolute tolerance of the solver."""
    hidden: int = 50
    """Hidden units of the drift."""
    samples: int = 10000
    """Paths of the process whose moments are known."""
    paths: int = 4000
    """Paths of the model in the test."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=500, batch=100, lr=1e-2)
    """Length and learning rate of the training; a batch are paths of the model."""


_SHORT = Training(steps=4, batch=16, lr=1e-2)
PRESETS = {"full": Config(), "smoke": Config(tolerance=0.1, hidden=8, samples=200, paths=50, run=_SHORT)}
START, DRIFT, NOISE = np.array([2.0, 0.0]), np.array([[-0.1, 2.0], [-2.0, -0.1]]), 0.2
TIMES = np.linspace(0, 1, 30)
SMALLEST = 2.0**-10  # step


def sde(config: Config, key: jax.Array) -> nde.NeuralSDE:
    """The model, of the initial states of all paths in one vector."""
    drift_key, diffusion_key = jax.random.split(key)
    drift = Cubes(eqx.nn.MLP(2, 2, config.hidden, depth=1, activation=jnp.tanh, key=drift_key))
    identity = eqx.nn.Identity()
    return nde.NeuralSDE(
        initial=identity,
        drift=nde.Together(drift, 2),
        diffusion=nde.Together(nde.Autonomous(eqx.nn.Linear(2, 2, key=diffusion_key)), 2),
        readout=identity,
        solve=tasks.sde_solve(config.tolerance, 1024, SMALLEST),
        brownian=nde.BrownianTree(SMALLEST / 2),
    )


MODELS = {"sde": sde}


@dataclasses.dataclass(frozen=True)
class Paths:
    """Paths (n, times, 2) of the process at TIMES."""

    u: np.ndarray

    def __len__(self) -> int:
        """Number of paths."""
        return len(self.u)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Initial states (rows, 2)."""
        return self.u[rows, 0]

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances (times, 2)."""
        return self.u.mean(axis=0), self.u.var(axis=0, ddof=1)


def process(count: int, seed: int, dtype: Any, substeps: int = 40) -> Paths:
    """Paths by Milstein's method with that many steps between two times."""
    rng = np.random.default_rng(seed)
    h = (TIMES[1] - TIMES[0]) / substeps
    u = np.tile(START, (count, 1))
    found = [u]
    for _ in TIMES[1:]:
        for _ in range(substeps):
            dw = np.sqrt(h) * rng.normal(size=u.shape)
            u = u + h * u**3 @ DRIFT.T + NOISE * u * dw + 0.5 * NOISE**2 * u * (dw**2 - h)
        found.append(u)
    return Paths(np.stack(found, axis=1).astype(dtype))


def solution(model: nde.NeuralSDE, start: jax.Array, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
    """Paths (n, times, 2) from initial states (n, 2), and what came with the solve."""
    states, aux = model.solution(start.reshape(-1), jnp.asarray(TIMES, start.dtype), key=key)
    return states.reshape(len(TIMES), *start.shape).swapaxes(0, 1), aux


def evaluate(model: nde.NeuralSDE, test: tuple[Paths, int]) -> Mapping[str, float]:
    """Error of the moments, and costs of the one solve."""
    data, paths = test
    start = jnp.tile(jnp.asarray(data.u[:1, 0]), (paths, 1))
    predict = eqx.filter_jit(lambda model, key: solution(model, start, key))
    u, costs = tasks.solve_metrics(model, lambda: predict(model, jax.random.key(0)))
    return {"mse": float(nde.moment_matching(u, *map(jnp.asarray, data.moments))) / data.u[0].size, **costs}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    model = chosen("a model", config.model, MODELS)(config, jax.random.key(config.run.seed))
    known, validation, test = (process(config.samples, seed, float_type(config.tolerance)) for seed in (0, 2, 1))
    parts = {"train": known, "validation": (validation, config.paths), "test": (test, config.paths)}
    moments = tuple(map(jnp.asarray, known.moments))

    def task(model: nde.NeuralSDE, start: jax.Array, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        u, aux = solution(model, start, key)
        return nde.moment_matching(u, *moments), aux

    groups = {"training": config.run, "regularise": config.regularise, "known": PENALTIES}
    optimiser = tasks.cosine(optax.adabelief, config.run, config.run.steps_for(len(known)))
    return tasks.dynamics(model, task, evaluate, parts, **groups, metric="mse", optimiser=optimiser)
