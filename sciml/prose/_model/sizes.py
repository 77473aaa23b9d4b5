"""The published models and an improved one."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nn import MLP, Dense, FourierFeatures, PlainFeature
from sciml.prose._model.frames import FrameEmbedding, FrameHead, FrameQuery
from sciml.prose._model.model import DataDecoder, DataEncoder, Fusion, Prose
from sciml.prose._model.patches import LearnedTimes, PatchEmbedding, PatchHead, PatchQuery
from sciml.prose._model.states import StateEmbedding, TimeEmbedding, time_network
from sciml.prose._model.symbols import SymbolDecoder, SymbolEncoder, TokenEmbedding
from sciml.prose._model.variants import (
    FD_VARIANT,
    IMPROVED_VARIANT,
    ODE_VARIANT,
    PDE_VARIANT,
    PatchSizes,
    ProseSizes,
    ProseVariant,
)

_SIZES = ProseSizes()
_FD_SIZES = ProseSizes(width=1024, symbol_encoder=1)
_PATCHES = PatchSizes()
_TEN_FRAMES = functools.partial(LearnedTimes, 10)
_FEATURES = FourierFeatures(16, 0.05, 8.0)


def prose_ode(
    components: int,
    *,
    symbols_in: int | None = None,
    symbols_out: int | None = None,
    sizes: ProseSizes = _SIZES,
    variant: ProseVariant = ODE_VARIANT,
    key: PRNGKeyArray,
) -> Prose:
    """The published PROSE-ODE with initial values as there: 104,357,427 parameters for 3 components and 1072 tokens.

    2-to-1 without `symbols_out` (70,174,211), 1-to-1 without both (31,793,667).

    Args:
        components: Largest number of components of a state.
        symbols_in: Number of tokens of the equations that are read, or None.
        symbols_out: Number of tokens of the equations that are written, or None.
        sizes: Widths and depths.
        variant: Parts that differ between the published models.
        key: Of the random initial values.
    """
    embedding, query, head, rest = jax.random.split(key, 4)
    ends = (
        StateEmbedding(components, sizes.width, features=PlainFeature(), key=embedding),
        TimeEmbedding(PlainFeature(), Dense(1, sizes.width, key=query)),
        Dense(sizes.width, components, key=head),
    )
    return _assembled(ends, (symbols_in, symbols_out), sizes, variant, rest)


def improved_ode(
    components: int,
    *,
    symbols_in: int | None = None,
    symbols_out: int | None = None,
    sizes: ProseSizes = _SIZES,
    variant: ProseVariant = IMPROVED_VARIANT,
    key: PRNGKeyArray,
) -> Prose:
    """PROSE-ODE with what has proved itself in transformers since; same arguments as `prose_ode`.

    States are scaled by mean and deviation of the trajectory inside of the model, times enter as Fourier features, both
    decoders see both modalities, normalisation comes first, queries and keys are normalised, tokens are rotated.
    """
    embedding, query, head, rest = jax.random.split(key, 4)
    ends = (
        StateEmbedding(components, sizes.width, features=_FEATURES, amplitude=True, key=embedding),
        time_network(sizes.width, features=_FEATURES, key=query),
        Dense(sizes.width, components, key=head),
    )
    return _assembled(ends, (symbols_in, symbols_out), sizes, variant, rest)


def prose_pde(
    points: int,
    *,
    coordinates: Float[Array, " points"] | None = None,
    symbols_in: int | None = None,
    symbols_out: int | None = None,
    sizes: ProseSizes = _SIZES,
    variant: ProseVariant = PDE_VARIANT,
    key: PRNGKeyArray,
) -> Prose:
    """The published PROSE-PDE: 105,575,124 parameters for frames of 128 points and 1108 tokens.

    2-to-1 without `symbols_out` (71,373,440), 1-to-1 without both (32,974,464). States are `(time, 1, points)`.

    Args:
        points: Number of points of a frame.
        coordinates: Where states are predicted, value by value; None for whole frames.
        symbols_in: As in `prose_ode`.
        symbols_out: As in `prose_ode`.
        sizes: Widths and depths.
        variant: Parts that differ between the published models.
        key: Of the random initial values.
    """
    embedding, query, head, rest = jax.random.split(key, 4)
    predicted = points if coordinates is None else coordinates.shape[0]
    network = MLP((sizes.width, sizes.width, points if coordinates is None else 1), key=head)
    ends = (
        FrameEmbedding(points, sizes.width, key=embedding),
        FrameQuery(sizes.width, points=coordinates, key=query),
        FrameHead(network, 1, predicted),
    )
    return _assembled(ends, (symbols_in, symbols_out), sizes, variant, rest)


def prose_fd(
    channels: int = 4,
    *,
    symbols_in: int | None = None,
    patches: PatchSizes = _PATCHES,
    times: Callable[..., Callable[[Array], Array]] = _TEN_FRAMES,
    sizes: ProseSizes = _FD_SIZES,
    variant: ProseVariant = FD_VARIANT,
    key: PRNGKeyArray,
) -> Prose:
    """The published PROSE-FD, 2-to-1: 165,267,652 parameters for 1130 tokens. States are `(time, channels, x, y)`.

    The first version has networks of the times, layer normalisation and 64 hidden channels: with `times=time_network`,
    `variant=PDE_VARIANT` and `PatchSizes(hidden=64)` 169,493,892 parameters. 1-to-1 with 7 and 12 layers: 164,106,436.

    Args:
        channels: Number of channels.
        symbols_in: As in `prose_ode`.
        patches: How frames are cut.
        times: `(width, key=...) -> layer` from times to rows, of input and output.
        sizes: Widths and depths.
        variant: Parts that differ between the published models.
        key: Of the random initial values.

    Raises:
        ValueError: If patches do not fill a frame.
    """
    embedding, query, head, first, second, rest = jax.random.split(key, 6)
    width, into, out = sizes.width, patches.across(patches.into), patches.across(patches.out)
    time = times(width, key=first)
    ends = (
        PatchEmbedding(channels, math.prod(into), patch=patches.into, time=time, width=width, key=embedding),
        PatchQuery(math.prod(out), time=times(width, key=second), width=width, key=query),
        PatchHead(width, patches.hidden, channels, patch=patches.out, shape=out, key=head),
    )
    return _assembled(ends, (symbols_in, None), sizes, variant, rest)


def _assembled(
    ends: tuple[Any, Any, Any],
    vocabularies: tuple[int | None, int | None],
    sizes: ProseSizes,
    variant: ProseVariant,
    key: PRNGKeyArray,
) -> Prose:
    made, width = variant.transformer(sizes), sizes.width
    positions = sizes.positions if variant.rotation is None else 0
    embedding, query, head = ends
    read, written = vocabularies
    keys = jax.random.split(key, 9)
    reader = writer = fusion = None
    if read is not None:
        table = TokenEmbedding(read, width, positions=positions, features=variant.features, key=keys[0])
        reader = SymbolEncoder(table, made.encoder(width, sizes.symbol_encoder, rotation=variant.rotation, key=keys[1]))
        fusion = Fusion(made.encoder(width, sizes.fusion, key=keys[2]), width, key=keys[3])
    if written is not None:
        table = TokenEmbedding(written, width, positions=positions, features=variant.features, key=keys[4])
        layers = made.decoder(width, sizes.symbol_decoder, rotation=variant.rotation, key=keys[5])
        bound = width**-0.5
        bias = jax.random.uniform(keys[8], (written,), minval=-bound, maxval=bound)
        writer = SymbolDecoder(table, layers, bias, variant.symbols_see)
    encoder = DataEncoder(variant.scaling, embedding, made.encoder(width, sizes.data_encoder, key=keys[6]))
    decoder = DataDecoder(query, made.reader(width, sizes.data_decoder, key=keys[7]), head, variant.data_sees)
    return Prose(encoder, decoder, reader, fusion, writer)
