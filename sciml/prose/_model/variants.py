"""What the published models and an improved one are made of, and how large they are."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nn import Dense, LayerNorm, MultiHeadAttention, PostNorm, PreNorm, RMSNorm, Rotary, TransformerConfig
from sciml.prose._model.model import Memory, all_embeddings, data_embeddings, symbol_embeddings
from sciml.prose._model.states import PerTrajectory, Unscaled


@dataclasses.dataclass(frozen=True)
class ProseSizes:
    """Widths and depths; the defaults are those of PROSE-ODE and PROSE-PDE.

    Attributes:
        width: Length of the rows.
        heads: Number of heads of each attention.
        hidden: Length of the hidden layer of the networks in the layers.
        data_encoder: Number of layers that read the trajectory.
        symbol_encoder: Number of layers that read the equation.
        fusion: Number of layers over the rows of both.
        data_decoder: Number of layers that predict states.
        symbol_decoder: Number of layers that write the equation.
        positions: Largest number of tokens of an equation where positions are rows.
    """

    width: int = 512
    heads: int = 8
    hidden: int = 2048
    data_encoder: int = 2
    symbol_encoder: int = 4
    fusion: int = 8
    data_decoder: int = 8
    symbol_decoder: int = 8
    positions: int = 512


@dataclasses.dataclass(frozen=True)
class PatchSizes:
    """How PROSE-FD cuts frames; the defaults are the published ones.

    Attributes:
        points: Number of points of a frame along each axis.
        into: Edge of the patches that are read, in points.
        out: Edge of the patches that are predicted.
        hidden: Hidden channels of a predicted point.
    """

    points: tuple[int, int] = (128, 128)
    into: int = 16
    out: int = 8
    hidden: int = 32

    def across(self, patch: int) -> tuple[int, int]:
        """Number of patches along each axis.

        Raises:
            ValueError: If patches of this size do not fill a frame.
        """
        if any(n % patch for n in self.points):
            raise ValueError(f"Patches of {patch} points do not fill {self.points} points. Choose a divisor of both.")
        return self.points[0] // patch, self.points[1] // patch


def _attention(
    width: int, *, heads: int, norm: Any = None, rotation: Any = None, key: PRNGKeyArray
) -> MultiHeadAttention:
    """With the initial values of `torch.nn.MultiheadAttention`, whose bounds come from three maps in one matrix."""
    packed = jax.nn.initializers.variance_scaling(0.5, "fan_in", "uniform")
    init = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    first, second = jax.random.split(key)
    attention = MultiHeadAttention(
        width, heads=heads, key_bias=True, norm=norm, rotation=rotation, init=packed, key=first
    )
    return eqx.tree_at(lambda a: a.out, attention, Dense(width, width, init=init, key=second))


def post_norm(sizes: ProseSizes) -> TransformerConfig:
    """Layer normalisation behind each sum, epsilon 1e-12, and in front of the layers: PROSE-ODE."""
    norm = functools.partial(LayerNorm, epsilon=1e-12)
    attention = functools.partial(_attention, heads=sizes.heads)
    return TransformerConfig(sizes.hidden, attention, norm, PostNorm, first=norm)


def pre_norm(sizes: ProseSizes) -> TransformerConfig:
    """Layer normalisation in front of each layer and behind the last: PROSE-PDE and the first PROSE-FD."""
    attention = functools.partial(_attention, heads=sizes.heads)
    return TransformerConfig(sizes.hidden, attention, LayerNorm, PreNorm, last=LayerNorm)


def pre_norm_rms(sizes: ProseSizes) -> TransformerConfig:
    """The same with root mean squares, the last one with the rounding error of float32 as epsilon: PROSE-FD."""
    attention = functools.partial(_attention, heads=sizes.heads)
    last = functools.partial(RMSNorm, epsilon=2.0**-23)
    return TransformerConfig(sizes.hidden, attention, RMSNorm, PreNorm, last=last)


def normalised_queries(sizes: ProseSizes) -> TransformerConfig:
    """Root mean squares in front of each layer, behind the last, and of query and key in each head.

    Each layer is the identity at first: a model that also reads equations begins as one that does not.
    """
    attention = functools.partial(_attention, heads=sizes.heads, norm=RMSNorm)
    return TransformerConfig(sizes.hidden, attention, RMSNorm, PreNorm, last=RMSNorm, identity=True)


@dataclasses.dataclass(frozen=True)
class ProseVariant:
    """What the published models differ in.

    Attributes:
        transformer: Makes the layers' form.
        scaling: Of the states of a trajectory.
        data_sees: Which rows the data decoder attends to.
        symbols_see: Which rows the symbol decoder attends to.
        rotation: Of tokens by their position, or None for sinusoidal rows.
        features: Of tokens, by which similar ones are alike, such as `mantissa_features`; or None.
    """

    transformer: Callable[[ProseSizes], TransformerConfig]
    scaling: Unscaled | PerTrajectory
    data_sees: Callable[[Memory], tuple[Array, Array]] = all_embeddings
    symbols_see: Callable[[Memory], tuple[Array, Array]] = all_embeddings
    rotation: Rotary | None = None
    features: Float[np.ndarray, "vocabulary features"] | None = None


ODE_VARIANT = ProseVariant(post_norm, Unscaled(), data_embeddings, symbol_embeddings)
PDE_VARIANT = ProseVariant(pre_norm, PerTrajectory(1e-6))
FD_VARIANT = ProseVariant(pre_norm_rms, PerTrajectory(1e-8))
IMPROVED_VARIANT = ProseVariant(normalised_queries, PerTrajectory(), rotation=Rotary())
