"""What is fuzzed: which original, how it is changed, how it is read, and what may come out."""

import contextlib
import dataclasses
import functools
import io
import json
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from fuzz import attacks, inputs, mutations
from rich.console import Console

from sciml import cli, data, experiment, symbolic, systems, train
from sciml.tasks._files import read_trajectory as read_trajectory_file

Parts = dict[str, Any]


class Silent(Exception):
    """A result that is not what was written."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of case.

    Attributes:
        original: Name of the folder of the world that is copied; None without files.
        change: `(rng, folder, world) -> what was done, or the input itself`.
        read: `(folder, world, input) -> parts of the result`.
        share: Its part of all cases.
        strict: Whether a result must be that of the original.
        writes: Whether reading may change the folder.
        executes: Whether the experiment file of the run may be executed.
        calls: Names of programs that may be started.
        names: Whether an error must name the folder or a file of it.
        subset: Parts that may lack items, if a warning says so.
        hangs: Whether HDF5 may take very long, as over damaged texts of variable length in files whose digest does not
            prevent it; docs/security.md says so.
    """

    original: str | None
    change: Callable[..., Any]
    read: Callable[..., Parts]
    share: int = 100
    strict: bool = True
    writes: bool = False
    executes: bool = False
    calls: tuple[str, ...] = ()
    names: bool = True
    subset: tuple[str, ...] = ()
    hangs: bool = False


def weights(model):
    """The arrays of a model in order."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


@functools.cache
def module_of(path):
    """The experiment file of the runs, imported once."""
    return experiment.load_file(path)


def read_model(folder, world, _):
    """The weights of a run."""
    return {"weights": weights(experiment.load(folder / "run"))}


def read_run(folder, world, _):
    """All that is read from a finished run."""
    run = folder / "run"
    found = read_model(folder, world, _)
    found["metrics"] = json.dumps(experiment.read_metrics(run).as_json())
    return found | _read_records(run, world)


def read_unfinished(folder, world, _):
    """All that is read from a run that is not finished."""
    return read_model(folder, world, _) | _read_records(folder / "run", world)


def _read_records(run, world):
    return {
        "run": json.dumps(experiment.read_run(run).as_json()),
        "config": repr(experiment.read_config(run, module_of(world.experiment))),
        "log": [json.dumps(record) for record in train.read_log(run / "log.jsonl")],
    }


def go_on(folder, world, _):
    """The end of an unfinished run that goes on."""
    module = module_of(world.experiment)
    with contextlib.redirect_stdout(io.StringIO()):
        done = experiment.run_file(module, module.Config(), folder / "run", console=Console(file=io.StringIO()))
    return {"weights": weights(experiment.load(folder / "run")), "test": json.dumps(done["test"])}


def call_model(folder, world, _):
    """A model that was tampered with, called: what it computes is its author's affair, but nothing else happens."""
    model = experiment.load(folder / "run")
    found = {"weights": [one for one in weights(model) if one.size < 10_000]}
    with contextlib.suppress(Exception):
        found["called"] = np.asarray(model(np.ones(1, np.float32)))
    with contextlib.suppress(Exception):
        found["repr"] = repr(model)[:100_000]
    return found


def use_run(folder, world, _):
    """What executes the experiment file of a run: evaluation, comparison and prediction."""
    run, found = folder / "run", {}
    with contextlib.redirect_stdout(io.StringIO()):
        for name, call in (
            ("evaluate", lambda: experiment.evaluate(run)),
            ("compare", lambda: experiment.compare([run], folder / "out", console=Console(file=io.StringIO()))),
            ("predict", lambda: experiment.prediction(run)),
        ):
            try:
                call()
            except (OSError, ValueError) as error:
                found[name] = error
    if len(found) == 3:
        raise found["evaluate"]
    return {name: str(error) for name, error in found.items()}


def read_pairs(folder, world, _):
    """The pairs of an HDF5 file."""
    found = data.read(folder / "a.h5")
    described = (found.grid, found.inputs, found.outputs, found.attributes)
    return {"x": np.asarray(found.x), "y": np.asarray(found.y), "described": repr(described)}


def read_shards(folder, world, _):
    """The trajectories of a set of HDF5 files."""
    parts = systems.read_trajectories(folder / "set")
    arrays = {f"{name} {i}": np.array(getattr(part, name)) for i, part in enumerate(parts) for name in _ARRAYS}
    return arrays | {"described": repr([(part.equations, part.families, part.attributes) for part in parts])}


_WORDS = symbolic.ode_vocabulary(3)
_ARRAYS = ("times", "states", "tried")


def read_npz(folder, world, _):
    """The pairs of an .npz file."""
    found = data.read_npz(folder / "a.npz")
    return {"x": np.asarray(found.x), "y": np.asarray(found.y)}


