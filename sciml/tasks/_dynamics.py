"""Experiments that train a neural differential equation, with what makes it cheap to solve."""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml import data, nde, plot, train
from sciml.experiment import Experiment, NonNegative, Training, check_settings, chosen
from sciml.parallel import Alone
from sciml.tasks._field_errors import or_infinite
from sciml.tasks._memory import within_memory

Task = Callable[[Any, Any, jax.Array], tuple[jax.Array, nde.Aux]]
"""`(model, batch, key) -> (error, aux)`: what is minimised apart from the penalty, and the `Aux` of the solve."""


@dataclasses.dataclass(frozen=True)
class Penalty:
    """Options of a regularised training, a field of a Config: `regularise: Penalty = Penalty()`.

    The command line has them as `--penalty`, `--coefficient` and `--split`.
    """

    penalty: str = "vanilla"
    """One of PENALTIES."""
    coefficient: NonNegative | None = None
    """First coefficient of the penalty, which falls to a tenth; by default the one of PENALTIES."""
    split: str = "test"
    """Data that the finished run is tested on: test, or validation to choose a coefficient."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class Regularised:
    """A regulariser, and the first coefficients to choose from, the default at the head.

    Attributes:
        regulariser: None for the plain solve.
        coefficients: Candidates for `benchmarks/penalties.py`.
    """

    regulariser: nde.AbstractRegulariser | None
    coefficients: tuple[float, ...] = (0.0,)


_REGULARISERS: dict[str, nde.AbstractRegulariser] = {
    "error": nde.ErrorPenalty(),
    "error2": nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0)),
    "stiffness": nde.StiffnessPenalty(),
    "stiffest": nde.StiffnessPenalty(reduce=nde.step_max),
    "local": nde.LocalErrorPenalty(),
    "fresh": nde.FreshErrorPenalty(),
    "steer": nde.Steer(0.5),
    "taynode": nde.TayNODE(2),
    "rnode": nde.RNODE(),
}


def penalties(**coefficients: tuple[float, ...] | Regularised) -> dict[str, Regularised]:
    """The table PENALTIES of an experiment: `penalties(error=(0.1, 0.3), steer=(0.0,))`, and `vanilla`, which has none.

    Names are error, error2 (squared errors), stiffness, stiffest (the largest of a solve), local, fresh, steer,
    taynode, rnode; other regularisers are given as `Regularised`.
    """
    table = {"vanilla": Regularised(None)}
    for name, one in coefficients.items():
        table[name] = one if isinstance(one, Regularised) else Regularised(_REGULARISERS[name], one)
    return table


def dynamics(
    config: Any,
    models: Mapping[str, Callable[[Any, jax.Array], Any]],
    known: Mapping[str, Regularised],
    parts: Callable[[np.dtype], Mapping[str, Any]],
    task: Task,
    evaluate: Callable[[Any, Any], Mapping[str, float]],
    **options: Any,
) -> Experiment:
    """An experiment that trains a model of differential equations, regularised or not.

    The loss is `error + coefficient(step) * aux.penalty`, with the regulariser in all solves of the model while it is
    trained, and a coefficient that falls to a tenth in the course of the training. What is saved and evaluated has no
    regulariser: its predictions are those of the plain model.

    Args:
        config: A Config with the fields `model`, `tolerance`, `regularise: Penalty` and `run: Training`.
        models: The table MODELS, name -> `(config, key) -> model`, of batches.
        known: The table PENALTIES.
        parts: Makes the data `train`, `validation` and `test` of a floating-point type, that of the tolerance.
        task: Error and `Aux` of a batch.
        evaluate: Metrics of a model on data; `solve_metrics` gives those of the solve.
        **options: Other attributes of `Experiment`, such as `metric`. The optimiser is Adam with a learning rate that
            falls to zero as a cosine, if no other one is given.

    Raises:
        ValueError: If the model, penalty or split is not known, which lists the known ones, or the type does not
            resolve the tolerance.
    """
    penalty = chosen("a penalty", config.regularise.penalty, known)
    make = chosen("a model", config.model, models)
    data = dict(parts(_float_type(config.tolerance)))
    training, samples = config.run, data.pop("train")
    first = penalty.coefficients[0] if config.regularise.coefficient is None else config.regularise.coefficient
    steps = training.steps_for(len(samples))
    coefficient = optax.exponential_decay(first, steps, 0.1)

    def at(step: jax.Array) -> Any:
        def loss(model: Any, batch: Any, keys: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            error, aux = task(nde.regularised(model, penalty.regulariser), batch, keys[0])
            mean = jnp.mean(aux.penalty)
            return error + coefficient(step) * mean, {"error": error, "penalty": mean}

        return loss

    built = Experiment(
        model=within_memory(lambda: make(config, jax.random.key(training.seed))),
        loss=train.Scheduled(at),
        optimiser=cosine(optax.adam, training, steps),
        train=samples,
        steps=steps,
        batch=training.batch,
        accumulate=training.accumulate,
        evaluate=evaluate,
        test=chosen("a split", config.regularise.split, data),
        parallel=Alone(),
        seed=training.seed,
    )
    return dataclasses.replace(built, **options)


def _float_type(tolerance: float) -> np.dtype:
    """JAX's default floating-point type, in which an equation is to be solved to a relative tolerance.

    Raises:
        ValueError: If the tolerance is below ten roundings of that type.
    """
    dtype = jnp.zeros(()).dtype
    if tolerance < 10 * jnp.finfo(dtype).eps:
        raise ValueError(
            f"A tolerance of {tolerance} is below what {dtype} resolves. Set JAX_ENABLE_X64=1, or use a larger one "
            "such as --tolerance 1e-5."
        )
    return dtype


def cosine(make: Callable[..., Any], training: Training, steps: int, **options: Any) -> optax.GradientTransformation:
    """An optimiser of optax whose learning rate falls from that of the training to zero as a cosine."""
    schedule = optax.cosine_decay_schedule(training.lr_or(1e-3), steps)
    return optax.inject_hyperparams(make)(schedule, **options)


def ode_solve(tolerance: float, max_steps: int) -> nde.Solve:
    """Tsit5 with one tolerance, relative and absolute."""
    return nde.Solve(diffrax.Tsit5(), diffrax.PIDController(rtol=tolerance, atol=tolerance), max_steps=max_steps)


def sde_solve(tolerance: float, max_steps: int, smallest: float) -> nde.Solve:
    """SPaRK with one tolerance, relative and absolute, and steps of at least `smallest`."""
    controller = diffrax.PIDController(
        rtol=tolerance, atol=tolerance, pcoeff=0.1, icoeff=0.3, dtmin=smallest, force_dtmin=True
    )
    return nde.Solve(diffrax.SPaRK(), controller, dt0=0.01, max_steps=max_steps)


def solve_metrics(
    model: Any, predict: Callable[[], tuple[Any, nde.Aux]], *, repeats: int = 9
) -> tuple[Any, dict[str, float]]:
    """What a prediction returns, and its evaluations of the field, steps and seconds: means over its solves.

    Args:
        model: Has the `Solve` whose solver evaluates the field.
        predict: The compiled prediction; it is called several times.
        repeats: Number of timed calls.
    """
    is_solve = lambda node: isinstance(node, nde.Solve)
    solver = next(node.solver for node in jax.tree.leaves(model, is_leaf=is_solve) if isinstance(node, nde.Solve))
    (values, aux), seconds = _timed(predict, repeats)
    evaluations, steps = nde.nfe(aux.stats, solver), aux.stats["num_steps"]
    return values, {"nfe": float(evaluations.mean()), "steps": float(steps.mean()), "predict_seconds": seconds}


def _timed(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The result of a call, and the median of the seconds of further calls, which find it compiled."""
    result = jax.block_until_ready(call())
    return result, statistics.median(_seconds(call) for _ in range(repeats))


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def class_metrics(scores: jax.Array, labels: np.ndarray) -> dict[str, float]:
    """Share of wrong and of right classes, and cross entropy, of scores or log probabilities (n, classes).

    Scores that are not numbers are wrong, and their cross entropy is infinite.
    """
    wrong = float(np.mean((np.argmax(scores, axis=1) != labels) | np.isnan(scores).any(axis=1)))
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.asarray(labels)).mean()
    return {"error": wrong, "accuracy": 1 - wrong, "cross_entropy": or_infinite(entropy)}


