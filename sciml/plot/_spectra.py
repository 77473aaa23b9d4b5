"""Energy spectra of fields, and figures of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sciml.plot._lines import logarithmic
from sciml.plot._text import LARGEST_PAGE, check_names

_ROUNDING = 1e-18
"""Energies below this part of the largest one are rounding errors and not drawn."""


def energy_spectrum(
    u: Float[np.ndarray, "samples *space"], *, lengths: Sequence[float] | None = None
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, "samples bins"]]:
    """Wavenumbers k = 0, 1, ... and the energy of each field in the shells around them.

    E(k) = 1/2 sum |u_j|^2 over the modes j with k - 1/2 <= |j| < k + 1/2, where u_j are the coefficients of the Fourier
    series, so that the sum over all k is half of the mean of u^2. |j| counts periods along the longest side; a shorter
    side of length L has wavenumbers j L_max / L. For fields that are not periodic it is the spectrum of the periodic
    continuation, whose jumps fill the high wavenumbers.

    Args:
        u: Fields of one channel.
        lengths: Length of each side; equal ones by default.

    Raises:
        ValueError: If there is not one positive length for each side.
    """
    space = u.shape[1:]
    sides = [1.0] * len(space) if lengths is None else [float(one) for one in lengths]
    if len(sides) != len(space) or not space or min(sides) <= 0:
        raise ValueError(
            f"Expected a positive length of each side of fields (samples, *space), got {sides} for {space}."
        )
    modes = np.fft.fftn(u.astype(np.float64), axes=tuple(range(1, u.ndim)), norm="forward")
    squares = np.zeros(())
    for axis, (n, length) in enumerate(zip(space, sides, strict=True)):
        k = np.fft.fftfreq(n, 1 / n) * max(sides) / length
        squares = squares + (k**2).reshape([-1 if other == axis else 1 for other in range(len(space))])
    shells = np.floor(np.sqrt(squares) + 0.5).astype(int).ravel()
    energy = 0.5 * np.abs(modes.reshape(len(u), -1)) ** 2
    found = np.stack([np.bincount(shells, weights=one) for one in energy])
    return np.arange(found.shape[1], dtype=np.float64), found


def spectra(
    truth: Float[np.ndarray, "samples time channels *space"],
    by_model: Mapping[str, np.ndarray],
    *,
    steps: Sequence[int],
    names: Sequence[str] = (),
    lengths: Sequence[float] | None = None,
    first: int = 1,
) -> list[Figure]:
    """Energy spectra of truth and models, a row for each channel and a column for each chosen step.

    Energies are means over the samples, those that are finite; a title says how many are not. Wavenumbers reach to the
    highest one that every side resolves. A figure has up to four channels.

    Args:
        truth: True rollouts.
        by_model: Rollouts by model name.
        steps: Numbers of the frames that are drawn.
        names: Name of each channel.
        lengths: As in `energy_spectrum`.
        first: Number that titles give to frame 0: 1 if a rollout begins with the first predicted frame.

    Raises:
        ValueError: If a rollout has another shape than the truth, or a step does not exist.
    """
    for name, one in by_model.items():
        if one.shape != truth.shape:
            raise ValueError(f"The rollouts of {name} have shape {one.shape}, the true ones {truth.shape}.")
    if not steps or not all(0 <= step < truth.shape[1] for step in steps):
        raise ValueError(f"Expected steps from 0 to {truth.shape[1] - 1}, got {list(steps)}.")
    known, count = check_names(names, truth.shape[2]), truth.shape[2]
    figures = []
    for start in range(0, count, LARGEST_PAGE):
        page = range(start, min(start + LARGEST_PAGE, count))
        figure = Figure(figsize=(1.4 + 2.9 * len(steps), 0.7 + 2.3 * len(page)), layout="constrained")
        grid = figure.subplots(len(page), len(steps), squeeze=False, sharex=True, sharey="row")
        for channel, row in zip(page, grid, strict=True):
            for step, axes in zip(steps, row, strict=True):
                notes = _one(axes, truth[:, step, channel], _frames(by_model, step, channel), lengths)
                axes.set_title("\n".join([f"step {step + first}", *notes]), fontsize=9)
            low, high = row[0].get_ylim()
            row[0].set_ylim(bottom=max(low, high * _ROUNDING))
            row[0].set_ylabel(f"energy  {known[channel]}".rstrip())
        for axes in grid[-1]:
            axes.set_xlabel("wavenumber")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right upper")
        figures.append(figure)
    return figures


def _frames(by_model: Mapping[str, np.ndarray], step: int, channel: int) -> dict[str, np.ndarray]:
    return {name: one[:, step, channel] for name, one in by_model.items()}


def _one(axes, truth: np.ndarray, by_model: Mapping[str, np.ndarray], lengths: Sequence[float] | None) -> list[str]:
    """Draws the spectra of one channel and step; returns which rollouts are left out of the means."""
    notes = []
    for j, (name, fields) in enumerate({"truth": truth, **by_model}.items()):
        finite = np.isfinite(fields).reshape(len(fields), -1).all(axis=1)
        if not finite.all():
            notes.append(f"{name}: {(~finite).sum()} of {len(fields)} not finite")
        if not finite.any():
            axes.plot([], [], color=f"C{j - 1}", label=name)
            continue
        k, energy = energy_spectrum(fields[finite], lengths=lengths)
        sides = [1.0] * len(fields.shape[1:]) if lengths is None else lengths
        last = int(min(n // 2 * max(sides) / side for n, side in zip(fields.shape[1:], sides, strict=True)))
        mean = energy.mean(0)[1 : last + 1]
        style = {"color": "black", "linewidth": 2.2, "alpha": 0.55} if j == 0 else {"color": f"C{(j - 1) % 10}"}
        axes.plot(k[1 : last + 1], np.where(mean > 0, mean, np.nan), label=name, **style)
    axes.set_xscale("log")
    logarithmic(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.2)
    return notes
