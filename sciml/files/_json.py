"""JSON files with a digest of their content, checked against a type when they are read."""

import hashlib
import json
import pathlib
import re
from typing import Any

import msgspec

from sciml.files._plain import Damaged, write_bytes

_DIGEST = "sha256"


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file that is complete or not there at all; an object gets a last entry `sha256`, see `sealed`.

    Raises:
        ValueError: If a number is not finite, which JSON cannot hold.
        OSError: If it cannot be written.
    """
    try:
        text = json.dumps(sealed(content) if isinstance(content, dict) else content, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path} would hold a number that is not finite, which JSON cannot express.") from error
    write_bytes(path, f"{text}\n".encode())


def read_json(path: pathlib.Path, kind: Any = Any) -> Any:
    """The content of a JSON file, its digest compared and left out. Files of earlier versions have none.

    Args:
        path: The file.
        kind: The type that the content must have: a `msgspec.Struct`, `dict[str, float]` and so on.

    Raises:
        FileNotFoundError: If it is missing.
        Damaged: If it is no JSON, or the content differs from its digest.
        ValueError: If the content is of another type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    content = decode_json(path.read_bytes(), str(path))
    if isinstance(content, dict):
        content = unsealed(content, str(path))
    return as_kind(content, kind, str(path))


def decode_json(text: bytes, where: str) -> Any:
    """What a JSON text stands for.

    Raises:
        Damaged: If it is no JSON; it says `where` the text is from.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a text that is no UTF-8 is a ValueError, too
        reason = " ".join(str(error).split())
        raise Damaged(f"{where} is damaged: expected JSON, but {reason}.") from None


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its digest as the last entry, the SHA-256 of its JSON with sorted names and without blanks.

    Raises:
        ValueError: If a number is not finite.
    """
    return {**content, _DIGEST: _digest(content)}


def unsealed(content: dict[str, Any], where: str) -> dict[str, Any]:
    """The content without its digest, after comparing it; content without one is returned as it is.

    Raises:
        Damaged: If they differ; it says `where` the content is from.
    """
    last = next(reversed(content.values()), None)
    if _DIGEST not in content and not (isinstance(last, str) and re.fullmatch("[0-9a-f]{64}", last)):
        return content  # and if something like a digest is there, its name is damaged
    rest = {name: value for name, value in content.items() if name != _DIGEST}
    try:
        same = content.get(_DIGEST) == _digest(rest)
    except ValueError:
        same = False
    if not same:
        raise Damaged(f"{where} is damaged: its content differs from its digest.")
    return rest


def as_kind(content: Any, kind: Any, where: str) -> Any:
    """The content as a value of a type; see `msgspec.convert`.

    Raises:
        ValueError: If it is of another type; it says `where` the content is from, and which entry differs.
    """
    if kind is Any:
        return content
    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError, UnicodeEncodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where} holds something else than expected: {reason:.500}.") from None


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
