"""Errors by The Well's own classes, for benchmarks/metric_oracles.py: FIELDS.npz ERRORS.npz, in a Python with it."""

import importlib.metadata
import sys
import types

import numpy as np
import torch
from the_well.benchmark import metrics

CLASSES = {
    "vrmse": metrics.VRMSE,
    "nrmse": metrics.NRMSE,
    "nmae": metrics.NMAE,
    "max_error": metrics.LInfinity,
    "pearson": metrics.PearsonR,
}


def main(given: str, taken: str) -> None:
    fields, found = np.load(given, allow_pickle=False), {}
    for name in ("1d", "2d", "3d"):
        u, r = (torch.from_numpy(np.moveaxis(fields[f"{name}/{one}"], 2, -1).copy()) for one in "ur")
        meta = types.SimpleNamespace(n_spatial_dims=u.ndim - 3)
        for metric, kind in CLASSES.items():
            found[f"{name}/{metric}"] = kind()(u, r, meta).numpy()
        bins = metrics.binned_spectral_mse()(u, r, meta)
        parts = [bins[f"spectral_error_mse_per_bin_{i}"].numpy() for i in range(3)]
        found[f"{name}/binned_spectral_mse"] = np.stack(parts, axis=2)
    np.savez(taken, **found)
    for package in ("the_well", "torch"):
        print(f"{package}=={importlib.metadata.version(package)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
