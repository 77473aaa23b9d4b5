"""Programs in C and Fortran that call an exported model in a time loop print the numbers of JAX."""

import importlib.util
import os
import pathlib
import shutil
import subprocess

import exported_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import export
from sciml.operators import FNO
from sciml.rollout import Conditions, followed_by

pytest.importorskip("onnx", reason="the extra `export` is not installed")

NX, NY, STEPS = 8, 12, 3
ELSEWHERE = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime", "/usr/local/include")


def header():
    """The folder of onnxruntime's C header: in $ORT_DIR, or where packages of systems put it."""
    given = os.environ.get("ORT_DIR")
    folders = [*([f"{given}/include", f"{given}/include/onnxruntime"] if given else []), *ELSEWHERE]
    return next((path for path in map(pathlib.Path, folders) if (path / "onnxruntime_c_api.h").is_file()), None)


def library():
    """The shared library: that of $ORT_DIR, or the one in the Python package."""
    given = os.environ.get("ORT_DIR")
    found = sorted(pathlib.Path(given, "lib").glob("libonnxruntime.so*")) if given else []
    spec = importlib.util.find_spec("onnxruntime")
    if not found and spec is not None and spec.origin is not None:
        found = sorted(pathlib.Path(spec.origin).parent.glob("capi/libonnxruntime.so*"))
    return found[0] if found else None


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """A folder as the Makefile wants it, with links to header and library."""
    include, shared = header(), library()
    if include is None:
        pytest.skip("onnxruntime_c_api.h is not here; ORT_DIR names the folder of a release of onnxruntime")
    if shared is None:
        pytest.skip("libonnxruntime.so is neither in $ORT_DIR/lib nor in the package onnxruntime")
    folder = tmp_path_factory.mktemp("onnxruntime")
    (folder / "include").symlink_to(include)
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(shared)
    return folder


def compiler(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


def built(model, shape, folder, runtime, target, flags):
    """The folder of an export, with a program that was built without a warning."""
    compiler("make")
    export.c(model, shape, folder)
    command = ["make", f"ORT_DIR={runtime}", flags, *target]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return folder


def printed(folder, program):
    """The numbers of each step."""
    done = subprocess.run([f"./{program}", "model.onnx", str(STEPS)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("step")]
    return np.array([[float(word) for word in line[2:]] for line in lines])


def field(*shape):
    """What both programs begin with."""
    return (1 + 0.5 * np.sin(0.1 * np.arange(1, np.prod(shape) + 1))).astype(np.float32).reshape(shape)


def summary(y):
    y = np.asarray(y, np.float64).ravel()
    return [y[0], y[-1], np.linalg.norm(y)]


@pytest.fixture(scope="module")
def step_in_jax():
    """A step under conditions, and what its time loop gives."""
    model = exported_models.conditioned(NX, NY)
    call, frames, lines = jax.jit(lambda *arguments: model(*arguments)), jnp.asarray(field(3, 2, NX, NY)), []
    conditions = Conditions(field(1, NX, NY), field(1), np.float32(1))
    for _ in range(STEPS):
        new = call(frames, conditions)
        lines.append(summary(new))
        frames = followed_by(frames, new)
    return model, np.array(lines)


def operator():
    return FNO(2, 2, modes=(4, 4), width=6, depth=1, key=jax.random.key(0))


def loop(model):
    """The numbers of the time loop of an operator."""
    u, lines, call = jnp.asarray(field(2, NX, NY)), [], jax.jit(lambda u: model(u))
    for _ in range(STEPS):
        u = call(u)
        lines.append(summary(u))
    return np.array(lines)


@pytest.mark.parametrize(
    ("program", "target", "flags", "compiler_name"),
    [
        ("main_c", ["all"], "CFLAGS=-O1 -Wall -Wextra -Wpedantic", "cc"),
        ("main_f", ["fortran"], "FFLAGS=-O1 -Wall -std=f2018", "gfortran"),
    ],
)
def test_a_time_loop_prints_the_numbers_of_jax(runtime, tmp_path, program, target, flags, compiler_name):
    compiler(compiler_name)
    model = operator()
    built(model, (2, NX, NY), tmp_path, runtime, target, flags)
    expected = loop(model)
    # float32 twice, and the norm of what three steps have changed
    np.testing.assert_allclose(printed(tmp_path, program), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_a_model_of_several_inputs_and_errors_in_words(runtime, tmp_path, step_in_jax):
    compiler("cc")
    model, expected = step_in_jax
    built(model, (2, NX, NY), tmp_path, runtime, ["main_c"], "CFLAGS=-O1 -Wall")
    np.testing.assert_allclose(printed(tmp_path, "main_c"), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    done = subprocess.run(["./main_c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[:3] == [f"frames 3 2 {NX} {NY}", f"fixed 1 {NX} {NY}", "parameters 1"]
    done = subprocess.run(["./main_c", "nothing.onnx"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "nothing.onnx" in done.stderr
    (tmp_path / "damaged.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:5000])
    done = subprocess.run(["./main_c", "damaged.onnx"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "damaged.onnx" in done.stderr


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("cc", ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "main.c"]),
        ("gfortran", ["gfortran", "-std=f2018", "-Wall", "-Werror", "-c", "sciml_model.f90", "main.f90"]),
    ],
)
def test_the_examples_compile_without_onnxruntime(name, command, tmp_path):
    compiler(name)
    sources = pathlib.Path(export.__file__).parent / "c_interface"
    words = [str(sources / word) if word.endswith((".c", ".f90")) else word for word in command]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
