"""The six errors of PDEBench (Takamoto et al., NeurIPS 2022 Datasets and Benchmarks, arXiv:2210.07182).

For error e = u - r, N points, samples b, per step and channel:

| name | definition |
|---|---|
| RMSE | mean_b sqrt(mean_x e^2) |
| nRMSE | mean_b sqrt(mean_x e^2) / sqrt(mean_x r^2) |
| cRMSE, "conserved" | sqrt(mean_b (sum_x e)^2) / N |
| maximum error | max_b max_x abs(e) |
| bRMSE, "boundary" | mean_b `boundary_rmse` |
| fRMSE, "Fourier" | mean over the k of a band of sqrt(mean_b E_k) prod(L) / N |

E_k is the sum of the squared coefficients of the unnormalised transform of e over the modes of shell k: in 1-D the
mode k itself, up to n // 2; in 2-D and 3-D the modes whose wavenumbers all lie in 0 <= k_j < n_j // 2 (the first
quadrant or octant alone) with floor |(k_1, ..., k_d)| = k, up to min(n) // 2 - 1.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.grid import Grid
from sciml.metrics._channels import boundary_rmse, max_error, nrmse, per_channel
from sciml.metrics._fields import rmse
from sciml.metrics._steps import Trajectories, check_trajectories, without_nan

BANDS = (("low", 0, 4), ("mid", 4, 12), ("high", 12, None))
"""Names of the bands, first wavenumber, and the one after the last."""


@dataclasses.dataclass(frozen=True, eq=False)
class PDEBenchErrors:
    """The errors at each step and channel. `means()` gives the numbers of a table.

    Attributes:
        rmse: In the units of the field, as all but `nrmse` and `frmse`.
        nrmse: Without a unit.
        crmse: Of the conserved quantity.
        max_error: Maximum error.
        brmse: On the boundary; as published in 3-D it has no axis of channels.
        frmse: In the bands `low`, `mid` and `high`, in units of the field times those of the volume. A band that
            the grid has no wavenumber for is left out.
    """

    rmse: Float[np.ndarray, "time channels"]
    nrmse: Float[np.ndarray, "time channels"]
    crmse: Float[np.ndarray, "time channels"]
    max_error: Float[np.ndarray, "time channels"]
    brmse: Float[np.ndarray, "time *channels"]
    frmse: Mapping[str, Float[np.ndarray, "time channels"]]

    def means(self) -> dict[str, float]:
        """Means over steps and channels, with the names `rmse`, ..., `frmse_low`, `frmse_mid` and `frmse_high`."""
        values = {name: value for name, value in vars(self).items() if name != "frmse"}
        bands = {f"frmse_{name}": value for name, value in self.frmse.items()}
        return {name: float(np.mean(value)) for name, value in (values | bands).items()}


@dataclasses.dataclass(frozen=True, eq=False)
class PDEBenchSummary:
    """Errors of all samples, of those that stayed finite, and how many did not.

    Attributes:
        errors: Over all samples: infinite everywhere if any has diverged.
        stayed: Over the samples that have not diverged; infinite if all have.
        diverged: Number of samples with a value that is not finite at any step, or whose square is not.
        samples: Number of all samples.
    """

    errors: PDEBenchErrors
    stayed: PDEBenchErrors
    diverged: int
    samples: int


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractPDEBench(abc.ABC):
    """The errors of PDEBench, batch by batch: `PDEBench(grid).add(u, r).add(v, s).result()`.

    `add` returns a new object and computes at once for the whole batch; the sums are in float64.

    Args:
        grid: Of the fields, in 1 to 3 dimensions; its lengths enter fRMSE.
    """

    grid: Grid
    sums: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    """What was added so far."""

    def _sums_of(self, predictions: Trajectories, truths: Trajectories) -> dict[str, np.ndarray]:
        """Errors (samples, time, channels), and of the shells (samples, time, shells, channels), float64."""
        check_trajectories(predictions, truths)
        if predictions.shape[3:] != self.grid.shape or len(self.grid.shape) > 3:
            raise ValueError(
                f"Expected trajectories on the grid {self.grid.shape} of 1 to 3 dimensions, got fields "
                f"{predictions.shape[3:]}. Give the grid of the data."
            )
        found = _errors(jnp.asarray(predictions), jnp.asarray(truths))
        return {name: np.asarray(one, np.float64) for name, one in found.items()}

    def _check_steps(self, found: Mapping[str, Any]) -> None:
        """Raises ValueError if earlier batches had other numbers of steps or channels."""
        if self.sums and self.sums["rmse"].shape != found["rmse"].shape:
            raise ValueError(
                f"Expected (time, channels) {self.sums['rmse'].shape} as before, got {found['rmse'].shape}. "
                "Trajectories of other lengths need an object of their own."
            )

    def _finished(self, means: Mapping[str, np.ndarray]) -> PDEBenchErrors:
        """The record of means over the samples, with the bands of the shells."""
        shells = means["shells"] * float(np.prod(self.grid.lengths))
        bands = {name: shells[:, first:end] for name, first, end in BANDS}
        fourier = {name: band.mean(axis=1) for name, band in bands.items() if band.shape[1]}
        return PDEBenchErrors(**{name: means[name] for name in means if name != "shells"}, frmse=fourier)


@dataclasses.dataclass(frozen=True, eq=False)
class PDEBench(AbstractPDEBench):
    """The errors of PDEBench over all samples, whatever the batches are.

    Means, roots and the maximum are taken over all samples, so that the result does not depend on the batches beyond
    rounding; bRMSE in 3-D is of each channel. `PDEBenchAsPublished` differs in these points.
    """

    def add(self, predictions: Trajectories, truths: Trajectories) -> "PDEBench":
        """With some more samples.

        Args:
            predictions: Predicted frames, without the frames that were given.
            truths: True frames.

        Raises:
            ValueError: As in `step_errors`, or if the fields do not live on the grid or the number of steps changes.
        """
        each = self._sums_of(predictions, truths)
        stays = np.all([np.isfinite(one).all(axis=tuple(range(1, one.ndim))) for one in _absolute(each)], axis=0)
        each = {name: one[stays] for name, one in each.items()}
        found = {name: one.sum(axis=0) for name, one in each.items() if name != "max_error"}
        largest = np.max(each["max_error"], axis=0, initial=0)
        counts = {"samples": len(stays), "diverged": int((~stays).sum())}
        self._check_steps(found)
        if self.sums:
            found = {name: self.sums[name] + one for name, one in (found | counts).items()}
            return dataclasses.replace(self, sums=found | {"max_error": np.maximum(self.sums["max_error"], largest)})
        return dataclasses.replace(self, sums=found | counts | {"max_error": largest})

    def result(self) -> PDEBenchSummary:
        """The errors over what was added.

        Raises:
            ValueError: If nothing was added.
        """
        if not self.sums:
            raise ValueError("Expected at least one batch of trajectories, got none. Call add first.")
        samples, diverged = self.sums["samples"], self.sums["diverged"]
        kept = samples - diverged
        sums = {name: one for name, one in self.sums.items() if name not in ("samples", "diverged", "max_error")}
        means = {name: one / kept if kept else np.full_like(one, np.inf) for name, one in sums.items()}
        means["max_error"] = self.sums["max_error"] if kept else np.full_like(self.sums["max_error"], np.inf)
        stayed = self._finished(_roots(means))
        none = self._finished({name: np.full_like(one, np.inf) for name, one in means.items()})
        return PDEBenchSummary(none if diverged else stayed, stayed, diverged, samples)


@dataclasses.dataclass(frozen=True, eq=False)
class PDEBenchAsPublished(AbstractPDEBench):
    """The errors of PDEBench with the peculiarities of its evaluation, to compare with published numbers.

    Each batch has its errors, and their sum over the batches is divided by the number of batches minus one. So every
    error, the maximum as well, is too large by B / (B - 1), and the roots and maxima depend on the batches. In 3-D the
    squares of the channels are added in bRMSE. Nothing that diverges is counted; errors are then infinite.

    Two more peculiarities are a matter of the data: numbers published before 2023 include the given frames, and those
    of Darcy flow the input beside the solution; add such frames to predictions and truths.
    """

    def add(self, predictions: Trajectories, truths: Trajectories) -> "PDEBenchAsPublished":
        """With one more batch.

        Args:
            predictions: Predicted frames.
            truths: True frames.

        Raises:
            ValueError: As in `PDEBench.add`.
        """
        each = self._sums_of(predictions, truths)
        if len(self.grid.shape) == 3:
            each["brmse"] = np.sqrt((each["brmse"] ** 2).sum(axis=-1))
        found = _roots({name: one.mean(axis=0) for name, one in each.items()})
        found["max_error"] = each["max_error"].max(axis=0)
        self._check_steps(found)
        total = {name: self.sums[name] + one for name, one in found.items()} if self.sums else found
        return dataclasses.replace(self, sums=total | {"batches": self.sums.get("batches", 0) + 1})

    def result(self) -> PDEBenchErrors:
        """The errors over what was added.

        Raises:
            ValueError: If less than two batches were added.
        """
        batches = self.sums.get("batches", 0)
        if batches < 2:
            raise ValueError(
                f"As published, sums over the batches are divided by their number minus one, which needs 2 batches, "
                f"got {batches}. Use smaller batches or PDEBench."
            )
        return self._finished({name: one / (batches - 1) for name, one in self.sums.items() if name != "batches"})


def _absolute(each: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The errors that are finite whenever the prediction is: not the relative one, whose truth may be zero."""
    return [one for name, one in each.items() if name != "nrmse"]


