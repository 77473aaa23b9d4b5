"""Seeded changes of files: of bytes, of JSON, of folders, with or without new digests."""

import hashlib
import json
import os
import pathlib
import shutil

from sciml.files import sealed, write_manifest
from sciml.train._stored import UNLISTED

BLOCK = 512  # bytes of the user block of an HDF5 file that hold its digest


def flip_bit(rng, content):
    """One other bit."""
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    return content[:place] + bytes((content[place] ^ 1 << bit,)) + content[place + 1 :], f"bit {bit} of byte {place}"


def change_bytes(rng, content):
    """Other bytes in one place, among them extreme ones."""
    place, length = rng.randrange(len(content)), rng.choice((1, 1, 2, 4, 8))
    new = rng.choice((rng.randbytes(length), b"\xff" * length, b"\x00" * length, b"\x7f" * length))
    return content[:place] + new + content[place + length :], f"bytes {place} to {place + length} -> {new!r}"


def cut(rng, content):
    """The beginning alone."""
    length = rng.randrange(len(content))
    return content[:length], f"cut to {length} of {len(content)} bytes"


def insert(rng, content):
    """Further bytes in one place."""
    place, new = rng.randrange(len(content) + 1), rng.randbytes(rng.choice((1, 1, 3, 8, 512)))
    return content[:place] + new + content[place:], f"{len(new)} bytes inserted at {place}"


def delete(rng, content):
    """Without the bytes of one place."""
    place, length = rng.randrange(len(content)), rng.choice((1, 1, 2, 16, 512))
    return content[:place] + content[place + length :], f"{length} bytes deleted at {place}"


def duplicate(rng, content):
    """A block over another one, or inserted there."""
    length = rng.choice((4, 16, 64, 512))
    start, place = rng.randrange(len(content)), rng.randrange(len(content))
    block, over = content[start : start + length], rng.random() < 0.5
    rest = content[place + len(block) * over :]
    return content[:place] + block + rest, f"{length} bytes of {start} {'over' if over else 'inserted at'} {place}"


def zeros(rng, content):
    """Zeros in place of a block, as after a crash of the file system."""
    place, length = rng.randrange(len(content)), rng.choice((16, 64, 512, 4096))
    part = len(content[place : place + length])
    return content[:place] + bytes(part) + content[place + part :], f"zeros for {part} bytes at {place}"


def empty(rng, content):
    """Nothing."""
    return b"", "emptied"


def several_flips(rng, content):
    """Some other bits."""
    for _ in range(count := rng.randrange(2, 9)):
        content, _ = flip_bit(rng, content)
    return content, f"{count} bits"


BYTES = (flip_bit, flip_bit, flip_bit, change_bytes, change_bytes, cut, insert, delete, duplicate, zeros, several_flips)


def change_content(rng, content, kinds=BYTES):
    """Other bytes than before, and what was done."""
    if not content:
        return rng.randbytes(rng.randrange(1, 20)), "an empty file filled"
    new, what = rng.choice((*kinds, empty) if rng.random() < 0.1 else kinds)(rng, content)
    return (new, what) if new != content else flip_bit(rng, content)


def change_file(rng, path, kinds=BYTES):
    """Changes one file."""
    new, what = change_content(rng, path.read_bytes(), kinds)
    path.write_bytes(new)
    return f"{path.name}: {what}"


STRANGE = (
    None,
    True,
    [],
    {},
    "",
    0,
    -1,
    1,
    10**30,
    -(10**400),
    1e308,
    float("nan"),
    float("inf"),
    "\u202e\u0000\n\r\x1b[2J",
    "Z" * 3000,
    "../../outside/secret.txt",
    "/etc/passwd",
    "os.system",
    ["x"] * 50,
    {"sha256": 1},
    "${HOME} {0} %s",
    "\ud800",
)


def places(node, path=()):
    """Paths of all values of a JSON tree."""
    found = [path]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


def changed_json(rng, node, path=None, value=None):
    """A JSON tree with another value in one place, or an entry less, more, or under another name; and what was done."""
    node = json.loads(json.dumps(node))
    path = rng.choice([one for one in places(node) if one] or [()]) if path is None else path
    if not path:
        return rng.choice(STRANGE), "another value for all"
    parent = node
    for key in path[:-1]:
        parent = parent[key]
    key, what = path[-1], rng.choice(("value", "value", "value", "gone", "more", "name", "list", "number"))
    if value is not None:
        parent[key] = value
    elif what == "gone":
        del parent[key]
    elif what == "more" and isinstance(parent, dict):
        parent[rng.choice(("unknown", "format", "sha256", "", "class", "__class__"))] = rng.choice(STRANGE)
    elif what == "name" and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif what == "list":
        parent[key] = [parent[key]] * rng.randrange(1, 4)
    elif what == "number" and type(parent[key]) in (int, float):
        parent[key] = rng.choice((parent[key] + 1, -parent[key], parent[key] * 2, 10**30, 1e300))
    else:
        parent[key] = rng.choice(STRANGE)
    return node, f"{what} at {'/'.join(map(str, path))}"


