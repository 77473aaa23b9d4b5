"""Handwritten digits by a neural SDE that is cheap to solve: real images of 8x8 from scikit-learn, ten classes.

    sciml train experiments/digits_sde.py --penalty error --out runs/digits-sde/error
    python benchmarks/penalties.py experiments/digits_sde.py --out runs/penalties-digits-sde

A linear map takes the image to 32 numbers, which move on [0, 1] by an SDE with the drift tanh(W2 tanh(W1 z + b1) + b2),
64 hidden units, and a linear diffusion with diagonal noise; another linear map of z(1) gives the classes. Training
draws one path for each image, the test averages the probabilities of several. A batch is solved as one equation with
one step size.

Setting: Pal, Ma, Shah, Rackauckas, "Opening the blackbox", ICML 2021, arXiv:2105.03918, on smaller images.
Differs from it in: scikit-learn's 1797 images instead of MNIST, SPaRK instead of SOSRI, which diffrax does not have, so
that the equation is one in the sense of Stratonovich; the stiffness along the step (`nde.DirectionalStiffness`), since
no two stages of SPaRK share a time; coefficients, which fall to a tenth. The test images are a fixed part, the same as
in experiments/digits_node.py; the last 200 of the others choose coefficients.
"""

import dataclasses
import functools
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

# Name -> the penalty and the first of its coefficients, which fall to a tenth in the course of the training.
PENALTIES: dict[str, tuple[nde.AbstractPenalty | None, float]] = {
    "vanilla": (None, 0.0),
    "error": (nde.ErrorPenalty(), 0.1),
    "error2": (nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0)), 0.01),
    "stiffness": (nde.StiffnessPenalty(nde.DirectionalStiffness()), 0.1),
    "local": (nde.LocalErrorPenalty(), 0.1),
}
# Of the first coefficient, for benchmarks/penalties.py.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "error": (0.03, 0.1, 0.3),
    "error2": (0.003, 0.01, 0.03),
    "stiffness": (0.01, 0.1, 1.0),
    "local": (0.03, 0.1, 0.3),
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
    size: int = 32
    """Entries of the state."""
    hidden: int = 64
    """Hidden units of the drift."""
    paths: int = 10
    """Paths for each image whose probabilities are averaged in the test."""
    steps: int = 400
    """Optimiser steps."""
    batch: int = 64
    """Images in a batch."""
    rate: float = 1e-2
    """Learning rate of Adam at the beginning; it falls to zero as a cosine."""
    judge: str = "test"
    """Images that the finished run is judged on: test, or validation to choose a coefficient."""
    seed: int = 0
    """Seed of the initial weights, of the order of the images and of the noise."""


PRESETS = {"full": Config(), "smoke": Config(tolerance=0.1, size=6, hidden=8, paths=2, steps=4, batch=16)}
SMALLEST = 2.0**-8  # step


class DigitsSDE(eqx.Module):
    """Scores of the ten classes from the state at time 1 of an SDE that starts from a linear map of the image."""

    encode: eqx.nn.Linear
    sde: nde.NeuralSDE
    readout: eqx.nn.Linear

    def __init__(self, config: Config, key: jax.Array) -> None:
        """Draws the weights."""
        encode_key, drift_key, diffusion_key, readout_key = jax.random.split(key, 4)
        size, identity = config.size, eqx.nn.Identity()
        drift = eqx.nn.MLP(size, size, config.hidden, 1, activation=jnp.tanh, final_activation=jnp.tanh, key=drift_key)
        controller = diffrax.PIDController(
            rtol=config.tolerance, atol=config.tolerance, pcoeff=0.1, icoeff=0.3, dtmin=SMALLEST, force_dtmin=True
        )
        self.encode = eqx.nn.Linear(64, size, key=encode_key)
        self.sde = nde.NeuralSDE(
            initial=identity,
            drift=nde.Together(nde.Autonomous(drift), size),
            diffusion=nde.Together(nde.Autonomous(eqx.nn.Linear(size, size, key=diffusion_key)), size),
            readout=identity,
            solve=nde.Solve(diffrax.SPaRK(), controller, dt0=0.01, max_steps=512),
            brownian=nde.BrownianTree(SMALLEST / 2),
        )
        self.readout = eqx.nn.Linear(size, 10, key=readout_key)

    def __call__(self, images: jax.Array, *, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        """Scores (batch, 10) of images (batch, 64) for one path of each, and what came with the solve."""
        start = jax.vmap(self.encode)(images)
        states, aux = self.sde.solution(start.reshape(-1), jnp.array([0.0, 1.0], images.dtype), key=key)
        return jax.vmap(self.readout)(states[-1].reshape(start.shape)), aux


MODELS = {"sde": DigitsSDE}


def digits(dtype: Any) -> dict[str, data.Arrays]:
    """Images (n, 64) and classes (n,) of the parts train, validation and test."""
    whole = {name: part[:] for name, part in data.digits().items()}
    return {name: data.Arrays(x.reshape(-1, 64).astype(dtype), label) for name, (x, label) in whole.items()}


def evaluate(model: DigitsSDE, images: data.Arrays, *, paths: int) -> Mapping[str, float]:
    """Accuracy and cross entropy of the mean probabilities, mean evaluations and steps, seconds for all the paths."""
    pixels, label = images[:]
    x = jnp.asarray(pixels)

    @eqx.filter_jit
    def predict(model: DigitsSDE, key: jax.Array) -> tuple[jax.Array, Any]:
        def one(key: jax.Array) -> tuple[jax.Array, Any]:
            scores, aux = model(x, key=key)
            return jax.nn.log_softmax(scores), aux.stats

        scores, stats = jax.lax.map(one, jax.random.split(key, paths))
        return jax.scipy.special.logsumexp(scores, axis=0) - jnp.log(paths), stats

    (log_probabilities, stats), seconds = timed(lambda: predict(model, jax.random.key(0)), repeats=5)
    wrong = float(np.mean(np.argmax(log_probabilities, axis=1) != label))
    return {
        "error": wrong,
        "accuracy": 1 - wrong,
        "cross_entropy": -float(np.mean(np.asarray(log_probabilities)[np.arange(len(label)), label])),
        "nfe": float(nde.nfe(stats, diffrax.SPaRK()).mean()),
        "steps": float(stats["num_steps"].mean()),
        "predict_seconds": seconds,
    }


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    penalty, first = chosen("a penalty", config.penalty, PENALTIES)
    make = chosen("a model", config.model, MODELS)
    dtype = float_type(config.tolerance)
    first = first if config.coefficient is None else config.coefficient
    coefficient = optax.exponential_decay(first, config.steps, 0.1)
    parts = digits(dtype)
    known, judged = parts.pop("train"), chosen("a judge", config.judge, parts)

    def at(step: jax.Array) -> losses.Loss:
        def loss(model: DigitsSDE, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            x, label = batch
            model = eqx.tree_at(lambda m: m.sde.solve, model, nde.with_penalty(model.sde.solve, penalty))
            scores, aux = model(x, key=key)
            error = optax.softmax_cross_entropy_with_integer_labels(scores, label).mean()
            return error + coefficient(step) * aux.penalty, {"cross_entropy": error, "penalty": aux.penalty}

        return loss

    return Experiment(
        model=make(config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(config.rate, config.steps)),
        train=known,
        steps=config.steps,
        batch=config.batch,
        evaluate=functools.partial(evaluate, paths=config.paths),
        test=lambda resolution: judged,
        metric="error",
        split_batches=False,
        seed=config.seed,
    )
