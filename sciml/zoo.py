"""Every architecture at two sizes, with one signature `(in_channels, out_channels, *, grid, key)`.

`MODELS` holds the sizes of our comparisons on small grids, by the names that experiment files offer. Functions that
name a problem or end in `_published` build the networks of publications and have the parameter counts printed there.
Counts are of real numbers, two for a complex one, for one channel in and out.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from sciml.grid import Dirichlet, Grid, Periodic
from sciml.nn import CycleConfig, InstanceNorm
from sciml.operators import (
    CNO,
    FFNO,
    FNO,
    HELMHOLTZ,
    NAVIER_STOKES,
    TFNO,
    UNO,
    ConvNet,
    ConvNeXtUNet,
    DeepONet,
    DilatedResNet,
    GalerkinTransformer,
    GlobalResNet,
    MgNO,
    MgNOConfig,
    ModernResNet,
    Pointwise,
    ResidualMgNO,
    ResidualUNet,
    Slicing,
    SpectralHead,
    Stage,
    Transolver,
    UNet,
    patched,
)

Maker = Callable[..., Callable[..., Array]]
"""`(in_channels, out_channels, *, grid, key) -> operator`, with its initial weights."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An operator at one size, and how it is trained.

    Attributes:
        make: `(in_channels, out_channels, *, grid, key) -> operator`.
        lr: Peak learning rate of the optimiser; for Muon in runs of 1,000 steps or more, shorter ones get a higher one.
        any_resolution: Whether the trained operator may be applied at other resolutions as it is.
        optimiser: Of `train.OPTIMISERS` the one that trains it, "muon" or "adamw".
    """

    make: Maker
    lr: float
    any_resolution: bool = False
    optimiser: Literal["muon", "adamw"] = "muon"

    def in_patches(self, patch: int) -> "Architecture":
        """The architecture on patches of so many points along each axis, `operators.patched`; itself for 1."""
        if patch == 1:
            return self
        make = functools.partial(patched, self.make, patch=patch)
        return dataclasses.replace(self, make=make, any_resolution=False)


def mgno(
    in_channels: int,
    out_channels: int,
    *,
    grid: Grid,
    width: int = 20,
    depth: int = 3,
    levels: int | None = None,
    key: PRNGKeyArray,
) -> MgNO:
    """Constants in the stencils; by default as many levels as keep 4 points along each axis, at most 6.

    Its prolongation is periodic where the grid is. Of widths 16 to 32, 2 to 4 layers and 5 or 6 levels, with and
    without normalisations and constants, this variant had the lowest validation errors after 30 s on rough Darcy flow.
    """
    config = MgNOConfig(cycle=_cycle(grid))
    levels = _levels(grid) if levels is None else levels
    return MgNO(in_channels, out_channels, grid=grid, width=width, depth=depth, levels=levels, config=config, key=key)


def residual_mgno(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray, **sizes: int) -> ResidualMgNO:
    """The cycles and levels of `mgno`, with a network at each point and a skip connection in each layer.

    `sizes` are `width`, `depth` and `levels` of `ResidualMgNO`.
    """
    sizes = {"levels": _levels(grid), **sizes}
    return ResidualMgNO(in_channels, out_channels, grid=grid, cycle=_cycle(grid), key=key, **sizes)


def _cycle(grid: Grid) -> CycleConfig:
    ends = tuple(low if isinstance(low, Periodic) else Dirichlet() for low, _ in grid.sides)
    return CycleConfig(bias=True, extension=ends)


def _levels(grid: Grid) -> int:
    """As many as keep 4 points along each axis, at most 6."""
    return min(6, max(1, min(grid.shape).bit_length() - 2))


def fno(
    in_channels: int,
    out_channels: int,
    *,
    grid: Grid,
    width: int = 32,
    depth: int = 4,
    modes: int = 24,
    gain: float = 0.1,
    key: PRNGKeyArray,
) -> FNO:
    """`modes` modes along each axis, fewer on an axis with fewer points; `gain` as of `FNO`."""
    kept = _modes(grid, modes)
    return FNO(in_channels, out_channels, modes=kept, width=width, depth=depth, gain=gain, grid=grid, key=key)


def tfno(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> TFNO:
    """The same with a tenth of its weights."""
    return TFNO(in_channels, out_channels, modes=_modes(grid, 24), width=32, grid=grid, key=key)


def ffno(in_channels: int, out_channels: int, *, grid: Grid, width: int = 32, key: PRNGKeyArray) -> FFNO:
    """Modes of each axis apart."""
    return FFNO(in_channels, out_channels, modes=_modes(grid, 32), width=width, grid=grid, key=key)


def uno(
    in_channels: int, out_channels: int, *, grid: Grid, factor: float = 1.0, gain: float = 0.1, key: PRNGKeyArray
) -> UNO:
    """Five stages, the middle ones on a quarter of the points of each axis; all widths times `factor`."""
    scales = ((32, 16, 0.5), (48, 8, 0.25), (48, 8, 0.25), (32, 16, 0.5), (24, 24, 1.0))
    wide = lambda channels: round(factor * channels)
    d = len(grid.shape)
    stages = tuple(Stage(wide(channels), _modes(grid, m), (scale,) * d) for channels, m, scale in scales)
    return UNO(in_channels, out_channels, width=wide(24), stages=stages, gain=gain, grid=grid, key=key)


def unet(
    in_channels: int,
    out_channels: int,
    *,
    grid: Grid,
    widths: tuple[int, ...] = (16, 24, 32, 48),
    key: PRNGKeyArray,
) -> ResidualUNet:
    """The modern U-Net on four levels."""
    return ResidualUNet(in_channels, out_channels, grid=grid, widths=widths, blocks=1, key=key)


def dilated_resnet(
    in_channels: int, out_channels: int, *, grid: Grid, width: int = 32, key: PRNGKeyArray
) -> DilatedResNet:
    """Two blocks of seven stencils."""
    return DilatedResNet(
        in_channels, out_channels, grid=grid, width=width, dilations=((1, 2, 4, 8, 4, 2, 1),) * 2, key=key
    )


def cno(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> CNO:
    """Three levels with few residual blocks."""
    return CNO(in_channels, out_channels, grid=grid, width=12, levels=3, blocks=(1, 2), key=key)


def deeponet(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> DeepONet:
    """A branch of three layers, a trunk of two."""
    return DeepONet(in_channels, out_channels, grid=grid, key=key)


def galerkin(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> GalerkinTransformer:
    """Four layers of linear attention."""
    head = SpectralHead(_modes(grid, 24), width=24, depth=2)
    return GalerkinTransformer(in_channels, out_channels, head=head, width=48, depth=4, heads=4, grid=grid, key=key)


def transolver(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> Transolver:
    """Four layers of attention between 32 slices."""
    return Transolver(
        in_channels, out_channels, grid=grid, width=48, depth=4, slicing=Slicing(heads=4, slices=32), key=key
    )


def convnext_unet(
    in_channels: int,
    out_channels: int,
    *,
    grid: Grid,
    widths: tuple[int, ...] = (16, 32, 64, 64),
    key: PRNGKeyArray,
) -> ConvNeXtUNet:
    """Blocks of ConvNeXt on as many levels as keep 4 points, at least 2 and at most 4."""
    levels = min(4, max(2, ((min(grid.shape) - 1) // 3).bit_length()))
    return ConvNeXtUNet(in_channels, out_channels, grid=grid, widths=widths[:levels], blocks=1, key=key)


def apebench_convnet(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> ConvNet:
    """APEBench's "Conv;34;10;relu" (Koehler et al. 2024, arXiv:2411.00180): 31,757 parameters on 1 axis.

    94,589 on 2 axes and 283,085 on 3.
    """
    return ConvNet(in_channels, out_channels, grid=grid, key=key)


def apebench_modern_resnet(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> ModernResNet:
    """A residual network of the size of APEBench's "Res;26;8;relu", activations first: 32,943 parameters on 1 axis.

    97,839 on 2 axes and 292,527 on 3, as that network has; its activations come last. APEBench's network with
    activations first, "MoRes", has normalisations, which are left out here.
    """
    return ModernResNet(in_channels, out_channels, grid=grid, key=key)


def apebench_global_resnet(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> GlobalResNet:
    """Our network of at most 33,000 parameters for APEBench's equations on 1 axis: 31,753 parameters.

    6 blocks of width 24 with stencils of 7 points along each axis; 178,921 parameters on 2 axes.
    """
    return GlobalResNet(in_channels, out_channels, grid=grid, key=key)


def _modes(grid: Grid, most: int) -> tuple[int, ...]:
    return tuple(min(most, n) for n in grid.shape)


MODELS: dict[str, Architecture] = {
    "mgno": Architecture(mgno, 4e-3),
    "residual_mgno": Architecture(residual_mgno, 6e-3),
    "fno": Architecture(fno, 1.6e-2, any_resolution=True),
    "tfno": Architecture(tfno, 1e-2, any_resolution=True, optimiser="adamw"),
    "ffno": Architecture(ffno, 8e-3, any_resolution=True),
    "uno": Architecture(uno, 1.6e-2, any_resolution=True),
    "unet": Architecture(unet, 8e-3),
    "dilresnet": Architecture(dilated_resnet, 4e-3),
    "convnext_unet": Architecture(convnext_unet, 1.6e-2),
    "convnet": Architecture(apebench_convnet, 1e-3, optimiser="adamw"),
    "modern_resnet": Architecture(apebench_modern_resnet, 1e-3, optimiser="adamw"),
    "cno": Architecture(cno, 2e-3, optimiser="adamw"),
    "deeponet": Architecture(deeponet, 1e-3, optimiser="adamw"),
    "galerkin": Architecture(galerkin, 1e-3, any_resolution=True, optimiser="adamw"),
    "transolver": Architecture(transolver, 1e-3, optimiser="adamw"),
}
"""What the experiment files offer by name.

