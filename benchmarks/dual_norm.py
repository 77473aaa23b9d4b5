"""Does a network that is trained on the dual norm of the residual, without any solution, match a supervised one?

    python benchmarks/dual_norm.py

Darcy flow with an oscillating permeability (two factors, contrast at most 81) at 31 x 31 nodes, 512 training samples,
the FNO of bounds.py, equal steps of the same optimiser. Losses: the relative L2 error, the mean of the relative L2 and
H1 errors, and `uq.dual_norm`, the squared bound of the energy error, scaled by the mean of it for the prediction zero.
Three learning rates each; the best one on 64 validation samples is tested on 128 others: true relative errors, and the
fraction of predictions that `uq.certify` accepts at relative L2 errors of 1e-1 and 5e-2.
"""

import argparse

import darcy_media as media
import jax
import jax.numpy as jnp
import numpy as np
import timer

from sciml import losses, tasks, uq
from sciml.metrics import relative_l2

LRS = (2e-3, 8e-3, 3.2e-2)
VALIDATION, TEST = 64, 128


def tested(known: media.Medium, model) -> dict:
    """Mean true errors, mean bounds, and the fractions that are accepted."""
    v = np.float64(media.predicted(model, known.x))
    problem = known.problem

    def one(x, truth, v):
        found, system = uq.bounds(problem, x, v), problem.system(x)
        energy = system.energy(problem.unknowns(truth - v)) / system.energy(problem.unknowns(truth))
        return (
            energy,
            problem.norm(truth - v) / problem.norm(truth),
            found.relative_energy.upper,
            found.relative_l2.upper,
        )

    with jax.enable_x64(True):
        energy, l2, energy_bound, l2_bound = media.in_parts(jax.jit(jax.vmap(one)), known.x, known.y, v)
    names = {"relative_l2": l2, "relative_energy": energy, "relative_energy_bound": energy_bound}
    row = {name: float(f"{np.mean(values):.4g}") for name, values in names.items()}
    return row | {f"accepted_at_{t:g}": float(np.mean(l2_bound <= t)) for t in (1e-1, 5e-2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    known, rest = media.medium("oscillating", media.TRAINING + VALIDATION + TEST, seed=0).split(media.TRAINING)
    validation, test = rest.split(VALIDATION)
    dual = uq.dual_norm(known.problem)
    with jax.enable_x64(False):
        x = jnp.asarray(known.x, jnp.float32)
        size = float(jnp.mean(jax.jit(jax.vmap(lambda x: dual(x, jnp.zeros_like(x))))(x)))
    kinds = {
        "relative L2": losses.supervised(relative_l2),
        "mean of L2 and H1": tasks.mean_of_l2_and_h1(known.grid),
        "dual norm, no solutions": losses.unsupervised(lambda x, v: dual(x, v) / size),
    }
    results: dict = {}
    for name, loss in kinds.items():
        models = {}
        for lr in LRS:
            models[lr] = media.trained(media.network("fno", known, seed=0), loss, known, lr, options.steps)[-1]
        errors = {lr: media.errors(model, validation) for lr, model in models.items()}
        best = min(LRS, key=lambda lr: errors[lr] if np.isfinite(errors[lr]) else np.inf)
        validated = {f"{lr:g}": float(f"{error:.4g}") for lr, error in errors.items()}
        results[name] = {"validation_relative_l2": validated, "lr": best, "test": tested(test, models[best])}
        print(name, results[name], flush=True)
    settings = {"steps": options.steps, "batch": media.BATCH, "training": media.TRAINING, "lrs": LRS}
    media.write("dual_norm.json", settings, results)


if __name__ == "__main__":
    timer.like_the_command_line()
    main()