def read_trajectory(folder, world, _):
    """The trajectory of an .npz file."""
    times, states = read_trajectory_file(folder / "a.npz")
    return {"t": times, "u": states}


def read_table(folder, world, _):
    """The trajectory of a CSV file, which is what other code reads from it."""
    found = read_trajectory_file(folder / "a.csv")
    try:
        expected = inputs.read_table(folder / "a.csv")
    except Exception as error:
        raise Silent(f"read what other code refuses: {error!r}") from None
    if not all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True)):
        raise Silent("other numbers than those of other code")
    return {"t": found[0], "u": found[1]}


def _nodes(system):
    """All nodes in prefix order: `==` would compare deep trees by recursion."""
    return [[(type(node), node.head) for node in symbolic.walk(tree)] for tree in system]


def read_text(folder, world, text):
    """A system from a text: written and read again it is the same."""
    found = symbolic.system_from_text(text)
    if _nodes(symbolic.system_from_text(symbolic.system_to_text(found))) != _nodes(found):
        raise Silent("another system after it was written and read again")
    return {"text": symbolic.system_to_text(found)}


def read_tokens(folder, world, tokens):
    """A system from tokens: written and read again it is the same."""
    symbolic.system_from_tokens_as_published(tokens, _WORDS)
    found = symbolic.system_from_tokens(tokens)
    again = symbolic.system_to_tokens(found)
    if _nodes(symbolic.system_from_tokens(again)) != _nodes(found):
        raise Silent("another system after it was written and read again")
    return {"tokens": " ".join(again)}


def run_command(folder, world, arguments):
    """A command line: it ends with 0, 1 or 2, and says why in one line."""
    said, shown = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = error.code
    said, shown = said.getvalue(), shown.getvalue()
    if code not in (0, 1, 2) or "Traceback" in said + shown:
        raise AssertionError(f"code {code}: {said[-500:]}")
    lines = [line for line in said.splitlines() if line.startswith("sciml: ")]
    if code == 1 and not lines:
        raise AssertionError(f"code 1 without a line that begins with sciml: {said[-500:]}")
    return {"said": said, "shown": shown}


def part(name, change=mutations.change_file):
    """Changes one file of a run, in bytes or, if it is JSON, in its content."""

    def apply(rng, folder, world):
        path = folder / "run" / name
        if path.suffix == ".json" and rng.random() < 0.5:
            return mutations.change_json(rng, path)
        return change(rng, path)

    return apply


def checkpoint_files(rng, folder, world):
    """The files of the checkpoint that is loaded, or now and then of all."""
    checkpoints = folder / "run" / "checkpoints"
    loaded = checkpoints / str(experiment.read_metrics(world["finished"] / "run").checkpoint)
    return mutations.files_of(loaded if rng.random() < 0.9 else checkpoints)


def array_files(folder):
    """The files that hold the arrays of the model that is loaded."""
    step = experiment.read_metrics(folder / "run").checkpoint
    below = folder / "run" / "checkpoints" / str(step) / "model"
    return [path for path in mutations.files_of(below) if path.parent.name == "d"]


def in_checkpoint(rng, folder, world):
    path = rng.choice(checkpoint_files(rng, folder, world))
    where = path.relative_to(folder / "run")
    return f"{where.parent}/{mutations.change_file(rng, path)}"


def in_arrays(rng, folder, world):
    files = array_files(folder)
    (path,) = rng.choices(files, [path.stat().st_size for path in files])  # all bits are equally likely
    return mutations.change_file(rng, path, (mutations.flip_bit,))


def in_log(rng, folder, world):
    path = folder / "run" / "log.jsonl"
    if rng.random() < 0.6:
        return mutations.change_file(rng, path)
    lines = path.read_bytes().splitlines(keepends=True)
    node, what = mutations.changed_json(rng, json.loads(lines[i := rng.randrange(len(lines))]))
    lines[i] = json.dumps(node).encode(errors="replace") + b"\n"
    path.write_bytes(b"".join(lines))
    return f"log.jsonl line {i}: {what}"


def in_tree(rng, folder, world):
    return mutations.change_tree(rng, folder / "run", world.outside)


def in_old_run(rng, folder, world):
    path = rng.choice(mutations.files_of(folder))
    return f"{path.parent.name}/{mutations.change_file(rng, path)}"


def in_run(rng, folder, world):
    return rng.choice((in_checkpoint, in_checkpoint, in_tree, part("run.json"), part("config.json"), in_log))(
        rng, folder, world
    )


def of_run(attack):
    """An attack on the run of a folder."""
    return lambda rng, folder, world: attack(rng, folder / "run", world)


