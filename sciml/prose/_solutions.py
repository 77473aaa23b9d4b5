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
from sciml.prose._integrate import ACCURATE, Accuracy, integrate
from sciml.prose._trajectories import Trajectories
from sciml.symbolic import System, system_to_tokens

_ATTEMPTS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solutions:
    """How each system is solved.

    Each component of a start is uniform in `[-radius, radius]`. Starts are tried in order until `starts` of them have
    good solutions: solved, finite, and bounded.

    Attributes:
        starts: Number of solutions of each system.
        candidates: Most starts that are tried for a system. If they do not suffice, the system is drawn anew; the
            published code keeps fewer solutions of it.
        radius: Largest component of a start.
        points: Number of times, equally spaced from 0 to `end`.
        end: Last time.
        accuracy: Of the time steps. The published data were integrated by SciPy's BDF, LSODA and RK45 with rtol 1e-5
            and atol 1e-6.

    Raises:
        ValueError: If a number is out of range.
    """

    starts: int = 20
    candidates: int = 200
    radius: float = 2.0
    points: int = 192
    end: float = 6.0
    accuracy: Accuracy = ACCURATE

    def __post_init__(self) -> None:
        if not 1 <= self.starts <= self.candidates or self.points < 2 or not min(self.end, self.radius) > 0:
            raise ValueError(
                "Expected 1 <= starts <= candidates, points >= 2, end > 0 and radius > 0, "
                f"got starts {self.starts}, candidates {self.candidates}, points {self.points}, end {self.end} and "
                f"radius {self.radius}."
            )

    @property
    def times(self) -> np.ndarray:
        """When the states are stored."""
        return np.linspace(0.0, self.end, self.points)


PUBLISHED = Solutions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractSystems(abc.ABC):
    """An endless numbered set of systems, some settings and seed apart; a frozen dataclass of numbers."""

    solutions: Solutions = PUBLISHED

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Largest number of states; smaller systems are filled up with zeros."""

    @abc.abstractmethod
    def place(self, number: int) -> tuple[str, int]:
        """The family of a system, and its number within the family."""

    @abc.abstractmethod
    def system(self, family: str, key: tuple[int, ...]) -> System:
        """A system of a family, drawn from `uniform` with this key."""

    @abc.abstractmethod
    def fields(self, family: str, systems: Sequence[System]) -> PyTree:
        """The right-hand sides of systems of one family, stacked, always of one structure."""

    @abc.abstractmethod
    def width(self, family: str) -> int:
        """Number of states of these right-hand sides."""

    @abc.abstractmethod
    def largest(self, family: str) -> float:
        """Solutions that reach this absolute value are not good."""

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
        systems: What to draw from: a `Mixture` or `RandomSystems`.
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
    settings = systems.solutions
    states = np.zeros((len(searches), settings.starts, settings.points, systems.dimension), np.float32)
    for place, search in zip(states, searches, strict=True):
        place[:, :, : systems.width(search.family)] = search.kept
    return Trajectories(
        settings.times,
        states,
        equations=tuple(" ".join(system_to_tokens(search.system)) for search in searches),
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
        settings = self._systems.solutions
        if self.attempt == _ATTEMPTS:
            raise RuntimeError(
                f"None of {_ATTEMPTS} drawn systems of {self.family} has {settings.starts} good solutions from "
                f"{settings.candidates} starts. Allow more candidates, or use a smaller radius or an earlier end."
            )
        self.system = self._systems.system(self.family, (*self._key, self.attempt, 0))
        drawn = uniform((settings.candidates, len(self.system)), (*self._key, self.attempt, 1))
        self._starts = np.zeros((settings.candidates, self._systems.width(self.family)))
        self._starts[:, : len(self.system)] = settings.radius * (2 * drawn - 1)
        self.tried, self.kept = 0, []

    def missing(self) -> np.ndarray:
        """As many of the next starts as solutions are missing; none if there are enough."""
        missing = self._systems.solutions.starts - len(self.kept)
        if missing > len(self._starts) - self.tried:
            self._begin()
            missing = self._systems.solutions.starts
        return self._starts[self.tried : self.tried + missing]

    def take(self, states: np.ndarray, good: np.ndarray) -> None:
        """Keeps the good ones of the solutions from these starts."""
        self.tried += len(good)
        self.kept.extend(states[good].astype(np.float32))


def _complete(systems: AbstractSystems, searches: list[_Search], lanes: int) -> None:
    """Solves the systems of one family until none of them misses a solution."""
    family = searches[0].family
    settings, largest = systems.solutions, systems.largest(family)
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
            own, some = _taken(fields, owners[chosen]), every[chosen]
            pieces.append(integrate(own, some, settings.times, largest=largest, accuracy=settings.accuracy))
        states, good = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        for i, search in enumerate(searches):
            mine = np.flatnonzero(owners == i)
            search.take(states[mine], good[mine])


def _taken(tree: PyTree, rows: np.ndarray) -> PyTree:
    return jax.tree.map(lambda array: array[rows], tree)
