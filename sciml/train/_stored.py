"""Checkpoints on disk, read only as long as their files are those that were written."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from sciml.files import Damaged, as_kind, check_manifest, decode_json

UNLISTED = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files of a checkpoint that orbax writes last and that nothing is read from: they have no digests."""
STEP = "STEP"
"""File of a checkpoint that holds its number of steps: a folder under another number is not taken for that one."""


def stored_steps(folder: pathlib.Path) -> list[int]:
    """Numbers of steps of the complete checkpoints in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.name == f"{int(path.name)}"
    )


class Stored:
    """One checkpoint.

    Args:
        folder: That of all checkpoints.
        step: Its number of steps.
        digests: Whether it has digests; those of version 0.1 have none.
    """

    def __init__(self, folder: pathlib.Path, step: int, *, digests: bool = True):
        self.step, self.path = step, folder / str(step)
        self._digests = digests

    def check(self, below: str = "") -> None:
        """Compares all files, or those of one inner folder, with their digests.

        Raises:
            Damaged: If a file differs from its digest, is missing, or is not one of the checkpoint, or if it is that
                of another step.
        """
        if self._digests:
            check_manifest(self.path, below, unlisted=UNLISTED)
            number = self.path / STEP
            if number.is_file() and number.read_bytes() != f"{self.step}\n".encode():
                raise Damaged(f"{self.path} is the checkpoint of another step, see {number}.")

    def intact(self) -> bool:
        """Whether all files are those that were written."""
        try:
            self.check()
            self.metrics()
        except (OSError, ValueError):
            return False
        return True

    def metrics(self) -> dict[str, float]:
        """The metrics that were saved with it.

        Raises:
            Damaged: If they have changed since.
        """
        self.check("metrics/")
        path = self.path / "metrics" / "metrics"
        if not path.is_file():
            return {}
        content = decode_json(path.read_bytes(), str(path))
        return {} if content is None else as_kind(content, dict[str, float], str(path))

    def shapes(self, item: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of the arrays of an item by their paths; none if it has no such item.

        Raises:
            Damaged: If they cannot be read.
        """
        if not (self.path / item).exists():
            return {}
        with self._readable(item):
            saved = ocp.StandardCheckpointHandler().metadata(epath.Path(self.path / item)).tree
            return {name: jax.ShapeDtypeStruct(tuple(array.shape), array.dtype) for name, array in saved.items()}

    def read(self, item: str, expected: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of an item by their paths.

        Args:
            item: Its name; without such an item there are no arrays.
            expected: Shape, type and placement of each array.

        Raises:
            Damaged: If they cannot be read.
        """
        wanted = {name: expected[name] for name in self.shapes(item)}
        if not wanted:
            return {}
        with self._readable(item):
            handler = ocp.StandardCheckpointHandler()
            return handler.restore(epath.Path(self.path / item), args=ocp.args.StandardRestore(wanted))

    @contextlib.contextmanager
    def _readable(self, item: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise Damaged(f"{self.path / item} cannot be read ({reason:.200}).") from None
