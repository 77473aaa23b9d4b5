"""Complex numbers as pairs of real ones, and Fourier transforms as products with cosines and sines."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sciml.export._onnx_graph import Graph, Value, constant

_LONGEST_TRANSFORM = 2048  # points of an axis: the matrices have that many rows and columns
_FEW = 64  # numbers that are computed while the graph is written
Rules = dict[str, Callable[[Graph, Any, list[Value]], Value | list[Value]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A complex array."""

    real: Value
    imaginary: Value

    def parts(self) -> tuple[Value, Value]:
        """Real and imaginary part."""
        return self.real, self.imaginary


_PART_BY_PART = (
    *("add", "add_any", "sub", "neg", "broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "rev", "split"),
    *("concatenate", "stack", "pad", "reduce_sum", "gather", "copy", "copy_p", "stop_gradient"),
)
_BY_REAL_PLACES = ("gather",)  # whose last operand is no number of the field


def is_complex(eqn: Any, values: Sequence[Value | Pair]) -> bool:
    """Whether an equation has complex operands or results."""
    return any(isinstance(one, Pair) for one in values) or any(
        np.issubdtype(var.aval.dtype, np.complexfloating) for var in eqn.outvars
    )


def of_constant(array: np.ndarray) -> Value | Pair:
    """A constant, a pair if it is complex."""
    if not np.iscomplexobj(array):
        return constant(array)
    return Pair(constant(np.real(array).astype(np.float32)), constant(np.imag(array).astype(np.float32)))


def complex_equation(graph: Graph, eqn: Any, values: list[Value | Pair], rules: Rules) -> Any:
    """An equation with complex operands or results.

    Raises:
        NotImplementedError: If there is no rule for it.
    """
    name = eqn.primitive.name
    if name in _PART_BY_PART:
        return _part_by_part(graph, eqn, values, rules[name])
    if name in _OWN:
        return _OWN[name](graph, eqn, values)
    known = [_known(one) for one in values]
    if all(one is not None and one.size < _FEW for one in known):  # such as the factor of a transform
        return of_constant(np.asarray(eqn.primitive.bind(*known, **eqn.params)))
    raise NotImplementedError(f"the operation {name} of complex numbers")


def _part_by_part(graph: Graph, eqn: Any, values: list[Value | Pair], rule: Any) -> Any:
    split = [_pair(one).parts() for one in values]
    if eqn.primitive.name in _BY_REAL_PLACES:
        split[-1] = (split[-1][0], split[-1][0])
    real, imaginary = (rule(graph, eqn, list(part)) for part in zip(*split, strict=True))
    if isinstance(real, list):
        return [Pair(one, other) for one, other in zip(real, imaginary, strict=True)]
    return Pair(real, imaginary)


def _known(value: Value | Pair) -> np.ndarray | None:
    """The numbers of a constant."""
    if isinstance(value, Value):
        return value.constant
    real, imaginary = (one.constant for one in value.parts())
    return None if real is None or imaginary is None else np.asarray(real + 1j * imaginary, np.complex64)


def _pair(value: Value | Pair) -> Pair:
    if isinstance(value, Pair):
        return value
    return Pair(value, constant(np.zeros((1,) * len(value.shape), value.dtype)))


def _binary(graph: Graph, op: str, a: Value, b: Value) -> Value:
    shape = (
        [x if x != 1 else y for x, y in zip(a.shape, b.shape, strict=True)]
        if a.shape and b.shape
        else (a.shape or b.shape)
    )
    return graph.node(op, [a, b], shape, a.dtype)


def _product(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Pair:
    (ar, ai), (br, bi) = (_pair(one).parts() for one in values)
    if not isinstance(values[0], Pair):
        return Pair(_binary(graph, "Mul", ar, br), _binary(graph, "Mul", ar, bi))
    if not isinstance(values[1], Pair):
        return Pair(_binary(graph, "Mul", ar, br), _binary(graph, "Mul", ai, br))
    real = _binary(graph, "Sub", _binary(graph, "Mul", ar, br), _binary(graph, "Mul", ai, bi))
    return Pair(real, _binary(graph, "Add", _binary(graph, "Mul", ar, bi), _binary(graph, "Mul", ai, br)))


def _quotient(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Pair:
    (ar, ai), b = _pair(values[0]).parts(), values[1]
    if isinstance(b, Pair):
        if b.imaginary.constant is None or b.imaginary.constant.any():
            raise NotImplementedError("a division by complex numbers")
        b = b.real
    return Pair(_binary(graph, "Div", ar, b), _binary(graph, "Div", ai, b))


def _contraction(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Pair:
    """`dot_general` of complex numbers as four real ones."""
    from sciml.export._onnx_products import product_of

    (ar, ai), (br, bi) = (_pair(one).parts() for one in values)
    times = lambda a, b: product_of(graph, eqn, [a, b], np.dtype(np.float32))
    real = _binary(graph, "Sub", times(ar, br), times(ai, bi))
    return Pair(real, _binary(graph, "Add", times(ar, bi), times(ai, br)))


def _complex(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Pair:
    shape = eqn.outvars[0].aval.shape
    real, imaginary = (graph.full(one, shape) for one in values if isinstance(one, Value))
    return Pair(real, imaginary)


def _real(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Value:
    return _pair(values[0]).real


def _imaginary(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Value:
    return _pair(values[0]).imaginary


def _conjugate(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Pair:
    real, imaginary = _pair(values[0]).parts()
    return Pair(real, graph.unary("Neg", imaginary))


def _convert(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Value | Pair:
    value = values[0]
    if np.issubdtype(eqn.params["new_dtype"], np.complexfloating):
        real, imaginary = _pair(value).parts()
        return Pair(graph.cast(real, np.float32), graph.cast(imaginary, np.float32))
    return graph.cast(_pair(value).real, eqn.params["new_dtype"])


def _transform(graph: Graph, eqn: Any, values: list[Value | Pair]) -> Value | Pair:
    """A discrete Fourier transform of the last axes, one after another."""
    kind, lengths = str(eqn.params["fft_type"]).rsplit(".", 1)[-1], eqn.params["fft_lengths"]
    if max(lengths) > _LONGEST_TRANSFORM:
        raise NotImplementedError(
            f"a Fourier transform of {max(lengths)} points, more than {_LONGEST_TRANSFORM} for which a product with a "
            "matrix is sensible"
        )
    rank = len(eqn.invars[0].aval.shape)
    axes = list(range(rank - len(lengths), rank))
    value = _pair(values[0])
    value = Pair(*(graph.full(one, eqn.invars[0].aval.shape) for one in value.parts()))
    inverse = kind in ("IFFT", "IRFFT", "3", "1")
    if kind in ("RFFT", "2"):
        value = _real_transform(graph, value.real, lengths[-1])
        axes.pop()
    last = axes.pop() if kind in ("IRFFT", "3") else None
    for axis, n in zip(axes, lengths, strict=False):
        value = _along(graph, value, axis, *_waves(n, inverse=inverse))
    return value if last is None else _real_inverse(graph, value, lengths[-1])


def _waves(n: int, *, inverse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of exp(-+ 2 pi i j k / n), with 1 / n in the inverse."""
    phase = 2 * np.pi / n * (np.outer(np.arange(n), np.arange(n)) % n)
    cosine, sine = np.cos(phase), np.sin(phase)
    return (cosine / n, sine / n) if inverse else (cosine, -sine)


def _matmul(graph: Graph, x: Value, matrix: np.ndarray) -> Value:
    wide = [*x.shape[:-1], matrix.shape[1]]
    return graph.node("MatMul", [x, constant(matrix.astype(np.float32))], wide, np.float32)


def _real_transform(graph: Graph, x: Value, n: int) -> Pair:
    """Of a real field along the last axis, frequencies 0 to n // 2."""
    cosine, sine = (one[:, : n // 2 + 1] for one in _waves(n, inverse=False))
    return Pair(_matmul(graph, x, cosine), _matmul(graph, x, sine))


def _real_inverse(graph: Graph, z: Pair, n: int) -> Value:
    """The real field whose frequencies 0 to n // 2 are given; the imaginary parts of 0 and n / 2 do not count."""
    k = np.arange(n // 2 + 1)
    twice = np.where((k == 0) | (2 * k == n), 1.0, 2.0)[:, None]
    cosine, sine = (one[: n // 2 + 1] * twice for one in _waves(n, inverse=True))
    return _binary(graph, "Sub", _matmul(graph, z.real, cosine), _matmul(graph, z.imaginary, sine))


def _along(graph: Graph, z: Pair, axis: int, cosine: np.ndarray, sine: np.ndarray) -> Pair:
    """The product of an axis with a symmetric complex matrix."""
    rank = len(z.real.shape)
    order = [*range(axis), *range(axis + 1, rank), axis]
    real, imaginary = (graph.transpose(one, order) for one in z.parts())
    rr, ri = _matmul(graph, real, cosine), _matmul(graph, real, sine)
    ir, ii = _matmul(graph, imaginary, cosine), _matmul(graph, imaginary, sine)
    found = _binary(graph, "Sub", rr, ii), _binary(graph, "Add", ri, ir)
    return Pair(*(graph.transpose(one, np.argsort(order).tolist()) for one in found))


_OWN: dict[str, Callable[[Graph, Any, list[Value | Pair]], Value | Pair]] = {
    "mul": _product,
    "div": _quotient,
    "dot_general": _contraction,
    "complex": _complex,
    "real": _real,
    "imag": _imaginary,
    "conj": _conjugate,
    "convert_element_type": _convert,
    "fft": _transform,
}
