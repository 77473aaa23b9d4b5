"""The 15 families of ordinary differential equations of PROSE-ODE, one table: integrated, printed and tokenised."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sciml.symbolic import AbstractExpression as Expression
from sciml.symbolic import NumberCodec, Real, RightNested, Sum, System, cos, sin, states

CODEC = NumberCodec()
"""The tokens of constants, which are rounded to three digits."""
Row = TypeVar("Row")


def identity(*drawn: float) -> tuple[float, ...]:
    """The drawn numbers are the constants."""
    return drawn


@dataclasses.dataclass(frozen=True)
class Family:
    """Systems of equal structure whose constants are drawn around nominal ones.

    Attributes:
        name: As in the published data.
        dimension: Number of states.
        nominal: Centres of the drawn numbers.
        equations: `(*states, *constants) -> right-hand sides`.
        constants: Drawn numbers to the constants of the equations, before they are rounded.
        largest: Solutions that reach this absolute value are rejected.
        sums: Where a guess of the equations may have a term more or less; everywhere in the components if empty.
    """

    name: str
    dimension: int
    nominal: tuple[float, ...]
    equations: Callable[..., System]
    constants: Callable[..., tuple[float, ...]] = identity
    largest: float = 1e3
    sums: tuple[Sum, ...] = ()

    def system(self, drawn: Sequence[float] | None = None) -> System:
        """The equations with constants from drawn numbers, by default the nominal ones.

        Constants are rounded to the three digits that tokens hold, so that the tokens are exact. Their number and
        order of appearance in the expressions does not depend on their values.

        Raises:
            ValueError: If the count of numbers is not that of `nominal`, or a constant has no tokens.
        """
        constants = rounded_constants(self.name, self.constants, self.nominal, drawn)
        return self.equations(*states(self.dimension), *constants)


def rounded_constants(
    name: str,
    constants: Callable[..., tuple[float, ...]],
    nominal: tuple[float, ...],
    drawn: Sequence[float] | None,
) -> tuple[float, ...]:
    """The constants of a family from drawn numbers, by default the nominal ones, rounded to three digits.

    Raises:
        ValueError: If the count of numbers is not that of `nominal`, or a constant has no tokens.
    """
    drawn = nominal if drawn is None else tuple(drawn)
    if len(drawn) != len(nominal):
        raise ValueError(
            f"{name} is drawn from {len(nominal)} numbers, got {len(drawn)}. "
            f"Give as many as in its nominal ones {nominal}."
        )
    return tuple(map(CODEC.rounded, constants(*drawn)))


def _thomas(x: Expression, y: Expression, z: Expression, b: float) -> System:
    return sin(y) + -b * x, sin(z) + -b * y, sin(x) + -b * z


def _lorenz(x: Expression, y: Expression, z: Expression, s: float, b: float, r: float) -> System:
    return s * y + -s * x, r * x - x * z - y, x * y + -b * z


def _aizawa(x: Expression, y: Expression, z: Expression, *constants: float) -> System:
    a, b, c, d, f = constants
    third = c + a * z - z * (z * z) / 3.0 - x * x + f * (x * (x * (x * z)))
    return x * z + -b * x + -d * y, d * x + y * z + -b * y, third


def _chen_lee(x: Expression, y: Expression, z: Expression, a: float, d: float) -> System:
    return a * x - y * z, -10.0 * y + x * z, d * z + x * y / 3.0


def _dadras(x: Expression, y: Expression, z: Expression, *constants: float) -> System:
    a, b, c, d, e = constants
    return 0.5 * y + -a * x + b * (y * z), c * y + -0.5 * (x * z) + 0.5 * z, d * (x * y) + -e * z


def _rossler(x: Expression, y: Expression, z: Expression, a: float, b: float, c: float) -> System:
    return -y - z, x + a * y, b + x * z + -c * z


def _halvorsen(x: Expression, y: Expression, z: Expression, a: float) -> System:
    one = lambda x, y, z: a * x - y - z - 0.25 * (y * y)
    return one(x, y, z), one(y, z, x), one(z, x, y)


def _fabrikant(x: Expression, y: Expression, z: Expression, a: float, g: float) -> System:
    return (
        y * z - y + x * (x * y) + g * x,
        3.0 * (x * z) + x - x * (x * x) + g * y,
        a * z + -2.0 * (x * (y * z)),
    )


def _sprott_b(x: Expression, y: Expression, z: Expression, a: float, b: float, c: float) -> System:
    return a * (y * z), x + -b * y, c - x * y


def _sprott_linz_f(x: Expression, y: Expression, z: Expression, a: float) -> System:
    return y + z, a * y - x, x * x - z


def _four_wing(x: Expression, y: Expression, z: Expression, a: float, b: float, c: float) -> System:
    return a * x + y * z, b * x + c * y - x * z, -z - x * y


def _duffing(t: Expression, x: Expression, v: Expression, *constants: float) -> System:
    a, b, g, d, w = constants
    return Real(1.0), v, d * v + a * x + b * (x * (x * x)) + g * cos(w * t)


def _lorenz_96(*arguments: Any) -> System:
    *u, force = arguments
    n = len(u)

    def product(i: int, j: int) -> Expression:
        low, high = sorted((i % n, j % n))
        return u[low] * u[high]

    return tuple(product(i + 1, i - 1) - product(i - 2, i - 1) - u[i] + force for i in range(n))


def _double_pendulum(x: Expression, y: Expression, z: Expression, w: Expression, *constants: float) -> System:
    a, b, c = constants
    apart = x - y
    below = 3.0 - cos(2.0 * apart)
    coupling = w * w + z * z * cos(apart)
    first = a * sin(x) + (b * sin(x + -2.0 * y) + -2.0 * (sin(apart) * coupling))
    second = sin(apart) * (4.0 * (z * z) + (c * cos(x) + w * w * cos(apart)))
    return z, w, first / below, second / below


def _pendulum_constants(gravity: float, length: float) -> tuple[float, float, float]:
    return -3 * gravity / length, -gravity / length, 4 * gravity / length


# Both numerators, and nothing outside of them.
_NUMERATORS = (Sum(2, (0,), RightNested()), Sum(3, (0, 1), RightNested()))

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("thomas", 3, (0.17,), _thomas),
        Family("lorenz_3d", 3, (10.0, 8 / 3, 28.0), _lorenz),
        Family("aizawa", 3, (0.95, 0.7, 0.6, 3.5, 0.1), _aizawa),
        Family("chen_lee", 3, (5.0, -0.38), _chen_lee),
        Family("dadras", 3, (1.25, 1.15, 0.75, 0.8, 4.0), _dadras),
        Family("rossler", 3, (0.1, 0.1, 14.0), _rossler),
        Family("halvorsen", 3, (-0.35,), _halvorsen),
        Family("fabrikant", 3, (-1.96, 0.1), _fabrikant, largest=1e5),
        Family("sprott_B", 3, (0.4, 1.2, 1.0), _sprott_b),
        Family("sprott_linz_F", 3, (0.5,), _sprott_linz_f),
        Family("four_wing", 3, (0.2, 0.01, -0.4), _four_wing),
        Family("duffing", 3, (-1.0, -5.0, 8.0, -0.02, 0.5), _duffing),
        Family("lorenz_96_4d", 4, (8.0,), _lorenz_96),
        Family("lorenz_96_5d", 5, (8.0,), _lorenz_96),
        Family("double_pendulum", 4, (9.81, 1.0), _double_pendulum, _pendulum_constants, sums=_NUMERATORS),
    )
}
"""The families of PROSE-ODE by name, with the constants of its code: Liu, Zhang, Schaeffer, "PROSE: Predicting multiple
operators and symbolic expressions using multimodal transformers", Neural Networks, 2024.

