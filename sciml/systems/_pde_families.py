"""The 20 families of equations of PROSE-PDE on an interval, one table: drawn, solved, and written as residuals."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
from jaxtyping import Array, Float

from sciml import pdes
from sciml.pdes import InitialBump, InitialSines
from sciml.symbolic import AbstractExpression, System, parameters
from sciml.systems import _pde_residuals as residuals
from sciml.systems import _pde_solvers as solvers
from sciml.systems._families import identity, rounded_constants

LENGTH = 2.0
"""Length of the interval, in equations and solvers."""
END = 2.0
"""End of the time interval, in frames and equations."""


@dataclasses.dataclass(frozen=True)
class Around:
    """A number uniform in `[q - spread q, q + spread q]` around the nominal q."""

    nominal: float

    def __call__(self, drawn: float, spread: float) -> float:
        """The number for a `drawn` one in [0, 1)."""
        return self.nominal * (1 + spread * (2 * drawn - 1))


@dataclasses.dataclass(frozen=True)
class Among:
    """One of some numbers, each equally likely whatever the spread is; the first one is nominal."""

    values: tuple[float, ...]

    @property
    def nominal(self) -> float:
        """The first one."""
        return self.values[0]

    def __call__(self, drawn: float, spread: float) -> float:
        """The number for a `drawn` one in [0, 1)."""
        return self.values[math.floor(drawn * len(self.values))]


@dataclasses.dataclass(frozen=True)
class Between:
    """A number uniform in `[low, high]` whatever the spread is; the middle is nominal."""

    low: float
    high: float

    @property
    def nominal(self) -> float:
        """The middle."""
        return (self.low + self.high) / 2

    def __call__(self, drawn: float, spread: float) -> float:
        """The number for a `drawn` one in [0, 1)."""
        return self.low + (self.high - self.low) * drawn


@dataclasses.dataclass(frozen=True)
class PdeFamily:
    """Equations of equal structure on the periodic interval [0, 2].

    Frames are at the times in [0, 2) to which the physical time in [0, `end`) is stretched, so that in the equations
    d/dt is multiplied by the rate 2 / `end`.

    Attributes:
        name: Name of the family.
        drawn: How each number is drawn.
        end: The physical time that becomes 2.
        residual: `(rate, *constants) -> expression` that is zero.
        initial: `(key, points) -> (points,)`, the first frame.
        solve: `(initial, *constants, length=, time=, frames=) -> (frames, points)`.
        constants: Drawn numbers to the constants of the equation, before they are rounded.
        norms: Solutions are good if their norm is between these, counted as if they had 64 frames of 128 points.
    """

    name: str
    drawn: tuple[Around | Among | Between, ...]
    end: float
    residual: Callable[..., AbstractExpression]
    initial: Callable[[jax.Array, int], Float[Array, " points"]]
    solve: Callable[..., Float[Array, "frames points"]]
    constants: Callable[..., tuple[float, ...]] = identity
    norms: tuple[float, float] = (0.0, math.inf)

    @property
    def nominal(self) -> tuple[float, ...]:
        """The nominal numbers."""
        return tuple(number.nominal for number in self.drawn)

    def system(self, drawn: Sequence[float] | None = None) -> System:
        """The equation, one expression that is zero, with constants from drawn numbers, by default the nominal ones.

        Constants are rounded to the three digits that tokens hold, so that the tokens are exact. Their number and
        order of appearance does not depend on their values.

        Raises:
            ValueError: If the count of numbers is not that of `nominal`, or a constant has no tokens.
        """
        constants = rounded_constants(self.name, self.constants, self.nominal, drawn)
        return (self.residual(END / self.end, *constants),)

    def constants_of(self, system: System) -> tuple[float, ...]:
        """The constants of an equation of this family: what `system` rounded, and `solve` takes."""
        marks = [1000.0 + i for i in range(len(self.constants(*self.nominal)))]  # no other number is as large
        marked = parameters((self.residual(END / self.end, *marks),)).tolist()
        return tuple(float(parameters(system)[marked.index(mark)]) for mark in marks)


def _porous(m: float) -> tuple[float, ...]:
    return m, m - 1, m * (m - 1), m - 2


def _klein_gordon(c: float, m: float) -> tuple[float, float]:
    return c**2, m**2 * c**4


def _squared(number: float) -> tuple[float]:
    return (number**2,)


def _viscous(k: float, e: float) -> tuple[float, float]:
    return k, e / math.pi


def _brownian(energy: float, width: float, temperature: float, viscosity: float) -> tuple[float, float, float]:
    """From SI units to micrometres: the diffusivity of a sphere, the speed of its drift, and the wave number."""
    diffusivity, wave = 1e12 * float(pdes.stokes_einstein(temperature, viscosity, 1e-7)), 1e-6 / width
    return diffusivity, diffusivity * wave * energy / (pdes.BOLTZMANN * temperature), wave


def _density(key: jax.Array, points: int) -> Array:
    bump = InitialBump()(key, points)
    return bump / bump.sum()


_SINES, _LONG_SINES = InitialSines(), InitialSines(waves=2)
_PLAIN_SINES = InitialSines(waves=2, absolute=0.0, windowed=0.0)
_LOW_SINES = InitialSines(waves=2, high=0.5, absolute=0.0, windowed=0.0)
_UNIT, _HALF, _TENTH, _WEAK, _THIN = (Around(q) for q in (1.0, 0.5, 0.1, 0.01, 3e-3))
_SPHERE = (Around(5e-21), Around(1e-7), Around(300.0), Around(1e-3))
_NORMS = (10.0, 2000.0)


def _flow(
    name: str, drawn: tuple[Around | Between, ...], *parts: Callable, constants: Callable = identity
) -> PdeFamily:
    residual, solve = parts
    return PdeFamily(name, drawn, 2.0, residual, _SINES, solve, constants, _NORMS)


PDE_FAMILIES: dict[str, PdeFamily] = {
    family.name: family
    for family in (
        PdeFamily("heat", (_THIN,), 2.0, residuals.heat, _SINES, pdes.solve_heat),
        PdeFamily(
            "porous_medium",
            (Among((2.0, 3.0, 4.0)),),
            0.1,
            residuals.porous_medium,
            InitialBump(),
            solvers.porous_medium,
            _porous,
        ),
        PdeFamily(
            "Klein_Gordon",
            (_UNIT, _TENTH),
            1.0,
            residuals.klein_gordon,
            _LONG_SINES,
            solvers.klein_gordon,
            _klein_gordon,
        ),
        PdeFamily("Sine_Gordon", (_UNIT,), 1.0, residuals.sine_gordon, _LONG_SINES, pdes.solve_sine_gordon),
        PdeFamily(
            "cahnhilliard_1D",
            (_WEAK,),
            0.5,
            residuals.cahn_hilliard,
            _LONG_SINES,
            solvers.cahn_hilliard,
            _squared,
        ),
        PdeFamily("kdv", (Around(0.022),), 1.0, residuals.kdv, _LOW_SINES, pdes.solve_kdv, _squared),
        PdeFamily("advection", (_HALF,), 2.0, residuals.advection, _PLAIN_SINES, pdes.solve_advection),
        PdeFamily("wave", (_HALF,), 1.0, residuals.wave, _PLAIN_SINES, solvers.wave, _squared),
        _flow("diff_linearreact", (_THIN, _TENTH), residuals.linear_reaction, solvers.linear_reaction),
        _flow("diff_logisreact", (_THIN, _UNIT), residuals.logistic, solvers.logistic),
        _flow("diff_squarelogistic", (_THIN, _UNIT), residuals.squared_logistic, solvers.squared_logistic),
        _flow("diff_bistable", (_THIN, _UNIT, Between(0.0, 1.0)), residuals.bistable, solvers.bistable),
        _flow("burgers", (_UNIT, _WEAK), residuals.burgers, solvers.burgers, constants=_viscous),
        _flow("conservation_linear", (_UNIT, _WEAK), residuals.linear, solvers.linear, constants=_viscous),
        _flow("conservation_cubic", (_UNIT, _WEAK), residuals.cubic, solvers.cubic, constants=_viscous),
        _flow("conservation_sine", (_UNIT, _WEAK), residuals.sine, solvers.sine, constants=_viscous),
        _flow("inviscid_burgers", (_UNIT,), residuals.inviscid_burgers, solvers.burgers),
        _flow("inviscid_cubic", (_UNIT,), residuals.inviscid_cubic, solvers.cubic),
        _flow("inviscid_sine", (_UNIT,), residuals.inviscid_sine, solvers.sine),
        PdeFamily(
            "fplanck",
            _SPHERE,
            0.1,
            residuals.fokker_planck,
            _density,
            solvers.fokker_planck,
            _brownian,
        ),
    )
}
"""The families of PROSE-PDE by name, with the constants of its code: Sun, Liu, Zhang, Schaeffer, "Towards a foundation
model for partial differential equations: Multioperator learning and extrapolation", Phys. Rev. E 111, 2025,
arXiv:2404.12355, second-hand.

