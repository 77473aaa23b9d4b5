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

import equinox as eqx
import jax
import jax.numpy as jnp

from sciml import data, nde, tasks
from sciml.experiment import Count, Experiment, Positive, Training

PENALTIES = tasks.penalties(
    error=(0.1, 0.03, 0.3),
    error2=(0.01, 0.003, 0.03),
    stiffness=tasks.Regularised(nde.StiffnessPenalty(nde.DirectionalStiffness()), (0.1, 0.01, 1.0)),
    local=(0.1, 0.03, 0.3),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "sde"
    """One of MODELS."""
    tolerance: Positive = 3e-3
    """Relative and absolute tolerance of the solver."""
    size: Count = 32
    """Entries of the state."""
    hidden: Count = 64
    """Hidden units of the drift."""
    paths: Count = 10
    """Paths for each image whose probabilities are averaged in the test."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=400, batch=64, lr=1e-2)
    """Length and learning rate of the training."""


_SHORT = Training(steps=4, batch=16, lr=1e-2)
PRESETS = {"full": Config(), "smoke": Config(tolerance=0.1, size=6, hidden=8, paths=2, run=_SHORT)}
SMALLEST = 2.0**-8  # step


class DigitsSDE(eqx.Module):
    """Scores of the ten classes from the state at time 1 of an SDE that starts from a linear map of the image."""

    encode: eqx.nn.Linear
    sde: nde.NeuralSDE
    readout: eqx.nn.Linear

    def __init__(self, config: Config, key: jax.Array) -> None:
        """Draws the weights."""
        encode_key, drift_key, diffusion_key, readout_key = jax.random.split(key, 4)
        size = config.size
        drift = eqx.nn.MLP(size, size, config.hidden, 1, activation=jnp.tanh, final_activation=jnp.tanh, key=drift_key)
        self.encode = eqx.nn.Linear(64, size, key=encode_key)
        solve = tasks.sde_solve(config.tolerance, 512, SMALLEST)
        self.sde = tasks.joint_sde(nde.Autonomous(drift), size, solve=solve, smallest=SMALLEST, key=diffusion_key)
        self.readout = eqx.nn.Linear(size, 10, key=readout_key)

    def __call__(self, images: jax.Array, *, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        """Scores (batch, 10) of images (batch, 64) for one path of each, and what came with the solve."""
        start = jax.vmap(self.encode)(images)
        states, aux = self.sde.solution(start.reshape(-1), jnp.array([0.0, 1.0], images.dtype), key=key)
        return jax.vmap(self.readout)(states[-1].reshape(start.shape)), aux


MODELS = {"sde": DigitsSDE}


def evaluate(model: DigitsSDE, images: data.Arrays, *, paths: int) -> Mapping[str, float]:
    """Accuracy of the mean probabilities, and mean evaluations and steps, and seconds for all the paths."""
    pixels, label = images[:]
    x = jnp.asarray(pixels)

    @eqx.filter_jit
    def predict(model: DigitsSDE, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        scores, aux = jax.lax.map(lambda key: model(x, key=key), jax.random.split(key, paths))
        return jax.scipy.special.logsumexp(jax.nn.log_softmax(scores), axis=0) - jnp.log(paths), aux

    call = lambda: predict(model, jax.random.key(0))
    log_probabilities, costs = tasks.solve_metrics(model, call, repeats=5)
    return tasks.class_metrics(log_probabilities, label) | costs


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    task = tasks.class_task(lambda model, images, key: model(images, key=key))
    measure = functools.partial(evaluate, paths=config.paths)
    return tasks.dynamics(config, MODELS, PENALTIES, tasks.digit_vectors, task, measure, metric="error")