def bytes_of(pattern):
    """Changes the bytes of one of the files, or the files themselves."""

    def apply(rng, folder, world):
        if rng.random() < 0.1:
            several = len(list(folder.glob(pattern))) > 1
            kinds = (*mutations.WITHOUT_LINKS, *(("swapped", "copied") if several else ()))
            return mutations.change_tree(rng, folder, world.outside, kinds)
        return mutations.change_file(rng, rng.choice(sorted(folder.glob(pattern))))

    return apply


def attack_on(pattern, change):
    """Changes one of the files by a function of the file."""
    return lambda rng, folder, world: change(rng, rng.choice(sorted(folder.glob(pattern))), world)


def signed(rng, path, world):
    return attacks.signed_bytes(rng, path)


_READ_RUN = {"original": "finished", "read": read_run, "subset": ("log",)}
KINDS = {
    "bit flips in arrays": Kind("finished", in_arrays, read_model, share=0),
    "checkpoint": Kind(change=in_checkpoint, share=1200, **_READ_RUN),
    "run.json": Kind(change=part("run.json"), share=500, **_READ_RUN),
    "model.json": Kind(change=part("model.json"), share=500, **_READ_RUN),
    "config.json": Kind(change=part("config.json"), share=500, **_READ_RUN),
    "metrics.json": Kind(change=part("metrics.json"), share=500, **_READ_RUN),
    "log.jsonl": Kind(change=in_log, share=500, **_READ_RUN),
    "files of a run": Kind(change=in_tree, share=500, **_READ_RUN),
    "checkpoints swapped": Kind(change=of_run(attacks.swapped_folders), share=10, **_READ_RUN),
    "unfinished run": Kind("unfinished", in_run, read_unfinished, share=500, subset=("log",)),
    "run that goes on": Kind("unfinished", in_run, go_on, share=60, writes=True, calls=("git",)),
    "signed JSON": Kind("finished", of_run(attacks.signed_part), call_model, share=500, strict=False),
    "signed checkpoint": Kind("finished", of_run(attacks.signed_checkpoint), call_model, share=400, strict=False),
    "names in model.json": Kind("finished", of_run(attacks.named_model), call_model, share=600, strict=False),
    "code in run.json": Kind("finished", of_run(attacks.named_code), use_run, share=200, strict=False, writes=True),
    "pairs": Kind("pairs", bytes_of("*.h5"), read_pairs, share=600),
    "pairs, signed": Kind("pairs", attack_on("*.h5", signed), read_pairs, share=300, strict=False, hangs=True),
    "pairs, objects": Kind("pairs", attack_on("*.h5", attacks.changed_hdf5), read_pairs, share=300, strict=False),
    "shards": Kind("shards", bytes_of("set/*.h5"), read_shards, share=500),
    "shards, signed": Kind("shards", attack_on("set/*.h5", signed), read_shards, share=300, strict=False, hangs=True),
    "shards, objects": Kind(
        "shards", attack_on("set/*.h5", attacks.changed_hdf5), read_shards, share=300, strict=False
    ),
    "pairs of 0.1": Kind("old_pairs", bytes_of("*.h5"), read_pairs, strict=False, hangs=True),
    "pairs of 0.1, objects": Kind(
        "old_pairs", attack_on("*.h5", attacks.changed_hdf5), read_pairs, share=200, strict=False
    ),
    "shards of 0.1": Kind("old_shards", bytes_of("set/*.h5"), read_shards, strict=False, hangs=True),
    "run of 0.1": Kind("old_run", in_old_run, call_model, share=200, strict=False),
    "npz": Kind("npz", bytes_of("*.npz"), read_npz, share=400),
    "npz, packed": Kind("packed", bytes_of("*.npz"), read_npz, share=300),
    "npz, members": Kind("npz", attack_on("*.npz", attacks.changed_npz), read_npz, share=200, strict=False),
    "npz of a trajectory": Kind("trajectory", bytes_of("*.npz"), read_trajectory, share=300),
    "CSV": Kind(
        "csv",
        attack_on("*.csv", lambda rng, path, _: inputs.changed_table(rng, path)),
        read_table,
        strict=False,
        share=400,
    ),
    "CSV without names": Kind(
        "csv_plain", attack_on("*.csv", lambda rng, path, _: inputs.changed_table(rng, path)), read_table, strict=False
    ),
    "texts": Kind(None, lambda rng, *_: inputs.changed_text(rng), read_text, share=800, strict=False, names=False),
    "tokens": Kind(None, lambda rng, *_: inputs.changed_tokens(rng), read_tokens, share=400, strict=False, names=False),
    "command lines": Kind(
        "finished",
        lambda rng, folder, world: inputs.command_line(rng, world.experiment),
        run_command,
        share=300,
        strict=False,
        writes=True,
        executes=True,
        calls=("git",),
        names=False,
    ),
}
"""Name -> kind of cases."""
