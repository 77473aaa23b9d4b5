"""Truncated Fourier multipliers."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.nn._layout import along_last, check_field, fold_vmap
from sciml.nn._matmul import matmul
from sciml.nn._matrices import MatrixAxes


class SpectralConv(eqx.Module):
    r"""Convolution with a kernel that has few Fourier modes: one complex matrix per mode.

    .. math::  y(x) = b + \mathrm{Re} \sum_k W_k \hat u_k e^{2 \pi i k \cdot x / L}

    The sum runs over the kept frequencies k of the half space that the real Fourier transform stores (all signs on
    every axis but the last, 0 and positive on the last, where positive ones count twice). The result does not depend
    on the grid as long as the grid resolves the input: weights trained at one resolution act at every other.

    `modes` counts frequencies as neuraloperator's `n_modes` does: `m` keeps `-(m // 2) ... (m - 1) // 2` on every axis
    but the last and `0 ... m // 2` on the last, so an even `m` covers |k| <= m / 2 with the lone highest frequency
    negative. The first FNO code counts one side, `modes1 = 12` there keeps 0 ... 11 and -12 ... -1: here 24, except on
    the last axis, where it keeps 0 ... 11: here 22 or 23. Frequencies that a coarse grid lacks are left out. Unlike
    neuraloperator 2.0, frequencies and weights stay aligned on axes of odd size.

    Weights are stored as real pairs: complex parameters are wrong under Adam, weight decay and averaging.

    Attributes:
        weight: W, axes (modes ..., in, real and imaginary part, out), frequencies ascending.
        bias: b, one number per output channel.
    """

    weight: Float[Array, "*modes in 2 out"]
    bias: Float[Array, " out"]
    modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, modes: tuple[int, ...], *, gain: float = 1.0, key: PRNGKeyArray
    ):
        """Draws W and b from normal distributions of variance 2 / (in + out), as neuraloperator does.

        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, see the class.
            gain: Factor of the drawn W.
            key: Random key.

        Raises:
            ValueError: If there are not 1 to 3 axes or a number of modes is not positive.
        """
        stored = stored_modes(modes)
        scale = math.sqrt(2 / (in_channels + out_channels))
        weight_key, bias_key = jax.random.split(key)
        shape = (*stored, in_channels, 2, out_channels)
        # The variance is that of the complex number.
        self.weight = jax.random.normal(weight_key, shape) * (gain * scale / math.sqrt(2))
        self.bias = jax.random.normal(bias_key, (out_channels,)) * scale
        self.modes = tuple(modes)

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix per mode: the input against both parts of the output."""
        return {"weight": MatrixAxes((-3,), (-2, -1))}

    def on_modes(self) -> tuple[str, ...]:
        """The weight."""
        return ("weight",)

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """Applies the multiplier to a field.

        Raises:
            ValueError: If the number of axes or channels differs from the weights.
        """
        check_field(x, self.weight.shape[-3], len(self.modes))
        return fold_vmap(channels_first, self, x)

    def multiply(
        self, x: Float[Array, "*space batch in"], space: tuple[int, ...] | None = None
    ) -> Float[Array, "*other batch out"]:
        """The same for a batch in the layout in which every step is a matrix product without a transposition.

        Args:
            x: The fields.
            space: Size of the grid of the result, that of `x` if left out. Between different sizes of an axis pass
                the frequencies that both resolve without ambiguity, below half of the smaller size.
        """
        return multiply_modes(x, self.weight, self.modes, space) + along_last(self.bias, x.ndim)


