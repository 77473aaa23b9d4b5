"""Several models of one architecture as one: their mean, their members, their spread."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sciml.operators._base import AbstractOperator


class Ensemble(AbstractOperator):
    """Models that differ in their arrays alone, computed together; its output is the mean of theirs.

    The members may be operators between fields, conditioned steps, or any other callable modules whose outputs are
    arrays. `losses.of_members` and `train.each_member` train each as if it were alone.

    Attributes:
        stacked: One model whose arrays, trained or not, have a leading axis of members.
        size: Number of members.
    """

    stacked: Any
    size: int = eqx.field(static=True)

    def __call__(self, x: PyTree, *more: PyTree) -> PyTree[Array]:
        """The mean over the members of the output for these arguments."""
        return jax.tree.map(lambda one: jnp.mean(one, axis=0), self.members(x, *more))

    def members(self, x: PyTree, *more: PyTree) -> PyTree[Array]:
        """The outputs of all members, along a leading axis."""
        return eqx.filter_vmap(lambda model, given: model(*given), in_axes=(eqx.if_array(0), None))(
            self.stacked, (x, *more)
        )

    def spread(self, x: PyTree, *more: PyTree) -> PyTree[Array]:
        """Standard deviation (n - 1) over the members of their outputs."""
        return jax.tree.map(lambda one: jnp.std(one, axis=0, ddof=1), self.members(x, *more))

    def member(self, k: int) -> Any:
        """The k-th model, from 0.

        Raises:
            ValueError: If there is no such member.
        """
        if not 0 <= k < self.size:
            raise ValueError(f"Expected a member from 0 to {self.size - 1}, got {k}.")
        return jax.tree.map(lambda leaf: leaf[k] if eqx.is_array(leaf) else leaf, self.stacked)


def ensemble_of(models: Sequence[Any]) -> Ensemble:
    """The ensemble of some models, such as those of one architecture from several keys.

    Raises:
        ValueError: If there is no model, or their arrays differ in number, shape or type. All else is as in the first.
    """
    if not models:
        raise ValueError("Expected at least one model for an ensemble, got none.")
    arrays, static = eqx.partition(models[0], eqx.is_array)
    each = [jax.tree.leaves(eqx.filter(one, eqx.is_array)) for one in models]
    shapes = [[(leaf.shape, leaf.dtype) for leaf in leaves] for leaves in each]
    other = next((k for k, one in enumerate(shapes) if one != shapes[0]), None)
    if other is not None:
        raise ValueError(
            f"Expected models that differ in the values of their arrays alone, got arrays of other shapes in model "
            f"{other} than in model 0. Make all by one function of a key."
        )
    stacked = [jnp.stack(leaves) for leaves in zip(*each, strict=True)]
    return Ensemble(eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), stacked), static), len(models))


def members_of(model: Any) -> list[Any]:
    """The members of an ensemble one by one; any other model is the only one of its list.

    What is no mean of outputs, such as a rollout, is the mean of what each of these gives.
    """
    return [model.member(k) for k in range(model.size)] if isinstance(model, Ensemble) else [model]
