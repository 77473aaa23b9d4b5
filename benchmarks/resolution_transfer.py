"""How should an MgNO that was trained at one resolution be applied at twice that resolution?

    python benchmarks/resolution_transfer.py [--data FOLDER] [--seeds 2]

Trains MgNOs of 4 layers and width 24 on Darcy flow at 32x32 (the demo of experiments/darcy.py) with equal numbers of
steps: on their own grid alone, on their own and on half of its points (`Transferred(model, 16x16)`), and one that
belongs to 16x16 on its own grid and on 32x32. Writes their errors on the test samples at 16x16, 32x32 and 64x64,
through `Resampled` and through `Transferred`, to results/resolution_transfer.json.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import tempfile

import jax
import jax.numpy as jnp
import timer

from sciml import experiment, metrics, tasks
from sciml.grid import Grid
from sciml.operators import AbstractOperator, MgNO, Normalised, Resampled, Transferred, per_channel

HERE = pathlib.Path(__file__).resolve().parent
DARCY = experiment.load_file(HERE.parent / "experiments" / "darcy.py")
WIDTH, DEPTH = 24, 4


def transferred(model: Normalised, grid: Grid) -> Normalised:
    own = model.operator
    assert isinstance(own, MgNO)
    return model if grid == own.grid else Normalised(Transferred(own, grid), model.x, model.y)


def error_on(model: Normalised, grid: Grid, x: jax.Array, y: jax.Array) -> jax.Array:
    moved = transferred(model, grid)
    error = lambda p, t: 0.5 * (metrics.relative_l2(p, t) + metrics.relative_h1(p, t, grid=grid))
    return jnp.mean(jax.vmap(lambda x, y: error(moved(x), y))(x, y))


def build(own: Grid, grids: tuple[Grid, ...], levels: int, config, seed: int) -> experiment.Experiment:
    """The demo with an operator of the grid `own` and the mean error over `grids`, which hold each other's points."""
    plain = DARCY.build(config)
    finest = plain.train.grid.shape[0]

    def loss(model, batch, keys):
        x, y = batch
        errors = []
        for grid in grids:
            every = finest // grid.shape[0]
            errors.append(error_on(model, grid, x[..., ::every, ::every], y[..., ::every, ::every]))
        return sum(errors) / len(errors), {}

    def evaluate(model, pairs):
        return tasks.relative_errors(transferred(model, pairs.grid), pairs)

    network = MgNO(1, 1, grid=own, width=WIDTH, depth=DEPTH, levels=levels, key=jax.random.key(seed))
    model = Normalised(network, per_channel(plain.train.x), per_channel(plain.train.y))
    return dataclasses.replace(plain, model=model, loss=loss, evaluate=evaluate, figures=None, seed=seed)


def judged(model: Normalised, own: Grid, tests) -> dict[str, dict[str, dict[str, float]]]:
    found = {}
    for pairs in tests:
        ways: dict[str, AbstractOperator] = {"transferred": transferred(model, pairs.grid)}
        if pairs.grid != own:
            ways["resampled"] = Resampled(model, own, pairs.grid)
        found[str(pairs.grid.shape[0])] = {name: tasks.relative_errors(one, pairs) for name, one in ways.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder for the generated samples")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    config = experiment.with_settings(DARCY.PRESETS["demo"], {"data": options.data})
    tests = [DARCY.build(config).test(n) for n in (16, 32, 64)]
    half, own, _ = (pairs.grid for pairs in tests)
    trainings = {
        "own grid 32": (own, (own,), 5),
        "own grid 32 and 16": (own, (own, half), 5),
        "own grid 16 and 32": (half, (half, own), 4),
    }
    runs: dict[str, list[dict]] = {name: [] for name in trainings}
    for seed in range(options.seeds):
        for name, (grid, grids, levels) in trainings.items():
            with tempfile.TemporaryDirectory() as folder:
                done = experiment.run(build(grid, grids, levels, config, seed), pathlib.Path(folder) / "run")
                model = experiment.load(pathlib.Path(folder) / "run")
            runs[name].append({"seed": seed, "steps": done["steps"], "errors": judged(model, grid, tests)})
            print(name, runs[name][-1], flush=True)
    summary = {
        f"{name}, at {size}, {way}": {
            metric: statistics.mean(one["errors"][size][way][metric] for one in of)
            for metric in ("relative_l2", "relative_h1")
        }
        for name, of in runs.items()
        for size, ways in of[0]["errors"].items()
        for way in ways
    }
    result = {"machine": timer.machine(os.cpu_count() or 1), "summary": summary, "runs": runs}
    timer.write(HERE / "results" / "resolution_transfer.json", result)


if __name__ == "__main__":
    main()
