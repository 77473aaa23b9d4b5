"""Trajectories and equations as samples of a data set."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sciml.symbolic import PLACEHOLDER, NumberCodec, System, Vocabulary, skeleton, system_from_tokens, system_to_tokens
from sciml.systems import Trajectories

_NUMBERS = NumberCodec()
Guess = Callable[[Sequence[str]], Sequence[str]]
"""`tokens of the true equations -> tokens of the guess`, which the model reads."""


class Sample(NamedTuple):
    """One trajectory with its equations, or several with a leading axis; tokens are ids of a vocabulary.

    Attributes:
        times: `(times,)`.
        states: `(times, states)`, zero in the components that the system does not have, or `(times, states, *space)`.
        components: `(states,)`, true for the components that it has.
        tokens: `(tokens,)`, the guess of the equations, without the words that begin and end them.
        tokens_mask: `(tokens,)`, true where a token stands; padding follows.
        equation: `(symbols,)`, the true equations, with the words that begin and end them.
        equation_mask: `(symbols,)`, true where a token stands; padding follows.
        system: Number of the structure, in `EquationData.structures`.
        family: Number of the family, in `EquationData.families`.
        index: Number of the sample, which fixes its noise in evaluation.
    """

    times: Any
    states: Any
    components: Any
    tokens: Any
    tokens_mask: Any
    equation: Any
    equation_mask: Any
    system: Any
    family: Any
    index: Any


def thinned(batch: Sample, rows: np.ndarray | jax.Array) -> Sample:
    """Samples at some of their times; the batch has a leading axis."""
    return batch._replace(times=batch.times[:, rows], states=batch.states[:, rows])


def known_equations(tokens: Sequence[str]) -> Sequence[str]:
    """The guess is right: structure and numbers."""
    return tokens


def skeleton_equations(tokens: Sequence[str]) -> Sequence[str]:
    """The guess has the right structure, with placeholders for all numbers.

    The published third setting, a structure with errors, is this guess in the data set and `TermNoise` in the loss.
    """
    signs = ("+", "-")
    words = (token for token in tokens if token in signs or not _NUMBERS.owns(token))
    return [PLACEHOLDER.head if token in signs else token for token in words]


class EquationIds:
    """The padded ids of the guess and of the true equation of each system.

    Args:
        equations: The true equations as tokens.
        vocabulary: The vocabulary of the tokens.
        guess: Makes the guess from the true tokens.

    Raises:
        ValueError: If a token is not in the vocabulary.
    """

    def __init__(self, equations: Sequence[Sequence[str]], vocabulary: Vocabulary, guess: Guess):
        begin, end = np.array([vocabulary.bos], np.int32), np.array([vocabulary.eos], np.int32)
        self._guesses = padded((vocabulary.encode(guess(tokens)) for tokens in equations), vocabulary.pad)
        self._equations = padded(
            (np.concatenate((begin, vocabulary.encode(tokens), end)) for tokens in equations), vocabulary.pad
        )

    def of(self, systems: np.ndarray) -> dict[str, np.ndarray]:
        """`tokens`, `equation` and their masks of `Sample`, for some systems."""
        (tokens, tokens_mask), (equation, equation_mask) = self._guesses, self._equations
        return {
            "tokens": tokens[systems],
            "tokens_mask": tokens_mask[systems],
            "equation": equation[systems],
            "equation_mask": equation_mask[systems],
        }


class EquationData:
    """A data set of `Sample`s: each trajectory once, a pure function of its row.

    Noise is not added here but by `Noise` in the loss, on the device and with the key of the training step. Rows alone
    do not tell one epoch from the next; keys of steps do, so that every step has fresh noise, a resumed run repeats an
    uninterrupted one, and the trajectories can stay on the device. What is here remains the clean truth of evaluations.

    Args:
        parts: From `draw_trajectories` or `read_trajectories`, all with the same times and number of starts.
        vocabulary: Of the tokens.
        guess: What the model is told of the equations, `known_equations` or `skeleton_equations`.

    Attributes:
        families: The names of the families.
        structures: The different skeletons, each with the name of its family.

    Raises:
        ValueError: If the parts do not fit together, or if a token is not in the vocabulary.
    """

    def __init__(self, parts: Sequence[Trajectories], vocabulary: Vocabulary, *, guess: Guess):
        if not parts:
            raise ValueError("Expected at least one part, got none. Pass what draw_trajectories returned in a list.")
        for part in parts[1:]:
            if part.states.shape[1:] != parts[0].states.shape[1:] or not np.array_equal(part.times, parts[0].times):
                raise ValueError(
                    "Expected parts with the same times and numbers of starts and states, got shapes "
                    f"{parts[0].states.shape} and {part.states.shape}. Generate them with the same settings."
                )
        self._parts = tuple(part.states for part in parts)
        self._times = parts[0].times.astype(np.float32)
        self._ends = np.cumsum([len(states) for states in self._parts])
        equations = [text.split() for part in parts for text in part.equations]
        names = [name for part in parts for name in part.families]
        self._ids = EquationIds(equations, vocabulary, guess)
        self.families, self._families = _numbered(names)
        kinds = [(name, *skeleton_equations(tokens)) for name, tokens in zip(names, equations, strict=True)]
        different, self._systems = _numbered(kinds)
        self.structures: tuple[tuple[str, System], ...] = tuple(
            (name, skeleton(system_from_tokens(tokens))) for name, *tokens in different
        )
        dimensions = np.array([len(structure) for _, structure in self.structures])[self._systems]
        self._components = np.arange(self._parts[0].shape[3]).reshape(1, -1) < dimensions.reshape(-1, 1)

    def __len__(self) -> int:
        """Number of trajectories."""
        return int(self._ends[-1]) * self._parts[0].shape[1]

    def __getitem__(self, rows: Any) -> Sample:
        """The samples at an index array or slice, with a leading axis."""
        rows = np.arange(len(self), dtype=np.int32)[rows]
        system, start = np.divmod(rows, self._parts[0].shape[1])
        return Sample(
            times=np.broadcast_to(self._times, (*rows.shape, len(self._times))),
            states=self._states(system, start),
            components=self._components[system],
            **self._ids.of(system),
            system=self._systems[system],
            family=self._families[system],
            index=rows,
        )

    def _states(self, system: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Trajectories, each read from its own part."""
        found = np.empty((*system.shape, *self._parts[0].shape[2:]), np.float32)
        where = np.searchsorted(self._ends, system, side="right")
        for number in np.unique(where):
            here, states = where == number, self._parts[number]
            found[here] = states[system[here] - (self._ends[number] - len(states)), start[here]]
        return found


def padded(rows: Iterable[Sequence[int] | np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of ids padded to the longest one, int32, and the mask that is true for ids and false for padding."""
    rows = list(rows)
    counts = np.array([len(row) for row in rows])
    mask = np.arange(counts.max(initial=0)).reshape(1, -1) < counts.reshape(-1, 1)
    table = np.full(mask.shape, pad, np.int32)
    table[mask] = np.concatenate(rows)
    return table, mask


def tokens_of(structure: System, vocabulary: Vocabulary) -> np.ndarray:
    """The ids of a structure without numbers."""
    return vocabulary.encode(system_to_tokens(structure))


def _numbered(values: Sequence[Any]) -> tuple[tuple[Any, ...], np.ndarray]:
    """The different values in the order in which they appear, and the number of each."""
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return tuple(numbers), np.array([numbers[value] for value in values], np.int32)
