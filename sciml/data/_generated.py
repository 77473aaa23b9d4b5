"""Data sets made by a solver: drawn in memory or written to a file, sample by sample reproducible."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import sciml
from sciml import parallel
from sciml.data._dataset import Pairs
from sciml.data._hdf5 import describe, read
from sciml.files import remove_leftovers, write_hdf5
from sciml.grid import Grid
from sciml.pdes import (
    Advection,
    AllenCahn,
    Burgers,
    Darcy,
    DiffusionSorption,
    Euler,
    FisherKPP,
    FitzHughNagumo,
    GrayScott,
    Heat,
    Helmholtz,
    KdV,
    KuramotoSivashinsky,
    LogNormalDarcy,
    MultiscaleDarcy,
    NavierStokes,
    ShallowWater,
    SwiftHohenberg,
    Wave,
)

_MOST_VALUES, _MOST_VALUES_OF_A_SAMPLE, _MOST_VALUES_OF_A_BATCH = 2**38, 2**28, 2**25
GENERATORS: dict[str, type] = {
    "darcy": Darcy,
    "multiscale_darcy": MultiscaleDarcy,
    "log_normal_darcy": LogNormalDarcy,
    "helmholtz": Helmholtz,
    "advection": Advection,
    "heat": Heat,
    "wave": Wave,
    "burgers": Burgers,
    "kdv": KdV,
    "kuramoto_sivashinsky": KuramotoSivashinsky,
    "allen_cahn": AllenCahn,
    "navier_stokes": NavierStokes,
    "shallow_water": ShallowWater,
    "euler": Euler,
    "fitzhugh_nagumo": FitzHughNagumo,
    "fisher_kpp": FisherKPP,
    "gray_scott": GrayScott,
    "swift_hohenberg": SwiftHohenberg,
    "diffusion_sorption": DiffusionSorption,
}
"""The generators of the command line by name: frozen dataclasses, each a `Problem`."""


@runtime_checkable
class Problem(Protocol):
    """A frozen dataclass of numbers that draws one sample; `inputs` and `outputs` name the channels of its fields.

    A problem whose samples differ in constants is `Parametrised` as well.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the channels of the first field."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the channels of the second field; a property, since they may depend on the settings."""
        ...

    @property
    def grid(self) -> Grid:
        """Where the values of both fields are."""
        ...

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "in *space"], Float[Array, "out *space"]]:
        """One pair of fields; called with float64 switched on."""
        ...


@runtime_checkable
class Parametrised(Protocol):
    """What a `Problem` has whose samples differ in constants: their names, and the values for the key of a sample."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the constants; none where all samples have the same."""
        ...

    def draw_parameters(self, key: Key[Array, ""]) -> Float[Array, " parameters"]:
        """The constants of `sample(key)`; called with float64 switched on."""
        ...


