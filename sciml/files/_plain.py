"""Plain files: written atomically, read without following links."""

import contextlib
import glob
import io
import os
import pathlib
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Damaged(OSError):
    """A file is not the one that was written: bytes have changed, or it is cut off or gone.

    Attributes:
        good: Number of steps of the last intact checkpoint, if the file is of another one; None if there is none.
    """

    def __init__(self, message: str, *, good: int | None = None):
        OSError.__init__(self, message)
        self.good = good


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[io.FileIO]:
    """A new file that takes the place of `path` when the block ends without an error, and is removed otherwise.

    It has another name in the same folder until then, and its process holds a lock on it: what killed processes have
    left of earlier ones is removed.

    Raises:
        OSError: If it cannot be written.
    """
    remove_leftovers(path)
    raw = _held(path)
    new = pathlib.Path(os.fsdecode(raw.name))
    try:
        with raw:
            yield raw
            os.fsync(raw.fileno())
            os.replace(new, path)
        remove_leftovers(path)
    except OSError as error:
        reason = f"{path} could not be written ({error.strerror or error}). Free some space or choose another folder."
        raise OSError(error.errno, reason) from error
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to fill, which appears at `path` when the block ends without an error and is removed otherwise.

    Raises:
        FileExistsError: If there is something at `path`; it is kept.
        OSError: If it cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists and is kept. Choose another folder with --out, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield part
        part.chmod(0o755)  # temporary folders are private
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that is complete or not there at all, see `replacing`.

    Raises:
        OSError: If it cannot be written.
    """
    with replacing(path) as file:
        view = memoryview(content)
        while len(view):
            view = view[file.write(view) :]


def _held(path: pathlib.Path) -> io.FileIO:
    """A new file beside `path` that this process holds."""
    while True:
        raw = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part").open("x+b", buffering=0)
        if fcntl is not None:
            fcntl.flock(raw, fcntl.LOCK_EX)
        if os.fstat(raw.fileno()).st_nlink:  # nobody took it for a leftover before it was held
            return raw
        raw.close()


def remove_leftovers(path: pathlib.Path) -> None:
    """Removes what killed processes have left of files that were to take the place of `path`, see `replacing`."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if fcntl is not None and not part.is_symlink():
            with contextlib.suppress(OSError), part.open("rb") as file:  # held, or removed by another process
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


def shown(path: str | os.PathLike[str]) -> str:
    """A path in one line: in quotes if it holds a line break or other characters that cannot be printed."""
    text = os.fspath(path)
    return text if text.isprintable() else f"{text!r:.1000}"


def check_tree(folder: pathlib.Path) -> None:
    """Refuses a folder that holds anything but files and folders, such as a link that leads out of it.

    Another process may work in it: what it removes meanwhile is passed over.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds a symbolic link, a pipe, a socket or a device; it names the first.
    """
    folder.stat()
    waiting = [folder]
    while waiting:
        for path, mode in _inside(waiting.pop()):
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif not stat.S_ISREG(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
                raise ValueError(
                    f"Expected files and folders alone in {folder}, but {shown(path)} is {kind}, which could "
                    "lead anywhere. Put the file itself in its place."
                )


def _inside(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, int]]:
    """Paths and modes of what is in a folder, without what is removed meanwhile."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield pathlib.Path(entry.path), entry.stat(follow_symlinks=False).st_mode
