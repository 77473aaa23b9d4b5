"""Multigrid cycles with a network at each point and a skip connection around both."""

import functools
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Conv, CycleConfig, VCycle, apply_layer, check_field, gelu
from sciml.operators._base import AbstractOperator, takes_any_field

_MIXING = 4
"""Hidden channels of the network at each point, in multiples of the width."""


@final
class ResidualMultigridLayer(eqx.Module):
    """u + W_2 gelu(W_1 V u + b_1) + b_2: a multigrid cycle V, then a network of one hidden layer at each point."""

    cycle: VCycle
    hidden: Conv
    out: Conv

    def channels_last(self, u: Float[Array, "batch *space width"]) -> Float[Array, "batch *space width"]:
        """The sum, for fields with a leading batch axis and the channels last."""
        return u + self.out.channels_last(gelu(self.hidden.channels_last(self.cycle.channels_last(u))))


@final
class ResidualMgNO(AbstractOperator):
    r"""An `MgNO` whose layers are those of an `FFNO`, with multigrid cycles in the place of Fourier kernels.

    .. math::  v_0 = P a, \quad v_{l+1} = v_l + W_{2,l} \, \mathrm{gelu}(W_{1,l} V_l v_l + b_{1,l}) + b_{2,l},
               \quad u = Q v_{depth}

    V_l is one multigrid cycle with learned stencils (`sciml.nn.VCycle`), P and Q are matrices of the channels. The
    network at each point has four times as many channels as the cycles, because they are cheap there. Trained on single
    steps of a flow, it is more accurate than `MgNO` in the same time, and its steps damp errors where those of `MgNO`
    amplify them (docs/results.md).

    A trained stencil belongs to its grid spacing: the operator takes fields on the grid that it was built for.

    Source: the cycles of He, Liu, Xu, "MgNO: Efficient parameterization of linear operators via multigrid", ICLR 2024,
    section 3, in the residual layer of Tran, Mathews, Xie, Ong, ICLR 2023, arXiv:2111.13802. Both together are not
    published. Differs from `FFNO` in: GELU in place of ReLU, the output from v instead of the last layer's term, no
    coordinates.

    Attributes:
        lifting: P.
        layers: The layers in their order.
        projection: Q.
    """

    lifting: Conv
    layers: tuple[ResidualMultigridLayer, ...]
    projection: Conv
    grid: Grid = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 16,
        depth: int = 5,
        levels: int = 4,
        cycle: CycleConfig = CycleConfig(bias=True),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Grid of input and output, in one to three dimensions; its boundary is that of the stencils.
            width: Number of channels of the fields between the layers, and of the cycles.
            depth: Number of layers.
            levels: Number of levels of each cycle, with one smoothing step on each and two on the coarsest.
            cycle: What each cycle does besides smoothing.
            key: Of the random initial values.

        Raises:
            ValueError: If the grid has too few points for the levels, or there is no layer or no level.
        """
        if depth < 1 or levels < 1:
            raise ValueError(
                f"Expected at least one layer and one level, got depth={depth}, levels={levels}. "
                "Use 5 and 4, the defaults."
            )
        matrix = functools.partial(Conv, kernel=(1,) * len(grid.shape))
        steps = ((1, 0),) * (levels - 1) + ((2, 0),)
        hidden = _MIXING * width

        def layer(key: PRNGKeyArray) -> ResidualMultigridLayer:
            first, second, third = jax.random.split(key, 3)
            v = VCycle(width, width, grid=grid, iterations=steps, config=cycle, key=first)
            return ResidualMultigridLayer(v, matrix(width, hidden, key=second), matrix(hidden, width, key=third))

        first, last, *keys = jax.random.split(key, depth + 2)
        self.lifting = matrix(in_channels, width, key=first)
        self.layers = tuple(layer(key) for key in keys)
        self.projection = matrix(width, out_channels, bias=False, key=last)
        self.grid = grid

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields on the grid of the operator.

        Raises:
            ValueError: If the input has another number of channels or lives on another grid.
        """
        check_field(x, self.lifting.weight.shape[-2], len(self.grid.shape))
        self.grid.check(x)
        u = self.lifting.channels_last(jnp.moveaxis(x, 0, -1)[None])
        for layer in self.layers:
            u = apply_layer(ResidualMultigridLayer.channels_last, layer, u)
        return jnp.moveaxis(self.projection.channels_last(u)[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """The layers."""
        return self.layers
