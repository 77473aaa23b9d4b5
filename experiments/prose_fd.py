"""PROSE-FD: from ten frames of a plane flow and its equations to the next ten frames, one model for all families.

    sciml train experiments/prose_fd.py --preset demo --out runs/prose-fd/demo
    sciml train experiments/prose_fd.py --preset demo --model fno --out runs/prose-fd/fno
    sciml benchmark experiments/prose_fd.py --preset small --models prose data-only fno --budget 30m --out runs/fd

Liu, Sun, He, Pinney, Zhang, Schaeffer, "PROSE-FD", 2024, arXiv:2409.09811. `prose` reads frames and equation (2-to-1),
`data-only` the frames alone (1-to-1), `fno` is an operator from the ten frames to the next ten, trained by the same
loss. Families: the radial dam break and smooth waves in shallow water, forced vortices, two species that react and
diffuse (`sciml.systems.FLUID_FAMILIES`). Each trajectory has its own constants. Data and metrics are those of
`tasks.ProseFD`. docs/prose.md has the measured errors of the demo.

`paper` has the published sizes (165,267,652 parameters; 164,106,436 of `data-only`), patches, optimiser, 160,000 steps
of 160 samples, and bfloat16. Published errors there in % (second-hand): PROSE-FD 0.28 on shallow water, 1.53 and 2.84
on compressible and incompressible flows, 6.34 and 10.76 on smoke, 0.54 on CFDBench, 3.71 in the mean; 4.06 without the
equations; FNO with 0.6 million parameters 24.95. Our errors cannot be compared with these, because the data are others.

Differs from the source in: families from our generators, all with periodic sides, in place of the files of PDEBench,
PDEArena and CFDBench; equal weights of the families unless `weights` says otherwise; every window once in each epoch in
place of random ones; mean squares of each sample before those of the batch; symbols as in `sciml.systems.FluidFamily`.
"""

import dataclasses
import functools

import jax

from sciml import prose, tasks, zoo
from sciml.experiment import Count, Experiment, Training, chosen
from sciml.grid import Grid


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "prose"
    """One of MODELS."""
    task: tasks.ProseFD = tasks.ProseFD()
    """Data and evaluation."""
    patch_read: Count = 16
    """Edge of the patches that are read, in points."""
    patch_written: Count = 8
    """Edge of the patches that are predicted."""
    point_channels: Count = 32
    """Hidden channels of a predicted point."""
    sizes: prose.ProseSizes = prose.ProseSizes(128, 4, 256, 2, 1, 3, 3)
    """Widths and depths of `prose`; `data-only` has the layers that join the two modalities in its encoder."""
    precision: str = "float32"
    """Data type of the activations in training: float32 or bfloat16."""
    run: Training = Training(epochs=2, batch=16)
    """Length and learning rate of the training."""


PRESETS = {
    "demo": Config(
        task=tasks.ProseFD(flows=(240, 16, 32), resolution=32, frames=30),
        patch_read=8,
        sizes=prose.ProseSizes(64, 4, 128, 1, 1, 2, 2),
        run=Training(epochs=5, batch=8, lr=2e-3),
    ),
    "smoke": Config(
        task=tasks.ProseFD(
            families=("dam_break", "vortices"), flows=(4, 2, 2), resolution=16, frames=5, history=2, horizon=2
        ),
        patch_read=8,
        patch_written=4,
        point_channels=4,
        sizes=prose.ProseSizes(16, 2, 16, 1, 1, 1, 1),
        run=Training(epochs=1, batch=4),
    ),
    "small": Config(),
    "paper": Config(
        task=tasks.ProseFD(flows=(8_000, 400, 800), resolution=128, frames=60),
        sizes=prose.ProseSizes(1024, 8, 2048, 2, 1, 8, 8),
        precision="bfloat16",
        run=Training(epochs=78.05, batch=160, lr=1e-4),
    ),
}


def _prose(config: Config, key: jax.Array) -> prose.Prose:
    return _patched(config, len(config.task.vocabulary), config.sizes, key)


def _data_only(config: Config, key: jax.Array) -> prose.Prose:
    """Of the published sizes it has 7 and 12 layers, which are about as many parameters."""
    sizes = config.sizes
    more = sizes.symbol_encoder + sizes.fusion
    reading = more // 2 + more % 2
    deeper = dataclasses.replace(
        sizes, data_encoder=sizes.data_encoder + reading, data_decoder=sizes.data_decoder + more - reading
    )
    return _patched(config, None, deeper, key)


def _patched(config: Config, words: int | None, sizes: prose.ProseSizes, key: jax.Array) -> prose.Prose:
    points = config.task.resolution, config.task.resolution
    patches = prose.PatchSizes(points, config.patch_read, config.patch_written, config.point_channels)
    times = functools.partial(prose.LearnedTimes, max(config.task.history, config.task.horizon))
    return prose.prose_fd(4, symbols_in=words, patches=patches, times=times, sizes=sizes, key=key)


def _fno(config: Config, key: jax.Array) -> prose.FieldForecast:
    if config.precision != "float32":
        raise ValueError("Fourier transforms have no bfloat16. Train fno with --precision float32.")
    grid = Grid((config.task.resolution,) * 2)
    operator = zoo.fno(4 * config.task.history, 4 * config.task.horizon, grid=grid, gain=1.0, key=key)
    return prose.FieldForecast(operator, prose.PerTrajectory(config.task.epsilon))


MODELS = {"prose": _prose, "data-only": _data_only, "fno": _fno}


def build(config: Config) -> Experiment:
    """The experiment of a config."""
    make = chosen("a model", config.model, MODELS)
    model = tasks.within_memory(lambda: make(config, jax.random.key(config.run.seed)))
    optimiser = lambda steps: prose.fd_optimiser(config.run.lr_or(1e-3), steps=steps)
    return tasks.prose(config.task, model, optimiser, config.run, precision=config.precision)
