"""Operators at the sizes that the comparisons on small grids use.

The experiment files offer these; the sizes that publications print are in `sciml.published`.
"""

import dataclasses
from collections.abc import Callable

from jaxtyping import PRNGKeyArray

from sciml.grid import Dirichlet, Grid, Periodic
from sciml.nn import CycleForm
from sciml.operators import (
    CNO,
    FFNO,
    FNO,
    TFNO,
    UNO,
    AbstractOperator,
    DeepONet,
    DilatedResNet,
    GalerkinTransformer,
    MgNO,
    MgNOForm,
    ResidualUNet,
    Slicing,
    SpectralHead,
    Stage,
    Transolver,
)

Maker = Callable[[int, int, Grid, PRNGKeyArray], AbstractOperator]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """An architecture at one size.

    Attributes:
        make: `(in_channels, out_channels, grid, key) -> operator`.
        rate: Peak of the learning rate that suits it, with AdamW, clipped gradients and a cosine schedule.
        any_resolution: Whether the trained operator may be applied at other resolutions as it is.
    """

    make: Maker
    rate: float
    any_resolution: bool = False


def mgno(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> MgNO:
    """Three layers with constants in the stencils, on as many levels as keep 4 points, at most 6.

    Its prolongation is periodic where the grid is. Of widths 16 to 32, 2 to 4 layers and 5 or 6 levels, with and
    without normalisations and constants, this form had the lowest validation errors after 30 s on rough Darcy flow.
    """
    ends = tuple(low if isinstance(low, Periodic) else Dirichlet() for low, _ in grid.sides)
    form = MgNOForm(cycle=CycleForm(bias=True, extension=ends))
    levels = min(6, max(1, min(grid.shape).bit_length() - 2))
    return MgNO(into, out, grid=grid, width=20, depth=3, levels=levels, form=form, key=key)


def fno(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> FNO:
    """24 modes along each axis, or as many as a small grid has."""
    return FNO(into, out, modes=_modes(grid, 24), width=32, depth=4, grid=grid, key=key)


def tfno(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> TFNO:
    """The same with a tenth of its weights."""
    return TFNO(into, out, modes=_modes(grid, 24), width=32, grid=grid, key=key)


def ffno(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> FFNO:
    """Modes of each axis apart."""
    return FFNO(into, out, modes=_modes(grid, 32), width=32, grid=grid, key=key)


def uno(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> UNO:
    """Five stages, the middle ones on a quarter of the points of each axis."""
    scales = ((32, 16, 0.5), (48, 8, 0.25), (48, 8, 0.25), (32, 16, 0.5), (24, 24, 1.0))
    d = len(grid.shape)
    stages = tuple(Stage(channels, _modes(grid, m), (scale,) * d) for channels, m, scale in scales)
    return UNO(into, out, width=24, stages=stages, grid=grid, key=key)


def unet(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> ResidualUNet:
    """The modern U-Net on four levels."""
    return ResidualUNet(into, out, grid=grid, widths=(16, 24, 32, 48), blocks=1, key=key)


def dilated_resnet(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> DilatedResNet:
    """Two blocks of seven stencils."""
    return DilatedResNet(into, out, grid=grid, width=32, dilations=((1, 2, 4, 8, 4, 2, 1),) * 2, key=key)


def cno(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> CNO:
    """Three levels with few residual blocks."""
    return CNO(into, out, grid=grid, width=12, levels=3, blocks=(1, 2), key=key)


def deeponet(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> DeepONet:
    """A branch of three layers, a trunk of two."""
    return DeepONet(into, out, grid=grid, key=key)


def galerkin(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> GalerkinTransformer:
    """Four layers of linear attention."""
    head = SpectralHead(_modes(grid, 24), width=24, depth=2)
    return GalerkinTransformer(into, out, head=head, width=48, depth=4, heads=4, grid=grid, key=key)


def transolver(into: int, out: int, grid: Grid, key: PRNGKeyArray) -> Transolver:
    """Four layers of attention between 32 slices."""
    return Transolver(into, out, grid=grid, width=48, depth=4, slicing=Slicing(heads=4, slices=32), key=key)


def _modes(grid: Grid, most: int) -> tuple[int, ...]:
    return tuple(min(most, n) for n in grid.shape)


SMALL: dict[str, Baseline] = {
    "mgno": Baseline(mgno, 4e-3),
    "fno": Baseline(fno, 1e-2, any_resolution=True),
    "tfno": Baseline(tfno, 1e-2, any_resolution=True),
    "ffno": Baseline(ffno, 6e-3, any_resolution=True),
    "uno": Baseline(uno, 6e-3, any_resolution=True),
    "unet": Baseline(unet, 2e-3),
    "dilresnet": Baseline(dilated_resnet, 5e-3),
    "cno": Baseline(cno, 2e-3),
    "deeponet": Baseline(deeponet, 1e-3),
    "galerkin": Baseline(galerkin, 1e-3, any_resolution=True),
    "transolver": Baseline(transolver, 1e-3),
}
"""What the experiment files offer by name."""
