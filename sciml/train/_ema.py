"""Exponential moving average of the parameters, as a part of the optimiser."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from sciml.nn import partition
from sciml.train._state import TrainState


class EMA(NamedTuple):
    """State of `ema`: the number of its updates and the mean of the parameters."""

    done: Int[Array, ""]
    mean: Any


def ema(decay: float) -> optax.GradientTransformation:
    """Follows the parameters by m <- d m + (1 - d) p, with d = min(decay, (1 + t) / (10 + t)) after t updates.

    The ramp lets the mean forget the initial parameters. It must be the last element of `optax.chain`, because it reads
    the parameters after the update. The mean is saved with the optimiser's state; `ema_model` returns it.

    Raises:
        ValueError: If `decay` is outside of [0, 1), or if the optimiser is called without parameters.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"The decay of an average must be in [0, 1), got {decay}. Usual are 0.99 to 0.9999.")

    def start(params: PyTree) -> EMA:
        return EMA(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, EMA]:
        if params is None:
            raise ValueError("An EMA needs the parameters: call update(gradient, state, parameters).")
        keep = jnp.minimum(decay, (1 + state.done) / (10 + state.done))
        new = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda m, p: (p + keep * (m - p)).astype(m.dtype), state.mean, new)
        return updates, EMA(state.done + 1, mean)

    return optax.GradientTransformation(start, update)


def ema_of(opt_state: PyTree) -> PyTree | None:
    """The mean of the parameters held by an optimiser's state, None without one."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, EMA))
    return next((leaf.mean for leaf in leaves if isinstance(leaf, EMA)), None)


def ema_model(state: TrainState) -> PyTree:
    """The model to evaluate: with the EMA of the parameters if the optimiser has one, otherwise the model itself."""
    mean = ema_of(state.opt_state)
    return state.model if mean is None else eqx.combine(mean, partition(state.model)[1])
