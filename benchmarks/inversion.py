"""How many solves does the posterior of an inverse problem cost with a surrogate, and how wrong is it without them?

    python benchmarks/inversion.py [--data FOLDER] [--run FOLDER]

Needs blackjax (`pip install 'sciml-jax[inverse]'`). Trains the operator of experiments/darcy_inversion.py (or reads a
finished run) and solves its inverse problem: 16 Karhunen-Loeve coefficients of a log-permeability on 32x32 nodes, 25
noisy pressures. The reference is a long run of four chains with the solver. Of each method are given, against it, the
error of the mean in standard deviations of the posterior (root mean square over the coefficients), the relative error
of the variances (likewise), and for chains R-hat, the smallest effective sample size of a coefficient and solves per
effective draw. The step length of each kernel is the best of three in a pilot run. All chains begin with draws from the
Laplace approximation with the operator. Kernels: pCN proposals around the prior ("prior") or around that approximation
("recentred"), with the solver alone, or with delayed acceptance by the operator ("delayed", and the number of operator
steps for each solve).

Then the coverage of intervals of the constants of Lotka and Volterra's equations, and of forecasts by them
(`symbolic.posterior`), over simulated data sets. Writes results/inversion.json.
"""

import argparse
import os
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import timer

from sciml import experiment, symbolic, tasks, uq

HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "experiments" / "darcy_inversion.py"
CHAINS = 4


class Clock:
    """Seconds since the last call."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def __call__(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return round(self.last - before, 2)


def trained(options: argparse.Namespace, scratch: str):
    """The trained operator, its metrics and the config."""
    module = experiment.load_file(EXPERIMENT)
    config = experiment.with_settings(module.PRESETS["full"], {"draws": 20, "data": options.data})
    folder = pathlib.Path(options.run or f"{scratch}/run")
    if not options.run:
        experiment.run_file(module, config, folder)
    found = experiment.read_metrics(folder)
    return module, config, experiment.load(folder), {"seconds": found.seconds, "test": dict(found.test)}


def compared(samples, reference) -> dict:
    """Errors of mean and variances of draws (or of a pair of mean and variances) against the reference."""
    mean, variances = samples if isinstance(samples, tuple) else (samples.mean((0, 1)), samples.var((0, 1)))
    centre, own = reference
    error = {"mean_error": float(np.sqrt(np.mean((mean - centre) ** 2 / own)))}
    if variances is not None:
        error["variance_error"] = float(np.sqrt(np.mean((variances / own - 1) ** 2)))
    return error


def quality(samples, solves: int) -> dict:
    effective = uq.effective_sample_size(samples)
    return {
        "rhat": float(uq.rhat(samples).max()),
        "effective_draws": float(effective.min()),
        "solves": solves,
        "solves_per_effective_draw": float(solves / effective.min()),
    }


def kernels(found, coordinates):
    """`(kernel of a step length, how draws become coefficients, step lengths, draws)` by name."""
    exact, cheap = coordinates
    same = lambda z: z
    pcn, wide, near = uq.CrankNicolson, (0.05, 0.1, 0.2), (0.5, 0.7, 0.9)
    return {
        "prior": (lambda b: pcn(found.exact.misfit, b), same, wide, 4000),
        "prior, delayed 1": (
            lambda b: uq.DelayedAcceptance(pcn(found.cheap.misfit, b), found.exact.misfit, 1),
            same,
            wide,
            4000,
        ),
        "recentred": (lambda b: pcn(exact.misfit, b), exact.coefficients, near, 3000),
        "recentred, delayed 1": (
            lambda b: uq.DelayedAcceptance(pcn(cheap.misfit, b), exact.misfit, 1),
            exact.coefficients,
            near,
            3000,
        ),
        "recentred, delayed 10": (
            lambda b: uq.DelayedAcceptance(pcn(cheap.misfit, b), exact.misfit, 10),
            exact.coefficients,
            near,
            600,
        ),
    }


def chains_of(found, coordinates, starts, reference, clock) -> dict:
    """Every kernel at the best of its step lengths."""
    rows = {}
    for name, (kernel, coefficients, lengths, draws) in kernels(found, coordinates).items():
        begin = coordinates[0].coefficients(starts) if name.startswith("prior") else starts
        pilots = {}
        for length in lengths:
            short = uq.sample(kernel(length), begin, draws=draws // 10, burn=draws // 50, key=jax.random.key(7))
            pilots[length] = quality(coefficients(short.samples), int(short.evaluations.sum()))
        best = min(pilots, key=lambda length: pilots[length]["solves_per_effective_draw"])
        clock()
        chains = uq.sample(kernel(best), begin, draws=draws, burn=draws // 10, key=jax.random.key(8))
        samples = np.asarray(coefficients(chains.samples))
        rows[name] = {
            **quality(samples, int(chains.evaluations.sum())),
            **compared(samples, reference),
            "acceptance": float(chains.acceptance.mean()),
            "beta": best,
            "draws": draws,
            "seconds": clock(),
        }
        print(name, rows[name], flush=True)
    return rows


def estimates(found, reference, laplaces, clock) -> dict:
    """Most probable coefficients, Laplace approximations, ensembles and the operator's posterior by NUTS."""
    rows = {}
    truth = np.asarray(found.truth)
    error = lambda mean: float(np.linalg.norm(np.asarray(mean) - truth) / np.linalg.norm(truth))
    rows["reference"] = {"error_of_the_truth": error(reference[0])}
    for name, problem in (("solver", found.exact), ("operator", found.cheap)):
        map_, approximation = laplaces[name]
        mean = np.asarray(map_.coefficients)
        rows[f"most probable, {name}"] = {
            **compared((mean, np.diagonal(approximation.covariance)), reference),
            "error_of_the_truth": error(mean),
            "steps": int(map_.steps),
        }
        clock()
        ensemble = np.asarray(uq.ensemble_kalman_inversion(problem, members=200, steps=10, key=jax.random.key(3)))
        rows[f"ensemble Kalman, {name}"] = {
            **compared((ensemble.mean(0), ensemble.var(0)), reference),
            "error_of_the_truth": error(ensemble.mean(0)),
            "evaluations": 2000,
            "seconds": clock(),
        }
    clock()
    starts = laplaces["operator"][1].draws(CHAINS, key=jax.random.key(5))
    chains = uq.nuts(found.cheap, starts, warmup=150, draws=150, key=jax.random.key(6))
    samples = np.asarray(chains.samples)
    row = {**quality(samples, 0), **compared(samples, reference), "error_of_the_truth": error(samples.mean((0, 1)))}
    rows["NUTS, operator"] = {**row, "gradients": int(chains.evaluations.sum()), "seconds": clock()}
    print(rows, flush=True)
    return rows


