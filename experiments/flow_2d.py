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
import pathlib
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import losses, nde, plot, train
from sciml.experiment import Experiment, chosen, float_type, timed

# Name -> the regulariser and the first of its coefficients, which fall to a tenth in the course of the training.
PENALTIES: dict[str, tuple[nde.AbstractRegulariser, float]] = {
    "vanilla": (nde.Unregularised(), 0.0),
    "error": (nde.Penalised(nde.ErrorPenalty()), 0.1),
    "error2": (nde.Penalised(nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0))), 0.01),
    "stiffness": (nde.Penalised(nde.StiffnessPenalty()), 0.1),
    "local": (nde.Penalised(nde.LocalErrorPenalty()), 0.1),
    "steer": (nde.Steered(0.5), 0.0),
    "taynode": (nde.Integrated(nde.per_dimension(nde.taylor(2))), 0.01),
    "rnode": (nde.KineticJacobian(), 0.01),
}
# Of the first coefficient, for benchmarks/penalties.py.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "error": (0.03, 0.1, 0.3),
    "error2": (0.003, 0.01, 0.03),
    "stiffness": (0.01, 0.1, 1.0),
    "local": (0.03, 0.1, 0.3),
    "taynode": (0.001, 0.01, 0.1),
    "rnode": (0.001, 0.01, 0.1),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "cnf"
    """One of MODELS."""
    penalty: str = "vanilla"
    """One of PENALTIES."""
    coefficient: float | None = None
    """First coefficient of the penalty; by default the one of PENALTIES."""
    tolerance: float = 1e-5
    """Relative and absolute tolerance of the solver."""
    hidden: int = 64
    """Hidden units in each of the two layers of the vector field."""
    samples: int = 8000
    """Number of training samples."""
    steps: int = 1000
    """Optimiser steps."""
    batch: int = 256
    """Samples in a batch."""
    rate: float = 3e-3
    """Learning rate of Adam at the beginning; it falls to zero as a cosine."""
    judge: str = "test"
    """Samples that the finished run is judged on: test, or validation to choose a coefficient."""
    seed: int = 0
    """Seed of the initial weights, of the order of the samples and of what a penalty draws."""


PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-3, hidden=8, samples=64, steps=4, batch=16)}
JUDGES = {"test": 1, "validation": 2}  # seeds of the samples
EXTENT = -4.0, 4.0, -3.0, 3.0


def flow(config: Config, key: jax.Array) -> nde.CNF:
    """The model, of batches of samples."""
    controller = diffrax.PIDController(rtol=config.tolerance, atol=config.tolerance)
    field = nde.MLPField(2, widths=(config.hidden, config.hidden), key=key)
    return nde.CNF(field, 2, solve=nde.Jointly(nde.Solve(diffrax.Tsit5(), controller, max_steps=512)))


MODELS = {"cnf": flow}


def moons(count: int, seed: int, dtype: Any) -> np.ndarray:
    """Points (count, 2) of two half circles of radius 2 that reach into each other, with normal noise of 0.2."""
    rng = np.random.default_rng(seed)
    angle, lower = rng.uniform(0, np.pi, count), rng.random(count) < 0.5
    arc = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    x = np.where(lower[:, None], (1.0, 0.5) - arc, arc) - (0.5, 0.25)
    return (2 * x + 0.2 * rng.normal(size=x.shape)).astype(dtype)


@eqx.filter_jit
def log_density(model: nde.CNF, x: jax.Array) -> tuple[jax.Array, nde.Aux]:
    """The logarithm of the density at x (n, 2), and the statistics of the solve."""
    return model.solution(x)


def evaluate(model: nde.CNF, x: np.ndarray) -> Mapping[str, float]:
    """Negative log density, evaluations of the field and steps of the one solve, seconds of a prediction."""
    at = jnp.asarray(x)
    (log_prob, aux), seconds = timed(lambda: log_density(model, at))
    return {
        "nll": -float(jnp.mean(log_prob)),
        "nfe": int(nde.nfe(aux.stats, diffrax.Tsit5())),
        "steps": int(aux.stats["num_steps"]),
        "predict_seconds": seconds,
    }


def draw(models: Mapping[str, nde.CNF], x: np.ndarray, path: pathlib.Path) -> None:
    """The data, and the density and samples of each model."""
    left, right, low, high = EXTENT
    nodes = np.meshgrid(np.linspace(left, right, 80), np.linspace(low, high, 60), indexing="ij")
    at = jnp.asarray(np.stack(nodes, axis=-1).reshape(-1, 2), x.dtype)
    sample = eqx.filter_jit(lambda model, key: model.sample(key=key, shape=x.shape[:1]))
    found = {
        name: (np.exp(log_density(model, at)[0]).reshape(80, 60), np.asarray(sample(model, jax.random.key(0))))
        for name, model in models.items()
    }
    plot.save(plot.densities(x, found, extent=EXTENT), path)


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    regulariser, first = chosen("a penalty", config.penalty, PENALTIES)
    make = chosen("a model", config.model, MODELS)
    dtype = float_type(config.tolerance)
    first = first if config.coefficient is None else config.coefficient
    coefficient = optax.exponential_decay(first, config.steps, 0.1)
    judged = moons(4800, chosen("a judge", config.judge, JUDGES), dtype)

    def at(step: jax.Array) -> losses.Loss:
        def loss(model: nde.CNF, x: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            solve = nde.Integrating(model.solve, {"divergence": nde.divergence})
            ts = jnp.array([0.0, model.t1], x.dtype)
            (y, integrals), penalty = regulariser(solve, model.field, x, ts, key=key)
            log_prob = jax.scipy.stats.norm.logpdf(y[-1]).sum(axis=-1) + integrals["divergence"][-1]
            error = -jnp.mean(log_prob)
            return error + coefficient(step) * penalty, {"nll": error, "penalty": penalty}

        return loss

    return Experiment(
        model=make(config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(config.rate, config.steps)),
        train=moons(config.samples, 0, dtype),
        steps=config.steps,
        batch=config.batch,
        evaluate=evaluate,
        test=lambda resolution: judged,
        metric="nll",
        figures=lambda models, where: draw(models, judged, where / "density.png"),
        split_batches=False,
        seed=config.seed,
    )
