"""What the devices send in a step of training, read from the compiled program."""

import functools
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

from sciml import parallel

PROGRAM = pathlib.Path(__file__).with_name("traffic.py")
SAMPLES, MODES, WIDTH, DEPTH = 8, 6 * 4, 8, 2  # of the FNO of `helpers.OPERATORS`, in two dimensions
CASES = (
    ("fno", "data=8", 0, 1),
    ("fno", "data=8", 1024, 1),
    ("fno", "data=4", 0, 2),
    ("fno", "data=4", 1024, 2),
    ("fno", "data=2,space=4", 0, 1),
    ("fno", "space=4x2", 0, 1),
    ("mgno", "data=2,space=2x2", 0, 1),
    ("convnet", "data=2,space=4", 0, 1),
    ("rematerialised", "space=4x2", 0, 1),
)


@functools.cache
def results():
    """What the program prints for each case; one start of it for all."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-W", "ignore", str(PROGRAM), json.dumps(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {tuple(one["case"]): one for one in map(json.loads, done.stdout.splitlines())}


def parameters(case):
    return sum(math.prod(shape) for shape in results()[case]["arrays"])


@pytest.mark.parametrize(("devices", "accumulate"), [(8, 1), (4, 2)])
def test_data_parallel_steps_exchange_the_gradient_and_the_loss_at_once(devices, accumulate):
    case = ("fno", f"data={devices}", 0, accumulate)
    exchange = ["all-reduce", 4 * (parameters(case) + 1), devices, [[parameters(case) + 1]]]
    assert results()[case]["exchanges"] == [exchange]


@pytest.mark.parametrize(("words", "accumulate"), [("data=8", 1), ("data=4", 2)])
def test_a_state_in_parts_sends_as_much_as_a_whole_one(words, accumulate):
    whole, parts = (results()["fno", words, smallest, accumulate] for smallest in (0, 1024))
    assert {kind for kind, *_ in parts["exchanges"]} == {"all-gather", "reduce-scatter", "all-reduce"}
    assert parts["sent"] == pytest.approx(whole["sent"], abs=64)  # the norm of the gradient, in pieces


@pytest.mark.parametrize(("words", "parts"), [("data=2,space=4", 4), ("space=4x2", 8)])
def test_spectral_layers_of_parts_exchange_their_modes_alone(words, parts):
    found, samples = results()["fno", words, 0, 1]["exchanges"], SAMPLES * parts // 8
    of_modes = [size for _, size, *_ in found if size == 2 * 4 * MODES * samples * WIDTH]  # real and imaginary parts
    assert len(of_modes) == 2 * DEPTH  # forwards and backwards
    others = sum(size for _, size, *_ in found) - sum(of_modes)
    assert {kind for kind, *_ in found} == {"all-reduce"}
    assert others == 4 * (parameters(("fno", words, 0, 1)) + 1) + 2 * 4 * samples  # gradient and loss, norms of samples


def test_layers_that_are_computed_again_send_nothing_again():
    again, once = (results()[name, "space=4x2", 0, 1] for name in ("rematerialised", "fno"))
    assert sorted(again["exchanges"]) == sorted(once["exchanges"])


def test_stencils_of_parts_exchange_faces_alone():
    case = ("convnet", "data=2,space=4", 0, 1)
    found = results()[case]["exchanges"]
    faces = [arrays[0] for kind, _, _, arrays in found if kind == "collective-permute"]
    assert faces
    assert all(1 in (rows, columns) for _, rows, columns, *_ in (shape[-4:] for shape in faces))
    rest = [(kind, size) for kind, size, *_ in found if kind != "collective-permute"]
    assert {kind for kind, _ in rest} == {"all-reduce"}
    assert sum(size for _, size in rest) == 4 * (parameters(case) + 1) + 2 * 4 * SAMPLES // 2


def test_a_cycle_exchanges_faces_once_on_each_level():
    case = ("mgno", "data=2,space=2x2", 0, 1)
    found, depth, width, samples = results()[case]["exchanges"], 2, 6, SAMPLES // 2
    faces = [size for kind, size, *_ in found if kind == "collective-permute"]
    # Four faces on the first two levels, and before each of the two steps of the third, whose parts have too few points
    # for both. Along two axes one face of the state of the first level, but in the first layer, whose one channel of
    # data gets another ghost layer instead. No gradient of the input is asked for.
    assert len(faces) == 2 * depth * (4 + 4 + 2 * 4 + 2) - 4 - 2 * 2
    # Along the second axis of the middle level: 3 layers of the state and 2 of the data, both with those of the first.
    assert max(faces) == 4 * samples * width * (3 * (8 + 2 * 3) + 2 * (8 + 2 * 2))
    rest = [(kind, size) for kind, size, *_ in found if kind != "collective-permute"]
    assert {kind for kind, _ in rest} == {"all-reduce"}
    assert sum(size for _, size in rest) == 4 * (parameters(case) + 1) + 2 * 4 * samples


def test_operations_are_read_from_programs():
    program = """
  %all-reduce.1 = (f32[4,2]{1,0}, /*index=1*/bf16[3]{0}) all-reduce(%a, %b), replica_groups={{0,1},{2,3}}, to_apply=%sum
  %all-gather-start.2 = (f32[2]{0}, f32[8]{0}) all-gather-start(%c), replica_groups=[1,4]<=[4], dimensions={0}
  %all-gather-done.2 = f32[8]{0} all-gather-done(%all-gather-start.2)
  ROOT %collective-permute.3 = c64[5]{0} collective-permute(%d), source_target_pairs={{0,1},{1,0}}
"""
    found = parallel.exchanges(program, 4)
    assert [(one.kind, one.size, one.devices) for one in found] == [
        ("all-reduce", 38, 2),
        ("all-gather", 32, 4),
        ("collective-permute", 40, 4),
    ]
    assert [one.sent for one in found] == [38, 24, 40]
    assert parallel.sent(found) == 102
