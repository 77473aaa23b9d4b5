"""PROSE experiments: what a task provides, and the experiment that is made of it."""

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from sciml import train
from sciml.experiment import Experiment, Prediction, Training, chosen
from sciml.losses import Loss
from sciml.tasks._activations import PRECISIONS


class Lazy:
    """A data set that is generated, or read, when its samples are first used.

    Args:
        length: Number of samples.
        make: Makes the data set.
    """

    def __init__(self, length: int, make: Callable[[], Any]):
        self._length, self._make = length, make

    def __len__(self) -> int:
        """Number of samples."""
        return self._length

    @functools.cached_property
    def made(self) -> Any:
        """The data set."""
        return self._make()

    def __getitem__(self, rows: Any) -> Any:
        """The samples at an index array or slice."""
        return self.made[rows]


@dataclasses.dataclass(frozen=True)
class Split:
    """Data of an evaluation.

    Attributes:
        data: The samples, without noise.
        seed: Of the noise that is added to them.
        decoded: Number of samples whose equations are written.
    """

    data: Lazy
    seed: int
    decoded: int = 0


class AbstractProse(abc.ABC):
    """A forecasting task of a PROSE experiment: data, loss, metrics, figures. Data are read at their first use."""

    @abc.abstractmethod
    def samples(self, part: int) -> Lazy:
        """Training (0), validation (1) or test samples (2), without noise."""

    @property
    def written_samples(self) -> int:
        """Number of test samples whose equations are written."""
        return 0

    @functools.cached_property
    def training(self) -> Lazy:
        """Training samples, without noise."""
        return self.samples(0)

    @functools.cached_property
    def validation(self) -> Split:
        """Validation data. Their equations are not written."""
        return Split(self.samples(1), seed=1)

    @functools.cached_property
    def test(self) -> Split:
        """Test data."""
        return Split(self.samples(2), seed=2, decoded=self.written_samples)

    @abc.abstractmethod
    def loss(self, dtype: Any) -> Loss:
        """The loss of a batch of training samples, with activations of this data type or, for None, of the weights'."""

    @abc.abstractmethod
    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        """The metrics of a model on `validation` or `test`."""

    @abc.abstractmethod
    def figures(self, models: Mapping[str, Any], where: pathlib.Path) -> None:
        """Draws forecasts of models into a folder."""

    @property
    def prediction(self) -> Prediction | None:
        """How a trained model is applied to a file, if it can be."""
        return None


def prose(
    task: AbstractProse,
    model: Any,
    optimiser: Callable[[int], train.Optimiser],
    training: Training,
    *,
    precision: str = "float32",
) -> Experiment:
    """A PROSE experiment: a model that forecasts trajectories, and reads and writes their equations.

    Args:
        task: `ProseODE`, `ProsePDE` or `ProseFD`.
        model: The untrained model.
        optimiser: Number of steps to the optimiser.
        training: Length of the training, batch size and seed.
        precision: Data type of the activations in training, float32 or bfloat16.

    Raises:
        ValueError: If there is no such precision.
    """
    loss = task.loss(chosen("a precision", precision, PRECISIONS))
    steps = training.steps_for(len(task.training))
    return Experiment(
        model=model,
        loss=loss,
        optimiser=optimiser(steps),
        train=task.training,
        steps=steps,
        batch=training.batch,
        accumulate=training.accumulate,
        evaluate=task.evaluate,
        test=task.test,
        validation=task.validation,
        figures=task.figures,
        predict=task.prediction,
        seed=training.seed,
    )