The equations are in `_pde_residuals`; here with physical times, and with the drawn numbers in their order. The default
end is 2, and the default initial condition is a sum of two sines of wave numbers up to 4, scaled to [0, 1].

| name | equation | drawn around | end | initial condition |
|---|---|---|---|---|
| heat | u_t = c u_xx | 0.003 | | |
| porous_medium | u_t = (u^m)_xx | m of 2, 3, 4 | 0.1 | a Gaussian bump |
| Klein_Gordon | u_tt = c^2 u_xx - m^2 c^4 u | 1, 0.1 | 1 | wave numbers up to 2 |
| Sine_Gordon | u_tt = u_xx - c sin u | 1 | 1 | wave numbers up to 2 |
| cahnhilliard_1D | u_t = -e^2 u_xxxx + 6 (u u_x)_x | 0.01 | 0.5 | wave numbers up to 2 |
| kdv | u_t = -d^2 u_xxx - u u_x | 0.022 | 1 | plain sines, up to 2, in [0, 0.5] |
| advection | u_t = -b u_x | 0.5 | | plain sines, up to 2 |
| wave | u_tt = b^2 u_xx | 0.5 | 1 | plain sines, up to 2 |
| diff_linearreact | u_t = n u_xx + r u | 0.003, 0.1 | | |
| diff_logisreact | u_t = n u_xx + r u (1 - u) | 0.003, 1 | | |
| diff_squarelogistic | u_t = n u_xx + r u^2 (1 - u)^2 | 0.003, 1 | | |
| diff_bistable | u_t = n u_xx + r u (1 - u) (u - a) | 0.003, 1, a in [0, 1] | | |
| burgers | u_t = -k u u_x + e / pi u_xx | 1, 0.01 | | |
| conservation_linear | u_t = -k u_x + e / pi u_xx | 1, 0.01 | | |
| conservation_cubic | u_t = -k u^2 u_x + e / pi u_xx | 1, 0.01 | | |
| conservation_sine | u_t = -k cos(u) u_x + e / pi u_xx | 1, 0.01 | | |
| inviscid_burgers, _cubic, _sine | the same without u_xx | 1 | | |
| fplanck | u_t = D u_xx + (U' u)_x / drag | c, L, T, viscosity | 0.1 s | a Gaussian bump of sum 1 |

Plain sines are neither made absolute nor cut by a window. Derivatives in time are zero at first where the equation is
of second order. In the last row U = c cos((x - 1 um) / L) on 2 um with c = 5e-21 J, L = 0.1 um, drag = 6 pi R
viscosity, R = 0.1 um, T = 300 K, viscosity = 0.001 Pa s, D = k_B T / drag; the slope of U jumps where the interval
closes. The equation is written in micrometres, with the three constants D, D c / (k_B T L) and 1 / L.

Differs from the published code, whose data and symbols contradict each other in places: the residuals are those of the
solved equations, with the signs of Sine-Gordon, porous medium, Cahn-Hilliard and the conservation laws corrected;
Cahn-Hilliard is solved as it is written (the published data solve another one); all initial conditions are those of the
table; the numbers of the Fokker-Planck equation have tokens, which 5e-21 J has not; all frames are i / 64 of the end.
"""
