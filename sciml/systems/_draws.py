"""Draws systems and their solutions; what is drawn is a pure function of the seed and of the system's number."""

import abc
import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

import sciml
from sciml.symbolic import system_to_tokens
from sciml.systems._trajectories import Trajectories

_ATTEMPTS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractSystems(abc.ABC):
    """An endless numbered set of systems and their solutions, a seed apart; a frozen dataclass of numbers.

    Starts of a system are tried in order until enough of them have good solutions.
    """

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """Number of solutions of each system."""

    @property
    @abc.abstractmethod
    def times(self) -> np.ndarray:
        """When the states are stored."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The largest state, `(components, *space)`; systems of fewer components are filled up with zeros."""

    @abc.abstractmethod
    def place(self, number: int) -> tuple[str, int]:
        """The family of a system, and its number within the family."""

    @abc.abstractmethod
    def system(self, family: str, key: tuple[int, ...]) -> Any:
        """A system of a family, drawn with this key."""

    @abc.abstractmethod
    def starts(self, family: str, system: Any, key: tuple[int, ...]) -> np.ndarray:
        """All starts of a system that may be tried, `(starts, components, *space)`, drawn with this key."""

    @abc.abstractmethod
    def fields(self, family: str, systems: Sequence[Any]) -> PyTree:
        """What `solve` needs of systems of one family, stacked, always of one structure."""

    @abc.abstractmethod
    def solve(self, family: str, fields: PyTree, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solutions `(starts, times, components, *space)`, each start with a field of its own; and which are good."""

    def tokens(self, system: Any) -> Sequence[str]:
        """The tokens of a system's equations; those of its expressions if this is not replaced."""
        return system_to_tokens(system)

    def attributes(self, seed: int) -> dict[str, Any]:
        """Where the solutions come from, as values that JSON can hold."""
        return {
            "generator": f"sciml.prose.{type(self).__name__}",
            "settings": dataclasses.asdict(self),
            "seed": seed,
            "sciml_version": sciml.__version__,
            "jax_version": jax.__version__,
        }


def uniform(shape: tuple[int, ...], key: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1), a pure function of the shape and of a key of numbers >= 0, the first of which is a seed.

    Made from raw words of PCG64, which NumPy promises never to change, unlike the methods of its generators.
    """
    words = np.random.PCG64(np.random.SeedSequence(key[0], spawn_key=key[1:])).random_raw(int(np.prod(shape)))
    return (words >> np.uint64(11)).reshape(shape) * 2.0**-53


def draw_trajectories(systems: AbstractSystems, numbers: Iterable[int], *, seed: int, lanes: int = 256) -> Trajectories:
    """Solutions of the systems with these numbers, in memory.

    A system depends on the seed, its family, its number within the family, and, up to rounding, on nothing else.
    One program is compiled for each family.

    Args:
        systems: What to draw from: a `Mixture`, `RandomSystems`, `PdeMixture` or `FluidMixture`.
        numbers: Numbers of the systems, from 0.
        seed: Number that selects systems and starts.
        lanes: Number of trajectories that are solved at once.

    Raises:
        ValueError: If a number is out of range.
        RuntimeError: If no system has enough good solutions.
    """
    numbers = list(numbers)
    if seed < 0 or lanes < 1 or min(numbers, default=-1) < 0:
        raise ValueError(
            "Expected seed >= 0, lanes >= 1 and at least one system, with numbers >= 0, got seed "
            f"{seed}, lanes {lanes} and numbers {numbers}."
        )
    searches = [_Search(systems, seed, number) for number in numbers]
    for family in dict.fromkeys(search.family for search in searches):
        _complete(systems, [search for search in searches if search.family == family], lanes)
    states = np.zeros((len(searches), systems.count, len(systems.times), *systems.shape), np.float32)
    for place, search in zip(states, searches, strict=True):
        kept = np.stack(search.kept)
        place[:, :, : kept.shape[2]] = kept
    return Trajectories(
        systems.times,
        states,
        equations=tuple(" ".join(systems.tokens(search.system)) for search in searches),
        families=tuple(search.family for search in searches),
        tried=np.array([search.tried for search in searches]),
        attributes=systems.attributes(seed),
    )


class _Search:
    """The good solutions of one system, as far as they are found."""

    def __init__(self, systems: AbstractSystems, seed: int, number: int):
        self._systems = systems
        self.family, number = systems.place(number)
        self._key = (seed, zlib.crc32(self.family.encode()), number)  # by name: independent of the other families
        self.attempt = -1
        self._begin()

    def _begin(self) -> None:
        self.attempt += 1
        if self.attempt == _ATTEMPTS:
            raise RuntimeError(
                f"None of {_ATTEMPTS} drawn systems of {self.family} has {self._systems.count} good solutions from "
                f"{len(self._starts)} starts. Allow more candidates, or use smaller starts or an earlier end."
            )
        self.system = self._systems.system(self.family, (*self._key, self.attempt, 0))
        self._starts = self._systems.starts(self.family, self.system, (*self._key, self.attempt, 1))
        self.tried, self.kept = 0, []

    def missing(self) -> np.ndarray:
        """As many of the next starts as solutions are missing; none if there are enough."""
        missing = self._systems.count - len(self.kept)
        if missing > len(self._starts) - self.tried:
            self._begin()
            missing = self._systems.count
        return self._starts[self.tried : self.tried + missing]

    def take(self, states: np.ndarray, good: np.ndarray) -> None:
        """Keeps the good ones of the solutions from these starts."""
        self.tried += len(good)
        self.kept.extend(states[good].astype(np.float32))


def _complete(systems: AbstractSystems, searches: list[_Search], lanes: int) -> None:
    """Solves the systems of one family until none of them misses a solution."""
    family = searches[0].family
    while True:
        starts = [search.missing() for search in searches]
        owners = np.repeat(np.arange(len(searches)), [len(part) for part in starts])
        if not len(owners):
            return
        fields = systems.fields(family, [search.system for search in searches])
        every = np.concatenate(starts)
        pieces = []
        for first in range(0, len(every), lanes):
            # Always as many at once, the last one several times if need be, for one compilation.
            chosen = np.minimum(np.arange(first, first + lanes), len(every) - 1)
            pieces.append(systems.solve(family, _taken(fields, owners[chosen]), every[chosen]))
        states, good = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        for i, search in enumerate(searches):
            mine = np.flatnonzero(owners == i)
            search.take(states[mine], good[mine])


def _taken(tree: PyTree, rows: np.ndarray) -> PyTree:
    return jax.tree.map(lambda array: array[rows], tree)
