"""Failures planted on purpose, each of which the fuzzer must report."""

import os
import pickle
import runpy
import socket
import subprocess

import h5py
import numpy as np
from fuzz.corpora import SECRET
from fuzz.kinds import Kind


def kind(read, **changes):
    """A kind of cases that reads in a wrong way."""
    return Kind("npz", lambda rng, folder, world: "planted", read, **changes)


def _raises(error):
    def read(folder, world, _):
        raise error(folder)

    return read


def _flipped(folder, world, _):
    content = bytearray((folder / "a.npz").read_bytes())
    content[3] ^= 1
    return {"content": bytes(content)}


def _in_folder(folder, world, _):
    (folder / "a.npz").write_bytes(b"")


def _by_hdf5(folder, world, _):
    with h5py.File(world.outside / "secret.h5") as file:  # by code in C, which no hook of Python sees
        return {"x": np.zeros(file["x"].shape)}


class _Payload:
    def __reduce__(self):
        return os.getcwd, ()


PLANTED = {
    "other bytes": ("silent difference", kind(_flipped)),
    "a part less": ("silent difference", kind(lambda *_: {})),
    "any exception": ("traceback", kind(_raises(lambda folder: KeyError(str(folder))))),
    "memory": ("traceback", kind(_raises(lambda folder: MemoryError(str(folder))))),
    "two lines": ("traceback", kind(_raises(lambda folder: ValueError(f"{folder}\nis damaged")))),
    "a long message": ("traceback", kind(_raises(lambda folder: OSError(f"{folder} is damaged " * 100)))),
    "an error without the file": ("traceback", kind(_raises(lambda _: ValueError("Expecting value: line 1 column 1")))),
    "code of a file": ("execution", kind(lambda _, world, __: runpy.run_path(str(world.outside / "canary.py")))),
    "pickle": ("execution", kind(lambda *_: pickle.loads(pickle.dumps(_Payload())))),
    "another module": ("execution", kind(lambda *_: __import__("antigravity"))),
    "a mark": ("execution", kind(lambda folder, *_: (folder / "a.executed").touch() or {}, writes=True)),
    "a program": ("other process", kind(lambda *_: subprocess.run(["true"], check=True))),
    "a command": ("other process", kind(lambda *_: os.system("true"))),
    "a fork": ("other process", kind(lambda *_: os.fork() or os._exit(0))),
    "the network": ("network", kind(lambda *_: socket.create_connection(("127.0.0.1", 9), timeout=1))),
    "a file": ("read outside", kind(lambda _, world, __: (world.outside / "secret.csv").read_text())),
    "a list of files": ("read outside", kind(lambda *_: os.listdir("/etc"))),
    "a file by HDF5": ("read outside", kind(_by_hdf5)),
    "the secret": ("read outside", kind(lambda *_: {"x": b"..." + SECRET})),
    "a message with it": ("read outside", kind(_raises(lambda folder: ValueError(f"{folder}: {SECRET.decode()}")))),
    "a new file": ("write outside", kind(lambda _, world, __: (world.outside / "new").touch())),
    "a changed folder": ("write outside", kind(_in_folder)),
    "a removed file": ("write outside", kind(lambda _, world, __: os.remove(world.outside / "secret.csv"))),
}
"""Name -> the outcome that the oracle must find, and a kind of cases with it."""
