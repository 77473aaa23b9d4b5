"""Are our networks ahead of what opifex and pdequinox print, on their data, with their epochs and no more parameters?

    python benchmarks/others.py --row pdequinox_poisson --peer-python PATH [--models mgno fno ...] [--seeds 3]
    python benchmarks/others.py --row opifex_darcy --peer-python PATH --models mgno --holdout 100 --lr 8e-3

A row is a table of another project: its data, made by its own generator and saved once by benchmarks/peers/, its
epochs, its batch and its error, the mean over the test samples of ||u - v|| / ||v||. Its network is trained again by
its own recipe in the interpreter `--peer-python`. Ours have at most its parameters, normalise by statistics of the
training data and are trained by the optimiser of their `zoo.Architecture` on the mean of the relative
L2 and H1 errors. Rates are chosen with `--holdout`: so many of the distinct training samples are left out with all of
their repetitions, and the error is that of these; such runs stand in `tuning`. A run that is in the file is not trained
again.

What the data hold stands in the file too: how many samples are distinct, and how many test inputs occur in the training
data. opifex's loaders repeat samples; the forces of pdequinox's example have few possible values, all of which are in
its training data.
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import timer

from sciml import data, experiment, tasks, train, zoo
from sciml.grid import Dirichlet, Grid
from sciml.operators import FNO, MgNO, Padded

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ("train", "test")
RATES = {"mgno_wide": 4e-3, "fno_wide": 8e-3, "fno_padded": 16e-3, "fno_fewer_modes": 16e-3}  # of other networks


@dataclasses.dataclass(frozen=True)
class Printed:
    """An error as another project prints it, and where."""

    relative_l2: float
    parameters: int
    seconds: float | None
    source: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A table of another project.

    Attributes:
        peer: Script in benchmarks/peers/ and its first arguments.
        theirs: By the name of a run of their network, the options of the script.
        grid: Where the fields live.
        epochs: Passes through the training data.
        batch: Samples in a batch.
        printed: What the project prints.
        sizes: Our networks whose sizes are not those of `zoo.MODELS`.
    """

    peer: tuple[str, ...]
    theirs: Mapping[str, tuple[str, ...]]
    grid: Grid
    epochs: int
    batch: int
    printed: Printed
    sizes: Mapping[str, Callable[..., Any]]


def padded_fno(into: int, out: int, *, grid: Grid, key: Any) -> Padded:
    """Fourier layers on fields that are longer by a quarter, as opifex's."""
    network = FNO(into, out, modes=(22, 22), width=32, gain=0.1, grid=grid, key=key)
    return Padded(network, grid, 0.25)


