"""Do the bounds of sciml.uq hold for predictions of networks, how close are they, and what do they cost?

    python benchmarks/bounds.py

1,000 samples of Darcy flow at 32 x 32 in three media (contrasts 4, 100 and about 10,000), predictions of FNO and MgNO
that are trained, half-trained and random. The true errors are those against the library's solver at 1e-12. The
`effectivity` is the upper bound by the true error, `lower` the lower bound by it; 5 %, 50 % and 95 % quantiles.
`krylov_k`: after k steps of conjugate gradients. Costs are ratios of seconds in one process with contenders in random
order, for batches of 64 samples; the solver is at 1e-12 and at 1e-6.
"""

import argparse
import functools
from collections.abc import Callable

import darcy_media as media
import jax
import jax.numpy as jnp
import numpy as np
import timer

from sciml import losses, uq
from sciml.metrics import relative_l2

SAMPLES = {"smooth": 334, "rough": 333, "multiscale": 333}
NORMS = ("energy", "l2", "relative_l2")


def true_errors(problem, x, truth, v):
    """Errors in `NORMS`, the energy that of the unknowns."""
    system = problem.system(x)
    energy = system.energy(problem.unknowns(truth) - problem.unknowns(v))
    l2, size = problem.norm(truth - v), problem.norm(truth)
    return {"energy": energy, "l2": l2, "relative_l2": l2 / size}


def judge(problem, steps: int) -> Callable:
    """A compiled function from permeabilities, solutions and predictions to bounds and true errors."""
    krylov = uq.Krylov(steps) if steps else None

    def both(x, truth, v):
        found = uq.bounds(problem, x, v, krylov=krylov)
        return {norm: getattr(found, norm) for norm in NORMS}, true_errors(problem, x, truth, v)

    return jax.jit(jax.vmap(both))


def judged(both: Callable, known: media.Medium, predictions: np.ndarray) -> dict:
    """Counts and quotients of the bounds of many predictions."""
    bounds, true = media.in_parts(both, known.x, known.y, np.float64(predictions))
    row: dict = {"samples": len(predictions), "relative_l2": quantiles(true["relative_l2"])}
    for norm in NORMS:
        inside = (bounds[norm].lower <= true[norm]) & (true[norm] <= bounds[norm].upper)
        row[norm + "_inside"] = int(inside.sum())
        row[norm + "_effectivity"] = quantiles(bounds[norm].upper / true[norm])
        row[norm + "_lower"] = quantiles(bounds[norm].lower / true[norm])
    return row


def quantiles(values: np.ndarray) -> list[float | None]:
    """5 %, 50 % and 95 %; None where it is infinite."""
    found = np.quantile(values, [0.05, 0.5, 0.95], method="nearest")
    return [float(f"{one:.4g}") if np.isfinite(one) else None for one in found]


def costs(known: media.Medium, model, rounds: int) -> dict:
    """Seconds of a bound by those of a forward pass and of a solve, for one batch."""
    x, problem = jnp.asarray(known.x[:64]), known.problem
    single = np.float32(x)
    with jax.enable_x64(False):
        forward = jax.jit(jax.vmap(model))
        v = jnp.asarray(np.asarray(forward(single)), float)
        jax.block_until_ready(forward(single))
    bound = lambda krylov: jax.jit(jax.vmap(lambda x, v: uq.bounds(problem, x, v, krylov=krylov).relative_l2.upper))
    plain, sharp = bound(None), bound(uq.Krylov(10))
    solve = {t: jax.jit(jax.vmap(functools.partial(lambda a, t: known.solve(a, t), t=t))) for t in (1e-12, 1e-6)}
    v = np.float64(v)

    def in_float32():
        with jax.enable_x64(False):
            return forward(single)

    seconds = media.interleaved(
        {
            "forward": in_float32,
            "bound": lambda: plain(x, v),
            "krylov_10": lambda: sharp(x, v),
            "solve_1e-12": lambda: solve[1e-12](x),
            "solve_1e-06": lambda: solve[1e-6](x),
        },
        rounds,
    )
    return {
        f"{one} / {other}": media.ratio(seconds, one, other)
        for one in ("bound", "krylov_10")
        for other in ("forward", "solve_1e-12", "solve_1e-06")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=media.STEPS)
    options = parser.parse_args()
    results: dict = {}
    for name, count in SAMPLES.items():
        known, test = media.medium(name, media.TRAINING + count, seed=0).split(media.TRAINING)
        judges = {f"krylov_{k}" if k else "plain": judge(test.problem, k) for k in (0, 3, 10)}
        for architecture, lr in media.RATES.items():
            fresh = media.network(architecture, known, seed=0)
            loss = losses.supervised(relative_l2)
            half, full = media.trained(fresh, loss, known, lr, options.steps, (options.steps // 10,))
            for state, model in {"random": fresh, "half-trained": half, "trained": full}.items():
                predictions = media.predicted(model, test.x)
                with jax.enable_x64(True):
                    rows = {label: judged(both, test, predictions) for label, both in judges.items()}
                results.setdefault(name, {}).setdefault(architecture, {"states": {}})["states"][state] = rows
                print(name, architecture, state, rows["plain"], flush=True)
            with jax.enable_x64(True):
                results[name][architecture]["cost"] = costs(test, full, options.rounds)
            print(results[name][architecture]["cost"], flush=True)
    settings = {"cells": media.CELLS, "training": media.TRAINING, "batch": media.BATCH, "lr": media.RATES}
    rows = [
        row
        for one in results.values()
        for two in one.values()
        for three in two["states"].values()
        for row in three.values()
    ]
    inside = {norm: sum(row[norm + "_inside"] for row in rows) for norm in NORMS}
    totals = {"cases": sum(row["samples"] for row in rows), "inside": inside}
    settings |= {"steps": options.steps, "half-trained": options.steps // 10, "contrasts": media.CONTRASTS}
    media.write("bounds.json", settings, totals | results)


if __name__ == "__main__":
    timer.like_the_command_line()
    main()
