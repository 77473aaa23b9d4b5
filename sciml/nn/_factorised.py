"""Fourier multipliers whose weights are factorised: over all tensor axes (Tucker) or over the axes of space."""

import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import root_scalar

from sciml import cut
from sciml.nn._layout import along_last, check_field, fold_vmap
from sciml.nn._matrices import MatrixAxes
from sciml.nn._spectral import channels_first, multiply_modes, stored_modes


@final
class TuckerSpectralConv(eqx.Module):
    r"""`SpectralConv` whose weight is a Tucker factorisation.

    .. math::  W_{k_1 \dots k_d\, i\, o} = \sum_{a_1 \dots a_d\, b\, c} G_{a_1 \dots a_d\, b\, c}
               U^{(1)}_{k_1 a_1} \cdots U^{(d)}_{k_d a_d} V_{i b} Z_{o c}

    All numbers are complex and stored as real pairs. Neuraloperator splits the weight into blocks for positive and
    negative frequencies in its first versions and factorises each; here, as in its later ones, one factorisation covers
    them all. The dense weight is formed in each call: its cost depends neither on the grid nor on the batch.

    Source: Kossaifi, Kovachki, Azizzadenesheli, Anandkumar 2023, arXiv:2310.00120.

    Attributes:
        core: G, axes (real and imaginary part, ranks ...).
        factors: U for each axis of space, V, Z, axes (real and imaginary part, size, rank).
        bias: One number per output channel.
    """

    core: Float[Array, "2 *ranks"]
    factors: tuple[Float[Array, "2 size rank"], ...]
    bias: Float[Array, " out"]
    modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: tuple[int, ...],
        *,
        rank: float | int | tuple[int, ...],
        key: PRNGKeyArray,
    ):
        """Draws core and factors from one normal distribution, so that W has the variance of `SpectralConv`.

        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
            rank: Fraction of the dense weight's number of parameters, in (0, 1]: all ranks are the same fraction of
                their axes, rounded, at least 1. Or the ranks themselves for the axes (modes ..., in, out), in which the
                last axis of space stores modes // 2 + 1 frequencies.
            key: Random key.

        Raises:
            ValueError: If a number of modes is not positive, or a rank does not fit the weight.
        """
        sizes = (*stored_modes(modes), in_channels, out_channels)
        ranks = _ranks(sizes, rank)
        scale = math.sqrt(2 / (in_channels + out_channels))
        # |W|^2 is a sum over all ranks of products of len(sizes) + 1 independent numbers.
        deviation = (scale / math.sqrt(math.prod(ranks))) ** (1 / (len(sizes) + 1)) / math.sqrt(2)
        core_key, bias_key, *keys = jax.random.split(key, len(sizes) + 2)
        self.core = deviation * jax.random.normal(core_key, (2, *ranks))
        self.factors = tuple(
            deviation * jax.random.normal(k, (2, size, r)) for k, size, r in zip(keys, sizes, ranks, strict=True)
        )
        self.bias = jax.random.normal(bias_key, (out_channels,)) * scale
        self.modes = tuple(modes)

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix per factor: its axis against both parts of the ranks. The core has no such axes."""
        return {"factors": MatrixAxes((-2,), (-3, -1))}

    def on_modes(self) -> tuple[str, ...]:
        """Core and factors."""
        return ("core", "factors")

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """Applies the multiplier to a field.

        Raises:
            ValueError: If the number of axes or channels differs from the weights.
        """
        check_field(x, self.factors[-2].shape[1], len(self.modes))
        return fold_vmap(channels_first, self, x)

    def multiply(
        self, x: Float[Array, "*space batch in"], space: tuple[int, ...] | None = None
    ) -> Float[Array, "*other batch out"]:
        """As `SpectralConv.multiply`."""
        return multiply_modes(x, self.dense(), self.modes, space) + along_last(self.bias, x.ndim)

    def dense(self) -> Float[Array, "*modes in 2 out"]:
        """The weight that the factors stand for, laid out as `SpectralConv.weight`."""
        real, imaginary = self.core
        for u, v in self.factors:  # the first axis is replaced by one at the end: in the end the order is as before
            along = lambda tensor, factor: jnp.tensordot(tensor, factor, axes=((0,), (1,)))
            real, imaginary = along(real, u) - along(imaginary, v), along(real, v) + along(imaginary, u)
        return jnp.stack([real, imaginary], axis=-2)


def _ranks(sizes: tuple[int, ...], rank: float | int | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(rank, tuple):
        if len(rank) != len(sizes) or not all(1 <= r <= n for r, n in zip(rank, sizes, strict=True)):
            raise ValueError(
                f"Expected a rank for each axis (modes ..., in, out) of the weight {sizes}, from 1 to the axis' size, "
                f"got {rank}. Give a number between 0 and 1 to have them chosen."
            )
        return rank
    if not 0 < rank <= 1:
        raise ValueError(
            f"Expected a fraction of the dense weight's parameters in (0, 1], got rank={rank}. "
            "Give a tuple of ranks, one for each axis (modes ..., in, out), to set them one by one."
        )
    total, squares = math.prod(sizes), sum(n * n for n in sizes)
    excess = lambda c: c ** len(sizes) * total + c * squares - rank * total
    fraction = root_scalar(excess, bracket=(0.0, 1.0)).root
    return tuple(max(1, round(fraction * n)) for n in sizes)


@final
class AxialSpectralConv(eqx.Module):
    r"""Sum of one-dimensional Fourier multipliers, one for each axis of space.

    .. math::  y = \sum_d \mathrm{Re} \sum_k W^{(d)}_k\, \hat u^{(d)}_k e^{2 \pi i k x_d / L_d}

    where :math:`\hat u^{(d)}` is transformed along axis d alone. `modes` are counted as on the last axis of
    `SpectralConv`: m keeps 0 ... m // 2.

    Attributes:
        weights: W for each axis, axes (frequency, in, real and imaginary part, out).
    """

    weights: tuple[Float[Array, "modes in 2 out"], ...]
    modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, in_channels: int, out_channels: int, modes: tuple[int, ...], *, key: PRNGKeyArray):
        """Draws each W from a normal distribution whose complex variance is 2 / (in + out) / number of axes.

        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, positive and negative together.
            key: Random key.

        Raises:
            ValueError: If there are not 1 to 3 axes or a number of modes is not positive.
        """
        stored_modes(modes)
        deviation = 1 / math.sqrt((in_channels + out_channels) * len(modes))
        self.weights = tuple(
            deviation * jax.random.normal(k, (m // 2 + 1, in_channels, 2, out_channels))
            for k, m in zip(jax.random.split(key, len(modes)), modes, strict=True)
        )
        self.modes = tuple(modes)

    def matrices(self) -> dict[str, MatrixAxes]:
        """One matrix per frequency: the input against both parts of the output."""
        return {"weights": MatrixAxes((-3,), (-2, -1))}

    def on_modes(self) -> tuple[str, ...]:
        """The weights."""
        return ("weights",)

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """Applies the multipliers to a field.

        Raises:
            ValueError: If the number of axes or channels differs from the weights.
        """
        check_field(x, self.weights[0].shape[1], len(self.modes))
        return fold_vmap(channels_first, self, x)

    def multiply(self, x: Float[Array, "*space batch in"]) -> Float[Array, "*space batch out"]:
        """The same for a batch, laid out as for `SpectralConv.multiply`."""
        names = cut.axes(x, len(self.modes))
        first, *rest = (self._along(x, axis, name) for axis, name in enumerate(names))
        return sum(rest, first)

    def _along(self, x: Array, axis: int, name: str | None) -> Array:
        front = jnp.moveaxis(x, axis, 0)
        rows = front.reshape(front.shape[0], -1, front.shape[-1])
        y = multiply_modes(rows, self.weights[axis], self.modes[axis : axis + 1], names=(name,))
        return jnp.moveaxis(y.reshape(*front.shape[:-1], -1), 0, axis)
