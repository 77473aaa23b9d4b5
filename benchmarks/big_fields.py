"""How much memory does a whole step of training need on large fields, on 8 devices that share them and on one?

    python benchmarks/big_fields.py [--case "fno 512^3" ...]
    python benchmarks/big_fields.py --run --case "mgno 256^3"

A step is forward, relative L2 loss, backward and Adam, for one sample, as `train.make_step` compiles it. Without
`--run` nothing is run, and no field is made: bytes are what XLA plans for each of 8 virtual devices of a CPU, or for
one. Programs are compiled with XLA's scheduler for little memory; its default for CPUs, which orders operations so that
many can run at once, would hide what rematerialisation saves.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # before JAX starts
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_enable_concurrency_optimized_scheduler=false")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timer

from sciml import cut, losses, metrics, operators, parallel, train
from sciml.grid import Dirichlet, Grid, Periodic

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "big_fields.json"
DEVICES = 8
LOSS = losses.supervised(metrics.relative_l2)


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator on a grid.

    Attributes:
        kind: The operator.
        grid: Where its fields are.
        layouts: Parts of each axis of space, of which all are tried.
        sizes: Its sizes.
    """

    kind: Callable[..., operators.AbstractOperator]
    grid: Grid
    layouts: tuple[tuple[int, ...], ...]
    sizes: dict[str, Any]

    def made(self, *, again: bool) -> operators.AbstractOperator:
        """The operator, with layers that are rematerialised or not."""
        operator = self.kind(1, 1, grid=self.grid, key=jax.random.key(0), **self.sizes)
        return operators.rematerialised(operator) if again else operator


CASES = {
    "fno 512^3": Case(
        operators.FNO,
        Grid((512,) * 3, boundary=Periodic()),
        ((8,), (2, 2, 2)),
        {"modes": (32,) * 3, "width": 4, "depth": 4},
    ),
    "mgno 256^3": Case(
        operators.MgNO,
        Grid((256,) * 3, boundary=Dirichlet()),
        ((8,), (2, 2, 2)),
        {"width": 16, "depth": 4, "levels": 5},
    ),
}


def prepared(case: Case, parts: tuple[int, ...], *, again: bool) -> tuple[Any, Any, Any]:
    """The step, its state, and the placement, None for one device."""
    optimiser = optax.adam(1e-3)
    placement = parallel.Layout(data=1, space=parts).on(1, case.grid.shape) if parts else None
    step = train.make_step(LOSS, optimiser, placement=placement)
    return step, train.place(train.init(case.made(again=again), optimiser), placement), placement


def planned(case: Case, parts: tuple[int, ...], *, again: bool) -> dict[str, Any]:
    """What the compiler plans for each device; without parts, for one device with the whole field."""
    step, state, _ = prepared(case, parts, again=again)
    items = tuple(np.zeros((1, 1, 1, *case.grid.shape), np.float32) for _ in "xy")  # memory that is never touched
    begun = time.perf_counter()
    program = step.lower(state, None, items)[0].compile().compiled
    plan = program.memory_analysis()
    sizes = {name: getattr(plan, f"{name}_size_in_bytes") for name in ("argument", "output", "alias", "temp")}
    total = sizes["argument"] + sizes["output"] - sizes["alias"] + sizes["temp"]
    found = {"parameters": train.parameters(state.model), "bytes": {**sizes, "total": total}}
    if parts:
        exchanges = parallel.exchanges(program.as_text(), DEVICES)
        found |= {"sent_bytes": parallel.sent(exchanges), "operations": len(exchanges)}
    return found | {"compile_seconds": round(time.perf_counter() - begun, 1)}


def timed(case: Case, parts: tuple[int, ...], *, again: bool, steps: int = 2) -> dict[str, Any]:
    """Seconds of steps that are run, and the loss of each. Each device makes its own part of the fields."""
    step, state, placement = prepared(case, parts, again=again)

    def made(k: int) -> jax.Array:
        shape = (1, 1, 1, *case.grid.shape)
        spec = placement.of_fields(jax.ShapeDtypeStruct(shape, jnp.float32), None, cut.BATCH)

        def part(index: Any) -> np.ndarray:
            at = [
                np.linspace(0, 2 * np.pi, n, endpoint=False)[i] for n, i in zip(case.grid.shape, index[3:], strict=True)
            ]
            waves = [np.sin((k + 1) * one).astype(np.float32) for one in at]
            return (waves[0][:, None, None] * waves[1][:, None] * waves[2])[None, None, None]

        return jax.make_array_from_callback(shape, jax.sharding.NamedSharding(placement.mesh, spec), part)

    items, seconds, values = (made(0), made(1)), [], []
    for _ in range(steps):
        begun = time.perf_counter()
        state, logs = step(state, None, items)
        values.append(float(logs["loss"][0]))
        seconds.append(round(time.perf_counter() - begun, 1))
    return {"seconds": seconds, "losses": values}


def words(parts: tuple[int, ...]) -> str:
    """The layout of these parts as the command line has it."""
    return f"space={'x'.join(map(str, parts))}" if parts else "one device"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--run", action="store_true", help="run steps in place of planning them, rematerialised")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    result = json.loads(given.out.read_text()) if given.out.exists() else {}
    result |= {"jax": jax.__version__, "xla_flags": os.environ["XLA_FLAGS"], "devices": DEVICES}
    for name in given.case:
        case = CASES[name]
        row = result.setdefault("cases", {}).setdefault(name, {})
        row |= {"grid": list(case.grid.shape), "sizes": case.sizes}
        if given.run:
            row["run"] = {"layout": words(case.layouts[0]), **timed(case, case.layouts[0], again=True)}
            print(f"{name}: {row['run']}", flush=True)
            timer.write(given.out, result)
            continue
        row["planned"] = []
        for parts in (*case.layouts, ()):
            for again in (True, False):
                one = {"layout": words(parts), "rematerialised": again, **planned(case, parts, again=again)}
                row["planned"].append(one)
                print(
                    f"{name}, {words(parts)}, rematerialised {again}: {one['bytes']['total'] / 2**30:.2f} GiB",
                    flush=True,
                )
                timer.write(given.out, result)


if __name__ == "__main__":
    main()
