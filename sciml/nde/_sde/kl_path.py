"""The divergence between two stochastic differential equations with the same diffusion, as an integrand."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, PyTree

from sciml.nde._solve.integrals import Field, Integrand


@final
class _KLPath(eqx.Module):
    prior_drift: Field
    diffusion: Callable[..., Any]

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
        difference = dy - self.prior_drift(t, y, args)
        noise = self.diffusion(t, y, args)
        if isinstance(noise, lx.AbstractLinearOperator):
            return 0.5 * jnp.sum(_solve(noise, difference) ** 2)
        if noise.ndim == 2:
            return 0.5 * jnp.sum(_solve(lx.MatrixLinearOperator(noise), difference) ** 2)
        return 0.5 * jnp.sum((difference / noise) ** 2)


def _solve(noise: lx.AbstractLinearOperator, difference: Array) -> Array:
    if noise.in_size() < noise.out_size():
        raise ValueError(
            f"A diffusion of {noise.out_size()} states by {noise.in_size()} noises leaves directions without noise, in "
            "which the divergence is infinite. Give at least as many noises as states."
        )
    return lx.linear_solve(noise, difference, lx.AutoLinearSolver(well_posed=None)).value


def kl_path(prior_drift: Field, diffusion: Callable[..., Any]) -> Integrand:
    r"""The integrand :math:`\frac12 |g^{-1} (f - h)|^2` of dy = f dt + g dW against dy = h dt + g dW.

    Its integral along a path of the first equation has the Kullback-Leibler divergence of the two as its mean. f is the
    drift that `with_integrals` extends. The extended equation's noise acts on the state alone: the integral has none.

    Sources: Li, Wong, Chen, Duvenaud, "Scalable gradients for stochastic differential equations", 2020,
    arXiv:2001.01328; Girsanov's theorem.

    Args:
        prior_drift: h, `(t, y, args) -> dy/dt`.
        diffusion: g, `(t, y, args)` to a vector (diagonal noise, or a number for all states), a matrix states x noises,
            or a `lineax` operator, which is solved by its structure. With more noises than states the solution of least
            norm is taken, as the theorem demands.

    Raises:
        ValueError: When called, if there are fewer noises than states.
    """
    return _KLPath(prior_drift, diffusion)
