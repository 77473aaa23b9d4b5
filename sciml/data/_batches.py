"""Which samples are in which batch: pure functions of numbers, so that there is no iterator state to save."""

import functools
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sciml.data._dataset import Dataset


@functools.lru_cache(maxsize=8)  # the current epoch and the next one, of a few data sets
def permutation(n: int, seed: int, *epoch: int) -> np.ndarray:
    """The order of `n` samples in an epoch, or in a numbered part of an epoch; read-only.

    Sorted raw words of PCG64 seeded by `SeedSequence(seed, spawn_key=epoch)`, which is independent of
    `numpy.random.default_rng(seed)` that the data may have been drawn with. NumPy guarantees these streams forever,
    unlike the methods of `Generator`, so a resumed run sees the same batches under another version of NumPy.

    Raises:
        ValueError: If the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"A seed is a number >= 0, got {seed}.")
    words = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=epoch)).random_raw(n)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False
    return order


def rows(n: int, size: int, seed: int, k: int) -> np.ndarray:
    """The samples of training batch `k`, a pure function of its arguments.

    Independent permutations of all samples, one for each epoch, are written one after another and cut into equal
    pieces. So every sample is seen once in each epoch, none is dropped, all batches have one size, and a batch may hold
    the end of one epoch and the beginning of the next.

    Args:
        n: Number of samples.
        size: Number of samples in a batch.
        seed: Number that selects the permutations.
        k: Number of the batch, from 0.

    Returns:
        Index array of length `size`.

    Raises:
        ValueError: If the batch is empty or larger than the data, or if `k` or `seed` is negative.
    """
    check_batch(n, size, k)
    epoch, start = divmod(k * size, n)
    piece = permutation(n, seed, epoch)[start : start + size]
    if len(piece) == size:
        return piece
    return np.concatenate((piece, permutation(n, seed, epoch + 1)[: size - len(piece)]))


def check_batch(n: int, size: int, k: int) -> None:
    """Refuses an empty batch, one larger than the data, and a negative number; see `rows`."""
    if not 1 <= size <= n:
        raise ValueError(f"A batch holds 1 to {n} samples, as many as there are, got {size}. Use a smaller batch.")
    if k < 0:
        raise ValueError(f"Batches are numbered from 0, got {k}.")


@runtime_checkable
class Ordered(Protocol):
    """A data set that knows in which order its samples are read quickly."""

    def batch_rows(self, size: int, seed: int, k: int) -> np.ndarray:
        """As `rows`, of all samples of the data set."""
        ...


def batch_rows(data: Dataset, size: int, seed: int, k: int) -> np.ndarray:
    """The samples of training batch `k`: in the order of the data set if it is `Ordered`, otherwise as `rows`."""
    return data.batch_rows(size, seed, k) if isinstance(data, Ordered) else rows(len(data), size, seed, k)


def in_order(data: Dataset, size: int) -> Iterator[tuple[Any, np.ndarray]]:
    """All samples once, in batches of one size for a single compilation.

    Args:
        data: What to go through.
        size: Number of samples in a batch; at most `len(data)` are used.

    Yields:
        The batch and a boolean mask `(size,)`. The last batch is filled up with its last sample, masked False.

    Raises:
        ValueError: If the batch or the data set is empty.
    """
    n = len(data)
    if size < 1 or n < 1:
        raise ValueError(f"Expected at least one sample in a batch and in the data, got {size} and {n}.")
    size = min(size, n)
    for start in range(0, n, size):
        wanted = np.arange(start, start + size)
        yield data[np.minimum(wanted, n - 1)], wanted < n
