"""Vocabularies: the words (tokens) and their ids, in the order of the published PROSE models."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from sciml.symbolic._numbers import THREE_DIGITS, NumberCodec
from sciml.symbolic._tree import PLACEHOLDER

SPECIAL = ("<BOS>", "<EOS>", "<PAD>", PLACEHOLDER.head)
SEPARATOR = "|"
_UNUSED = ("CONSTANT", "FLOAT+", "FLOAT-", "INT+", "INT-", "rand", SEPARATOR)  # all but `|` without a meaning
_ODE_OPERATORS = ("add", "cos", "div", "inv", "mul", "neg", "pow2", "sin", "sub")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words of a model and their ids.

    The order of the ids is: special words, `words` sorted as text, the special words again, number tokens. The special
    words occur twice, as in the published models. A word that occurs twice is encoded by its last id. Only
    `pad_in_batches` is the first id of the padding word, since the published code pads batches with it.

    Args:
        words: All words except the special words and the number tokens.
        operators: The words that are parsed as operators of `ARITY`.
        codec: Defines the number tokens.
    """

    words: tuple[str, ...]
    operators: tuple[str, ...]
    codec: NumberCodec = THREE_DIGITS

    @functools.cached_property
    def id_to_word(self) -> tuple[str, ...]:
        """The word of each id."""
        return (*SPECIAL, *sorted(self.words), *SPECIAL, *self.codec.words)

    @functools.cached_property
    def word_to_id(self) -> Mapping[str, int]:
        """The id of each word, the last one if it occurs twice."""
        return {word: index for index, word in enumerate(self.id_to_word)}

    def __len__(self) -> int:
        return len(self.id_to_word)

    @property
    def bos(self) -> int:
        """Id of the BOS (beginning of sequence) word."""
        return self.word_to_id[SPECIAL[0]]

    @property
    def eos(self) -> int:
        """Id of the EOS (end of sequence) word."""
        return self.word_to_id[SPECIAL[1]]

    @property
    def pad(self) -> int:
        """Id of the padding word. The published embedding tables have a zero vector for this id."""
        return self.word_to_id[SPECIAL[2]]

    @property
    def pad_in_batches(self) -> int:
        """Id with which the published code pads shorter sequences; padding is masked."""
        return SPECIAL.index(SPECIAL[2])

    @property
    def placeholder(self) -> int:
        """Id of the placeholder word, which stands for an unknown number."""
        return self.word_to_id[PLACEHOLDER.head]

    def encode(self, tokens: Sequence[str]) -> Int[np.ndarray, " tokens"]:
        """The ids of tokens.

        Raises:
            ValueError: If a token is not in the vocabulary.
        """
        for position, token in enumerate(tokens):
            if token not in self.word_to_id:
                raise ValueError(
                    f"Position {position}: {token!r} is not in the vocabulary of {len(self)} ids. "
                    "Use a vocabulary with more variables or operators, or reject the sample."
                )
        return np.asarray([self.word_to_id[token] for token in tokens], np.int32)

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " tokens"]) -> list[str]:
        """The words of ids, special words included.

        Raises:
            ValueError: If an id is outside of the vocabulary.
        """
        numbers = [int(index) for index in ids]
        for position, index in enumerate(numbers):
            if not 0 <= index < len(self):
                raise ValueError(f"Position {position}: expected an id from 0 to {len(self) - 1}, got {index}.")
        return [self.id_to_word[index] for index in numbers]


def _integers(largest: int) -> tuple[str, ...]:
    return tuple(str(n) for n in range(-largest, largest + 1))


DERIVATIVES = ("ut_0", "utt_0", "ux_0", "uxx_0", "uxxx_0", "uxxxx_0")
"""Words of `pde_vocabulary` for the derivatives of the field `u_0` in t and x."""


def ode_vocabulary(dimension: int, codec: NumberCodec = THREE_DIGITS) -> Vocabulary:
    """Vocabulary of PROSE-ODE for up to `dimension` state variables: 1072 ids for dimension 3, 1074 for dimension 5.

    The word `pow` has an id but is not an operator of this vocabulary.
    """
    state = tuple(f"u_{i}" for i in range(dimension))
    words = (*_integers(10), *_UNUSED, *_ODE_OPERATORS, "pow", *state)
    return Vocabulary(words, _ODE_OPERATORS, codec)


def pde_vocabulary(codec: NumberCodec = THREE_DIGITS) -> Vocabulary:
    """Vocabulary of PROSE-PDE for one field on one space axis: 1108 ids. The words `+` and `-` occur twice."""
    operators = (*_ODE_OPERATORS, "pow", "pow3")
    leaves = ("t", "x", "u_0", "u_0(x,t)", *DERIVATIVES)
    signs = ("(", ")", "*", "**", "+", ",", "-", "Derivative")
    return Vocabulary((*_integers(20), *_UNUSED, *operators, *leaves, *signs), operators, codec)


def fluid_vocabulary(codec: NumberCodec = THREE_DIGITS) -> Vocabulary:
    """Vocabulary of PROSE-FD: 1130 ids, with words for vectors, differential operators and boundary conditions.

    The differential operators (`dt`, `D`, `D2`, `diverg`) have ids but are not parsed as operators.
    """
    operators = (*_ODE_OPERATORS, "pow", "pow3")
    vectors_and_fields = (
        "D",
        "D2",
        "F",
        "U",
        "V",
        "X",
        "diverg",
        "dt",
        "dx",
        "dy",
        "dz",
        "eta",
        "p",
        "rho",
        "sigma",
        "zeta",
    )
    letters = tuple("bcfghuvwx")
    numbered = tuple(f"{name}_{i}" for name in "uv" for i in range(5))
    boundaries = ("--", "dirichlet", "dirichlet_irreg", "neumann", "periodic")
    return Vocabulary(
        (*_integers(20), *_UNUSED, *operators, *vectors_and_fields, *letters, *numbered, *boundaries), operators, codec
    )
