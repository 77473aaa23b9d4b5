"""Embeddings of ODE states and of times, the scaling of a trajectory, and reduced precision."""

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
    """The model with its trainable parameters cast to `dtype`, such as bfloat16, for activations in that data type.

    Call it inside the loss: the optimiser then still updates the parameters in their own, higher precision. Times and
    states are scaled and turned into features in their own data type and cast afterwards. Predictions are cast back
    before they are scaled back, and logits have at least float32. Arrays that are not trained are not cast.
    """
    trained, rest = partition(model)
    return eqx.combine(jax.tree.map(lambda leaf: leaf.astype(dtype), trained), rest)


def rounded_for(layer: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x`, cast to the data type of the parameters of `layer`."""
    return x.astype(jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array))[0].dtype)


@final
class Scales(eqx.Module):
    """The affine map x -> (x - mean) / deviation and its inverse, with one mean and deviation per channel.

    Attributes:
        mean: `(channels, 1, ...)`, with as many axes as one state.
        deviation: The standard deviation, of the same shape.
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
    """No scaling: mean 0 and deviation 1 for every trajectory."""

    def __call__(self, states: Float[Array, "time channels *space"], mask: Bool[Array, " time"]) -> Scales:
        """Mean 0 and deviation 1 per channel."""
        shape = (states.shape[1],) + (1,) * (states.ndim - 2)
        return Scales(jnp.zeros(shape, states.dtype), jnp.ones(shape, states.dtype))


@final
class PerTrajectory(eqx.Module):
    """Scaling by the mean and unbiased standard deviation of each channel over the times and points of a trajectory.

    Attributes:
        epsilon: Added to the deviation, so that a constant channel is divided by epsilon and not by 0.
    """

    epsilon: float = eqx.field(static=True, default=1e-3)

    def __call__(self, states: Float[Array, "time channels *space"], mask: Bool[Array, " time"]) -> Scales:
        """The scales from the states at the times where the mask is true."""
        axes = (0, *range(2, states.ndim))
        weight = mask.astype(states.dtype).reshape(-1, *(1,) * (states.ndim - 1))
        count = weight.sum() * float(np.prod(states.shape[2:]))
        mean = (weight * states).sum(axes, keepdims=True) / count
        variance = (weight * (states - mean) ** 2).sum(axes, keepdims=True) / jnp.maximum(count - 1, 1)
        varies = variance > 0  # the derivative of the square root is infinite at 0
        deviation = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0) + self.epsilon
        return Scales(mean[0], deviation[0])


@final
class StateEmbedding(eqx.Module):
    """Embeds each state of a trajectory: an MLP of the features of its time and of its components.

    Attributes:
        features: Maps times to features.
        network: MLP of the concatenation [time features, state].
        amplitude: Dense layer of [arcsinh(mean), log(deviation)] of the trajectory, added to each embedding, or None.
            Scaled states alone do not determine the coefficients of an equation, which depend on mean and deviation.
    """

    features: TimeFeatures
    network: MLP
    amplitude: Dense | None

    def __init__(
        self, components: int, width: int, *, features: TimeFeatures, amplitude: bool = False, key: PRNGKeyArray
    ) -> None:
        """Draws the weights.

        Args:
            components: Number of components of a state.
            width: Size of the embeddings.
            features: Maps times to features.
            amplitude: Whether mean and deviation of the trajectory are embedded, too.
            key: PRNG key of the initial weights.
        """
        network, scales = jax.random.split(key)
        self.features = features
        self.network = MLP((features.size + components, width, width), key=network)
        self.amplitude = Dense(2 * components, width, key=scales) if amplitude else None

    def __call__(
        self, times: Float[Array, " time"], states: Float[Array, "time channels"], scales: Scales
    ) -> Float[Array, "time width"]:
        """One embedding per time. The states are already scaled, by `scales`.

        Raises:
            ValueError: If the states do not have the number of components that the model was made for.
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
    """Embeds each time: a layer or an MLP of its features.

    Attributes:
        features: Maps times to features.
        network: Acts on the features.
    """

    features: TimeFeatures
    network: Callable[[Array], Array]

    def __call__(self, times: Float[Array, " time"]) -> Float[Array, "time width"]:
        """One embedding per time."""
        return self.network(rounded_for(self.network, self.features(times)))


def time_network(width: int, *, features: TimeFeatures = _PLAIN, key: PRNGKeyArray) -> TimeEmbedding:
    """A `TimeEmbedding` whose network is an MLP with one hidden layer of size `width`."""
    return TimeEmbedding(features, MLP((features.size, width, width), key=key))
