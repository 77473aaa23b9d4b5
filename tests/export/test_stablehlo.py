"""Programs of StableHLO give the numbers of the models in a process that knows none of their code."""

import json
import subprocess
import sys

import exported_models
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from helpers import OPERATORS, stirred

from sciml import export
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import FNO
from sciml.rollout import Conditions

BATCH, IN, OUT, NX, NY = 2, 3, 5, 16, 24  # no two equal: a swapped axis cannot pass
GRID = Grid((NX, NY), extent=(1.0, 2.0), boundary=((Dirichlet(), Neumann()), Periodic()))
QUICK = ("mgno", "convnext unet")  # correlations and sums of shifts, the primitives with forms of their own for CPUs

LOADING = """
import json, pathlib, sys
import jax, numpy as np
for name in json.loads(sys.argv[1]):
    program = jax.export.deserialize(bytearray(pathlib.Path(name + ".stablehlo").read_bytes()))
    np.save(name + "-y.npy", program.call(*(np.load(f"{name}-{i}.npy") for i in range(len(program.in_avals)))))
assert not [name for name in sys.modules if name.split(".")[0] in ("sciml", "equinox")]
"""


def loaded_elsewhere(names, folder):
    """The outputs of programs in a fresh process, which is kept from this package by its folder."""
    command = [sys.executable, "-c", LOADING, json.dumps(names)]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return {name: np.load(folder / f"{name}-y.npy") for name in names}


def assert_close(found, expected):
    """1e-6 of the norm: the same program, compiled twice."""
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param([name for name in OPERATORS if name not in QUICK], marks=pytest.mark.slow)]
)
def test_a_fresh_process_without_this_package_gets_the_same_numbers(names, tmp_path):
    x = np.random.default_rng(1).normal(size=(BATCH, IN, NX, NY)).astype(np.float32)
    expected = {}
    for name in names:
        model = stirred(lambda name=name: OPERATORS[name].make(IN, OUT, GRID, jax.random.key(0)))
        export.stablehlo(model, (IN, NX, NY), tmp_path / f"{name}.stablehlo")
        np.save(tmp_path / f"{name}-0.npy", x)
        expected[name] = np.asarray(jax.jit(jax.vmap(model))(x))
    for name, found in loaded_elsewhere(list(names), tmp_path).items():
        assert_close(found, expected[name])


def test_a_step_under_conditions_has_their_inputs(tmp_path):
    model, rng = exported_models.conditioned(NX, NY), np.random.default_rng(1)
    export.stablehlo(model, (2, NX, NY), tmp_path / "step.stablehlo")
    shapes = (BATCH, 3, 2, NX, NY), (BATCH, 1, NX, NY), (BATCH, 1)
    frames, fixed, parameters = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    program = jax.export.deserialize(bytearray((tmp_path / "step.stablehlo").read_bytes()))
    expected = jax.jit(jax.vmap(model))(frames, Conditions(fixed, parameters, np.ones(BATCH, np.float32)))
    assert_close(program.call(frames, fixed, parameters), expected)


def test_platforms_and_operations_are_those_of_xla(tmp_path):
    model = stirred(lambda: OPERATORS["convnext unet"].make(IN, OUT, GRID, jax.random.key(0)))
    export.stablehlo(model, (IN, NX, NY), tmp_path / "m")
    program = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    calls = {line.split("custom_call @")[1].split("(")[0] for line in program.mlir_module().splitlines()
             if "custom_call @" in line}  # fmt: skip
    assert calls <= {"shape_assertion"}


@pytest.fixture
def unchecked(monkeypatch):
    """Annotations say that sizes are ints, and symbolic ones are not."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["convnet", *(pytest.param(one, marks=pytest.mark.slow) for one in ("unet", "fno"))])
def test_a_resolution_with_a_name_is_chosen_when_the_program_runs(name, tmp_path):
    grid = Grid((NX, NY), extent=(1.0, 2.0))
    model = stirred(lambda: OPERATORS[name].make(IN, OUT, grid, jax.random.key(0)))
    export.stablehlo(model, (IN, "2*n", "2*m"), tmp_path / "m", smallest=8)
    program = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes()))
    x = np.random.default_rng(1).normal(size=(BATCH, IN, 32, 20)).astype(np.float32)
    assert_close(program.call(x), jax.jit(jax.vmap(model))(x))


@pytest.mark.usefixtures("unchecked")
def test_coordinates_follow_the_resolution(tmp_path):
    model = FNO(IN, OUT, modes=(4, 4), width=6, depth=1, grid=GRID, key=jax.random.key(0))
    export.stablehlo(model, (IN, "n", "m"), tmp_path / "m", smallest=8)
    program = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes()))
    x = np.random.default_rng(1).normal(size=(BATCH, IN, 19, 10)).astype(np.float32)
    assert_close(program.call(x), jax.jit(jax.vmap(model))(x))


def test_an_operator_of_one_grid_takes_no_names(tmp_path):
    model = stirred(lambda: OPERATORS["mgno"].make(IN, OUT, GRID, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"does not take fields \(3, 'n', 'm'\), whose sizes have names.*numbers"):
        export.stablehlo(model, (IN, "n", "m"), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_is_no_function_of_a_field_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected an operator.*got dict, which is no function"):
        export.stablehlo({"weight": jnp.ones(3)}, (1, 4), tmp_path / "m")