def inversion(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        module, config, model, training = trained(options, scratch)
    clock = Clock()
    with jax.enable_x64(True):
        found, laplaces = module.inverse(config, model), {}
        for name, problem in (("solver", found.exact), ("operator", found.cheap)):
            estimate = uq.maximum_a_posteriori(problem, jnp.zeros(problem.size))
            laplaces[name] = estimate, uq.laplace(problem, estimate.coefficients)
        coordinates = tuple(uq.Recentred(one, laplaces["operator"][1]) for one in (found.exact, found.cheap))
        starts = jax.random.normal(jax.random.key(1), (CHAINS, found.exact.size), float)
        own = uq.Recentred(found.exact, laplaces["solver"][1])  # what the reference and the methods share is the target
        clock()
        kernel = uq.CrankNicolson(own.misfit, 0.7)
        long = uq.sample(kernel, starts, draws=options.reference, burn=500, key=jax.random.key(2))
        samples = np.asarray(own.coefficients(long.samples))
        reference = samples.mean((0, 1)), samples.var((0, 1))
        row = {**quality(samples, int(long.evaluations.sum())), "seconds": clock()}
        print(row, flush=True)
        return {
            "training": training,
            "reference": row,
            "estimates": estimates(found, reference, laplaces, clock),
            "chains": chains_of(found, coordinates, starts, reference, clock),
        }


def coverage(replicates: int) -> dict:
    """Shares of 90 % intervals that contain the constants, the later states, and later observations."""
    u, v = symbolic.states(2)
    system = (0.55 * u + -0.028 * (u * v), -0.8 * v + 0.026 * (u * v))
    true, deviations = symbolic.parameters(system), np.array([1.5, 1.0])
    times, rng, known = np.linspace(0, 20, 41), np.random.default_rng(0), 31
    inside = {name: [] for name in ("constants", "linearised", "sampled", "observations")}
    with jax.enable_x64(True):
        path = np.asarray(tasks.solved(symbolic.VectorField(system), jnp.array([30.0, 4.0]), jnp.asarray(times)))
        later, ahead = path[known:], times[known:]
        for seed in range(replicates):
            noisy = path + deviations * rng.normal(size=path.shape)
            found = symbolic.posterior(system, times[:known], noisy[:known], segments=3)
            low, high = found.interval()
            inside["constants"].append((low <= true) & (true <= high))
            linear = symbolic.linearised_band(found, ahead)
            sampled = symbolic.sampled_band(found, ahead, draws=400, seed=seed)
            for name, band in (("linearised", linear), ("sampled", sampled)):
                inside[name].append((band.low <= later) & (later <= band.high))
            inside["observations"].append(
                (linear.observed_low <= noisy[known:]) & (noisy[known:] <= linear.observed_high)
            )
    shares = {name: np.asarray(one).reshape(replicates, -1).mean(0) for name, one in inside.items()}
    written = {
        name: {"mean": float(one.mean()), "lowest": float(one.min()), "highest": float(one.max())}
        for name, one in shares.items()
    }
    return {"level": 0.9, "replicates": replicates, **written}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder for the generated data")
    parser.add_argument("--run", help="a finished run of the experiment, in place of a new one")
    parser.add_argument("--reference", type=int, default=8000, help="draws of each chain of the reference")
    parser.add_argument("--replicates", type=int, default=200, help="data sets of the coverage")
    options = parser.parse_args()
    clock = Clock()
    result = {"machine": timer.machine(os.cpu_count() or 1), "inversion": inversion(options)}
    result["equations"] = coverage(options.replicates)
    result["seconds"] = clock()
    timer.write(HERE / "results" / "inversion.json", result)


if __name__ == "__main__":
    main()
