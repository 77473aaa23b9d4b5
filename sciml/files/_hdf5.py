"""HDF5 files: written atomically with a digest, and opened by one function that refuses whatever leads out of them."""

import concurrent.futures
import contextlib
import hashlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any, TypeVar

import h5py
import numpy as np

from sciml.files._hdf5_objects import check_objects
from sciml.files._json import as_kind, decode_json
from sciml.files._plain import Damaged, replacing

_BLOCK = 512  # bytes of the user block, the least that HDF5 allows
_NAME = b"sciml HDF5, "
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REMEDY = "Copy or download it again."
_Value = TypeVar("_Value", int, float, str)


@contextlib.contextmanager
def write_hdf5(path: pathlib.Path, *, overwrite: bool) -> Iterator[h5py.File]:
    """A new HDF5 file that appears complete when the block ends without an error, and not at all otherwise.

    It is written under another name in its folder, flushed to the disk and renamed. `file.flush()` writes what is
    there so far, and raises OSError if that fails. The first 512 bytes, HDF5's user block, hold the SHA-256 of the
    others for `check_digest`, which is the same as that of `tail -c +513 FILE | sha256sum`; other programs skip them.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists and is kept. Choose another name, or ask for it to be overwritten.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as raw:
        target = _Target(raw)
        with h5py.File(target, "w", userblock_size=_BLOCK) as file:
            try:
                yield file
            finally:
                target.closing = True
        target.check()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            flushed = pool.submit(os.fsync, raw.fileno())  # the disk and the digest take about as long
            raw.seek(_BLOCK)
            block = _block(hashlib.file_digest(raw, "sha256").hexdigest())
            flushed.result()
        raw.seek(0)
        target.write(block)
        target.check()


def _block(digest: str) -> bytes:
    return (_NAME + f"SHA-256 of the bytes from {_BLOCK} on: {digest}\n".encode()).ljust(_BLOCK, b"\0")


class _Target:
    """The file that HDF5 writes to: it keeps the error of a write for the next `flush` instead of raising it.

    HDF5 can neither close a file nor free its memory after a write has failed, such as on a full disk. So writes after
    the failed one are dropped silently, and `flush` raises the error unless the file is being closed.

    Attributes:
        closing: Whether `flush` is called by HDF5 on closing the file.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self.closing = False
        self.seek, self.tell, self.read, self.readinto = raw.seek, raw.tell, raw.read, raw.readinto

    def check(self) -> None:
        """Raises the error of the first write that failed."""
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Raises as `check`, unless the file is being closed."""
        if not self.closing:
            self.check()

    def truncate(self, size: int) -> int:
        """Sets the size of the file."""
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size

    def write(self, data: Any) -> int:
        """Writes all bytes, or drops them after a failure."""
        view = memoryview(data).cast("B")
        while self._error is None and len(view):
            try:
                view = view[self._raw.write(view) :]
            except OSError as error:
                self._error = error
        return len(data)


def check_digest(path: pathlib.Path, *, remedy: str = _REMEDY) -> bool:
    """Compares the bytes of a file of `write_hdf5` with its digest, before HDF5 sees any of them.

    Args:
        path: The file.
        remedy: The sentence that ends the error of a damaged file.

    Returns:
        Whether the file has a digest. Those that were written before there were digests, and files of other programs,
        have none: a format whose files all have one must refuse them.

    Raises:
        FileNotFoundError: If it is missing.
        Damaged: If one bit of the file differs from what was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    with path.open("rb") as file:
        block = file.read(_BLOCK)
        inner = file.read(len(_SIGNATURE))
        named, ours = block.startswith(_NAME), block.startswith(_NAME) or inner == _SIGNATURE
        if block.startswith(_SIGNATURE) or not ours:
            return False
        file.seek(_BLOCK)
        if not named or block != _block(hashlib.file_digest(file, "sha256").hexdigest()):
            what = "its bytes differ from its digest" if named else "it begins with neither HDF5 nor a digest"
            raise Damaged(f"{path} is truncated or damaged ({what}). {remedy}")
    return True


