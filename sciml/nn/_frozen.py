"""Arrays that are saved but not trained."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree


class Frozen(eqx.Module):
    """Holds arrays that belong to a model but are not parameters: statistics, fixed stencils, coordinates.

    They are saved and restored with the model and kept out of the optimiser. `stop_gradient` is not enough for this:
    weight decay moves a parameter whose gradient is zero.
    """

    value: Any


def _is_frozen(node: Any) -> bool:
    return isinstance(node, Frozen)


def partition(model: PyTree) -> tuple[PyTree, PyTree]:
    """Splits a model into (trainable, rest); `equinox.combine` joins them again.

    Trainable are the inexact arrays outside of every `Frozen`.
    """
    mask = jax.tree.map(
        lambda node: False if _is_frozen(node) else eqx.is_inexact_array(node), model, is_leaf=_is_frozen
    )
    return eqx.partition(model, mask)
