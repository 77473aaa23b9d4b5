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
share a time; more optimiser steps, with a rate that falls to zero; coefficients, which fall to a tenth.
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

from sciml import losses, nde, train
from sciml.experiment import Experiment, chosen, float_type, timed

# Name -> the penalty and the first of its coefficients, which fall to a tenth in the course of the training.
PENALTIES: dict[str, tuple[nde.AbstractPenalty | None, float]] = {
    "vanilla": (None, 0.0),
    "error": (nde.ErrorPenalty(), 3.0),
    "error2": (nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0)), 0.1),
    "stiffness": (nde.StiffnessPenalty(nde.DirectionalStiffness()), 0.1),
    "local": (nde.LocalErrorPenalty(), 3.0),
}
# Of the first coefficient, for benchmarks/penalties.py.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "error": (1.0, 3.0, 10.0),
    "error2": (0.03, 0.1, 0.3),
    "stiffness": (0.01, 0.1, 1.0),
    "local": (1.0, 3.0, 10.0),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "sde"
    """One of MODELS."""
    penalty: str = "vanilla"
    """One of PENALTIES."""
    coefficient: float | None = None
    """First coefficient of the penalty; by default the one of PENALTIES."""
    tolerance: float = 3e-3
    """Relative and absolute tolerance of the solver."""
    hidden: int = 50
    """Hidden units of the drift."""
    samples: int = 10000
    """Paths of the process that the known moments are those of."""
    paths: int = 4000
    """Paths of the model that the finished run is judged by."""
    steps: int = 500
    """Optimiser steps."""
    batch: int = 100
    """Paths of the model in an optimiser step."""
    rate: float = 1e-2
    """Learning rate of AdaBelief at the beginning; it falls to zero as a cosine."""
    judge: str = "test"
    """Moments that the finished run is judged on: test, or validation to choose a coefficient."""
    seed: int = 0
    """Seed of the initial weights and of the noise in the model's paths."""


PRESETS = {"full": Config(), "smoke": Config(tolerance=0.1, hidden=8, samples=200, paths=50, steps=4, batch=16)}
START, DRIFT, NOISE = np.array([2.0, 0.0]), np.array([[-0.1, 2.0], [-2.0, -0.1]]), 0.2
TIMES = np.linspace(0, 1, 30)
SMALLEST = 2.0**-10  # step
JUDGES = {"test": 1, "validation": 2}  # seeds of the process


class Cubes(eqx.Module):
    """The drift network(u^3), with the cubes of the entries."""

    network: Callable[[jax.Array], jax.Array]

    def __call__(self, t: Any, u: jax.Array, args: Any = None) -> jax.Array:
        """The drift at u."""
        return self.network(u**3)


def sde(config: Config, key: jax.Array) -> nde.NeuralSDE:
    """The model, of the initial states of all paths in one vector."""
    drift_key, diffusion_key = jax.random.split(key)
    controller = diffrax.PIDController(
        rtol=config.tolerance, atol=config.tolerance, pcoeff=0.1, icoeff=0.3, dtmin=SMALLEST, force_dtmin=True
    )
    identity = eqx.nn.Identity()
    return nde.NeuralSDE(
        initial=identity,
        drift=nde.Together(Cubes(eqx.nn.MLP(2, 2, config.hidden, depth=1, activation=jnp.tanh, key=drift_key)), 2),
        diffusion=nde.Together(nde.Autonomous(eqx.nn.Linear(2, 2, key=diffusion_key)), 2),
        readout=identity,
        solve=nde.Solve(diffrax.SPaRK(), controller, dt0=0.01, max_steps=1024),
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


def evaluate(model: nde.NeuralSDE, judged: tuple[Paths, int]) -> Mapping[str, float]:
    """Error of the moments, evaluations of the drift and steps of the one solve, seconds of a prediction."""
    data, paths = judged
    start = jnp.tile(jnp.asarray(data.u[:1, 0]), (paths, 1))
    predict = eqx.filter_jit(lambda model, key: solution(model, start, key))
    (u, aux), seconds = timed(lambda: predict(model, jax.random.key(0)))
    return {
        "mse": float(nde.moment_matching(u, *map(jnp.asarray, data.moments))) / data.u[0].size,
        "nfe": int(nde.nfe(aux.stats, diffrax.SPaRK())),
        "steps": int(aux.stats["num_steps"]),
        "predict_seconds": seconds,
    }


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    penalty, first = chosen("a penalty", config.penalty, PENALTIES)
    make = chosen("a model", config.model, MODELS)
    dtype = float_type(config.tolerance)
    first = first if config.coefficient is None else config.coefficient
    coefficient = optax.exponential_decay(first, config.steps, 0.1)
    known = process(config.samples, 0, dtype)
    judged = process(config.samples, chosen("a judge", config.judge, JUDGES), dtype), config.paths
    means, variances = known.moments

    def at(step: jax.Array) -> losses.Loss:
        def loss(model: nde.NeuralSDE, start: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            model = dataclasses.replace(model, solve=nde.with_penalty(model.solve, penalty))
            u, aux = solution(model, start, key)
            error = nde.moment_matching(u, jnp.asarray(means), jnp.asarray(variances))
            return error + coefficient(step) * aux.penalty, {"moments": error, "penalty": aux.penalty}

        return loss

    rate = optax.cosine_decay_schedule(config.rate, config.steps)
    return Experiment(
        model=make(config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adabelief)(rate),
        train=known,
        steps=config.steps,
        batch=config.batch,
        evaluate=evaluate,
        test=lambda resolution: judged,
        metric="mse",
        split_batches=False,
        seed=config.seed,
    )
