"""Trajectories of the families of flows in turn."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.systems._draws import AbstractSystems, uniform
from sciml.systems._fluid_families import CHANNELS, FLUID_FAMILIES, FluidFamily


class Flow(NamedTuple):
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
        frames: Number of stored frames; that of the start is not stored.

    Raises:
        ValueError: If a family is unknown, or if a number is out of range.
    """

    families: tuple[str, ...] = tuple(FLUID_FAMILIES)
    resolution: int = 128
    frames: int = 60

    def __post_init__(self) -> None:
        if not self.families or not set(self.families) <= set(FLUID_FAMILIES):
            raise ValueError(f"Expected families of {', '.join(FLUID_FAMILIES)}, got {self.families}.")
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
        """Numbers of frames: the time between frames is one of each family's own."""
        return np.arange(self.frames, dtype=float)

    @property
    def shape(self) -> tuple[int, int, int]:
        """A frame with all channels."""
        return CHANNELS, self.resolution, self.resolution

    def place(self, number: int) -> tuple[str, int]:
        """The family of a flow, and its number within the family."""
        within, family = divmod(number, len(self.families))
        return self.families[family], within

    def system(self, family: str, key: tuple[int, ...]) -> Flow:
        """A flow with drawn constants."""
        table = FLUID_FAMILIES[family]
        return Flow(family, table.drawn(uniform((len(table.constants),), key).tolist()))

    def tokens(self, system: Flow) -> list[str]:
        """The words of the equation with the flow's constants."""
        return FLUID_FAMILIES[system.family].tokens(system.constants)

    def starts(self, family: str, system: Flow, key: tuple[int, ...]) -> np.ndarray:
        """One random start, on the grid of the solver."""
        words = (uniform((1, 2), key) * 2.0**32).astype(np.uint32)
        with jax.enable_x64(True):
            return np.asarray(_starts(FLUID_FAMILIES[family], self.resolution, jnp.asarray(words)))

    def fields(self, family: str, systems: Sequence[Flow]) -> np.ndarray:
        """The constants of all flows."""
        return np.array([system.constants for system in systems])

    def solve(self, family: str, fields: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By the solver of the family; those without infinite values are good."""
        with jax.enable_x64(True):
            given = FLUID_FAMILIES[family], self.resolution, self.frames
            states = np.asarray(_solutions(*given, jnp.asarray(starts), jnp.asarray(fields)), np.float32)
        return states, np.array([np.isfinite(one).all() for one in states])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _starts(family: FluidFamily, resolution: int, words: Array) -> Float[Array, "starts channels n n"]:
    keys = jax.random.wrap_key_data(words, impl="threefry2x32")
    return jax.vmap(lambda key: family.start(key, resolution))(keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _solutions(
    family: FluidFamily, resolution: int, frames: int, starts: Array, constants: Array
) -> Float[Array, "starts time channels x y"]:
    return jax.vmap(lambda start, values: family.solve(start, values, resolution, frames))(starts, constants)
