"""The model of benchmarks/weak_scaling.py: its messages are those of compiled programs, its times those of formulas."""

import functools
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
CASES = [
    ["fno", {"modes": [4, 6, 4], "width": 3, "depth": 2}, [2, 2, 2], 8],
    ["mgno", {"width": 2, "depth": 1, "levels": 2}, [4, 2], 8],
]
PROGRAM = """
import functools, json, sys
import weak_scaling as model
for name, sizes, parts, points in json.loads(sys.argv[1]):
    make = functools.partial(model.CASES[name], **sizes)
    print(json.dumps(model.compared(make, tuple(parts), points)))
"""


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    known = set(sys.modules)
    yield importlib.import_module("weak_scaling")
    for name in {"weak_scaling", "timer"} & (set(sys.modules) - known):
        del sys.modules[name]


@pytest.mark.slow  # compiles steps for 8 devices, as tests/parallel/test_traffic.py
def test_messages_are_those_of_compiled_steps():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(CASES)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["traced"] for one in found] == [one["compiled"] for one in found]
    assert set(found[0]["traced"]) == {"all-reduce"}
    assert "collective-permute" in found[1]["traced"]


def test_fourier_layers_sum_their_modes_on_any_number_of_devices(model):
    sizes = {"modes": (4, 6, 4), "width": 3, "depth": 2}
    make = functools.partial(model.fno, **sizes)
    of_modes = 2 * 4 * math.prod((4, 6, 3)) * 3  # real and imaginary parts, and float32
    for parts in ((8, 1, 1), (8, 8, 8)):
        sent = model.messages(model.traced(make, parts, 8))
        assert {one.kind for one in sent} == {"all-reduce"}
        assert [one.size for one in sent].count(of_modes) == 2 * 2  # there and back
        assert {one.axes for one in sent} == {("space0", "space1", "space2")}


def test_times_of_messages(model):
    cluster = model.Cluster(link=100e9, network=10e9, node=8)
    faces = lambda axis: model.Message("collective-permute", 10**9, (f"space{axis}",))
    assert model.seconds(faces(2), (2, 2, 2), cluster) == pytest.approx(0.01 + 11.8e-6)
    assert model.seconds(faces(2), (8, 8, 8), cluster) == pytest.approx(0.01 + 11.8e-6)  # a node is a line of 8 parts
    assert model.seconds(faces(0), (8, 8, 8), cluster) == pytest.approx(0.1 + 22.4e-6)
    small = model.Message("collective-permute", 64, ("space0",))
    assert model.seconds(small, (8, 8, 8), cluster) == pytest.approx(9.3e-6, rel=0.01)
    total = model.Message("all-reduce", 8, ("space0", "space1", "space2"))
    assert model.seconds(total, (8, 8, 8), cluster) == pytest.approx(6.8e-6 + 2 * (7 * 0.6e-6 + 6 * 5e-6), rel=0.01)
    assert model.seconds(total, (2, 2, 2), cluster) == pytest.approx(6.8e-6 + 2 * 7 * 0.6e-6, rel=0.01)
    gather = model.Message("all-gather", 8 * 10**8, ("space0",))
    assert model.seconds(gather, (8, 1, 1), cluster) == pytest.approx(7 / 8 * 8 * 10**8 / 100e9, rel=0.01)
    assert model.seconds(total, (8, 8, 8), model.Cluster(latency=2.0)) == pytest.approx(
        2 * model.seconds(total, (8, 8, 8), model.Cluster()), rel=0.01
    )


def test_messages_are_hidden_behind_products_that_do_not_wait_for_them(model):
    cluster, parts = model.Cluster(), (8,)
    ring = [(i, (i + 1) % 8) for i in range(8)]

    def chain(x):
        return jax.lax.ppermute(x, "space0", ring) @ x

    def beside(x):
        return jax.lax.ppermute(x, "space0", ring) + jax.jit(lambda y: y @ y)(x)

    def program(function):
        whole, cuts = jax.ShapeDtypeStruct((8 * 512, 512), jnp.float32), PartitionSpec("space0")
        on_parts = jax.shard_map(function, mesh=AbstractMesh(parts, ("space0",)), in_specs=cuts, out_specs=cuts)
        return jax.make_jaxpr(on_parts)(whole).jaxpr

    (sent,) = model.messages(program(chain))
    message, product = model.seconds(sent, parts, cluster), 2 * 512**3 / (cluster.share * cluster.flops)
    assert model.kernels_seconds(program(beside), cluster) == pytest.approx(product)
    assert model.overlapped(program(chain), parts, cluster, 3.0) == pytest.approx(message + 3 * product)
    assert model.overlapped(program(beside), parts, cluster, 3.0) == pytest.approx(max(message, 3 * product))


def test_one_device_sends_nothing_and_slower_links_are_slower(model, monkeypatch):
    monkeypatch.setitem(model.CASES, "fno", functools.partial(model.fno, modes=(4, 4, 4), width=2, depth=1))
    monkeypatch.setattr(model, "LAYOUTS", ((), (2, 2, 2)))
    cost = {"bytes": 1e4}
    fast, slow = (model.predicted("fno", model.Cluster(link=link), cost, None) for link in (450e9, 450e7))
    assert fast[0]["efficiency"] == fast[0]["efficiency_if_messages_overlap"] == pytest.approx(1)
    assert fast[0]["compute_seconds"] == pytest.approx(1e4 / 3.35e12 * 128**3, rel=0.2)  # nearly all is moving bytes
    assert slow[1]["efficiency"] < fast[1]["efficiency"] < 1
    measured = model.predicted("fno", model.Cluster(), cost, 10.0)
    assert measured[1]["efficiency"] > 0.999