The constants, in the order of the drawn numbers and with states x, y, z, w or u_i:

| name | right-hand side |
|---|---|
| thomas | sin y - b x, sin z - b y, sin x - b z |
| lorenz_3d | s (y - x), x (r - z) - y, x y - b z, of s, b, r |
| aizawa | (z - b) x - d y, d x + (z - b) y, c + a z - z^3/3 - x^2 + f z x^3, of a, b, c, d, f |
| chen_lee | a x - y z, -10 y + x z, d z + x y / 3 |
| dadras | y/2 - a x + b y z, c y - x z / 2 + z / 2, d x y - e z |
| rossler | -y - z, x + a y, b + z (x - c) |
| halvorsen | a x - y - z - y^2 / 4, and cyclic |
| fabrikant | y (z - 1 + x^2) + g x, x (3 z + 1 - x^2) + g y, a z - 2 x y z, of a = -2 alpha and g |
| sprott_B | a y z, x - b y, c - x y |
| sprott_linz_F | y + z, -x + a y, x^2 - z |
| four_wing | a x + y z, b x + c y - x z, -z - x y |
| duffing | 1, z, d z + a y + b y^3 + g cos(w x), of a, b, g, d, w; x is the time |
| lorenz_96_4d, lorenz_96_5d | (u_{i+1} - u_{i-2}) u_{i-1} - u_i + f, cyclic |
| double_pendulum | z, w, (a sin x + b sin(x - 2y) - 2 s (w^2 + z^2 k)) / q, s (4 z^2 + c cos x + w^2 k) / q |

In the last one s = sin(x - y), k = cos(x - y), q = 3 - cos 2(x - y), and the drawn numbers are the gravity G and the
length l of a = -3 G/l, b = -G/l, c = 4 G/l.

Aizawa's system is the published code's short form, with x^2 for (x^2 + y^2)(1 + e z). Sums and products nest as there,
sums to the left and products to the right, which fixes the tokens.
"""


def chosen(table: Mapping[str, Row], names: Sequence[str]) -> tuple[Row, ...]:
    """The families of these names in a table.

    Raises:
        ValueError: If there is no name, or no family of a name.
    """
    if not names:
        raise ValueError(f"Expected at least one family, got none. Choose from {', '.join(table)}.")
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(f"There is no family {', '.join(unknown)}. Choose from {', '.join(table)}.")
    return tuple(table[name] for name in names)


def check_spread(spread: float) -> None:
    """Raises a ValueError unless a relative half width of constants keeps their signs."""
    if not 0 <= spread < 1:
        raise ValueError(f"Expected a spread from 0 to less than 1, so that no sign changes, got {spread}.")
