"""Matrix products whose derivatives are matrix products without transpositions between them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from sciml import cut

_BLOCK = 16  # rows of a block: its square


def matmul(a: Float[Array, "*batch m k"], b: Float[Array, "*batch k n"]) -> Float[Array, "*batch m n"]:
    """`a @ b` without broadcasting; operands of different types are converted to the common one.

    JAX differentiates a product to one with swapped operands and a transposition after it, which XLA's CPU compiler
    carries out as copies that cost as much as the product. The derivatives of this one are g b' and a' g, computed as
    such, and so on for those of higher order.

    A batch that is partitioned automatically over devices must not be among the axes merged into m or n: it would be
    gathered. Inside `jax.shard_map` this cannot happen.
    """
    dtype = jnp.result_type(a, b)
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    return PRODUCT.bind(cut.like(a, b), cut.like(b, a), flip=(False, False))


def product(a: Array, b: Array, *, flip: tuple[bool, bool]) -> Array:
    """What the primitive `PRODUCT` computes: a b, a' b, a b' or a' b'."""
    batch = tuple(range(a.ndim - 2))
    contract = ((a.ndim - 2 if flip[0] else a.ndim - 1,), (b.ndim - 1 if flip[1] else b.ndim - 2,))
    return jax.lax.dot_general(a, b, (contract, (batch, batch)))


def _dot_on_cpu(a: Array, b: Array, *, flip: tuple[bool, bool]) -> Array:
    # A weight gradient sums outer products of short vectors over very many rows. Eigen packs a' with a cache miss for
    # almost each entry. Two contracted axes instead of one make the compiler transpose blocks of a first, the shorter
    # vectors, and take products and sum in one call of its faster library: 15 % of an FNO's training step.
    rows = a.shape[0]
    if flip != (True, False) or a.ndim != 2 or rows < 16 * _BLOCK**2 or rows % _BLOCK**2:
        return product(a, b, flip=flip)
    if a.shape[1] > b.shape[1]:
        return _dot_on_cpu(b, a, flip=flip).T
    a, b = (x.reshape(-1, _BLOCK, _BLOCK, x.shape[1]) for x in (a, b))
    return jax.lax.dot_general(a, b, (((1, 2), (1, 2)), ((0,), (0,)))).sum(0)


def _abstract(a: Any, b: Any, *, flip: tuple[bool, bool]) -> Any:
    rows, columns = a.shape[-1 if flip[0] else -2], b.shape[-2 if flip[1] else -1]
    return a.update(shape=(*a.shape[:-2], rows, columns), weak_type=False)


def _gradient_in_a(g: Array, a: Any, b: Array, *, flip: tuple[bool, bool]) -> Array:
    if flip[0]:
        return PRODUCT.bind(b, g, flip=(flip[1], True))
    return PRODUCT.bind(g, b, flip=(False, not flip[1]))


def _gradient_in_b(g: Array, a: Array, b: Any, *, flip: tuple[bool, bool]) -> Array:
    if flip[1]:
        return PRODUCT.bind(g, a, flip=(True, flip[0]))
    return PRODUCT.bind(a, g, flip=(not flip[0], False))


def _batch(operands: tuple, axes: tuple, *, flip: tuple[bool, bool]) -> tuple[Array, int]:
    # Constants of a traced function may be NumPy arrays.
    return jax.vmap(lambda a, b: product(jnp.asarray(a), jnp.asarray(b), flip=flip), in_axes=axes)(*operands), 0


PRODUCT = Primitive("matmul")
PRODUCT.def_impl(jax.jit(product, static_argnames="flip"))
PRODUCT.def_abstract_eval(_abstract)
ad.defbilinear(PRODUCT, _gradient_in_a, _gradient_in_b)
batching.primitive_batchers[PRODUCT] = _batch
mlir.register_lowering(PRODUCT, mlir.lower_fun(product, multiple_results=False))
mlir.register_lowering(PRODUCT, mlir.lower_fun(_dot_on_cpu, multiple_results=False), platform="cpu")
