"""A folder that a C, C++ or Fortran program is linked with: the ONNX graph, sources and examples."""

import importlib.resources
import pathlib

from jaxtyping import PyTree

from sciml.export._onnx import onnx
from sciml.export._program import Shape
from sciml.files import write_bytes

_FILES = ("sciml_model.h", "sciml_model.c", "sciml_model.f90", "main.c", "main.f90", "Makefile")


def c(model: PyTree, shape: Shape, folder: str | pathlib.Path) -> None:
    """Writes `model.onnx` and what calls it from C and Fortran through the C interface of onnxruntime.

    `sciml_model.h` and `sciml_model.c` load the model, tell its shapes and run it; `sciml_model.f90` is the Fortran
    module of the same functions. `main.c` and `main.f90` call it in a time loop. `make ORT_DIR=...` builds all of them
    with an unpacked release of onnxruntime, `make fortran` the Fortran example as well.

    Args:
        model: As in `onnx`.
        shape: As in `onnx`.
        folder: The folder to write into; it is made if it does not exist.

    Raises:
        ModuleNotFoundError: If the package onnx is not installed.
        ValueError: As `onnx`.
        OSError: If a file cannot be written.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    onnx(model, shape, folder / "model.onnx")
    sources = importlib.resources.files("sciml.export") / "c_interface"
    for name in _FILES:
        write_bytes(folder / name, (sources / name).read_bytes())
