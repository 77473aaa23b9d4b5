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

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from sciml import nde, tasks
from sciml.experiment import Count, Experiment, Positive, Training

# Chosen on the validation images by benchmarks/penalties.py; for `error` the cautious one of docs/results.md.
PENALTIES = tasks.penalties(
    error=(0.1, 0.15, 0.2, 0.3),
    error2=(0.01, 0.03),
    stiffness=(0.1, 0.01),
    local=(0.1, 0.3),
    fresh=(1e4,),
    steer=(0.0,),
    taynode=(0.1, 1.0),
    rnode=(0.1, 1.0),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "node"
    """One of MODELS."""
    tolerance: Positive = 1.4e-8
    """Relative and absolute tolerance of the solver."""
    hidden: Count = 100
    """Hidden units of the vector field."""
    regularise: tasks.Penalty = tasks.Penalty()
    """What makes the equation cheap to solve."""
    run: Training = Training(steps=500, batch=128, lr=3e-3)
    """Length and learning rate of the training."""


PRESETS = {"full": Config(), "smoke": Config(tolerance=1e-3, hidden=8, run=Training(steps=4, batch=16, lr=3e-3))}


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
        self.solve = nde.Jointly(tasks.ode_solve(config.tolerance, 256))

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, nde.Aux]:
        """Scores (batch, 10) of images (batch, 64), and what came with the solve."""
        states, aux = self.solve(self.field, images, jnp.array([0.0, 1.0], images.dtype), key=key)
        return jax.vmap(self.readout)(states[-1]), aux


MODELS = {"node": DigitsODE}


def scores(model: DigitsODE, images: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, nde.Aux]:
    """Scores (batch, 10) of images (batch, 64), and what came with the one solve."""
    return model(images, key)


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    adam = optax.inject_hyperparams(optax.adam)(config.run.lr_or(3e-3))
    task, evaluate = tasks.class_task(scores), tasks.class_evaluation(scores)
    return tasks.dynamics(
        config, MODELS, PENALTIES, tasks.digit_vectors, task, evaluate, metric="error", optimiser=adam
    )
