"""Square patches of the frames of a plane field as rows (PROSE-FD)."""

import math
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nn import MLP, Dense, gelu
from sciml.prose._model.states import Scales, rounded_for


@final
class LearnedTimes(eqx.Module):
    """A learned row for the first, second, ... frame, whatever its time is.

    Attributes:
        table: The rows, standard normal at first.
    """

    table: Float[Array, "frames width"]

    def __init__(self, frames: int, width: int, *, key: PRNGKeyArray) -> None:
        """For up to `frames` frames."""
        self.table = jax.random.normal(key, (frames, width))

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "time width"]:
        """One row for each of the times.

        Raises:
            ValueError: If there are more times than rows.
        """
        if times.shape[0] > self.table.shape[0]:
            raise ValueError(
                f"Expected up to {self.table.shape[0]} frames, got {times.shape[0]}. Make the model with more frames."
            )
        return self.table[: times.shape[0]]


def _add_places(times: Float[Array, "time width"], places: Float[Array, "patches width"]) -> Array:
    return (times[:, None] + places[None]).reshape(-1, places.shape[1])


@final
class PatchEmbedding(eqx.Module):
    """A network of the values of each patch, plus a row of its time and one of its place.

    Patches do not overlap; those of a frame follow each other with the last axis of space running fastest.

    Attributes:
        network: Acts on the values of a patch, channel by channel.
        time: `times -> rows`.
        places: Learned rows, standard normal at first.
        patch: Edge of a patch in points.
    """

    network: MLP
    time: Callable[[Array], Array]
    places: Float[Array, "patches width"]
    patch: int = eqx.field(static=True)

    def __init__(
        self, channels: int, patches: int, *, patch: int, time: Callable[[Array], Array], width: int, key: PRNGKeyArray
    ) -> None:
        """Draws the weights.

        Args:
            channels: Number of channels of a frame.
            patches: Number of patches of a frame.
            patch: As the attribute.
            time: As the attribute.
            width: Length of the rows.
            key: Of the random initial values.
        """
        network, places = jax.random.split(key)
        self.network = MLP((channels * patch**2, width, width), key=network)
        self.time = time
        self.places = jax.random.normal(places, (patches, width))
        self.patch = patch

    def __call__(
        self, times: Float[Array, " time"], states: Float[Array, "time channels x y"], scales: Scales
    ) -> Float[Array, "rows width"]:
        """The rows of scaled frames.

        Raises:
            ValueError: If the frames do not have the number of patches that the model was made for.
        """
        p = self.patch
        frames, channels, *shape = states.shape
        across = [n // p for n in shape]
        if any(n % p for n in shape) or math.prod(across) != self.places.shape[0]:
            raise ValueError(
                f"Expected frames of {self.places.shape[0]} patches of {p}x{p} points, got {tuple(shape)} points. "
                "Interpolate the frames to the grid that the model was made for."
            )
        patches = states.reshape(frames, channels, across[0], p, across[1], p).transpose(0, 2, 4, 1, 3, 5)
        rows = self.network(rounded_for(self.network, patches.reshape(-1, channels * p * p)))
        return rows + _add_places(self.time(times), self.places)


@final
class PatchQuery(eqx.Module):
    """Asks for frames patch by patch: a row of the time plus one of the place.

    Attributes:
        time: `times -> rows`.
        places: Learned rows, standard normal at first.
    """

    time: Callable[[Array], Array]
    places: Float[Array, "patches width"]

    def __init__(self, patches: int, *, time: Callable[[Array], Array], width: int, key: PRNGKeyArray) -> None:
        """For frames of that many patches and rows of length `width`."""
        self.time = time
        self.places = jax.random.normal(key, (patches, width))

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "rows width"]:
        """The rows, time by time."""
        return _add_places(self.time(times), self.places)


@final
class PatchHead(eqx.Module):
    """A transposed convolution that makes a patch of each row, and a network on each of its points.

    Attributes:
        spread: Map of a row to the hidden channels of all points of its patch.
        shift: Added to the hidden channels, the same for all points.
        network: Acts on each point, behind a nonlinearity.
        patch: Edge of a patch in points.
        shape: Number of patches along each axis.
    """

    spread: Dense
    shift: Float[Array, " hidden"]
    network: MLP
    patch: int = eqx.field(static=True)
    shape: tuple[int, int] = eqx.field(static=True)

    def __init__(
        self, width: int, hidden: int, channels: int, *, patch: int, shape: tuple[int, int], key: PRNGKeyArray
    ) -> None:
        """Draws the weights: of the convolution uniformly in +-1 / sqrt(hidden * patch^2).

        Args:
            width: Length of the rows.
            hidden: Number of hidden channels.
            channels: Number of channels of a frame.
            patch: As the attribute.
            shape: As the attribute.
            key: Of the random initial values.
        """
        spread, shift, network = jax.random.split(key, 3)
        bound = 1 / math.sqrt(hidden * patch**2)
        init = jax.nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        self.spread = Dense(width, hidden * patch**2, bias=False, init=init, key=spread)
        self.shift = jax.random.uniform(shift, (hidden,), minval=-bound, maxval=bound)
        self.network = MLP((hidden, hidden, channels), key=network)
        self.patch = patch
        self.shape = shape

    def __call__(self, rows: Float[Array, "rows width"]) -> Float[Array, "time channels x y"]:
        """The frames."""
        p = self.patch
        hidden = self.spread(rows).reshape(rows.shape[0], -1, p * p) + self.shift[None, :, None]
        points = self.network(gelu(jnp.swapaxes(hidden, 1, 2)))
        frames = points.reshape(-1, *self.shape, p, p, points.shape[-1]).transpose(0, 5, 1, 3, 2, 4)
        return frames.reshape(*frames.shape[:2], self.shape[0] * p, self.shape[1] * p)
