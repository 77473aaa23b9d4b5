"""Optimisers of several models that are stacked along a leading axis."""

from typing import Any

import equinox as eqx
import jax
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from sciml.train._state import Optimiser


def each_member(optimiser: Optimiser, members: int) -> optax.GradientTransformationExtraArgs:
    """`optimiser` for each member of an ensemble, whose arrays have a leading axis of members.

    Norms, clipping, averages and Muon's iterations see one member at a time. Gradients are those of the mean loss of
    `losses.of_members`, and each member gets `members` times its part, the gradient of its own loss: it moves as if it
    were alone.

    Args:
        optimiser: Of one model. It may not read the loss, which is known as a mean alone.
        members: Number of members.

    Raises:
        ValueError: If the optimiser needs the loss or its function, such as `optax.lbfgs`.
    """
    one = optimiser.gradient_transformation() if isinstance(optimiser, optax.MultiSteps) else optimiser
    inner = optax.with_extra_args_support(one)

    def update(
        updates: PyTree, state: Any, params: PyTree | None = None, *, mesh: Mesh | None = None, **_: Any
    ) -> tuple[PyTree, Any]:
        def of_one(updates: PyTree, state: Any, params: PyTree | None) -> tuple[PyTree, Any]:
            try:
                return inner.update(updates, state, params, mesh=mesh)
            except TypeError as error:
                raise ValueError(
                    f"Expected an optimiser that reads gradients and parameters alone for an ensemble, got one that "
                    f"needs the loss of a member ({error}). Use adam, muon or another such optimiser."
                ) from error

        own = jax.tree.map(lambda slope: members * slope, updates)
        return eqx.filter_vmap(of_one)(own, state, params)

    return optax.GradientTransformationExtraArgs(eqx.filter_vmap(one.init), update)
