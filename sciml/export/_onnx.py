"""ONNX: a graph of ordinary operations with the weights, for any runtime that knows none of JAX."""

import pathlib
from typing import Any

import equinox
import jax
import numpy as np
from jax.extend.core import Literal
from jaxtyping import PyTree

from sciml import nn
from sciml.export._onnx_complex import complex_equation, is_complex, of_constant
from sciml.export._onnx_graph import OPSET, Graph, Value
from sciml.export._onnx_rules import RULES
from sciml.export._program import Shape, program_of
from sciml.files import write_bytes

_INLINE = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_LONGEST_LOOP = 64


def onnx(model: PyTree, shape: Shape, path: str | pathlib.Path, *, batch: str | int = "batch") -> None:
    """Writes a model with its weights as an ONNX graph, in float32.

    Inputs are those of `stablehlo`, the output is `y`, each with a leading axis of the batch. The graph consists of
    operations of the standard domain, opset 20. It has no Fourier transform and no complex number: Fourier layers
    multiply by matrices of cosines and sines.

    Args:
        model: As in `stablehlo`.
        shape: `(channels, *space)` of a field, or of one frame; numbers.
        path: The file to write.
        batch: Size of the batch, or its name.

    Raises:
        ModuleNotFoundError: If the package onnx is not installed.
        ValueError: If the model does not take such fields, or does what cannot be written in operations of ONNX; the
            message says what and in which line of code.
        OSError: If the file cannot be written.
    """
    try:
        from onnx import checker
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Writing ONNX needs the package onnx, which is not installed: pip install 'sciml-jax[export]'."
        ) from error
    content = _model_proto(model, shape, batch)
    checker.check_model(content, full_check=True)
    write_bytes(pathlib.Path(path), content.SerializeToString())


def _model_proto(model: PyTree, shape: Shape, batch: str | int) -> Any:
    from onnx import TensorProto, helper

    from sciml import __version__

    if not all(isinstance(size, int) for size in shape):
        raise ValueError(f"Expected a shape of numbers, got {shape}. ONNX graphs are written for one grid.")
    program = program_of(model, shape)
    with jax.enable_x64(False):
        arguments = program.arguments(batch)
        closed = jax.make_jaxpr(program.batched)(*arguments)
        graph = Graph(arguments[0].shape[0])
        inputs = [
            graph.input(name, argument.shape, np.float32)
            for name, argument in zip(program.inputs, arguments, strict=True)
        ]
        (result,) = _run(graph, closed.jaxpr, closed.consts, inputs)
        (out,) = closed.out_avals
        result = graph.full(graph.cast(result, np.float32), out.shape)
    graph.nodes.append(helper.make_node("Identity", [graph.name_of(result)], ["y"]))
    describe = lambda name, sizes: helper.make_tensor_value_info(
        name, TensorProto.FLOAT, [size if isinstance(size, int) else str(size) for size in sizes]
    )
    described = [describe(name, one.shape) for name, one in zip(program.inputs, arguments, strict=True)]
    built = helper.make_graph(graph.nodes, "model", described, [describe("y", out.shape)], graph.initialisers)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        built, opset_imports=opsets, ir_version=9, producer_name="sciml", producer_version=__version__
    )


def _run(graph: Graph, jaxpr: Any, constants: Any, arguments: list[Any], place: str = "") -> list[Any]:
    """Writes the equations of a jaxpr in their order; `place` is where it was called."""
    known = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= {var: of_constant(np.asarray(value)) for var, value in zip(jaxpr.constvars, constants, strict=True)}
    dtype = lambda atom: atom.aval.dtype
    read = lambda atom: of_constant(np.asarray(atom.val, dtype(atom))) if isinstance(atom, Literal) else known[atom]
    for eqn in jaxpr.eqns:
        found = _equation(graph, eqn, [read(atom) for atom in eqn.invars], place)
        known |= zip(eqn.outvars, found if isinstance(found, list) else [found], strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _equation(graph: Graph, eqn: Any, values: list[Any], place: str) -> Any:
    name, form, place = eqn.primitive.name, nn.ordinary(eqn), _place(eqn) or place
    if form is not None:
        inner = jax.make_jaxpr(form)(*(var.aval for var in eqn.invars))
        return _run(graph, inner.jaxpr, inner.consts, values, place)
    if nn.is_gelu(eqn):  # one operation instead of 20
        return graph.unary("Gelu", values[0])
    if name == "scan":
        return _scan(graph, eqn, values, place)
    for key in _INLINE:
        if key in eqn.params:
            inner = eqn.params[key]
            return _run(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values, place)
    try:
        if is_complex(eqn, values):
            return complex_equation(graph, eqn, values, RULES)
        if name not in RULES:
            raise NotImplementedError(f"the operation {name}")
        return RULES[name](graph, eqn, values)
    except NotImplementedError as error:
        raise _refusal(place, str(error)) from None


def _refusal(place: str, what: str) -> ValueError:
    return ValueError(
        f"The model cannot be written in operations of ONNX: it contains {what}, in {place or 'an unknown place'}. "
        "Export it as StableHLO, or replace this part of the model."
    )


def _place(eqn: Any) -> str:
    """The function that an equation was traced from, outside of JAX; empty if it is not known."""
    trace = eqn.source_info.traceback
    libraries = [str(pathlib.Path(module.__file__ or "").parent) for module in (jax, equinox)]
    for frame in trace.frames if trace is not None else ():
        if not any(frame.file_name.startswith(folder) for folder in libraries):
            return f"{frame.function_name} ({pathlib.Path(frame.file_name).name}:{frame.line_num})"
    return ""


def _scan(graph: Graph, eqn: Any, values: list[Any], place: str) -> list[Any]:
    """A short loop, written out step by step."""
    params, length = eqn.params, eqn.params["length"]
    if not isinstance(length, int) or length > _LONGEST_LOOP:
        raise _refusal(place, f"a loop of {length} steps, more than {_LONGEST_LOOP}")
    inner, fixed, moving = params["jaxpr"], params["num_consts"], params["num_carry"]
    constants, carry, rows = values[:fixed], values[fixed : fixed + moving], values[fixed + moving :]
    steps = range(length)[::-1] if params["reverse"] else range(length)
    results: list[list[Any]] = [[] for _ in inner.out_avals[moving:]]
    for step in steps:
        given = [*constants, *carry, *(_entry(graph, row, step) for row in rows)]
        found = _run(graph, inner.jaxpr, inner.consts, given, place)
        carry = found[:moving]
        for kept, one in zip(results, found[moving:], strict=True):
            kept.append(one)
    avals, order = inner.out_avals[moving:], -1 if params["reverse"] else 1
    return [*carry, *(_rows(graph, kept[::order], aval) for kept, aval in zip(results, avals, strict=True))]


def _entry(graph: Graph, row: Value, step: int) -> Value:
    at = step if row.shape[0] != 1 else 0
    ones = [1] * len(row.shape)
    return graph.reshape(graph.cut(row, [at, *[0] * (len(ones) - 1)], [at + 1, *row.shape[1:]], ones), row.shape[1:])


def _rows(graph: Graph, kept: list[Value], aval: Any) -> Value:
    parts = [graph.reshape(graph.full(one, aval.shape), (1, *aval.shape)) for one in kept]
    return graph.concatenate(parts, 0, (len(kept), *aval.shape))
