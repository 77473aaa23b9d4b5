"""Preconditioners in conjugate gradients: the library's own, and those of lineax."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from sciml.preconditioners._conductances import Conductances

LinearMap = Callable[[Array], Array]


def conjugate_gradients(
    conductances: Conductances, b: Float[Array, "n m"], precondition: LinearMap, tolerance: float, limit: int
) -> tuple[Float[Array, "n m"], Int[Array, ""], Float[Array, ""]]:
    """Solves A u = b from u = 0 by preconditioned conjugate gradients.

    They end when the recursive residual is below `tolerance ||b||` in the Euclidean norm, which does not depend on the
    preconditioner, or after `limit` iterations.

    Args:
        conductances: Of A.
        b: Right-hand side.
        precondition: M, symmetric positive definite.
        tolerance: Relative residual.
        limit: Largest number of iterations.

    Returns:
        The solution, the number of iterations, and the relative residual `||b - A u|| / ||b||` computed afresh.
    """

    def proceed(carry: tuple) -> Array:
        return (jnp.sum(carry[2] ** 2) > (tolerance * size) ** 2) & (carry[0] < limit)

    def advance(carry: tuple) -> tuple:
        k, u, r, p, rho = carry
        q = conductances.product(p)
        length = rho / jnp.sum(p * q)
        u, r = u + length * p, r - length * q
        z = precondition(r)
        new = jnp.sum(r * z)
        return k + 1, u, r, z + new / rho * p, new

    size = jnp.linalg.norm(b)
    z = precondition(b)
    start = (jnp.zeros((), int), jnp.zeros_like(b), b, z, jnp.sum(b * z))
    k, u, *_ = jax.lax.while_loop(proceed, advance, start)
    return u, k, jnp.linalg.norm(b - conductances.product(u)) / jnp.where(size == 0, 1, size)


def as_operator(linear: LinearMap, like: Float[Array, "n m"]) -> lx.TaggedLinearOperator:
    """A symmetric positive definite map, A or M, as an operator of lineax.

    M goes into `lineax.linear_solve(..., lineax.CG(...), options={"preconditioner": as_operator(M, b)})`. That CG ends
    by entries, not by the Euclidean norm: when `|r_i| <= atol + rtol |b_i|` for all i, and the same for the last step
    against u. Entries of b near zero thus ask for a positive `atol`.

    Args:
        linear: `f -> M f`, such as a `Hierarchy` or `Conductances.product`.
        like: A field with the shape and the dtype of f.
    """
    operator = lx.FunctionLinearOperator(linear, jax.ShapeDtypeStruct(like.shape, like.dtype))
    return lx.TaggedLinearOperator(operator, lx.positive_semidefinite_tag)
