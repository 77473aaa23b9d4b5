"""Constraints for decoding: which tokens may come next, as arrays, so that decoding is one compiled loop."""

import abc
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sciml.symbolic import ARITY, Vocabulary

_SEPARATOR = "|"
_OPEN, _SIGNED, _SCALED, _COMPLETE, _ENDED = range(5)
_NEVER = -1


class AbstractConstraint(eqx.Module):
    """The set of allowed token sequences, as an automaton whose states are pytrees of arrays.

    Attributes:
        bos: Id of the BOS token.
        eos: Id of the EOS token.
    """

    bos: eqx.AbstractVar[int]
    eos: eqx.AbstractVar[int]

    @abc.abstractmethod
    def check(self, length: int) -> None:
        """Checks that some allowed sequence has at most `length` tokens, EOS included.

        Raises:
            ValueError: If all allowed sequences are longer.
        """

    @abc.abstractmethod
    def start(self) -> Any:
        """The state before the first token."""

    @abc.abstractmethod
    def mask(self, state: Any, remaining: int | Int[Array, ""]) -> Bool[Array, " #words"]:
        """Which tokens may come next if at most `remaining` tokens follow, the next one and EOS included."""

    @abc.abstractmethod
    def next(self, state: Any, token: Int[Array, ""]) -> Any:
        """The state after `token`, which must be allowed by `mask`."""


@final
class Unconstrained(AbstractConstraint):
    """Allows every token sequence.

    Attributes:
        bos: Id of the BOS token.
        eos: Id of the EOS token.
    """

    bos: int = eqx.field(static=True)
    eos: int = eqx.field(static=True)

    def check(self, length: int) -> None:
        """Checks that `length` is at least 1.

        Raises:
            ValueError: If it is smaller.
        """
        if length < 1:
            raise ValueError(f"Expected room for at least 1 token, got {length}. Give a larger length.")

    def start(self) -> tuple[()]:
        """The empty state."""
        return ()

    def mask(self, state: tuple[()], remaining: int | Int[Array, ""]) -> Bool[Array, " 1"]:
        """One true entry, which broadcasts to all tokens."""
        return jnp.ones(1, bool)

    def next(self, state: tuple[()], token: Int[Array, ""]) -> tuple[()]:
        """The empty state."""
        return ()


class GrammarState(NamedTuple):
    """State of the automaton of `Grammar`.

    Attributes:
        place: What comes next: an operand, a mantissa, an exponent, or the separator or EOS after a complete component.
            After EOS it is the end.
        operands: Number of operands that the component still lacks. The sign of a number already counts as an operand.
        components: Number of components that have been started.
    """

    place: Int[Array, "*words"]
    operands: Int[Array, "*words"]
    components: Int[Array, "*words"]


