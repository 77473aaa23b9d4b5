"""Draws systems and their solutions; what is drawn is a pure function of the seed and of the system's number."""

import abc
import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

import sciml
from sciml import parallel
from sciml.symbolic import system_to_tokens
from sciml.systems._integrate import check_times

_ATTEMPTS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """Solutions of systems of equations, several of each system.

    Attributes:
        times: Increasing times of the states.
        states: Floating-point array `(systems, trajectories, times, states)`, zero beyond the dimension of a
            system, or fields `(systems, trajectories, times, channels, *space)`.
        equations: The tokens of each system's equations, joined by blanks: right-hand sides, or what is zero.
        families: The family of each system, for errors by family.
        tried: How many initial conditions of each system were integrated in its last attempt.
        attributes: Generator, settings, seed, versions.

    Raises:
        ValueError: If the times do not increase, if an array has the wrong shape or type, or if a state is not finite.
    """

    times: np.ndarray
    states: np.ndarray
    _: dataclasses.KW_ONLY
    equations: tuple[str, ...]
    families: tuple[str, ...]
    tried: np.ndarray
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_times(self.times)
        shape, kind = self.states.shape, self.states.dtype
        if len(shape) < 4 or kind.kind != "f" or self.states.size == 0 or shape[2] != len(self.times):
            raise ValueError(
                f"Expected floating-point states (systems, trajectories, times, states) at {len(self.times)} times, "
                f"got {kind} of shape {shape}. Add the missing axes, such as "
                "states[:, None] for one trajectory of each system."
            )
        counts = {"equations": len(self.equations), "families": len(self.families), "tried": len(self.tried)}
        if set(counts.values()) != {shape[0]}:
            raise ValueError(f"Expected one entry for each of {shape[0]} systems, got {counts}. Give one for each.")
        for i, states in enumerate(self.states):  # system by system, since the array may be larger than the memory
            if not np.isfinite(states).all():
                row = int(np.argmin(np.isfinite(states).reshape(len(states), -1).all(axis=1)))
                raise ValueError(
                    f"Trajectory {row} of system {i} ({self.families[i]}) has NaN or infinite states. Remove it, or "
                    "generate the set again."
                )

    def __len__(self) -> int:
        """Number of trajectories."""
        return self.states.shape[0] * self.states.shape[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractSystems(abc.ABC):
    """An endless numbered set of systems and their solutions: the settings of a random generator.

    A seed and a number select a system. Its initial conditions are tried in order until enough of them have good
    solutions.
    """

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """Number of solutions of each system."""

    @property
    @abc.abstractmethod
    def times(self) -> np.ndarray:
        """The times at which states are stored."""

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
    def initial_conditions(self, family: str, system: Any, key: tuple[int, ...]) -> np.ndarray:
        """All initial conditions that may be tried, `(candidates, components, *space)`, drawn with this key."""

    @abc.abstractmethod
    def fields(self, family: str, systems: Sequence[Any]) -> PyTree:
        """The right-hand sides of systems of one family as `solve` takes them, stacked, always of one structure."""

    @abc.abstractmethod
    def solve(self, family: str, fields: PyTree, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solutions `(samples, times, components, *space)`, one for each right-hand side; and which are good."""

    def tokens(self, system: Any) -> Sequence[str]:
        """The tokens of a system's equations, by default those of its expressions."""
        return system_to_tokens(system)

    def attributes(self, seed: int) -> dict[str, Any]:
        """Generator, settings, seed and versions, as values that JSON can hold."""
        return {
            "generator": f"sciml.systems.{type(self).__name__}",
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
    One program is compiled for each family. All devices share the trajectories that are solved at once, those of
    several processes that have joined as well; then all processes call this alike, and get all solutions.

    Args:
        systems: What to draw from: a `Mixture`, `RandomSystems`, `PdeMixture` or `FluidMixture`.
        numbers: Numbers of the systems, from 0.
        seed: Number that selects systems and initial conditions.
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
    """Collects good solutions of one system."""

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
                f"{len(self._initial)} initial conditions. Allow more candidates, a smaller radius or an earlier end."
            )
        self.system = self._systems.system(self.family, (*self._key, self.attempt, 0))
        self._initial = self._systems.initial_conditions(self.family, self.system, (*self._key, self.attempt, 1))
        self.tried, self.kept = 0, []

    def missing(self) -> np.ndarray:
        """The next initial conditions, as many as solutions are missing."""
        missing = self._systems.count - len(self.kept)
        if missing > len(self._initial) - self.tried:
            self._begin()
            missing = self._systems.count
        return self._initial[self.tried : self.tried + missing]

    def take(self, states: np.ndarray, good: np.ndarray) -> None:
        """Keeps the good ones of these solutions."""
        self.tried += len(good)
        self.kept.extend(states[good])


def _complete(systems: AbstractSystems, searches: list[_Search], lanes: int) -> None:
    """Solves the systems of one family until none of them misses a solution."""
    family, share = searches[0].family, parallel.Shares(lanes, parallel.drawing_devices())
    while True:
        initial = [search.missing() for search in searches]
        owners = np.repeat(np.arange(len(searches)), [len(part) for part in initial])
        if not len(owners):
            return
        fields = systems.fields(family, [search.system for search in searches])
        every = np.concatenate(initial)
        pieces = []
        for first in range(0, len(every), lanes):
            # Always as many at once, the last one several times if need be, for one compilation.
            chosen = share.of(np.minimum(np.arange(first, first + lanes), len(every) - 1))
            states, good = systems.solve(family, _taken(fields, owners[chosen]), every[chosen])
            with np.errstate(over="ignore"):  # of solutions that are not good
                pieces.append(share.joined((np.asarray(states, np.float32), good)))
        states, good = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        for i, search in enumerate(searches):
            mine = np.flatnonzero(owners == i)
            search.take(states[mine], good[mine])


def _taken(tree: PyTree, rows: np.ndarray) -> PyTree:
    return jax.tree.map(lambda array: array[rows], tree)


def in_turn(families: Sequence[str], number: int) -> tuple[str, int]:
    """The family of a system whose number goes through the families in turn, and its number within the family."""
    within, family = divmod(number, len(families))
    return families[family], within
