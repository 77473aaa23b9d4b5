"""Training losses `(model, batch, keys) -> (scalar, logs)`: they alone know a model's call and a batch's layout.

`keys` has a key for each sample of the batch. What is drawn for a sample then depends on the step and on the sample's
place in the batch, not on the devices that share the batch.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from sciml import cut
from sciml.metrics import relative_l2
from sciml.rollout import ConditionedStep, Conditions, followed_by

Metric = Callable[[Array, Array], Float[Array, ""]]
Keys = Key[Array, " samples"]
Loss = Callable[[PyTree, PyTree, Keys], tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]


def supervised(metric: Metric, *, scale: float = 1.0) -> Loss:
    """Mean over the batch of `scale * metric(model(x), y)`, for batches `(x, y)` of fields with a leading batch axis.

    Args:
        metric: Error of one sample, e.g. `metrics.relative_l2` or `functools.partial(metrics.relative_h1, grid=grid)`.
        scale: Factor; the batch size makes it the sum over the batch, the published form, also on several devices.
    """

    def loss(model: PyTree, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        x, y = batch
        return scale * jnp.mean(jax.vmap(lambda x, y: metric(model(x), y))(x, y)), {}

    return loss


def unsupervised(measure: Callable[[Array, Array], Float[Array, ""]]) -> Loss:
    """Mean over the batch of `measure(x, model(x))`, for batches that begin with inputs `x`; no solution is needed.

    Args:
        measure: A number that is smallest for solutions, such as `uq.dual_norm(problem)`.
    """

    def loss(model: PyTree, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        return jnp.mean(jax.vmap(lambda x: measure(x, model(x)))(batch[0])), {}

    return loss


def of_members(loss: Loss) -> Loss:
    """`loss` of each member of an `operators.Ensemble`, of which value and logs are the means over the members.

    All members see the same batch and the same random draws. The gradient in the parameters of a member is that of its
    own loss divided by the number of members, which `train.each_member` takes back: each trains as if it were alone.
    """

    def mean(ensemble: Any, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        found = eqx.filter_vmap(lambda member: loss(member, batch, keys))(ensemble.stacked)
        return jax.tree.map(lambda each: jnp.mean(each, axis=0), found)

    return mean


def informed(loss: Loss, residual: Callable[[Array, Array], Array], *, weight: float) -> Loss:
    """`loss` plus `weight` times the mean squared residual of the predictions, for batches `(x, y)` of fields.

    Source: Li et al., "Physics-informed neural operator for learning partial differential equations", 2021,
    arXiv:2111.03794, equation (9).

    Args:
        loss: The loss on the data.
        residual: `(x, prediction) -> field`, of one sample, zero for a solution: `Darcy.residual`, for example.
        weight: Factor of the residual.

    Returns:
        A loss that also logs `residual`, the mean square.
    """

    def both(model: PyTree, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        value, logs = loss(model, batch, keys)
        squares = jnp.mean(jax.vmap(lambda x: cut.mean_square(residual(x, model(x))))(batch[0]))
        return value + weight * squares, {**logs, "residual": squares}

    return both


def augmented(loss: Loss, change: Callable[[PyTree, Key[Array, ""]], PyTree]) -> Loss:
    """`loss` of samples that `change(sample, key)` has changed at random, such as `square_symmetry`."""

    def changed(model: PyTree, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        own, rest = _split(keys)
        return loss(model, jax.vmap(change)(jax.tree.map(jnp.asarray, batch), own), rest)

    return changed


def _split(keys: Keys) -> tuple[Keys, Keys]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def square_symmetry(sample: PyTree, key: Key[Array, ""]) -> PyTree:
    """Rotates or reflects a sample by one of the eight symmetries of the square, drawn at random.

    All fields of the sample, inputs and outputs, are moved alike and keep their values: the equation, its boundary
    conditions and the grid must have these symmetries, and no channel may be a coordinate or a component of a vector.
    A grid of every second node of another one, say, has lost the reflections; it still has `transposition`.

    Args:
        sample: Fields `(channels, n, n)`.
        key: Randomness.

    Raises:
        ValueError: If a field is not square, or its space is cut over devices.
    """
    _check_squares(sample)
    across, down, right = jax.random.bernoulli(key, shape=(3,))

    def moved(field: Float[Array, "channels n n"]) -> Float[Array, "channels n n"]:
        field = jnp.where(across, jnp.swapaxes(field, 1, 2), field)
        field = jnp.where(down, field[:, ::-1], field)
        return jnp.where(right, field[..., ::-1], field)

    return jax.tree.map(moved, sample)


def transposition(sample: PyTree, key: Key[Array, ""]) -> PyTree:
    """Exchanges the two axes of a sample with probability 1/2.

    As `square_symmetry`, of which it is one element, for problems that have this symmetry alone. Arguments and errors
    are the same.
    """
    _check_squares(sample)
    across = jax.random.bernoulli(key)
    return jax.tree.map(lambda field: jnp.where(across, jnp.swapaxes(field, 1, 2), field), sample)


def _check_squares(sample: PyTree) -> None:
    """Raises ValueError unless all fields of a sample are square and whole."""
    shapes = {leaf.shape[1:] for leaf in jax.tree.leaves(sample)}
    if any(len(shape) != 2 or shape[0] != shape[1] for shape in shapes):
        raise ValueError(f"Expected fields (channels, n, n) for the symmetries of the square, got {shapes}.")
    if any(any(cut.axes(leaf, 2)) for leaf in jax.tree.leaves(sample)):
        raise ValueError(
            "Expected whole fields for the symmetries of the square, got parts. Cut the batch, not its fields."
        )


def noisy_inputs(loss: Loss, sigma: float) -> Loss:
    """`loss` with Gaussian noise on the first fields of batches `(x, y)`, not on what they are compared with.

    In a rollout a step is given its own predictions, which contain errors. The data of its training contain none;
    noise lets it learn to damp errors of that size.

    Source: as `Noisy`, which does the same for windows of trajectories.

    Args:
        loss: The other loss.
        sigma: Deviation of the noise, relative to that of each channel over the batch.

    Raises:
        ValueError: If `sigma` is negative.
    """
    _check_sigma(sigma)

    def noisy(model: PyTree, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        own, rest = _split(keys)
        x, *others = batch
        return loss(model, (_with_noise(jnp.asarray(x), sigma, 1, own), *others), rest)

    return noisy


def _check_sigma(sigma: float) -> None:
    if sigma < 0:
        raise ValueError(f"Expected a deviation of the noise of at least 0, got {sigma}.")


def _with_noise(fields: Array, sigma: float, channel_axis: int, keys: Keys) -> Array:
    """Fields of a batch with noise of `sigma` times the deviation of each channel; the axes of space are the last."""
    others = tuple(axis for axis in range(fields.ndim) if axis != channel_axis)
    mean = lambda x: cut.mean_over_batch(cut.mean_over_parts(jnp.mean(x, axis=others, keepdims=True)))
    deviation = jnp.sqrt(mean((fields - mean(fields)) ** 2))
    noise = jax.vmap(lambda field, key: cut.normal(key, field, fields.ndim - channel_axis - 1))(fields, keys)
    return fields + sigma * deviation * noise


Logs = dict[str, Float[Array, ""]]
Batch = Mapping[str, Float[Array | np.ndarray, "..."]]


class AbstractForecastLoss(abc.ABC):
    """A loss of windows of trajectories, as `data.TrajectoryWindows` gives them, for models of conditioned steps.

    A model takes `(frames, conditions)` of one sample, with the latest frames `(history, channels, *space)`, and
    returns the next ones `(bundle, channels, *space)`; `operators.Conditioned` is one. Windows may be longer than
    needed. All steps are unrolled in Python, because compiled loops are slow for convolutions on CPUs.

    Attributes:
        history: Number of frames that the model sees; 0 for maps.
    """

    history: int

    @abc.abstractmethod
    def horizon(self, bundle: int = 1) -> int:
        """Number of frames after the history that a window must have.

        Args:
            bundle: Number of frames that the model predicts at once.
        """

    @abc.abstractmethod
    def __call__(self, model: ConditionedStep, batch: Batch, keys: Keys) -> tuple[Float[Array, ""], Logs]:
        """The mean of the loss over the windows, and the numbers to log: `last_step`, the error of the last step.

        Raises:
            ValueError: If the windows have too few frames.
        """


def _check_steps(steps: int, history: int, least: int) -> None:
    if steps < 1:
        raise ValueError(f"Expected at least one step that is continued or compared, got {steps}. Use more steps.")
    if history < least:
        raise ValueError(
            f"Expected a history of at least {least}, got {history}. Maps (history 0) have no frames to continue or to "
            "disturb: use Unrolled(history=0)."
        )


def _mean(errors: Callable[..., tuple[Array, Array]], batch: Batch) -> tuple[Float[Array, ""], Logs]:
    """Means over the batch of the loss and the last step's error of one sample's frames and conditions."""
    value, last = jax.vmap(lambda frames, *rest: errors(frames, Conditions(*rest)))(
        batch["frames"], batch["fixed"], batch["parameters"], batch["dt"]
    )
    return jnp.mean(value), {"last_step": jnp.mean(last)}


def _step_error(metric: Metric, later: Array, new: Array, step: int) -> Float[Array, ""]:
    """Mean of the errors of the frames that one step, counted from 0, predicts of the `later` ones."""
    bundle = new.shape[0]
    needed = bundle * (step + 1)
    if later.shape[0] < needed:
        raise ValueError(
            f"Expected windows of at least {needed} frames after the history for {step + 1} steps of {bundle}, got "
            f"{later.shape[0]}. Use a horizon of at least that many frames, or fewer steps."
        )
    return jnp.mean(jax.vmap(metric)(new, later[needed - bundle : needed]))


@dataclasses.dataclass(frozen=True)
class Unrolled(AbstractForecastLoss):
    """Mean error of the frames that a rollout predicts, with gradients through all of its steps; one by default.

    Args:
        steps: Number of steps.
        cut: Number of steps after which no gradient passes back to the steps before, again and again: 1 stops it
            after each step. None cuts nowhere.
        history: Number of frames that the model sees; 0 for maps, which have one step.
        metric: Error of one frame, in the units of the data.

    Raises:
        ValueError: If `steps` or `cut` is not positive, or a map has several steps.
    """

    steps: int = 1
    _: dataclasses.KW_ONLY
    cut: int | None = None
    history: int = 1
    metric: Metric = relative_l2

    def __post_init__(self) -> None:
        _check_steps(self.steps, self.history, 0 if self.steps == 1 else 1)
        if self.cut is not None and self.cut < 1:
            raise ValueError(f"Expected a cut after 1 or more steps, got {self.cut}. None cuts nowhere.")

    def horizon(self, bundle: int = 1) -> int:
        """As in `AbstractForecastLoss`."""
        return bundle * self.steps

    def __call__(self, model: ConditionedStep, batch: Batch, keys: Keys) -> tuple[Float[Array, ""], Logs]:
        """As in `AbstractForecastLoss`."""

        def errors(frames: Array, conditions: Conditions) -> tuple[Array, Array]:
            seen, later, found = frames[: self.history], frames[self.history :], []
            for step in range(self.steps):
                if self.cut is not None and step and step % self.cut == 0:
                    seen = jax.lax.stop_gradient(seen)
                new = model(seen, conditions)
                found.append(_step_error(self.metric, later, new, step))
                seen = followed_by(seen, new)
            return jnp.mean(jnp.stack(found)), found[-1]

        return _mean(errors, batch)


@dataclasses.dataclass(frozen=True)
class Pushforward(AbstractForecastLoss):
    """The one-step error plus the error of the last of several steps, in which alone gradients are formed.

    Source: Brandstetter, Worrall, Welling, "Message passing neural PDE solvers", ICLR 2022, arXiv:2202.03376,
    section 3.1: the sum of the one-step loss and the stability loss. There the number of steps is drawn for each batch.

    Args:
        steps: Number of steps, the last one included; at least 2.
        one_step: Factor of the one-step error.
        history: Number of frames that the model sees.
        metric: Error of one frame, in the units of the data.

    Raises:
        ValueError: If there are fewer than 2 steps, or no history.
    """

    steps: int
    _: dataclasses.KW_ONLY
    one_step: float = 1.0
    history: int = 1
    metric: Metric = relative_l2

    def __post_init__(self) -> None:
        _check_steps(self.steps - 1, self.history, 1)

    def horizon(self, bundle: int = 1) -> int:
        """As in `AbstractForecastLoss`."""
        return bundle * self.steps

    def __call__(self, model: ConditionedStep, batch: Batch, keys: Keys) -> tuple[Float[Array, ""], Logs]:
        """As in `AbstractForecastLoss`."""

        def errors(frames: Array, conditions: Conditions) -> tuple[Array, Array]:
            seen, later = frames[: self.history], frames[self.history :]
            new = model(seen, conditions)
            first = _step_error(self.metric, later, new, 0)
            for _ in range(self.steps - 1):
                seen = jax.lax.stop_gradient(followed_by(seen, new))
                new = model(seen, conditions)
            last = _step_error(self.metric, later, new, self.steps - 1)
            return self.one_step * first + last, last

        return _mean(errors, batch)


@dataclasses.dataclass(frozen=True)
class Noisy(AbstractForecastLoss):
    """Another loss, with Gaussian noise on the frames that the model is given; what it is compared with has none.

    Source: Sanchez-Gonzalez et al., "Learning to simulate complex physics with graph networks", ICML 2020,
    arXiv:2002.09405, section 4.3, with independent noise of each frame in place of a random walk.

    Args:
        sigma: Deviation of the noise, relative to that of each channel over the frames given and the batch.
        loss: The other loss.

    Raises:
        ValueError: If `sigma` is negative, or the loss is one of maps, which are given no frames.
    """

    sigma: float
    loss: AbstractForecastLoss = Unrolled()
    history: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", self.loss.history)
        _check_sigma(self.sigma)
        _check_steps(1, self.history, 1)

    def horizon(self, bundle: int = 1) -> int:
        """As in `AbstractForecastLoss`."""
        return self.loss.horizon(bundle)

    def __call__(self, model: ConditionedStep, batch: Batch, keys: Keys) -> tuple[Float[Array, ""], Logs]:
        """As in `AbstractForecastLoss`."""
        noise, rest = _split(keys)
        frames = jnp.asarray(batch["frames"])
        seen = _with_noise(frames[:, : self.history], self.sigma, 2, noise)
        return self.loss(model, {**batch, "frames": jnp.concatenate((seen, frames[:, self.history :]), axis=1)}, rest)


@dataclasses.dataclass(frozen=True)
class OfMembers(AbstractForecastLoss):
    """As `of_members`, of a loss of windows.

    Args:
        loss: The loss of a member.
    """

    loss: AbstractForecastLoss
    history: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", self.loss.history)

    def horizon(self, bundle: int = 1) -> int:
        """As in `AbstractForecastLoss`."""
        return self.loss.horizon(bundle)

    def __call__(self, model: Any, batch: Batch, keys: Keys) -> tuple[Float[Array, ""], Logs]:
        """As in `AbstractForecastLoss`."""
        return of_members(self.loss)(model, batch, keys)


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """Losses one after the other, more steps later on: `Curriculum([(500, Unrolled(1)), (500, Unrolled(4))])`.

    `train.make_step` compiles each phase, before the first step; the number of optimiser steps done selects the phase,
    so that resuming is exact.

    Args:
        phases: `(steps, loss)`: number of optimiser steps, and the loss in them. The last loss stays to the end.

    Raises:
        ValueError: If there is no phase, a number of steps is not positive, or the histories differ.
    """

    phases: Sequence[tuple[int, AbstractForecastLoss]]

    def __post_init__(self) -> None:
        histories = {loss.history for _, loss in self.phases}
        if len(histories) != 1 or min(steps for steps, _ in self.phases) < 1:
            raise ValueError(
                f"Expected phases of 1 or more steps and losses of one history, got {len(self.phases)} phases of "
                f"{[steps for steps, _ in self.phases]} steps with histories {sorted(histories)}."
            )

    @property
    def history(self) -> int:
        """Number of frames that the model sees."""
        return self.phases[0][1].history

    def horizon(self, bundle: int = 1) -> int:
        """The largest number of frames after the history that a phase needs."""
        return max(loss.horizon(bundle) for _, loss in self.phases)

    @property
    def starts(self) -> tuple[int, ...]:
        """Number of optimiser steps done at which each phase begins."""
        return tuple(sum(steps for steps, _ in self.phases[:i]) for i in range(len(self.phases)))
