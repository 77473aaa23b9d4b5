"""The training of an experiment: its compiled step, its hooks, the loop that fills a run folder."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from sciml import parallel, train
from sciml.data import batch_rows
from sciml.experiment._definition import Experiment
from sciml.experiment._guards import placement_of

ShowProgress = Callable[[str], contextlib.AbstractContextManager[train.Hook]]


def prepare(
    experiment: Experiment, layout: parallel.Layout = parallel.Layout()
) -> tuple[train.TrainState, train.CompiledStep, train.Batches]:
    """The state before the first step, the step, and the batches, laid out over the devices of all processes.

    Several processes begin with the state of process 0.

    Raises:
        ValueError: If devices cannot share the batches or the fields as the layout says, or processes not equally.
    """
    placement = placement_of(experiment, layout)
    state = train.place(parallel.broadcast_arrays(train.init(experiment.model, experiment.optimiser)), placement)
    which = functools.partial(batch_rows, experiment.train, experiment.batch, experiment.seed)
    batches = train.batches(experiment.train, which, placement=placement)
    step = train.make_step(
        experiment.loss,
        experiment.optimiser,
        seed=experiment.seed,
        fetch=batches.fetch,
        placement=placement,
        accumulate=experiment.accumulate,
    )
    return state, step, batches


def cadences(experiment: Experiment) -> tuple[int, int]:
    """Numbers of steps between evaluations, and between lines of the log; the second divides the first."""
    often = experiment.every or max(1, experiment.steps // 20)
    return often, max(n for n in range(1, max(1, often // 10) + 1) if often % n == 0)


def train_into(
    folder: pathlib.Path,
    experiment: Experiment,
    prepared: tuple[train.TrainState, train.CompiledStep, train.Batches],
    checkpoints: train.Checkpoints,
    console: Console,
    progress: ShowProgress,
) -> train.Log:
    """Trains to the end, from the last checkpoint if there is one, and waits until everything is saved.

    Raises:
        FloatingPointError: If the loss is not finite, or if no validation error was.
        ValueError: If `evaluate` does not return the metric that chooses the checkpoint.
        SystemExit: With the code 0 after a SIGTERM, on all of several processes; the state is saved.
    """
    state, step, batches = prepared
    latest = parallel.broadcast(checkpoints.latest)
    if latest is not None:
        state = checkpoints.restore(state, latest)
        console.print(f"{folder} goes on at step {latest}", highlight=False, soft_wrap=True)
    log = train.Log(folder / "log.jsonl", step=int(state.step))
    known = [one["validation"].get(experiment.metric) for one in log.records if "validation" in one]
    history = [float("nan") if value is None else value for value in known]
    if experiment.patience is not None and train.stalled(history, experiment.patience):
        _check_validated(log, experiment, checkpoints)
        return log
    with progress(folder.name) as show, parallel.ending():
        hooks = [*_hooks(experiment, checkpoints, log, show, history), *experiment.hooks(folder)]
        try:
            checkpoints.save(train.fit(state, step, batches, steps=experiment.steps, hooks=hooks))
            checkpoints.wait()
        except train.Preempted as stop:
            checkpoints.save(stop.state)
            checkpoints.wait()
            text = f"{folder} was asked to end and is saved; the same command goes on at step {int(stop.state.step)}"
            console.print(text, highlight=False, soft_wrap=True)
            raise SystemExit(0) from None
        except FloatingPointError as error:
            checkpoints.wait()
            raise FloatingPointError(f"{error} {_last(checkpoints, 'finite')}") from None
        except KeyboardInterrupt:
            if not parallel.several():  # others may not be interrupted, and a checkpoint is written by all
                checkpoints.wait()
            raise KeyboardInterrupt(f"{_last(checkpoints, 'saved')} Run the same command again to go on.") from None
    _check_validated(log, experiment, checkpoints)
    return log


def _check_validated(log: train.Log, experiment: Experiment, checkpoints: train.Checkpoints) -> None:
    """Refuses a run in which no validation error was finite, so that none chooses a checkpoint."""
    known = [one["validation"].get(experiment.metric) for one in log.records if "validation" in one]
    if known and all(value is None for value in known):
        raise FloatingPointError(
            f"The validation error {experiment.metric} was not finite in any of {len(known)} evaluations, so that it "
            f"chooses no checkpoint. {_last(checkpoints, 'saved')} Check what `evaluate` does with the predictions."
        )


def _validation(experiment: Experiment) -> Callable[[Any], Mapping[str, Any]]:
    def score(model: Any) -> Mapping[str, Any]:
        found = experiment.evaluate(model, experiment.validation)
        if experiment.metric not in found:
            raise ValueError(
                f"Expected the metric {experiment.metric} from `evaluate`, since it chooses the checkpoint, got "
                f"{', '.join(found) or 'nothing'}. Set Experiment.metric to one of these."
            )
        return found

    return score


def _hooks(
    experiment: Experiment,
    checkpoints: train.Checkpoints,
    log: train.Log,
    show: train.Hook,
    history: Sequence[float],
) -> list[train.Every]:
    often, shown = cadences(experiment)
    hooks: list[train.Every] = []
    if experiment.validation is not None:
        hooks.append(train.every(often, train.evaluation(_validation(experiment))))
    hooks += [train.every(shown, log), train.every(shown, show)]
    hooks.append(train.every(often, train.checkpointing(checkpoints, seconds=experiment.save_seconds)))
    if experiment.patience is not None:
        hooks.append(train.every(often, train.early_stop(experiment.metric, experiment.patience, history)))
    return hooks


def _last(checkpoints: train.Checkpoints, kind: str) -> str:
    if checkpoints.latest is None:
        return "There is no checkpoint yet."
    return f"The last {kind} checkpoint is of step {checkpoints.latest} in {checkpoints.folder}."
