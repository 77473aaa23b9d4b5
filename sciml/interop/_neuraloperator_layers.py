"""Networks of neuraloperator 2.0 in their published form: what its options switch, made of the layers of this package.

Fields are `(*space, batch, channels)` inside, as in all Fourier networks here.
"""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import cut
from sciml.nn import Dense, FieldNorm, InstanceNorm, MatrixAxes, SpectralConv, TuckerSpectralConv, along_last, gelu
from sciml.operators import AbstractFourierNetwork

Activation = Callable[[Array], Array]


@final
class PublishedSpectralConv(eqx.Module):
    r"""`nn.SpectralConv` as neuraloperator 2.0 computes it, for weights that were trained on grids where both differ.

    .. math::  y(x) = b + \mathrm{Re} \sum_k W_k \hat u_k e^{2 \pi i s(k) \cdot x / L}

    On an axis of n points but the last, s(k) is k for even n and k - 1 for odd n, since the published code undoes
    `fftshift` by `fftshift`. To another number of points m it takes the first m entries of the transform in the order
    0, 1, ..., -2, -1 or appends zeros to them, so that negative frequencies are dropped or become others. On the last
    axis all is as in `nn.SpectralConv`.

    Attributes:
        weight: W, axes (modes ..., in, real and imaginary part, out), frequencies ascending.
        bias: b, one number per output channel, or None.
    """

    weight: Float[Array, "*modes in 2 out"]
    bias: Float[Array, " out"] | None

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix per mode: the input against both parts of the output."""
        return {"weight": MatrixAxes((-3,), (-2, -1))}

    def on_modes(self) -> tuple[str, ...]:
        """The weight."""
        return ("weight",)

    def multiply(
        self, x: Float[Array, "*space batch in"], space: tuple[int, ...] | None = None
    ) -> Float[Array, "*other batch out"]:
        """The layer for a batch; `space` is the size of the grid of the result, that of `x` if left out."""
        *stored, _, _, out = self.weight.shape
        axes = tuple(range(len(stored)))
        cut.refuse(x, len(axes), "A Fourier layer in neuraloperator's form")
        sizes = x.shape[: len(axes)]
        inside, read, written = [], [], []
        for m, n in zip(stored[:-1], sizes[:-1], strict=True):
            kept = min(m, n)
            frequencies = np.arange(kept) - kept // 2
            inside.append(slice((m - kept) // 2, (m - kept) // 2 + kept))
            read.append(frequencies % n)
            written.append((frequencies + 2 * (n // 2)) % n)
        last = min(stored[-1], sizes[-1] // 2 + 1)
        each = [*read, np.arange(last)], [*written, np.arange(last)]
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        z = jnp.fft.rfftn(wide, axes=axes, norm="forward")[np.ix_(*each[0])]
        weight = self.weight[(*inside, slice(0, last))]
        product = jnp.einsum("...bi,...io->...bo", z, weight[..., 0, :] + 1j * weight[..., 1, :])
        full = jnp.zeros((*sizes[:-1], sizes[-1] // 2 + 1, x.shape[-2], out), product.dtype)
        full = full.at[np.ix_(*each[1])].set(product)
        y = jnp.fft.irfftn(full, sizes if space is None else space, axes, norm="forward").astype(x.dtype)
        return y if self.bias is None else y + along_last(self.bias, y.ndim)


@final
class ChannelScale(eqx.Module):
    """gain x + shift with one number of each per channel: soft gating, and batch normalisation with fixed statistics.

    Attributes:
        gain: Factor of each channel.
        shift: Summand of each channel, or None.
    """

    gain: Float[Array, " channels"]
    shift: Float[Array, " channels"] | None

    def __call__(self, x: Float[Array, "*points channels"]) -> Float[Array, "*points channels"]:
        """The scaled channels."""
        y = x * along_last(self.gain, x.ndim)
        return y if self.shift is None else y + along_last(self.shift, x.ndim)


Skip = Dense | ChannelScale | eqx.nn.Identity | None
Norm = FieldNorm | InstanceNorm | ChannelScale | None


@final
class NeuraloperatorBlock(eqx.Module):
    r"""One Fourier layer with all options of neuraloperator's `FNOBlocks`.

    .. math::  w = \sigma(N_1(K \tau(v)) + R S v), \quad v' = \sigma(N_2(M(w) + R T v))

    K is the spectral layer, S and T skip connections, R an interpolation where K changes the grid, M a network of one
    hidden layer with gelu at each point, N norms, :math:`\tau` the stabilising function or the identity. The
    nonlinearity :math:`\sigma` is left out in the last layer. With preactivation, it and N_1 act on v first.

    Attributes:
        spectral: K.
        skip: S, or None.
        mixing: M, or none.
        mixing_skip: T, or None.
        norms: N_1 and N_2, or None.
        scale: Number of points of the result over that of the input for each axis; None keeps the grid.
        stabilise: The function tau.
        preactivation: Whether the nonlinearity comes first.
    """

    spectral: SpectralConv | PublishedSpectralConv
    skip: Skip
    mixing: tuple[Dense, ...]
    mixing_skip: Skip
    norms: tuple[Norm, Norm]
    scale: tuple[float, ...] | None = eqx.field(static=True)
    stabilise: Activation | None = eqx.field(static=True)
    preactivation: bool = eqx.field(static=True)

    def __call__(
        self, x: Float[Array, "*space batch in"], space: tuple[int, ...] | None, activation: Activation, *, last: bool
    ) -> Float[Array, "*other batch out"]:
        """The block's output on a grid of size `space`; by default of the block's own scale."""
        sizes = x.shape[:-2]
        if space is None and self.scale is not None:
            space = tuple(round(n * scale) for n, scale in zip(sizes, self.scale, strict=True))
        final = (lambda y: y) if last else activation
        if self.preactivation:
            x = _normalised(self.norms[0], activation(x))
        skip = _skipped(self.skip, x, space)
        mixing_skip = _skipped(self.mixing_skip if self.mixing else None, x, space)
        y = self.spectral.multiply(x if self.stabilise is None else self.stabilise(x), space)
        if not self.preactivation:
            y = _normalised(self.norms[0], y)
        y = final(y if skip is None else y + skip)
        if self.preactivation:
            y = _normalised(self.norms[1], y)
        if self.mixing:
            first, *rest = self.mixing
            y = first(y)
            for layer in rest:
                y = layer(gelu(y))
        y = y if mixing_skip is None else y + mixing_skip
        return y if self.preactivation else final(_normalised(self.norms[1], y))


@final
class NeuraloperatorFNO(AbstractFourierNetwork):
    """The FNO of neuraloperator 2.0 with options that `operators.FNO` has not; see `fno_from_neuraloperator`.

    Attributes:
        blocks: The layers in their order.
        padding: Zeros that are put before and behind the lifted field, as a fraction of each axis.
    """

    blocks: tuple[NeuraloperatorBlock, ...]
    padding: tuple[float, ...] = eqx.field(static=True)

    @property
    def dimensions(self) -> int:
        """Number of axes of the fields."""
        return len(self.padding)

    def body(self, v: Float[Array, "*space batch width"]) -> Float[Array, "*other batch width"]:
        """The blocks on the padded field, the last one without a nonlinearity at its end."""
        v, widths = _padded(v, self.padding)
        for i, block in enumerate(self.blocks):
            v = block(v, None, self.activation, last=i == len(self.blocks) - 1)
        return _without(v, widths)


@final
class NeuraloperatorUNO(AbstractFourierNetwork):
    """The UNO of neuraloperator 2.0, in its published form; see `uno_from_neuraloperator`.

    Layer b gets the result of layer a as further channels, where `sources` says so, through a skip connection and
    interpolated to its grid: linearly in one dimension, by cubic convolution in two, by Fourier series in three. No
    block has a nonlinearity at its end, since each is the last of its own list in the published code.

    Attributes:
        blocks: The layers in their order.
        horizontal: For each layer the skip connection that starts from its result, or None.
        sources: For each layer the layer whose result is appended to its input, or None.
        padding: As in `NeuraloperatorFNO`.
    """

    blocks: tuple[NeuraloperatorBlock, ...]
    horizontal: tuple[Skip, ...]
    sources: tuple[int | None, ...] = eqx.field(static=True)
    padding: tuple[float, ...] = eqx.field(static=True)

    @property
    def dimensions(self) -> int:
        """Number of axes of the fields."""
        return len(self.padding)

    def body(self, v: Float[Array, "*space batch width"]) -> Float[Array, "*other batch out"]:
        """The layers with their skip connections."""
        v, widths = _padded(v, self.padding)
        factors = [1.0] * self.dimensions
        for block in self.blocks:
            scale = (1.0,) * self.dimensions if block.scale is None else block.scale
            factors = [factor * one for factor, one in zip(factors, scale, strict=True)]
        end = tuple(round(n * factor) for n, factor in zip(v.shape[:-2], factors, strict=True))
        kept: dict[int, Array] = {}
        for i, (block, skip, source) in enumerate(zip(self.blocks, self.horizontal, self.sources, strict=True)):
            if source is not None:
                v = jnp.concatenate([v, interpolated(kept[source], v.shape[:-2])], axis=-1)
            v = block(v, end if i == len(self.blocks) - 1 else None, self.activation, last=True)
            if skip is not None:
                kept[i] = skip(v)
        return _without(v, [round(factor * width) for factor, width in zip(factors, widths, strict=True)])


def _padded(v: Array, fractions: tuple[float, ...]) -> tuple[Array, list[int]]:
    """The field with zeros at both ends of each axis, and their number."""
    widths = [round(fraction * n) for fraction, n in zip(fractions, v.shape, strict=False)]
    if not any(widths):
        return v, widths
    cut.refuse(v, len(widths), "A field that is padded")
    return jnp.pad(v, [*((width, width) for width in widths), (0, 0), (0, 0)]), widths


def _without(v: Array, widths: list[int]) -> Array:
    return v[tuple(slice(width, n - width) for width, n in zip(widths, v.shape, strict=False))]


def _skipped(skip: Skip, x: Array, space: tuple[int, ...] | None) -> Array | None:
    if skip is None:
        return None
    y = skip(x)
    return y if space is None else interpolated(y, space)


def _normalised(norm: Norm, x: Array) -> Array:
    if norm is None:
        return x
    if isinstance(norm, FieldNorm):
        return jnp.moveaxis(norm.channels_last(jnp.moveaxis(x, -2, 0)), 0, -2)
    return norm.normalise(x) if isinstance(norm, InstanceNorm) else norm(x)


def interpolated(x: Float[Array, "*space batch channels"], space: tuple[int, ...]) -> Float[Array, "*other batch c"]:
    """The fields on a grid of size `space`, as neuraloperator's `resample` makes them.

    One axis is interpolated linearly and two by cubic convolution with a = -3/4, first and last points staying in
    place. Three axes keep the entries of the Fourier transform at both ends of its order 0, 1, ..., -2, -1.
    """
    sizes = x.shape[:-2]
    if sizes == tuple(space):
        return x
    cut.refuse(x, len(sizes), "A field that is interpolated")
    if len(sizes) < 3:
        kernel = _linear if len(sizes) == 1 else _cubic
        for axis, (n, m) in enumerate(zip(sizes, space, strict=True)):
            matrix = jnp.asarray(_matrix(n, m, kernel), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(matrix, x, axes=(1, axis)), 0, axis)
        return x
    axes = tuple(range(len(sizes)))
    z = jnp.fft.rfftn(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axes=axes, norm="forward")
    *full, end = space
    read, written = [], []
    for n, m in zip(sizes[:-1], full, strict=True):
        few = min(n, m)
        low, high = np.arange(few // 2), np.arange(-((few + 1) // 2), 0)
        read.append(np.concatenate((low, high)) % n)
        written.append(np.concatenate((low, high)) % m)
    last = np.arange(min(end // 2 + 1, z.shape[len(sizes) - 1]))
    new = jnp.zeros((*full, end // 2 + 1, *x.shape[-2:]), z.dtype)
    new = new.at[np.ix_(*written, last)].set(z[np.ix_(*read, last)])
    return jnp.fft.irfftn(new, space, axes, norm="forward").astype(x.dtype)


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    a, d = -0.75, distance
    inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
    outer = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))


def _matrix(n: int, m: int, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Interpolation from n to m points; points beyond the ends have the values of the ends."""
    at = np.arange(m) * ((n - 1) / (m - 1) if m > 1 else 0.0)
    matrix = np.zeros((m, n))
    for offset in (-1, 0, 1, 2):
        point = np.floor(at).astype(int) + offset
        np.add.at(matrix, (np.arange(m), np.clip(point, 0, n - 1)), kernel(np.abs(at - point)))
    return matrix


