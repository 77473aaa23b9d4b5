"""Fourier neural operator."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import Dense, SpectralConv, TuckerSpectralConv, along_last, check_field, fold_vmap
from sciml.operators._base import AbstractOperator
from sciml.operators._pointwise import NEURALOPERATOR, Pointwise, coordinates, count_coordinates, network, run


class FNO(AbstractOperator):
    r"""Fourier neural operator on a uniform grid, of any size, in 1 to 3 dimensions.

    .. math::  v_0 = P(a, x), \quad
               w_l = \sigma_l(K_l v_l + S_l v_l), \quad
               v_{l+1} = \sigma_l(M_l(w_l) + g_l v_l), \quad u = Q(v_{depth})

    K is a `SpectralConv`, S a matrix per point, M, P and Q networks of one hidden layer per point, g one factor per
    channel, and the nonlinearity :math:`\sigma_l` is left out in the last layer. x are the coordinates of the points
    in units of the extent. This is the architecture of neuraloperator 2.0 with its defaults; equal weights give equal
    outputs. The first FNO (Li et al. 2021, arXiv:2010.08895) is `Pointwise(lifting=0, mixing=0, projection=4)` at
    width 32, which leaves M and g out: :math:`v_{l+1} = \sigma_l(K_l v_l + S_l v_l)`.

    A trained operator acts at other resolutions: frequencies and coordinates are those of the domain, not of the grid.
    """

    lifting: tuple[Dense, ...]
    blocks: tuple["FourierBlock", ...]
    projection: tuple[Dense, ...]
    grid: Grid | None = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modes: tuple[int, ...],
        width: int,
        depth: int = 4,
        pointwise: Pointwise = NEURALOPERATOR,
        grid: Grid | None = None,
        key: PRNGKeyArray,
    ):
        """Weights are drawn as in neuraloperator: Fourier layers normal, others uniform in +-1 / sqrt(inputs).

        Args:
            in_channels: Number of input channels, without coordinates.
            out_channels: Number of output channels.
            modes: Number of kept frequencies for each axis, counted as in `SpectralConv`.
            width: Number of channels inside.
            depth: Number of Fourier layers.
            pointwise: Sizes and activation of the layers that act on each point.
            grid: If given, the coordinates of its points are appended to the input. At other sizes they are those of a
                grid of that size with the same boundaries. Without it the operator commutes with translations.
            key: Random key.

        Raises:
            ValueError: If the grid's number of axes differs from that of `modes`.
        """
        first, last, *inner = jax.random.split(key, depth + 2)
        inputs = in_channels + count_coordinates(grid, modes)
        self.lifting = network((inputs, int(pointwise.lifting * width), width), first)
        make = lambda key: SpectralConv(width, width, modes, key=key)
        self.blocks = tuple(FourierBlock(make, width, round(pointwise.mixing * width), key=k) for k in inner)
        self.projection = network((width, int(pointwise.projection * width), out_channels), last)
        self.grid = grid
        self.activation = pointwise.activation

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        return fourier_network(self, x)


def fourier_network(model: Any, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
    """The output of an operator that has the fields of `FNO`, with spectral layers of any kind."""
    dimensions = len(model.blocks[0].spectral.modes)
    check_field(x, model.lifting[0].weight.shape[0] - (0 if model.grid is None else dimensions), dimensions)
    return fold_vmap(_apply, model, x)


def _apply(model: Any, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    # Channels last, the batch beside them: every product below is a GEMM without a transposition.
    points = coordinates(model.grid, x.shape[2:])
    x = jnp.moveaxis(x, (0, 1), (-2, -1))
    x = run(model.lifting, x, model.activation, points)
    for i, block in enumerate(model.blocks):
        x = block(x, model.activation, last=i == len(model.blocks) - 1)
    x = run(model.projection, x, model.activation)
    return jnp.moveaxis(x, (-2, -1), (0, 1))


class FourierBlock(eqx.Module):
    """A Fourier layer with its skip connection, mixing network and gate, see `FNO`."""

    spectral: SpectralConv | TuckerSpectralConv
    skip: Dense
    mixing: tuple[Dense, ...]
    gate: Float[Array, " width"] | None

    def __init__(
        self,
        make: Callable[[PRNGKeyArray], SpectralConv | TuckerSpectralConv],
        width: int,
        hidden: int,
        *,
        key: PRNGKeyArray,
    ):
        """`make(key)` is the spectral layer, `hidden` the size of the mixing network's hidden layer."""
        keys = jax.random.split(key, 3)
        self.spectral = make(keys[0])
        self.skip = Dense(width, width, bias=False, key=keys[1])
        self.mixing = network((width, hidden, width), keys[2]) if hidden else ()
        self.gate = jnp.ones(width) if hidden else None

    def __call__(
        self, x: Float[Array, "*space batch width"], activation: Callable[[Array], Array], *, last: bool
    ) -> Float[Array, "*space batch width"]:
        """The block's output; the `last` one has no nonlinearity at its end."""
        final = (lambda y: y) if last else activation
        y = final(self.spectral.multiply(x) + self.skip(x))
        if self.gate is None:
            return y
        return final(run(self.mixing, y, activation) + x * along_last(self.gate, x.ndim))
