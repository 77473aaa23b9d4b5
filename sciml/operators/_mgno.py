"""The multigrid neural operator."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.grid import Grid
from sciml.nn import Conv, CycleConfig, FieldNorm, VCycle, apply_layer, bare, gelu
from sciml.operators._base import AbstractOperator, takes_any_field


@dataclasses.dataclass(frozen=True)
class MgNOConfig:
    """What an MgNO does besides smoothing; the defaults are those of the published Darcy and pipe experiments.

    Attributes:
        cycle: What each multigrid cycle does.
        local: Whether each layer adds a matrix of the channels at each point and a constant per channel.
        norm: Makes a normalisation of each cycle's output from its channels and the grid's shape, `nn.FieldNorm` per
            point or `nn.per_channel_norm`; None leaves it out.
        activation: Applied after each layer, elementwise.
        cycle_head: Whether the head is a multigrid cycle; otherwise it is a matrix of the channels.
        head_hidden: Number of hidden channels of a `PointwiseHead`, which then is the head; 0 for none.
        head_bias: Whether a head that is a matrix of the channels adds a constant to each.
    """

    cycle: CycleConfig = CycleConfig()
    local: bool = True
    norm: Callable[[int, tuple[int, ...]], FieldNorm] | None = None
    activation: Callable[[Array], Array] = gelu
    cycle_head: bool = False
    head_hidden: int = 0
    head_bias: bool = False

    def __post_init__(self) -> None:
        if self.cycle_head and self.head_hidden:
            raise ValueError(
                f"Expected one head, got cycle_head=True and head_hidden={self.head_hidden}. Leave one of them out."
            )


NAVIER_STOKES = MgNOConfig(cycle=CycleConfig(bias=True, norm=FieldNorm), local=False)
"""The published variant for Navier-Stokes, to be wrapped in `Residual`; pinned to its grid by a gain per point."""

HELMHOLTZ = MgNOConfig(
    cycle=CycleConfig(bias=True, inner=True, multiples=(1, 2, 3, 4, 5)), local=False, norm=FieldNorm, cycle_head=True
)
"""The published variant for the Helmholtz equation: 5 levels whose channels grow, a cycle as the head."""


@final
class MultigridLayer(eqx.Module):
    """norm(V u) + W u + b: a multigrid cycle, a linear map of the channels at each point, a constant per channel."""

    cycle: VCycle
    local: Conv | None
    norm: FieldNorm | None

    def channels_last(self, u: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        """The sum, for fields with a leading batch axis and the channels last."""
        return self.complete(u, self.cycle.channels_last(u))

    def complete(
        self, u: Float[Array, "batch *space in"], cycled: Float[Array, "batch *space out"]
    ) -> Float[Array, "batch *space out"]:
        """The sum for a given value of V u."""
        y = cycled if self.norm is None else self.norm.channels_last(cycled)
        return y if self.local is None else y + self.local.channels_last(u)


@final
class PointwiseHead(eqx.Module):
    """W_2 gelu(W_1 u + b): two matrices of the channels at each point."""

    hidden: Conv
    out: Conv

    def channels_last(self, u: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        """The output channels, for fields with a leading batch axis and the channels last."""
        return self.out.channels_last(gelu(self.hidden.channels_last(u)))


@final
class MgNO(AbstractOperator):
    """Multigrid neural operator: u <- activation(V_i u + W_i u + b_i) for i = 1 .. depth, then W u.

    V_i is one multigrid cycle with learned 3-point stencils (`sciml.nn.VCycle`), W_i a matrix of the channels. There is
    no lifting and no projection network, and no coordinates are appended: the boundary of the grid decides how every
    stencil continues beyond the walls. `MgNOConfig` adds and leaves out parts.

    A trained stencil belongs to its grid spacing: the operator takes fields on the grid that it was built for;
    `Transferred` and `Resampled` let it act on others.

    Source: He, Liu, Xu, "MgNO: Efficient parameterization of linear operators via multigrid", ICLR 2024. The default
    is that of its Darcy experiments: 4 layers of width 24 on 6 levels have 572,661 parameters. `NAVIER_STOKES` and
    `HELMHOLTZ` are the other published ones, at their sizes in `sciml.zoo`.

    Attributes:
        layers: The layers in their order.
        head: The map of the channels to those of the output: a matrix, a cycle or a small network at each point.
    """

    layers: tuple[MultigridLayer, ...]
    head: Conv | VCycle | PointwiseHead
    grid: Grid = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Grid,
        width: int = 24,
        depth: int = 4,
        levels: int | Sequence[Sequence[int]] = 6,
        config: MgNOConfig = MgNOConfig(),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            in_channels: Number of channels of the input.
            out_channels: Number of channels of the output.
            grid: Grid of input and output, in one to three dimensions; its boundary is that of the stencils.
            width: Number of channels of the hidden fields.
            depth: Number of layers.
            levels: Smoothing steps (pre, post) of each level, finest first. A number of levels stands for (1, 0) on
                all of them but (2, 0) on the coarsest.
            config: What else the operator does.
            key: Of the random initial values.

        Raises:
            ValueError: If the grid has too few points for the levels, or there is no layer.
        """
        if depth < 1:
            raise ValueError(f"Expected at least one layer, got depth={depth}. Use 4, the published number.")
        if isinstance(levels, int) and levels < 1:
            raise ValueError(f"Expected at least one level, got levels={levels}. Use 6, the published number.")
        iterations = ((1, 0),) * (levels - 1) + ((2, 0),) if isinstance(levels, int) else levels
        matrix = functools.partial(Conv, kernel=(1,) * len(grid.shape))
        cycle = functools.partial(VCycle, grid=grid, iterations=iterations, config=config.cycle)

        def layer(into: int, key: PRNGKeyArray) -> MultigridLayer:
            cycle_key, local_key = jax.random.split(key)
            local = matrix(into, width, key=local_key) if config.local else None
            norm = None if config.norm is None else config.norm(width, grid.shape)
            return MultigridLayer(cycle(into, width, key=cycle_key), local, norm)

        head_key, *keys = jax.random.split(key, depth + 1)
        self.layers = tuple(layer(width if i else in_channels, key) for i, key in enumerate(keys))
        if config.cycle_head:
            self.head = cycle(width, out_channels, key=head_key)
        elif config.head_hidden:
            first, second = jax.random.split(head_key)
            last = matrix(config.head_hidden, out_channels, bias=False, key=second)
            self.head = PointwiseHead(matrix(width, config.head_hidden, key=first), last)
        else:
            self.head = matrix(width, out_channels, bias=config.head_bias, key=head_key)
        self.grid = grid
        self.activation = config.activation

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields on the grid of the operator.

        Raises:
            ValueError: If the input has another number of channels or lives on another grid.
        """
        self.check_channels(x)
        self.grid.check(x)
        u = jnp.moveaxis(x, 0, -1)[None]
        for layer in self.layers:
            u = apply_layer(lambda layer, u: self.activation(layer.channels_last(u)), layer, u)
        return jnp.moveaxis(self.head.channels_last(u)[0], -1, 0)

    def repeated(self) -> tuple[PyTree, ...]:
        """The layers, each with the activation after it."""
        return self.layers

    def check_channels(self, x: Float[Array, "in *space"]) -> None:
        """Raises ValueError if a field has another number of channels than the operator's input."""
        expected = bare(self.layers[0]).cycle.pre[0][0].smoother.weight.shape[-2]
        if x.shape[0] != expected:
            raise ValueError(
                f"Expected {expected} input channels, got {x.shape[0]} in a field of shape {x.shape}. Fields are "
                f"(channels, *space): build the operator with in_channels={x.shape[0]}, or map batches by jax.vmap."
            )
