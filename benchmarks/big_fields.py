"""How much memory does a whole step of training need on large fields, on 8 devices that share them and on one?

    python benchmarks/big_fields.py [--case "fno 512^3" ...]

A step is forward, relative L2 loss, backward and Adam, for one sample, as `train.make_step` compiles it. Nothing is
run, and no field is made: bytes are what XLA plans for each of 8 virtual devices of a CPU, or for one.

XLA's compiler for CPUs, as it is, undoes rematerialisation: it drops the barriers that keep layers from being computed
once and kept, orders operations so that many can run at once, and expands constants for a library of products. Flags
turn off all three, and convolutions have the form that GPUs get.
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
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_disable_hlo_passes=cse_barrier_expander --xla_cpu_enable_concurrency_optimized_scheduler=false "
    "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
)

import jax
import numpy as np
import optax
import timer
import weak_scaling

from sciml import losses, metrics, operators, parallel, train
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
        {"modes": (32,) * 3, "width": 4, "depth": 4, "pointwise": operators.Pointwise(0, 0, 1)},
    ),
    "mgno 256^3": Case(
        operators.MgNO,
        Grid((256,) * 3, boundary=Dirichlet()),
        ((8,), (2, 2, 2)),
        {"width": 12, "depth": 6, "levels": 5},
    ),
}


def planned(case: Case, parts: tuple[int, ...], *, again: bool) -> dict[str, Any]:
    """What the compiler plans for each device; without parts, for one device with the whole field."""
    weak_scaling.plain_convolutions()
    optimiser = optax.adam(1e-3)
    placement = parallel.Layout(data=1, space=parts).on(1, case.grid.shape) if parts else None
    step = train.make_step(LOSS, optimiser, placement=placement)
    state = train.place(train.init(case.made(again=again), optimiser), placement)
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


def numbers(sizes: dict[str, Any]) -> dict[str, Any]:
    """The numbers of sizes, for JSON."""
    inner = lambda value: numbers(vars(value)) if dataclasses.is_dataclass(value) else value
    return {name: inner(value) for name, value in sizes.items() if not callable(value)}


def words(parts: tuple[int, ...]) -> str:
    """The layout of these parts as the command line has it."""
    return f"space={'x'.join(map(str, parts))}" if parts else "one device"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    result = json.loads(given.out.read_text()) if given.out.exists() else {}
    result |= {"jax": jax.__version__, "xla_flags": os.environ["XLA_FLAGS"], "devices": DEVICES}
    for name in given.case:
        case = CASES[name]
        row = result.setdefault("cases", {}).setdefault(name, {})
        row |= {"grid": list(case.grid.shape), "sizes": numbers(case.sizes)}
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
