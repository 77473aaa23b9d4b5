"""Families of two-dimensional flows: their equations in the words of PROSE-FD, and how they are solved."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
from jaxtyping import Array, Float, Key

from sciml.pdes import FitzHughNagumo, NavierStokes, ShallowWater, periodic_field, velocity
from sciml.systems._families import CODEC

CHANNELS = 4
"""Number of channels of a frame, as in PROSE-FD. Families with fewer fill it up with zeros."""


@dataclasses.dataclass(frozen=True)
class FluidFamily:
    """Flows that obey one equation, with constants of their own.

    An equation is what vanishes, in prefix words of `symbolic.fluid_vocabulary()`, systems with `|` between their
    parts; behind `--` follow the fields with their boundary conditions. The notation is that of the published strings:
    `U` is the velocity, `h` a height, `p` a pressure, `u` and `v` are species, `F` is a force whose form does not vary,
    `dt` is the derivative in time, `D` a gradient, `D2` the Laplacian, `diverg` the divergence; `mul U D U` is the
    advection of U by itself and `mul U U` the tensor product. Differs from the published strings in that all signs and
    factors are those of the equation that is solved (there viscous terms have the wrong sign, and `h U U` has the
    factor of the pressure), in that the numbers that vary between trajectories are written, and in that a flat bed and
    a density of one are left out.

    Attributes:
        channels: What the channels of a frame are; velocities come first.
        equation: The words, with `{name}` where a constant stands.
        constants: Name, smallest and largest value of each; drawn log-uniformly.
        initial: `(key, resolution) -> fields` at time 0, on the grid of the solver, in JAX's default precision.
        solve: `(initial, constants, resolution, frames) -> frames`, those at later, equally spaced times.
    """

    channels: tuple[str, ...]
    equation: str
    constants: tuple[tuple[str, float, float], ...]
    initial: Callable[[Key[Array, ""], int], Array]
    solve: Callable[[Array, Array, int, int], Array]

    def drawn(self, parts: Sequence[float]) -> tuple[float, ...]:
        """Constants from numbers in [0, 1), rounded to the three digits of their tokens."""
        ranges = zip(parts, self.constants, strict=True)
        return tuple(CODEC.rounded(low * (high / low) ** part) for part, (_, low, high) in ranges)

    def tokens(self, constants: Sequence[float]) -> list[str]:
        """The words of the equation with these constants.

        Raises:
            ValueError: If there are more or fewer constants than names.
        """
        names = [name for name, _, _ in self.constants]
        if len(constants) != len(names):
            raise ValueError(f"Expected the constants {', '.join(names)}, got {len(constants)} numbers. Give each one.")
        words = {name: " ".join(CODEC.encode(value)) for name, value in zip(names, constants, strict=True)}
        return self.equation.format(**words).split()


def _finer(resolution: int, least: int) -> int:
    """The smallest multiple of a resolution with at least so many points."""
    return resolution * math.ceil(least / resolution)


def _water(resolution: int, frames: int = 1) -> ShallowWater:
    return ShallowWater(resolution=_finer(resolution, 64), frames=frames, interval=0.05)


def _dam(key: Key[Array, ""], resolution: int) -> Float[Array, "3 n n"]:
    return _water(resolution).dam_break(key)


def _waves(key: Key[Array, ""], resolution: int) -> Float[Array, "3 n n"]:
    return _water(resolution).waves(key)


def _solve_water(
    initial: Float[Array, "3 n n"], constants: Float[Array, " 1"], resolution: int, frames: int
) -> Float[Array, "time 3 x y"]:
    """Means over the cells of the solver that a stored one holds."""
    found = _water(resolution, frames).solve(initial, gravity=constants[0])
    factor = found.shape[-1] // resolution
    return found.reshape(frames, 3, resolution, factor, resolution, factor).mean(axis=(3, 5))


def _vortices(key: Key[Array, ""], resolution: int) -> Float[Array, "1 n n"]:
    """A vorticity whose velocities are up to about 1."""
    return 15 * periodic_field(key, (_finer(resolution, 64),) * 2, alpha=2.5, tau=7.0)[None]


def _solve_vortices(
    initial: Float[Array, "1 n n"], constants: Float[Array, " 2"], resolution: int, frames: int
) -> Float[Array, "time 2 x y"]:
    n = initial.shape[-1]
    # Stable up to speeds |u| + |v| of 1.35 / 0.5 = 2.7, see `NavierStokes.step`.
    problem = NavierStokes(resolution=n, frames=frames + 1, interval=0.1, step=0.5 / n)
    found = jax.vmap(velocity)(problem.vorticity(initial[0], viscosity=constants[0], forcing=constants[1])[1:])
    return found[:, :, :: n // resolution, :: n // resolution]


def _species(resolution: int, frames: int = 1) -> FitzHughNagumo:
    return FitzHughNagumo(resolution=_finer(resolution, 128), frames=frames, interval=0.25)


def _mixed(key: Key[Array, ""], resolution: int) -> Float[Array, "2 n n"]:
    """Concentrations up to about 1."""
    return 2 * _species(resolution).initial(key)


def _solve_species(
    initial: Float[Array, "2 n n"], constants: Float[Array, " 3"], resolution: int, frames: int
) -> Float[Array, "time 2 x y"]:
    found = _species(resolution, frames).solve(initial, diffusivities=constants[:2], threshold=constants[2])
    return found[:, :, :: initial.shape[-1] // resolution, :: initial.shape[-1] // resolution]


_WATER = (
    "add dt h diverg mul h U | add dt mul h U diverg add mul h mul U U mul mul + N500 E-3 {gravity} mul h h "
    "-- U periodic h periodic"
)

FLUID_FAMILIES: Mapping[str, FluidFamily] = MappingProxyType(
    {
        "dam_break": FluidFamily(
            ("velocity x1", "velocity x2", "height"), _WATER, (("gravity", 0.5, 2.0),), _dam, _solve_water
        ),
        "waves": FluidFamily(
            ("velocity x1", "velocity x2", "height"), _WATER, (("gravity", 0.5, 2.0),), _waves, _solve_water
        ),
        "vortices": FluidFamily(
            ("velocity x1", "velocity x2"),
            "sub add add dt U mul U D U D p add mul {viscosity} D2 U mul {forcing} F | diverg U -- U periodic",
            (("viscosity", 1e-3, 1e-2), ("forcing", 0.2, 2.0)),
            _vortices,
            _solve_vortices,
        ),
        "reaction": FluidFamily(
            ("activator", "inhibitor"),
            "sub dt u add mul {activator} D2 u sub u add pow3 u add {threshold} v | "
            "sub dt v add mul {inhibitor} D2 v sub u v -- u periodic v periodic",
            (("activator", 1e-3, 3e-3), ("inhibitor", 2e-3, 1e-2), ("threshold", 1e-3, 1e-1)),
            _mixed,
            _solve_species,
        ),
    }
)
"""Shallow water (`ShallowWater`) from two kinds of initial conditions, forced vortices (`NavierStokes`, whose force has
the curl `sin 2 pi (x + y) + cos 2 pi (x + y)` times `forcing`), and two species (`FitzHughNagumo`).

PROSE-FD has other data: shallow water, compressible and incompressible flows of PDEBench, smoke of PDEArena, and flows
around obstacles of CFDBench (second-hand). Water is stored as means over finer cells, other fields at points.
"""
