"""Factorised Fourier neural operator."""

from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import AxialSpectralConv, Dense, apply_layer
from sciml.operators._pointwise import AbstractFourierNetwork, Pointwise, count_coordinates, ends, network, run

_POINTWISE = Pointwise(lifting=0, mixing=2, projection=0, activation=jax.nn.relu)


@final
class FFNO(AbstractFourierNetwork):
    r"""Factorised Fourier neural operator on a uniform grid, of any size, in 1 to 3 dimensions.

    .. math::  v_0 = P(a, x), \quad w_l = M_l(K_{s(l)} v_l), \quad v_{l+1} = v_l + w_l, \quad u = Q(w_{depth - 1})

    K is an `AxialSpectralConv`: the field is transformed along one axis at a time and the results are added, so that
    the number of weights grows with the sum of the modes, not with their product. M is a network of one hidden layer
    at each point; the residual connection goes around its nonlinearity, which lets networks of 24 layers train. P and Q
    are matrices at each point, x the coordinates in units of the extent. s(l) is the kernel of layer l: layers may
    share one.

    Source: Tran, Mathews, Xie, Ong 2023, ICLR, arXiv:2111.13802, and the authors' code, in which no nonlinearity
    follows the last matrix of M, and the output is read from the last w. Its two matrices in Q with no nonlinearity
    between them are one here; it parametrises matrices by direction and norm (weight normalisation), which is left out.

    A trained operator acts at other resolutions, as `FNO` does.
    """

    spectral: tuple[AxialSpectralConv, ...]
    mixing: tuple[tuple[Dense, ...], ...]
    kernels: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modes: tuple[int, ...],
        width: int,
        kernels: tuple[int, ...] = (0, 1, 2, 3),
        pointwise: Pointwise = _POINTWISE,
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ):
        """Kernels are drawn as in `AxialSpectralConv`, matrices uniform in +-1 / sqrt(inputs).

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, positive and negative together: m keeps |k| <= m // 2. The
                authors' 16 keeps 0 ... 15: 30 here.
            width: Number of channels inside.
            kernels: For each layer the number of its Fourier kernel: `(0, 1, 2, 3)` are 4 layers with a kernel each,
                `(0,) * 24` are 24 layers that share one.
            pointwise: Sizes and activation of the layers that act on each point; `mixing` is for M.
            grid: If given, the coordinates of its points are appended to the input, as in `FNO`.
            key: Random key.

        Raises:
            ValueError: If the grid's number of axes differs from that of `modes`, or `kernels` skips a number.
        """
        if not kernels or set(kernels) != set(range(max(kernels) + 1)):
            raise ValueError(
                f"Expected a kernel for each layer, numbered from 0 without a gap, got kernels={kernels}. "
                "Give (0, 1, 2) for 3 layers with a kernel each or (0, 0, 0) for a shared one."
            )
        first, last, spectral_key, mixing_key = jax.random.split(key, 4)
        inputs = in_channels + count_coordinates(grid, modes)
        self.lifting, self.projection = ends(inputs, out_channels, width, pointwise, (first, last))
        spectral_keys = jax.random.split(spectral_key, max(kernels) + 1)
        self.spectral = tuple(AxialSpectralConv(width, width, modes, key=k) for k in spectral_keys)
        hidden = round(pointwise.mixing * width)
        self.mixing = tuple(network((width, hidden, width), k) for k in jax.random.split(mixing_key, len(kernels)))
        self.kernels = tuple(kernels)
        self.grid = grid
        self.activation = pointwise.activation

    @property
    def dimensions(self) -> int:
        """Number of axes of the fields."""
        return len(self.spectral[0].modes)

    def repeated(self) -> tuple[PyTree, ...]:
        """P, the networks M, each with the kernel in front of it, and Q."""
        return (self.lifting, *self.mixing, self.projection)

    def body(self, v: Float[Array, "*space batch width"]) -> Float[Array, "*space batch width"]:
        """The layers; w of the last one."""
        w = v
        for i, (kernel, mixing) in enumerate(zip(self.kernels, self.mixing, strict=True)):
            v = v + w if i else v
            w = apply_layer(self._layer, mixing, self.spectral[kernel], v)
        return w

    def _layer(self, mixing: tuple[Dense, ...], kernel: AxialSpectralConv, v: Array) -> Array:
        return run(mixing, kernel.multiply(v), self.activation)
