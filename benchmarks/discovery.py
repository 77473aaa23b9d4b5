"""How often are the right equations found in data with 2 % of noise, and how close are their coefficients?

    JAX_ENABLE_X64=1 python benchmarks/discovery.py --seeds 20

Lotka-Volterra (401 times on [0, 20]) and Lorenz (2001 times on [0, 20]), one trajectory each, with independent normal
noise of 2 % of the root mean square of each component. `nde.discover` gets all monomials up to the degree of the case.
A success has exactly the right terms, and every coefficient within 2 % of the true one. Beside it, the regression that
it begins with, sequentially thresholded least squares on the weak form. Writes results/discovery.json.
"""

import argparse
import os
import pathlib
import time

import numpy as np
import timer
from scipy.integrate import solve_ivp

HERE = pathlib.Path(__file__).resolve().parent
NOISE, WITHIN = 0.02, 0.02


def problems() -> dict:
    """System, initial state, end, number of times, segments; terms in the order of the library."""
    from sciml import symbolic

    x, y, z = symbolic.states(3)
    u, v = symbolic.states(2)
    lotka_volterra = (1.5 * u + -1.0 * (u * v), -3.0 * v + 1.0 * (u * v))
    lorenz = (-10.0 * x + 10.0 * y, 28.0 * x + -1.0 * y + -1.0 * (x * z), (-8 / 3) * z + 1.0 * (x * y))
    return {
        "lotka_volterra": (lotka_volterra, (2.0, 1.0), 20.0, 401, 12),
        "lorenz": (lorenz, (-8.0, 7.0, 27.0), 20.0, 2001, 40),
    }


def compared(found, true) -> dict:
    """Whether the terms are right, and the largest relative error of a coefficient if they are."""
    from sciml import symbolic

    right = symbolic.skeleton(found) == symbolic.skeleton(true)
    errors = np.abs(symbolic.parameters(found) / symbolic.parameters(true) - 1) if right else [np.inf]
    return {"terms": right, "coefficient_error": float(np.max(errors)) if right else None}


def run(name: str, degree: int, seeds: int) -> dict:
    """Success rates of one case."""
    from sciml import nde, symbolic

    system, start, end, number, segments = problems()[name]
    ts = np.linspace(0, end, number)
    names = [variable.name for variable in symbolic.states(len(start))]
    values = lambda t, u: [symbolic.evaluate(tree, dict(zip(names, u, strict=True)), np) for tree in system]
    exact = solve_ivp(values, (0, end), start, t_eval=ts, rtol=1e-12, atol=1e-12).y.T
    library = nde.polynomials(symbolic.states(len(start)), degree)
    rows = []
    for seed in range(seeds):
        noise = np.random.default_rng(seed).normal(size=exact.shape)
        ys = exact + NOISE * np.sqrt(np.mean(exact**2, axis=0)) * noise
        begun = time.perf_counter()
        found = nde.discover(ts, ys, library, segments=segments)
        seconds = time.perf_counter() - begun
        row = {"seed": seed, "seconds": round(seconds, 2), "residual": found.residual, **compared(found.system, system)}
        row["regression"] = compared(found.regression, system)
        row["system"] = symbolic.system_to_text(found.system)
        rows.append(row)
        print(name, degree, seed, row["terms"], row["coefficient_error"], f"{seconds:.1f} s", flush=True)
    good = lambda one: one["terms"] and one["coefficient_error"] < WITHIN
    known = [row["coefficient_error"] for row in rows if row["terms"]]
    return {
        "terms_in_library": len(library),
        "success_rate": float(np.mean([good(row) for row in rows])),
        "right_terms_rate": float(np.mean([row["terms"] for row in rows])),
        "regression_success_rate": float(np.mean([good(row["regression"]) for row in rows])),
        "worst_coefficient_error": max(known, default=None),
        "median_seconds": float(np.median([row["seconds"] for row in rows])),
        "first_seconds": rows[0]["seconds"],
        "runs": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cases", nargs="+", default=["lotka_volterra:2", "lotka_volterra:3", "lorenz:2"])
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "discovery.json")
    arguments = parser.parse_args()
    cases = {}
    for case in arguments.cases:
        name, degree = case.split(":")
        cases[f"{name}, degree {degree}"] = run(name, int(degree), arguments.seeds)
        result = {"machine": timer.machine(os.cpu_count() or 1), "noise": NOISE, "within": WITHIN, "cases": cases}
        timer.write(arguments.out, result)
    for name, case in cases.items():
        print(name, {key: value for key, value in case.items() if key != "runs"})


if __name__ == "__main__":
    main()
