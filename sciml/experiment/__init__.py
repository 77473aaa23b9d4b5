"""Experiments: a Python file says what is trained, `run` trains it into a folder, `load` gives the model back.

An experiment file has a small frozen dataclass `Config`, its `PRESETS`, the `MODELS` to choose from and a function
`build`. This one is complete; `sciml train FILE --preset quick --rate 1e-2 --out runs/quick` runs it::

    import dataclasses
    import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
    from sciml import data, experiment, train

    @dataclasses.dataclass(frozen=True)
    class Config:
        model: str = "mlp"    # One of MODELS.
        rate: float = 1e-3    # Learning rate at the beginning.
        steps: int = 1000     # Number of optimiser steps.

    PRESETS = {"full": Config(), "quick": Config(steps=100)}
    MODELS = {"mlp": lambda key: eqx.nn.MLP(1, 1, 32, 2, activation=jnp.tanh, key=key)}

    def pairs(n, seed):
        x = np.random.default_rng(seed).uniform(-1, 1, (n, 1, 1)).astype(np.float32)
        return data.Pairs(x, np.sin(3 * x))

    def loss(model, batch, key):
        x, y = batch
        return jnp.mean((jax.vmap(model)(x[..., 0]) - y[..., 0]) ** 2), {}

    def evaluate(model, pairs):
        error = train.predict(model, pairs.x[..., 0]) - pairs.y[..., 0]
        return {"rmse": float(np.sqrt(np.mean(error**2)))}

    def build(config):
        rate = optax.cosine_decay_schedule(config.rate, config.steps)
        return experiment.Experiment(
            model=MODELS[config.model](jax.random.key(0)), loss=loss,
            optimiser=optax.inject_hyperparams(optax.adam)(rate),
            train=pairs(1000, 0), validation=pairs(100, 1), test=lambda resolution: pairs(100, 2),
            evaluate=evaluate, metric="rmse", steps=config.steps, batch=50)
"""

from sciml.experiment._compare import compare as compare
from sciml.experiment._definition import Experiment as Experiment
from sciml.experiment._definition import Prediction as Prediction
from sciml.experiment._definition import Training as Training
from sciml.experiment._file import load_file as load_file
from sciml.experiment._file import settings as settings
from sciml.experiment._file import with_settings as with_settings
from sciml.experiment._folder import check_folder as check_folder
from sciml.experiment._folder import provenance as provenance
from sciml.experiment._folder import read_json as read_json
from sciml.experiment._folder import to_json as to_json
from sciml.experiment._folder import versions as versions
from sciml.experiment._folder import write_json as write_json
from sciml.experiment._run import run as run
from sciml.experiment._run import run_file as run_file
from sciml.experiment._settings import chosen as chosen
from sciml.experiment._settings import float_type as float_type
from sciml.experiment._settings import timed as timed
from sciml.experiment._trained import evaluate as evaluate
from sciml.experiment._trained import load as load
from sciml.experiment._trained import load_experiment as load_experiment
from sciml.experiment._trained import prediction as prediction
from sciml.experiment._trained import read_config as read_config
from sciml.experiment._training import ShowProgress as ShowProgress
from sciml.experiment._training import Step as Step
from sciml.experiment._training import cadences as cadences
from sciml.experiment._training import prepare as prepare