def dense(weight: np.ndarray, bias: np.ndarray | None) -> Dense:
    """A layer with these arrays; `weight` has PyTorch's layout (out, in, 1)."""
    empty = eqx.filter_eval_shape(lambda: Dense(1, 1, bias=bias is not None, key=jax.random.key(0)))
    leaves: list[Any] = [jnp.asarray(weight.reshape(weight.shape[:2]).T)]
    if bias is None:
        return eqx.tree_at(lambda layer: layer.weight, empty, leaves[0])
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), empty, (leaves[0], jnp.asarray(bias)))


def spectral(cls: type, weight: np.ndarray, bias: np.ndarray | None, modes: tuple[int, ...]) -> Any:
    """A `SpectralConv` or `PublishedSpectralConv` with a complex weight (in, out, modes ...)."""
    own = np.moveaxis(weight, (0, 1), (-2, -1))
    own = jnp.asarray(np.stack((np.real(own), np.imag(own)), axis=-2))
    if cls is PublishedSpectralConv:
        return PublishedSpectralConv(own, None if bias is None else jnp.asarray(bias.reshape(-1)))
    offset = np.zeros(weight.shape[1], np.real(weight).dtype) if bias is None else bias.reshape(-1)
    empty = eqx.filter_eval_shape(lambda: SpectralConv(1, 1, modes, key=jax.random.key(0)))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), empty, (own, jnp.asarray(offset)))