The learning rates of convnet and modern_resnet are those of APEBench's training and not tuned.
"""


def fno_published(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> FNO:
    """The first FNO (Li et al. 2021, arXiv:2010.08895) with 12 modes and width 32: 2,368,001 parameters on 2 axes.

    MgNO's tables for Darcy flow (He, Liu, Xu 2024, ICLR) print 2.37 M.
    """
    return _first_fno(in_channels, out_channels, width=32, grid=grid, key=key)


def fno_published_narrow(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> FNO:
    """The first FNO with width 24: 1,332,929 parameters. MgNO's table for the Helmholtz equation prints 1.33 M."""
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
    return MgNO(in_channels, out_channels, grid=grid, width=32, depth=5, levels=levels, config=NAVIER_STOKES, key=key)


def mgno_helmholtz(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """MgNO for the Helmholtz equation on 101 points: 5,340,565 parameters.

    The published class holds 11,241 more that it never uses, 5,351,806 in all; the paper prints 7.58 M.
    """
    return MgNO(in_channels, out_channels, grid=grid, width=20, levels=5, config=HELMHOLTZ, key=key)


def unet_published(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> UNet:
    """The bilinear U-Net of widths 64, 128, 256, 512, 512: 17,261,825 parameters on 2 axes, 1,152 more with 3 inputs.

    MgNO's tables for Darcy flow and the Helmholtz equation print 17.27 M and 17.26 M.
    """
    return UNet(in_channels, out_channels, grid=grid, key=key)


def dilated_resnet_published(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> DilatedResNet:
    """The dilated residual network of width 64 with 4 blocks of 7 stencils: 1,035,201 parameters on 2 axes.

    MgNO's tables for Darcy flow and the Helmholtz equation print 1.04 M and 1.03 M.
    """
    return DilatedResNet(in_channels, out_channels, grid=grid, key=key)


def convnext_unet_published(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> ConvNeXtUNet:
    """The Well's CNextU-net (Ohana et al. 2024, arXiv:2412.00568): 18,566,647 parameters on 2 axes, 22,276,087 on 3.

    By its published settings: first width 42, 4 changes of the grid, 2 blocks per stage, 1 in the neck, 7 points. The
    published code counts 1,890 more, constants of normalisations that it never uses, and has no network for 1 axis.
    """
    return ConvNeXtUNet(in_channels, out_channels, grid=grid, key=key)
