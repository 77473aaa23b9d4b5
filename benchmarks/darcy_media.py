"""What bounds.py, certified.py and dual_norm.py share: Darcy flow in three media, networks that are trained briefly."""

import dataclasses
import functools
import json
import pathlib
import platform
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import timer

from sciml import data, losses, operators, pdes, train, uq, zoo
from sciml.grid import Grid

CELLS, TRAINING, BATCH, STEPS = 32, 512, 16, 500
ARCHITECTURES = {
    "fno": functools.partial(zoo.fno, width=16, depth=4, modes=12),
    "mgno": functools.partial(zoo.mgno, width=12, depth=2),
}
RATES = {"fno": 2e-3, "mgno": 2e-3}
CONTRASTS = {"smooth": 4, "rough": 100, "multiscale": 10_000}


@dataclasses.dataclass(frozen=True)
class Medium:
    """Samples of one kind of permeability, and the discrete problem that they solve."""

    problem: Any
    x: np.ndarray
    y: np.ndarray
    solve: Callable[[Any, float], Any]

    def split(self, count: int) -> tuple["Medium", "Medium"]:
        """The first samples and the others."""
        parts = slice(0, count), slice(count, None)
        first, rest = (dataclasses.replace(self, x=self.x[part], y=self.y[part]) for part in parts)
        return first, rest

    @property
    def grid(self) -> Grid:
        """Where the fields live."""
        return self.problem.darcy.grid if isinstance(self.problem, uq.SplineDarcy) else self.problem.grid


def medium(name: str, count: int, seed: int) -> Medium:
    """Permeability and pressure in float64, the pressure by the library's solver at 1e-12.

    smooth and rough: two values (3 and 12; 1 and 100) by the sign of a Gaussian field, samples of `pdes.Darcy`.
    multiscale: the six oscillating factors of `pdes.MultiscaleDarcy` at the nodes, contrast about 10,000.
    oscillating: its first two factors, contrast at most 81.
    """
    with jax.enable_x64(True):
        if name in ("multiscale", "oscillating"):
            return _multiscale(6 if name == "multiscale" else 2, count, seed)
        settings = {"smooth": {}, "rough": {"low": 1.0, "high": 100.0, "tau": 7.0}}[name]
        darcy = pdes.Darcy(resolution=CELLS, **settings)
        x = np.asarray(data.draw(darcy, n=count, seed=seed).x, np.float64)

        def solve(a: Any, tolerance: float) -> Any:
            nodal = darcy.nodal_permeability(a[0])
            return darcy.at_centres(pdes.solve_diffusion(nodal, jnp.ones_like(nodal), tolerance=tolerance))[None]

        return _solved(uq.problem_of(darcy), x, solve)


def _multiscale(factors: int, count: int, seed: int) -> Medium:
    generator = pdes.MultiscaleDarcy(resolution=CELLS - 1, every=1, factors=factors)
    keys = jax.random.split(jax.random.key(seed), count)
    octaves = jnp.asarray(2.0 ** np.arange(factors))
    draw = lambda key: generator.permeability(octaves * jax.random.uniform(key, (factors,), float, 1.0, 1.5), *points)
    points = generator.grid.points()
    x = np.asarray(jax.jit(jax.vmap(draw))(keys))[:, None]

    def solve(a: Any, tolerance: float) -> Any:
        nodal = jnp.pad(a[0], 1, mode="edge")
        u = pdes.solve_diffusion(nodal, jnp.ones_like(nodal), tolerance=tolerance, limit=3000)
        return u[None, 1:-1, 1:-1]

    return _solved(uq.Diffusion(generator.grid), x, solve)


def _solved(problem: Any, x: np.ndarray, solve: Callable[[Any, float], Any]) -> Medium:
    return Medium(problem, x, in_parts(jax.jit(jax.vmap(lambda a: solve(a, 1e-12))), x), solve)


def in_parts(function: Callable[..., Any], *inputs: np.ndarray, size: int = 64) -> Any:
    """The outputs of a function of batches, in batches of one size, the last one filled up."""
    count, found = len(inputs[0]), []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        found.append(jax.tree.map(np.asarray, function(*(one[rows] for one in inputs))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)


class LogInput(eqx.Module):
    """A network of the logarithm of the permeability."""

    operator: operators.AbstractOperator

    def __call__(self, x: Any) -> Any:
        return self.operator(jnp.log(x))


def network(name: str, known: Medium, seed: int) -> LogInput:
    """An untrained network with the statistics of the training samples."""
    inner = ARCHITECTURES[name](1, 1, grid=known.grid, key=jax.random.key(seed))
    x, y = np.log(known.x).astype(np.float32), known.y.astype(np.float32)
    normalised = operators.Normalised(inner, operators.per_channel(x), operators.per_channel(y))
    return LogInput(normalised)


def _fetch(source: Any, rows: Any) -> Any:
    return jax.tree.map(lambda array: array[rows], source)


@functools.cache
def _step(loss: losses.Loss) -> Callable[..., Any]:
    """One compiled step serves all learning rates and lengths, which are part of the state."""
    return train.make_step(loss, train.clipped_adamw(1.0, steps=1), fetch=_fetch)


def trained(
    model: LogInput, loss: losses.Loss, known: Medium, lr: float, steps: int, stops: tuple[int, ...] = ()
) -> list[LogInput]:
    """The network after `stops` and all steps of AdamW on one cosine of the learning rate."""
    pairs = data.Pairs(known.x.astype(np.float32), known.y.astype(np.float32), grid=known.grid)
    which = functools.partial(data.rows, len(pairs), BATCH, 0)
    batches, step = train.resident(pairs, which), _step(loss)
    state, found = train.init(model, train.clipped_adamw(lr, steps=steps)), []
    for k in range(steps):
        if k in stops:
            found.append(jax.tree.map(lambda leaf: leaf.copy() if eqx.is_array(leaf) else leaf, state.model))
        state, _ = step(state, batches.source, jax.tree.map(lambda array: array[None], batches.item(k)))
    return [*found, state.model]


def predicted(model: LogInput, x: np.ndarray) -> np.ndarray:
    """Predictions of a network in float32."""
    return np.asarray(train.predict(model, x.astype(np.float32)))


def errors(model: LogInput, known: Medium) -> float:
    """Mean relative L2 error of a network."""
    found, truth = (z.reshape(len(known.y), -1) for z in (predicted(model, known.x), known.y))
    return float(np.mean(np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)))


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, in a new random order each round, all in this process."""
    order, seconds = random.Random(0), {name: [] for name in contenders}
    for call in contenders.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name in order.sample(list(contenders), len(contenders)):
            begin = time.perf_counter()
            jax.block_until_ready(contenders[name]())
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> dict[str, float]:
    """Median and quartiles over the rounds of the seconds of one by those of another."""
    quotients = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
    low, median, high = statistics.quantiles(quotients, n=4)
    return {"median": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]}


def write(name: str, settings: dict, results: Any) -> None:
    """Writes a result file and says where it is."""
    path = pathlib.Path(__file__).resolve().parent / "results" / name
    info = {"jax": jax.__version__, "python": platform.python_version(), "device": jax.devices()[0].device_kind}
    content = {"machine": timer.machine(2), "versions": info, "settings": settings, "results": results}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(path)
