"""Solutions of ordinary differential equations: what families and random systems have in common."""

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import PyTree

from sciml.symbolic import System
from sciml.systems._draws import AbstractSystems, uniform
from sciml.systems._integrate import ACCURATE, Accuracy, integrate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solutions:
    """How each system is solved.

    Initial conditions are uniform in `[-radius, radius]` in each component. They are tried in order until enough of
    them have good solutions: solved, finite, and bounded.

    Attributes:
        initial_conditions: Number of solutions of each system.
        candidates: Most initial conditions that are tried for a system, before the system is drawn anew. The published
            code keeps fewer solutions instead.
        radius: Largest component of an initial condition.
        points: Number of times, equally spaced from 0 to `end`.
        end: Last time.
        accuracy: Of the time steps. The published data were integrated by SciPy's BDF, LSODA and RK45 with rtol 1e-5
            and atol 1e-6.

    Raises:
        ValueError: If a number is out of range.
    """

    initial_conditions: int = 20
    candidates: int = 200
    radius: float = 2.0
    points: int = 192
    end: float = 6.0
    accuracy: Accuracy = ACCURATE

    def __post_init__(self) -> None:
        if not 1 <= self.initial_conditions <= self.candidates or self.points < 2 or not min(self.end, self.radius) > 0:
            raise ValueError(
                "Expected 1 <= initial_conditions <= candidates, points >= 2, end > 0 and radius > 0, "
                f"got {self.initial_conditions}, candidates {self.candidates}, points {self.points}, end {self.end}, "
                f"radius {self.radius}."
            )

    @property
    def times(self) -> np.ndarray:
        """The times at which states are stored."""
        return np.linspace(0.0, self.end, self.points)


PUBLISHED = Solutions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractOdeSystems(AbstractSystems):
    """An endless numbered set of systems of ordinary differential equations.

    Attributes:
        solutions: How each system is solved.
    """

    solutions: Solutions = PUBLISHED

    @property
    def count(self) -> int:
        """Number of solutions of each system."""
        return self.solutions.initial_conditions

    @property
    def times(self) -> np.ndarray:
        """The times at which states are stored."""
        return self.solutions.times

    @property
    def shape(self) -> tuple[int, ...]:
        """As many states as the largest system has."""
        return (self.dimension,)

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Largest number of states; smaller systems are filled up with zeros."""

    @abc.abstractmethod
    def fields(self, family: str, systems: Sequence[System]) -> PyTree:
        """The right-hand sides of systems of one family, stacked, always of one structure."""

    @abc.abstractmethod
    def width(self, family: str) -> int:
        """Number of states of these right-hand sides."""

    @abc.abstractmethod
    def largest(self, family: str) -> float:
        """Solutions that reach this absolute value are not good."""

    def initial_conditions(self, family: str, system: System, key: tuple[int, ...]) -> np.ndarray:
        """Uniform in a cube; zero in states that the system does not have."""
        settings = self.solutions
        initial = np.zeros((settings.candidates, self.width(family)))
        drawn = uniform((settings.candidates, len(system)), key)
        initial[:, : len(system)] = settings.radius * (2 * drawn - 1)
        return initial

    def solve(self, family: str, fields: PyTree, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By `integrate`."""
        accuracy = self.solutions.accuracy
        return integrate(fields, initial, self.times, largest=self.largest(family), accuracy=accuracy)
