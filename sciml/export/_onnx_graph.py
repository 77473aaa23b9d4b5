"""An ONNX graph under construction: values, constants, and the operations that only move numbers."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

OPSET = 20  # onnxruntime 1.17 (2024) and later
Size = Any
"""An int, or a symbolic size of JAX: a multiple of the batch."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A number array of the graph: the output of a node, or a constant that is not yet in the graph.

    Attributes:
        dtype: Type of its numbers.
        shape: Sizes. A size is 1 where a jaxpr has a larger one and the values repeat: ONNX broadcasts as NumPy does.
        name: Name in the graph, empty for a constant.
        constant: The numbers of a constant.
    """

    dtype: np.dtype
    shape: tuple[Size, ...]
    name: str = ""
    constant: np.ndarray | None = None


def constant(array: Any) -> Value:
    """A constant."""
    array = np.asarray(array)
    return Value(array.dtype, array.shape, constant=array)


class Graph:
    """Nodes and constants, in the order of their computation.

    Args:
        batch: The symbolic size of JAX that is the size of the batch, or an int.
    """

    def __init__(self, batch: Size) -> None:
        from onnx import helper

        self._helper, self._batch = helper, batch
        self._initialisers: dict[tuple[Any, ...], Any] = {}
        self._batch_name = ""
        self._count = 0
        self._source = ""
        self.nodes: list[Any] = []

    @property
    def initialisers(self) -> list[Any]:
        """The constants of the graph."""
        return list(self._initialisers.values())

    def input(self, name: str, shape: Sequence[Size], dtype: Any) -> Value:
        """An argument. The first one tells the size of the batch."""
        self._source = self._source or name
        return Value(np.dtype(dtype), tuple(shape), name)

    def name_of(self, value: Value) -> str:
        """The name of a value; a constant becomes one of the graph, equal ones once."""
        if value.constant is None:
            return value.name
        from onnx import numpy_helper

        array = np.ascontiguousarray(value.constant).reshape(value.constant.shape)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._initialisers:
            self._initialisers[key] = numpy_helper.from_array(array, f"c{len(self._initialisers)}")
        return self._initialisers[key].name

    def node(
        self, op: str, inputs: Sequence[Value | None], shape: Sequence[Size], dtype: Any, **attributes: Any
    ) -> Value:
        """The output of a new node with one output; an input that is None is left out."""
        self._count += 1
        names = ["" if one is None else self.name_of(one) for one in inputs]
        self.nodes.append(self._helper.make_node(op, names, [f"v{self._count}"], **attributes))
        return Value(np.dtype(dtype), tuple(shape), f"v{self._count}")

    def unary(self, op: str, value: Value, **attributes: Any) -> Value:
        """A node that keeps shape and type."""
        return self.node(op, [value], value.shape, value.dtype, **attributes)

    # Sizes

    def integers(self, sizes: Iterable[Size]) -> Value:
        """Sizes as a vector of int64: a constant, or computed from the size of the batch."""
        sizes = list(sizes)
        if all(isinstance(size, int | np.integer) for size in sizes):
            return constant(np.array(sizes, np.int64))
        parts = [self._multiple(size) for size in sizes]
        return self.node("Concat", parts, (len(parts),), np.int64, axis=0)

    def _multiple(self, size: Size) -> Value:
        if isinstance(size, int | np.integer):
            return constant(np.array([size], np.int64))
        if not self._batch_name:
            source = Value(np.dtype(np.float32), (), self._source)
            self._batch_name = self.node("Shape", [source], (1,), np.int64, start=0, end=1).name
        batch, times = Value(np.dtype(np.int64), (1,), self._batch_name), size // self._batch
        if not isinstance(times, int) or times * self._batch != size:
            raise NotImplementedError(f"a size {size} that is no multiple of the batch")
        return batch if times == 1 else self.node("Mul", [batch, constant(np.array([times], np.int64))], (1,), np.int64)

    # Operations that only move numbers; of constants they are carried out at once.

    def full(self, value: Value, shape: Sequence[Size]) -> Value:
        """A value with all repetitions written out."""
        if tuple(value.shape) == tuple(shape):
            return value
        if value.constant is not None and all(isinstance(size, int) for size in shape):
            return constant(np.broadcast_to(value.constant, tuple(shape)))
        wanted = [1 if size == own else size for size, own in zip(shape, value.shape, strict=True)]
        return self.node("Expand", [value, self.integers(wanted)], shape, value.dtype)

    def reshape(self, value: Value, shape: Sequence[Size]) -> Value:
        """The same numbers in another shape."""
        if tuple(value.shape) == tuple(shape):
            return value
        unknown = [i for i, size in enumerate(shape) if not isinstance(size, int | np.integer)]
        if value.constant is not None:
            return constant(value.constant.reshape(tuple(shape)))
        free = [-1 if i in unknown else int(size) for i, size in enumerate(shape)] if len(unknown) < 2 else shape
        if 0 in free:  # -1 could be any number
            free = shape
        return self.node("Reshape", [value, self.integers(free)], shape, value.dtype, allowzero=1)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Axes in another order."""
        if list(order) == list(range(len(value.shape))):
            return value
        if value.constant is not None:
            return constant(value.constant.transpose(order))
        shape = [value.shape[axis] for axis in order]
        return self.node("Transpose", [value], shape, value.dtype, perm=list(order))

    def cut(self, value: Value, starts: Sequence[int], stops: Sequence[Size], steps: Sequence[int]) -> Value:
        """`value[starts:stops:steps]`; a negative step goes from the last number of an axis to its first."""
        whole = [
            start == 0 and stop == size and step == 1
            for start, stop, step, size in zip(starts, stops, steps, value.shape, strict=True)
        ]
        axes = [axis for axis, same in enumerate(whole) if not same]
        if not axes:
            return value
        if value.constant is not None:
            index = [slice(None)] * len(value.shape)
            for axis in axes:
                index[axis] = slice(starts[axis], stops[axis], steps[axis])
                if steps[axis] < 0:
                    index[axis] = slice(None, None, steps[axis])
            return constant(value.constant[tuple(index)])
        shape = list(value.shape)
        for axis in axes:
            span = stops[axis] - starts[axis]
            shape[axis] = value.shape[axis] if steps[axis] < 0 else -(-span // steps[axis]) if steps[axis] > 1 else span
        first = [-1 if steps[axis] < 0 else starts[axis] for axis in axes]
        last = [-(2**62) if steps[axis] < 0 else stops[axis] for axis in axes]
        bounds = [self.integers(one) for one in (first, last, axes, [steps[axis] for axis in axes])]
        return self.node("Slice", [value, *bounds], shape, value.dtype)

    def concatenate(self, values: Sequence[Value], axis: int, shape: Sequence[Size]) -> Value:
        """Values one after another along an axis, each with its repetitions written out along the others."""
        values = [
            self.full(one, [*shape[:axis], one.shape[axis], *shape[axis + 1 :]])
            for one in values
            if one.shape[axis] != 0
        ]
        if len(values) == 1:
            return values[0]
        known = [one.constant for one in values if one.constant is not None]
        if len(known) == len(values):
            return constant(np.concatenate(known, axis))
        return self.node("Concat", values, shape, values[0].dtype, axis=axis)

    def cast(self, value: Value, dtype: Any) -> Value:
        """Numbers of another type."""
        if value.dtype == np.dtype(dtype):
            return value
        if value.constant is not None:
            return constant(value.constant.astype(dtype))
        kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", [value], value.shape, dtype, to=kind)
