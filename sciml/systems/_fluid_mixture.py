"""Trajectories of the families of flows in turn."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sciml import parallel
from sciml.systems._draws import AbstractSystems, in_turn, uniform
from sciml.systems._families import chosen
from sciml.systems._fluid_families import CHANNELS, FLUID_FAMILIES, FluidFamily


class _Flow(NamedTuple):
    """A family and its constants.

    Attributes:
        family: Name of one of `FLUID_FAMILIES`.
        constants: In the order of its table.
    """

    family: str
    constants: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FluidMixture(AbstractSystems):
    """Flows of some families in turn: flow i is of family `i % len(families)`, one trajectory each.

    Constants are rounded to the three digits of their tokens, and the rounded ones are integrated, in float64.

    Attributes:
        families: Names of `FLUID_FAMILIES`.
        resolution: Number of stored points along each axis.
        frames: Number of stored frames. The initial condition is not stored.

    Raises:
        ValueError: If a family is unknown, or if a number is out of range.
    """

    families: tuple[str, ...] = tuple(FLUID_FAMILIES)
    resolution: int = 128
    frames: int = 60

    def __post_init__(self) -> None:
        chosen(FLUID_FAMILIES, self.families)
        if self.resolution < 8 or self.frames < 2:
            raise ValueError(
                f"Expected a resolution of at least 8 and 2 frames, got {self.resolution} and {self.frames}."
            )

    @property
    def count(self) -> int:
        """One trajectory of each flow, so that no two have the same constants."""
        return 1

    @property
    def times(self) -> np.ndarray:
        """Frame numbers, since each family has its own time between frames."""
        return np.arange(self.frames, dtype=float)

    @property
    def shape(self) -> tuple[int, int, int]:
        """A frame with all channels."""
        return CHANNELS, self.resolution, self.resolution

    def place(self, number: int) -> tuple[str, int]:
        """The family of a flow, and its number within the family."""
        return in_turn(self.families, number)

    def system(self, family: str, key: tuple[int, ...]) -> _Flow:
        """A flow with drawn constants."""
        table = FLUID_FAMILIES[family]
        return _Flow(family, table.drawn(uniform((len(table.constants),), key).tolist()))

    def tokens(self, system: _Flow) -> list[str]:
        """The words of the equation with the flow's constants."""
        return FLUID_FAMILIES[system.family].tokens(system.constants)

    def initial_conditions(self, family: str, system: _Flow, key: tuple[int, ...]) -> np.ndarray:
        """One random initial condition, on the grid of the solver."""
        words = (uniform((1, 2), key) * 2.0**32).astype(np.uint32)
        with jax.enable_x64(True):
            return np.asarray(_initial_states(FLUID_FAMILIES[family], self.resolution, jnp.asarray(words)))

    def fields(self, family: str, systems: Sequence[_Flow]) -> np.ndarray:
        """The constants of all flows."""
        return np.array([system.constants for system in systems])

    def solve(self, family: str, fields: np.ndarray, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By the solver of the family. Good solutions are finite."""
        with jax.enable_x64(True):
            mesh = parallel.shared_by(len(initial), parallel.drawing_devices(own=True))
            given = FLUID_FAMILIES[family], self.resolution, self.frames, mesh
            states = np.asarray(_solutions(*given, jnp.asarray(initial), jnp.asarray(fields)), np.float32)
        return states, np.array([np.isfinite(one).all() for one in states])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _initial_states(family: FluidFamily, resolution: int, words: Array) -> Float[Array, "samples channels n n"]:
    keys = jax.random.wrap_key_data(words, impl="threefry2x32")
    return jax.vmap(lambda key: family.initial(key, resolution))(keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _solutions(
    family: FluidFamily, resolution: int, frames: int, mesh: Mesh, initial: Array, constants: Array
) -> Float[Array, "samples time channels x y"]:
    solve = lambda state, values: family.solve(state, values, resolution, frames)
    return parallel.on_shares(jax.vmap(solve), mesh)(initial, constants)