def product_of_factors(core: np.ndarray | None, factors: list[np.ndarray]) -> np.ndarray:
    """The tensor of a Tucker (matrices and a core), CP (matrices and weights) or TT (three axes) factorisation."""
    if core is None:
        tensor = factors[0]
        for factor in factors[1:]:
            tensor = np.tensordot(tensor, factor, axes=1)
        return tensor.reshape(tensor.shape[1:-1])
    if core.ndim == 1 and len(factors) > 1:
        tensor = core[None]
        for factor in factors:
            tensor = (tensor[:, None] * factor[None]).reshape(-1, core.size)
        return tensor.sum(-1).reshape([len(factor) for factor in factors])
    for factor in factors:
        core = np.tensordot(core, factor, axes=((0,), (1,)))
    return core


def fits(core: np.ndarray, factors: list[np.ndarray]) -> bool:
    """Whether the ranks of a Tucker factorisation are at most the sizes of its axes."""
    return all(rank <= len(factor) for rank, factor in zip(core.shape, factors, strict=True))


def tucker_layer(
    core: np.ndarray, factors: list[np.ndarray], bias: Array, modes: tuple[int, ...]
) -> TuckerSpectralConv:
    """Core and factors in the order (modes ..., in, out), as pairs of real numbers."""
    pair = lambda array: jnp.asarray(np.stack((array.real, array.imag)))
    ranks = (*core.shape[2:], *core.shape[:2])
    into, out = len(factors[0]), len(factors[1])
    empty = eqx.filter_eval_shape(lambda: TuckerSpectralConv(into, out, modes, rank=ranks, key=jax.random.key(0)))
    ordered = tuple(pair(factor) for factor in (*factors[2:], *factors[:2]))
    return eqx.tree_at(
        lambda layer: (layer.core, layer.factors, layer.bias),
        empty,
        (pair(np.moveaxis(core, (0, 1), (-2, -1))), ordered, bias),
    )
