"""Matrix products whose derivatives are matrix products without transpositions between them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float


def matmul(a: Float[Array, "*batch m k"], b: Float[Array, "*batch k n"]) -> Float[Array, "*batch m n"]:
    """`a @ b` without broadcasting.

    JAX differentiates a product to one with swapped operands followed by a transposition, and XLA's CPU compiler
    carries that out as a copy for each product with a batch axis. Here the derivatives are a' g and g b', as one
    would write them; they are closed under further differentiation.
    """
    return _matmul_p.bind(a, b, transpose=(False, False))


def _dot(a: Array, b: Array, *, transpose: tuple[bool, bool]) -> Array:
    batch = tuple(range(a.ndim - 2))
    contract = ((a.ndim - 2 if transpose[0] else a.ndim - 1,), (b.ndim - 1 if transpose[1] else b.ndim - 2,))
    return jax.lax.dot_general(a, b, (contract, (batch, batch)))


def _abstract(a: Any, b: Any, *, transpose: tuple[bool, bool]) -> Any:
    rows = a.shape[-1 if transpose[0] else -2]
    columns = b.shape[-2 if transpose[1] else -1]
    return a.update(shape=(*a.shape[:-2], rows, columns), weak_type=False)


def _transpose_a(g: Array, a: Any, b: Array, *, transpose: tuple[bool, bool]) -> Array:
    if transpose[0]:
        return _matmul_p.bind(b, g, transpose=(False, True))
    return _matmul_p.bind(g, b, transpose=(False, not transpose[1]))


def _transpose_b(g: Array, a: Array, b: Any, *, transpose: tuple[bool, bool]) -> Array:
    if transpose[1]:
        return _matmul_p.bind(g, a, transpose=(True, False))
    return _matmul_p.bind(a, g, transpose=(not transpose[0], False))


def _batch(operands: tuple, axes: tuple, *, transpose: tuple[bool, bool]) -> tuple[Array, int]:
    return jax.vmap(lambda a, b: _dot(a, b, transpose=transpose), in_axes=axes)(*operands), 0


_matmul_p = Primitive("matmul")
_matmul_p.def_impl(jax.jit(_dot, static_argnames="transpose"))
_matmul_p.def_abstract_eval(_abstract)
ad.defbilinear(_matmul_p, _transpose_a, _transpose_b)
batching.primitive_batchers[_matmul_p] = _batch
mlir.register_lowering(_matmul_p, mlir.lower_fun(_dot, multiple_results=False))
