"""Training losses `(model, batch, key) -> (scalar, logs)`: they alone know a model's call and a batch's layout."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

Metric = Callable[[Array, Array], Float[Array, ""]]
Loss = Callable[[PyTree, PyTree, Key[Array, ""]], tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]


def supervised(metric: Metric, *, scale: float = 1.0) -> Loss:
    """Mean over the batch of `scale * metric(model(x), y)`, for batches `(x, y)` of fields with a leading batch axis.

    Args:
        metric: Error of one sample, e.g. `metrics.relative_l2` or `functools.partial(metrics.relative_h1, grid=grid)`.
        scale: Factor; the batch size makes it the sum over the batch, the published form, also on several devices.
    """

    def loss(model: PyTree, batch: PyTree, key: Key[Array, ""]) -> tuple[Float[Array, ""], dict[str, Array]]:
        x, y = batch
        return scale * jnp.mean(jax.vmap(lambda x, y: metric(model(x), y))(x, y)), {}

    return loss


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

    def both(model: PyTree, batch: PyTree, key: Key[Array, ""]) -> tuple[Float[Array, ""], dict[str, Array]]:
        value, logs = loss(model, batch, key)
        squares = jnp.mean(jax.vmap(lambda x: jnp.mean(residual(x, model(x)) ** 2))(batch[0]))
        return value + weight * squares, {**logs, "residual": squares}

    return both
