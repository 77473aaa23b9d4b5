"""Floating-point numbers as three tokens: sign, mantissa, exponent."""

import dataclasses
import functools
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class NumberCodec:
    """Encodes a number v ~ s m 10^k as three tokens: sign s, mantissa m, exponent k.

    The mantissa is an integer with `digits` digits, so that 2.667 becomes `+ N267 E-2`. Exponents run from
    -largest_exponent to largest_exponent. Numbers whose exponent k is below this range become `N000 E0` with their
    sign. The defaults are those of PROSE (Liu, Zhang, Schaeffer 2024).

    Attributes:
        digits: Number of digits of the mantissa; numbers are rounded to it.
        largest_exponent: Largest exponent k.
    """

    digits: int = 3
    largest_exponent: int = 10

    def __post_init__(self) -> None:
        if self.digits < 1 or self.largest_exponent < self.digits - 1:
            raise ValueError(
                f"Expected at least 1 digit and exponents up to digits - 1 or more, which 1.0 needs, "
                f"got {self.digits} digits and exponents up to {self.largest_exponent}."
            )

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """All tokens in the order of their ids: signs, exponents sorted as text, mantissas."""
        exponents = sorted(f"E{k}" for k in range(-self.largest_exponent, self.largest_exponent + 1))
        return ("+", "-", *exponents, *(f"N{m:0{self.digits}d}" for m in range(10**self.digits)))

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    def owns(self, token: str) -> bool:
        """Whether the token is part of a number."""
        return token in self._known

    def encode(self, value: float) -> list[str]:
        """The three tokens of a number.

        Raises:
            ValueError: If the number is too large or not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"Expected a finite number, got {value}.")
        sign = "-" if value < 0 else "+"
        mantissa, _, exponent = f"{abs(value):.{self.digits - 1}e}".partition("e")
        k = int(exponent) - (self.digits - 1)
        if k > self.largest_exponent:
            limit = f"{'9' * self.digits}e{self.largest_exponent}"
            raise ValueError(f"{value} has no tokens: the largest number is {limit}. Reject the sample or rescale it.")
        if k < -self.largest_exponent:
            return [sign, "N" + "0" * self.digits, "E0"]
        return [sign, "N" + mantissa.replace(".", ""), f"E{k}"]

    def decode(self, tokens: Sequence[str]) -> float:
        """The number s * m * 10**k of three tokens, in double precision and multiplied as in the published code.

        Raises:
            ValueError: If the tokens are not a sign, a mantissa and an exponent, in this order.
        """
        order = [token[:1] for token in tokens]
        known = len(order) == 3 and order[0] in ("+", "-") and order[1:] == ["N", "E"] and all(map(self.owns, tokens))
        if not known:
            raise ValueError(
                f"Expected a sign, a mantissa and an exponent such as ['+', 'N{'1' * self.digits}', 'E-2'], "
                f"got {list(tokens)!s:.200}."
            )
        return float((-1 if tokens[0] == "-" else 1) * int(tokens[1][1:]) * 10 ** int(tokens[2][1:]))

    def rounded(self, value: float) -> float:
        """The number that the tokens of `value` stand for.

        Raises:
            ValueError: As `encode`.
        """
        return self.decode(self.encode(value))


THREE_DIGITS = NumberCodec()
