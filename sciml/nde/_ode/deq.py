"""Deep equilibrium layer."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, PyTree


@final
class DEQ(eqx.Module):
    """The fixed point z = function(z, x): a network of infinitely many layers with shared weights.

    The gradient follows from the implicit function theorem: one linear solve with 1 - df/dz at the fixed point, however
    many iterations found it.

    Source: Bai, Kolter, Koltun, "Deep equilibrium models", 2019, arXiv:1909.01377, theorem 1.

    Attributes:
        function: `(z, x) -> z`; a contraction in z if the default solver is used.
        size: Length of z.
        solver: A fixed-point iteration or, for functions that do not contract, a root finder such as
            `optimistix.Newton(rtol=1e-5, atol=1e-5)`.
        adjoint: How gradients are computed; it holds the linear solver.
        max_steps: Largest number of iterations; an error is raised if more are needed.
    """

    function: Callable[[Array, Any], Array]
    size: int = eqx.field(static=True)
    solver: optx.AbstractFixedPointSolver | optx.AbstractRootFinder = optx.FixedPointIteration(rtol=1e-5, atol=1e-5)
    adjoint: optx.ImplicitAdjoint = optx.ImplicitAdjoint()
    max_steps: int = eqx.field(static=True, default=256)

    def __call__(self, x: PyTree, start: Float[Array, " size"] | None = None) -> Float[Array, " size"]:
        """The fixed point for the input `x`.

        Args:
            x: Any pytree of arrays.
            start: Initial guess; 0 if not given.
        """
        if start is None:
            leaves = jax.tree.leaves(eqx.filter(x, eqx.is_inexact_array))
            start = jnp.zeros(self.size, jnp.result_type(float, *leaves))
        return optx.fixed_point(
            self.function, self.solver, start, x, max_steps=self.max_steps, adjoint=self.adjoint
        ).value
