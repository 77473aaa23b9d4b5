"""Errors of predictions and equations of one sample; means over samples are the caller's."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_EPSILON = 1e-6


def relative_error(
    prediction: Float[Array, "time components"],
    truth: Float[Array, "time components"],
    components: Bool[Array, " components"] | None = None,
) -> Float[Array, ""]:
    """sqrt(||prediction - truth||^2 / (||truth||^2 + 1e-6)) over the times and the components that exist."""
    mask = True if components is None else components[None]
    squares = jnp.sum(jnp.where(mask, prediction - truth, 0) ** 2)
    return jnp.sqrt(squares / (jnp.sum(jnp.where(mask, truth, 0) ** 2) + _EPSILON))


class WindowErrors(NamedTuple):
    """Errors over parts of the predicted times.

    Attributes:
        square: Mean over the times and components of the squared error.
        whole: Relative error over all times.
        first: Over the first half of them, [2, 4] in the published experiments.
        second: Over the second half, [4, 6].
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
    """The published errors of a trajectory, relative ones by `relative_error`.

    Published tables take the noisy states for the truth, whose noise of 2 % is a floor of about 2 % to their errors;
    the error against the clean states is that of the prediction.
    """
    mask = True if components is None else components[None]
    half, count = prediction.shape[0] // 2, jnp.broadcast_to(mask, prediction.shape).sum()
    square = jnp.sum(jnp.where(mask, prediction - truth, 0) ** 2) / count
    windows = (slice(None), slice(None, half), slice(half, None))
    return WindowErrors(square, *(relative_error(prediction[w], truth[w], components) for w in windows))


def expression_error(
    values: Float[Array, "points written"], truth: Float[Array, "points components"]
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Relative error of the values of written equations at points, and whether they are all finite.

    The published mean is over the samples whose equations can be read and are finite; take it over those alone.

    Raises:
        ValueError: If there are more or fewer equations than there should be.
    """
    if values.shape != truth.shape:
        raise ValueError(
            f"Expected values of shape {truth.shape} (points, components), got {values.shape}. Count an equation with "
            "another number of components as invalid."
        )
    return relative_error(values, truth), jnp.isfinite(values).all()
