"""Which tokens may follow, as arrays: decoding under a constraint in one compiled loop."""

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
    """What may be written: an automaton whose states are pytrees of arrays.

    Attributes:
        bos: The token that begins an equation.
        eos: The token that ends it.
    """

    bos: eqx.AbstractVar[int]
    eos: eqx.AbstractVar[int]

    @abc.abstractmethod
    def check(self, length: int) -> None:
        """That something can be written with up to `length` tokens, `eos` included.

        Raises:
            ValueError: If nothing can.
        """

    @abc.abstractmethod
    def start(self) -> Any:
        """The state in front of the first token."""

    @abc.abstractmethod
    def mask(self, state: Any, remaining: int | Int[Array, ""]) -> Bool[Array, " #words"]:
        """Which tokens may follow if at most `remaining` are still written, the next one and `eos` included."""

    @abc.abstractmethod
    def next(self, state: Any, token: Int[Array, ""]) -> Any:
        """The state behind a token that may follow."""


@final
class Unconstrained(AbstractConstraint):
    """Any token may follow any other.

    Attributes:
        bos: The token that begins an equation.
        eos: The token that ends it.
    """

    bos: int = eqx.field(static=True)
    eos: int = eqx.field(static=True)

    def check(self, length: int) -> None:
        """That there is room for one token.

        Raises:
            ValueError: If there is not.
        """
        if length < 1:
            raise ValueError(f"Expected room for at least 1 token, got {length}. Give a larger length.")

    def start(self) -> tuple[()]:
        """Nothing has to be remembered."""
        return ()

    def mask(self, state: tuple[()], remaining: int | Int[Array, ""]) -> Bool[Array, " 1"]:
        """True, for all tokens at once."""
        return jnp.ones(1, bool)

    def next(self, state: tuple[()], token: Int[Array, ""]) -> tuple[()]:
        """Nothing."""
        return ()


class GrammarState(NamedTuple):
    """How far an equation has been written.

    Attributes:
        place: Whether an operand, the mantissa or the exponent of a number, or an end of the component comes next.
        operands: How many operands the component still lacks; a number counts from its sign on.
        components: How many components have been begun.
    """

    place: Int[Array, "*words"]
    operands: Int[Array, "*words"]
    components: Int[Array, "*words"]


@final
class Grammar(AbstractConstraint):
    """Systems in prefix notation, as `sciml.symbolic.system_from_tokens` reads them, with values wherever defined.

    A pushdown automaton whose stack is a counter, since operators of prefix notation only differ in how many operands
    they take. A number is its sign, mantissa and exponent; an equation may end where all components are complete; and
    no token may follow behind which the shortest rest would not fit any more, so that everything that is begun can be
    completed. Placeholders and words without a meaning do not occur.

    Attributes:
        bos: The token that begins equations.
        eos: The token that ends them.
        before: At which place each token may stand.
        after: The place behind it.
        change: What it adds to the number of operands.
        state: The number of the state variable that it is, or -1.
        separator: The token between components.
        fewest: Least number of components.
        most: Largest number of components, and of state variables.
        shortest: Number of tokens that are always enough, `eos` included.
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
        """The tables of a vocabulary.

        Args:
            vocabulary: Of the tokens.
            dimension: Number of components, in as many of the state variables `u_0`, `u_1`, ...; under `jax.vmap`
                each sample may have its own. None for any number up to that of the state variables, in all of them.
            others: Further variables, such as `t`.

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
        """That each component can have at least one operand, and a separator or the end behind it.

        Raises:
            ValueError: If it cannot.
        """
        if length < self.shortest:
            raise ValueError(
                f"Expected room for at least {self.shortest} tokens, two for each component, got {length}. "
                "Give a larger length."
            )

    def start(self) -> GrammarState:
        """One component is begun and lacks one operand."""
        return GrammarState(*(jnp.asarray(number, jnp.int32) for number in (_OPEN, 1, 1)))

    def mask(self, state: GrammarState, remaining: int | Int[Array, ""]) -> Bool[Array, " words"]:
        """Which tokens may follow; behind `eos` itself alone."""
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
        """The progress behind a token that may follow."""
        return self._moved(state, token)

    def _moved(self, state: GrammarState, words: Int[Array, "*words"]) -> GrammarState:
        """The progress behind each of some tokens."""
        operands = state.operands + self.change[words]
        place = self.after[words]
        place = jnp.where((place == _OPEN) & (operands == 0), _COMPLETE, place)
        return GrammarState(place, operands, state.components + (words == self.separator))


def _tables(vocabulary: Vocabulary, others: tuple[str, ...]) -> tuple[Array, Array, Array, Array]:
    """Where each token may stand, the place behind it, what it adds to the operands, its number as a state."""
    table = np.tile(np.array([_NEVER, _OPEN, 0, -1], np.int32), (len(vocabulary), 1))
    for word, index in vocabulary.word_to_id.items():  # of a word that occurs twice the last id, the one of encode
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
