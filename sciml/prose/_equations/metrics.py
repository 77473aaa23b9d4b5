"""Errors of the predicted states and equations of one sample; the caller takes means over samples."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sciml.metrics import relative_l2

_relative = functools.partial(relative_l2, epsilon_squared=1e-6)


class WindowErrors(NamedTuple):
    """Errors over parts of the predicted times.

    Attributes:
        square: Mean squared error over the times and components.
        whole: Relative error over all predicted times.
        first: Relative error over the first half of the predicted times, [2, 4] in the published experiments.
        second: Relative error over the second half, [4, 6].
    """

    square: Float[Array, ""]
    whole: Float[Array, ""]
    first: Float[Array, ""]
    second: Float[Array, ""]


def window_errors(
    prediction: Float[Array, "time components"],
    truth: Float[Array, "time components"],
    components: Bool[Array, " components"] | None = None,
) -> WindowErrors:
    """The published errors of a trajectory; `metrics.relative_l2` adds 1e-6 to the squared norm of the truth.

    Published tables compare with the noisy states. Their noise of 2 % then adds about 2 % to the error of an exact
    prediction. The error of the prediction itself is the one against the clean states.

    Args:
        prediction: States at the predicted times.
        truth: True states at these times.
        components: Which components the system has, by default all; the others do not count.
    """
    mask = True if components is None else components[None]
    half, count = prediction.shape[0] // 2, jnp.broadcast_to(mask, prediction.shape).sum()
    prediction, truth = jnp.where(mask, prediction, 0), jnp.where(mask, truth, 0)
    windows = (slice(None), slice(None, half), slice(half, None))
    relative = (_relative(prediction[window], truth[window]) for window in windows)
    return WindowErrors(jnp.sum((prediction - truth) ** 2) / count, *relative)


def expression_error(
    values: Float[Array, "points written"], truth: Float[Array, "points components"]
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Relative error of the values of predicted equations at points, and whether all values are finite.

    The published mean covers only the samples whose equations can be parsed and have finite values.

    Raises:
        ValueError: If the predicted system has another number of components than the true one.
    """
    if values.shape != truth.shape:
        raise ValueError(
            f"Expected values of shape {truth.shape} (points, components), got {values.shape}. Count an equation with "
            "another number of components as invalid."
        )
    return _relative(values, truth), jnp.isfinite(values).all()
