"""An inverse problem with a surrogate: the permeability of a medium from noisy values of the pressure.

    sciml train experiments/darcy_inversion.py --out runs/inversion

Trains an operator from the log-permeability m to the pressure u, -div(exp(m) grad u) = 1 on the unit square, and solves
with it the inverse problem of a held-out medium: `figures/inversion.png` has the true field, the most probable one, the
mean and the deviation of the posterior, `figures/inversion.json` the errors and the number of solves. The chain is
delayed acceptance: its proposals come from the operator, its posterior is that of the solver. What the methods cost and
how well they agree with a long reference chain: benchmarks/inversion.py, docs/inverse_problems.md.

The log-permeability has 16 coefficients that are standard normal a priori, in the Karhunen-Loeve basis of
`pdes.LogNormalDarcy`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from sciml import plot, tasks, uq, zoo
from sciml.experiment import Count, Experiment, Positive, Seed, Training, chosen
from sciml.operators import AbstractOperator
from sciml.pdes import LogNormalDarcy


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run."""

    model: str = "fno"
    """One of MODELS."""
    problem: LogNormalDarcy = LogNormalDarcy()
    """Prior of the permeability, and solver."""
    sizes: tasks.Sizes = tasks.Sizes(width=16, depth=4, modes=8)
    """Sizes of mgno and fno."""
    source: tasks.Generated = tasks.Generated((2000, 100, 100))
    """Generated data."""
    sensors: Count = 5
    """Observations along each axis, equally spaced from 0.1 to 0.9."""
    noise: Positive = 0.05
    """Standard deviation of the noise, relative to the root mean square of the observed pressures."""
    truth: Seed = 1_000_000
    """Seed of the true medium and of the noise."""
    beta: Positive = 0.5
    """Length of a step of the operator's chain."""
    inner: Count = 10
    """Steps of the operator's chain for each solve."""
    draws: Count = 500
    """Draws of each of 4 chains in the figure."""
    run: Training = Training(epochs=12, batch=16)
    """Length and learning rate of the training."""


PRESETS = {
    "full": Config(),
    "smoke": Config(
        problem=LogNormalDarcy(resolution=12, terms=4),
        sizes=tasks.Sizes(width=6, depth=2, modes=4),
        source=tasks.Generated((48, 8, 8)),
        sensors=3,
        draws=20,
        inner=2,
        run=Training(epochs=2, batch=8),
    ),
}
MODELS = zoo.MODELS


class Solver(eqx.Module):
    """The observed pressures of some coefficients, by the solver."""

    problem: LogNormalDarcy = eqx.field(static=True)
    observe: uq.PointObservations

    def __call__(self, coefficients: jax.Array) -> jax.Array:
        """The pressures."""
        return self.observe(self.problem.pressure(self.problem.log_permeability(coefficients))[None])


class Surrogate(eqx.Module):
    """The observed pressures of some coefficients, by the trained operator."""

    problem: LogNormalDarcy = eqx.field(static=True)
    observe: uq.PointObservations
    model: AbstractOperator

    def __call__(self, coefficients: jax.Array) -> jax.Array:
        """The pressures."""
        field = self.problem.log_permeability(coefficients)[None]
        return self.observe(self.model(field.astype(jnp.float32)).astype(coefficients.dtype))


class Inverse(NamedTuple):
    """One inverse problem, with either forward map.

    Attributes:
        truth: The true coefficients.
        points: Where the pressure is observed.
        exact: With the solver.
        cheap: With the operator.
    """

    truth: jax.Array
    points: np.ndarray
    exact: uq.InverseProblem
    cheap: uq.InverseProblem


def inverse(config: Config, model: AbstractOperator) -> Inverse:
    """The inverse problem of a config; to be called with float64 switched on."""
    places = np.linspace(0.1, 0.9, config.sensors)
    points = np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2)
    observe, size = uq.PointObservations(config.problem.grid, points), config.problem.terms
    solver = Solver(config.problem, observe)
    first, second = jax.random.split(jax.random.key(config.truth))
    truth = jax.random.normal(first, (size,), float)
    clean = solver(truth)
    noise = config.noise * float(jnp.sqrt(jnp.mean(clean**2)))
    observed = clean + noise * jax.random.normal(second, clean.shape, float)
    forwards = solver, Surrogate(config.problem, observe, model)
    return Inverse(truth, points, *(uq.InverseProblem(one, observed, noise, size=size) for one in forwards))


