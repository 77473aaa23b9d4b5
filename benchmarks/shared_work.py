"""What two devices save by sharing Muon's iterations, and a loop by taking its state apart only once.

    python benchmarks/shared_work.py [--case mgno fno]

The training step of the preset `rough` of experiments/darcy.py (patches of 2x2 points on 64x64, batches of 8, Muon), on
random fields. Contenders: as `train.fit` calls it; the same in which each device iterates all matrices; and the same
in which the state is taken apart and put together again at each step, as a plain call of the step does.
"""

import pathlib

import timer
from timer import Case, Contender
from train_step import OURS

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "shared_work.json"


def cases(peer: str) -> dict[str, Case]:
    """One case for each of two models."""
    env = OURS | {"JAX_NUM_CPU_DEVICES": "2"}
    contenders = (
        Contender("sciml", "shared_work:step", env=env),
        Contender("each device all matrices", "shared_work:step", env=env, settings={"alone": True}),
        Contender("state apart at each step", "shared_work:step", env=env, settings={"apart": True}),
    )
    return {name: Case({"model": name, "size": 64, "batch": 8}, contenders) for name in ("mgno", "fno")}


def step(settings: dict) -> dict:
    """A training step of a model on random fields."""
    import dataclasses

    import jax
    import numpy as np
    import optax

    from sciml import data, experiment, tasks, train, zoo
    from sciml.grid import Dirichlet, Grid

    shape, batch = (settings["size"],) * 2, settings["batch"]
    x, y = np.random.default_rng(0).standard_normal((2, batch, 1, *shape), dtype=np.float32)
    known = data.Pairs(x, y, grid=Grid(shape, boundary=Dirichlet()))
    training = experiment.Training(steps=1000, batch=batch)
    architecture = zoo.MODELS[settings["model"]].in_patches(2)
    made = tasks.fields(architecture, tasks.Parts(known, None, known), training)
    if settings.get("alone"):
        shared = made.optimiser
        unshared = optax.GradientTransformation(
            shared.init, lambda updates, state, params: shared.update(updates, state, params)
        )
        made = dataclasses.replace(made, optimiser=unshared)
    state, advance, batches = experiment.prepare(made)
    item = jax.tree.map(lambda leaf: np.asarray(leaf)[None], batches.item(0))
    arrays, form = advance.apart(state)

    def one():
        nonlocal arrays, state
        if settings.get("apart"):
            state, logs = advance(state, batches.source, item)
            jax.block_until_ready((state.step, logs))
        else:
            arrays, logs = advance.advance(form, arrays, batches.source, item, done=0)
            jax.block_until_ready((arrays, logs))

    return {"step": one, "info": {"jax": jax.__version__, "parameters": train.parameters(made.model)}}


def report(name: str, rows: dict) -> None:
    """A line for each contender."""
    for side, row in rows.items():
        if "not_measured" in row:
            print(f"{name}, {side}: not measured: {row['not_measured']}")
        else:
            ratio = f"{row['step']['ratio']:.2f}" if "ratio" in row["step"] else ""
            print(f"{name}, {side:28}{row['step']['seconds'] * 1e3:7.1f} ms {ratio}", flush=True)


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=21)
