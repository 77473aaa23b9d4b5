"""A bounded number of open HDF5 files."""

import collections
import contextlib
import dataclasses
import importlib
import pathlib
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

import h5py
import numpy as np

from sciml.files import open_hdf5

_MOST_FILES = 16
_MOST_ARRAYS = 1024  # data sets of a file that stay open
_Result = TypeVar("_Result")


@dataclasses.dataclass
class _Open:
    """A file, what closes it, and its data sets that were used."""

    file: h5py.File
    manager: contextlib.AbstractContextManager[h5py.File]
    arrays: dict[str, h5py.Dataset] = dataclasses.field(default_factory=dict)


_Opened = collections.OrderedDict[pathlib.Path, _Open]


class Files:
    """HDF5 files that are opened when they are needed; at most 16 stay open, those used last.

    They are closed when no array needs them any more. Several threads may read, one at a time.
    """

    def __init__(self) -> None:
        self._opened: _Opened = collections.OrderedDict()
        self._lock = threading.RLock()
        weakref.finalize(self, _close, self._opened, 0)

    def use(self, path: pathlib.Path, function: Callable[[h5py.File], _Result]) -> _Result:
        """What a function makes of an open file.

        Raises:
            ValueError: If it is no HDF5 file, or leads out of itself, see `files.open_hdf5`.
            Damaged: If HDF5 cannot read what the function asks for.
            OSError: If the file cannot be opened, or more is read than fits into memory.
        """
        return self._use(path, lambda one: function(one.file))

    def read(self, path: pathlib.Path, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Values of a data set at slices, one for each axis; raises as `use`."""

        def part(one: _Open) -> np.ndarray:
            if name not in one.arrays:
                if len(one.arrays) >= _MOST_ARRAYS:
                    one.arrays.clear()
                found = one.file[name]
                assert isinstance(found, h5py.Dataset)  # it was seen before
                one.arrays[name] = found
            return np.asarray(one.arrays[name][index])

        return self._use(path, part)

    def close(self) -> None:
        """Closes all files; those that are used again are opened again."""
        with self._lock:
            _close(self._opened, 0)

    def values(self, path: pathlib.Path, name: str) -> np.ndarray:
        """All values of a data set, for small ones; raises as `use`."""
        return self.read(path, name, ())

    def _use(self, path: pathlib.Path, function: Callable[[_Open], _Result]) -> _Result:
        with self._lock:
            if path not in self._opened:
                _close(self._opened, _MOST_FILES - 1)
                self._opened[path] = _open(path)
            self._opened.move_to_end(path)
            one = self._opened[path]
            try:
                return function(one)
            except Exception as error:
                del self._opened[path]
                one.manager.__exit__(type(error), error, error.__traceback__)  # raises it, or what it means
                raise


def _open(path: pathlib.Path) -> _Open:
    try:
        manager = open_hdf5(path)
        return _Open(manager.__enter__(), manager)
    except ValueError as error:
        if "hdf5plugin" not in str(error):
            raise
        try:
            importlib.import_module("hdf5plugin")  # registers its filters
        except ImportError:
            raise error from None
    manager = open_hdf5(path)
    return _Open(manager.__enter__(), manager)


def _close(opened: _Opened, most: int) -> None:
    """Closes the files used longest ago until `most` are left."""
    while len(opened) > most:
        _, one = opened.popitem(last=False)
        one.manager.__exit__(None, None, None)
