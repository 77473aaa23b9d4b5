"""Experiments: what is trained on what data. `run` trains one into a folder, `load` gives the trained model back.

An `Experiment` is an object; `sciml.tasks` has functions that make the common ones. An experiment file is the form that
the command line takes: a small frozen dataclass `Config`, its `PRESETS`, the `MODELS` to choose from and a function
`build`. This one is complete; `sciml train FILE --preset quick --lr 1e-2 --out runs/quick` runs it::

    import dataclasses
    import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
    from sciml import data, experiment, train

    @dataclasses.dataclass(frozen=True)
    class Config:
        model: str = "mlp"    # One of MODELS.
        run: experiment.Training = experiment.Training(steps=1000, batch=50, lr=1e-3)

    PRESETS = {"full": Config(), "quick": Config(run=experiment.Training(steps=100, batch=50, lr=1e-3))}
    MODELS = {"mlp": lambda key: eqx.nn.MLP(1, 1, 32, 2, activation=jnp.tanh, key=key)}

    def pairs(n, seed):
        x = np.random.default_rng(seed).uniform(-1, 1, (n, 1, 1)).astype(np.float32)
        return data.Pairs(x, np.sin(3 * x))

    def loss(model, batch, keys):
        x, y = batch
        return jnp.mean((jax.vmap(model)(x[..., 0]) - y[..., 0]) ** 2), {}

    def evaluate(model, pairs):
        error = train.predict(model, pairs.x[..., 0]) - pairs.y[..., 0]
        return {"rmse": float(np.sqrt(np.mean(error**2)))}

    def build(config):
        known, run = pairs(1000, 0), config.run
        steps = run.steps_for(len(known))
        return experiment.Experiment(
            model=MODELS[config.model](jax.random.key(run.seed)), loss=loss,
            optimiser=optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(run.lr, steps)),
            train=known, validation=pairs(100, 1), test=pairs(100, 2),
            evaluate=evaluate, metric="rmse", steps=steps, batch=run.batch, seed=run.seed)

A field that is annotated by `Count`, `Depth`, `Whole`, `Seed`, `Positive`, `NonNegative`, `Share` or a `Range` takes
values of that range alone: `hidden: experiment.Count = 32`. Others are refused before anything is made.
"""

from sciml.experiment._compare import compare as compare
from sciml.experiment._definition import Experiment as Experiment
from sciml.experiment._definition import Prediction as Prediction
from sciml.experiment._definition import unchanged as unchanged
from sciml.experiment._ensemble import ensemble as ensemble
from sciml.experiment._file import build_with as build_with
from sciml.experiment._file import chosen as chosen
from sciml.experiment._file import load_file as load_file
from sciml.experiment._file import settings as settings
from sciml.experiment._file import with_settings as with_settings
from sciml.experiment._folder import check_folder as check_folder
from sciml.experiment._folder import provenance as provenance
from sciml.experiment._folder import to_json as to_json
from sciml.experiment._folder import versions as versions
from sciml.experiment._ranges import LARGEST_SEED as LARGEST_SEED
from sciml.experiment._ranges import Count as Count
from sciml.experiment._ranges import Depth as Depth
from sciml.experiment._ranges import NonNegative as NonNegative
from sciml.experiment._ranges import Positive as Positive
from sciml.experiment._ranges import Range as Range
from sciml.experiment._ranges import Seed as Seed
from sciml.experiment._ranges import Share as Share
from sciml.experiment._ranges import Training as Training
from sciml.experiment._ranges import Whole as Whole
from sciml.experiment._ranges import check_settings as check_settings
from sciml.experiment._records import Metrics as Metrics
from sciml.experiment._records import Run as Run
from sciml.experiment._records import read_metrics as read_metrics
from sciml.experiment._records import read_run as read_run
from sciml.experiment._run import run as run
from sciml.experiment._run import run_file as run_file
from sciml.experiment._tracking import with_hooks as with_hooks
from sciml.experiment._trained import evaluate as evaluate
from sciml.experiment._trained import load as load
from sciml.experiment._trained import module_of as module_of
from sciml.experiment._trained import prediction as prediction
from sciml.experiment._trained import read_config as read_config
from sciml.experiment._training import ShowProgress as ShowProgress
from sciml.experiment._training import cadences as cadences
from sciml.experiment._training import prepare as prepare
