"""The problems of solvers.py: weights, initial states and times from seeds, without JAX or PyTorch."""

import numpy as np

MU = 2.0  # of the van der Pol oscillator


def weights(settings: dict) -> tuple[np.ndarray, ...]:
    """Weights and biases of a network with one hidden layer, of moderate slope."""
    rng = np.random.default_rng(settings["seed"])
    size, hidden = settings["size"], settings["hidden"]
    first = rng.standard_normal((size, hidden)) / size**0.5
    second = rng.standard_normal((hidden, size)) / hidden**0.5
    arrays = first, rng.standard_normal(hidden) / 10, second, rng.standard_normal(size) / 10
    return tuple(array.astype(np.float32) for array in arrays)


def starts(settings: dict) -> np.ndarray:
    """Initial states (batch, size)."""
    rng = np.random.default_rng(100 + settings["seed"])
    return rng.standard_normal((settings["batch"], settings["size"])).astype(np.float32)


def times(settings: dict) -> np.ndarray:
    """Equally spaced times from 0, both ends included."""
    return np.linspace(0, settings["end"], settings["saved"]).astype(np.float32)