def _roots(means: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Roots of what is averaged before the root is taken."""
    return {name: np.sqrt(one) if name in ("crmse", "shells") else one for name, one in means.items()}


_channel_rmse = per_channel(rmse)


@jax.jit
def _errors(predictions: Array, truths: Array) -> dict[str, Array]:
    """Errors of each frame; `crmse` and `shells` are squares, the latter of the transform divided by the points."""
    metrics = {"rmse": _channel_rmse, "nrmse": nrmse, "max_error": max_error, "brmse": boundary_rmse}
    metrics |= {"crmse": _conserved, "shells": _shells}

    def of_frame(u: Array, r: Array) -> dict[str, Array]:
        return {name: without_nan(metric(u, r), u, r) for name, metric in metrics.items()}

    return jax.vmap(jax.vmap(of_frame))(predictions, truths)


def _conserved(prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]) -> Array:
    """The squared difference of the means over the points."""
    return jnp.mean(prediction - truth, axis=tuple(range(1, truth.ndim))) ** 2


def _shells(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]
) -> Float[Array, "shells channels"]:
    """E_k / N^2 of the module's docstring for k = 0, 1, ..."""
    shape = truth.shape[1:]
    modes = jnp.fft.rfftn(prediction - truth, axes=tuple(range(1, truth.ndim)), norm="forward")
    shell, count = _shell_numbers(shape)
    modes = modes[(slice(None), *(slice(n) for n in shell.shape))]
    powers = (modes.real**2 + modes.imag**2).reshape(len(truth), -1)
    return jax.ops.segment_sum(powers.T, jnp.asarray(shell.reshape(-1)), count + 1)[:count]


def _shell_numbers(shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The shell of each mode of the first orthant, and the number of shells; modes beyond all share one more."""
    if len(shape) == 1:
        return np.arange(shape[0] // 2 + 1), shape[0] // 2 + 1
    axes = np.meshgrid(*(np.arange(n // 2) for n in shape), indexing="ij")
    shell = np.floor(np.sqrt(sum((k**2 for k in axes), np.zeros(())))).astype(int)
    count = min(shape) // 2
    return np.minimum(shell, count), count
