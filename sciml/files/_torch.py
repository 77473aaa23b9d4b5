"""Tensors of PyTorch files, such as neuraloperator's, without PyTorch and without running what a pickle says.

A file of `torch.save` is a zip archive: `data.pkl` describes the tensors, `data/0`, `data/1` and so on hold their
bytes. The description is read by an interpreter of its own that knows dictionaries, lists, texts, numbers, tuples and
tensors, and refuses anything else by name. Functions of PyTorch and neuraloperator that a checkpoint lists among its
settings are read as their names, and never called. Bytes are mapped into memory, and read once to compare them with
their checksums.
"""

import dataclasses
import math
import pathlib
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from sciml.files._plain import Damaged

_DEEPEST = 20  # dictionaries inside of one another
_LARGEST = 2**20  # bytes of a description; that of three tensors has some hundred
_DESCRIPTION = "/data.pkl"
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
_TENSOR, _DICT = "torch._utils._rebuild_tensor_v2", "collections.OrderedDict"
_PARAMETER, _SIZE = "torch._utils._rebuild_parameter", "torch.Size"
_CALLED = (_TENSOR, _DICT, _PARAMETER, _SIZE)
_INERT = ("torch._C._nn.", "torch.nn.functional.", "neuralop.")
"""Beginnings of names that stand in a checkpoint's settings, such as its activation; they are read as texts."""
_REMEDY = "Save plain tensors by torch.save({'x': x, 'y': y}, path), or arrays by numpy.savez."


@dataclasses.dataclass(frozen=True)
class _Name:
    """A function or class that a description names; nothing is imported."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Values of one kind in a member of the archive."""

    kind: np.dtype
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _refused(what: str) -> ValueError:
    return ValueError(f"expected a dictionary of tensors, got {what}. {_REMEDY}")


