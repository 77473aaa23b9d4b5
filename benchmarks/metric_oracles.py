"""Are our metrics those of the packages that define them?

    python benchmarks/metric_oracles.py --the-well PYTHON --pdebench PYTHON --apebench PYTHON

Each PYTHON is an interpreter with that package (the_well 1.2.0; PDEBench 0.1.0; APEBench 0.1.1 with exponax 0.1.0); a
package without one is left out, and the results say so. PDEBench 0.1.0 asks for Python < 3.11 and torch 1.13; its
metrics also run with later ones: `pip install --no-deps --ignore-requires-python pdebench==0.1.0`, torch, matplotlib.

The same random trajectories in 1, 2 and 3 dimensions go to `sciml.metrics` and to the packages' own functions, all in
float64. Reported is the largest relative difference, over samples, steps and channels where there are such, of each
metric and dimension, in results/metric_oracles.json. What differs by definition is converted first, and named in the
result under `conversions`. PDEBench's fRMSE is in float32 whatever its input is, hence differences of 1e-7.
"""

import argparse
import functools
import pathlib
import subprocess
import tempfile

import jax
import numpy as np
import timer

from sciml import metrics
from sciml.grid import Grid
from sciml.metrics import step_errors

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES, TIME, CHANNELS = 3, 4, 2
GRIDS = {
    "1d": Grid((50,), extent=2.0),
    "2d": Grid((28, 36), extent=(2.0, 3.0)),
    "3d": Grid((26, 28, 30), extent=(2.0, 3.0, 0.5)),
}
CUBES = {"1d": Grid((48,), extent=1.7), "2d": Grid((20, 20), extent=1.7), "3d": Grid((12, 12, 12), extent=1.7)}
BANDS = ((0, 3), (2, 5))  # of APEBench's Fourier errors
CONVERSIONS = {
    "the_well/pearson": "ours times (n - 1) / n for n points; theirs adds 1e-7 to the product of the deviations",
    "apebench/cosine_similarity": "mean over the channels; theirs is called correlation",
}


def draw(grids: dict[str, Grid], seed: int) -> dict[str, np.ndarray]:
    """Truths `1d/r`, ... whose means are not zero, and predictions `1d/u`, ... with errors of about a tenth."""
    random, found = np.random.default_rng(seed), {}
    for name, grid in grids.items():
        shape = (SAMPLES, TIME, CHANNELS, *grid.shape)
        found[f"{name}/r"] = random.normal(size=shape) + 0.5
        found[f"{name}/u"] = found[f"{name}/r"] + 0.1 * random.normal(size=shape) + 0.02
        found[f"{name}/lengths"] = np.asarray(grid.lengths)
    return found


def the_well(u: np.ndarray, r: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    points = np.prod(grid.shape)
    found = {
        "vrmse": metrics.vrmse,
        "nrmse": functools.partial(metrics.nrmse, epsilon=1e-7),
        "nmae": metrics.nmae,
        "max_error": metrics.max_error,
        "pearson": lambda u, r: metrics.pearson(u, r) * ((points - 1) / points),
        "binned_spectral_mse": metrics.binned_spectral_mse,
    }
    return {name: step_errors(metric, u, r) for name, metric in found.items()}


def pdebench(u: np.ndarray, r: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """The corrected errors are those of one batch; as published, two equal batches give twice a batch's error."""
    corrected = metrics.PDEBench(grid).add(u, r).result().errors
    found = {name: value for name, value in vars(corrected).items() if name != "frmse"}
    found |= {f"frmse_{band}": value for band, value in corrected.frmse.items()}
    if len(grid.shape) == 3:
        del found["brmse"]
    published = metrics.PDEBenchAsPublished(grid).add(u, r).add(u, r).result()
    return found | {"brmse_as_published": published.brmse / 2}


def apebench(u: np.ndarray, r: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    found = {
        "nrmse": metrics.channel_sum(metrics.nrmse),
        "h1_nrmse": metrics.channel_sum(functools.partial(metrics.h1_nrmse, grid=grid)),
        "cosine_similarity": lambda u, r: metrics.cosine_similarity(u, r).mean(),
    }
    for low, high in BANDS:
        band = functools.partial(metrics.band_nrmse, low=low, high=high)
        found[f"band_nrmse_{low}_{high}"] = metrics.channel_sum(band)
    curve = metrics.mean_nrmse(u, r)
    ours = {name: step_errors(metric, u, r) for name, metric in found.items()}
    return ours | {"mean_nrmse": curve, "geometric_mean_3": np.asarray(metrics.geometric_mean(curve, steps=3))}


PEERS = {"the_well": (the_well, GRIDS), "pdebench": (pdebench, GRIDS), "apebench": (apebench, CUBES)}


def theirs(python: str, peer: str, fields: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The peer's errors, `1d/vrmse` and so on, and the versions of its packages."""
    with tempfile.TemporaryDirectory() as folder:
        given, taken = pathlib.Path(folder) / "fields.npz", pathlib.Path(folder) / "errors.npz"
        np.savez(given, **fields)
        command = [python, "-W", "ignore", str(HERE / "peers" / f"metrics_{peer}.py"), str(given), str(taken)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        with np.load(taken, allow_pickle=False) as file:
            errors = {name: file[name] for name in file.files}
    return errors, dict(line.split("==") for line in done.stdout.split())


def largest_difference(ours: np.ndarray, other: np.ndarray) -> float:
    if ours.shape != other.shape:
        raise SystemExit(f"Shapes differ: ours {ours.shape}, theirs {other.shape}.")
    return float(np.max(np.abs(ours - other) / np.abs(other)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in PEERS:
        parser.add_argument(f"--{peer.replace('_', '-')}", help=f"interpreter with {peer}")
    options = vars(parser.parse_args())
    jax.config.update("jax_enable_x64", True)
    rows: dict[str, dict] = {}
    for peer, (ours, grids) in PEERS.items():
        if options[peer] is None:
            rows[peer] = {"not_run": "no interpreter was given"}
            continue
        fields = draw(grids, seed=0)
        errors, versions = theirs(options[peer], peer, fields)
        differences: dict[str, dict[str, float]] = {}
        for name, grid in grids.items():
            for metric, value in ours(fields[f"{name}/u"], fields[f"{name}/r"], grid).items():
                differences.setdefault(metric, {})[name] = largest_difference(value, errors.pop(f"{name}/{metric}"))
        if errors:
            raise SystemExit(f"{peer} gave errors that were not compared: {sorted(errors)}.")
        rows[peer] = {
            "versions": versions,
            "grids": {name: grid.shape for name, grid in grids.items()},
            "largest_relative_difference": differences,
        }
        print(peer, differences)
    timer.write(HERE / "results" / "metric_oracles.json", {"conversions": CONVERSIONS, "peers": rows})


if __name__ == "__main__":
    main()