def stored_modes(modes: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of frequencies that are stored for each axis, see `SpectralConv`."""
    if not 1 <= len(modes) <= 3 or min(modes) < 1:
        raise ValueError(
            f"Expected a positive number of modes for each of 1 to 3 axes, got {modes}. "
            "Give one number per axis of the field, such as modes=(24, 24) in 2 dimensions."
        )
    return (*modes[:-1], modes[-1] // 2 + 1)


def channels_first(layer: Any, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    """`layer.multiply` in the layout of a vmapped field."""
    y = layer.multiply(jnp.moveaxis(x, (0, 1), (-2, -1)))
    return jnp.moveaxis(y, (-2, -1), (0, 1))


def multiply_modes(
    x: Float[Array, "*space batch in"],
    weight: Float[Array, "*modes in 2 out"],
    modes: tuple[int, ...],
    space: tuple[int, ...] | None = None,
    names: tuple[str | None, ...] | None = None,
) -> Float[Array, "*other batch out"]:
    """The multiplier of `SpectralConv` without its bias, for the first `len(modes)` axes of `x`.

    Where axes are cut over devices, each device transforms its part of the field, and the kept modes alone are summed
    over the parts; `space` is the size of a part of the result, and `names` the axes of the mesh, read from `x` if left
    out. In this case the products below are taken whatever the sizes.
    """
    # The kept modes are few: the transforms are real matrix products with the kept rows of the Fourier matrix.
    names = cut.axes(x, len(modes)) if names is None else names
    source = cut.whole_shape(x.shape[: len(modes)], names)
    target = source if space is None else cut.whole_shape(space, names)
    bands = tuple(
        _band(n if n == size else (min(n, size) - 1) // 2 * 2 + 1, m, axis == len(modes) - 1)
        for axis, (n, size, m) in enumerate(zip(source, target, modes, strict=True))
    )
    inside = tuple(slice(m // 2 + low, m // 2 + high + 1) for m, (low, high) in zip(modes[:-1], bands, strict=False))
    weight = weight[(*inside, slice(0, bands[-1][1] + 1))]
    out = weight.shape[-1]
    cuts = tuple(name for name in names if name is not None)
    if not cuts and _prefers_fft(source, bands):
        real, imaginary = _fft(x, bands)
    else:
        real, imaginary = _analyse(x, bands, names)
    pairs = jnp.concatenate([real, imaginary], axis=-2)
    if cuts:
        pairs = cut.kept(jax.lax.psum(pairs, cuts))
    product = matmul(pairs, weight.reshape(*weight.shape[:-2], 2 * out))
    batch = x.shape[-2]
    real = product[..., :batch, :out] - product[..., batch:, out:]
    imaginary = product[..., :batch, out:] + product[..., batch:, :out]
    if not cuts and _prefers_fft(target, bands):
        return _inverse_fft(real, imaginary, target, bands)
    if cuts:  # the transpose of the cast is the sum of the backward pass: one step later it would be of fields
        real, imaginary = cut.cast(jnp.stack((real, imaginary)), cuts)
    return _synthesise(real, imaginary, target, bands, names)


def fourier_resample(
    x: Float[Array, "*space batch channels"], space: tuple[int, ...]
) -> Float[Array, "*other batch channels"]:
    """The fields on a grid of size `space`, by the trigonometric polynomial of the frequencies that both grids resolve.

    Exact for fields of frequencies below half of the smaller size. An axis whose size stays is not touched. On axes
    that are cut over devices, `space` is the size of a part of the result, and all coefficients of the coarser grid are
    summed over the parts.
    """
    for axis, (size, name) in enumerate(zip(space, cut.axes(x, len(space)), strict=True)):
        n = x.shape[axis]
        if size == n:
            continue
        if name is None:
            x = _along(_interpolation(n, size), x, axis)
            continue
        analysis, synthesis = _halves_of_interpolation(n * cut.parts(name), size * cut.parts(name))
        coefficients = cut.kept(jax.lax.psum(_along(_own_columns(analysis, name, x), x, axis), name))
        x = _along(_own_columns(synthesis, name, x).T, cut.cast(coefficients, (name,)), axis)
    return x


@functools.lru_cache(maxsize=64)
def _interpolation(n: int, size: int) -> np.ndarray:
    analysis, synthesis = _halves_of_interpolation(n, size)
    return synthesis.T @ analysis


def _halves_of_interpolation(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrices (coefficients, n) from n points to Fourier coefficients, (coefficients, size) of the way back."""
    band = 0, (min(n, size) - 1) // 2
    once = np.where(np.arange(band[1] + 1) == 0, 1.0, 2.0)[:, None] / n
    return (_constant_waves(n, band) * once).reshape(-1, n), _constant_waves(size, band).reshape(-1, size)


_FFT_COST = 8.0  # on 2 CPU cores both are level at 4 for 512 x 512, 9 for 256 x 256 and 18 for 1024 points

Band = tuple[int, int]  # lowest and highest kept frequency of an axis


def _band(n: int, modes: int, last: bool) -> Band:
    if last:
        return 0, min(modes // 2, n // 2)
    return -min(modes // 2, n // 2), min((modes - 1) // 2, (n - 1) // 2)


def _count(band: Band) -> int:
    """Number of frequencies 0 <= k up to the largest one."""
    return max(-band[0], band[1]) + 1


def _waves(n: Any, band: Band) -> np.ndarray | Array:
    """Cos and sin of 2 pi k j / n, axes (2, k, j), for 0 <= k <= the largest |frequency|.

    Computed by the program where the size is chosen when it runs, as in programs that are exported.
    """
    if isinstance(n, int):
        return _constant_waves(n, band)
    turns = jnp.arange(_count(band))[:, None] * jnp.arange(n)[None] % n
    phase = (2 * np.pi / jnp.asarray(n, jnp.float32)) * turns
    return jnp.stack([jnp.cos(phase), jnp.sin(phase)])


@functools.lru_cache(maxsize=256)
def _constant_waves(n: int, band: Band) -> np.ndarray:
    count = _count(band)
    phase = 2 * np.pi / n * (np.arange(count)[:, None] * np.arange(n) % n)
    return np.stack([np.cos(phase), np.sin(phase)])


def _along(matrix: np.ndarray | Array, x: Array, axis: int) -> Array:
    """Multiplies axis `axis` of `x` by a constant matrix: one product for each index of the axes before it."""
    before = (math.prod(x.shape[:axis]),) * bool(axis)
    constant = jnp.broadcast_to(jnp.asarray(matrix, x.dtype), (*before, *matrix.shape))
    y = matmul(constant, x.reshape(*before, x.shape[axis], -1))
    return y.reshape(*x.shape[:axis], matrix.shape[0], *x.shape[axis + 1 :])


def _analyse(x: Array, bands: tuple[Band, ...], names: tuple[str | None, ...]) -> tuple[Array, Array]:
    """Fourier coefficients (real, imaginary) of the kept frequencies, axes (*modes, batch, channels).

    Of a part of a field these are its summands: the sum over all parts is left to do.
    """
    dimensions = len(bands)
    counts = [size for band in bands for size in (2, _count(band))]
    for axis in _order(names):
        n = x.shape[axis] * cut.parts(names[axis])
        waves = _waves(n, bands[axis]).reshape(-1, n) / (n if isinstance(n, int) else jnp.asarray(n, jnp.float32))
        x = _along(_own_columns(waves, names[axis], x), x, axis)
    x = x.reshape(*counts, *x.shape[dimensions:])
    cosine, sine = _halves(x, 2 * dimensions - 2)
    real, imaginary = cosine, -sine
    for axis in reversed(range(dimensions - 1)):  # c - i s at the positive frequency, c + i s at the negative one
        (cr, sr), (ci, si) = _halves(real, 2 * axis), _halves(imaginary, 2 * axis)
        real = _join(cr - si, cr + si, bands[axis], 2 * axis)
        imaginary = _join(ci + sr, ci - sr, bands[axis], 2 * axis)
    return real, imaginary


def _order(names: tuple[str | None, ...]) -> list[int]:
    """The axes in the order of their analysis: where a part has fewer points than there are rows, fields grow; last."""
    return sorted(range(len(names)), key=lambda axis: names[axis] is not None)


def _own_columns(matrix: np.ndarray | Array, name: str | None, x: Array) -> np.ndarray | Array:
    """The columns of this device's points."""
    return matrix if name is None else cut.own_part(jnp.asarray(matrix, x.dtype), (name,), 1)


def _synthesise(
    real: Array, imaginary: Array, space: tuple[int, ...], bands: tuple[Band, ...], names: tuple[str | None, ...]
) -> Array:
    """The real part of the Fourier series with the given coefficients: the adjoint steps in reverse order."""
    dimensions = len(bands)
    for axis in range(dimensions - 1):  # z e^(ikx) + z' e^(-ikx) = (z + z') cos kx + i (z - z') sin kx
        (nr, pr), (ni, pi) = _split(real, bands[axis], 2 * axis), _split(imaginary, bands[axis], 2 * axis)
        real = jnp.stack([pr + nr, ni - pi], 2 * axis)
        imaginary = jnp.stack([pi + ni, pr - nr], 2 * axis)
    x = jnp.stack([real, -imaginary], 2 * dimensions - 2)
    counts = [x.shape[2 * axis] * x.shape[2 * axis + 1] for axis in range(dimensions)]
    x = x.reshape(*counts, *x.shape[2 * dimensions :])
    for axis in reversed(_order(names)):
        n, waves = space[axis], _waves(space[axis], bands[axis])
        if axis == dimensions - 1:  # each positive frequency of the last axis stands for its mirror image as well
            once = [k == 0 or 2 * k == n for k in range(waves.shape[1])]
            waves = waves * np.where(once, 1.0, 2.0)[None, :, None]
        x = _along(_own_columns(waves.reshape(-1, n), names[axis], x).T, x, axis)
    return x


def _prefers_fft(space: tuple[int, ...], bands: tuple[Band, ...]) -> bool:
    """Whether a full FFT costs less than products with the kept rows of the Fourier matrix.

    Operations are 2 n r for each line of n points and r rows, axis after axis, against 5 N log2 N for the FFT of all N
    points. Those of the FFT are the slower ones by `_FFT_COST`.
    """
    if not all(isinstance(n, int) for n in space):  # chosen when the program runs
        return False
    products, points = 0.0, math.prod(space)
    for n, (low, high) in zip(space, bands, strict=True):
        rows = 2 * (max(-low, high) + 1)
        products += 2 * rows * points
        points *= rows / n
    total = math.prod(space)
    return products > _FFT_COST * 5 * total * max(math.log2(total), 1.0)


def _fft(x: Array, bands: tuple[Band, ...]) -> tuple[Array, Array]:
    """`_analyse` by a full transform."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    z = jnp.fft.rfftn(wide, axes=tuple(range(len(bands))), norm="forward")
    for axis, (low, high) in enumerate(bands):
        below = jax.lax.slice_in_dim(z, z.shape[axis] + low, z.shape[axis], axis=axis)
        z = jnp.concatenate([below, jax.lax.slice_in_dim(z, 0, high + 1, axis=axis)], axis)
    return z.real.astype(x.dtype), z.imag.astype(x.dtype)


def _inverse_fft(real: Array, imaginary: Array, space: tuple[int, ...], bands: tuple[Band, ...]) -> Array:
    """`_synthesise` by a full transform."""
    last = len(space) - 1
    wide = jnp.promote_types(real.dtype, jnp.float32)
    z = jax.lax.complex(real.astype(wide), imaginary.astype(wide))
    for axis, (n, (low, high)) in enumerate(zip(space[:-1], bands[:-1], strict=True)):
        negative = jax.lax.slice_in_dim(z, 0, -low, axis=axis)
        positive = jax.lax.slice_in_dim(z, -low, z.shape[axis], axis=axis)
        gap = jnp.zeros((*z.shape[:axis], n - (high - low + 1), *z.shape[axis + 1 :]), z.dtype)
        z = jnp.fft.ifft(jnp.concatenate([positive, gap, negative], axis), axis=axis, norm="forward")
    # A real field has real coefficients at 0 and at n / 2; what libraries do with others there differs.
    own = [k == 0 or 2 * k == space[last] for k in range(z.shape[last])]
    keep = np.where(own, 0.0, 1.0).reshape((-1,) + (1,) * (z.ndim - last - 1))
    z = jax.lax.complex(z.real, z.imag * jnp.broadcast_to(jnp.asarray(keep, z.real.dtype), z.shape))
    return jnp.fft.irfft(z, space[last], axis=last, norm="forward").astype(real.dtype)


def _halves(x: Array, axis: int) -> tuple[Array, Array]:
    first, second = (jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in (0, 1))
    return first, second


def _join(negative: Array, positive: Array, band: Band, axis: int) -> Array:
    """Frequencies in ascending order from values at -k and k for 0 <= k."""
    low, high = band
    below = jnp.flip(jax.lax.slice_in_dim(negative, 1, 1 - low, axis=axis), axis)
    return jnp.concatenate([below, jax.lax.slice_in_dim(positive, 0, high + 1, axis=axis)], axis)


def _split(x: Array, band: Band, axis: int) -> tuple[Array, Array]:
    """Values at -k and k for 0 <= k from frequencies in ascending order, zero where there is none."""
    low, high = band
    count = _count(band)
    negative = jnp.flip(jax.lax.slice_in_dim(x, 0, -low, axis=axis), axis)
    positive = jax.lax.slice_in_dim(x, -low, x.shape[axis], axis=axis)
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, count - 1 + low)
    negative = jnp.pad(negative, pads)
    pads[axis] = (0, count - 1 - high)
    return negative, jnp.pad(positive, pads)
