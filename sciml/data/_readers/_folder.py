"""Folders of HDF5 files that are one data set: parts of The Well, or several files of equal contents."""

import hashlib
import pathlib
from collections.abc import Sequence

import h5py
import numpy as np

from sciml.data._layout import AbstractReader
from sciml.data._readers import _pairs, _pdebench, _well
from sciml.data._readers._contents import Contents, FileFormat, gathered
from sciml.data._readers._formats import Format, Hints, Probe, probe

_FILES: tuple[FileFormat, ...] = (*_pdebench.FILES, *_well.FILES, *_pairs.FILES)
_PARTS = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}
_PIECE, _PIECES = 4096, 1024  # bytes of a piece of a file, and their number, that are compared to find equal files


def _found(folder: pathlib.Path) -> list[tuple[pathlib.Path, str | None]]:
    """The HDF5 files of a folder, with the part that their folder is named after."""
    for root in (folder, folder / "data"):
        inner = [(root / name, part) for name, part in _PARTS.items() if (root / name).is_dir()]
        files: list[tuple[pathlib.Path, str | None]] = [(path, part) for place, part in inner for path in _files(place)]
        if files:
            return files
    return [(path, None) for path in _files(folder)]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and h5py.is_hdf5(path)]


def _recognise(given: Probe) -> str | None:
    if given.kind != "folder" or not (found := _found(given.path)):
        return None
    return _evidence(probe(found[0][0], given.files), len(found))


def _evidence(first: Probe, count: int) -> str | None:
    fitting = _fitting(first)
    return None if fitting is None else f"{count} HDF5 files, the first with {fitting.recognise(first)}"


def _fitting(found: Probe) -> FileFormat | None:
    """The format of a file, if it is one of those whose files can be joined."""
    fitting = [one for one in _FILES if one.recognise(found) is not None]
    return fitting[0] if len(fitting) == 1 else None


def _open(given: Probe, hints: Hints) -> AbstractReader:
    found, notes = _without_copies(_found(given.path))
    parts, names, evidence = [], set(), ""
    for path, part in found:
        seen = probe(path, given.files)
        evidence = evidence or _evidence(seen, len(found)) or ""
        fitting = _fitting(seen)
        if fitting is None or (names and fitting.name not in names):
            what = "another format" if fitting is None else fitting.name
            raise ValueError(
                f"{path}: expected {', '.join(names) or 'a known format'} as in the other files of {given.path}, got "
                f"{what}. Move it into a folder of its own."
            )
        names.add(fitting.name)
        parts.append(_in_part(fitting.read(seen), part))
    return gathered(min(names), evidence, parts, notes)


def _in_part(contents: Contents, part: str | None) -> Contents:
    if part is None:
        return contents
    return Contents(**{**vars(contents), "splits": {part: np.arange(contents.samples)}})


def _without_copies(
    found: Sequence[tuple[pathlib.Path, str | None]],
) -> tuple[list[tuple[pathlib.Path, str | None]], list[str]]:
    """The files without later copies of others, and a note on these.

    Files are compared by their sizes and by the digest of pieces of them; files of up to 4 MiB as a whole.
    """
    first: dict[tuple[int, str], pathlib.Path] = {}
    sizes = [path.stat().st_size for path, _ in found]
    kept, notes = [], []
    for (path, part), size in zip(found, sizes, strict=True):
        key = (size, _digest(path, size) if sizes.count(size) > 1 else "")
        if key[1] and key in first:
            notes.append(f"{_shown(path)} is a copy of {_shown(first[key])} and left out.")
            continue
        first[key] = path
        kept.append((path, part))
    return kept, notes


def _shown(path: pathlib.Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _digest(path: pathlib.Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for place in np.linspace(0, max(0, size - _PIECE), min(_PIECES, -(-size // _PIECE)), dtype=np.int64):
            file.seek(int(place))
            digest.update(file.read(_PIECE))
    return digest.hexdigest()


FORMAT = Format("folder of HDF5 files", _recognise, _open, labelled=True)
"""The format of this file."""
