"""Files that appear complete or not at all, JSON with digests, manifests of folders, locks."""

import contextlib
import json
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from sciml.files import (
    MANIFEST,
    Damaged,
    as_kind,
    check_manifest,
    check_tree,
    read_json,
    sealed,
    unsealed,
    write_bytes,
    write_json,
    write_manifest,
)


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: float
    name: str = ""


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"one")
    path.chmod(0o444)  # its content is not written to
    write_bytes(path, b"two" * 10**6)
    assert path.read_bytes() == b"two" * 10**6
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("old")
    (tmp_path / "link").symlink_to(secret)
    write_bytes(tmp_path / "link", b"new")
    assert (secret.read_text(), (tmp_path / "link").is_symlink()) == ("old", False)


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder could not be written \(Is a directory\)\. Free some space or choose"):
        write_bytes(tmp_path / "folder", b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path):
    code = f"""
import pathlib, sys
from sciml.files._plain import replacing
with replacing(pathlib.Path({str(tmp_path / "a.txt")!r})) as file:
    file.write(b"half")
    print("half", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as writer:
        assert writer.stdout.readline() == "half\n"
        write_bytes(tmp_path / "a.txt", b"whole")
        assert len(list(tmp_path.glob(".a.txt.*.part"))) == 1
        writer.kill()
        writer.wait()
    write_bytes(tmp_path / "a.txt", b"again")
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_json_comes_back_and_any_other_content_is_noticed(tmp_path):
    content = {"steps": 3, "errors": {"l2": 0.1, "h1": 1e-30}, "name": "Navier–Stokes", "none": None, "list": [1, [2]]}
    path = tmp_path / "a.json"
    write_json(path, content)
    assert read_json(path) == content
    text, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(500):
        changed = bytearray(text)
        changed[rng.integers(len(text))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            same = json.loads(changed.decode()) == json.loads(text)  # a blank in place of another one
        except ValueError:
            same = False
        if not same:
            noticed += 1
            with pytest.raises(Damaged, match=r"a\.json is damaged"):
                read_json(path)
    assert noticed > 400


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json would hold a number that is not finite"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": "1"}, r"here holds something else than expected: Expected `float`, got `str` - at `\$\.x`"),
        ({"x": 1.0, "y": 2}, "unknown field `y`"),
        ({"name": "a"}, "missing required field `x`"),
        ([1.0], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
    ],
)
def test_content_of_another_type_is_refused(content, message):
    assert as_kind({"x": 1}, Point, "here") == Point(1.0)
    with pytest.raises(ValueError, match=message):
        as_kind(content, Point, "here")


def test_a_digest_belongs_to_the_content_and_not_to_its_form():
    one, other = sealed({"a": 1, "b": [2.0]}), json.loads(json.dumps(sealed({"b": [2.0], "a": 1})))
    assert one["sha256"] == other["sha256"]
    assert unsealed(other, "") == {"a": 1, "b": [2.0]}
    with pytest.raises(Damaged, match="there is damaged: its content differs from its digest"):
        unsealed({**one, "a": 2}, "there")


def test_a_manifest_is_that_of_sha256sum(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b").write_bytes(b"b")
    (tmp_path / "a").write_bytes(b"")
    write_manifest(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=tmp_path, check=True, capture_output=True)
    check_manifest(tmp_path)
    check_manifest(tmp_path, "inner/")
    (tmp_path / "c").write_bytes(b"c")
    with pytest.raises(Damaged, match=r"/c is not among the files of SHA256SUMS"):
        check_manifest(tmp_path)
    check_manifest(tmp_path, unlisted=("c",))
    check_manifest(tmp_path, "inner/")
    (tmp_path / "c").unlink()
    (tmp_path / "a").unlink()
    with pytest.raises(Damaged, match=r"/a is missing"):
        check_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text("nothing")
    with pytest.raises(Damaged, match="SHA256SUMS is damaged: expected lines"):
        check_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(Damaged, match="SHA256SUMS is missing"):
        check_manifest(tmp_path)


def test_folders_hold_files_and_folders_alone(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").touch()
    check_tree(tmp_path)
    os.mkfifo(tmp_path / "inner" / "pipe")  # opening it would wait for ever
    with pytest.raises(ValueError, match=r"inner/pipe is a pipe, a socket or a device"):
        check_tree(tmp_path)
    (tmp_path / "inner" / "pipe").unlink()
    (tmp_path / "inner" / "link").symlink_to("/etc")
    with pytest.raises(ValueError, match=r"inner/link is a symbolic link, which could lead anywhere\. Put the file"):
        check_tree(tmp_path)


def test_what_another_process_removes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").touch()
    scan, lost = os.scandir, []

    @contextlib.contextmanager
    def scan_and_lose(folder):
        if folder == tmp_path / "inner":
            folder.rmdir()
            lost.append(folder)
        with scan(folder) as entries:
            found = list(entries)
        (tmp_path / "file").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scan_and_lose)
    check_tree(tmp_path)
    assert lost
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        check_tree(tmp_path / "inner")


def test_names_of_several_lines_are_shown_in_one(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    write_manifest(tmp_path)
    (tmp_path / "a\nb").write_bytes(b"")
    with pytest.raises(Damaged, match=r"a\\nb' is not among the files of SHA256SUMS\.$"):
        check_manifest(tmp_path)
    (tmp_path / "c\nd").symlink_to("a\nb")
    with pytest.raises(ValueError, match=r"c\\nd' is a symbolic link"):
        check_tree(tmp_path)


def test_zeros_in_a_manifest_are_no_name(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    write_manifest(tmp_path)
    content = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(content[:-2] + bytes(2000) + b"\n")
    with pytest.raises(Damaged, match=r"SHA256SUMS is damaged: expected lines of a digest and the name of a file\.$"):
        check_manifest(tmp_path)
