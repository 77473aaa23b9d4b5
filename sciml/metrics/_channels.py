"""Errors of each channel of one sample, `(prediction, truth) -> (channels,)`, and how other errors become such."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml import cut
from sciml.metrics._fields import root

Metric = Callable[[Array, Array], Array]
"""`(prediction, truth) -> error` of one field `(channels, *space)`: a scalar, or an array with the channels last."""


def per_channel(metric: Metric) -> Metric:
    """An error over all channels as one of each channel, `(channels, *space) -> (channels,)`.

    `per_channel(rmse)` is PDEBench's RMSE; `per_channel(functools.partial(relative_h1, grid=grid))` is the relative H1
    error of each channel.

    Args:
        metric: `(prediction, truth) -> scalar`, of fields with one channel.
    """

    def each(
        prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
    ) -> Float[Array, " channels"]:
        return jax.vmap(metric)(prediction[:, None], truth[:, None])

    return each


def channel_sum(metric: Metric) -> Metric:
    """The sum over the channels of an error of each channel: `channel_sum(nrmse)` is APEBench's nRMSE.

    Args:
        metric: `(prediction, truth) -> (channels,)`.
    """

    def summed(prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]) -> Float[Array, ""]:
        return jnp.sum(metric(prediction, truth))

    return summed


def _mean(u: Float[Array, "channels *space"]) -> Float[Array, " channels"]:
    return cut.mean_over_parts(jnp.mean(u, axis=tuple(range(1, u.ndim))))


def nrmse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, epsilon: float = 0.0
) -> Float[Array, " channels"]:
    """sqrt(mean (u - r)^2 / (mean r^2 + epsilon)) of each channel: the relative L2 error if epsilon is 0.

    The nRMSE of PDEBench (Takamoto et al., 2022) and, summed over the channels, of APEBench (Koehler et al., 2024). The
    Well's NRMSE has epsilon 1e-7, in the squared units of the field.
    """
    return root(_mean((prediction - truth) ** 2)) / root(_mean(truth**2) + epsilon)


def vrmse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, epsilon: float = 1e-7
) -> Float[Array, " channels"]:
    """sqrt(mean (u - r)^2 / (var r + epsilon)) of each channel, with the unbiased variance over the points.

    A prediction that is the mean of the truth everywhere has an error of about 1, sqrt((n - 1) / n) for n points.

    Source: The Well (Ohana et al., NeurIPS 2024), package the_well 1.2.0.

    Args:
        prediction: The predicted field.
        truth: The true field.
        epsilon: In the squared units of the field; 0 makes the error independent of them.

    Raises:
        ValueError: If the field has one point, whose variance is not defined.
    """
    points = math.prod(cut.whole_shape(truth.shape[1:], cut.axes(truth, truth.ndim - 1)))
    if points < 2:
        raise ValueError(f"The variance of a field needs 2 points, got {points}. Use rmse or nrmse for such fields.")
    mean = _mean(truth).reshape(-1, *(1,) * (truth.ndim - 1))
    variance = _mean((truth - mean) ** 2) * (points / (points - 1))
    return root(_mean((prediction - truth) ** 2)) / root(variance + epsilon)


def nmae(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, epsilon: float = 1e-7
) -> Float[Array, " channels"]:
    """Mean |u - r| / (mean |r| + epsilon) of each channel.

    Source: The Well (Ohana et al., NeurIPS 2024), package the_well 1.2.0; epsilon in the units of the field.
    """
    return _mean(jnp.abs(prediction - truth)) / (_mean(jnp.abs(truth)) + epsilon)


def max_error(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
) -> Float[Array, " channels"]:
    """Max |u - r| over the points of each channel: the maximum error of PDEBench, the L-infinity error of The Well."""
    cut.refuse(prediction, prediction.ndim - 1, "The largest error")
    return jnp.max(jnp.abs(prediction - truth), axis=tuple(range(1, truth.ndim)))


def boundary_rmse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
) -> Float[Array, " channels"]:
    """Root of the mean squared error over the points of all faces of the box, of each channel.

    A point on several faces counts once for each: corners in 2-D twice. The bRMSE of PDEBench (Takamoto et al., 2022)
    of one sample, in 1 to 3 dimensions.
    """
    cut.refuse(prediction, prediction.ndim - 1, "The error on the boundary")
    squares = (prediction - truth) ** 2
    faces = [jnp.take(squares, side, axis) for axis in range(1, squares.ndim) for side in (0, -1)]
    total = jnp.sum(jnp.stack([jnp.sum(face, axis=tuple(range(1, face.ndim))) for face in faces]), axis=0)
    return root(total / sum(face[0].size for face in faces))


def pearson(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
) -> Float[Array, " channels"]:
    """Pearson's correlation over the points of each channel, from -1 to 1, equal for u and a + b u with b > 0.

    A constant field has no pattern: two constant fields have correlation 1, a constant and another field 0.

    the_well 1.2.0 divides a biased covariance by unbiased deviations and adds 1e-7 to their product: its PearsonR is
    this one times (n - 1) / n for n points, up to the 1e-7.
    """
    cut.refuse(prediction, prediction.ndim - 1, "A correlation")

    def pattern(u: Array) -> Array:
        space = tuple(range(1, u.ndim))
        constant = jnp.max(u, axis=space, keepdims=True) == jnp.min(u, axis=space, keepdims=True)
        return jnp.where(constant, u - u, u - jnp.mean(u, axis=space, keepdims=True))

    return cosine_similarity(pattern(prediction), pattern(truth))


def cosine_similarity(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
) -> Float[Array, " channels"]:
    """<u, r> / (||u|| ||r||) over the points of each channel: Pearson's correlation without subtracted means.

    Two fields that are zero everywhere have similarity 1, a zero field and another one 0. The mean over the channels is
    `correlation` of exponax 0.1.0, the metrics of APEBench.
    """
    cut.refuse(prediction, prediction.ndim - 1, "A similarity")
    space = tuple(range(1, truth.ndim))
    u, r = (root(jnp.sum(field**2, axis=space, keepdims=True)) for field in (prediction, truth))
    product = jnp.sum(prediction / jnp.where(u == 0, 1, u) * (truth / jnp.where(r == 0, 1, r)), axis=space)
    return product + ((u == 0) & (r == 0)).reshape(-1)
