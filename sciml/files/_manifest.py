"""SHA-256 digests of the files of a folder, in the form that `sha256sum --check` reads."""

import concurrent.futures
import hashlib
import os
import pathlib
import re
from collections.abc import Collection, Mapping

from sciml.files._plain import Damaged, shown, write_bytes

MANIFEST = "SHA256SUMS"
"""Name of the file of digests in its folder."""

_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\0-\x1f\x7f]*)")
_AT_ONCE = min(8, os.cpu_count() or 1)  # files; hashing leaves the interpreter to other threads


def digest_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: pathlib.Path, *, unlisted: Collection[str] = ()) -> None:
    """Writes the digests of all files of a folder, those of its folders included, into its `SHA256SUMS`.

    Args:
        folder: The folder.
        unlisted: Names of files that are left out.

    Raises:
        OSError: If a file cannot be read, or the digests cannot be written.
    """
    found = _digests(folder, _names(folder, unlisted))
    write_bytes(folder / MANIFEST, "".join(f"{found[name]}  {name}\n" for name in sorted(found)).encode())


def check_manifest(folder: pathlib.Path, below: str = "", *, unlisted: Collection[str] = ()) -> None:
    """Compares the files of a folder with its `SHA256SUMS`: all are there, no other, each with the same bytes.

    Args:
        folder: A folder that holds neither links nor devices.
        below: Compares the files of this inner folder alone, such as `metrics/`.
        unlisted: Names of files that have no digests.

    Raises:
        Damaged: If a file has changed, is missing or was not there before, or the digests cannot be read.
    """
    expected = {name: digest for name, digest in _read(folder / MANIFEST).items() if name.startswith(below)}
    there = [name for name in _names(folder, unlisted) if name.startswith(below)]
    for name in sorted({*expected} ^ {*there}):
        what = "is missing" if name in expected else f"is not among the files of {MANIFEST}"
        raise Damaged(f"{shown(folder / name)} {what}.")
    found = _digests(folder, there)
    for name, digest in expected.items():
        if found[name] != digest:
            raise Damaged(f"{shown(folder / name)} is damaged: its bytes differ from the digest in {MANIFEST}.")


def _names(folder: pathlib.Path, unlisted: Collection[str]) -> list[str]:
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [name for name in files if name != MANIFEST and name not in unlisted]


def _digests(folder: pathlib.Path, names: list[str]) -> Mapping[str, str]:
    largest_first = sorted(names, key=lambda name: (folder / name).stat().st_size, reverse=True)
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(largest_first, pool.map(lambda name: digest_of(folder / name), largest_first), strict=True))


def _read(path: pathlib.Path) -> dict[str, str]:
    try:
        *lines, rest = path.read_bytes().decode("ascii", errors="replace").split("\n")
    except FileNotFoundError:
        raise Damaged(f"{path} is missing, so that the files of {path.parent} cannot be compared.") from None
    found = [_LINE.fullmatch(line) for line in lines]
    if not lines or rest or None in found:
        raise Damaged(f"{path} is damaged: expected lines of a digest and the name of a file.")
    return {match[2]: match[1] for match in found if match is not None}
