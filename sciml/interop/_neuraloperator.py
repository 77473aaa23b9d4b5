"""State dicts of neuraloperator 2.0: FNO and TFNO, UNO."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciml.grid import Grid
from sciml.interop._neuraloperator_layers import (
    ChannelScale,
    NeuraloperatorBlock,
    NeuraloperatorFNO,
    NeuraloperatorUNO,
    Norm,
    PublishedSpectralConv,
    Skip,
    dense,
    fits,
    product_of_factors,
    spectral,
    tucker_layer,
)
from sciml.nn import Dense, FieldNorm, InstanceNorm, SpectralConv, gelu
from sciml.operators import FNO, TFNO, Pointwise

_BLOCKS: dict[str, Any] = {
    "positional_embedding": "grid",
    "non_linearity": "gelu",
    "norm": None,
    "channel_mlp_dropout": 0,
    "channel_mlp_expansion": 0.5,
    "channel_mlp_skip": "soft-gating",
    "fno_skip": "linear",
    "domain_padding": None,
    "factorization": None,
    "rank": 1.0,
    "fixed_rank_modes": False,
    "implementation": "factorized",
    "decomposition_kwargs": None,
    "separable": False,
    "preactivation": False,
    "n_layers": 4,
}
_FNO: dict[str, Any] = _BLOCKS | {
    "n_modes": None,
    "in_channels": None,
    "out_channels": None,
    "hidden_channels": None,
    "lifting_channel_ratio": 2,
    "projection_channel_ratio": 2,
    "use_channel_mlp": True,
    "complex_data": False,
    "resolution_scaling_factor": None,
    "fno_block_precision": "full",
    "stabilizer": None,
    "max_n_modes": None,
    "conv_module": "SpectralConv",
}
_UNO: dict[str, Any] = _BLOCKS | {
    "in_channels": None,
    "out_channels": None,
    "hidden_channels": None,
    "lifting_channels": 256,
    "projection_channels": 256,
    "uno_out_channels": None,
    "uno_n_modes": None,
    "uno_scalings": None,
    "horizontal_skips_map": None,
    "horizontal_skip": "linear",
    "integral_operator": "SpectralConv",
    "operator_block": "FNOBlocks",
    "verbose": False,
}
_FIXED = {
    "complex_data": (False,),
    "fno_block_precision": ("full",),
    "separable": (False,),
    "norm": (None, "instance_norm", "group_norm", "batch_norm"),
    "stabilizer": (None, "tanh"),
    "fno_skip": ("linear", "soft-gating", "identity", None),
    "channel_mlp_skip": ("linear", "soft-gating", "identity", None),
    "horizontal_skip": ("linear", "soft-gating", "identity"),
    "conv_module": ("SpectralConv",),
    "integral_operator": ("SpectralConv",),
    "operator_block": ("FNOBlocks",),
}
"""Values that are taken of options with a few of them; names of classes without their modules."""

_POSITIONAL = ("n_modes", "in_channels", "out_channels", "hidden_channels", "n_layers")
"""Arguments of the published FNO that are usually given by their place; its checkpoints have them in `args`."""

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}


def fno_from_neuraloperator(
    arrays: Mapping[str, np.ndarray | Array],
    config: Mapping[str, Any] | None = None,
    *,
    spectral_layer: type[SpectralConv] | type[PublishedSpectralConv] = SpectralConv,
) -> FNO | TFNO | NeuraloperatorFNO:
    """The operator of a state dict of neuraloperator's FNO or TFNO, of version 2.0.

    On grids whose axes but the last have even sizes its outputs are those of neuraloperator. On odd ones the published
    code shifts the modes of its Fourier layers by one, which `nn.SpectralConv` does not: pass
    `spectral_layer=PublishedSpectralConv` for weights that were trained on such a grid. Layers that change the grid
    (`resolution_scaling_factor`) always have the published form.

    Args:
        arrays: By the names of the state dict, from `read_arrays` or `{name: tensor.numpy() for ...}`.
        config: Arguments of the published constructor, from `neuraloperator_config` or by hand. Those that are left out
            have the published defaults, and sizes are read off the arrays: for the usual FNO nothing is needed. The
            last number of modes is then taken for even.
        spectral_layer: What the Fourier layers are.

    Returns:
        `FNO` where all options but sizes have their defaults, or mixing networks and gates as there; `TFNO` if the
        weights are Tucker factorisations besides, otherwise `NeuraloperatorFNO`. CP and TT factorisations are
        multiplied out. Means and variances of `batch_norm` are those that are stored, and stay.

    Raises:
        ValueError: If the config has an option that is not taken, arrays are missing or left over, or sizes differ from
            the config's.
    """
    state, options = _Arrays(arrays), _options(config, _FNO)
    if options["domain_padding"] and options["resolution_scaling_factor"] is not None:
        raise ValueError(
            "Expected domain_padding or resolution_scaling_factor, got both. neuraloperator takes the factors of layers"
            " for those of axes there."
        )
    modes, d = _modes(state, options["n_modes"])
    depth = state.count("fno_blocks.convs.")
    scales = _scales(options["resolution_scaling_factor"], depth, d)
    _same("n_layers", config, depth)
    embedding = _embedding(options["positional_embedding"], d)
    lifting = _network(state, "lifting", embedding)
    projection = _network(state, "projection")
    width = lifting[-1].weight.shape[1]
    read = lifting[0].weight.shape[0] - (d if embedding else 0)
    for name, size in (
        ("in_channels", read),
        ("hidden_channels", width),
        ("out_channels", projection[-1].weight.shape[1]),
    ):
        _same(name, config, size)
    parts = [
        _block(state, "fno_blocks.", i, options | {"n_modes": modes, "scale": scale}, spectral_layer)
        for i, scale in enumerate(scales)
    ]
    state.check()
    padding = _padding(options["domain_padding"], d)
    grid = Grid((2,) * d) if embedding else None
    blocks, tucker = tuple(block for block, _ in parts), tuple(factors for _, factors in parts)
    activation = _activation(options["non_linearity"])
    usual = all(map(_usual, blocks)) and not any(padding) and activation is gelu and spectral_layer is SpectralConv
    if usual and all(len(layers) == 2 for layers in (lifting, projection)):
        return _our_fno((lifting, projection), blocks, tucker, modes, grid)
    return NeuraloperatorFNO(
        lifting=lifting, projection=projection, grid=grid, activation=activation, blocks=blocks, padding=padding
    )


def uno_from_neuraloperator(arrays: Mapping[str, np.ndarray | Array], config: Mapping[str, Any]) -> NeuraloperatorUNO:
    """The operator of a state dict of neuraloperator's UNO, of version 2.0, with its outputs on every grid.

    Its Fourier layers have the published form, `PublishedSpectralConv`: between grids of different sizes the published
    code drops negative frequencies of all axes but the last or makes others of them. A network that was trained with
    this has to be run with it. `operators.UNO` is the architecture without.

    Args:
        arrays: As in `fno_from_neuraloperator`.
        config: Arguments of the published constructor. `uno_n_modes` and `uno_scalings` are needed.

    Raises:
        ValueError: As `fno_from_neuraloperator`.
    """
    state, options = _Arrays(arrays), _options(config, _UNO)
    for name in ("uno_n_modes", "uno_scalings"):
        if options[name] is None:
            raise ValueError(f"Expected {name} in the config, which the arrays do not tell. Add it.")
    if _activation(options["non_linearity"]) is not gelu:
        raise ValueError(
            f"Expected non_linearity=gelu of a UNO, got {options['non_linearity']!r}. Others are not taken."
        )
    depth, d = state.count("fno_blocks."), len(options["uno_n_modes"][0])
    for name in ("uno_n_modes", "uno_scalings"):
        if len(options[name]) != depth or not all(len(row) == d for row in options[name]):
            raise ValueError(f"Expected {name} of {depth} rows of {d} numbers, got {options[name]!r:.200}.")
    embedding = _embedding(options["positional_embedding"], d)
    lifting, projection = _network(state, "lifting", embedding), _network(state, "projection")
    _same("in_channels", config, lifting[0].weight.shape[0] - (d if embedding else 0))
    links = options["horizontal_skips_map"]
    links = {depth - i - 1: i for i in range(depth // 2)} if links is None else {int(b): a for b, a in links.items()}
    common = {"use_channel_mlp": True, "stabilizer": None, "max_n_modes": None}
    rows = zip(options["uno_n_modes"], options["uno_scalings"], strict=True)
    blocks, horizontal = [], []
    for i, (modes, scale) in enumerate(rows):
        own = options | common | {"n_modes": tuple(modes), "scale": tuple(map(float, scale))}
        blocks.append(_block(state, f"fno_blocks.{i}.", 0, own, PublishedSpectralConv)[0])
        starts = i in links.values()
        horizontal.append(_skip(state, f"horizontal_skips.{i}", options["horizontal_skip"]) if starts else None)
    state.check()
    return NeuraloperatorUNO(
        lifting=lifting,
        projection=projection,
        grid=Grid((2,) * d) if embedding else None,
        activation=gelu,
        blocks=tuple(blocks),
        horizontal=tuple(horizontal),
        sources=tuple(links.get(i) for i in range(depth)),
        padding=_padding(options["domain_padding"], d),
    )


class _Arrays:
    """A state dict that notes which of its arrays were read."""

    def __init__(self, arrays: Mapping[str, np.ndarray | Array]) -> None:
        self._arrays = {name: array for name, array in arrays.items() if name != "_metadata"}
        self._left = {name for name in self._arrays if not name.endswith("num_batches_tracked")}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def take(self, name: str) -> np.ndarray:
        """An array that must be there."""
        if name not in self._arrays:
            raise ValueError(
                f"Expected the array {name}, got {sorted(self._arrays)[:5]} ({len(self._arrays)} arrays). Give the "
                "state dict of neuraloperator 2.0 that belongs to the config."
            )
        self._left.discard(name)
        return np.asarray(self._arrays[name])

    def optional(self, name: str) -> np.ndarray | None:
        """An array that may be there."""
        return self.take(name) if name in self else None

    def count(self, prefix: str) -> int:
        """How many numbers follow a prefix; at least one must."""
        found = {name.removeprefix(prefix).split(".")[0] for name in self._arrays if name.startswith(prefix)}
        if not found:
            self.take(f"{prefix}0.bias")
        return len(found)

    def check(self) -> None:
        """Refuses arrays that were not read."""
        if self._left:
            raise ValueError(
                f"Expected no arrays beside those of this config, left over: {sorted(self._left)[:5]} "
                f"({len(self._left)}). Give the config of the published model, such as its skips and norm."
            )


def _given(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a config, those by their place as well."""
    named = {name: value for name, value in (config or {}).items() if name not in ("_version", "_name", "args")}
    return named | dict(zip(_POSITIONAL, (config or {}).get("args", ()), strict=False))


