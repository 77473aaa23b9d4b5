"""Iterations and seconds of preconditioned conjugate gradients on rough media of two materials.

    python benchmarks/preconditioner_training.py    # the weights: 64x64 media alone
    python benchmarks/preconditioners.py            # with the extra `peers`

-div(a grad u) = f on the unit square with u = 0 on its boundary, fluxes of `pdes.solve_diffusion`, f of independent
normal numbers. The media are the signs of Gaussian fields (alpha 2, tau 20), none of them in the training; 20 systems
of each size and contrast. All contenders solve the same systems from zero until the recursive residual is 1e-8 of f in
the Euclidean norm, in float64, those of a process in random order; the residual is computed afresh, and a system whose
true residual is above 2e-8 counts as not solved.

Seconds are those of the processor, on one core, so that other programs of the machine hardly count: `setup` to make the
preconditioner of a medium, `solve` for the iterations, medians over the systems; `compile` is the first call of a size,
with the compilation of JAX's programs. Jacobi, incomplete LU (`scipy.sparse.linalg.spilu`) and pyamg's multigrid run in
a loop of NumPy over SciPy's sparse products, the others in compiled loops of JAX. Writes results/preconditioners.json
after each contrast, and goes on with what is missing there: `--contenders` names a few of them, so that the slow ones
can be measured by a process of their own; incomplete LU alone takes over an hour. Delete the file to measure all anew.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import preconditioner_training as training
import scipy.sparse
import scipy.sparse.linalg
import timer

from sciml.pdes import _elliptic, _nine_point
from sciml.preconditioners import SymmetricCycle, conjugate_gradients, flux_conductances

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "preconditioners.json"
TOLERANCE, LIMIT, SEED = 1e-8, 5000, 12345
NAMES = (
    "learned cycle",
    "same cycle, untrained",
    "library multigrid",
    "sine transforms",
    "Jacobi",
    "incomplete LU",
    "pyamg smoothed aggregation",
    "pyamg Ruge-Stueben",
)


def sparse(a: np.ndarray) -> scipy.sparse.csr_matrix:
    """The matrix of `flux_conductances(a)`."""
    c = jax.tree.map(np.asarray, flux_conductances(jnp.asarray(a)))
    diagonal = np.asarray(c.diagonal()).ravel()
    x, y = c.x.ravel()[: -c.shape[1]], c.y.ravel()[:-1]
    return scipy.sparse.diags([diagonal, -x, -x, -y, -y], [0, c.shape[1], -c.shape[1], 1, -1], format="csr")


def in_numpy(matrix: Any, b: np.ndarray, precondition: Callable) -> tuple[np.ndarray, int]:
    """The same iterations as `conjugate_gradients`."""
    u, r, z = np.zeros_like(b), b, precondition(b)
    p, rho, bound = z, b @ z, TOLERANCE * np.linalg.norm(b)
    for k in range(LIMIT):
        if np.linalg.norm(r) <= bound:
            return u, k
        q = matrix @ p
        length = rho / (p @ q)
        u, r = u + length * p, r - length * q
        z = precondition(r)
        new = r @ z
        p, rho = z + new / rho * p, new
    return u, LIMIT


class Sparse:
    """A contender from the matrix to its preconditioner, with SciPy's products."""

    def __init__(self, make: Callable[[Any], Callable]):
        self.make = make

    def __call__(self, a, b):
        matrix = sparse(a)
        begin = time.process_time()
        precondition = self.make(matrix)
        middle = time.process_time()
        u, k = in_numpy(matrix, b.ravel(), precondition)
        end = time.process_time()
        residual = np.linalg.norm(b.ravel() - matrix @ u) / np.linalg.norm(b)
        return {"setup": middle - begin, "solve": end - middle, "iterations": k, "residual": float(residual)}


@eqx.filter_jit
def prepared(make, model, a):
    c = flux_conductances(a)
    return make(model, c), c


@eqx.filter_jit
def solved(c, b, precondition):
    return conjugate_gradients(c, b, precondition, TOLERANCE, LIMIT)


class Compiled:
    """A contender in JAX: `make(model, conductances)` is a pytree that is called with a residual."""

    def __init__(self, make: Callable, model: Any = None):
        self.make, self.model = make, model

    def __call__(self, a, b):
        a, b = jnp.asarray(a), jnp.asarray(b)
        begin = time.process_time()
        precondition, c = jax.block_until_ready(prepared(self.make, self.model, a))
        middle = time.process_time()
        _, k, residual = jax.block_until_ready(solved(c, b, precondition))
        end = time.process_time()
        return {"setup": middle - begin, "solve": end - middle, "iterations": int(k), "residual": float(residual)}


def _jacobi(matrix):
    inverse = 1 / matrix.diagonal()
    return lambda r: inverse * r


def _ilu(matrix):
    """Without row exchanges, which would make it unsymmetric."""
    options = {"SymmetricMode": True}
    ilu = scipy.sparse.linalg.spilu(
        matrix.tocsc(), 1e-3, 10, diag_pivot_thresh=0.0, permc_spec="MMD_AT_PLUS_A", options=options
    )
    return ilu.solve


def _pyamg(name: str) -> Callable:
    def make(matrix):
        import pyamg

        cycle = getattr(pyamg, name)(matrix).aspreconditioner()
        return lambda r: cycle @ r

    return make