def class_task(scores: Task) -> Task:
    """The cross entropy of batches of inputs and classes, for `(model, inputs, key) -> (scores, aux)`."""

    def task(model: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        found, aux = scores(model, batch[0], key)
        return optax.softmax_cross_entropy_with_integer_labels(found, batch[1]).mean(), aux

    return task


def class_evaluation(scores: Callable[..., tuple[jax.Array, nde.Aux]]) -> Callable[..., dict[str, float]]:
    """`evaluate` on pairs of inputs and classes, for `(model, inputs) -> (scores, aux)`: `class_metrics` and costs."""

    def evaluate(model: Any, pairs: data.Arrays) -> dict[str, float]:
        values, labels = pairs[:]
        x = jnp.asarray(values)
        predict = eqx.filter_jit(lambda model: scores(model, x))
        found, costs = solve_metrics(model, lambda: predict(model))
        return class_metrics(found, labels) | costs

    return evaluate


def drawn(make: Callable[..., np.ndarray], **parts: tuple[Any, ...]) -> Callable[[np.dtype], dict[str, np.ndarray]]:
    """The parts of the data for `dynamics`, each made from its own arguments: `drawn(make, train=(1024, 0), ...)`."""
    return lambda dtype: {name: make(*one).astype(dtype) for name, one in parts.items()}


def joint_sde(
    drift: Callable[..., Any], size: int, *, solve: nde.Solve, smallest: float, key: jax.Array
) -> nde.NeuralSDE:
    """An SDE of the states of a batch in one vector, with a linear diffusion with diagonal noise.

    Args:
        drift: The drift (t, y, args) of one state.
        size: Entries of one state.
        solve: How it is solved, such as `sde_solve`.
        smallest: The smallest step; half of it is the resolution of the Brownian motion.
        key: Of the weights of the diffusion.
    """
    identity = eqx.nn.Identity()
    return nde.NeuralSDE(
        initial=identity,
        drift=nde.Together(drift, size),
        diffusion=nde.Together(nde.Autonomous(eqx.nn.Linear(size, size, key=key)), size),
        readout=identity,
        solve=solve,
        brownian=nde.BrownianTree(smallest / 2),
    )


def digit_vectors(dtype: Any) -> dict[str, data.Arrays]:
    """Images (n, 64) and classes (n,) of `data.digits`, by the names of the parts: train, validation, test."""
    whole = {name: part[:] for name, part in data.digits().items()}
    return {name: data.Arrays(x.reshape(-1, 64).astype(dtype), label) for name, (x, label) in whole.items()}


class Cubes(eqx.Module):
    """The field of the spiral, network(y^3) with the cubes of the entries."""

    network: Callable[[jax.Array], jax.Array]

    def __call__(self, t: Any, y: jax.Array, args: Any = None) -> jax.Array:
        """The field at y."""
        return self.network(y**3)


def state_task(times: np.ndarray) -> Task:
    """The mean squared error of a `NeuralODE` of batches, over states (batch, times, size) from the first of them."""

    def task(model: nde.NeuralODE, batch: jax.Array, key: jax.Array) -> tuple[jax.Array, nde.Aux]:
        states, aux = model.solution(batch[:, 0], jnp.asarray(times, batch.dtype), key=key)
        return jnp.mean((states - batch.swapaxes(0, 1)) ** 2), aux

    return task


def state_metrics(
    model: nde.NeuralODE, states: np.ndarray, times: np.ndarray
) -> tuple[Callable[[nde.NeuralODE], tuple[jax.Array, nde.Aux]], dict[str, float]]:
    """Root mean square error over states (batch, times, size), and costs of the one solve from the first of them.

    The error is infinite if the solution is not finite.

    Returns:
        The compiled prediction of states (times, batch, size) and `Aux` by a model, and the metrics.
    """
    y0, ts = jnp.asarray(states[:, 0]), jnp.asarray(times, states.dtype)
    predict = eqx.filter_jit(lambda model: model.solution(y0, ts))
    found, costs = solve_metrics(model, lambda: predict(model))
    error = found.swapaxes(0, 1) - states
    return predict, {"rmse": or_infinite(jnp.sqrt(jnp.mean(error**2))), **costs}


def draw_densities(models: Mapping[str, nde.CNF], x: np.ndarray, folder: pathlib.Path) -> None:
    """Draws samples of the plane, and the density and samples of each flow, as density.png in a folder."""
    extent = left, right, low, high = -4.0, 4.0, -3.0, 3.0
    density = eqx.filter_jit(lambda model, x: model.solution(x))
    nodes = np.meshgrid(np.linspace(left, right, 80), np.linspace(low, high, 60), indexing="ij")
    at = jnp.asarray(np.stack(nodes, axis=-1).reshape(-1, 2), x.dtype)
    sample = eqx.filter_jit(lambda model, key: model.sample(key=key, shape=x.shape[:1]))
    found = {
        name: (np.exp(density(model, at)[0]).reshape(80, 60), np.asarray(sample(model, jax.random.key(0))))
        for name, model in models.items()
    }
    plot.save(plot.densities(x, found, extent=extent), folder / "density.png")