@final
class Grammar(AbstractConstraint):
    """Allows systems in prefix notation that `sciml.symbolic.system_from_tokens` can parse and `evaluate` can evaluate.

    The automaton is a pushdown automaton whose stack is a counter of missing operands, which is enough because prefix
    operators differ only in their arity. A number consists of sign, mantissa and exponent. EOS is allowed when all
    components are complete. A token is allowed only if the equation can still be completed within the remaining
    tokens. Placeholders and words without a meaning are never allowed.

    Attributes:
        bos: Id of the BOS token.
        eos: Id of the EOS token.
        before: The `GrammarState.place` at which each token is allowed; -1 for tokens that are never allowed.
        after: The `GrammarState.place` after each token.
        change: The change of the number of missing operands by each token.
        state: Index i if the token is the state variable `u_i`, otherwise -1.
        separator: Id of the token between components.
        fewest: Smallest number of components.
        most: Largest number of components, and number of allowed state variables.
        shortest: Smallest `max_tokens` for which an equation always fits, EOS included.
    """

    bos: int = eqx.field(static=True)
    eos: int = eqx.field(static=True)
    before: Int[Array, " words"]
    after: Int[Array, " words"]
    change: Int[Array, " words"]
    state: Int[Array, " words"]
    separator: int = eqx.field(static=True)
    fewest: Int[Array, ""]
    most: Int[Array, ""]
    shortest: int = eqx.field(static=True)

    def __init__(
        self,
        vocabulary: Vocabulary,
        dimension: int | Int[Array, ""] | None = None,
        *,
        others: Sequence[str] = (),
    ):
        """Builds the tables for a vocabulary.

        Args:
            vocabulary: The vocabulary of the tokens.
            dimension: Number of components, and of the state variables `u_0`, `u_1`, ... in them. Under `jax.vmap` each
                sample may have its own dimension. None allows all state variables, and any number of components up to
                their number.
            others: Further allowed variables, such as `t`.

        Raises:
            ValueError: If the vocabulary lacks a variable, or has fewer state variables than components.
        """
        unknown = [name for name in others if name not in vocabulary.words or not name.isidentifier()]
        if unknown:
            raise ValueError(f"Expected variables of the vocabulary, got {', '.join(unknown)}. Leave them out.")
        count = 0
        while f"u_{count}" in vocabulary.words:
            count += 1
        if isinstance(dimension, int) and not 1 <= dimension <= count:
            raise ValueError(
                f"Expected a dimension from 1 to {count}, the state variables of the vocabulary, got {dimension}. "
                "Use a vocabulary with more of them."
            )
        self.bos, self.eos, self.separator = vocabulary.bos, vocabulary.eos, vocabulary.word_to_id[_SEPARATOR]
        self.before, self.after, self.change, self.state = _tables(vocabulary, tuple(others))
        self.fewest = jnp.asarray(1 if dimension is None else dimension, jnp.int32)
        self.most = jnp.asarray(count if dimension is None else dimension, jnp.int32)
        self.shortest = 2 * (1 if dimension is None else dimension if isinstance(dimension, int) else count)

    def check(self, length: int) -> None:
        """Checks that `length` tokens suffice for one operand and one separator or EOS per component.

        Raises:
            ValueError: If they do not suffice.
        """
        if length < self.shortest:
            raise ValueError(
                f"Expected room for at least {self.shortest} tokens, two for each component, got {length}. "
                "Give a larger length."
            )

    def start(self) -> GrammarState:
        """The state before the first token: one component, which lacks one operand."""
        return GrammarState(*(jnp.asarray(number, jnp.int32) for number in (_OPEN, 1, 1)))

    def mask(self, state: GrammarState, remaining: int | Int[Array, ""]) -> Bool[Array, " words"]:
        """Which tokens may come next; after EOS only EOS."""
        words = jnp.arange(self.before.shape[0])
        place, operands, components = self._moved(state, words)
        ends, separates = words == self.eos, words == self.separator
        fits = (self.before == state.place) & (self.state < self.most)
        fits &= ~ends | (state.components >= self.fewest)
        fits &= ~separates | (components <= self.most)
        number = jnp.where(place == _SIGNED, 2, jnp.where(place == _SCALED, 1, 0))
        rest = number + operands + 2 * jnp.maximum(self.fewest - components, 0) + ~ends
        return jnp.where(state.place == _ENDED, ends, fits & (rest < remaining))

    def next(self, state: GrammarState, token: Int[Array, ""]) -> GrammarState:
        """The state after `token`, which must be allowed by `mask`."""
        return self._moved(state, token)

    def _moved(self, state: GrammarState, words: Int[Array, "*words"]) -> GrammarState:
        """The state after each of the tokens `words`."""
        operands = state.operands + self.change[words]
        place = self.after[words]
        place = jnp.where((place == _OPEN) & (operands == 0), _COMPLETE, place)
        return GrammarState(place, operands, state.components + (words == self.separator))


def _tables(vocabulary: Vocabulary, others: tuple[str, ...]) -> tuple[Array, Array, Array, Array]:
    """The attributes `before`, `after`, `change` and `state` of `Grammar`."""
    table = np.tile(np.array([_NEVER, _OPEN, 0, -1], np.int32), (len(vocabulary), 1))
    for word, index in vocabulary.word_to_id.items():  # a word that occurs twice has its last id here, as in encode
        state = re.fullmatch(r"u_([0-9]+)", word)
        if word in vocabulary.operators:
            table[index] = _OPEN, _OPEN, ARITY[word] - 1, -1
        elif vocabulary.codec.owns(word):
            kind = {"N": (_SIGNED, _SCALED), "E": (_SCALED, _OPEN)}.get(word[0])
            table[index] = (*kind, 0, -1) if kind else (_OPEN, _SIGNED, -1, -1)
        elif index == vocabulary.eos:
            table[index] = _COMPLETE, _ENDED, 0, -1
        elif word == _SEPARATOR:
            table[index] = _COMPLETE, _OPEN, 1, -1
        elif state or word in others or re.fullmatch(r"-?[0-9]+", word):
            table[index] = _OPEN, _OPEN, -1, int(state.group(1)) if state else -1
    before, after, change, state = (jnp.asarray(column) for column in table.T)
    return before, after, change, state
