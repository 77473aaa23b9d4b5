"""Systems of the families of PROSE-PDE in turn."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sciml import parallel
from sciml.symbolic import System
from sciml.systems._draws import AbstractSystems, in_turn, uniform
from sciml.systems._families import check_spread, chosen
from sciml.systems._pde_families import END, LENGTH, PDE_FAMILIES, PdeFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evolutions:
    """How each equation on an interval is solved; the defaults are those of PROSE-PDE.

    Attributes:
        initial_conditions: Number of solutions of each system.
        candidates: Most initial conditions that are tried for a system, before the system is drawn anew.
        frames: Number of times, `2 i / frames` for i from 0.
        points: Number of cells of the interval [0, 2], at whose centres states are.

    Raises:
        ValueError: If a number is out of range.
    """

    initial_conditions: int = 50
    candidates: int = 100
    frames: int = 64
    points: int = 128

    def __post_init__(self) -> None:
        if not 1 <= self.initial_conditions <= self.candidates or self.frames < 2 or self.points < 8:
            raise ValueError(
                "Expected 1 <= initial_conditions <= candidates, frames >= 2 and points >= 8, got "
                f"{self.initial_conditions}, candidates {self.candidates}, frames {self.frames}, points {self.points}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PdeMixture(AbstractSystems):
    """Systems of some families of `PDE_FAMILIES` in turn: system i is of family `i % len(families)`.

    The drawn constants are rounded to the three digits of their tokens, and the rounded ones are solved with, in double
    precision. States are `(1, points)`.

    Attributes:
        families: Names of `PDE_FAMILIES`.
        spread: Relative half width of most constants: 0.1 in training.
        evolutions: How each system is solved.

    Raises:
        ValueError: If a family is unknown, or if the spread is out of range.
    """

    families: tuple[str, ...] = tuple(PDE_FAMILIES)
    spread: float = 0.1
    evolutions: Evolutions = Evolutions()

    def __post_init__(self) -> None:
        chosen(PDE_FAMILIES, self.families)
        check_spread(self.spread)

    @property
    def count(self) -> int:
        """Number of solutions of each system."""
        return self.evolutions.initial_conditions

    @property
    def times(self) -> np.ndarray:
        """The times at which states are stored, in [0, 2)."""
        return END * np.arange(self.evolutions.frames) / self.evolutions.frames

    @property
    def centres(self) -> np.ndarray:
        """Where the states are, the centres of cells of the interval."""
        return LENGTH * (np.arange(self.evolutions.points) + 0.5) / self.evolutions.points

    @property
    def shape(self) -> tuple[int, ...]:
        """One channel, and the points."""
        return 1, self.evolutions.points

    def place(self, number: int) -> tuple[str, int]:
        """The family of a system, and its number within the family."""
        return in_turn(self.families, number)

    def system(self, family: str, key: tuple[int, ...]) -> System:
        """An equation with drawn constants."""
        numbers = PDE_FAMILIES[family].drawn
        drawn = uniform((len(numbers),), key).tolist()
        return PDE_FAMILIES[family].system([one(u, self.spread) for one, u in zip(numbers, drawn, strict=True)])

    def initial_conditions(self, family: str, system: System, key: tuple[int, ...]) -> np.ndarray:
        """Initial conditions of the family."""
        settings = self.evolutions
        with jax.enable_x64(True):
            words = jnp.asarray(np.array(key, np.uint32))
            initial = _initial_states(
                words, family=PDE_FAMILIES[family], count=settings.candidates, points=settings.points
            )
            return np.asarray(initial)[:, None]

    def fields(self, family: str, systems: Sequence[System]) -> np.ndarray:
        """The constants of the equations."""
        return np.array([PDE_FAMILIES[family].constants_of(system) for system in systems])

    def solve(self, family: str, fields: np.ndarray, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By the solver of the family. Good solutions are finite and have a norm between the bounds of the family."""
        low, high = PDE_FAMILIES[family].norms
        with jax.enable_x64(True):
            arrays = jnp.asarray(fields), jnp.asarray(initial[:, 0])
            mesh = parallel.shared_by(len(initial), parallel.drawing_devices(own=True))
            found = _solved(*arrays, family=PDE_FAMILIES[family], frames=self.evolutions.frames, mesh=mesh)
            states = np.asarray(found)
        norms = np.sqrt(_VALUES * np.mean(states**2, axis=(1, 2)))  # NaN is in no order
        return states[:, :, None], np.isfinite(states).all(axis=(1, 2)) & (low < norms) & (norms < high)


_VALUES = 64 * 128


@functools.partial(jax.jit, static_argnames=("family", "count", "points"))
def _initial_states(words: Array, *, family: PdeFamily, count: int, points: int) -> Float[Array, "count points"]:
    key = jax.random.key(words[0], impl="threefry2x32")  # named: the default of the process may be another one
    for word in words[1:]:
        key = jax.random.fold_in(key, word)
    return jax.vmap(lambda one: family.initial(one, points))(jax.random.split(key, count))


@functools.partial(jax.jit, static_argnames=("family", "frames", "mesh"))
def _solved(
    constants: Float[Array, "samples constants"],
    initial: Float[Array, "samples points"],
    *,
    family: PdeFamily,
    frames: int,
    mesh: Mesh,
) -> Float[Array, "samples frames points"]:
    solve = lambda own, state: family.solve(state, *own, length=LENGTH, time=family.end, frames=frames)
    return parallel.on_shares(jax.vmap(solve), mesh)(constants, initial)