class Multigrid(eqx.Module):
    """The cycle of `pdes.MultiscaleDarcy`."""

    levels: list

    def __call__(self, r):
        return _nine_point.cycle(self.levels, r)


class Sines(eqx.Module):
    """The exact inverse for a constant coefficient, as in `pdes.solve_diffusion`."""

    def __call__(self, r):
        return _elliptic._inverse_laplacian(r)


def _cycle(model, c):
    return model(c)


def _sines(model, c):
    return Sines()


def _multigrid(model, c):
    none, x, y = jnp.zeros_like(c.x), jnp.pad(c.x[:-1], ((1, 0), (0, 0))), jnp.pad(c.y[:, :-1], ((0, 0), (1, 0)))
    rows = ((none, -x, none), (-y, c.diagonal(), -c.y), (none, -c.x, none))
    return Multigrid(_nine_point.hierarchy(jnp.stack([jnp.stack(row) for row in rows])))


def contenders(weights: pathlib.Path) -> dict[str, Callable]:
    """All of them by name."""
    untrained = SymmetricCycle(key=jax.random.key(0))
    trained = eqx.tree_deserialise_leaves(weights, untrained)
    found: dict[str, Callable] = {
        "learned cycle": Compiled(_cycle, trained),
        "same cycle, untrained": Compiled(_cycle, untrained),
        "library multigrid": Compiled(_multigrid),
        "sine transforms": Compiled(_sines),
        "Jacobi": Sparse(_jacobi),
        "incomplete LU": Sparse(_ilu),
    }
    try:
        import pyamg  # noqa: F401
    except ModuleNotFoundError:
        return found
    return found | {
        "pyamg smoothed aggregation": Sparse(_pyamg("smoothed_aggregation_solver")),
        "pyamg Ruge-Stueben": Sparse(_pyamg("ruge_stuben_solver")),
    }


def summary(rows: list[dict]) -> dict:
    """Means of iterations and medians of seconds over the systems."""
    return {
        "systems": len(rows),
        "solved": sum(row["residual"] <= 2 * TOLERANCE for row in rows),
        "iterations": statistics.mean(row["iterations"] for row in rows),
        "most_iterations": max(row["iterations"] for row in rows),
        "setup": statistics.median(row["setup"] for row in rows),
        "solve": statistics.median(row["solve"] for row in rows),
        "total": statistics.median(row["setup"] + row["solve"] for row in rows),
        "largest_residual": max(row["residual"] for row in rows),
    }


def case(found: dict[str, Callable], size: int, contrast: float, systems: int) -> dict:
    """Rows of all contenders."""
    rows: dict[str, list[dict]] = {name: [] for name in found}
    names, order = list(found), random.Random(size)
    for i in range(systems):
        key = jax.random.fold_in(jax.random.key(SEED), i)
        a = np.asarray(training.medium(key, size, contrast, alpha=2.0, tau=20.0))
        b = np.random.default_rng(i).normal(size=(size, size))
        order.shuffle(names)
        for name in names:
            rows[name].append(found[name](a, b))
    return {name: summary(one) for name, one in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--contrasts", type=float, nargs="+", default=[4, 1e2, 1e4, 1e6])
    parser.add_argument("--systems", type=int, default=20)
    parser.add_argument("--contenders", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--weights", type=pathlib.Path, default=training.FOLDER / "weights.eqx")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # read when NumPy is imported
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before the first thread of JAX
    result = {"machine": timer.machine(1), "tolerance": TOLERANCE, "cases": {}}
    if options.out.exists():
        result["cases"] = json.loads(options.out.read_text())["cases"]
    training_report = options.weights.parent / "training.json"
    if training_report.exists():
        report = json.loads(training_report.read_text())
        losses = report.pop("losses")
        first, last = statistics.mean(losses[:10]), statistics.mean(losses[-10:])
        result["training"] = report | {"first_loss": first, "last_loss": last}
    for size in options.sizes:
        measured(result, size, options)


def measured(result: dict, size: int, options: argparse.Namespace) -> None:
    """Adds what the result lacks of one size, and writes it after each contrast."""
    rows = result["cases"].setdefault(f"{size}", {"compile": {}})
    wanted = {
        f"{contrast:g}": [name for name in options.contenders if name not in rows.get(f"{contrast:g}", {})]
        for contrast in options.contrasts
    }
    found = contenders(options.weights)
    found = {name: one for name, one in found.items() if any(name in names for names in wanted.values())}
    for name, one in found.items():
        begin = time.process_time()
        one(np.ones((size + 2, size + 2)), np.ones((size, size)))
        rows["compile"][name] = time.process_time() - begin
    for contrast in options.contrasts:
        missing = {name: found[name] for name in wanted[f"{contrast:g}"] if name in found}
        new = case(missing, size, contrast, options.systems) if missing else {}
        rows[f"{contrast:g}"] = rows.get(f"{contrast:g}", {}) | new
        for name, row in new.items():
            print(
                f"{size:5} {contrast:8g}  {name:28}{row['iterations']:8.1f} {row['solved']}/{row['systems']}"
                f"{row['setup']:10.4f}{row['solve']:10.4f}",
                flush=True,
            )
        timer.write(options.out, result)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
