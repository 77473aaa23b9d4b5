"""PROSE-PDE: embeds each frame of a 1D field as one vector, and predicts frames or point values from such vectors."""

from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nn import MLP, Frozen
from sciml.prose._model.states import Scales, TimeEmbedding, rounded_for, time_network


@final
class FrameEmbedding(eqx.Module):
    """Embeds each frame as one vector: an MLP of the values of the frame plus an MLP of its time.

    Attributes:
        network: Acts on the values of a frame, flattened from (channels, points).
        time: Embeds the times.
    """

    network: MLP
    time: TimeEmbedding

    def __init__(self, values: int, width: int, *, key: PRNGKeyArray) -> None:
        """For frames of `values` = channels * points values and embeddings of size `width`."""
        network, time = jax.random.split(key)
        self.network = MLP((values, width, width), key=network)
        self.time = time_network(width, key=time)

    def __call__(
        self, times: Float[Array, " time"], states: Float[Array, "time channels points"], scales: Scales
    ) -> Float[Array, "time width"]:
        """One embedding per frame. The frames are already scaled; `scales` is not used.

        Raises:
            ValueError: If channels * points differs from the number of values that the model was made for.
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
    """Query embeddings of the data decoder: one per frame, or one per time and point.

    The query of a frame is the embedding of its time plus a learned vector. The query of a point is the embedding of
    its time plus the embedding of its coordinate.

    Attributes:
        time: Embeds the times.
        space: Embeds the coordinates. Queries of frames do not use it, but the published class holds it in both modes.
        vector: Learned vector of frame queries; queries of points do not use it.
        points: Coordinates of the points, or None for frames.
    """

    time: TimeEmbedding
    space: TimeEmbedding
    vector: Float[Array, " width"]
    points: Frozen | None

    def __init__(self, width: int, *, points: Float[Array, " points"] | None = None, key: PRNGKeyArray) -> None:
        """Queries of size `width`, of `points` or, if that is None, of frames; the vector is standard normal."""
        time, space, vector = jax.random.split(key, 3)
        self.time = time_network(width, key=time)
        self.space = time_network(width, key=space)
        self.vector = jax.random.normal(vector, (width,))
        self.points = None if points is None else Frozen(points)

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "rows width"]:
        """The queries: one per time, or those of all points at the first time, then at the second, and so on."""
        rows = self.time(times)
        if self.points is None:
            return rows + self.vector[None]
        return (rows[:, None] + self.space(self.points.value)[None]).reshape(-1, rows.shape[1])


@final
class FrameHead(eqx.Module):
    """Maps each decoded embedding to a frame, or to the value at one point if the queries are points.

    Attributes:
        network: Acts on one embedding.
        channels: Number of channels of a frame.
        points: Number of points of a frame.
    """

    network: MLP
    channels: int = eqx.field(static=True)
    points: int = eqx.field(static=True)

    def __call__(self, rows: Float[Array, "rows width"]) -> Float[Array, "time channels points"]:
        """The scaled frames."""
        return self.network(rows).reshape(-1, self.channels, self.points)