def _options(config: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All options, those of the config and the published defaults."""
    given = _given(config)
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(
            f"Expected options of neuraloperator 2.0, got {', '.join(unknown)}. Known: {', '.join(defaults)}."
        )
    options = {**defaults, **given}
    for name, allowed in _FIXED.items():
        value = options.get(name)
        if isinstance(value, type) or "." in str(value):
            value = _last_name(value)
        if name in options and value not in allowed:
            raise ValueError(
                f"Expected {name} to be one of {', '.join(map(repr, allowed))}, got {options[name]!r}. Models with "
                "other values are not taken."
            )
    return options


def _last_name(value: Any) -> str:
    return getattr(value, "__name__", str(value)).rsplit(".", 1)[-1]


def _same(name: str, config: Mapping[str, Any] | None, size: int) -> None:
    given = _given(config).get(name)
    if given is not None and given != size:
        raise ValueError(
            f"Expected {name}={given} as in the config, got arrays with {size}. Give those that belong to it."
        )


def _activation(value: Any) -> Callable[[Array], Array]:
    if getattr(value, "__module__", "").startswith(("jax", "sciml")):
        return value
    name = _last_name(value)
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"Expected non_linearity to be one of {', '.join(_ACTIVATIONS)}, got {value!r}. Pass a function of JAX."
        )
    return _ACTIVATIONS[name]


def _modes(state: _Arrays, given: Any) -> tuple[tuple[int, ...], int]:
    """Numbers of kept frequencies, from the config or the arrays, and the number of axes."""
    bias = "fno_blocks.convs.0.bias"
    d = state.take(bias).ndim - 1
    if given is not None:
        modes = (given,) if isinstance(given, int) else tuple(given)
        if len(modes) != d:
            raise ValueError(f"Expected n_modes of {d} numbers as {bias} has axes, got {modes}.")
        return modes, d
    *first, last = _weight(state, "fno_blocks.convs.0.weight")[0].shape[2:]
    return (*first, 2 * (last - 1)), d


def _weight(state: _Arrays, name: str) -> tuple[np.ndarray, tuple[np.ndarray, list[np.ndarray]] | None]:
    """The complex weight (in, out, modes ...), and its core and factors if it is a Tucker factorisation."""
    if f"{name}.tensor" in state:
        return state.take(f"{name}.tensor"), None
    count = state.count(f"{name}.factors.factor_")
    factors = [state.take(f"{name}.factors.factor_{i}") for i in range(count)]
    core = state.optional(f"{name}.core")
    tucker = None if core is None else (core, factors)
    return product_of_factors(state.optional(f"{name}.weights") if core is None else core, factors), tucker


def _cropped(weight: np.ndarray, modes: tuple[int, ...]) -> np.ndarray:
    """The modes in use of a weight with `max_n_modes`, cut as the published code cuts them."""
    stored = (*modes[:-1], modes[-1] // 2 + 1)
    starts = [most - used for most, used in zip(weight.shape[2:], stored, strict=True)]
    if min(starts) < 0:
        raise ValueError(
            f"Expected n_modes of at most {weight.shape[2:]} stored modes, got {modes}, which need {stored}."
        )
    inner = [slice(start // 2, most - (start + 1) // 2) for start, most in zip(starts, weight.shape[2:], strict=True)]
    return weight[(slice(None), slice(None), *inner[:-1], slice(0, stored[-1]))]


def _embedding(value: Any, d: int) -> list[tuple[float, float]] | None:
    """First and last coordinate of each axis, or None without coordinates."""
    if value is None or isinstance(value, str):
        if value not in (None, "grid"):
            raise ValueError(f"Expected positional_embedding='grid' or None, got {value!r}.")
        return None if value is None else [(0.0, 1.0)] * d
    bounds = getattr(value, "grid_boundaries", value)
    if not isinstance(bounds, list | tuple) or len(bounds) != d:
        raise ValueError(f"Expected positional_embedding='grid', None or {d} pairs of bounds, got {value!r:.200}.")
    return [(float(low), float(high)) for low, high in bounds]


def _network(state: _Arrays, name: str, bounds: list[tuple[float, float]] | None = None) -> tuple[Dense, ...]:
    """A `ChannelMLP`. Its coordinates from low to high become ours from 0 to 1: low joins the bias."""
    layers = []
    for i in range(state.count(f"{name}.fcs.")):
        weight, bias = state.take(f"{name}.fcs.{i}.weight")[..., 0], state.take(f"{name}.fcs.{i}.bias")
        if i == 0 and bounds is not None:
            own, at = np.split(weight, [weight.shape[1] - len(bounds)], axis=1)
            low, high = np.asarray(bounds, weight.dtype).T
            weight, bias = np.concatenate((own, at * (high - low)), axis=1), bias + at @ low
        layers.append(dense(weight, bias))
    return tuple(layers)


def _skip(state: _Arrays, name: str, kind: str | None) -> Skip:
    if kind is None:
        return None
    if kind == "identity":
        return eqx.nn.Identity()
    if kind == "linear":
        return dense(state.take(f"{name}.conv.weight"), state.optional(f"{name}.conv.bias"))
    return ChannelScale(jnp.asarray(state.take(f"{name}.weight").reshape(-1)), None)


def _norm(state: _Arrays, name: str, kind: str | None, channels: int, dtype: np.dtype) -> Norm:
    if kind is None:
        return None
    if kind == "instance_norm":
        return jax.tree.map(lambda leaf: leaf.astype(dtype), InstanceNorm(channels))
    inner = f"{name}.norm" if kind == "batch_norm" else name
    gain, shift = state.take(f"{inner}.weight"), state.take(f"{inner}.bias")
    if kind == "group_norm":
        return eqx.tree_at(lambda n: (n.gain, n.shift), FieldNorm(channels), (jnp.asarray(gain), jnp.asarray(shift)))
    gain = gain / np.sqrt(state.take(f"{inner}.running_var") + np.asarray(1e-5, dtype))
    return ChannelScale(jnp.asarray(gain), jnp.asarray(shift - gain * state.take(f"{inner}.running_mean")))


def _block(
    state: _Arrays, prefix: str, i: int, options: Mapping[str, Any], layer: type
) -> tuple[NeuraloperatorBlock, tuple[np.ndarray, list[np.ndarray]] | None]:
    """Block i, and the Tucker factors of its weight if it has some that are not cut."""
    conv = f"{prefix}convs.{i}"
    weight, tucker = _weight(state, f"{conv}.weight")
    modes, scale = options["n_modes"], options["scale"]
    used = _cropped(weight, modes)
    bias = state.optional(f"{conv}.bias")
    real = np.real(used).dtype
    mixing = options["use_channel_mlp"]
    block = NeuraloperatorBlock(
        spectral=spectral(layer if scale is None else PublishedSpectralConv, used, bias, modes),
        skip=_skip(state, f"{prefix}fno_skips.{i}", options["fno_skip"]),
        mixing=_network(state, f"{prefix}channel_mlp.{i}") if mixing else (),
        mixing_skip=_skip(state, f"{prefix}channel_mlp_skips.{i}", options["channel_mlp_skip"]) if mixing else None,
        norms=(
            _norm(state, f"{prefix}norm.{2 * i}", options["norm"], used.shape[1], real),
            _norm(state, f"{prefix}norm.{2 * i + 1}", options["norm"], used.shape[1], real),
        ),
        scale=scale,
        stabilise=jnp.tanh if options["stabilizer"] == "tanh" else None,
        preactivation=bool(options["preactivation"]),
    )
    return block, tucker if used.shape == weight.shape else None


def _scales(value: Any, depth: int, d: int) -> list[tuple[float, ...] | None]:
    """The factor of each layer and axis from one number, one for each layer, or one for each layer and axis."""
    if value is None:
        return [None] * depth
    rows = [value] * depth if isinstance(value, int | float) else list(value)
    if len(rows) != depth:
        raise ValueError(f"Expected resolution_scaling_factor of {depth} layers, got {value!r:.200}.")
    return [(float(row),) * d if isinstance(row, int | float) else tuple(map(float, row)) for row in rows]


def _padding(value: Any, d: int) -> tuple[float, ...]:
    fractions = [value or 0.0] * d if isinstance(value, int | float | None) else list(value)
    if len(fractions) != d:
        raise ValueError(f"Expected domain_padding of {d} numbers, got {value!r:.200}.")
    return tuple(map(float, fractions))


def _usual(block: NeuraloperatorBlock) -> bool:
    """Whether a block is one of `operators.FNO` with a mixing network."""
    plain = block.scale is None and block.stabilise is None and not block.preactivation and block.norms == (None, None)
    linear = isinstance(block.skip, Dense) and block.skip.bias is None
    return plain and linear and isinstance(block.mixing_skip, ChannelScale) and len(block.mixing) == 2


def _our_fno(
    ends: tuple[tuple[Dense, ...], tuple[Dense, ...]],
    blocks: tuple[NeuraloperatorBlock, ...],
    tucker: tuple[tuple[np.ndarray, list[np.ndarray]] | None, ...],
    modes: tuple[int, ...],
    grid: Grid | None,
) -> FNO | TFNO:
    lifting, projection = ends
    width = lifting[-1].weight.shape[1]
    own = lifting[0].weight.shape[0] - (len(modes) if grid is not None else 0)
    hidden = blocks[0].mixing[0].weight.shape[1]
    sizes = lifting[0].weight.shape[1] / width, hidden / width, projection[0].weight.shape[1] / width
    options = {
        "modes": modes,
        "width": width,
        "pointwise": Pointwise(*sizes),
        "grid": grid,
        "key": jax.random.key(0),
    }
    out = projection[-1].weight.shape[1]
    layers: list[Any] = [block.spectral for block in blocks]
    found = [one for one in tucker if one is not None]
    if len(found) == len(blocks) and all(fits(core, factors) for core, factors in found):
        ranks = tuple((*core.shape[2:], *core.shape[:2]) for core, _ in found)
        empty = eqx.filter_eval_shape(lambda: TFNO(own, out, ranks=ranks, **options))
        layers = [
            tucker_layer(core, factors, layer.bias, modes) for (core, factors), layer in zip(found, layers, strict=True)
        ]
    else:
        empty = eqx.filter_eval_shape(lambda: FNO(own, out, depth=len(blocks), **options))
    parts = lambda m: [m.lifting, m.projection, *(p for b in m.blocks for p in (b.spectral, b.skip, b.mixing, b.gate))]
    new = [
        part
        for layer, block in zip(layers, blocks, strict=True)
        for part in (layer, block.skip, block.mixing, jax.tree.leaves(block.mixing_skip)[0])
    ]
    return eqx.tree_at(parts, empty, [lifting, projection, *new])
