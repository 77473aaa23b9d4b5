"""How each operation of JAX is written in operations of ONNX."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sciml.export._onnx_graph import Graph, Value, constant
from sciml.export._onnx_products import convolution, dynamic_slice, gather, largest_in_windows, product

Rule = Callable[[Graph, Any, list[Value]], Value | list[Value]]
"""From the graph, the equation of the jaxpr and its operands to its results."""

_ELEMENTWISE: dict[str, tuple[str, Callable[..., Any]]] = {
    "add": ("Add", np.add),
    "add_any": ("Add", np.add),
    "sub": ("Sub", np.subtract),
    "mul": ("Mul", np.multiply),
    "max": ("Max", np.maximum),
    "min": ("Min", np.minimum),
    "pow": ("Pow", np.power),
    "neg": ("Neg", np.negative),
    "exp": ("Exp", np.exp),
    "log": ("Log", np.log),
    "sqrt": ("Sqrt", np.sqrt),
    "tanh": ("Tanh", np.tanh),
    "sin": ("Sin", np.sin),
    "cos": ("Cos", np.cos),
    "abs": ("Abs", np.abs),
    "sign": ("Sign", np.sign),
    "floor": ("Floor", np.floor),
    "ceil": ("Ceil", np.ceil),
    "not": ("Not", np.logical_not),
    "and": ("And", np.logical_and),
    "or": ("Or", np.logical_or),
}
_COMPARISONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "eq": ("Equal", np.equal),
    "lt": ("Less", np.less),
    "le": ("LessOrEqual", np.less_equal),
    "gt": ("Greater", np.greater),
    "ge": ("GreaterOrEqual", np.greater_equal),
}
_REDUCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "reduce_sum": ("ReduceSum", np.sum),
    "reduce_max": ("ReduceMax", np.max),
    "reduce_min": ("ReduceMin", np.min),
    "reduce_prod": ("ReduceProd", np.prod),
}


def broadcast(values: Sequence[Value]) -> tuple[Any, ...]:
    """The shape that ONNX gives to a result of several operands of equal rank, or of scalars."""
    rank = max(len(one.shape) for one in values)
    shapes = [one.shape for one in values if len(one.shape) == rank]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True))


def _apply(graph: Graph, op: str, function: Callable[..., Any], values: list[Value], dtype: Any) -> Value:
    if all(one.constant is not None for one in values):
        return constant(np.asarray(function(*(one.constant for one in values)), dtype))
    return graph.node(op, values, broadcast(values), dtype)


def _elementwise(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    op, function = _ELEMENTWISE[eqn.primitive.name]
    if op in ("And", "Or", "Not") and values[0].dtype != np.bool_:
        raise NotImplementedError("a bitwise operation on integers")
    return _apply(graph, op, function, values, values[0].dtype)


def _comparison(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return _apply(graph, *_COMPARISONS[eqn.primitive.name], values, np.bool_)


def _unequal(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return graph.unary("Not", _apply(graph, "Equal", np.equal, values, np.bool_))


def _division(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    truncated = lambda a, b: np.trunc(a / b)  # as of integers in XLA and in ONNX
    function = np.divide if np.issubdtype(values[0].dtype, np.floating) else truncated
    return _apply(graph, "Div", function, values, values[0].dtype)


def _reciprocal_root(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    one = np.ones((), values[0].dtype)
    root = _apply(graph, "Sqrt", np.sqrt, values, values[0].dtype)
    return _apply(graph, "Div", np.divide, [constant(one), root], root.dtype)


def _logistic(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return graph.unary("Sigmoid", values[0])


def _error_function(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return graph.unary("Erf", values[0])


def _log_plus_one(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    one = constant(np.ones((), values[0].dtype))
    return graph.unary("Log", _apply(graph, "Add", np.add, [values[0], one], values[0].dtype))


def _exp_minus_one(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    one = constant(np.ones((), values[0].dtype))
    return _apply(graph, "Sub", np.subtract, [graph.unary("Exp", values[0]), one], values[0].dtype)


def _power(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    (x,), exponent = values, eqn.params["y"]
    if exponent == 0:
        return constant(np.ones((1,) * len(x.shape), x.dtype))
    result = None  # by squaring: Pow is slower and less exact
    for bit in bin(abs(exponent))[2:]:
        result = x if result is None else _apply(graph, "Mul", np.multiply, [result, result], x.dtype)
        if bit == "1" and result is not x:
            result = _apply(graph, "Mul", np.multiply, [result, x], x.dtype)
    assert result is not None
    one = constant(np.ones((), x.dtype))
    return result if exponent > 0 else _apply(graph, "Div", np.divide, [one, result], x.dtype)


def _square(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return _apply(graph, "Mul", np.multiply, [values[0], values[0]], values[0].dtype)


def _choice(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    which, *cases = values
    if which.dtype != np.bool_ or len(cases) != 2:
        raise NotImplementedError("a choice among more than two cases")
    off, on = cases
    if which.constant is not None and off.constant is not None and on.constant is not None:
        return constant(np.where(which.constant, on.constant, off.constant))
    return graph.node("Where", [which, on, off], broadcast(values), on.dtype)


def _clamp(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    low, x, high = values
    above = _apply(graph, "Max", np.maximum, [x, low], x.dtype)
    return _apply(graph, "Min", np.minimum, [above, high], x.dtype)


def _same(graph: Graph, eqn: Any, values: list[Value]) -> list[Value]:
    return values


def _convert(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return graph.cast(values[0], eqn.params["new_dtype"])


def _broadcast(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """Axes of size 1, which ONNX repeats where an operation needs it."""
    shape: list[Any] = [1] * len(eqn.params["shape"])
    for axis, size in zip(eqn.params["broadcast_dimensions"], values[0].shape, strict=True):
        shape[axis] = size
    return graph.reshape(values[0], shape)


def _reshape(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if values[0].constant is not None and math.prod(values[0].shape) == 1:
        return graph.reshape(values[0], (1,) * len(after))
    kept = [size for size in after if size != 1]
    if kept == [size for size in before if size != 1]:  # axes of size 1 come or go
        own = iter([have for size, have in zip(before, values[0].shape, strict=True) if size != 1])
        return graph.reshape(values[0], [1 if size == 1 else next(own) for size in after])
    return graph.reshape(graph.full(values[0], before), after)


def _transpose(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return graph.transpose(values[0], eqn.params["permutation"])


def _squeeze(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    gone = eqn.params["dimensions"]
    return graph.reshape(values[0], [size for axis, size in enumerate(values[0].shape) if axis not in gone])


def _slice(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """Repeated values of which a part is taken stay repeated ones."""
    (x,), shape = values, eqn.invars[0].aval.shape
    starts, stops = list(eqn.params["start_indices"]), list(eqn.params["limit_indices"])
    steps = list(eqn.params["strides"] or (1,) * len(shape))
    for axis, (own, size) in enumerate(zip(x.shape, shape, strict=True)):
        if own != size:
            starts[axis], stops[axis], steps[axis] = 0, 1, 1
    return graph.cut(x, starts, stops, steps)


def _reverse(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    (x,), turned = values, eqn.params["dimensions"]
    steps = [-1 if axis in turned and x.shape[axis] != 1 else 1 for axis in range(len(x.shape))]
    return graph.cut(x, [0] * len(steps), list(x.shape), steps)


def _concatenate(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    axis, shape = eqn.params["dimension"], eqn.outvars[0].aval.shape
    sizes = [var.aval.shape[axis] for var in eqn.invars]
    parts = [
        graph.full(one, [*one.shape[:axis], size, *one.shape[axis + 1 :]])
        for one, size in zip(values, sizes, strict=True)
    ]
    return graph.concatenate(parts, axis, shape)


def _stack(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    axis = eqn.params["axis"]
    parts = [graph.reshape(one, [*one.shape[:axis], 1, *one.shape[axis:]]) for one in values]
    return graph.concatenate(parts, axis, eqn.outvars[0].aval.shape)


def _split(graph: Graph, eqn: Any, values: list[Value]) -> list[Value]:
    (x,), axis, results, start = values, eqn.params["axis"], [], 0
    x = graph.full(x, [*x.shape[:axis], eqn.invars[0].aval.shape[axis], *x.shape[axis + 1 :]])
    for size in eqn.params["sizes"]:
        starts, stops = [0] * len(x.shape), list(x.shape)
        starts[axis], stops[axis] = start, start + int(size)
        results.append(graph.cut(x, starts, stops, [1] * len(starts)))
        start += int(size)
    return results


def _pad(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    (x, fill), edges = values, eqn.params["padding_config"]
    x = graph.full(x, eqn.invars[0].aval.shape)
    for axis, (_, _, inner) in enumerate(edges):
        if inner:
            x = _spread(graph, x, axis, inner, fill)
    x = graph.cut(
        x,
        [max(0, -low) for low, _, _ in edges],
        [size - max(0, -high) if high < 0 else size for size, (_, high, _) in zip(x.shape, edges, strict=True)],
        [1] * len(edges),
    )
    low, high = [max(0, one) for one, _, _ in edges], [max(0, one) for _, one, _ in edges]
    if not any((*low, *high)):
        return x
    shape = eqn.outvars[0].aval.shape
    return graph.node("Pad", [x, graph.integers((*low, *high)), graph.reshape(fill, ())], shape, x.dtype)


def _spread(graph: Graph, x: Value, axis: int, inner: int, fill: Value) -> Value:
    """So many values between neighbours along an axis."""
    size, rank = x.shape[axis], len(x.shape)
    x = graph.reshape(x, [*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]])
    edges = [0] * (2 * (rank + 1))
    edges[rank + 1 + axis + 1] = inner
    wide = [*x.shape[: axis + 1], 1 + inner, *x.shape[axis + 2 :]]
    x = graph.node("Pad", [x, graph.integers(edges), graph.reshape(fill, ())], wide, x.dtype)
    x = graph.reshape(x, [*x.shape[:axis], size * (1 + inner), *x.shape[axis + 2 :]])
    stops = list(x.shape)
    stops[axis] = size * (1 + inner) - inner
    return graph.cut(x, [0] * rank, stops, [1] * rank)


def _reduction(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    op, function = _REDUCTIONS[eqn.primitive.name]
    axes = tuple(eqn.params["axes"])
    if not axes:
        return values[0]
    x = graph.full(
        values[0],
        [
            size if axis in axes else own
            for axis, (own, size) in enumerate(zip(values[0].shape, eqn.invars[0].aval.shape, strict=True))
        ],
    )
    if x.constant is not None:
        return constant(np.asarray(function(x.constant, axis=axes), x.dtype))
    shape = [size for axis, size in enumerate(x.shape) if axis not in axes]
    return graph.node(op, [x, graph.integers(axes)], shape, x.dtype, keepdims=0)


def _iota(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    shape, along = eqn.params["shape"], eqn.params["dimension"]
    row = [1] * len(shape)
    row[along] = -1
    return constant(np.arange(shape[along], dtype=eqn.params["dtype"]).reshape(row))


def _size(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    return graph.cast(graph.reshape(graph.integers([eqn.params["dim"]]), ()), np.int32)


def _cumulative_sum(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    x = graph.full(values[0], eqn.invars[0].aval.shape)
    axis = constant(np.array(eqn.params["axis"], np.int64))
    return graph.node("CumSum", [x, axis], x.shape, x.dtype, reverse=int(eqn.params["reverse"]))


def _tile(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    x, repeats = graph.full(values[0], eqn.invars[0].aval.shape), eqn.params["reps"]
    return graph.node("Tile", [x, graph.integers(repeats)], eqn.outvars[0].aval.shape, x.dtype)


def _place_of_largest(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    x, (axis,) = graph.full(values[0], eqn.invars[0].aval.shape), eqn.params["axes"]
    op = "ArgMax" if eqn.primitive.name == "argmax" else "ArgMin"
    found = graph.node(op, [x], eqn.outvars[0].aval.shape, np.int64, axis=axis, keepdims=0)
    return graph.cast(found, eqn.params["index_dtype"])


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(
        ("stop_gradient", "optimization_barrier", "copy", "copy_p", "reduce_precision", "name", "pvary", "device_put"),
        _same,
    ),
    "ne": _unequal,
    "div": _division,
    "rsqrt": _reciprocal_root,
    "logistic": _logistic,
    "erf": _error_function,
    "log1p": _log_plus_one,
    "expm1": _exp_minus_one,
    "integer_pow": _power,
    "square": _square,
    "select_n": _choice,
    "clamp": _clamp,
    "convert_element_type": _convert,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "slice": _slice,
    "rev": _reverse,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "pad": _pad,
    "iota": _iota,
    "dim_as_value": _size,
    "cumsum": _cumulative_sum,
    "tile": _tile,
    "argmax": _place_of_largest,
    "argmin": _place_of_largest,
    "reduce_window_max": largest_in_windows,
    "dot_general": product,
    "conv_general_dilated": convolution,
    "gather": gather,
    "dynamic_slice": dynamic_slice,
}
"""Name of an operation of JAX -> how it is written."""
