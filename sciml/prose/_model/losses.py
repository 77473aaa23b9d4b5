"""The training loss of PROSE: squared errors of the states plus cross entropy of the equation tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from sciml import cut
from sciml.losses import Keys, Loss
from sciml.metrics import relative_l2
from sciml.prose._model.states import PerTrajectory, in_precision
from sciml.prose._samples.dataset import Sample

EPSILON = 1e-5
Squares = Callable[[Array, Sample, int], Array]
"""`(predicted states, sample, number of given times) -> squared error of the sample`."""


def relative_squares(
    prediction: Float[Array, "time components"],
    truth: Float[Array, "time components"],
    components: Bool[Array, " components"],
) -> Float[Array, ""]:
    """||prediction - truth||^2 / (||truth||^2 + 1e-5), over all times and the components where `components` is true."""
    states = (jnp.where(components[None], one, 0) for one in (prediction, truth))
    return relative_l2(*states, epsilon_squared=EPSILON) ** 2


def cross_entropy(
    logits: Float[Array, "*batch k vocabulary"], tokens: Int[Array, "*batch k"], mask: Bool[Array, "*batch k"]
) -> Float[Array, ""]:
    """Mean of -log p(token) over all tokens where `mask` is true, so that long equations weigh more than short ones.

    Parts of a batch on several devices get numbers whose mean is that of the whole batch.
    """
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    entropy = jax.nn.logsumexp(logits, axis=-1) - chosen
    count = cut.mean_over_batch(jnp.asarray(mask.sum(), entropy.dtype))
    return jnp.sum(jnp.where(mask, entropy, 0)) / jnp.where(count == 0, 1, count)


def relative_to_truth(prediction: Float[Array, "later components"], sample: Sample, history: int) -> Float[Array, ""]:
    """`relative_squares` of the predicted states, those after the first `history` ones: the data loss of PROSE-ODE."""
    return relative_squares(prediction, sample.states[history:], sample.components)


def relative_to_inputs(
    prediction: Float[Array, "later components *space"], sample: Sample, history: int, *, epsilon: float = 1e-6
) -> Float[Array, ""]:
    """Mean of ((prediction - truth) / (deviation + epsilon))^2, where the deviation is that of the history.

    The deviation is the standard deviation of each component over the first `history` times and all points. The mean is
    over the predicted times, all points and the components of the system. This is the data loss of PROSE-PDE, and with
    `epsilon=1e-8` of PROSE-FD, whose models scale their states by the same deviation.
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
    """The PROSE loss of a batch of `Sample`s: data * (mean squared error) + symbols * (cross entropy).

    The squared error is a mean over samples, the cross entropy one over all tokens of the batch. A model that writes no
    equation has the unweighted squared error as its loss.

    Args:
        history: Number of times that the model sees; it predicts the states at the others.
        data: Weight of the squared error of the states.
        symbols: Weight of the cross entropy of the tokens.
        squares: The squared error of one sample: `relative_to_truth` or `relative_to_inputs`.
        dtype: Data type of the activations, see `in_precision`. None means that of the parameters.

    Returns:
        A loss that also logs both unweighted terms, as `data` and `symbols`.
    """

    def loss(model: PyTree, batch: Sample, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        model = model if dtype is None else in_precision(model, dtype)
        predictions, logits = jax.vmap(lambda sample: applied(model, sample, history))(batch)
        error = jax.vmap(lambda prediction, sample: squares(prediction, sample, history))(predictions, batch).mean()
        if logits is None:
            return error, {"data": error}
        entropy = cross_entropy(logits, batch.equation[:, 1:], batch.equation_mask[:, 1:])
        return data * error + symbols * entropy, {"data": error, "symbols": entropy}

    return loss


def applied(model: PyTree, sample: Sample, history: int) -> tuple[Array, Array | None]:
    """Calls the model with the first `history` times of a sample.

    Returns:
        The predicted states at the other times, and the teacher-forced logits of the equation, or None if the model
        writes no equation.
    """
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
