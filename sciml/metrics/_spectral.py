"""Errors in Fourier space, for periodic fields: gradients, bands of wavenumbers, spectra."""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import cut
from sciml.grid import Grid
from sciml.metrics._channels import nrmse
from sciml.metrics._fields import root


def wavenumbers(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Whole wavenumbers |k_j| >= 0 along each axis, in shapes that broadcast to the modes of `rfftn`."""
    axes = [np.abs(np.fft.fftfreq(n, 1 / n)) for n in shape]
    axes[-1] = np.arange(shape[-1] // 2 + 1.0)
    return [k.reshape([-1 if other == axis else 1 for other in range(len(shape))]) for axis, k in enumerate(axes)]


def _powers(u: Float[Array, "channels *space"]) -> Float[Array, "channels *modes"]:
    """|u_k|^2 of the modes of `rfftn`; their sum is the mean of u^2 (Parseval)."""
    n = u.shape[-1]
    twice = np.full(n // 2 + 1, 2.0)  # a real field: the modes that rfftn leaves out are conjugates of those it keeps
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    cut.refuse(u, u.ndim - 1, "A Fourier transform of all modes")
    modes = jnp.fft.rfftn(u, axes=tuple(range(1, u.ndim)), norm="forward")
    return _broadcast(twice, u) * (modes.real**2 + modes.imag**2)


def _broadcast(weight: np.ndarray, u: Float[Array, "channels *space"]) -> Array:
    """Weights of modes as an array of the type of `u`, with as many axes."""
    return jnp.asarray(weight.reshape((1,) * (u.ndim - weight.ndim) + weight.shape), u.dtype)


def _channel_sums(weight: np.ndarray, powers: Float[Array, "channels *modes"]) -> Float[Array, " channels"]:
    """The weighted sum over the modes, for each channel."""
    return jnp.sum(_broadcast(weight, powers) * powers, axis=tuple(range(1, powers.ndim)))


def relative_h1_spectral(
    prediction: Float[Array, "channels *space"],
    truth: Float[Array, "channels *space"],
    *,
    grid: Grid,
    cutoff: int | None = None,
) -> Float[Array, ""]:
    """Relative H1 error by Fourier coefficients, with the squared norm sum_k (1 + |2 pi k / L|^2) |u_k|^2.

    Exact for periodic fields. For others it is the norm of the periodic continuation, whose jumps fill the high
    wavenumbers; `cutoff` then helps: a component |k_j| >= cutoff counts as zero in the weight, so that such modes
    keep their L2 weight alone.

    The training loss of MgNO (He, Liu, Xu, ICLR 2024) is this one with the extent 2 pi (integer wavenumbers) and
    cutoff 20, whatever the boundary.
    """
    grid.check(truth)
    weight = np.ones(())
    for k, n, length in zip(wavenumbers(grid.shape), grid.shape, grid.lengths, strict=True):
        weight = weight + np.where(k < (n if cutoff is None else cutoff), 2 * np.pi * k / length, 0) ** 2

    def squares(u: Array) -> Array:
        return jnp.sum(_channel_sums(weight, _powers(u)))

    return root(squares(prediction - truth)) / root(squares(truth))


def gradient_nrmse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, grid: Grid
) -> Float[Array, " channels"]:
    """Error of the spectral gradient of each channel, sum_j ||d_j (u - r)||_2 / sum_j ||d_j r||_2.

    The norms of the derivatives along the axes are added, not their squares, as in exponax 0.1.0
    (`fourier_nRMSE` with derivative order 1), the metrics of APEBench. The Nyquist mode of an even axis counts with its
    wavenumber. Derivatives are in the units of `grid.extent`, which cancel if all axes have one length.

    Raises:
        ValueError: If the field does not live on the grid.
    """
    grid.check(truth)
    weights = [(2 * np.pi * k / length) ** 2 for k, length in zip(wavenumbers(grid.shape), grid.lengths, strict=True)]

    def size(u: Array) -> Array:
        powers = _powers(u)
        return jnp.sum(jnp.stack([root(_channel_sums(weight, powers)) for weight in weights]), axis=0)

    return size(prediction - truth) / size(truth)


def h1_nrmse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, grid: Grid
) -> Float[Array, " channels"]:
    """`nrmse` plus `gradient_nrmse` of each channel; the sum over the channels is APEBench's H1_nRMSE.

    Raises:
        ValueError: If the field does not live on the grid.
    """
    return nrmse(prediction, truth) + gradient_nrmse(prediction, truth, grid=grid)


def band_nrmse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, low: int, high: int
) -> Float[Array, " channels"]:
    """`nrmse` of each channel over the Fourier modes with low <= max_j |k_j| <= high, whole wavenumbers k.

    The sum over the channels is APEBench's fourier_nRMSE. exponax 0.1.0 sets coefficients below 1e-5 to zero first,
    this function does not: in a band that the truth does not fill, the error is large or infinite.

    Raises:
        ValueError: If no mode of the grid is in the band.
    """
    largest = max(n // 2 for n in truth.shape[1:])
    if not 0 <= low <= min(high, largest):
        raise ValueError(
            f"Expected a band 0 <= low <= high with low up to {largest}, the largest wavenumber of a grid "
            f"{truth.shape[1:]}, got low {low} and high {high}. Choose another band."
        )
    k = np.maximum.reduce(np.broadcast_arrays(*wavenumbers(truth.shape[1:])))
    inside = ((low <= k) & (k <= high)).astype(float)
    error, size = (root(_channel_sums(inside, _powers(u))) for u in (prediction - truth, truth))
    return error / size


def binned_spectral_mse(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, bins: int = 3
) -> Float[Array, "bins channels"]:
    """The mean squared error of each channel, split over bins of the radial wavenumber; the bins add up to the MSE.

    kappa = 2 pi |(k_1 / n_1, ..., k_d / n_d)| is the angle per grid spacing. Bin i holds b_i <= kappa < b_(i+1); the
    edges are equally spaced in the logarithm from 2 pi / max(n) to pi sqrt(d) + 1e-6, except that the first is 0.

    Source: The Well (Ohana et al., NeurIPS 2024), package the_well 1.2.0, `binned_spectral_mse`, with 3 bins. It
    compares in single precision, so that a mode exactly on an edge may fall into the neighbouring bin there.
    """
    shape = truth.shape[1:]
    edges = np.logspace(np.log10(2 * np.pi / max(shape)), np.log10(np.pi * np.sqrt(len(shape)) + 1e-6), bins + 1)
    edges[0] = 0
    axes = zip(wavenumbers(shape), shape, strict=True)
    kappa = np.sqrt(sum(((2 * np.pi * k / n) ** 2 for k, n in axes), np.zeros(())))
    powers = _powers(prediction - truth)
    inside = [((low <= kappa) & (kappa < high)).astype(float) for low, high in itertools.pairwise(edges)]
    return jnp.stack([_channel_sums(mask, powers) for mask in inside])
