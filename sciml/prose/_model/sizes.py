"""Constructors of the published PROSE models, and of an improved PROSE-ODE."""

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
    """The published PROSE-ODE, with the initial values of the published code.

    The default sizes with 3 components and vocabularies of 1072 tokens have 104,357,427 parameters as 2-to-2 model,
    70,174,211 as 2-to-1 model (without `symbols_out`) and 31,793,667 as 1-to-1 model (without both vocabularies).

    Args:
        components: Largest number of components of a state.
        symbols_in: Vocabulary size of the equations that the model reads, or None.
        symbols_out: Vocabulary size of the equations that the model writes, or None.
        sizes: Widths and depths.
        variant: Parts that differ between the published models.
        key: PRNG key of the initial weights.
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
    """PROSE-ODE with newer components of transformers; the arguments are those of `prose_ode`.

    It differs from `prose_ode` as follows:

    - The model scales states by the mean and standard deviation of the trajectory, and embeds both numbers.
    - Times enter as Fourier features.
    - Both decoders attend to both modalities.
    - Layers use pre-norm with RMSNorm, and normalised queries and keys (see `normalised_queries`).
    - Equation tokens have rotary instead of sinusoidal position embeddings.
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
    """The published PROSE-PDE for 1D fields. States are `(time, 1, points)`.

    The default sizes with 128 points and vocabularies of 1108 tokens have 105,575,124 parameters as 2-to-2 model,
    71,373,440 as 2-to-1 model (without `symbols_out`) and 32,974,464 as 1-to-1 model (without both vocabularies).

    Args:
        points: Number of points of a frame.
        coordinates: Points at which values are predicted, with one query per time and point; None for whole frames.
        symbols_in: As in `prose_ode`.
        symbols_out: As in `prose_ode`.
        sizes: Widths and depths.
        variant: Parts that differ between the published models.
        key: PRNG key of the initial weights.
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
    """The published PROSE-FD, a 2-to-1 model for 2D fields. States are `(time, channels, x, y)`.

    The current version with 1130 input tokens has 165,267,652 parameters. Its 1-to-1 model, without `symbols_in` and
    with `sizes=ProseSizes(1024, data_encoder=7, data_decoder=12)`, has 164,106,436. The first version, with
    `times=time_network`, `variant=PDE_VARIANT` and `patches=PatchSizes(hidden=64)`, has 169,493,892: it embeds times by
    an MLP and uses LayerNorm.

    Args:
        channels: Number of channels.
        symbols_in: As in `prose_ode`.
        patches: Sizes of the frames and patches.
        times: `(width, key=...) -> layer`, a layer from times to embeddings. Called once for the input, once for the
            queries.
        sizes: Widths and depths.
        variant: Parts that differ between the published models.
        key: PRNG key of the initial weights.

    Raises:
        ValueError: If the number of points of a frame is not a multiple of the patch size.
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
