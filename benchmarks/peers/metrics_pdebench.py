"""Errors by PDEBench's own function, for benchmarks/metric_oracles.py: FIELDS.npz ERRORS.npz, in a Python with it.

PDEBench's `metric_func` takes (batch, *space, time, channels). It reshapes 3-D tensors by `view`, which needs the
channels to lie before space in memory.
"""

import importlib.metadata
import sys

import numpy as np
import torch
from pdebench.models.metrics import metric_func


def channels_last(x: np.ndarray) -> torch.Tensor:
    """(samples, time, channels, *space) as (samples, *space, time, channels), the channels before space in memory."""
    stored = torch.from_numpy(np.moveaxis(x, 1, -1).copy())  # samples, channels, *space, time
    return stored.movedim(1, -1)


def main(given: str, taken: str) -> None:
    fields, found = np.load(given, allow_pickle=False), {}
    for name in ("1d", "2d", "3d"):
        u, r = (channels_last(fields[f"{name}/{one}"]) for one in "ur")
        lengths = dict(zip(("Lx", "Ly", "Lz"), map(float, fields[f"{name}/lengths"]), strict=False))
        values = [one.numpy() for one in metric_func(u, r, if_mean=False, **lengths)]
        *errors, boundary, fourier = values  # (channels, time), of 3-D boundaries (time,); (channels, bands, time)
        for metric, value in zip(("rmse", "nrmse", "crmse", "max_error"), errors, strict=True):
            found[f"{name}/{metric}"] = value.T
        if boundary.ndim == 2:
            found[f"{name}/brmse"] = boundary.T
        found[f"{name}/brmse_as_published"] = boundary.T
        for i, band in enumerate(("low", "mid", "high")):
            found[f"{name}/frmse_{band}"] = fourier[:, i].T
    found = {key: value for key, value in found.items() if not np.isnan(value).all()}  # bands beyond the grid
    np.savez(taken, **found)
    for package in ("pdebench", "torch"):
        print(f"{package}=={importlib.metadata.version(package)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
