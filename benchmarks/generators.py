"""Are samples drawn faster by a device for each core of a CPU than by one device with all cores?

    python benchmarks/generators.py [--case darcy burgers ...]

32 samples of each generator of `sciml generate`, drawn at once, on coarse grids and over short times; compiled before
and not written. Contenders: one device, and two that share the samples, as the command line has them on two cores.
Calls are short and many, so that the least times are those of a machine without other work.
"""

import pathlib

import timer
from timer import Case, Contender

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "generators.json"
OURS = timer.xla_flags()
SAMPLES = 32
PROBLEMS = {
    "darcy": {"resolution": 48},
    "multiscale_darcy": {"resolution": 31, "every": 1},
    "helmholtz": {"elements": 50},
    "advection": {"dimensions": 2, "resolution": 64, "frames": 5},
    "heat": {"dimensions": 2, "resolution": 64, "frames": 5},
    "wave": {"dimensions": 2, "resolution": 64, "frames": 5},
    "burgers": {"resolution": 256, "time": 0.2},
    "kdv": {"resolution": 256, "time": 0.1},
    "kuramoto_sivashinsky": {"time": 10.0},
    "allen_cahn": {"frames": 2},
    "navier_stokes": {"resolution": 64, "frames": 2, "interval": 0.02},
    "shallow_water": {"resolution": 32, "frames": 2},
    "euler": {"resolution": 32, "frames": 1, "interval": 0.01},
    "fitzhugh_nagumo": {"resolution": 32, "frames": 2},
    "fisher_kpp": {"dimensions": 2, "resolution": 64, "frames": 2},
    "gray_scott": {"resolution": 32, "frames": 1, "interval": 20.0},
    "swift_hohenberg": {"resolution": 64, "frames": 1, "interval": 0.2},
    "diffusion_sorption": {"resolution": 64, "frames": 2},
}


def cases(peer: str) -> dict[str, Case]:
    """One case for each generator."""
    contenders = tuple(
        Contender(name, "generators:samples", env=OURS | {"JAX_NUM_CPU_DEVICES": str(devices)})
        for name, devices in (("one device", 1), ("two devices", 2))
    )
    return {
        name: Case({"problem": name, "options": options, "n": SAMPLES}, contenders)
        for name, options in PROBLEMS.items()
    }


def samples(settings: dict) -> dict:
    """Draws the next samples."""
    import math
    import time

    import jax
    import numpy as np

    from sciml import data
    from sciml.data import _generated

    problem = data.GENERATORS[settings["problem"]](**settings["options"])
    values = math.prod(problem.grid.shape) * getattr(problem, "frames", 1) * len(problem.inputs)
    pieces = _generated._pieces(problem, 2**37 // values, 0, 32)  # as many as may be asked for
    begun = time.perf_counter()
    at_once = len(next(pieces)[0])
    compiled = time.perf_counter() - begun

    def draw() -> None:
        for _ in range(settings["n"] // at_once):
            next(pieces)

    shape = {"grid": list(problem.grid.shape), "channels": len(problem.outputs)}
    info = {
        "jax": jax.__version__,
        "devices": jax.device_count(),
        "at_once": at_once,
        "compile_seconds": compiled,
        **shape,
    }
    outputs = data.draw(problem, n=4, seed=1).y
    return {"draw": draw, "outputs": np.asarray(outputs), "info": info}


def report(name: str, rows: dict) -> None:
    """A line for each contender."""
    for side, row in rows.items():
        if "not_measured" in row:
            print(f"{name}, {side}: not measured: {row['not_measured']}", flush=True)
            continue
        seconds, least = row["draw"]["seconds"] * 1e3, row["draw"]["least_seconds"] * 1e3
        low, high = row["draw"].get("ratio_quartiles", (float("nan"),) * 2)
        ratio = f"{row['draw'].get('ratio', float('nan')):.2f} ({low:.2f}-{high:.2f})"
        of_least = row["draw"].get("least_ratio", float("nan"))
        print(f"{name:21}{side:13}{seconds:8.1f} ms {ratio:>17}, least {least:7.1f} ms {of_least:.2f}", flush=True)


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=101)
