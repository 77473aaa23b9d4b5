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
import math
import pathlib
from collections.abc import Mapping

import jax

from sciml import data, losses, metrics, train, zoo
from sciml.experiment import Experiment, chosen, draw_predictions, on_grid, relative_errors
from sciml.grid import Grid
from sciml.operators import FNO, HELMHOLTZ, AbstractOperator, MgNO, Normalised, Pointwise, per_channel
from sciml.pdes import Helmholtz

_DEMO = Helmholtz(omega=320.0, elements=32)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "mgno"
    """One of MODELS."""
    problem: Helmholtz = _DEMO
    """Medium, source and solver."""
    samples: tuple[int, int, int] = (400, 50, 100)
    """Numbers of training, validation and test samples."""
    width: int | None = None
    """Channels of the hidden fields; by default the model's published number."""
    depth: int = 4
    """Number of layers."""
    levels: int = 4
    """Levels of the multigrid cycles (mgno)."""
    kept: int = 24
    """Kept frequencies along each axis (fno)."""
    epochs: int = 20
    """Passes through the training samples; more than 5."""
    batch: int = 10
    """Samples in a batch."""
    rate: float | None = None
    """Peak of the learning rate; by default the model's own."""
    seed: int = 0
    """Seed of the samples, of the initial weights and of the order of the samples."""
    data: str = "data"
    """Folder for the generated files."""


PRESETS = {
    "demo": Config(width=10),
    "smoke": Config(
        problem=Helmholtz(omega=150.0, elements=16),
        samples=(24, 8, 8),
        width=4,
        depth=2,
        levels=3,
        kept=6,
        epochs=6,
        batch=8,
    ),
    "paper": Config(
        problem=Helmholtz(half_width=0.14, ramp=0.01),
        samples=(4000, 200, 200),
        levels=5,
        epochs=100,
        rate=3e-4,
    ),
}


def _mgno(config: Config, grid: Grid, key: jax.Array) -> MgNO:
    cycle = dataclasses.replace(HELMHOLTZ.cycle, multiples=tuple(range(1, config.levels + 1)))
    form = dataclasses.replace(HELMHOLTZ, cycle=cycle)
    width = config.width or 20
    return MgNO(1, 1, grid=grid, width=width, depth=config.depth, levels=config.levels, form=form, key=key)


def _fno(config: Config, grid: Grid, key: jax.Array) -> FNO:
    width, modes = config.width or 24, (config.kept, config.kept - 2)
    pointwise = Pointwise(lifting=0, mixing=0, projection=128 / width)
    return FNO(1, 1, modes=modes, width=width, depth=config.depth, pointwise=pointwise, grid=grid, key=key)


_OWN = {"mgno": (_mgno, 1e-3), "fno": (_fno, 2e-3)}
MODELS = zoo.MODELS


def network(config: Config, grid: Grid, key: jax.Array) -> tuple[AbstractOperator, float]:
    """The untrained operator of a config and its learning rate; mgno and fno have the published forms."""
    chosen("a model", config.model, MODELS)
    if config.model in _OWN:
        make, rate = _OWN[config.model]
        return make(config, grid, key), rate
    return MODELS[config.model].make(1, 1, grid=grid, key=key), MODELS[config.model].lr


def build(config: Config) -> Experiment:
    """The experiment of a config; generates its data unless an earlier run has."""
    total, grid = sum(config.samples), config.problem.grid
    model, rate = network(config, grid, jax.random.key(config.seed))
    known = data.cached(config.problem, config.data, n=total, seed=config.seed)
    training, validation, testing = data.split(known, config.samples, seed=None)

    def at(elements: int) -> Helmholtz:
        return dataclasses.replace(config.problem, elements=elements)

    def test(resolution: int | None) -> data.Pairs:
        if resolution is None:
            return testing
        other = data.cached(at(resolution), config.data, n=total, seed=config.seed)
        return data.split(other, config.samples, seed=None)[2]

    def at_resolution(trained: AbstractOperator, resolution: int) -> tuple[AbstractOperator, str]:
        return on_grid(trained, grid, at(resolution).grid, native=MODELS[config.model].any_resolution)

    def figures(models: Mapping[str, AbstractOperator], where: pathlib.Path) -> None:
        draw_predictions(models, testing.take(slice(0, 3)), where / "predictions.png")

    x, y = per_channel(training.x, epsilon=1e-5), per_channel(training.y, epsilon=1e-5)
    steps_per_epoch, epochs = -(-len(training) // config.batch), math.ceil(config.epochs)
    optimiser = train.one_cycle_adam(
        config.rate or rate, epochs=epochs, steps_per_epoch=steps_per_epoch, weight_decay=1e-5
    )
    # the published spacing: 1 / points, not 1 / elements
    loss = functools.partial(metrics.absolute_h1, spacing=1 / grid.shape[0], weight=10.0)
    return Experiment(
        model=Normalised(model, x, y),
        loss=losses.supervised(loss),
        optimiser=optimiser,
        train=training,
        steps=math.ceil(config.epochs * steps_per_epoch),
        batch=config.batch,
        evaluate=relative_errors,
        test=test,
        validation=validation,
        at_resolution=at_resolution,
        figures=figures,
        seed=config.seed,
    )