def json_text(rng, node):
    """A JSON tree as text, now and then in a form that JSON leaves open."""
    text = json.dumps(node)
    twist = rng.choice(("plain", "plain", "plain", "indent", "twice", "deep", "bom", "latin", "huge", "words"))
    if twist == "indent":
        return json.dumps(node, indent=1, ensure_ascii=False).encode(errors="surrogatepass"), twist
    if twist == "twice" and text.startswith("{") and len(text) > 2:
        return f'{{"format": 1, "sha256": "0", {text[1:]}'.encode(), twist
    if twist == "deep":
        depth = rng.choice((100, 900, 5000, 100_000))
        return text.replace("null", "[" * depth + "]" * depth, 1).encode(), f"deep {depth}"
    if twist == "bom":
        return b"\xef\xbb\xbf" + text.encode(), twist
    if twist == "latin":
        return text.replace("a", "\xe9", 1).encode("latin-1", "replace"), twist
    if twist == "huge":
        return text.replace("1", "1" * rng.choice((400, 5000)), 1).encode(), twist
    if twist == "words":
        return text.replace("true", "NaN").replace("0.", "-Infinity, 0.", 1).encode(), twist
    return text.encode(), twist


def change_json(rng, path, *, signed=False):
    """Changes a JSON file that was written by `write_json`; with `signed`, its digest suits the change."""
    node = json.loads(path.read_bytes())
    digest = node.pop("sha256", None) if isinstance(node, dict) else None
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        node, what = changed_json(rng, node) if isinstance(node, dict | list) else (node, "all")
    if signed:
        write_signed(path, node)
        return f"{path.name}: {what}, signed"
    if isinstance(node, dict) and digest is not None and "sha256" not in node:
        node["sha256"] = digest
    content, twist = json_text(rng, node)
    path.write_bytes(content)
    return f"{path.name}: {what}, {twist}"


def write_signed(path, node):
    """Writes JSON with a digest, as far as its numbers have one."""
    try:
        node = sealed(node) if isinstance(node, dict) else node
        path.write_text(json.dumps(node))
    except (ValueError, TypeError):
        path.write_text(json.dumps(node), errors="replace")


def files_of(folder):
    """All files of a folder, in order."""
    return sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file() and not path.is_symlink())


TREE = ("gone", "gone", "swapped", "swapped", "copied", "added", "link", "link", "linked folder", "pipe", "folder", "")
"""What may happen to a file of a folder."""
WITHOUT_LINKS = ("gone", "pipe", "folder", "")
"""What may happen to a file that the user names, who may name a link as well."""


def change_tree(rng, folder, outside, kinds=TREE):
    """Files of a folder gone, swapped, added, or something else in their place."""
    files = [path for path in files_of(folder) if path.name != ".lock"]
    path = rng.choice(files)
    name, what = path.relative_to(folder), rng.choice(kinds)
    if what == "gone":
        path.unlink()
    elif what == "swapped":
        near = [one for one in files if one.parent == path.parent] if rng.random() < 0.5 else files
        other = rng.choice([one for one in near if one != path] or [one for one in files if one != path])
        path.rename(path.with_suffix(".swap"))
        other.rename(path)
        path.with_suffix(".swap").rename(other)
        return f"{name} and {other.relative_to(folder)} swapped"
    elif what == "copied":
        other = rng.choice([one for one in files if one != path])
        other.write_bytes(path.read_bytes())
        return f"{name} over {other.relative_to(folder)}"
    elif what == "added":
        new = path.with_name(
            rng.choice(("0", "new", "d", "average", f"{path.name}.bak", "\u202e", "a\nb", "SHA256SUMS~"))
        )
        new.write_bytes(path.read_bytes()) if not new.exists() else path.unlink()
        return f"{new.relative_to(folder)!r} added"
    elif what == "link":
        target = rng.choice(("secret.txt", "secret.json", "secret.csv", "secret.h5", "folder", "canary.py"))
        path.unlink()
        path.symlink_to(outside / target)
        return f"{name} -> {target}"
    elif what == "linked folder" and path.parent != folder:
        shutil.rmtree(path.parent)
        path.parent.symlink_to(outside / "folder")
    elif what == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif what == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"")
    return f"{name}: {what}"


def sign_checkpoints(run):
    """New `SHA256SUMS` of all checkpoints of a run."""
    for folder in (run / "checkpoints").iterdir():
        if folder.is_dir():
            write_manifest(folder, unlisted=UNLISTED)


def sign_hdf5(path):
    """A digest in front of an HDF5 file with a user block."""
    content = path.read_bytes()
    line = f"sciml HDF5, SHA-256 of the bytes from {BLOCK} on: {hashlib.sha256(content[BLOCK:]).hexdigest()}\n"
    path.write_bytes(line.encode().ljust(BLOCK, b"\0") + content[BLOCK:])
