"""What do digests add to the time of writing and reading files?

    python benchmarks/file_digests.py [--megabytes 100] [--rounds 11] [--row pairs ...]

Each row writes and reads one kind of file, with its digest and, by the same code, without. Both take turns in one
process, in a new random order each round; a ratio is the median over the rounds of the time with the digest divided by
that without. The content is noise, which no compression shortens. Files are flushed to the disk, and read from the page
cache, where reading alone costs least. Writes results/file_digests.json.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import timer

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "file_digests.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """A kind of file.

    Attributes:
        actions: What is timed, by name and in this order; each gets a folder of its own kind, with or without digests.
        without: Context in which the actions neither make nor compare digests.
        bytes: What the files take.
    """

    actions: dict[str, Callable[[pathlib.Path], object]]
    without: Callable[[], contextlib.AbstractContextManager]
    bytes: int


def hdf5_without(*readers: str) -> Callable[[], contextlib.AbstractContextManager]:
    """HDF5 files without digests, for the modules that read them."""

    @contextlib.contextmanager
    def without():
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch("sciml.files._hdf5.hashlib.file_digest", return_value=hashlib.sha256()))
            for reader in readers:
                stack.enter_context(mock.patch(f"{reader}.check_digest", return_value=True))
            yield

    return without


def pairs(size: int) -> Row:
    """Pairs of one field each on 128x128 points, in compressed chunks of one sample."""
    from sciml import data, files
    from sciml.data._hdf5 import describe
    from sciml.grid import Grid

    grid = Grid((128, 128))
    x, y = np.random.default_rng(0).normal(size=(2, max(size // (8 * 128**2), 1), 1, 128, 128)).astype(np.float32)

    def write(folder: pathlib.Path) -> None:
        with files.write_hdf5(folder / "pairs.h5", overwrite=True) as file:
            stored = describe(file, len(x), grid=grid, inputs=("a",), outputs=("u",), attributes={})
            for one, values in zip(stored, (x, y), strict=True):
                one[:] = values

    def read(folder: pathlib.Path) -> object:
        return data.read(folder / "pairs.h5")

    return Row({"write": write, "read": read}, hdf5_without("sciml.data._hdf5"), x.nbytes + y.nbytes)


def trajectories(size: int) -> Row:
    """A shard of trajectories of 3 states at 128 times, 20 of each system, in one block."""
    from sciml.systems import Trajectories, _shards

    systems = max(size // (4 * 20 * 128 * 3), 1)
    states = np.random.default_rng(0).normal(size=(systems, 20, 128, 3)).astype(np.float32)
    words, tried = ("u_0",) * systems, np.full(systems, 20)
    part = Trajectories(np.linspace(0, 2, 128), states, equations=words, families=words, tried=tried)
    attributes = {"generator": "noise", "settings": {}, "seed": 0, "count": systems, "per_shard": systems}

    def write(folder: pathlib.Path) -> None:
        _shards._write(folder / "00000-of-00001.h5", part, attributes)

    def read(folder: pathlib.Path) -> object:
        return _shards.read_trajectories(folder)

    return Row({"write": write, "read": read}, hdf5_without("sciml.systems._shards"), states.nbytes)


LOAD = """
import contextlib, pathlib, sys
from unittest import mock
import jax, jax.numpy as jnp
from sciml import train
folder = pathlib.Path(sys.argv[1])
without = mock.patch("sciml.train._stored.check_manifest") if folder.name == "without" else contextlib.nullcontext()
with without:
    like = [jnp.zeros(1 << 20) for _ in range(int(sys.argv[2]))]
    jax.block_until_ready(train.Checkpoints(folder).restore_model(like))
"""


def checkpoint(size: int) -> Row:
    """A checkpoint of arrays of 4 MB, without an optimiser's state."""
    import jax
    import jax.numpy as jnp
    import optax

    from sciml import train

    count = max(size >> 22, 1)
    model = [jax.random.normal(jax.random.key(i), (1 << 20,)) for i in range(count)]
    state, steps = train.init(model, optax.sgd(0.1)), itertools.count(1)
    stores: dict[pathlib.Path, train.Checkpoints] = {}

    def begin(folder: pathlib.Path) -> None:
        store = stores.setdefault(folder, train.Checkpoints(folder, keep=1))
        store.save(train.TrainState(state.model, state.opt_state, jnp.asarray(next(steps), jnp.int32)))

    def end(folder: pathlib.Path) -> None:
        stores[folder].wait()

    def load(folder: pathlib.Path) -> None:
        jax.block_until_ready(stores[folder].restore_model(model))

    def load_in_a_new_process(folder: pathlib.Path) -> None:
        subprocess.run([sys.executable, "-c", LOAD, str(folder), str(count)], check=True)

    @contextlib.contextmanager
    def without():
        with mock.patch("sciml.train._checkpoint.write_manifest"), mock.patch("sciml.train._stored.check_manifest"):
            yield

    actions = {
        "save, until training goes on": begin,
        "save, the rest in the background": end,
        "load": load,
        "load in a new process": load_in_a_new_process,
    }
    return Row(actions, without, 4 * count << 20)


ROWS: dict[str, Callable[[int], Row]] = {"checkpoint": checkpoint, "pairs": pairs, "trajectories": trajectories}


def measured(row: Row, folder: pathlib.Path, rounds: int) -> dict:
    """Median seconds, and ratios with their quartiles, of each action; one more round comes first and is not timed."""
    draw, folders = random.Random(0), {}
    for kind in ("with", "without"):
        folders[kind] = folder / kind
        folders[kind].mkdir(parents=True)
    seconds = {action: {kind: [] for kind in folders} for action in row.actions}
    for _ in range(rounds + 1):
        for kind in draw.sample(list(folders), len(folders)):
            for action, run in row.actions.items():
                with row.without() if kind == "without" else contextlib.nullcontext():
                    start = time.perf_counter()
                    run(folders[kind])
                    seconds[action][kind].append(time.perf_counter() - start)
    result: dict = {"megabytes": row.bytes / 1e6}
    for action, found in seconds.items():
        ratios = np.divide(found["with"][1:], found["without"][1:])
        result[action] = {
            "seconds": {kind: statistics.median(values[1:]) for kind, values in found.items()},
            "ratio": float(np.median(ratios)),
            "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        }
    return result


def main() -> None:
    from sciml.experiment import provenance

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100, help="size of the content (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds (default %(default)s)")
    parser.add_argument("--row", nargs="+", choices=list(ROWS), default=list(ROWS), help="default: all")
    parser.add_argument("--folder", type=pathlib.Path, help="where the files are written (default: a temporary folder)")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="result file (default %(default)s)")
    arguments = parser.parse_args()
    result = {
        **provenance(pathlib.Path(__file__).resolve()),
        "machine": timer.machine(os.cpu_count() or 1),
        "rounds": arguments.rounds,
        "rows": {},
    }
    for name in arguments.row:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            row = measured(ROWS[name](int(arguments.megabytes * 1e6)), pathlib.Path(folder), arguments.rounds)
        result["rows"][name] = row
        for action in (one for one in row if one != "megabytes"):
            low, high = row[action]["ratio_quartiles"]
            spent = row[action]["seconds"]
            print(
                f"{name} {row['megabytes']:.0f} MB, {action}: {spent['with']:.3f} s with, {spent['without']:.3f} s "
                f"without, ratio {row[action]['ratio']:.3f} ({low:.2f}-{high:.2f})",
                flush=True,
            )
        timer.write(arguments.out, result)


if __name__ == "__main__":
    main()
