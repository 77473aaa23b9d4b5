"""Handwritten digits by a neural ODE that is cheap to solve: real images of 8x8 from scikit-learn, ten classes.

    JAX_ENABLE_X64=1 sciml train experiments/digits_node.py --penalty error --out runs/digits/error
    python benchmarks/penalties.py experiments/digits_node.py --seeds 5      (the comparison of all penalties)

The image is the initial state of dz/dt = tanh(W2 [tanh(W1 [z, t] + b1), t] + b2) on [0, 1] with 100 hidden units, and a
linear map of z(1) gives the classes: the model of Pal, Ma, Shah, Rackauckas, "Opening the blackbox", ICML 2021, on
smaller images. A batch is solved as one equation with one step size, as there, by Tsit5. Table: docs/results.md.

Tolerances of 1e-7 and less need float64, `JAX_ENABLE_X64=1`. Differs from the source in: scikit-learn's 1797 images
instead of MNIST, a linear readout from z(1) of 64 entries, Adam, and discrete gradients at the taken steps by reverse
mode through the solver. The test images are a fixed part; the last 200 of the others choose coefficients.
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

from sciml import data, losses, nde, train
from sciml.experiment import Experiment, chosen, float_type, timed

# Name -> the regulariser and the first of its coefficients, which fall to a tenth in the course of the training.
# Chosen on the validation images by benchmarks/penalties.py; for `error` the cautious one of docs/results.md.
PENALTIES: dict[str, tuple[nde.AbstractRegulariser, float]] = {
    "vanilla": (nde.Unregularised(), 0.0),
    "error": (nde.Penalised(nde.ErrorPenalty()), 0.1),
    "error2": (nde.Penalised(nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0))), 0.01),
    "stiffness": (nde.Penalised(nde.StiffnessPenalty()), 0.1),
    "local": (nde.Penalised(nde.LocalErrorPenalty()), 0.1),
    "fresh": (nde.Penalised(nde.FreshErrorPenalty()), 1e4),
    "steer": (nde.Steered(0.5), 0.0),
    "taynode": (nde.Integrated(nde.per_dimension(nde.taylor(2))), 0.1),
    "rnode": (nde.KineticJacobian(), 0.1),
}
CANDIDATES: dict[str, tuple[float, ...]] = {
    "error": (0.1, 0.15, 0.2, 0.3),
    "error2": (0.01, 0.03),
    "stiffness": (0.01, 0.1),
    "local": (0.1, 0.3),
    "fresh": (1e4,),
    "taynode": (0.1, 1.0),
    "rnode": (0.1, 1.0),
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
    tolerance: float = 1.4e-8
    """Relative and absolute tolerance of the solver."""
    hidden: int = 100
    """Hidden units of the vector field."""
    steps: int = 500
    """Optimiser steps."""
    batch: int = 128
    """Images in a batch."""
    rate: float = 3e-3
    """Learning rate of Adam."""
    judge: str = "test"
    """Images that the finished run is judged on: test, or validation to choose a coefficient."""
    seed: int = 0
    """Seed of the initial weights, of the order of the images and of what a penalty draws."""


PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-3, hidden=8, steps=4, batch=16)}


class DigitsODE(eqx.Module):
    """Scores of the ten classes from the state at time 1 of an ODE that starts from the image."""

    field: nde.MLPField
    readout: eqx.nn.Linear
    solve: nde.AbstractSolve

    def __init__(self, config: Config, key: jax.Array) -> None:
        """Draws the weights."""
        field_key, readout_key = jax.random.split(key)
        self.field = nde.MLPField(64, widths=(config.hidden,), last=jnp.tanh, key=field_key)
        self.readout = eqx.nn.Linear(64, 10, key=readout_key)
        controller = diffrax.PIDController(rtol=config.tolerance, atol=config.tolerance)
        self.solve = nde.Jointly(nde.Solve(diffrax.Tsit5(), controller, max_steps=256))

    def scores(self, end: jax.Array) -> jax.Array:
        """Scores (batch, 10) from the states at time 1."""
        return jax.vmap(self.readout)(end)

    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Scores (batch, 10) of images (batch, 64), and the statistics of the solve."""
        states, aux = self.solve(self.field, images, jnp.array([0.0, 1.0], images.dtype))
        return self.scores(states[-1]), aux.stats


MODELS = {"node": DigitsODE}


def digits(dtype: Any) -> dict[str, data.Arrays]:
    """Images (n, 64) and classes (n,) of the parts train, validation and test."""
    whole = {name: part[:] for name, part in data.digits().items()}
    return {name: data.Arrays(x.reshape(-1, 64).astype(dtype), label) for name, (x, label) in whole.items()}


def evaluate(model: DigitsODE, images: data.Arrays) -> Mapping[str, float]:
    """Accuracy and cross entropy, evaluations of the field and steps of the one solve, seconds of a prediction."""
    predict = eqx.filter_jit(model)
    pixels, label = images[:]
    x = jnp.asarray(pixels)
    (scores, stats), seconds = timed(lambda: predict(x))
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.asarray(label))
    wrong = float(np.mean(np.argmax(scores, axis=1) != label))
    return {
        "error": wrong,
        "accuracy": 1 - wrong,
        "cross_entropy": float(loss.mean()),
        "nfe": int(nde.nfe(stats, diffrax.Tsit5())),
        "steps": int(stats["num_steps"]),
        "predict_seconds": seconds,
    }


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    regulariser, first = chosen("a penalty", config.penalty, PENALTIES)
    make = chosen("a model", config.model, MODELS)
    dtype = float_type(config.tolerance)
    first = first if config.coefficient is None else config.coefficient
    coefficient = optax.exponential_decay(first, config.steps, 0.1)
    parts = digits(dtype)
    known, judged = parts.pop("train"), chosen("a judge", config.judge, parts)

    def at(step: jax.Array) -> losses.Loss:
        def loss(model: DigitsODE, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            x, label = batch
            ts = jnp.array([0.0, 1.0], x.dtype)
            states, penalty = regulariser(model.solve, model.field, x, ts, key=key)
            scores = model.scores(states[-1])
            error = optax.softmax_cross_entropy_with_integer_labels(scores, label).mean()
            return error + coefficient(step) * penalty, {"cross_entropy": error, "penalty": penalty}

        return loss

    return Experiment(
        model=make(config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adam)(config.rate),
        train=known,
        steps=config.steps,
        batch=config.batch,
        evaluate=evaluate,
        test=lambda resolution: judged,
        metric="error",
        split_batches=False,
        seed=config.seed,
    )
