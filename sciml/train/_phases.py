"""Losses that change during a run, and the steps of their phases."""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

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


class CompiledStep:
    """The step that `make_step` returns: one compiled step for each phase of the loss.

    All phases are compiled at the first call, so that no later step takes that long. Items on both sides of a start are
    done apart.
    """

    def __init__(self, each: Sequence[Any], starts: Sequence[int], key: PRNGKeyArray):
        self._each, self._starts, self._key = each, starts, key  # each by `eqx.filter_jit`
        self._compiled = False

    def lower(self, state: Any, source: PyTree, items: PyTree) -> list[Any]:
        """The program of each phase for arguments of these shapes, as `eqx.filter_jit` lowers it."""
        return [one.lower((self._key, source, items), state) for one in self._each]

    def compile(self, state: Any, source: PyTree, items: PyTree) -> list[Any]:
        """Compiles all phases, for later calls too, and returns what the compiler plans for each: memory, or None."""
        self._compiled = True
        return [one.compile().compiled.memory_analysis() for one in self.lower(state, source, items)]

    def __call__(self, state: Any, source: PyTree, items: PyTree) -> tuple[Any, Logs]:
        if len(self._each) == 1:
            return self._each[0]((self._key, source, items), state)
        if not self._compiled:
            self.compile(state, source, items)
        done, count = int(state.step), jax.tree.leaves(items)[0].shape[0]
        ends = [start - done for start in self._starts if done < start < done + count]
        found = []
        for first, last in itertools.pairwise((0, *ends, count)):
            one = self._each[bisect.bisect_right(self._starts, done + first) - 1]
            part = jax.tree.map(lambda item, a=first, b=last: item[a:b], items)
            state, logs = one((self._key, source, part), state)
            found.append(logs)
        return state, found[0] if len(found) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


def copied(leaf: Any) -> Any:
    """A copy of an array; anything else as it is."""
    if not eqx.is_array(leaf):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    return jnp.array(leaf, leaf.dtype, copy=True)  # the type makes it strong: a weak one compiles the step twice
