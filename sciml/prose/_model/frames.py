"""Frames of a field on an interval as rows, one each (PROSE-PDE)."""

from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nn import MLP, Frozen
from sciml.prose._model.states import Scales, TimeEmbedding, rounded_for, time_network


@final
class FrameEmbedding(eqx.Module):
    """A network of all values of a frame, plus one of its time.

    Attributes:
        network: Acts on the values of a frame, channel by channel.
        time: Of the times.
    """

    network: MLP
    time: TimeEmbedding

    def __init__(self, values: int, width: int, *, key: PRNGKeyArray) -> None:
        """For frames with that many values, over channels and points, and rows of length `width`."""
        network, time = jax.random.split(key)
        self.network = MLP((values, width, width), key=network)
        self.time = time_network(width, key=time)

    def __call__(
        self, times: Float[Array, " time"], states: Float[Array, "time channels points"], scales: Scales
    ) -> Float[Array, "time width"]:
        """The rows of scaled frames.

        Raises:
            ValueError: If the frames have another number of values.
        """
        values = self.network.layers[0].weight.shape[0]
        if states.shape[1] * states.shape[2] != values:
            raise ValueError(
                f"Expected frames (channels, points) with {values} values, got {states.shape[1:]}. Interpolate the "
                "frames to the points that the model was made for."
            )
        return self.network(rounded_for(self.network, states.reshape(-1, values))) + self.time(times)


@final
class FrameQuery(eqx.Module):
    """Asks for whole frames, or for values at points.

    A frame's row is its time's plus a vector; a point's row is its time's plus that of its coordinate.

    Attributes:
        time: Of the times.
        space: Of the coordinates. The published class holds it in both modes; frames do not use it.
        vector: Added for frames; points do not use it.
        points: Coordinates of the points, or None for frames.
    """

    time: TimeEmbedding
    space: TimeEmbedding
    vector: Float[Array, " width"]
    points: Frozen | None

    def __init__(self, width: int, *, points: Float[Array, " points"] | None = None, key: PRNGKeyArray) -> None:
        """Queries of frames, or of the given points, with rows of length `width`; the vector is standard normal."""
        time, space, vector = jax.random.split(key, 3)
        self.time = time_network(width, key=time)
        self.space = time_network(width, key=space)
        self.vector = jax.random.normal(vector, (width,))
        self.points = None if points is None else Frozen(points)

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "rows width"]:
        """The rows, time by time."""
        rows = self.time(times)
        if self.points is None:
            return rows + self.vector[None]
        return (rows[:, None] + self.space(self.points.value)[None]).reshape(-1, rows.shape[1])


@final
class FrameHead(eqx.Module):
    """A network that makes a frame of each row, or a value of each point's row.

    Attributes:
        network: Acts on a row.
        channels: Number of channels of a frame.
        points: Number of its points.
    """

    network: MLP
    channels: int = eqx.field(static=True)
    points: int = eqx.field(static=True)

    def __call__(self, rows: Float[Array, "rows width"]) -> Float[Array, "time channels points"]:
        """The frames."""
        return self.network(rows).reshape(-1, self.channels, self.points)
