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
import time
from collections.abc import Callable, Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import nde, train
from sciml.experiment import Experiment

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


class Together(eqx.Module):
    """The field of one path for the states of several paths one behind the other, which are solved as one equation."""

    field: Callable[..., jax.Array]
    size: int = eqx.field(static=True)

    def __call__(self, t: Any, z: jax.Array, args: Any = None) -> jax.Array:
        """The field at all states."""
        return jax.vmap(lambda z: self.field(t, z, args))(z.reshape(-1, self.size)).reshape(-1)


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
            drift=Together(nde.Autonomous(drift), size),
            diffusion=Together(nde.Autonomous(eqx.nn.Linear(size, size, key=diffusion_key)), size),
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


@dataclasses.dataclass(frozen=True)
class Images:
    """Images (n, 64) in [0, 1], their classes (n,) and the number of paths for each."""

    x: np.ndarray
    label: np.ndarray
    paths: int = 1

    def __len__(self) -> int:
        """Number of images."""
        return len(self.x)

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Images and classes at an index array or slice."""
        return self.x[rows], self.label[rows]


def digits(paths: int, dtype: Any) -> dict[str, Images]:
    """The parts train (1237), validation (200) and test (360), the latter two to be judged by several paths.

    Raises:
        ModuleNotFoundError: If scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError("The digits come with scikit-learn: pip install 'sciml[datasets]'.") from None
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, label = (images[order] / 16).astype(dtype), labels[order].astype(np.int32)
    return {
        "train": Images(x[360:-200], label[360:-200]),
        "validation": Images(x[-200:], label[-200:], paths),
        "test": Images(x[:360], label[:360], paths),
    }


def evaluate(model: DigitsSDE, images: Images) -> Mapping[str, float]:
    """Accuracy and cross entropy of the mean probabilities, mean evaluations and steps, seconds for all the paths."""
    x, label = jnp.asarray(images.x), images.label

    @eqx.filter_jit
    def predict(model: DigitsSDE, key: jax.Array) -> tuple[jax.Array, Any]:
        def one(key: jax.Array) -> tuple[jax.Array, Any]:
            scores, aux = model(x, key=key)
            return jax.nn.log_softmax(scores), aux.stats

        scores, stats = jax.lax.map(one, jax.random.split(key, images.paths))
        return jax.scipy.special.logsumexp(scores, axis=0) - jnp.log(images.paths), stats

    log_probabilities, stats = jax.block_until_ready(predict(model, jax.random.key(0)))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(predict(model, jax.random.key(0)))
        seconds.append(time.perf_counter() - start)
    wrong = float(np.mean(np.argmax(log_probabilities, axis=1) != label))
    return {
        "error": wrong,
        "accuracy": 1 - wrong,
        "cross_entropy": -float(np.mean(np.asarray(log_probabilities)[np.arange(len(label)), label])),
        "nfe": float(nde.nfe(stats, diffrax.SPaRK()).mean()),
        "steps": float(stats["num_steps"].mean()),
        "predict_seconds": float(np.median(seconds)),
    }


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    if config.penalty not in PENALTIES:
        raise ValueError(f"Expected a penalty of {', '.join(PENALTIES)}, got {config.penalty!r}.")
    if config.model not in MODELS:
        raise ValueError(f"Expected a model of {', '.join(MODELS)}, got {config.model!r}.")
    if config.judge not in ("test", "validation"):
        raise ValueError(f"Expected to judge on test or validation, got {config.judge!r}.")
    dtype = jnp.zeros(()).dtype
    if config.tolerance < 10 * jnp.finfo(dtype).eps:
        raise ValueError(
            f"A tolerance of {config.tolerance} is below what {dtype} resolves. Set JAX_ENABLE_X64=1, or use "
            "--tolerance 1e-2."
        )
    penalty, coefficient = PENALTIES[config.penalty]
    coefficient = coefficient if config.coefficient is None else config.coefficient
    schedule = optax.exponential_decay(coefficient, config.steps, 0.1) if coefficient else lambda step: 0.0
    parts = digits(config.paths, dtype)

    def at(step: jax.Array) -> train.Loss:
        def loss(model: DigitsSDE, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            x, label = batch
            model = eqx.tree_at(lambda m: m.sde.solve, model, nde.with_penalty(model.sde.solve, penalty))
            scores, aux = model(x, key=key)
            error = optax.softmax_cross_entropy_with_integer_labels(scores, label).mean()
            return error + schedule(step) * aux.penalty, {"cross_entropy": error, "penalty": aux.penalty}

        return loss

    return Experiment(
        model=MODELS[config.model](config, jax.random.key(config.seed)),
        loss=train.Scheduled(at),
        optimiser=optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(config.rate, config.steps)),
        train=parts["train"],
        steps=config.steps,
        batch=config.batch,
        evaluate=evaluate,
        test=lambda resolution: parts[config.judge],
        metric="error",
        split_batches=False,
        seed=config.seed,
    )
