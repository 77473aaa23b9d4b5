"""Errors of each sample and step of trajectories `(samples, time, channels, *space)`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.metrics._channels import Metric

Trajectories = Float[Array | np.ndarray, "_samples _time _channels *_space"]
"""Several trajectories; that predictions and truths have one shape is checked by `check_trajectories`."""


def step_errors(
    metric: Metric, predictions: Trajectories, truths: Trajectories
) -> Float[np.ndarray, "_samples _time *values"]:
    """The error of each sample and step, without NaN.

    An error that is NaN becomes 0 if the prediction equals the truth (0 / 0 of a relative error), else infinite.

    Args:
        metric: Error of one field: a scalar, or an array whose last axis is the channels. It is compiled once for each
            metric object and shape: keep the result of `functools.partial`, `per_channel` and `channel_sum`.
        predictions: Predicted frames, without the frames that were given.
        truths: True frames.

    Raises:
        ValueError: If the shapes differ, there is no frame, or a truth is not finite.
    """
    check_trajectories(predictions, truths)
    return np.asarray(_step_errors(jnp.asarray(predictions), jnp.asarray(truths), metric))


@functools.partial(jax.jit, static_argnames="metric")
def _step_errors(predictions: Array, truths: Array, metric: Metric) -> Array:
    def of_frame(prediction: Array, truth: Array) -> Array:
        return without_nan(metric(prediction, truth), prediction, truth)

    return jax.vmap(jax.vmap(of_frame))(predictions, truths)


def without_nan(
    error: Float[Array, "*values"], prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
) -> Float[Array, "*values"]:
    """The error of a frame with 0 in place of NaN where the prediction is exact, else with infinity."""
    same = prediction == truth
    exact = jnp.all(same) if error.ndim == 0 else jnp.all(same, axis=tuple(range(1, same.ndim)))
    exact = jnp.broadcast_to(exact.reshape((1,) * (error.ndim - exact.ndim) + exact.shape), error.shape)
    return jnp.where(jnp.isnan(error), jnp.where(exact, 0, jnp.inf), error)


def check_trajectories(predictions: Trajectories, truths: Trajectories) -> None:
    """Raises ValueError if the shapes differ, there is no frame, or a truth is not finite."""
    if predictions.shape != truths.shape or predictions.ndim < 3 or 0 in predictions.shape:
        raise ValueError(
            "Expected predictions and truths of one shape (samples, time, channels, *space) without a zero, got "
            f"{predictions.shape} and {truths.shape}. Give the truths of the predicted frames only."
        )
    finite = np.isfinite(truths).reshape(len(truths), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"Expected finite truths, sample {int(np.argmin(finite))} has values that are not. Fill them, in the "
            "predictions as well, or leave the sample out."
        )
