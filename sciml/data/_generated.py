"""Data sets made by a solver: drawn in memory or written to a file, sample by sample reproducible."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import sciml
from sciml.data._dataset import Pairs
from sciml.data._hdf5 import creating, describe
from sciml.grid import Grid
from sciml.pdes import Darcy

GENERATORS: dict[str, type] = {"darcy": Darcy}
"""The generators of the command line by name: frozen dataclasses, each a `Problem`."""


class Problem(Protocol):
    """A frozen dataclass of numbers that draws one sample."""

    inputs: Any
    outputs: Any

    @property
    def grid(self) -> Grid:
        """Where the values of both fields are."""
        ...

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "in *space"], Float[Array, "out *space"]]:
        """One pair of fields; called with float64 switched on."""
        ...


def draw(problem: Problem, *, n: int, seed: int, batch: int = 32) -> Pairs:
    """Samples 0 to `n - 1` of a problem, in memory.

    Sample `i` is drawn with `jax.random.fold_in(jax.random.key(seed), i)`: it depends neither on `n` nor, up to
    rounding, on `batch`, and a longer set begins with a shorter one.

    Args:
        problem: What to draw from.
        n: Number of samples.
        seed: Number that selects the samples.
        batch: Number of samples computed at once.

    Raises:
        ValueError: If a number is out of range.
        RuntimeError: If a sample is not finite.
    """
    pieces = list(_pieces(problem, n, seed, batch))
    return Pairs(
        np.concatenate([x for x, _ in pieces]),
        np.concatenate([y for _, y in pieces]),
        grid=problem.grid,
        inputs=problem.inputs,
        outputs=problem.outputs,
        attributes=_attributes(problem, seed),
    )


def generate(
    problem: Problem,
    path: str | os.PathLike[str],
    *,
    n: int,
    seed: int,
    batch: int = 32,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, n: None,
) -> None:
    """Writes samples 0 to `n - 1` of a problem, those of `draw`, to an HDF5 file that `read` understands.

    The file appears complete or not at all: it is built in memory, written beside its place under another name, flushed
    to the disk and renamed; after an error or an interrupt nothing is left. Missing folders are made.

    Args:
        problem: What to draw from.
        path: The file.
        n: Number of samples.
        seed: Number that selects the samples.
        batch: Number of samples computed and written at once.
        overwrite: Whether an existing file may be replaced.
        progress: Called with the number of finished samples and `n`, first with 0.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If a number is out of range.
        RuntimeError: If a sample is not finite.
        OSError: If the file cannot be written.
    """
    pieces = _pieces(problem, n, seed, batch)
    with creating(pathlib.Path(path), overwrite=overwrite) as file:
        done = 0
        progress(done, n)
        for x, y in pieces:
            if done == 0:
                names = (problem.inputs, problem.outputs)
                describe(file, n, (x.shape[1], y.shape[1]), problem.grid, names, _attributes(problem, seed))
            file["x"][done : done + len(x)] = x
            file["y"][done : done + len(y)] = y
            done += len(x)
            progress(done, n)


def _attributes(problem: Any, seed: int) -> dict[str, Any]:
    """Where samples come from, as values that JSON can hold."""
    kind = type(problem)
    return {
        "generator": f"{kind.__module__.split('._')[0]}.{kind.__qualname__}",
        "settings": dataclasses.asdict(problem),
        "seed": seed,
        "sciml_version": sciml.__version__,
        "jax_version": jax.__version__,
    }


def _pieces(problem: Problem, n: int, seed: int, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of samples in order; the arguments are checked at once, samples are drawn one batch at a time."""
    if n < 1 or batch < 1 or seed < 0:
        raise ValueError(f"Expected n >= 1, batch >= 1 and seed >= 0, got n {n}, batch {batch} and seed {seed}.")
    return _drawn(problem, n, seed, min(batch, n))


def _drawn(problem: Problem, n: int, seed: int, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    def samples(numbers: Array) -> tuple[Array, Array]:
        root = jax.random.key(seed, impl="threefry2x32")  # named: the default of the process may be another one
        return jax.vmap(lambda i: problem.sample(jax.random.fold_in(root, i)))(numbers)

    compiled = jax.jit(samples)
    for start in range(0, n, batch):
        with jax.enable_x64(True):
            pair = compiled(jnp.arange(start, start + batch))  # always a full batch, for one compilation
            x, y = (np.asarray(part)[: n - start] for part in pair)
        finite = np.array([np.isfinite(x[i]).all() and np.isfinite(y[i]).all() for i in range(len(x))])
        if not finite.all():
            raise RuntimeError(
                f"Sample {start + int(np.argmin(finite))} of {problem} with seed {seed} is not finite: its solver did "
                "not converge. Use other settings (Darcy always converges with overshoot=0.0) or another seed."
            )
        yield x, y
