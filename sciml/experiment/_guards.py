"""What guards a run folder: who works in it, what a run was begun with, from where it goes on."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import msgspec

from sciml import cut, parallel, train
from sciml.experiment._definition import Experiment, held_out
from sciml.experiment._folder import as_numbers, provenance
from sciml.experiment._records import FORMAT, Run, Start, read_run, write_record
from sciml.files import Damaged, check_tree, digest_of, locked
from sciml.operators import members_of


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Holds the folder for this process, or all of several; a folder in which nothing was begun is removed again."""
    with contextlib.ExitStack() as stack:
        parallel.by_first(lambda: stack.enter_context(_held(folder)))
        yield


@contextlib.contextmanager
def _held(folder: pathlib.Path) -> Iterator[None]:
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    check_tree(folder)
    with locked(folder):
        try:
            yield
        finally:
            if made and {path.name for path in folder.iterdir()} <= {".lock"}:
                (folder / ".lock").unlink(missing_ok=True)
                folder.rmdir()


@contextlib.contextmanager
def with_remedy() -> Iterator[None]:
    """Adds to an error of a damaged checkpoint how the run goes on."""
    try:
        yield
    except Damaged as error:
        if error.good is None:
            raise
        there = f"Go on from there with --from {error.good} (start={error.good} in Python)"
        raise Damaged(f"{error} {there}; what is damaged is moved to set_aside/.", good=error.good) from None


@contextlib.contextmanager
def closed(checkpoints: train.Checkpoints) -> Iterator[None]:
    """Closes at the end, which waits for what is being written; not after an error of one of several processes."""
    try:
        yield
    except BaseException as error:
        if not parallel.several() or isinstance(error, SystemExit | FloatingPointError):  # these are errors of all
            checkpoints.close()
        raise
    checkpoints.close()


def go_back(folder: pathlib.Path, step: int, say: Callable[[str], None]) -> None:
    """Prepares a run to go on from a step: later and damaged checkpoints are moved aside; raises as `train.go_back`."""
    moved = train.go_back(folder / "checkpoints", step, folder / "set_aside")
    if moved:
        say(f"{folder} goes on from step {step}; the checkpoints {', '.join(map(str, moved))} are in set_aside/")


def begun(folder: pathlib.Path, known: Mapping[str, Any]) -> Run | None:
    """What the run was made from, None for a new one; refuses to go on with other training data or other numbers.

    The checkpoints of a run of version 0.1 get digests of their files as they are.
    """
    if not (folder / "run.json").exists():
        return None
    before = read_run(folder)
    different = [] if before.data is None else [name for name in known if before.data.get(name) != known[name]]
    if before.data is not None and different:
        name = different[0]
        raise ValueError(
            f"{folder} was started with other training data: {name} {before.data.get(name)}, now {known[name]}. "
            "Use another folder for these data."
        )
    check_precision(folder, before)
    if before.format == 1:
        train.add_digests(folder / "checkpoints")
    return before


def check_same_data(known: Mapping[str, Any]) -> None:
    """Refuses to train several processes on data that differ.

    Raises:
        ValueError: On a process whose training data are not those of process 0.
    """
    there = parallel.broadcast(dict(known))
    different = [name for name in known if there.get(name) != known[name]]
    if different:
        name = different[0]
        raise ValueError(
            f"Expected the training data of process 0, {name} {there.get(name)}, got {known[name]} on this process. "
            "Give all processes the same files and seeds."
        )


def check_precision(folder: pathlib.Path, before: Run) -> None:
    """Refuses to go on with a run, or to load it, with numbers of another length.

    Raises:
        ValueError: If 64-bit numbers were on and are off, or the other way round.
    """
    then, now = before.starts[-1].x64 if before.starts else None, jax.config.read("jax_enable_x64")
    if then is not None and then != now:
        raise ValueError(
            f"{folder} was made {'with' if then else 'without'} 64-bit numbers, now they are {'on' if now else 'off'}. "
            f"Set JAX_ENABLE_X64={int(then)}."
        )


def placement_of(experiment: Experiment, layout: parallel.Layout) -> parallel.Placement | None:
    """The layout on the devices of all processes; None if one device does all of the work.

    Raises:
        ValueError: If they do not fit, or devices of several processes would have no work.
    """
    alone = isinstance(experiment.parallel, parallel.Alone)
    if alone and layout == parallel.Layout():
        if parallel.several():
            processes = parallel.process_count()
            raise ValueError(
                f"One device computes the batches of this experiment (Alone), so that {processes} processes are no "
                "faster than one. Start it with one process, or give a layout such as --mesh data=2: XLA then shares "
                "each batch."
            )
        return None
    automatic = alone or isinstance(experiment.parallel, parallel.Automatic)
    grid = getattr(experiment.train, "grid", None)
    if layout.space and not automatic:
        cut.check_model(experiment.model)
    batch = experiment.batch // experiment.accumulate
    placement = layout.on(batch, () if grid is None else grid.shape)
    used, devices = placement.mesh.size, len(parallel.devices())
    if parallel.several() and used != devices:
        fitting = [size for size in (batch // devices * devices, (batch // devices + 1) * devices) if size]
        sizes = " or ".join(str(size * experiment.accumulate) for size in fitting)
        raise ValueError(
            f"{devices} devices of {parallel.process_count()} processes cannot share a batch of {experiment.batch} "
            f"samples equally. Use a batch of {sizes} samples, or fewer processes."
        )
    return dataclasses.replace(placement, automatic=automatic)


def note_start(
    folder: pathlib.Path,
    file: pathlib.Path | None,
    metric: str | None,
    known: dict[str, Any],
    before: Run | None,
    start: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Writes what the run, or its continuation, runs on, with the `step` and `layout` of `start`; earlier ones stay."""
    here = msgspec.convert({**start, **provenance(file)}, Start)
    starts = [] if before is None else before.starts
    then = starts[-1].device.count if starts else here.device.count
    if then != here.device.count:
        say(f"{folder} goes on with {here.device.count} devices, before with {then}: its result differs by rounding.")
    digest = None if file is None else digest_of(file)
    if before is not None and before.digest not in (None, digest):
        say(f"{file} has changed since {folder} was started")
    record = Run(
        experiment=None if file is None else str(file),
        digest=digest,
        metric=metric,
        data=known,
        starts=[*starts, here],
        format=FORMAT,
    )
    write_record(folder / "run.json", record)


def tested(experiment: Experiment, model: Any, data: Any, folder: pathlib.Path) -> dict[str, float]:
    """The errors of a trained model on test data; of an ensemble also the means of its members'.

    Raises as `finite`.
    """
    found, members = as_numbers(experiment.evaluate(model, data)), members_of(model)
    if len(members) > 1:
        each = [as_numbers(experiment.evaluate(member, data)) for member in members]
        found |= {f"member_{name}": math.fsum(one[name] for one in each) / len(each) for name in found}
    return finite(found, folder)


def finite(metrics: Mapping[str, Any], folder: pathlib.Path) -> dict[str, float]:
    """Metrics as numbers; raises FloatingPointError if one is not finite."""
    found = as_numbers(metrics)
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(
            f"The test error {wrong[0]} of {folder} is {found[wrong[0]]}. Check what `evaluate` does with such "
            "predictions; the trained model is kept, sciml.experiment.load(folder) returns it, and the same command "
            "tests it again."
        )
    return found


def baselines(experiment: Experiment) -> dict[str, dict[str, float]]:
    """The errors on the test data of predictions that need no model; without such none."""
    if experiment.baselines is None:
        return {}
    return {name: as_numbers(found) for name, found in experiment.baselines(held_out(experiment)).items()}
