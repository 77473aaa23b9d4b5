"""Does a certificate on larger grids profit from the learned cycle as its preconditioner?

    python benchmarks/preconditioner_training.py    # the weights: 64x64 media alone
    python benchmarks/certified_grids.py

`uq.certify` from zero for -div(a grad u) = 1 on the unit square, media of two materials as in preconditioners.py, at
relative L2 errors of 1e-3 and 1e-6: steps and processor seconds of one core with the fast solver (sine transforms) and
with `SymmetricCycle` as the preconditioner, setup included. Means of the steps and medians of the seconds over the
systems; `compile` is the first call. Writes results/certified_grids.json after each case.
"""

import argparse
import os
import pathlib
import statistics
import time

import equinox as eqx
import jax
import preconditioner_training as training
import timer

from sciml import uq
from sciml.grid import Dirichlet, Grid
from sciml.preconditioners import SymmetricCycle

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "certified_grids.json"
TOLERANCES, SEED = (1e-3, 1e-6), 12345


@eqx.filter_jit
def certified(problem, a, preconditioner, tolerance):
    return uq.certify(problem, a, 0 * a, tolerance, preconditioner=preconditioner)


def timed(*arguments) -> tuple[float, uq.Certificate]:
    begin = time.process_time()
    found = jax.block_until_ready(certified(*arguments))
    return time.process_time() - begin, found


def case(size: int, contrast: float, systems: int, tolerance: float, preconditioners: dict) -> dict:
    """One row for each preconditioner."""
    problem = uq.Diffusion(Grid((size + 2, size + 2), 1.0, Dirichlet(0.0)))
    keys = [jax.random.fold_in(jax.random.key(SEED), i) for i in range(systems)]
    media = [training.medium(key, size, contrast, alpha=2.0, tau=20.0)[None] for key in keys]
    rows = {}
    for name, one in preconditioners.items():
        compiled, _ = timed(problem, media[0], one, tolerance)
        found = [timed(problem, a, one, tolerance) for a in media]
        bounds = [float(certificate.bound) for _, certificate in found]
        rows[name] = {
            "steps": statistics.mean(int(certificate.iterations) for _, certificate in found),
            "seconds": statistics.median(seconds for seconds, _ in found),
            "largest_bound": max(bounds),  # infinite where the tolerance was not met
            "compile": compiled,
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--contrasts", type=float, nargs="+", default=[4, 1e2, 1e4])
    parser.add_argument("--systems", type=int, default=5)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before the first thread of JAX
    trained = eqx.tree_deserialise_leaves(training.FOLDER / "weights.eqx", SymmetricCycle(key=jax.random.key(0)))
    preconditioners = {"fast solver": None, "learned cycle": trained}
    result: dict = {"machine": timer.machine(1), "systems": options.systems, "cases": {}}
    for size in options.sizes:
        for contrast in options.contrasts:
            for tolerance in TOLERANCES:
                rows = case(size, contrast, options.systems, tolerance, preconditioners)
                result["cases"].setdefault(f"{size}", {}).setdefault(f"{contrast:g}", {})[f"{tolerance:g}"] = rows
                print(size, contrast, tolerance, rows, flush=True)
                timer.write(RESULTS, result)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
