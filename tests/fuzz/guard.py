"""What a case does to the machine: audit events of Python, and the kernel's notices of a folder for code in C."""

import contextlib
import ctypes
import os
import pathlib
import site
import struct
import sys
import sysconfig
import threading

import numpy as np

_SYSTEM = """
    /proc/self /proc/meminfo /proc/cpuinfo /proc/stat /sys /dev/null /dev/urandom /etc/localtime /usr/share/zoneinfo
    /usr/share/fonts /usr/lib /lib /etc/ld.so.cache
    """
_READ = tuple(_SYSTEM.split())
_PROCESSES = {
    "subprocess.Popen": "other process",
    "os.system": "other process",
    "os.exec": "other process",
    "os.posix_spawn": "other process",
    "os.spawn": "other process",
    "os.fork": "other process",
    "os.forkpty": "other process",
    "pty.spawn": "other process",
    "os.kill": "other process",
    "socket.connect": "network",
    "socket.bind": "network",
    "socket.getaddrinfo": "network",
    "socket.gethostbyname": "network",
    "socket.sendto": "network",
    "urllib.Request": "network",
    "pickle.find_class": "execution",
    "code.__new__": "execution",
}
_READS = {"os.listdir": 1, "os.scandir": 1, "glob.glob": 0, "os.getxattr": 1}
_CHANGES = {
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
    "os.setxattr": 1,
    "shutil.rmtree": 1,
    "shutil.move": 2,
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Blocked(BaseException):
    """What a case was about to do, which is a failure."""


class Rules:
    """What a case may do.

    Args:
        folder: The folder of the case, which may be read.
        writes: Whether it may be changed as well.
        reads: Further files that may be read.
        executes: Files whose code may be executed.
        processes: Names of programs that may be started.
    """

    def __init__(self, folder, *, writes=False, reads=(), executes=(), processes=()):
        self.folder = os.path.realpath(folder)
        self.executes = {os.path.realpath(path) for path in executes}
        self.processes = set(processes)
        own = [os.path.realpath(path) for path in (*reads, *executes)]
        self.reads = (*_installed(), *own, *_READ, self.folder)
        self.writes = (*_caches(), "/dev/null", *((self.folder,) if writes else ()))


class _Watch:
    """The one hook of a process: hooks cannot be removed."""

    def __init__(self):
        self.rules, self.found, self.packages, self.installed = None, [], set(), False
        self.own = threading.local()

    def __call__(self, event, arguments):
        rules = self.rules
        if rules is None or getattr(self.own, "busy", False):
            return
        self.own.busy = True
        try:
            kind = self._kind(event, arguments, rules)
        finally:
            self.own.busy = False
        if kind is not None:
            self.found.append((kind, f"{event} {arguments[: 1 if event == 'import' else 3]!r:.300}"))
            raise Blocked(f"{kind}: {event}")

    def _kind(self, event, arguments, rules):
        if event in _PROCESSES:
            program = os.path.basename(str(arguments[0])) if arguments else ""
            return None if event == "subprocess.Popen" and program in rules.processes else _PROCESSES[event]
        if event == "open":
            path, mode, flags = arguments
            writes = bool((flags or 0) & _WRITING) or (isinstance(mode, str) and bool(set(mode) & set("wax+")))
            return _unless_below(path, (*rules.writes,) if writes else rules.reads + rules.writes, writes)
        if event in _READS:
            return _unless_below(arguments[0] if arguments else None, rules.reads + rules.writes, False)
        if event in _CHANGES:
            found = [_unless_below(path, rules.writes, True) for path in arguments[: _CHANGES[event]]]
            return next((one for one in found if one), None)
        if event == "import":
            top = arguments[0].partition(".")[0]
            return None if top in self.packages or top in sys.modules else "execution"
        if event == "exec":
            return _code(getattr(arguments[0], "co_filename", ""), rules)
        if event == "ctypes.dlopen":
            return None if arguments[0] is None else "execution"
        return None


_WATCH = _Watch()
_LATER = """
    flax sympy mpmath matplotlib mpl_toolkits rich tyro shtab PIL libtpu encodings traceback linecache tokenize difflib
    unicodedata stringprep _strptime calendar docstring_parser
    """
_IMPORTED_LATER = frozenset(_LATER.split())


@contextlib.contextmanager
def watched(rules):
    """Notes in the list that it gives what is done against the rules, by this process, and prevents it."""
    if not _WATCH.installed:
        sys.addaudithook(_WATCH)
        _WATCH.installed = True
    _WATCH.found = []
    _WATCH.packages = {name.partition(".")[0] for name in sys.modules} | _IMPORTED_LATER
    _WATCH.rules = rules
    try:
        yield _WATCH.found
    finally:
        _WATCH.rules = None


def _installed():
    paths = sysconfig.get_paths()
    places = [sys.prefix, sys.base_prefix, paths["stdlib"], paths["platstdlib"], *site.getsitepackages()]
    here = pathlib.Path(__file__).resolve().parents[2]
    package = pathlib.Path(sys.modules["sciml"].__file__).resolve().parent.parent
    return [os.path.realpath(path) for path in (*places, here, package)]


def _caches():
    import jax

    found = [jax.config.jax_compilation_cache_dir, os.environ.get("MPLCONFIGDIR"), os.path.expanduser("~/.cache")]
    return [os.path.realpath(path) for path in found if path]


def _unless_below(path, roots, writes):
    """None for a path below one of the roots, otherwise the kind of failure."""
    if path is None or isinstance(path, int):
        return None
    real = os.path.realpath(os.fsdecode(path))
    below = any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)
    return None if below else "write outside" if writes else "read outside"


def _code(name, rules):
    """Code of a file that is neither installed nor the experiment file of the run."""
    if not name or name.startswith("<"):
        return None
    real = os.path.realpath(name)
    installed = any(real.startswith(root.rstrip("/") + "/") for root in _installed())
    return None if installed or real in rules.executes or not os.path.exists(real) else "execution"


class Notices:
    """The kernel's notices of what happens in some folders, also by code in C; none on systems without inotify.

    Args:
        folders: Folders, without those inside of them.
    """

    _MASK = 0x1 | 0x2 | 0x20 | 0x100 | 0x200 | 0x40 | 0x80  # access, modify, open, create, delete, moves
    _DIRECTORY = 0x40000000

    def __init__(self, folders):
        self._file = None
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            for folder in folders:
                libc.inotify_add_watch(self._file, os.fsencode(folder), self._MASK)
        except (AttributeError, OSError):
            self._file = None

    def __call__(self):
        """Names of the files something has happened to since the last call."""
        names = []
        if self._file is None:
            return names
        with contextlib.suppress(BlockingIOError):
            while True:
                content, at = os.read(self._file, 1 << 16), 0
                while at < len(content):
                    _, mask, _, length = struct.unpack_from("iIII", content, at)
                    name = content[at + 16 : at + 16 + length].rstrip(b"\0").decode(errors="replace")
                    at += 16 + length
                    if not mask & self._DIRECTORY:
                        names.append(name)
        return names


def state_of(folder):
    """Names, sizes and times of all files of a folder, which a read may not change."""
    entries = sorted(pathlib.Path(folder).rglob("*"))
    return [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns, path.lstat().st_mode) for path in entries]


def as_bytes(value):
    """A value in one form, the same for equal values alone."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    return value if isinstance(value, bytes) else repr(value).encode()
