"""PROSE-FD: embeds square patches of the frames of a 2D field, and predicts frames patch by patch."""

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
    """A learned embedding for the first, second, ... frame, independent of the values of the times.

    Attributes:
        table: The embeddings; the initial values are standard normal.
    """

    table: Float[Array, "frames width"]

    def __init__(self, frames: int, width: int, *, key: PRNGKeyArray) -> None:
        """For up to `frames` frames."""
        self.table = jax.random.normal(key, (frames, width))

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "time width"]:
        """One embedding per time, by its position in `times`.

        Raises:
            ValueError: If there are more times than embeddings.
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
    """Embeds each patch: an MLP of its values plus an embedding of its time plus an embedding of its place.

    Patches do not overlap. Their order is (time, x, y), with y running fastest.

    Attributes:
        network: Acts on the values of a patch, flattened from (channels, x, y).
        time: `times -> embeddings`.
        places: Learned embedding of each place in a frame; the initial values are standard normal.
        patch: Edge length of a patch in grid points.
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
            patch: Edge length of a patch in grid points.
            time: `times -> embeddings`.
            width: Size of the embeddings.
            key: PRNG key of the initial weights.
        """
        network, places = jax.random.split(key)
        self.network = MLP((channels * patch**2, width, width), key=network)
        self.time = time
        self.places = jax.random.normal(places, (patches, width))
        self.patch = patch

    def __call__(
        self, times: Float[Array, " time"], states: Float[Array, "time channels x y"], scales: Scales
    ) -> Float[Array, "rows width"]:
        """One embedding per patch. The frames are already scaled; `scales` is not used.

        Raises:
            ValueError: If the patches do not fill the frames, or if their number is not the one the model was made for.
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
    """Query embeddings of the data decoder, one per patch: the embedding of its time plus that of its place.

    Attributes:
        time: `times -> embeddings`.
        places: Learned embedding of each place in a frame; the initial values are standard normal.
    """

    time: Callable[[Array], Array]
    places: Float[Array, "patches width"]

    def __init__(self, patches: int, *, time: Callable[[Array], Array], width: int, key: PRNGKeyArray) -> None:
        """For frames of `patches` patches and embeddings of size `width`."""
        self.time = time
        self.places = jax.random.normal(key, (patches, width))

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "rows width"]:
        """The queries of all patches at the first time, then at the second, and so on."""
        return _add_places(self.time(times), self.places)


@final
class PatchHead(eqx.Module):
    """Maps each decoded embedding to a patch: a transposed convolution, GELU, and an MLP at each point.

    The stride of the convolution is the patch size, so that it is a dense layer from the embedding to the hidden
    channels of all points of the patch.

    Attributes:
        spread: Weights of the transposed convolution.
        shift: Bias of the transposed convolution, one value per hidden channel.
        network: MLP from the hidden channels to the channels of a frame.
        patch: Edge length of a patch in grid points.
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
        """Draws the weights; those and the bias of the convolution are uniform in +-1 / sqrt(hidden * patch^2).

        Args:
            width: Size of the embeddings.
            hidden: Number of hidden channels.
            channels: Number of channels of a frame.
            patch: Edge length of a patch in grid points.
            shape: Number of patches along each axis.
            key: PRNG key of the initial weights.
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
        """The scaled frames, assembled from their patches."""
        p = self.patch
        hidden = self.spread(rows).reshape(rows.shape[0], -1, p * p) + self.shift[None, :, None]
        points = self.network(gelu(jnp.swapaxes(hidden, 1, 2)))
        frames = points.reshape(-1, *self.shape, p, p, points.shape[-1]).transpose(0, 5, 1, 3, 2, 4)
        return frames.reshape(*frames.shape[:2], self.shape[0] * p, self.shape[1] * p)
