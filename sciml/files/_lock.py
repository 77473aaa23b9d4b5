"""One process at a time in a folder."""

import contextlib
import datetime
import os
import pathlib
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder for this process, until the block or the process ends, however it ends.

    Args:
        folder: An existing folder; it keeps an empty or short file `.lock`.

    Raises:
        BlockingIOError: If another process holds it; it names the process and the time.
        OSError: If the folder cannot be written, or its file system knows no locks.
    """
    if fcntl is None:
        yield
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(folder / _LOCK, flags, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            raise BlockingIOError(
                f"{folder} is in use by {holder}. Wait until it ends, or use another folder."
            ) from None
        except OSError as error:
            reason = f"{folder} could not be locked ({error.strerror}). Use a folder on another file system."
            raise OSError(error.errno, reason) from error
        os.ftruncate(lock, 0)
        since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        os.pwrite(lock, f"process {os.getpid()} since {since}".encode(), 0)
        yield
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)
