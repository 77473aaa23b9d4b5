"""What figures share: words, shapes, and the limits of colours."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

LARGEST_PAGE = 4
"""Rows of channels in one figure; further channels are in further figures."""


def wrapped(text: str, width: int) -> str:
    """A text with its lines broken after `width` characters."""
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in text.splitlines())


def check_shapes(y: np.ndarray, by_model: Mapping[str, np.ndarray]) -> None:
    """Refuses predictions of another shape than the truth.

    Raises:
        ValueError: If there is one; it names the model.
    """
    for name, prediction in by_model.items():
        if prediction.shape != y.shape:
            raise ValueError(f"The prediction of {name} has shape {prediction.shape}, the truth has {y.shape}.")


def check_names(names: Sequence[str], channels: int) -> list[str]:
    """The names of channels, `channel 0` and so on where none are given; none is needed for a single channel.

    Raises:
        ValueError: If there are names, but not one for each channel.
    """
    if names and len(names) != channels:
        raise ValueError(f"Expected a name for each of {channels} channels, got {len(names)}: {', '.join(names)}.")
    return list(names) or ([f"channel {k}" for k in range(channels)] if channels > 1 else [""])


def relative_error(prediction: np.ndarray, truth: np.ndarray) -> str:
    """The relative L2 error in percent, as text, also where it is not a number."""
    if not np.isfinite(prediction).all():
        return "not finite"
    size = float(np.linalg.norm(truth))
    return f"{np.linalg.norm(prediction - truth) / size:.2%}" if size else "truth is zero"


def finite_range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest finite value; (0, 1) without any."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
