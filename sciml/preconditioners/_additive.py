"""The additive form: contributions of all levels summed, each symmetric positive semidefinite by itself."""

import itertools
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.preconditioners._coarsening import joined, split
from sciml.preconditioners._conductances import Conductances, shifted
from sciml.preconditioners._cycle import Hierarchy, SymmetricCycle

STEPS = tuple(itertools.product((-1, 0, 1), repeat=2))


@final
class AdditiveHierarchy(eqx.Module):
    """M f = sum over levels of P_l (K^T D_l K + floor D_l) P_l^T f, and the dense inverse on the coarsest one.

    Attributes:
        hierarchy: The levels of the medium.
        stencils: K.
        floor: Positive.
    """

    hierarchy: Hierarchy
    stencils: Float[Array, "channels 3 3"]
    floor: Float[Array, ""]

    def __call__(self, f: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """M f."""
        return self._sum(f, 0)

    def _sum(self, f: Array, depth: int) -> Array:
        if depth == len(self.hierarchy.levels):
            return (self.hierarchy.inverse @ f.ravel()).reshape(f.shape)
        level, colours = self.hierarchy.levels[depth], split(f)
        scale = joined(level.step, f.shape)
        total = self.floor * scale * f
        for stencil in self.stencils:
            weights = [(stencil[1 + s, 1 + t], s, t) for s, t in STEPS]
            scaled = scale * sum(w * shifted(f, s, t) for w, s, t in weights)
            total = total + sum(w * shifted(scaled, -s, -t) for w, s, t in weights)
        coarse = self._sum(level.prolongation.transposed(colours, level.coarse_shape), depth + 1)
        return total + joined(level.prolongation(coarse), f.shape)


@final
class AdditivePreconditioner(eqx.Module):
    """A family of preconditioners `M = sum_l P_l (K^T D_l(a) K + floor D_l(a)) P_l^T`, for grids of any size.

    P_l is the product of the prolongations of `SymmetricCycle` down to level l, K a stencil of 3 x 3 points from one
    channel to several, the same on all levels, D_l > 0 the diagonal that the networks of the cycle read from the
    medium. Every term is symmetric and positive semidefinite, and that of `floor` on the finest level is definite, for
    all weights. There is no product with A inside, so that one application costs less than that of a cycle.

    Attributes:
        cycle: Whose levels are used; its clusters are not.
        stencils: K.
        floor: Logarithm of the floor.
    """

    cycle: SymmetricCycle
    stencils: Float[Array, "channels 3 3"]
    floor: Float[Array, ""]

    def __init__(self, *, channels: int = 4, width: int = 16, key: PRNGKeyArray) -> None:
        """Draws the weights: the first channel begins as the identity, the others small.

        Args:
            channels: Number of channels of K.
            width: Number of hidden channels of the networks.
            key: Of the random initial values.
        """
        first, second = jax.random.split(key)
        self.cycle = SymmetricCycle(width=width, key=first)
        self.stencils = (0.1 * jax.random.normal(second, (channels, 3, 3))).at[0].set(0).at[0, 1, 1].set(1)
        self.floor = jnp.log(jnp.asarray(0.1))

    def __call__(self, conductances: Conductances) -> AdditiveHierarchy:
        """The preconditioner of a medium."""
        dtype = conductances.wall.dtype
        floor = jnp.exp(3 * jnp.tanh(self.floor / 3)).astype(dtype)
        return AdditiveHierarchy(self.cycle(conductances), self.stencils.astype(dtype), floor)
