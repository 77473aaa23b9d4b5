"""Errors by APEBench's own functions, for benchmarks/metric_oracles.py: FIELDS.npz ERRORS.npz, in a Python with it."""

import functools
import importlib.metadata
import sys

import jax
import numpy as np
import pandas as pd

jax.config.update("jax_enable_x64", True)

import apebench  # noqa: E402
from exponax import metrics  # noqa: E402


def main(given: str, taken: str) -> None:
    fields, found = np.load(given, allow_pickle=False), {}
    for name in ("1d", "2d", "3d"):
        u, r = (fields[f"{name}/{one}"] for one in "ur")
        extent = float(fields[f"{name}/lengths"][0])
        functions = {
            "nrmse": metrics.nRMSE,
            "h1_nrmse": functools.partial(metrics.H1_nRMSE, domain_extent=extent),
            "cosine_similarity": metrics.correlation,
            **{
                f"band_nrmse_{low}_{high}": functools.partial(metrics.fourier_nRMSE, low=low, high=high)
                for low, high in ((0, 3), (2, 5))
            },
        }
        for metric, function in functions.items():
            found[f"{name}/{metric}"] = np.asarray(jax.vmap(jax.vmap(function))(u, r))
        mean = functools.partial(metrics.mean_metric, metrics.nRMSE)
        curve = np.asarray(jax.vmap(mean, in_axes=1)(u, r))
        table = pd.DataFrame({"run": 0, "time_step": np.arange(1, len(curve) + 1), "mean_nRMSE": curve})
        aggregated = apebench.aggregate_gmean(table, up_to=3, grouping_cols=["run"])
        found[f"{name}/mean_nrmse"] = curve
        found[f"{name}/geometric_mean_3"] = np.asarray(aggregated["gmean_mean_nRMSE"].iloc[0])
    np.savez(taken, **found)
    for package in ("apebench", "exponax", "jax"):
        print(f"{package}=={importlib.metadata.version(package)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
