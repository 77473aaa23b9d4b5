"""States of ordinary differential equations as rows, times as rows, and the scales of a trajectory."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from sciml.nn import MLP, Dense, FourierFeatures, PlainFeature, partition

TimeFeatures = PlainFeature | FourierFeatures
_PLAIN = PlainFeature()


def in_precision(model: Any, dtype: Any) -> Any:
    """A model whose activations have another data type, such as bfloat16: its parameters, rounded.

    Called inside of the loss it leaves the parameters and the optimiser's small steps in their own precision. Times
    and states are scaled and turned into features in their own data type before they are rounded, predictions are
    scaled back and logits returned in it or in float32. What is not trained is not rounded.
    """
    trained, rest = partition(model)
    return eqx.combine(jax.tree.map(lambda leaf: leaf.astype(dtype), trained), rest)


def rounded_for(layer: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x` in the data type of the arrays of a layer."""
    return x.astype(jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array))[0].dtype)


@final
class Scales(eqx.Module):
    """The affine map to (x - mean) / deviation and back, one mean and deviation per channel.

    Attributes:
        mean: `(channels, 1, ...)`, as many axes as one state.
        deviation: The same.
    """

    mean: Float[Array, "channels *ones"]
    deviation: Float[Array, "channels *ones"]

    def encode(self, states: Float[Array, "time channels *space"]) -> Float[Array, "time channels *space"]:
        """(states - mean) / deviation."""
        return (states - self.mean[None]) / self.deviation[None]

    def decode(self, states: Float[Array, "time channels *space"]) -> Float[Array, "time channels *space"]:
        """The inverse of `encode`."""
        return states * self.deviation[None] + self.mean[None]


@final
class Unscaled(eqx.Module):
    """Mean 0 and deviation 1: states enter as they are."""

    def __call__(self, states: Float[Array, "time channels *space"], mask: Bool[Array, " time"]) -> Scales:
        """The scales of every trajectory."""
        shape = (states.shape[1],) + (1,) * (states.ndim - 2)
        return Scales(jnp.zeros(shape, states.dtype), jnp.ones(shape, states.dtype))


@final
class PerTrajectory(eqx.Module):
    """Mean and unbiased deviation of each channel of one trajectory, over its times and points.

    Attributes:
        epsilon: Added to the deviation; what a channel that does not vary is divided by.
    """

    epsilon: float = eqx.field(static=True, default=1e-3)

    def __call__(self, states: Float[Array, "time channels *space"], mask: Bool[Array, " time"]) -> Scales:
        """The scales of the states where the mask is true."""
        axes = (0, *range(2, states.ndim))
        weight = mask.astype(states.dtype).reshape(-1, *(1,) * (states.ndim - 1))
        count = weight.sum() * float(np.prod(states.shape[2:]))
        mean = (weight * states).sum(axes, keepdims=True) / count
        variance = (weight * (states - mean) ** 2).sum(axes, keepdims=True) / jnp.maximum(count - 1, 1)
        varies = variance > 0  # the slope of the root at 0 is infinite
        deviation = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0) + self.epsilon
        return Scales(mean[0], deviation[0])


@final
class StateEmbedding(eqx.Module):
    """One row per time: a network of the features of the time and of the state.

    Attributes:
        features: Of a time.
        network: Acts on [features, state].
        amplitude: Map of [arcsinh(mean), log(deviation)] of the trajectory that is added to each row, or None: an
            equation is not invariant under scaling, so its coefficients cannot be told from scaled states.
    """

    features: TimeFeatures
    network: MLP
    amplitude: Dense | None

    def __init__(
        self, components: int, width: int, *, features: TimeFeatures, amplitude: bool = False, key: PRNGKeyArray
    ) -> None:
        """Draws the weights.

        Args:
            components: Length of a state.
            width: Length of the rows.
            features: Of a time.
            amplitude: Whether there is such a map.
            key: Of the random initial values.
        """
        network, scales = jax.random.split(key)
        self.features = features
        self.network = MLP((features.size + components, width, width), key=network)
        self.amplitude = Dense(2 * components, width, key=scales) if amplitude else None

    def __call__(
        self, times: Float[Array, " time"], states: Float[Array, "time channels"], scales: Scales
    ) -> Float[Array, "time width"]:
        """The rows of scaled states.

        Raises:
            ValueError: If the states have another number of components.
        """
        components = self.network.layers[0].weight.shape[0] - self.features.size
        if states.shape[1] != components:
            raise ValueError(
                f"Expected states (time, {components}), got {states.shape}. Pad systems of lower dimension with zeros; "
                "use jax.vmap for a batch."
            )
        rows = self.network(rounded_for(self.network, jnp.concatenate((self.features(times), states), axis=1)))
        if self.amplitude is not None:
            size = jnp.concatenate((jnp.arcsinh(scales.mean), jnp.log(scales.deviation)))
            rows = rows + self.amplitude(rounded_for(self.amplitude, size[None]))
        return rows


@final
class TimeEmbedding(eqx.Module):
    """One row per time: a layer or a network of its features.

    Attributes:
        features: Of a time.
        network: Acts on the features.
    """

    features: TimeFeatures
    network: Callable[[Array], Array]

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "time width"]:
        """The rows."""
        return self.network(rounded_for(self.network, self.features(times)))


def time_network(width: int, *, features: TimeFeatures = _PLAIN, key: PRNGKeyArray) -> TimeEmbedding:
    """A time embedding by a network of one hidden layer."""
    return TimeEmbedding(features, MLP((features.size, width, width), key=key))