@contextlib.contextmanager
def open_hdf5(path: pathlib.Path, *, remedy: str = _REMEDY) -> Iterator[h5py.File]:
    """An HDF5 file of anybody, for reading: what it gives are bytes of the file itself, all of which were written.

    All objects are looked at before the block begins, see the errors; data are not read. A file that declares far more
    than it holds is refused, unless its data went through a filter other than gzip, lzf, shuffle or fletcher32, whose
    chunks may unpack to 1 GiB each. What HDF5 fails to read in the block is `Damaged` as well. HDF5 itself takes
    gigabytes or very long over some damaged texts of variable length, which `check_digest` alone prevents.

    Args:
        path: The file.
        remedy: The sentence that ends the error of a damaged file.

    Raises:
        FileNotFoundError: If it is missing.
        Damaged: If it is cut off, or HDF5 cannot read it; if a data set or a chunk was never written, so that a fill
            value would stand in, is shorter than declared, or exceeds the file.
        ValueError: If it is no HDF5 file; if it holds soft, external or user-defined links, external storage, virtual
            data sets, sequences of variable length, or filters that are not there. No plugin is loaded to find out.
        OSError: If it cannot be opened, or more is read than fits into memory.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    with path.open("rb"):
        pass  # raises why it cannot be read, where h5py would call it no HDF5 file
    try:
        if not h5py.is_hdf5(path):
            size = path.stat().st_size
            raise ValueError(f"Expected {path} to be an HDF5 file, got {size} bytes of another kind. {remedy}")
        with h5py.File(path, "r") as file:
            try:
                check_objects(file, path)
            except ValueError as error:  # h5py's own messages do not begin with the file
                if not str(error).startswith(f"{path}: "):
                    raise OSError(str(error)) from error
                raise
            yield file
    except MemoryError as error:
        raise OSError(f"{path} holds more than fits into memory. Read it in parts.") from error
    except Damaged as error:
        raise Damaged(f"{error} {remedy}") from None
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises all three for damaged files
        reason = " ".join(str(error.args[0] if error.args else error).split())
        if type(error) not in (OSError, RuntimeError, KeyError) or (isinstance(error, OSError) and error.errno):
            raise  # of something else in the block: h5py raises no other classes and no numbers
        raise Damaged(f"{path} is truncated or damaged ({reason}). {remedy}") from error


def hdf5_attribute(item: h5py.HLObject, name: str, kind: type[_Value]) -> _Value:
    """An attribute that is one number or one text.

    Raises:
        ValueError: If it is missing or of another type.
    """
    value: Any = item.attrs.get(name)
    value = value.item() if isinstance(value, np.generic) else value
    if type(value) is not kind:
        raise ValueError(f"expected the attribute {name} to be {kind.__name__}, got {str(value)[:80]!r}.")
    return value


def hdf5_json(item: h5py.HLObject, name: str, kind: Any) -> Any:
    """An attribute that holds JSON of a type, see `as_kind`.

    Raises:
        ValueError: If it is missing, no JSON, or of another type.
    """
    try:
        content = decode_json(hdf5_attribute(item, name, str).encode(), f"the attribute {name}")
    except Damaged as error:
        raise ValueError(f"{error}") from None
    return as_kind(content, kind, f"the attribute {name}")


def hdf5_array(file: h5py.File, name: str, kinds: str, shape: tuple[Any, ...]) -> h5py.Dataset:
    """A data set of an expected type and shape, unread.

    Args:
        file: The file.
        name: Name of the data set.
        kinds: Letters of NumPy's `dtype.kind`, such as "f" or "iu".
        shape: Its shape; None stands for any length, and `...` at the end for further axes.

    Raises:
        ValueError: If it is missing, or of another type or shape.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"expected the data set {name}, got {'a group' if found is not None else 'none'}.")
    try:
        dtype = found.dtype
    except TypeError as error:  # HDF5 knows types that NumPy has not
        raise ValueError(f"expected {name} of a type of NumPy, got another one ({error}).") from None
    given, wanted = found.shape or (), shape[:-1] if shape[-1:] == (...,) else shape
    fits = len(given) == len(wanted) or (wanted != shape and len(given) > len(wanted))
    if dtype.kind not in kinds or not fits or not all(a in (None, b) for a, b in zip(wanted, given, strict=False)):
        raise ValueError(
            f"expected {name} of shape {shape} and a type of the kind {'/'.join(kinds)}, got {dtype} of shape {given}."
        )
    return found
