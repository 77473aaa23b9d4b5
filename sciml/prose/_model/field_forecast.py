"""Forecasts of frames: a neural operator as a baseline for `Prose`, and the error of each predicted frame."""

import functools
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sciml.metrics import relative_l2
from sciml.prose._model.losses import applied
from sciml.prose._model.model import Prose
from sciml.prose._model.states import PerTrajectory, Unscaled
from sciml.prose._samples.dataset import Sample


@final
class FieldForecast(eqx.Module):
    """A baseline: a neural operator with the call signature of a 1-to-1 `Prose`, which reads and writes no equation.

    The history frames are scaled and stacked along the channel axis. The operator maps them to the scaled future
    frames, stacked in the same way.

    Attributes:
        operator: `(history * channels, *space) -> (horizon * channels, *space)`.
        scaling: `(states, mask) -> scales`.
        symbol_encoder: Always None, as in a `Prose` that reads no equation.
        symbol_decoder: Always None, as in a `Prose` that writes no equation.
    """

    operator: Callable[[Array], Array]
    scaling: Unscaled | PerTrajectory
    symbol_encoder: None = None
    symbol_decoder: None = None

    def __call__(
        self,
        times: Float[Array, " time"],
        states: Float[Array, "time channels *space"],
        query_times: Float[Array, " query"],
        tokens: Int[Array, " m"] | None = None,
        equation: Int[Array, " k"] | None = None,
        *,
        mask: Bool[Array, " time"] | None = None,
        tokens_mask: Bool[Array, " m"] | None = None,
    ) -> tuple[Float[Array, "query channels *space"], None]:
        """One frame per query time, and None in place of the logits. The operator does not see the values of times.

        Raises:
            ValueError: If tokens or an equation are given, or if the number of frames that the operator predicts is
                not the number of query times.
        """
        if tokens is not None or equation is not None or tokens_mask is not None:
            raise ValueError("An operator reads and writes no equation. Leave the tokens out.")
        scales = self.scaling(states, jnp.ones(times.shape, bool) if mask is None else mask)
        x = scales.encode(states)
        y = self.operator(x.reshape(-1, *x.shape[2:]))
        if y.shape[0] != len(query_times) * x.shape[1]:
            raise ValueError(
                f"Expected {len(query_times)} frames of {x.shape[1]} channels from the operator, got {y.shape[0]} "
                "channels. Give it as many output channels, or ask for as many frames as it predicts."
            )
        return scales.decode(y.reshape(-1, *x.shape[1:])), None


def frame_errors(
    prediction: Float[Array, "time channels *space"],
    truth: Float[Array, "time channels *space"],
    channels: Bool[Array, " channels"],
) -> Float[Array, " time"]:
    """Relative L2 error of each frame, with 1e-7 added to the norm of the truth; see `metrics.relative_l2`.

    Only channels where `channels` is true count. The error of PROSE-FD (second-hand) is the mean over frames, then over
    samples, then over families.
    """
    mask = channels.reshape(1, -1, *(1,) * (truth.ndim - 2))
    frames = (jnp.where(mask, states, 0) for states in (prediction, truth))
    return jax.vmap(functools.partial(relative_l2, epsilon=1e-7))(*frames)


@final
class FrameErrors(eqx.Module):
    """Errors of each predicted frame of a sample, for a model and for the persistence baseline.

    The persistence baseline repeats the last history frame.

    Attributes:
        model: A `Prose` or a `FieldForecast`.
        history: Number of frames that the model sees; it predicts the others.
    """

    model: Prose | FieldForecast
    history: int = eqx.field(static=True)

    def __call__(self, sample: Sample) -> dict[str, Float[Array, " later"]]:
        """The `frame_errors` of the model under `model` and of the persistence baseline under `repeated`."""
        truth = sample.states[self.history :]
        repeated = jnp.broadcast_to(sample.states[self.history - 1][None], truth.shape)
        predictions = {"model": applied(self.model, sample, self.history)[0], "repeated": repeated}
        return {name: frame_errors(one, truth, sample.components) for name, one in predictions.items()}
