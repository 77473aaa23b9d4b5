"""Sets of trajectories that do not fit into memory: HDF5 files of some systems each, made one by one, read by rows."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import h5py
import msgspec
import numpy as np

from sciml import parallel
from sciml.files import (
    Damaged,
    as_kind,
    check_digest,
    hdf5_array,
    hdf5_attribute,
    hdf5_json,
    open_hdf5,
    write_hdf5,
)
from sciml.systems._draws import AbstractSystems, Trajectories, draw_trajectories

_FORMAT = "sciml trajectories"
_VERSION, _VERSION_WITHOUT_DIGEST = 2, 1
_AGAIN = "Remove it and run the same sciml.systems.generate_trajectories again, which keeps the other files."


def generate_trajectories(
    source: AbstractSystems,
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    per_shard: int = 600,
    only: Iterable[int] | None = None,
    lanes: int = 256,
    progress: Callable[[int, int], None] = lambda done, shards: None,
) -> None:
    """Writes the systems 0 to `count - 1`, those of `draw_trajectories`, as HDF5 files of `per_shard` systems each.

    Each file appears complete or not at all. Complete files of the same set are kept, so that an interrupted call
    is repeated to go on. Processes that have joined share the work as in `draw_trajectories`, and process 0 writes.
    Memory is needed for one file, 4 bytes for each number of its states, a few times. A training set of the published
    size is `generate_trajectories(Mixture(), folder, count=25_600, seed=0)`, 512,000 trajectories in 2 GB.

    Args:
        source: What to draw from: a `Mixture`, `RandomSystems`, `PdeMixture` or `FluidMixture`.
        folder: Where the files are; made if it is missing.
        count: Number of systems, `source.count` trajectories of each.
        seed: Number that selects the systems.
        per_shard: Number of systems in a file.
        only: Numbers of the files that this call makes, for several processes that have not joined; all by default.
        lanes: Number of trajectories that are solved at once.
        progress: Called with the number of finished files and their total, first with those that were kept.

    Raises:
        ValueError: If a number is out of range, or the folder holds another set.
        OSError: If a file of the folder is damaged, or one cannot be written.
        RuntimeError: If no constants of a system give enough good solutions.
    """
    if count < 1 or per_shard < 1 or seed < 0:
        raise ValueError(
            "Expected count >= 1, per_shard >= 1 and seed >= 0, "
            f"got count {count}, per_shard {per_shard} and seed {seed}."
        )
    folder = pathlib.Path(folder)
    shards = -(-count // per_shard)
    wanted = {**source.attributes(seed), "count": count, "per_shard": per_shard}
    chosen = sorted(range(shards) if only is None else set(only))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < shards:
        raise ValueError(f"The set has the files 0 to {shards - 1}, got only {chosen}.")
    missing = lambda: [shard for shard in chosen if not _kept(_path(folder, shard, shards), wanted)]
    waiting = parallel.by_first(missing)
    done = len(chosen) - len(waiting)
    progress(done, len(chosen))
    for shard in waiting:
        numbers = range(shard * per_shard, min(count, (shard + 1) * per_shard))
        part = draw_trajectories(source, numbers, seed=seed, lanes=lanes)
        parallel.by_first(functools.partial(_write, _path(folder, shard, shards), part, wanted))
        done += 1
        progress(done, len(chosen))


def read_trajectories(folder: str | os.PathLike[str]) -> tuple[Trajectories, ...]:
    """The files of `generate_trajectories`, with states that are mapped into memory: rows are read when they are used.

    Every byte is read once, to compare the digest of each file before HDF5 opens it. Files of earlier versions have a
    checksum of their states alone.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        OSError: If a file is truncated or damaged.
        ValueError: If a file is not one of `generate_trajectories`, or if the files are of several sets.
    """
    folder = pathlib.Path(folder)
    paths = sorted(folder.glob("*-of-*.h5"))
    if not paths:
        raise FileNotFoundError(f"No trajectories in {folder}. Make them with sciml.systems.generate_trajectories.")
    parts = [_read(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        _check_set(path, part.attributes, parts[0].attributes)
    shards = -(-parts[0].attributes["count"] // parts[0].attributes["per_shard"])
    missing = [shard for shard in range(shards) if _path(folder, shard, shards) not in paths]
    if missing or len(paths) != shards:
        raise FileNotFoundError(
            f"Expected {shards} files of one set in {folder}, got {len(paths)}, {missing} missing. Run the same "
            "sciml.systems.generate_trajectories again, which makes what is missing."
        )
    return tuple(parts)


def stored_trajectories(
    source: AbstractSystems,
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    per_shard: int = 600,
    lanes: int = 256,
) -> tuple[Trajectories, ...]:
    """The set of these numbers in a folder of many sets, generated unless an earlier call has.

    The set's own folder is named after `count`, `seed` and a digest of the settings of the source; other arguments are
    those of `generate_trajectories`.

    Raises:
        ValueError: As `generate_trajectories` and `read_trajectories`.
        OSError: As these.
        RuntimeError: As these.
    """
    settings = json.dumps(dataclasses.asdict(source), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    own = pathlib.Path(folder) / f"prose-{digest}-n{count}-seed{seed}"
    generate_trajectories(source, own, count=count, seed=seed, per_shard=per_shard, lanes=lanes)
    return read_trajectories(own)


def _path(folder: pathlib.Path, shard: int, shards: int) -> pathlib.Path:
    return folder / f"{shard:05d}-of-{shards:05d}.h5"


def _kept(path: pathlib.Path, wanted: dict[str, Any]) -> bool:
    """Whether a file is there; complains if it is damaged or of another set."""
    if path.exists():
        _check_set(path, _read(path).attributes, wanted)
        return True
    return False


def _check_set(path: pathlib.Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in ("generator", "settings", "seed", "count", "per_shard"):
        if json.dumps(found.get(name), sort_keys=True) != json.dumps(wanted[name], sort_keys=True):
            raise ValueError(
                f"Expected {name} {wanted[name]!s:.500} in {path}, got {found.get(name)!s:.500}. Use another "
                "folder, or remove the files of the other set."
            )


def _write(path: pathlib.Path, part: Trajectories, attributes: dict[str, Any]) -> None:
    states = np.ascontiguousarray(part.states, "<f4")
    with write_hdf5(path, overwrite=True) as file:
        file.attrs.update({"format": _FORMAT, "version": _VERSION, "attributes": json.dumps(attributes)})
        file.attrs["file"] = path.name  # the place in the set
        # One block without compression, which can be mapped into memory: rows are read at random, and the digits of
        # chaotic solutions would hardly shrink.
        stored = file.create_dataset("states", data=states)
        for axis, label in enumerate(("system", "start", "time", "state", *"xyz")[: states.ndim]):
            stored.dims[axis].label = label
        file.create_dataset("times", data=part.times)
        file.create_dataset("tried", data=part.tried)
        for name, words in (("equations", part.equations), ("families", part.families)):
            file.create_dataset(name, data=np.array(words, "S"))


def _read(path: pathlib.Path) -> Trajectories:
    version = _VERSION if check_digest(path, remedy=_AGAIN) else _VERSION_WITHOUT_DIGEST
    with open_hdf5(path, remedy=_AGAIN) as file:
        try:
            return _contents(path, file, version)
        except ValueError as error:
            name = "sciml.systems.generate_trajectories"
            raise ValueError(f"{path} is not a file of {name}: {error} {_AGAIN}") from error


class _Attributes(msgspec.Struct):
    """What `_check_set` compares."""

    generator: str
    settings: dict[str, Any]
    seed: Annotated[int, msgspec.Meta(ge=0)]
    count: Annotated[int, msgspec.Meta(ge=1)]
    per_shard: Annotated[int, msgspec.Meta(ge=1)]


def _contents(path: pathlib.Path, file: h5py.File, version: int) -> Trajectories:
    form, number = (str(file.attrs.get(name)) for name in ("format", "version"))
    if (form, number) != (_FORMAT, str(version)):
        kind = "with" if version == _VERSION else "without"
        raise ValueError(
            f"expected format {_FORMAT!r} in version {version}, as of a file {kind} a digest, got {form[:80]!r} in "
            f"version {number[:80]}."
        )
    if "file" in file.attrs and (name := hdf5_attribute(file, "file", str)) != path.name:
        raise ValueError(f"expected the file of this name, got {name[:80]!r}.")
    attributes = hdf5_json(file, "attributes", dict[str, Any])
    as_kind(attributes, _Attributes, "the attribute attributes")
    states = _mapped(path, file)
    if version == _VERSION_WITHOUT_DIGEST:
        checksum = 0
        for one in states:
            checksum = zlib.crc32(one, checksum)
        if checksum != hdf5_attribute(file, "crc32", int):
            raise Damaged(f"{path} is truncated or damaged (the states differ from their checksum).")
    systems, _, times, *_ = states.shape
    words = lambda name: tuple(word.decode() for word in hdf5_array(file, name, "S", (systems,))[:])
    return Trajectories(
        hdf5_array(file, "times", "f", (times,))[:],
        states,
        equations=words("equations"),
        families=words("families"),
        tried=hdf5_array(file, "tried", "iu", (systems,))[:],
        attributes=attributes,
    )


def _mapped(path: pathlib.Path, file: h5py.File) -> np.memmap:
    """The states where they are in the file."""
    stored = hdf5_array(file, "states", "f", (None, None, None, None, ...))
    block = stored.chunks is None and stored.id.get_offset() is not None
    if stored.dtype != np.dtype("<f4") or stored.ndim > 7 or stored.size == 0 or not block:
        raise ValueError(
            f"expected states of the type float32 with 4 to 7 axes in one block, got {stored.dtype} of shape "
            f"{stored.shape} in {'one block' if block else 'chunks'}."
        )
    return np.memmap(path, stored.dtype, "r", stored.id.get_offset(), stored.shape)
