"""Matrix products, convolutions and gathering in operations of ONNX."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sciml.export._onnx_graph import Graph, Size, Value, constant


def product(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """`dot_general` as MatMul of (batch, rows, inner) and (batch, inner, columns)."""
    return product_of(graph, eqn, values, eqn.outvars[0].aval.dtype)


def product_of(graph: Graph, eqn: Any, values: list[Value], dtype: np.dtype) -> Value:
    """The same with a type of the result, for the parts of complex numbers."""
    (a, b), ((inner_a, inner_b), (batch_a, batch_b)) = values, eqn.params["dimension_numbers"]
    shape_a, shape_b = (var.aval.shape for var in eqn.invars)
    rows = [axis for axis in range(len(shape_a)) if axis not in (*inner_a, *batch_a)]
    columns = [axis for axis in range(len(shape_b)) if axis not in (*inner_b, *batch_b)]
    shape = eqn.outvars[0].aval.shape
    if not inner_a and not rows and not columns:
        return graph.node("Mul", [graph.transpose(a, batch_a), graph.transpose(b, batch_b)], shape, dtype)
    a = _matrices(graph, graph.cast(a, dtype), shape_a, (batch_a, rows, inner_a))
    b = _matrices(graph, graph.cast(b, dtype), shape_b, (batch_b, inner_b, columns))
    lead = [x if x != 1 else y for x, y in zip(a.shape[:-2], b.shape[:-2], strict=True)]
    y = graph.node("MatMul", [a, b], (*lead, a.shape[-2], b.shape[-1]), dtype)
    kept = [shape_a[axis] for axis in rows] + [shape_b[axis] for axis in columns]
    return graph.reshape(y, [*lead, *kept])


def _matrices(graph: Graph, x: Value, shape: Sequence[Size], axes: tuple[Sequence[int], ...]) -> Value:
    """Axes in the order batch, first, second, where first and second are one axis each; the batch may be repeated."""
    batch, first, second = axes
    x = graph.full(
        x, [own if axis in batch else size for axis, (own, size) in enumerate(zip(x.shape, shape, strict=True))]
    )
    x = graph.transpose(x, [*batch, *first, *second])
    sizes = [_product(shape[axis] for axis in part) for part in (first, second)]
    return graph.reshape(x, [*x.shape[: len(batch)], *sizes])


def _product(sizes: Any) -> Size:
    return math.prod(sizes, start=1)


def convolution(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """`conv_general_dilated` as Conv, or as ConvTranspose where zeros stand between the values of the field."""
    params, dims = eqn.params, eqn.params["dimension_numbers"]
    if params["batch_group_count"] != 1:
        raise NotImplementedError("a convolution with groups of the batch")
    x, w = (graph.full(one, var.aval.shape) for one, var in zip(values, eqn.invars, strict=True))
    x, w = graph.transpose(x, dims.lhs_spec), graph.transpose(w, dims.rhs_spec)
    shape = [eqn.outvars[0].aval.shape[axis] for axis in dims.out_spec]
    pairs, spread = [tuple(pair) for pair in params["padding"]], params["lhs_dilation"]
    if set(spread) == {1}:
        y = _correlation(graph, x, w, pairs, params, shape)
    else:
        y = _transposed(graph, x, w, pairs, params, shape)
    return graph.transpose(y, np.argsort(dims.out_spec).tolist())


def _correlation(
    graph: Graph, x: Value, w: Value, pairs: list[tuple[int, int]], params: Any, shape: Sequence[Size]
) -> Value:
    x = _shorter(graph, x, pairs)
    return _windows(graph, "Conv", [x, w], shape, pairs, params, params["window_strides"])


def _windows(
    graph: Graph, op: str, operands: list[Value], shape: Any, pairs: list[tuple[int, int]], params: Any, strides: Any
) -> Value:
    """Conv or ConvTranspose; a negative number of values at an edge counts as none."""
    return graph.node(
        op,
        operands,
        shape,
        operands[0].dtype,
        kernel_shape=list(operands[1].shape[2:]),
        strides=list(strides),
        dilations=list(params["rhs_dilation"]),
        pads=[max(0, low) for low, _ in pairs] + [max(0, high) for _, high in pairs],
        group=params["feature_group_count"],
    )


def _shorter(graph: Graph, x: Value, pairs: list[tuple[int, int]]) -> Value:
    """A field without the values that negative padding drops."""
    starts = [0, 0, *(max(0, -low) for low, _ in pairs)]
    stops = [*x.shape[:2], *(n - max(0, -high) for n, (_, high) in zip(x.shape[2:], pairs, strict=True))]
    return graph.cut(x, starts, stops, [1] * len(starts))


def _transposed(
    graph: Graph, x: Value, w: Value, pairs: list[tuple[int, int]], params: Any, shape: Sequence[Size]
) -> Value:
    """ConvTranspose with the mirrored kernel; what it pads is counted from the other side."""
    if set(params["window_strides"]) != {1}:
        raise NotImplementedError("a convolution that has strides in both its field and its result")
    groups, axes = params["feature_group_count"], range(2, len(w.shape))
    w = graph.cut(w, [0] * len(w.shape), w.shape, [1, 1, *([-1] * len(axes))])
    out, into = w.shape[:2]
    if groups > 1:  # (groups * out, in) -> (groups * in, out)
        w = graph.reshape(w, [groups, out // groups, into, *w.shape[2:]])
        w = graph.transpose(w, [0, 2, 1, *range(3, len(w.shape))])
        w = graph.reshape(w, [groups * into, out // groups, *w.shape[3:]])
    else:
        w = graph.transpose(w, [1, 0, *axes])
    reach = [(k - 1) * r for k, r in zip(w.shape[2:], params["rhs_dilation"], strict=True)]
    drop = [(r - low, r - high) for r, (low, high) in zip(reach, pairs, strict=True)]
    wide = [*shape[:2], *(n + min(0, a) + min(0, b) for n, (a, b) in zip(shape[2:], drop, strict=True))]
    y = _windows(graph, "ConvTranspose", [x, w], wide, drop, params, params["lhs_dilation"])
    edges = [0, 0, *(max(0, -low) for low, _ in drop), 0, 0, *(max(0, -high) for _, high in drop)]
    return graph.node("Pad", [y, graph.integers(edges)], shape, x.dtype) if any(edges) else y


def largest_in_windows(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """`reduce_window_max` as MaxPool over the axes whose windows have several points."""
    params, x = eqn.params, graph.full(values[0], eqn.invars[0].aval.shape)
    window, rank = params["window_dimensions"], len(x.shape)
    if set(params["base_dilation"]) != {1}:
        raise NotImplementedError("windows of a field with gaps")
    moving = [axis for axis in range(rank) if window[axis] != 1]
    kept = [axis for axis in range(rank) if window[axis] == 1]
    if any(params["window_strides"][axis] != 1 or tuple(params["padding"][axis]) != (0, 0) for axis in kept):
        raise NotImplementedError("windows of one point with strides")
    order, shape = [*kept, *moving], eqn.outvars[0].aval.shape
    x = graph.transpose(x, order)
    x = graph.reshape(x, [1, _product(x.shape[: len(kept)]), *x.shape[len(kept) :]])
    y = graph.node(
        "MaxPool",
        [x],
        [*x.shape[:2], *(shape[axis] for axis in moving)],
        x.dtype,
        kernel_shape=[window[axis] for axis in moving],
        strides=[params["window_strides"][axis] for axis in moving],
        dilations=[params["window_dilation"][axis] for axis in moving],
        pads=[params["padding"][axis][side] for side in (0, 1) for axis in moving],
    )
    y = graph.reshape(y, [shape[axis] for axis in order])
    return graph.transpose(y, np.argsort(order).tolist())


def gather(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """Entries along one axis at given places, or a box at a given place."""
    (x, places), dims = values, eqn.params["dimension_numbers"]
    shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    if dims.operand_batching_dims:
        raise NotImplementedError("gathering at places that differ within the batch")
    if not dims.collapsed_slice_dims and len(eqn.invars[1].aval.shape) == 1:
        return _box(graph, graph.full(x, shape), places, [int(axis) for axis in dims.start_index_map], sizes)
    whole = [axis for axis in range(len(shape)) if axis not in dims.collapsed_slice_dims]
    if len(dims.collapsed_slice_dims) != 1 or dims.start_index_map != dims.collapsed_slice_dims:
        raise NotImplementedError("gathering along several axes")
    if any(sizes[axis] != shape[axis] for axis in whole):
        raise NotImplementedError("gathering parts of an axis at several places")
    (axis,), before = dims.collapsed_slice_dims, len(eqn.invars[1].aval.shape) - 1
    x, places = graph.full(x, shape), graph.full(places, eqn.invars[1].aval.shape)
    places = graph.reshape(places, places.shape[:-1])
    taken = [*shape[:axis], *places.shape, *shape[axis + 1 :]]
    y = graph.node("Gather", [x, graph.cast(places, np.int64)], taken, x.dtype, axis=axis)
    # ONNX puts the axes of the places where the axis was, XLA where the result wants them.
    offsets = iter([*range(axis), *range(axis + before, len(taken))])
    own = iter(range(axis, axis + before))
    order = [next(offsets) if at in dims.offset_dims else next(own) for at in range(len(taken))]
    return graph.transpose(y, order)


def dynamic_slice(graph: Graph, eqn: Any, values: list[Value]) -> Value:
    """A box at a given place."""
    x, *starts = values
    x = graph.full(x, eqn.invars[0].aval.shape)
    parts = [graph.reshape(one, (1,)) for one in starts]
    places = graph.concatenate(parts, 0, (len(parts),))
    return _box(graph, x, places, tuple(range(len(parts))), eqn.params["slice_sizes"])


def _box(graph: Graph, x: Value, places: Value, axes: Sequence[int], sizes: Sequence[Size]) -> Value:
    moving = [i for i, axis in enumerate(axes) if sizes[axis] != x.shape[axis]]
    rest = [axis for axis in range(len(x.shape)) if axis not in axes and sizes[axis] != x.shape[axis]]
    if not moving and not rest:
        return x
    index = constant(np.array(moving, np.int64))
    starts = graph.node("Gather", [graph.cast(places, np.int64), index], (len(moving),), np.int64, axis=0)
    wide = graph.integers([sizes[axes[i]] for i in moving])
    stops = graph.node("Add", [starts, wide], (len(moving),), np.int64)
    zeros, ends = graph.integers([0] * len(rest)), graph.integers([sizes[axis] for axis in rest])
    if rest:
        starts, stops = (
            graph.concatenate([one, other], 0, (len(axes) + len(rest),))
            for one, other in ((starts, zeros), (stops, ends))
        )
    which = graph.integers([*(axes[i] for i in moving), *rest])
    return graph.node("Slice", [x, starts, stops, which], sizes, x.dtype)
