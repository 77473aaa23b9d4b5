"""What does a guarantee cost? Networks with uq.Certified against solving from zero.

    python benchmarks/certified.py

The samples, media and networks of bounds.py (32 x 32; FNO, trained and random), 64 samples of each medium, at relative
L2 errors of 1e-2, 1e-3 and 1e-6: the fraction of predictions whose bound is within the tolerance at once, and the mean
number of conjugate gradient steps of all samples. Baselines: the same certificate from zero, and without one the
library's solvers at the largest residual of 10 t, t, t / 10, ... whose worst true error is at most the tolerance t:
`solve_diffusion` (sine transforms), and the multigrid cycle of `pdes.MultiscaleDarcy`. Times are of batches of 16
samples, in one process in random order, and contain the forward pass of the network; `speed_up` is the baseline's time
by that of the certified network: above 1 the network wins.
"""

import argparse
import functools

import darcy_media as media
import jax
import jax.numpy as jnp
import numpy as np
import timer

from sciml import losses, uq
from sciml.metrics import relative_l2
from sciml.pdes import _elliptic, _nine_point

TOLERANCES = (1e-2, 1e-3, 1e-6)
COUNT, SIZE = 64, 16


def multigrid(known: media.Medium, a, tolerance: float):
    """Conjugate gradients with the multigrid cycle, for the same equations."""
    problem = known.problem
    system = problem.system(a)
    across, along = system.faces
    west, east, south, north = across[:-1], across[1:], along[:, :-1], along[:, 1:]
    none, own = jnp.zeros_like(west), west + east + south + north
    rows = ((none, -west, none), (-south, own, -north), (none, -east, none))
    matrix = jnp.stack([jnp.stack(row) for row in rows])
    precondition = functools.partial(_nine_point.cycle, _nine_point.hierarchy(matrix))
    b = system.forcing * system.mesh.grid.spacing[0] ** 2
    u, _ = _elliptic.conjugate_gradients(
        functools.partial(_nine_point.apply, matrix), b, tolerance, 500, precondition=precondition
    )
    return problem.field(u)


def residual_for(solve, known: media.Medium, tolerance: float) -> tuple[float, object]:
    """The largest residual at which all true errors keep the tolerance, and the solver at it."""
    for residual in (10 * tolerance, tolerance, tolerance / 10, tolerance / 100, tolerance / 1000):
        at = jax.jit(jax.vmap(functools.partial(solve, tolerance=residual)))
        found = media.in_parts(at, known.x, size=SIZE)
        errors = np.linalg.norm((found - known.y).reshape(COUNT, -1), axis=1)
        if np.all(errors <= tolerance * np.linalg.norm(known.y.reshape(COUNT, -1), axis=1)):
            return residual, at
    raise SystemExit(f"No residual makes the errors as small as {tolerance}.")


def certified(known: media.Medium, model, tolerance: float):
    """A function that predicts and certifies all samples, and its certificate."""

    def all_of_them():
        with jax.enable_x64(False):
            v = media.predicted(model, known.x) if model is not None else np.zeros(known.y.shape, np.float32)
        return uq.certify_all(known.problem, known.x, v, tolerance, size=SIZE)

    return all_of_them


def compared(known: media.Medium, models: dict, tolerance: float, rounds: int) -> dict:
    """One tolerance on one medium."""
    solvers = {"solve_diffusion": known.solve, "multigrid": functools.partial(multigrid, known)}
    at = {name: residual_for(solve, known, tolerance) for name, solve in solvers.items()}
    calls = {name: certified(known, model, tolerance) for name, model in {"zero": None, **models}.items()}
    results: dict = {"residuals": {name: residual for name, (residual, _) in at.items()}}
    for name, call in calls.items():
        found = call()
        true = np.linalg.norm((found.field - known.y).reshape(COUNT, -1), axis=1)
        true = true / np.linalg.norm(known.y.reshape(COUNT, -1), axis=1)
        results[name] = {
            "accepted_at_once": float(np.mean(found.accepted)),
            "mean_iterations": float(np.mean(found.iterations)),
            "largest_bound": float(np.max(found.bound)),
            "largest_true_error": float(np.max(true)),
        }
    timed = calls | {name: functools.partial(media.in_parts, at[name][1], known.x, size=SIZE) for name in at}
    seconds = media.interleaved(timed, rounds)
    for name in models:
        results[name]["speed_up"] = {base: media.ratio(seconds, base, name) for base in ("zero", *at)}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=media.STEPS)
    options = parser.parse_args()
    results: dict = {}
    for name in media.CONTRASTS:
        known, test = media.medium(name, media.TRAINING + COUNT, seed=0).split(media.TRAINING)
        fresh, loss = media.network("fno", known, seed=0), losses.supervised(relative_l2)
        models = {"fno": media.trained(fresh, loss, known, media.RATES["fno"], options.steps)[-1], "random": fresh}
        errors = {label: media.errors(model, test) for label, model in models.items()}
        results[name] = {"mean_relative_l2": errors}
        for tolerance in TOLERANCES:
            with jax.enable_x64(True):
                results[name][f"{tolerance:g}"] = compared(test, models, tolerance, options.rounds)
            print(name, tolerance, results[name][f"{tolerance:g}"], flush=True)
    settings = {"cells": media.CELLS, "samples": COUNT, "batch": SIZE, "training_steps": options.steps}
    media.write("certified.json", settings | {"contrasts": media.CONTRASTS}, results)


if __name__ == "__main__":
    timer.like_the_command_line()
    main()
