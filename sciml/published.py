"""Networks at the sizes of publications, with the parameter counts printed there.

Counts are of real numbers, two for a complex one, for one channel in and out.
"""

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import InstanceNorm
from sciml.operators import (
    FNO,
    HELMHOLTZ,
    NAVIER_STOKES,
    UNO,
    DeepONet,
    DilatedResNet,
    GalerkinTransformer,
    MgNO,
    Pointwise,
    SpectralHead,
    Stage,
    Transolver,
    UNet,
)


def fno_darcy(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> FNO:
    """The first FNO (Li et al. 2021, arXiv:2010.08895) with 12 modes and width 32: 2,368,001 parameters on 2 axes.

    MgNO's tables for Darcy flow (He, Liu, Xu 2024, ICLR) print 2.37 M.
    """
    return _first_fno(in_channels, out_channels, width=32, grid=grid, key=key)


def fno_helmholtz(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> FNO:
    """The same with width 24: 1,332,929 parameters. MgNO's table for the Helmholtz equation prints 1.33 M."""
    return _first_fno(in_channels, out_channels, width=24, grid=grid, key=key)


def _first_fno(in_channels: int, out_channels: int, *, width: int, grid: Grid, key: PRNGKeyArray) -> FNO:
    # 12 frequencies of each sign, 12 of 0 ... 11 on the last axis; 128 channels in the last hidden layer.
    pointwise = Pointwise(lifting=0, mixing=0, projection=128 / width)
    return FNO(in_channels, out_channels, modes=(24, 22), width=width, pointwise=pointwise, grid=grid, key=key)


def uno_darcy(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> UNO:
    """U-NO for Darcy flow with 5 stages at width 32: 16,393,665 parameters.

    16.39 M is the size reported for U-NO beside MgNO; that it is this network, the shallowest of U-NO's authors for
    Darcy flow, is inferred from the number. Theirs pads the domain by 5 of 85 points, which is left out.
    """
    few, many, half, quarter = (16, 14), (36, 34), (0.5, 0.5), (0.25, 0.25)
    stages = (
        Stage(64, many, half),
        Stage(128, few, quarter, InstanceNorm),
        Stage(128, few, quarter),
        Stage(64, few, half, InstanceNorm),
        Stage(32, many, (1, 1)),
    )
    return UNO(in_channels, out_channels, width=32, stages=stages, grid=grid, key=key)


def galerkin_darcy(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> GalerkinTransformer:
    """The Galerkin transformer (Cao 2021, arXiv:2105.14995) with 6 layers of width 128: 1,991,841 parameters on 2 axes.

    MgNO's table for Darcy flow prints 2.22 M. Cao's network has that size, 2,220,829, with the convolutions around the
    transformer that take the data to a coarser grid and back; they have 228,988 more than the linear map here.
    """
    head = SpectralHead(modes=(24, 22))
    return GalerkinTransformer(in_channels, out_channels, head=head, grid=grid, key=key)


def transolver_darcy(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> Transolver:
    """Transolver (Wu et al. 2024, arXiv:2402.02366) for Darcy flow: 2,826,817 parameters on 2 axes.

    By its published settings, 8 layers of width 128 with 64 slices. Its code holds 128 more that it does not use there.
    """
    return Transolver(in_channels, out_channels, grid=grid, key=key)


def deeponet_burgers(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> DeepONet:
    """DeepONet for Burgers' equation (Lu et al. 2022, arXiv:2111.05512): 99,713 parameters on 128 periodic points."""
    return DeepONet(in_channels, out_channels, grid=grid, activation=jnp.tanh, key=key)


_SIX_LEVELS = ((1, 0),) * 5 + ((2, 0),)


def mgno_darcy(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """MgNO for Darcy flow through rough and multiscale media (He, Liu, Xu 2024, ICLR): 572,661 parameters.

    The published grid has 256 points along each axis; on an axis whose levels have odd sizes prolongations are smaller.
    """
    return MgNO(in_channels, out_channels, grid=grid, levels=_SIX_LEVELS, key=key)


def mgno_darcy_smooth(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """The same with 5 layers, for smooth media: 678,093 parameters on the published grid of 211 points."""
    return MgNO(in_channels, out_channels, grid=grid, depth=5, levels=_SIX_LEVELS, key=key)


def mgno_pipe(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """MgNO for the flow through a pipe: 783,876 parameters with 2 input channels (the mesh) on 128 points."""
    levels = (*_SIX_LEVELS[:4], (1, 1), (2, 0))
    return MgNO(in_channels, out_channels, grid=grid, depth=5, levels=levels, key=key)


def mgno_navier_stokes(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """MgNO for Navier-Stokes: 2,885,194 parameters on 64 points, most of them gains and shifts of normalisations.

    It predicts the increment: wrap it in `Residual`.
    """
    levels = ((1, 0),) * 3 + ((2, 0),) * 2
    return MgNO(in_channels, out_channels, grid=grid, width=32, depth=5, levels=levels, form=NAVIER_STOKES, key=key)


def mgno_helmholtz(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """MgNO for the Helmholtz equation on 101 points: 5,340,565 parameters.

    The published class holds 11,241 more that it never uses, 5,351,806 in all; the paper prints 7.58 M.
    """
    return MgNO(in_channels, out_channels, grid=grid, width=20, levels=5, form=HELMHOLTZ, key=key)


def unet(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> UNet:
    """The bilinear U-Net of widths 64, 128, 256, 512, 512: 17,261,825 parameters on 2 axes, 1,152 more with 3 inputs.

    MgNO's tables for Darcy flow and the Helmholtz equation print 17.27 M and 17.26 M.
    """
    return UNet(in_channels, out_channels, grid=grid, key=key)


def dilated_resnet(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> DilatedResNet:
    """The dilated residual network of width 64 with 4 blocks of 7 stencils: 1,035,201 parameters on 2 axes.

    MgNO's tables for Darcy flow and the Helmholtz equation print 1.04 M and 1.03 M.
    """
    return DilatedResNet(in_channels, out_channels, grid=grid, key=key)
