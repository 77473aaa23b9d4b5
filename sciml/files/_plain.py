"""Plain files: written atomically, read without following links."""

import os
import pathlib
import secrets
import stat


class Damaged(OSError):
    """A file is not the one that was written: bytes have changed, or it is cut off or gone."""


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that is complete or not there at all: under a new name, flushed to the disk, renamed.

    Raises:
        OSError: If it cannot be written.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with new.open("xb") as file:  # x: neither a file nor a link of this name is there
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError as error:
        reason = f"{path} could not be written ({error.strerror or error})"
        raise OSError(error.errno, f"{reason}. Free some space or choose another folder") from error
    finally:
        new.unlink(missing_ok=True)


def check_tree(folder: pathlib.Path) -> None:
    """Refuses a folder that holds anything but files and folders, such as a link that leads out of it.

    Raises:
        ValueError: If it holds a symbolic link, a pipe, a socket or a device; it names the first.
    """
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    waiting.append(pathlib.Path(entry.path))
                elif not stat.S_ISREG(mode):
                    kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
                    raise ValueError(
                        f"Expected files and folders alone in {folder}, but {entry.path} is {kind}, which could lead "
                        "anywhere. Put the file itself in its place."
                    )
