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


@dataclasses.dataclass(frozen=True)
class Scheduled:
    """A loss that changes during the run, for example by the coefficient of a penalty.

    Attributes:
        at: `step -> loss`, with the number of optimiser steps done, traced. A coefficient is an optax schedule of it:
            `Scheduled(lambda step: losses.informed(loss, residual, weight=schedule(step)))`.
    """

    at: Callable[[Int[Array, ""]], Loss]


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
    """What a state is apart from its arrays; states that are alike have one object, so that it is quick to compare."""

    structure: Any
    others: tuple[Any, ...]  # the leaves that are no arrays, and _ARRAY in place of each array

    def state(self, arrays: Sequence[Array]) -> Any:
        """The state with these arrays."""
        each = iter(arrays)
        return jax.tree.unflatten(self.structure, [next(each) if one is _ARRAY else one for one in self.others])

    def arrays(self, state: Any) -> list[Array]:
        """The arrays of a state of this form.

        Raises:
            ValueError: If the state has another form.
        """
        leaves, structure = jax.tree.flatten(state)
        if structure != self.structure:
            raise ValueError(
                f"Expected a step to keep the structure of its state, {self.structure.num_leaves} leaves, got "
                f"{structure.num_leaves}, or others. Let the optimiser return a state like its first."
            )
        for leaf, one in zip(leaves, self.others, strict=True):
            if eqx.is_array(leaf) != (one is _ARRAY):
                raise ValueError(
                    f"Expected a step to keep which leaves are arrays, got {type(leaf).__name__} in place of "
                    f"{'an array' if one is _ARRAY else one}. Let the optimiser begin with arrays."
                )
        return [leaf for leaf, one in zip(leaves, self.others, strict=True) if one is _ARRAY]


_ARRAY = object()


class CompiledStep:
    """The step that `make_step` returns: one compiled step for each phase of the loss.

    All phases are compiled at the first call, so that no later step takes that long. Items on both sides of a start are
    done apart. To take a state apart and put it together takes as long as several layers, which is why `fit` calls
    `advance` with the arrays of a state.
    """

    def __init__(self, each: Sequence[Any], starts: Sequence[int], key: PRNGKeyArray):
        self._each, self._starts, self._key = each, starts, key  # each by `eqx.filter_jit`
        self._forms: dict[Any, Form] = {}
        self._compiled = len(each) == 1

    def __call__(self, state: Any, source: PyTree, items: PyTree) -> tuple[Any, Logs]:
        arrays, form = self.apart(state)
        done = int(state.step) if len(self._each) > 1 else 0
        arrays, logs = self.advance(form, arrays, source, items, done=done)
        return form.state(arrays), logs

    def apart(self, state: Any) -> tuple[list[Array], Form]:
        """The arrays of a state, and all else."""
        leaves, structure = jax.tree.flatten(state)
        others = tuple(_ARRAY if eqx.is_array(leaf) else leaf for leaf in leaves)
        form = self._forms.setdefault((structure, others, tuple(map(type, others))), Form(structure, others))
        return [leaf for leaf, one in zip(leaves, others, strict=True) if one is _ARRAY], form

    def advance(
        self, form: Form, arrays: list[Array], source: PyTree, items: PyTree, *, done: int
    ) -> tuple[list[Array], Logs]:
        """The arrays after a step for each of the items, and the logs; those given are donated.

        Args:
            form: From `apart`, as the arrays.
            arrays: All arrays of the state.
            source: Data on the device.
            items: What `fetch` makes batches of, along the leading axis.
            done: Number of optimiser steps that the state has done, which chooses the phase.
        """
        if not self._compiled:
            self._compile(form, arrays, source, items)
        count = jax.tree.leaves(items)[0].shape[0]
        ends = [start - done for start in self._starts if done < start < done + count]
        found = []
        for first, last in itertools.pairwise((0, *ends, count)):
            one = self._each[bisect.bisect_right(self._starts, done + first) - 1]
            part = jax.tree.map(lambda item, a=first, b=last: item[a:b], items) if ends else items
            arrays, logs = one((form, self._key, source, part), arrays)
            found.append(logs)
        return arrays, found[0] if len(found) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)

    def lower(self, state: Any, source: PyTree, items: PyTree) -> list[Any]:
        """The program of each phase for arguments of these shapes, as `eqx.filter_jit` lowers it."""
        arrays, form = self.apart(state)
        return self._lower(form, arrays, source, items)

    def compile(self, state: Any, source: PyTree, items: PyTree) -> list[Any]:
        """Compiles all phases, for later calls too, and returns what the compiler plans for each: memory, or None."""
        arrays, form = self.apart(state)
        return self._compile(form, arrays, source, items)

    def _lower(self, form: Form, arrays: list[Array], source: PyTree, items: PyTree) -> list[Any]:
        return [one.lower((form, self._key, source, items), arrays) for one in self._each]

    def _compile(self, form: Form, arrays: list[Array], source: PyTree, items: PyTree) -> list[Any]:
        self._compiled = True
        return [one.compile().compiled.memory_analysis() for one in self._lower(form, arrays, source, items)]


def copied(leaf: Any) -> Any:
    """A copy of an array; anything else as it is."""
    if not eqx.is_array(leaf):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    return jnp.array(leaf, leaf.dtype, copy=True)  # the type makes it strong: a weak one compiles the step twice
