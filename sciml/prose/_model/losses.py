"""What PROSE is trained on: squared errors of states, cross entropy of tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from sciml.losses import Loss
from sciml.metrics import relative_l2
from sciml.prose._model.states import PerTrajectory, in_precision
from sciml.prose._samples.dataset import Sample

EPSILON = 1e-5
Squares = Callable[[Array, Sample, int], Array]
"""Predicted states, their sample and the number of given times to the squared error of the sample."""


def relative_squares(
    prediction: Float[Array, "time components"],
    truth: Float[Array, "time components"],
    components: Bool[Array, " components"],
) -> Float[Array, ""]:
    """||prediction - truth||^2 / (||truth||^2 + 1e-5) over the times and the components that exist."""
    states = (jnp.where(components[None], one, 0) for one in (prediction, truth))
    return relative_l2(*states, epsilon_squared=EPSILON) ** 2


def cross_entropy(
    logits: Float[Array, "*batch k vocabulary"], tokens: Int[Array, "*batch k"], mask: Bool[Array, "*batch k"]
) -> Float[Array, ""]:
    """Mean of -log p(token) over all tokens that exist, long equations counting more than short ones."""
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    entropy = jax.nn.logsumexp(logits, axis=-1) - chosen
    return jnp.sum(jnp.where(mask, entropy, 0)) / jnp.maximum(mask.sum(), 1)


def relative_to_truth(prediction: Float[Array, "later components"], sample: Sample, history: int) -> Float[Array, ""]:
    """`relative_squares` of the states behind the first `history` ones: the loss of PROSE-ODE."""
    return relative_squares(prediction, sample.states[history:], sample.components)


def relative_to_inputs(
    prediction: Float[Array, "later components *space"], sample: Sample, history: int, *, epsilon: float = 1e-6
) -> Float[Array, ""]:
    """Mean of ((prediction - truth) / deviation)^2 with the deviation of the first `history` states plus `epsilon`.

    The loss of PROSE-PDE, and of PROSE-FD with 1e-8, whose models predict states that are scaled so. The deviation is
    that of each component over times and points, the mean is over later times, points and the components that exist.
    """
    scales = PerTrajectory(epsilon)(sample.states[:history], jnp.ones(history, bool))
    squares = ((prediction - sample.states[history:]) / scales.deviation[None]) ** 2
    means = jnp.mean(squares, axis=(0, *range(2, squares.ndim)))
    return jnp.sum(jnp.where(sample.components, means, 0)) / jnp.sum(sample.components)


def prose_loss(
    *,
    history: int,
    data: float = 6.0,
    symbols: float = 1.0,
    squares: Squares = relative_to_truth,
    dtype: Any = None,
) -> Loss:
    """The mean over samples of squared errors, and `cross_entropy`, weighted and added, for batches of `Sample`s.

    For a model that writes no equation the first mean alone. The mean of the entropy is over the tokens of a batch; on
    several devices it is the mean of the means of their parts.

    Args:
        history: Number of times that the model is given; it predicts the others.
        data: Weight of the states.
        symbols: Weight of the tokens.
        squares: The squared error of a sample.
        dtype: Data type of the activations, see `in_precision`; by default that of the parameters.

    Returns:
        A loss that also logs `data` and `symbols`.
    """

    def loss(model: PyTree, batch: Sample, key: Key[Array, ""]) -> tuple[Float[Array, ""], dict[str, Array]]:
        model = model if dtype is None else in_precision(model, dtype)
        predictions, logits = jax.vmap(lambda sample: applied(model, sample, history))(batch)
        error = jax.vmap(lambda prediction, sample: squares(prediction, sample, history))(predictions, batch).mean()
        if logits is None:
            return error, {"data": error}
        entropy = cross_entropy(logits, batch.equation[:, 1:], batch.equation_mask[:, 1:])
        return data * error + symbols * entropy, {"data": error, "symbols": entropy}

    return loss


def applied(model: PyTree, sample: Sample, history: int) -> tuple[Array, Array | None]:
    """States at the times behind the first `history` ones, and logits of the equation if the model writes one."""
    times, rest = sample.times[:history], sample.times[history:]
    reads, writes = model.symbol_encoder is not None, model.symbol_decoder is not None
    return model(
        times,
        sample.states[:history],
        rest,
        sample.tokens if reads else None,
        sample.equation[:-1] if writes else None,
        tokens_mask=sample.tokens_mask if reads else None,
    )
