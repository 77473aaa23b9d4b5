"""Data of which some values were not observed: windows of a series, and images read row by row."""

from typing import Any

import jax
import numpy as np

from sciml import data
from sciml.tasks._field_errors import or_infinite


def observed(draws: Any, seen: float) -> Any:
    """Which values of windows are observed: the first always, none of the last third, of the others a share `seen`.

    Args:
        draws: Random numbers (n, times, 1) between 0 and 1, one for each value.
        seen: Share of the values in the first two thirds that are observed.
    """
    index = np.arange(draws.shape[1])[None, :, None]
    return ((draws < seen) | (index == 0)) & (index < draws.shape[1] * 2 // 3)


def windows_with_gaps(values: np.ndarray, length: int, seen: float, dtype: Any) -> dict[str, data.Arrays]:
    """All windows of a series, cut from its first 65 %, the next 15 % and the last 20 %: train, validation and test.

    No window reaches from one part into another. Values are in deviations of the training part from its mean.

    Args:
        values: The series (times,), equally spaced in time.
        length: Values in a window.
        seen: Share of the values that are observed, as in `observed`; the draws are fixed.
        dtype: Type of the windows.

    Returns:
        By the names of the parts, windows (n, length, 1) and which of their values are observed.

    Raises:
        ValueError: If the windows are longer than a part.
    """
    borders = [0, round(0.65 * len(values)), round(0.8 * len(values)), len(values)]
    known = values[: borders[1]]
    values = (values - known.mean()) / known.std()
    shortest = min(np.diff(borders))
    if not 3 <= length <= shortest:
        raise ValueError(f"Expected windows of 3 to {shortest} values, the shortest part, got {length}.")
    rng = np.random.default_rng(0)
    found = {}
    for name, start, stop in zip(("train", "validation", "test"), borders[:-1], borders[1:], strict=True):
        cut = np.lib.stride_tricks.sliding_window_view(values[start:stop], length)[..., None]
        draws = rng.random(cut.shape)
        found[name] = data.Arrays(cut.astype(dtype), np.asarray(observed(draws, seen)))
    return found


def gap_errors(predicted: jax.Array, true: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """Mean squared errors of values (n, times, 1) that were not observed: of all, and before and in the last third.

    Without `mse_between` if all values before the last third were observed. Infinite if predictions are not finite.
    """
    squares, hidden = np.asarray((predicted - true) ** 2), ~seen
    after = np.broadcast_to(np.arange(true.shape[1])[None, :, None] >= true.shape[1] * 2 // 3, hidden.shape)
    parts = {"mse": hidden, "mse_between": hidden & ~after, "mse_after": after}
    return {name: or_infinite(squares[part].mean()) for name, part in parts.items() if part.any()}


def digits_with_gaps(missing: float, dtype: Any) -> dict[str, data.Arrays]:
    """Images of `data.digits`, NaN where not observed, and classes, by the names of the parts.

    The first row takes the mean over the training images where it has gaps.

    Args:
        missing: Share of the values that were not observed; the draws are fixed.
        dtype: Type of the images.

    Raises:
        ValueError: If the share is not in [0, 1).
    """
    if not 0 <= missing < 1:
        raise ValueError(f"Expected a share of missing values in [0, 1), got {missing}.")
    whole = {name: part[:] for name, part in data.digits().items()}
    known = whole["train"][0][:, 0].mean(axis=0)
    rng = np.random.default_rng(0)
    found = {}
    for name, (x, label) in whole.items():
        gaps = rng.random(x.shape) < missing
        first = np.where(gaps[:, 0], known, x[:, 0])
        x = np.where(gaps, np.nan, x)
        x[:, 0] = first
        found[name] = data.Arrays(x.astype(dtype), label)
    return found