def draw(problem: Problem, *, n: int, seed: int, batch: int = 32) -> Pairs:
    """Samples 0 to `n - 1` of a problem, in memory.

    Sample `i` is drawn with `jax.random.fold_in(jax.random.key(seed), i)`: it depends neither on `n` nor, up to
    rounding, on `batch` and the devices, and a longer set begins with a shorter one. The devices of all processes that
    have joined share each batch, of a CPU one device; then all processes call this alike, and get all samples.

    Args:
        problem: What to draw from.
        n: Number of samples.
        seed: Number that selects the samples.
        batch: Number of samples computed at once, rounded up to equal shares of the devices; fewer where they are
            large.

    Raises:
        ValueError: If a number is out of range.
        RuntimeError: If a sample is not finite.
    """
    x, y, parameters = (np.concatenate(pieces) for pieces in zip(*_pieces(problem, n, seed, batch), strict=True))
    names = _parameter_names(problem)
    return Pairs(
        x,
        y,
        parameters=parameters if names else None,
        parameter_names=names,
        **_description(problem, seed),
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

    The file appears complete or not at all: it is written batch by batch under another name in its folder, flushed
    to the disk and renamed; after an error or an interrupt nothing is left. Missing folders are made. The devices of
    all processes share the work as in `draw`, and process 0 writes.

    Args:
        problem: What to draw from.
        path: The file.
        n: Number of samples.
        seed: Number that selects the samples.
        batch: Number of samples computed and written at once, as in `draw`.
        overwrite: Whether an existing file may be replaced.
        progress: Called with the number of finished samples and `n`, first with 0; on all processes.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ValueError: If a number is out of range.
        RuntimeError: If a sample is not finite.
        OSError: If the file cannot be written.
    """
    pieces = _pieces(problem, n, seed, batch)
    stored: list[h5py.Dataset] = []
    with contextlib.ExitStack() as held:

        def begin() -> None:
            file = held.enter_context(write_hdf5(pathlib.Path(path), overwrite=overwrite))
            stored.extend(describe(file, n, parameters=_parameter_names(problem), **_description(problem, seed)))

        parallel.by_first(begin)
        done = 0
        progress(done, n)
        for piece in pieces:
            parallel.by_first(functools.partial(_write, stored, piece, done))
            done += len(piece[0])
            progress(done, n)
        parallel.by_first(held.close)  # no process goes on before the file is there


def _write(stored: Sequence[h5py.Dataset], piece: Sequence[np.ndarray], start: int) -> None:
    for data, values in zip(stored, piece, strict=False):  # without parameters there is no data set of them
        data[start : start + len(values)] = values
    stored[0].file.flush()  # so that a full disk ends the work here


def cached(
    problem: Problem,
    folder: str | os.PathLike[str],
    *,
    n: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, n: None,
) -> Pairs:
    """Samples 0 to `n - 1` of a problem from a file in `folder`, which is generated if it is not there.

    The name of the file tells the kind of problem, a digest of its settings, `n` and the seed, so that other settings
    make another file. Processes that have joined generate it together; others that start at once may generate it
    twice, and each sees a complete file.

    Args:
        problem: What to draw from.
        folder: Where the files are kept.
        n: Number of samples.
        seed: Number that selects the samples.
        progress: As in `generate`; not called if the file is there.

    Raises:
        OSError: If the file is damaged or cannot be written.
        ValueError: If the file holds other samples than its name says.
        RuntimeError: If a sample is not finite.
    """
    wanted = _attributes(problem, seed)
    settings = json.dumps([wanted["generator"], wanted["settings"]], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    path = pathlib.Path(folder) / f"{type(problem).__name__.lower()}-{digest}-n{n}-seed{seed}.h5"
    if parallel.by_first(lambda: not path.exists()):
        generate(problem, path, n=n, seed=seed, overwrite=True, progress=progress)
    parallel.by_first(lambda: remove_leftovers(path))
    found = read(path)
    for name in ("generator", "settings", "seed"):
        if found.attributes.get(name) != wanted[name]:
            raise ValueError(f"Expected {name} {wanted[name]} in {path}, got {found.attributes.get(name)}. Remove it.")
    return found


def _description(problem: Problem, seed: int) -> dict[str, Any]:
    """What `Pairs` and `describe` know of all samples."""
    named = {"grid": problem.grid, "inputs": problem.inputs, "outputs": problem.outputs}
    return named | {"attributes": _attributes(problem, seed)}


def _attributes(problem: Any, seed: int) -> dict[str, Any]:
    """Where samples come from, as values that JSON can hold."""
    kind = type(problem)
    return {
        "generator": f"{kind.__module__.split('._')[0]}.{kind.__qualname__}",
        "settings": json.loads(json.dumps(dataclasses.asdict(problem))),
        "seed": seed,
        "sciml_version": sciml.__version__,
        "jax_version": jax.__version__,
    }


def _parameter_names(problem: Problem) -> tuple[str, ...]:
    return problem.parameters if isinstance(problem, Parametrised) else ()


def _pieces(problem: Problem, n: int, seed: int, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of samples in order; the arguments are checked at once, samples are drawn one batch at a time."""
    if n < 1 or batch < 1 or not 0 <= seed < 2**63:
        raise ValueError(
            f"Expected n >= 1, batch >= 1 and seed >= 0, of up to 63 bits, got n {n}, batch {batch} and seed {seed}."
        )
    values = math.prod(problem.grid.shape) * getattr(problem, "frames", 1) * len(problem.inputs)
    if values * n > _MOST_VALUES or values > _MOST_VALUES_OF_A_SAMPLE:
        raise ValueError(
            f"{n} samples of {values} values do not fit into any memory. Use a lower resolution, or fewer frames or "
            "samples."
        )
    return _drawn(problem, n, seed, *_at_once(min(batch, n), max(1, _MOST_VALUES_OF_A_BATCH // values)))


def _at_once(wanted: int, most: int) -> tuple[int, list[Any]]:
    """Number of samples that are drawn at once, and the devices that share them equally.

    Args:
        wanted: Number that is asked for.
        most: Number that fits into the memory of a device.
    """
    devices = parallel.drawing_devices()
    each = min(most, -(-wanted // len(devices)))
    used = min(len(devices), -(-wanted // each))
    return each * used, devices[:used]


def _drawn(
    problem: Problem, n: int, seed: int, size: int, devices: Sequence[Any]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    names = _parameter_names(problem)

    def sample(key: Key[Array, ""]) -> tuple[Array, Array, Array]:
        parameters = problem.draw_parameters(key) if isinstance(problem, Parametrised) and names else jnp.zeros(0)
        return *problem.sample(key), parameters

    def samples(numbers: Array) -> tuple[Array, Array, Array]:
        root = jax.random.key(seed, impl="threefry2x32")  # named: the default of the process may be another one
        return jax.vmap(lambda i: sample(jax.random.fold_in(root, i)))(numbers)

    share = parallel.Shares(size, devices)
    compiled = jax.jit(parallel.on_shares(samples, share.mesh))
    for start in range(0, n, size):
        with jax.enable_x64(True):
            drawn = compiled(share.of(np.arange(start, start + size)))  # always as many, for one compilation
            own = [np.asarray(part, np.float32) for part in drawn]
        x, y, parameters = (part[: n - start] for part in share.joined(own))
        for name, array, channels in (("x", x, problem.inputs), ("y", y, problem.outputs)):
            expected = (len(channels), *problem.grid.shape)
            if array.shape[1:] != expected:
                raise ValueError(f"{problem} promises {name} of shape {expected}, its sample has {array.shape[1:]}.")
        finite = np.array([np.isfinite(x[i]).all() and np.isfinite(y[i]).all() for i in range(len(x))])
        if not finite.all():
            raise RuntimeError(
                f"Sample {start + int(np.argmin(finite))} of {problem} with seed {seed} is not finite: its solver did "
                "not converge. Use other settings (Darcy always converges with overshoot=0.0, equations in time with "
                "a smaller step) or another seed."
            )
        yield x, y, parameters
