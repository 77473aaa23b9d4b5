"""How long does the first training step of each architecture take, and what does the compiler's level change?

    python benchmarks/compile_times.py [--case unet mgno ...]

The step is that of `tasks.fields`: the forward pass, the mean of the L2 and H1 errors, the backward pass and the
optimiser of the architecture, on 64x64 points in batches of 8 on two devices, in a process of its own without a
compilation cache. A neural ODE and a neural SDE are there too, as benchmarks/solvers.py trains them. `step` in the file
has the seconds of the first call, which compiles, and of later ones: with the flags of the command line, and with XLA's
own level of optimisation in LLVM. Ratios are those of later steps.
"""

import pathlib

import solvers
import timer
from timer import Case, Contender

from sciml.cli import _process

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "compile_times.json"


def cases(peer: str) -> dict[str, Case]:
    """One case for each model of `zoo.MODELS`, and those of the other pillars."""
    from sciml import zoo

    ours = timer.xla_flags() | {"JAX_ENABLE_COMPILATION_CACHE": "0", "JAX_NUM_CPU_DEVICES": "2", "EQX_ON_ERROR": "nan"}
    full = ours | {"XLA_FLAGS": ours["XLA_FLAGS"].replace(_process.COMPILER, "")}

    def case(factory: str, settings: dict) -> Case:
        return Case(settings, (Contender("sciml", factory, env=ours), Contender("XLA's level", factory, env=full)))

    table = {name: case("compile_times:first_step", {"model": name, "size": 64, "batch": 8}) for name in zoo.MODELS}
    equations = solvers.cases(peer)
    table["neural_ode"] = case("solvers:jointly", equations["network 1024"].settings)
    table["neural_sde"] = case("solvers:together", equations["sde 256"].settings)
    return table


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
    first, advance, batches = experiment.prepare(made)
    state = [first]
    item = jax.tree.map(lambda leaf: np.asarray(leaf)[None], batches.item(0))

    def step():
        state[0], logs = advance(state[0], batches.source, item)
        jax.block_until_ready((state[0].step, logs))

    info = {"jax": jax.__version__, "parameters": train.parameters(made.model)}
    return {"step": step, "info": info}


def report(name: str, rows: dict) -> None:
    """A line for each contender."""
    for side, row in rows.items():
        step = row["step"]
        print(
            f"{name}, {side:14}{step['first_call_seconds']:7.1f} s, later {step['seconds'] * 1e3:7.1f} ms "
            f"({step['ratio']:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=5)