ON_THE_WALLS, BESIDE_THE_WALLS = ((one, one) for one in (Dirichlet(0.0), Dirichlet(1.0)))
OPIFEX = {"opifex": (), "opifex_lr_applied": ("--apply-lr",)}
ROWS = {
    "opifex_darcy": Row(
        peer=("others_opifex.py", "darcy"),
        theirs=OPIFEX,
        grid=Grid((32, 32), 1.0, (ON_THE_WALLS,) * 2),
        epochs=200,
        batch=32,
        printed=Printed(
            0.007588,
            2_368_001,
            18.4,
            "https://github.com/avitai/opifex/blob/main/docs/examples/neural-operators/fno-darcy.md",
            "one run on a GPU",
        ),
        sizes={
            "fno": functools.partial(FNO, modes=(22, 22), width=32, gain=0.1),
            "fno_padded": padded_fno,
            "fno_fewer_modes": functools.partial(FNO, modes=(12, 12), width=32, gain=0.1),
            "mgno_wide": functools.partial(MgNO, width=32, depth=4, levels=4),
        },
    ),
    "opifex_burgers": Row(
        peer=("others_opifex.py", "burgers"),
        theirs={"opifex": ()},
        grid=Grid((128,)),
        epochs=750,
        batch=20,
        printed=Printed(
            0.001707,
            2_180_225,
            84.2,
            "https://github.com/avitai/opifex/blob/main/docs/examples/neural-operators/fno-burgers.md",
            "one run on a GPU",
        ),
        sizes={
            "fno_wide": functools.partial(FNO, modes=(32,), width=96, gain=0.1),
            "mgno_wide": functools.partial(MgNO, width=48, depth=4, levels=6),
        },
    ),
    "pdequinox_poisson": Row(
        peer=("others_pdequinox.py",),
        theirs={"pdequinox": ()},
        grid=Grid((64,), 5.0, (BESIDE_THE_WALLS,)),
        epochs=100,
        batch=32,
        printed=Printed(
            0.00817455,
            189_633,
            None,
            "https://github.com/Ceyron/pdequinox/blob/main/docs/examples/train_unet_as_poisson_solver.ipynb",
            "one run; .00171203 is the deviation over the test samples",
        ),
        sizes={"mgno_wide": functools.partial(MgNO, width=32, depth=3, levels=5)},
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What differs from the protocol; `None` keeps it."""

    epochs: int | None
    lr: float | None
    batch: int | None
    holdout: int


class Results:
    """The file of all rows, read again before each change: two rows may run at a time."""

    def __init__(self, path: pathlib.Path, row: str):
        self._path, self._row = path, row

    def row(self) -> dict:
        """What is known of the row."""
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        return known.get(self._row, {})

    def change(self, change: Callable[[dict], None]) -> None:
        """Writes the row after a change of its entries."""
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        change(known.setdefault(self._row, {}))
        timer.write(self._path, known)


def ask(python: str, arguments: tuple[str, ...]) -> str:
    """What a script of benchmarks/peers/ prints. It runs in a folder of its own, where opifex leaves checkpoints."""
    script, *rest = arguments
    command = [python, "-W", "ignore", str(HERE / "peers" / script), *rest]
    with tempfile.TemporaryDirectory() as scratch:
        env = os.environ | timer.allocator()
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=scratch, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def pairs_of(row: Row, file: pathlib.Path, python: str) -> dict[str, data.Pairs]:
    """Training and test pairs, made by the peer unless the file exists."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished.npz")
        ask(python, (*row.peer, "data", str(unfinished)))
        os.replace(unfinished, file)
    found = {}
    for part in PARTS:
        x, y = data.read_arrays(file, f"x_{part}", f"y_{part}")
        found[part] = data.Pairs(x, y, grid=row.grid, attributes={"source": file.name})
    return found


def distinct(pairs: data.Pairs) -> np.ndarray:
    """A number for each sample, equal for samples with equal inputs."""
    return np.unique(pairs.x.reshape(len(pairs), -1), axis=0, return_inverse=True)[1].ravel()


def described(pairs: dict[str, data.Pairs], file: pathlib.Path) -> dict:
    """Sizes, repetitions, and the digest of the file."""
    (versions,) = data.read_arrays(file, "versions")
    known, test = (pairs[part].x.reshape(len(pairs[part]), -1) for part in PARTS)
    seen = {one.tobytes() for one in known}
    return {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "made_by": json.loads(str(versions)),
        "samples": {part: len(pairs[part]) for part in PARTS},
        "distinct": {part: int(distinct(pairs[part]).max()) + 1 for part in PARTS},
        "test_inputs_in_training_data": sum(one.tobytes() in seen for one in test),
        "moments": {
            part: [float(np.asarray(x, np.float64).mean()) for x in (pairs[part].x, pairs[part].y)]
            + [float(np.asarray(x, np.float64).std()) for x in (pairs[part].x, pairs[part].y)]
            for part in PARTS
        },
    }


def held_out(known: data.Pairs, count: int) -> dict[str, data.Pairs]:
    """Training pairs without `count` distinct samples, and these, each once."""
    number = distinct(known)
    chosen = np.random.default_rng(0).permutation(number.max() + 1)[:count]
    once = np.sort([int(np.flatnonzero(number == one)[0]) for one in chosen])
    return {"train": known.take(np.flatnonzero(~np.isin(number, chosen))), "test": known.take(once)}


def architecture_of(row: Row, model: str) -> zoo.Architecture:
    """One of `zoo.MODELS`, with the row's size if it has one."""
    known = zoo.MODELS.get(model)
    make = row.sizes.get(model) or (known.make if known else None)
    if make is None:
        raise SystemExit(f"Expected one of {sorted({*zoo.MODELS, *row.sizes, *row.theirs})}, got {model}.")
    return dataclasses.replace(known, make=make) if known else zoo.Architecture(make, RATES[model])


def ours(row: Row, model: str, pairs: dict[str, data.Pairs], training: experiment.Training) -> dict:
    """Error and cost of one of our networks after its training."""
    steps = training.steps_for(len(pairs["train"]))
    made = tasks.fields(architecture_of(row, model), tasks.Parts(pairs["train"], None, pairs["test"]), training)
    parameters = train.parameters(made.model)
    if parameters > row.printed.parameters:
        raise SystemExit(f"{model} has {parameters} parameters, at most {row.printed.parameters} are compared.")
    state, step, batches = experiment.prepare(made)
    started, begin, ends = time.perf_counter(), time.process_time(), []
    clock = train.every(max(1, round(steps / training.epochs)), lambda event: ends.append(time.process_time()))
    state = train.fit(state, step, batches, steps=steps, hooks=[clock])
    cost = {"seconds": time.perf_counter() - started, "cpu_seconds": ends[-1] - begin}
    cost["epoch_cpu_seconds"] = float(np.median(np.diff(ends if len(ends) > 1 else [begin, *ends])))
    found = made.evaluate(state.model, pairs["test"])
    versions = {name: importlib.metadata.version(name) for name in ("sciml-jax", "jax", "optax")}
    return {"parameters": parameters, "steps": steps, **found, **cost, "versions": versions}


def run(row: Row, model: str, seed: int, options: Options, python: str, file: pathlib.Path) -> tuple[str, Callable]:
    """The name of a run in the file, and the function that trains."""
    epochs = options.epochs or row.epochs
    if model in row.theirs:
        arguments = (*row.peer, "train", str(file), "--seed", str(seed), "--epochs", str(epochs), *row.theirs[model])
        return f"{model}, {epochs} epochs, seed {seed}", lambda: json.loads(ask(python, arguments).splitlines()[-1])
    lr, batch = options.lr or architecture_of(row, model).lr, options.batch or row.batch
    training = experiment.Training(epochs=epochs, batch=batch, lr=lr, seed=seed)
    name = f"{model}, lr {lr:g}, batch {batch}, {epochs} epochs, seed {seed}"

    def train_ours() -> dict:
        pairs = pairs_of(row, file, python)
        if options.holdout:
            pairs = held_out(pairs["train"], options.holdout)
        return ours(row, model, pairs, training) | {"lr": lr, "batch": batch}

    return (f"{name}, {options.holdout} held out" if options.holdout else name), train_ours


def summary(row: Row, runs: Mapping[str, dict]) -> dict:
    """Mean and deviation over seeds of the runs with the protocol's epochs and batch, and ratios to theirs."""
    groups: dict[str, list[dict]] = {}
    for name, one in runs.items():
        if one["epochs"] == row.epochs and one.get("batch", row.batch) == row.batch:
            groups.setdefault(name.rsplit(", seed", 1)[0], []).append(one)
    mean = {name: statistics.mean(one["relative_l2"] for one in of) for name, of in groups.items()}
    theirs = {name: value for name, value in mean.items() if groups[name][0]["model"] in row.theirs}
    return {
        name: {
            "seeds": len(of),
            "parameters": of[0]["parameters"],
            "relative_l2": mean[name],
            "deviation": statistics.stdev(one["relative_l2"] for one in of) if len(of) > 1 else None,
            "seconds": statistics.mean(one["seconds"] for one in of),
            "ratio_to_printed": mean[name] / row.printed.relative_l2,
            "ratio_to_theirs_here": {other: mean[name] / value for other, value in theirs.items()},
        }
        for name, of in groups.items()
    }


def record(results: Results, row: Row, kind: str, name: str, found: dict) -> None:
    """Adds a run to the file."""

    def change(known: dict) -> None:
        known.setdefault(kind, {})[name] = found
        known["summary"] = summary(row, known.get("runs", {}))

    results.change(change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, required=True)
    parser.add_argument("--models", nargs="+", help="ours and theirs; default: mgno, fno and theirs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: those of the protocol")
    parser.add_argument("--batch", type=int, help="of ours; default: that of the protocol")
    parser.add_argument("--lr", type=float, help="peak rate of ours")
    parser.add_argument("--holdout", type=int, default=0, help="distinct training samples to choose settings by")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with opifex or pdequinox")
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parent / "data" / "others")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "others.json")
    given = parser.parse_args()
    timer.like_the_command_line()
    row, file, results = ROWS[given.row], given.data.resolve() / f"{given.row}.npz", Results(given.out, given.row)
    options = Options(given.epochs, given.lr, given.batch, given.holdout)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts = {
        "protocol": {"epochs": row.epochs, "batch": row.batch, "printed": dataclasses.asdict(row.printed)},
        "data": described(pairs_of(row, file, given.peer_python), file),
    }
    results.change(lambda known: known.update(facts))
    for seed in range(given.seeds):  # all networks once before any twice
        for model in given.models or ["mgno", "fno", *([] if options.holdout else row.theirs)]:
            if options.holdout and model in row.theirs:
                raise SystemExit(f"{model} has the recipe of its project, --holdout is for settings of ours.")
            name, make = run(row, model, seed, options, given.peer_python, file)
            kind = "tuning" if options.holdout else "runs"
            if name in results.row().get(kind, {}):
                continue
            about = {"model": model, "seed": seed, "epochs": options.epochs or row.epochs}
            found = about | make() | {"machine": timer.machine(cores)}
            print(
                given.row,
                name,
                {key: found[key] for key in ("relative_l2", "seconds", "epoch_cpu_seconds")},
                flush=True,
            )
            record(results, row, kind, name, found)


if __name__ == "__main__":
    main()
