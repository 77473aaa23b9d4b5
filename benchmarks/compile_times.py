"""How long does the first training step of each architecture take, which compiles it?

    python benchmarks/compile_times.py [--case unet mgno ...]

The step is that of `tasks.fields`: the forward pass, the mean of the L2 and H1 errors, the backward pass and the
optimiser of the architecture, on 64x64 points in batches of 8, in a process of its own without a compilation cache.
`step` in the file has the seconds of that first call and of later ones.
"""

import pathlib

import timer
from timer import Case, Contender
from train_step import OURS

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "compile_times.json"


def cases(peer: str) -> dict[str, Case]:
    """One case for each model of `zoo.MODELS`."""
    from sciml import zoo

    ours = (Contender("sciml", "compile_times:first_step", env=OURS | {"JAX_ENABLE_COMPILATION_CACHE": "0"}),)
    return {name: Case({"model": name, "size": 64, "batch": 8}, ours) for name in zoo.MODELS}


def first_step(settings: dict) -> dict:
    """A training step of a model on random fields."""
    import jax
    import numpy as np

    from sciml import data, experiment, tasks, train, zoo
    from sciml.grid import Dirichlet, Grid

    shape, batch = (settings["size"],) * 2, settings["batch"]
    x, y = np.random.default_rng(0).standard_normal((2, batch, 1, *shape), dtype=np.float32)
    known = data.Pairs(x, y, grid=Grid(shape, boundary=Dirichlet()))
    training = experiment.Training(steps=100, batch=batch)
    made = tasks.fields(zoo.MODELS[settings["model"]], tasks.Parts(known, None, known), training)
    _, advance, batches = experiment.prepare(made)
    state = [train.init(made.model, made.optimiser)]
    item = jax.tree.map(lambda leaf: np.asarray(leaf)[None], batches.item(0))

    def step():
        state[0], logs = advance(state[0], batches.source, item)
        jax.block_until_ready((state[0].step, logs))

    info = {"jax": jax.__version__, "parameters": train.parameters(made.model)}
    return {"step": step, "info": info}


def report(name: str, rows: dict) -> None:
    """A line for each contender."""
    for side, row in rows.items():
        label = f"{name}, {side}"
        if "not_measured" in row:
            print(f"{label:28}not measured: {row['not_measured']}")
        else:
            step = row["step"]
            print(f"{label:28}{step['first_call_seconds']:7.1f} s, later {step['seconds'] * 1e3:7.1f} ms", flush=True)


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=5)
