"""Sizes of the PROSE models, and the variants: the parts in which the published models and the improved one differ."""

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
    """Widths and depths of the transformers; the defaults are those of PROSE-ODE and PROSE-PDE.

    Attributes:
        width: Size of the embeddings.
        heads: Number of attention heads.
        hidden: Size of the hidden layer of the feed-forward networks.
        data_encoder: Number of layers of the data encoder.
        symbol_encoder: Number of layers of the symbol encoder.
        fusion: Number of layers of the fusion transformer.
        data_decoder: Number of layers of the data decoder.
        symbol_decoder: Number of layers of the symbol decoder.
        positions: Largest number of tokens of an equation; not used with rotary position embeddings.
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

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        layers = {name: sizes.pop(name) for name in tuple(sizes) if name.endswith(("coder", "fusion"))}
        if not all(1 <= size <= 1_000_000 for size in sizes.values()):
            raise ValueError(f"Expected widths, heads and positions from 1 to 1000000, got {self}.")
        if not all(0 <= number <= 1000 for number in layers.values()):
            raise ValueError(f"Expected from 0 to 1000 layers of each kind, got {self}.")
        if self.width % self.heads:
            raise ValueError(f"Expected a width that the heads divide, got --width {self.width} --heads {self.heads}.")


@dataclasses.dataclass(frozen=True)
class PatchSizes:
    """Sizes of the frames and patches of PROSE-FD; the defaults are the published ones.

    Attributes:
        points: Number of grid points of a frame along each axis.
        into: Edge length of the input patches in grid points.
        out: Edge length of the output patches in grid points.
        hidden: Number of hidden channels of `PatchHead`.
    """

    points: tuple[int, int] = (128, 128)
    into: int = 16
    out: int = 8
    hidden: int = 32

    def across(self, patch: int) -> tuple[int, int]:
        """Number of patches with edge length `patch` along each axis.

        Raises:
            ValueError: If the number of points of a frame is not a multiple of `patch`.
        """
        if any(n % patch for n in self.points):
            raise ValueError(f"Patches of {patch} points do not fill {self.points} points. Choose a divisor of both.")
        return self.points[0] // patch, self.points[1] // patch


def _attention(
    width: int, *, heads: int, norm: Any = None, rotation: Any = None, key: PRNGKeyArray
) -> MultiHeadAttention:
    """Attention with the initial values of `torch.nn.MultiheadAttention`.

    PyTorch stores the query, key and value maps in one matrix of shape (3 width, width) and computes the bound of its
    Xavier initialisation from this shape.
    """
    packed = jax.nn.initializers.variance_scaling(0.5, "fan_in", "uniform")
    init = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    first, second = jax.random.split(key)
    attention = MultiHeadAttention(
        width, heads=heads, key_bias=True, norm=norm, rotation=rotation, init=packed, key=first
    )
    return eqx.tree_at(lambda a: a.out, attention, Dense(width, width, init=init, key=second))


def post_norm(sizes: ProseSizes) -> TransformerConfig:
    """PROSE-ODE: post-norm with LayerNorm, and a LayerNorm before the first layer; epsilon 1e-12."""
    norm = functools.partial(LayerNorm, epsilon=1e-12)
    attention = functools.partial(_attention, heads=sizes.heads)
    return TransformerConfig(sizes.hidden, attention, norm, PostNorm, first=norm)


def pre_norm(sizes: ProseSizes) -> TransformerConfig:
    """PROSE-PDE and the first version of PROSE-FD: pre-norm with LayerNorm, and a LayerNorm after the last layer."""
    attention = functools.partial(_attention, heads=sizes.heads)
    return TransformerConfig(sizes.hidden, attention, LayerNorm, PreNorm, last=LayerNorm)


def pre_norm_rms(sizes: ProseSizes) -> TransformerConfig:
    """PROSE-FD: pre-norm with RMSNorm, and an RMSNorm with epsilon 2^-23 after the last layer.

    This epsilon is the spacing of float32 at 1.
    """
    attention = functools.partial(_attention, heads=sizes.heads)
    last = functools.partial(RMSNorm, epsilon=2.0**-23)
    return TransformerConfig(sizes.hidden, attention, RMSNorm, PreNorm, last=last)


def normalised_queries(sizes: ProseSizes) -> TransformerConfig:
    """Pre-norm with RMSNorm, an RMSNorm after the last layer, and an RMSNorm of query and key in each head (QK-norm).

    Each layer is initialised as the identity. The first predictions therefore do not depend on the memory, and a model
    that reads equations starts out like one that does not.
    """
    attention = functools.partial(_attention, heads=sizes.heads, norm=RMSNorm)
    return TransformerConfig(sizes.hidden, attention, RMSNorm, PreNorm, last=RMSNorm, identity=True)


@dataclasses.dataclass(frozen=True)
class ProseVariant:
    """The parts in which the published models differ.

    Attributes:
        transformer: `sizes -> TransformerConfig`.
        scaling: How the states of a trajectory are scaled.
        data_sees: `memory -> (embeddings, mask)`, what the data decoder attends to.
        symbols_see: `memory -> (embeddings, mask)`, what the symbol decoder attends to.
        rotation: Rotary position embedding of the equation tokens, or None for sinusoidal ones.
        features: Features of each token, such as `mantissa_features`, for `TokenEmbedding`; or None.
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
