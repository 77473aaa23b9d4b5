"""Operators on parts of fields that are cut over 8 devices compute what they compute on whole fields."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest
from helpers import OPERATORS

PROGRAM = pathlib.Path(__file__).with_name("parts.py")
WHOLE = {  # why these are not cut, in the words of the refusal
    "deeponet": "A DeepONet needs whole fields",
    "galerkin": "The attention of a Galerkin transformer needs whole fields",
    "transolver": "The attention of a Transolver needs whole fields",
    "cno": "A filtered activation needs whole fields",
    "padded": "A field that is padded needs whole fields",
    "flax": "A Flax network needs whole fields",
    "normalised": "A Flax network needs whole fields",
    "resampled": "A cubic spline needs whole fields",
}
CUT = [name for name in OPERATORS if name not in WHOLE]
LINES = [(name, "mixed", (64,), (4,)) for name in ("unet", "global resnet")]  # all operators are in SLOW
WALLS = ("periodic", "dirichlet", "neumann", "mixed")
REFUSED = [(name, "periodic", (64,), (4,)) for name in WHOLE]
PENCILS = [("mgno", "dirichlet", (16, 16), (4, 2)), ("fno", "periodic", (16, 16), (2, 2))]
SLOW = [
    ("mgno", "periodic", (64,), (8,)),
    *((name, walls, (32, 32), parts) for name in CUT for walls, parts in (("periodic", (2, 2)), ("mixed", (4, 1)))),
    *((name, walls, (64,), (4,)) for name in CUT for walls in WALLS),
    *((name, walls, (16, 16, 16), (2, 2, 2)) for name in ("mgno", "fno", "ffno") for walls in ("dirichlet", "neumann")),
    *((name, "mixed", (16, 16, 16), (1, 4, 1)) for name in ("mgno", "tfno", "dilated resnet")),
    *((name, walls, (64,), (4,)) for name in ("corrections", "both ways") for walls in WALLS),
    ("corrections", "neumann", (32, 32), (2, 2)),
]


@functools.cache
def results(cases):
    """What the program prints for each case; one start of it for all."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-W", "ignore", str(PROGRAM), json.dumps(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {json.dumps(one.pop("case")): one for one in map(json.loads, done.stdout.splitlines())}


def check(case, cases):
    found = results(tuple(cases))[json.dumps(case)]
    assert found["value"] < 1e-12
    assert found["input gradient"] < 1e-12
    assert found["gradient norm"] < 1e-12
    assert found["three steps"] < 1e-10


@pytest.mark.parametrize("case", LINES + PENCILS, ids=str)
def test_parts_compute_what_whole_fields_do(case):
    check(case, LINES + PENCILS + REFUSED)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=str)
def test_parts_of_every_kind_compute_what_whole_fields_do(case):
    check(case, SLOW)


@pytest.mark.parametrize("name", WHOLE)
def test_what_needs_whole_fields_refuses_parts(name):
    found = results((*LINES, *PENCILS, *REFUSED))[json.dumps((name, "periodic", (64,), (4,)))]
    assert found["refused"].startswith(WHOLE[name])