class Posterior(NamedTuple):
    """What delayed acceptance found: most probable coefficients, chains, and solves per effective draw."""

    estimate: uq.Estimate
    samples: jax.Array
    solves: float
    evaluations: int
    acceptance: float


def posterior(found: Inverse, config: Config, draws: int, *, key: jax.Array) -> Posterior:
    """Four chains of delayed acceptance in the coordinates of the operator's Laplace approximation."""
    estimate = uq.maximum_a_posteriori(found.cheap, jnp.zeros(found.cheap.size))
    approximation = uq.laplace(found.cheap, estimate.coefficients)
    cheap, exact = (uq.Recentred(one, approximation) for one in (found.cheap, found.exact))
    kernel = uq.DelayedAcceptance(
        first=uq.CrankNicolson(cheap.misfit, config.beta), misfit=exact.misfit, steps=config.inner
    )
    first, rest = jax.random.split(key)
    starts = jax.random.normal(first, (4, found.exact.size), float)
    chains = uq.sample(kernel, starts, draws=draws, burn=draws // 10, key=rest)
    samples, solves = exact.coefficients(chains.samples), int(chains.evaluations.sum())
    effective = float(uq.effective_sample_size(samples).min())
    return Posterior(estimate, samples, solves / effective, solves, float(chains.acceptance.mean()))


def draw_inversion(found: Inverse, result: Posterior, config: Config) -> Figure:
    """The true log-permeability, and what is known of it."""
    field = jax.vmap(config.problem.log_permeability)
    draws = field(result.samples.reshape(-1, found.exact.size))
    panels = {
        "truth and observations": field(found.truth[None])[0],
        "most probable, by the operator": field(result.estimate.coefficients[None])[0],
        "mean of the posterior": draws.mean(0),
        "standard deviation": draws.std(0),
    }
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    limits = float(jnp.min(panels["truth and observations"])), float(jnp.max(panels["truth and observations"]))
    for axes, (title, values) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        low, high = (0.0, float(values.max())) if title == "standard deviation" else limits
        image = axes.imshow(np.asarray(values).T, origin="lower", extent=(0, 1, 0, 1), vmin=low, vmax=high)
        axes.plot(*found.points.T, "w.", markersize=4)
        axes.set(title=title, xticks=[0, 1], yticks=[0, 1])
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def figures_of(config: Config, others: Callable[..., Any] | None) -> Callable[[Mapping[str, Any], pathlib.Path], None]:
    """The figures of an experiment on fields, and those of the inversion by each model."""

    def figures(models: Mapping[str, AbstractOperator], folder: pathlib.Path) -> None:
        if others is not None:
            others(models, folder)
        written = {}
        for name, model in models.items():
            with jax.enable_x64(True):
                found = inverse(config, model)
                result = posterior(found, config, config.draws, key=jax.random.key(config.run.seed))
                mean = result.samples.mean((0, 1))
                error = lambda c, truth=found.truth: float(jnp.linalg.norm(c - truth) / jnp.linalg.norm(truth))
                written[name] = {
                    "error_of_the_most_probable": error(result.estimate.coefficients),
                    "error_of_the_mean": error(mean),
                    "rhat": float(uq.rhat(result.samples).max()),
                    "solves": result.evaluations,
                    "solves_per_effective_draw": result.solves,
                    "acceptance": result.acceptance,
                }
                suffix = "" if len(models) == 1 else f"-{name}"
                plot.save(draw_inversion(found, result, config), folder / f"inversion{suffix}.png")
        (folder / "inversion.json").write_text(json.dumps(written, indent=1) + "\n")

    return figures


def build(config: Config) -> Experiment:
    """The experiment of a config; generates its data unless an earlier run has."""
    model = config.sizes.of(config.model, chosen("a model", config.model, MODELS))
    parts = config.source.parts(config.problem, config.problem.at)
    built = tasks.fields(model, parts, config.run, grid=config.problem.grid)
    return dataclasses.replace(built, figures=figures_of(config, built.figures))
