"""Losses that change during a run, and the steps of their phases."""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from sciml.losses import Loss

Logs = dict[str, Float[Array, "..."]]
Step = Callable[[Any, PyTree, PyTree], tuple[Any, Logs]]
"""`(state, source, items) -> (state, logs)`, see `make_step`."""


@dataclasses.dataclass(frozen=True)
class Scheduled:
    """A loss that changes during the run, for example by the coefficient of a penalty.

    Attributes:
        at: `step -> loss`, with the number of optimiser steps done, traced. A coefficient is an optax schedule of it:
            `Scheduled(lambda step: losses.informed(loss, residual, weight=schedule(step)))`.
    """

    at: Callable[[Int[Array, ""]], Loss]


def in_phases(each: Sequence[Step], starts: Sequence[int]) -> Step:
    """The step that is `each[i]` from `starts[i]` steps on; items on both sides of a start are done apart.

    All are compiled at the first call, each by a step on a copy of the state, so that no later step takes that long.
    """
    compiled = False

    def step(state: Any, source: PyTree, items: PyTree) -> tuple[Any, Logs]:
        nonlocal compiled
        if not compiled:
            for one in each:
                one(jax.tree.map(copied, state), source, items)
            compiled = True
        done, count = int(state.step), jax.tree.leaves(items)[0].shape[0]
        ends = [start - done for start in starts if done < start < done + count]
        found = []
        for first, last in itertools.pairwise((0, *ends, count)):
            one = each[bisect.bisect_right(starts, done + first) - 1]
            state, logs = one(state, source, jax.tree.map(lambda item, a=first, b=last: item[a:b], items))
            found.append(logs)
        return state, found[0] if len(found) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)

    return step


def copied(leaf: Any) -> Any:
    """A copy of an array; anything else as it is."""
    if not eqx.is_array(leaf):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    return jnp.array(leaf, leaf.dtype, copy=True)  # the type makes it strong: a weak one compiles the step twice
