"""A spiral with noise, learned from its moments by a neural SDE that is cheap to solve.

    sciml train experiments/spiral_sde.py --penalty error --out runs/spiral-sde/error
    python benchmarks/penalties.py experiments/spiral_sde.py --quality mse --out runs/penalties-spiral-sde

The process is, in the sense of Ito,

    du1 = (-a u1^3 + b u2^3) dt + c u1 dW1,   du2 = (-b u1^3 - a u2^3) dt + c u2 dW2,   u(0) = (2, 0),

with a = 0.1, b = 2, c = 0.2, of which the means and variances of 10000 paths at 30 times in [0, 1] are known. The model
has the drift W2 tanh(W1 u^3 + b1) + b2 with 50 hidden units and a linear diffusion with diagonal noise, and the loss
compares the moments of its paths with the known ones (`nde.moment_matching`). A batch is solved as one equation. `mse`
in the metrics is the mean of both squared differences, for 4000 paths of the model and moments that it has not seen.

Setting: Pal, Ma, Shah, Rackauckas, "Opening the blackbox", ICML 2021, arXiv:2105.03918. Differs from it
in: SPaRK instead of SOSRI, which diffrax does not have, so that the model is an equation in the sense of Stratonovich,
whose drift is another one; the stiffness along the step (`nde.DirectionalStiffness`), since no two stages of SPaRK
share a time; more optimiser steps, with a learning rate that falls to zero; coefficients, which fall to a tenth.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import nde, systems, tasks
from sciml.experiment import Count, Experiment, Positive, Training
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
    tolerance: Positive = 3e-3
    """Relative and absolute tolerance of the solver."""
    hidden: Count = 50
    """Hidden units of the drift."""
    samples: Count = 10000
    """Paths of the process whose moments are known."""
    paths: Count = 4000
    """Paths of the model in the test."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=500, batch=100, lr=1e-2)
    """Length and learning rate of the training; a batch are paths of the model."""


_SHORT = Training(steps=4, batch=16, lr=1e-2)
PRESETS = {"full": Config(), "smoke": Config(tolerance=0.1, hidden=8, samples=200, paths=50, run=_SHORT)}
TIMES = np.linspace(0, 1, 30)
SMALLEST = 2.0**-10  # step


def sde(config: Config, key: jax.Array) -> nde.NeuralSDE:
    """The model, of the initial states of all paths in one vector."""
    drift_key, diffusion_key = jax.random.split(key)
    drift = Cubes(eqx.nn.MLP(2, 2, config.hidden, depth=1, activation=jnp.tanh, key=drift_key))
    solve = tasks.sde_solve(config.tolerance, 1024, SMALLEST)
    return tasks.joint_sde(drift, 2, solve=solve, smallest=SMALLEST, key=diffusion_key)


MODELS = {"sde": sde}


def solution(model: nde.NeuralSDE, start: jax.Array, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
    """Paths (n, times, 2) from initial states (n, 2), and what came with the solve."""
    states, aux = model.solution(start.reshape(-1), jnp.asarray(TIMES, start.dtype), key=key)
    return states.reshape(len(TIMES), *start.shape).swapaxes(0, 1), aux


def moments(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances (times, 2) of paths."""
    return u.mean(axis=0), u.var(axis=0, ddof=1)


def evaluate(model: nde.NeuralSDE, test: tuple[np.ndarray, int]) -> Mapping[str, float]:
    """Error of the moments of some paths of the model, and costs of the one solve."""
    true, paths = test
    start = jnp.tile(jnp.asarray(true[:1, 0]), (paths, 1))
    predict = eqx.filter_jit(lambda model, key: solution(model, start, key))
    u, costs = tasks.solve_metrics(model, lambda: predict(model, jax.random.key(0)))
    error = nde.moment_matching(u, *map(jnp.asarray, moments(true))) / true[0].size
    return {"mse": tasks.or_infinite(error), **costs}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    draws = {"train": 0, "validation": 2, "test": 1}  # seeds
    known = functools.cache(lambda part: systems.noisy_spiral(TIMES, config.samples, draws[part]))

    def parts(dtype: np.dtype) -> dict[str, Any]:
        others = {name: (known(name).astype(dtype), config.paths) for name in ("validation", "test")}
        return {"train": known("train")[:, 0].astype(dtype), **others}

    def task(model: nde.NeuralSDE, start: jax.Array, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        u, aux = solution(model, start, key)
        return nde.moment_matching(u, *map(jnp.asarray, moments(known("train").astype(start.dtype)))), aux

    optimiser = tasks.cosine(optax.adabelief, config.run, config.run.steps_for(config.samples))
    return tasks.dynamics(config, MODELS, PENALTIES, parts, task, evaluate, metric="mse", optimiser=optimiser)