class _Interpreter:
    """Reads a description; see the module."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, description: bytes) -> Any:
        """The object that the description builds, of `dict`, `list`, `tuple`, `str`, numbers, None and `_Tensor`.

        Raises:
            ValueError: If it holds anything else.
        """
        for code, given, _ in pickletools.genops(description):
            if code.name == "STOP":
                if len(self._stack) != 1 or self._marks:
                    raise _refused("a description that leaves no single object")
                return self._stack[0]
            if code.name not in _CODES:
                raise _refused(f"the instruction {code.name} of a pickle")
            _CODES[code.name](self, given)
        raise _refused("a description without an end")

    def push(self, given: Any) -> None:
        """A number, a text or nothing."""
        self._stack.append(given)

    def mark(self, _: Any) -> None:
        """Where a tuple or the entries of a dictionary begin."""
        self._marks.append(len(self._stack))

    def keep(self, number: Any) -> None:
        """Remembers the last object, by the next number if none is given."""
        self._memo[len(self._memo) if number is None else int(number)] = self._stack[-1]

    def again(self, number: Any) -> None:
        """A remembered object."""
        self._stack.append(self._memo[int(number)])

    def pop(self, count: int | None = None) -> list[Any]:
        """The last objects, or those after the last mark."""
        start = self._marks.pop() if count is None else len(self._stack) - count
        if start < 0:
            raise _refused("a description with an object missing")
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def set(self, entries: list[Any]) -> None:
        """Entries of the last dictionary."""
        target = self._stack[-1]
        if type(target) is not dict or len(entries) % 2 or not all(type(key) in (str, int) for key in entries[::2]):
            raise _refused("entries of something else than a dictionary with texts as keys")
        target.update(zip(entries[::2], entries[1::2], strict=True))

    def name(self, given: Any) -> None:
        """A function or class out of the closed list."""
        name = str(given).replace(" ", ".", 1)
        if name.startswith(_INERT):
            self._stack.append(name)
            return
        storage = name.removeprefix("torch.")
        if name not in _CALLED and not (name.startswith("torch.") and storage in _STORAGES):
            raise _refused(f"{name!r:.200}, which is not run")
        self._stack.append(_Name(name))

    def append(self, items: list[Any]) -> None:
        """Items of the last list."""
        if type(self._stack[-1]) is not list:
            raise _refused("items of something else than a list")
        self._stack[-1].extend(items)

    def attributes(self, _: Any) -> None:
        """Attributes of a dictionary, such as the versions of the modules of a state dict, which are left out."""
        (given,) = self.pop(1)
        if type(given) is not dict or type(self._stack[-1]) is not dict:
            raise _refused("attributes of something else than a dictionary")

    def stored(self, _: Any) -> None:
        """A storage: ('storage', class, key, device, number of values)."""
        (given,) = self.pop(1)
        types = (str, _Name, str, str, int)
        if type(given) is not tuple or tuple(map(type, given)) != types or given[0] != "storage":
            raise _refused("a storage without class, key, device and number of values")
        kind = _STORAGES.get(given[1].name.removeprefix("torch."))
        if kind is None or given[4] < 0:
            raise _refused(f"a storage of {given[4]} values of {given[1].name}")
        self._stack.append(_Storage(np.dtype(kind), given[2], given[4]))

    def call(self, _: Any) -> None:
        """The functions of the closed list: a tensor, a parameter, a shape, and an empty dictionary."""
        function, given = self.pop(2)
        if type(function) is not _Name or type(given) is not tuple:
            raise _refused(f"a call of a {_kind(function)}")
        if function.name == _DICT and not given:
            self._stack.append({})
        elif function.name == _TENSOR:
            self._stack.append(_tensor(given))
        elif function.name in (_PARAMETER, _SIZE) and given and type(given[0]) in (_Tensor, tuple):
            self._stack.append(given[0])
        else:
            raise _refused(f"a call of {function.name}")


def _tensor(given: tuple[Any, ...]) -> _Tensor:
    """A tensor of (storage, offset, shape, strides, needs a gradient, hooks)."""
    fits = len(given) == 6 and type(given[0]) is _Storage and type(given[1]) is int and given[5] == {}
    if not fits or not all(type(part) is tuple and all(type(n) is int for n in part) for part in given[2:4]):
        raise _refused("a tensor with other arguments than its storage, offset, shape and strides")
    storage, offset, shape, strides = given[:4]
    if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise _refused(f"a tensor of shape {shape} with strides {strides} from {offset} on")
    if 0 in shape:
        raise _refused(f"a tensor of shape {shape} without values")
    reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
    if reach > storage.count or math.prod(shape) > storage.count:
        raise _refused(f"a tensor of shape {shape}, which its storage of {storage.count} values does not hold")
    return _Tensor(storage, offset, shape, tuple(step if n > 1 else 1 for n, step in zip(shape, strides, strict=True)))


def _kind(found: Any) -> str:
    """The type of an object; its content may be too long to show."""
    return type(found).__name__.strip("_").lower()


def _tuple(count: int | None) -> Callable[[_Interpreter, Any], None]:
    return lambda machine, _: machine.push(tuple(machine.pop(count)))


_CODES: dict[str, Callable[[_Interpreter, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop()),
    "BUILD": _Interpreter.attributes,
    "EMPTY_TUPLE": _tuple(0),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": _tuple(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "NONE": lambda machine, _: machine.push(None),
    "MARK": _Interpreter.mark,
    "SETITEM": lambda machine, _: machine.set(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set(machine.pop()),
    "MEMOIZE": lambda machine, _: machine.keep(None),
    "GLOBAL": _Interpreter.name,
    "BINPERSID": _Interpreter.stored,
    "REDUCE": _Interpreter.call,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Interpreter.keep),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Interpreter.again),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _Interpreter.push
    ),
}


def read_torch(path: pathlib.Path) -> dict[str, Any]:
    """The dictionary of a PyTorch file, its tensors as NumPy arrays that are mapped into memory.

    Args:
        path: The file.

    Returns:
        Entries by their names: arrays, numbers, texts, None, and tuples, lists and dictionaries of these. bfloat16 is
        the type of `ml_dtypes`.

    Raises:
        ValueError: If it holds anything but a dictionary of these; it names what it holds.
        Damaged: If a part of it is cut off or has changed.
    """
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            members = {info.filename: info for info in archive.infolist()}
            (prefix,) = _prefixes(members) or ("",)
            order = _short(archive, members.get(f"{prefix}/byteorder")) or b"little"
            if order != b"little":
                raise _refused(f"bytes in the order {order!r:.20}")
            found = _described(_short(archive, members.get(prefix + _DESCRIPTION)))
            return _filled(found, lambda one: _values(path, raw, members, prefix, one), 0)
    except Damaged as error:
        raise Damaged(f"{path} is truncated or damaged ({error}). Copy or download it again.") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(f"{path} is truncated or damaged ({reason:.200}). Copy or download it again.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def torch_archive(names: Iterable[str]) -> bool:
    """Whether the names of the members of a zip archive are those of a file of `torch.save`."""
    return bool(_prefixes(names))


def _prefixes(names: Iterable[str]) -> list[str]:
    """The folder of the description in an archive of `torch.save`, if it is one."""
    found = [name.removesuffix(_DESCRIPTION) for name in names if name.endswith(_DESCRIPTION) and name.count("/") == 1]
    return found if len(found) == 1 else []


def _short(archive: zipfile.ZipFile, info: zipfile.ZipInfo | None) -> bytes:
    """The bytes of a member that is short; none if there is no such member."""
    if info is None:
        return b""
    if info.file_size > _LARGEST:
        raise _refused(f"a description of {info.file_size} bytes")
    return archive.read(info)


def _described(description: bytes) -> dict[str, Any]:
    """The dictionary of a description."""
    try:
        found = _Interpreter().run(description)
    except (KeyError, IndexError, AttributeError, TypeError, OverflowError, UnicodeError) as error:
        raise _refused(f"a description that cannot be read ({type(error).__name__})") from None
    except ValueError as error:
        if str(error).startswith("expected a dictionary"):
            raise
        raise _refused(f"a description that cannot be read ({' '.join(str(error).split()):.200})") from None
    if type(found) is not dict or not all(type(key) is str for key in found):
        raise _refused(f"a {_kind(found)}")
    return found


def _filled(found: Any, values: Callable[[_Tensor], Any], depth: int) -> Any:
    """An object of a description with arrays in place of its tensors."""
    if depth > _DEEPEST:
        raise _refused(f"objects inside of one another to a depth of more than {_DEEPEST}")
    if type(found) is _Tensor:
        return values(found)
    if type(found) is dict:
        return {key: _filled(one, values, depth + 1) for key, one in found.items()}
    if type(found) in (list, tuple):
        return type(found)(_filled(one, values, depth + 1) for one in found)
    if type(found) in (_Name, _Storage):
        raise _refused(f"a {_kind(found)} as a value")
    return found


def _values(path: pathlib.Path, raw: Any, members: Mapping[str, zipfile.ZipInfo], prefix: str, tensor: _Tensor) -> Any:
    """The values of a tensor, after the checksum of its storage was compared."""
    storage = tensor.storage
    kind = storage.kind
    info = members.get(f"{prefix}/data/{storage.key}")
    if info is None:
        raise Damaged(f"the storage {storage.key!r:.80} is missing")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise _refused(f"the storage {storage.key!r:.80}, compressed or encrypted")
    if not storage.count * kind.itemsize == info.file_size == info.compress_size:
        raise Damaged(
            f"the storage {storage.key!r:.80} declares {storage.count} values of {kind} and has {info.file_size} bytes"
        )
    start = _start(raw, info, path.stat().st_size)
    content = np.memmap(path, np.uint8, "r", start, (info.file_size,))
    checksum = 0
    for first in range(0, len(content), 2**24):
        checksum = zlib.crc32(content[first : first + 2**24].data, checksum)
    if checksum != info.CRC:
        raise Damaged(f"the bytes of the storage {storage.key!r:.80} differ from their checksum")
    strides = tuple(n * kind.itemsize for n in tensor.strides)
    return np.ndarray(tensor.shape, kind, content, tensor.offset * kind.itemsize, strides)


def _start(raw: Any, info: zipfile.ZipInfo, size: int) -> int:
    """Where the bytes of a member begin, behind the header in front of it."""
    raw.seek(info.header_offset)
    sign, name, extra = struct.unpack("<4s22xHH", raw.read(30))
    start = info.header_offset + 30 + name + extra
    if sign != b"PK\x03\x04" or start + info.file_size > size:
        raise Damaged(f"{info.filename!r:.80} of {info.file_size} bytes from {start} on exceeds the file")
    return start
