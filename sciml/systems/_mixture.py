"""Systems of the families of PROSE-ODE in turn."""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import numpy as np

from sciml.symbolic import System, VectorField, parameters
from sciml.systems._draws import in_turn, uniform
from sciml.systems._families import FAMILIES, check_spread, chosen
from sciml.systems._solutions import AbstractOdeSystems


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture(AbstractOdeSystems):
    """Systems of some families in turn: system i is of family `i % len(families)`.

    Each drawn number is uniform in `[q - spread |q|, q + spread |q|]` around the nominal q; constants are then rounded
    to the three digits of their tokens, and the rounded ones are integrated. By default the 15 families of PROSE-ODE as
    in training; its tests out of distribution have a spread of 0.15 and 0.2.

    Attributes:
        solutions: How each system is solved.
        families: Names of `FAMILIES`.
        spread: Relative half width of the constants.

    Raises:
        ValueError: If a family is unknown, or if the spread is out of range.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    spread: float = 0.1

    def __post_init__(self) -> None:
        chosen(FAMILIES, self.families)
        check_spread(self.spread)

    @property
    def dimension(self) -> int:
        """Largest number of states."""
        return max(family.dimension for family in chosen(FAMILIES, self.families))

    def place(self, number: int) -> tuple[str, int]:
        """The family of a system, and its number within the family."""
        return in_turn(self.families, number)

    def system(self, family: str, key: tuple[int, ...]) -> System:
        """A system with drawn constants."""
        nominal = np.array(FAMILIES[family].nominal)
        drawn = nominal * (1 + self.spread * (2 * uniform(nominal.shape, key) - 1))
        return FAMILIES[family].system(drawn.tolist())

    def fields(self, family: str, systems: Sequence[System]) -> VectorField:
        """One field with the constants of all systems."""
        constants = np.stack([parameters(system) for system in systems])
        return eqx.tree_at(lambda field: field.constants, VectorField(systems[0]), constants)

    def width(self, family: str) -> int:
        """The dimension of the family."""
        return FAMILIES[family].dimension

    def largest(self, family: str) -> float:
        """The bound of the family."""
        return FAMILIES[family].largest
