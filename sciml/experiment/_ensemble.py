"""An experiment of several models from several keys, which are trained together."""

import dataclasses
from typing import Any

import jax

from sciml import losses, train
from sciml.experiment._definition import Experiment
from sciml.experiment._ranges import LARGEST_SEED
from sciml.operators import Ensemble, ensemble_of


def ensemble(experiment: Experiment, members: int) -> Experiment:
    """The experiment with an `operators.Ensemble` of so many models in place of one.

    One program trains all of them, in one run folder: the model k starts from the key of the seed `experiment.seed + k`
    and then moves as it would alone. All see the same batches, in the order of `experiment.seed`, and the same random
    draws in the loss. Training loss and logs are means over the members; the log's `gradient_norm` is that of the mean
    loss. `evaluate` judges the mean of the members' predictions, on validation and test data, and tests also get the
    means of the members' own errors, `member_<metric>`.

    Args:
        experiment: Of one model, with `Experiment.member`.
        members: Number of models; 1 changes nothing.

    Raises:
        ValueError: If the experiment cannot make further models, a number is impossible, or the optimiser needs the
            loss.
    """
    if members == 1:
        return experiment
    last, make, at_resolution = experiment.seed + members - 1, experiment.member, experiment.at_resolution
    if not experiment.seed <= last <= LARGEST_SEED:
        raise ValueError(
            f"Expected at least 1 member, of seeds up to {LARGEST_SEED}, got {members} from the seed {experiment.seed} "
            "on. Use fewer members, or a lower seed."
        )
    if make is None:
        raise ValueError(
            f"Expected an experiment that makes further models, for {members} members, and this one has no `member`. "
            "Train one model (--members 1), or set Experiment.member to a function from a key to an untrained model."
        )
    others = [make(jax.random.key(experiment.seed + k)) for k in range(1, members)]

    def each_at(model: Any, resolution: int) -> tuple[Any, str]:
        stacked, note = at_resolution(model.stacked, resolution)
        return Ensemble(stacked, model.size), note

    return dataclasses.replace(
        experiment,
        model=ensemble_of([experiment.model, *others]),
        loss=_of_members(experiment.loss),
        optimiser=train.each_member(experiment.optimiser, members),
        at_resolution=each_at,
        member=None,
    )


def _of_members(loss: Any) -> Any:
    """The loss of an ensemble, which changes during the run as that of one model does."""
    if isinstance(loss, train.Scheduled):
        return train.Scheduled(lambda step: losses.of_members(loss.at(step)))
    if isinstance(loss, losses.Curriculum):
        return losses.Curriculum([(steps, losses.OfMembers(one)) for steps, one in loss.phases])
    return losses.of_members(loss)
