"""Standing waves, -Laplace u - (omega / c)^2 u = 0 with a source on one wall: from the speed c to the wave u.

    sciml train experiments/helmholtz.py --preset demo --model mgno --out runs/helmholtz/mgno
    sciml evaluate runs/helmholtz/mgno --resolution 48 96

MgNO against FNO and others on data that the first run generates and keeps (`Helmholtz` of sciml.pdes). A change of the
speed by 0.5 % changes a wave that is many wavelengths long by its own size, near a resonance by more. The demo has 4
wavelengths across the square and 49 x 49 points.

The paper preset has the settings of He, Liu, Xu, "MgNO", ICLR 2024, on regenerated data: 8 wavelengths on 101 x 101
points, normalisation inside of the model, an absolute H1 loss with weight 10 for the values, Adam in one cycle with the
decay in its gradient, and the load as their data have it. Published relative L2 error of MgNO: 0.71 % in their table 3
(second-hand), 0.81 % in a rerun of their code. The networks are `zoo.mgno_helmholtz` and `fno_published_narrow` there.

A stencil belongs to one spacing: at other resolutions (numbers of elements) operators with stencils are evaluated
through `Resampled`, FNO as it is. The data there are solved on that mesh and differ by the error of both meshes.
"""

import dataclasses
import functools

from sciml import losses, metrics, tasks, zoo
from sciml.experiment import Count, Depth, Experiment, Training, chosen
from sciml.operators import FNO, HELMHOLTZ, MgNO, Pointwise
from sciml.pdes import Helmholtz


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    problem: Helmholtz = Helmholtz(omega=320.0, elements=32)
    """Medium, source and solver."""
    width: Count | None = None
    """Channels of the hidden fields (mgno, fno); by default the model's published number."""
    depth: Depth = 4
    """Number of layers (mgno, fno)."""
    levels: Depth = 4
    """Levels of the multigrid cycles (mgno)."""
    kept: Count = 24
    """Kept frequencies along each axis (fno)."""
    source: tasks.Generated = tasks.Generated((400, 50, 100))
    """Generated data."""
    run: Training = Training(epochs=20, batch=10)
    """Length and learning rate of the training; more than 5 epochs."""


PRESETS = {
    "demo": Config(width=10),
    "smoke": Config(
        problem=Helmholtz(omega=150.0, elements=16),
        width=4,
        depth=2,
        levels=3,
        kept=6,
        source=tasks.Generated((24, 8, 8)),
        run=Training(epochs=6, batch=8),
    ),
    "paper": Config(
        problem=Helmholtz(half_width=0.14, ramp=0.01),
        levels=5,
        source=tasks.Generated((4000, 200, 200)),
        run=Training(epochs=100, batch=10, lr=3e-4),
    ),
}
MODELS = zoo.MODELS


def architecture(config: Config) -> zoo.Architecture:
    """The model of a config; mgno and fno have the published form and the sizes of the config."""
    found = chosen("a model", config.model, MODELS)
    if config.model == "mgno":
        cycle = dataclasses.replace(HELMHOLTZ.cycle, multiples=tuple(range(1, config.levels + 1)))
        form = dataclasses.replace(HELMHOLTZ, cycle=cycle)
        width = 20 if config.width is None else config.width
        make = functools.partial(MgNO, width=width, depth=config.depth, levels=config.levels, config=form)
        return zoo.Architecture(make, 1e-3, optimiser="adamw")
    if config.model == "fno":
        width = 24 if config.width is None else config.width
        pointwise = Pointwise(lifting=0, mixing=0, projection=128 / width)
        modes = (config.kept, config.kept - 2)
        make = functools.partial(FNO, modes=modes, width=width, depth=config.depth, pointwise=pointwise)
        return zoo.Architecture(make, 2e-3, any_resolution=True, optimiser="adamw")
    return found


def build(config: Config) -> Experiment:
    """The experiment of a config; generates its data unless an earlier run has."""
    model = architecture(config)
    at = lambda elements: dataclasses.replace(config.problem, elements=elements)
    parts = config.source.parts(config.problem, at)
    # the published spacing: 1 / points, not 1 / elements
    spacing = 1 / config.problem.grid.shape[0]
    return tasks.fields(
        model,
        parts,
        config.run,
        statistics=tasks.Statistics(epsilon=1e-5),
        loss=losses.supervised(functools.partial(metrics.absolute_h1, spacing=spacing, weight=10.0)),
        optimiser=tasks.one_cycle(model, config.run, len(parts.train), weight_decay=1e-5),
    )
